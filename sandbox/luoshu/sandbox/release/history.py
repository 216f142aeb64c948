"""The release history: one file for each computation that released something new.

`LUOSHUH1`, the header's length (64 bits), a header in canonical JSON, then little-endian arrays,
each padded to 8 bytes. Per result, with m components, C cells, R rows and U distinct units:
starts int64[C+1], counts int64[m·C], hashes uint64[m·C], unit int32[R], units int32[U],
unit_starts int32[U+1], order int32[R], prints uint64[m·R] (see `blocks.Block`). So a unit takes
8 + 8·m bytes in each cell that it contributes to, plus at most 8.

Files are mapped, not read: comparing looks at few rows of most.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.blocks import Block
from luoshu.sandbox.schema import SchemaError, checked_count, checked_name, exact_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.contributions import Place

MAGIC = b"LUOSHUH1"
SCHEMA = "luoshu/history/v1"
_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8
_MAX_HEADER = 16 << 20
_MAX_ROWS = 2**31 - 1


class HistoryError(Exception):
    """A file that is none of the history's; says what is wrong with it."""


def write_entry(place: Place, blocks: Sequence[Block]) -> None:
    """Writes what one computation released.

    Args:
        place: File to make, or an open one, which stays open.
        blocks: Of one data version, each with something in it.
    """
    header = json.dumps(
        {
            "schema": SCHEMA,
            "data": blocks[0].data,
            "results": [
                {
                    "query": block.query,
                    "monomials": [list(monomial) for monomial in block.monomials],
                    "cells": block.cells,
                    "rows": len(block.unit),
                    "units": len(block.units),
                }
                for block in blocks
            ],
        },
        ensure_ascii=False,
        separators=(",", ":"),
        sort_keys=True,
    ).encode()
    is_open = isinstance(place, int)
    with open(place, "wb", closefd=not is_open) as file:
        start = MAGIC + _LENGTH.pack(len(header)) + header
        file.write(start + bytes(-len(start) % _ALIGNMENT))
        for block in blocks:
            for array, kind in zip(_arrays(block), _KINDS, strict=True):
                data = np.ascontiguousarray(array, kind)
                file.write(data.data)
                file.write(bytes(-data.nbytes % _ALIGNMENT))


_KINDS = ("<i8", "<i8", "<u8", "<i4", "<i4", "<i4", "<i4", "<u8")


def _arrays(block: Block) -> tuple[NDArray[Any], ...]:
    return (
        block.starts,
        block.counts,
        block.hashes,
        block.unit,
        block.units,
        block.unit_starts,
        block.order,
        block.prints,
    )


def read_entry(source: Place) -> list[Block]:
    """Maps a file of the history.

    Raises:
        HistoryError: It isn't exactly as `write_entry` writes it.
        OSError: It can't be read.
    """
    with open(source, "rb") as file:  # noqa: PTH123 - it may be a descriptor
        start = file.read(len(MAGIC) + _LENGTH.size)
        if len(start) < len(MAGIC) + _LENGTH.size or not start.startswith(MAGIC):
            raise HistoryError("it doesn't begin like one")
        (length,) = _LENGTH.unpack(start[len(MAGIC) :])
        if length > _MAX_HEADER:
            raise HistoryError("its header is too long")
        text = file.read(length)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        fields = exact_fields(json.loads(text), "schema", "data", "results")
        if fields["schema"] != SCHEMA or not isinstance(fields["results"], list):
            raise SchemaError(f"this version reads {SCHEMA}")
        place = _Place(data, len(start) + length)
        blocks = [_block(place, str(fields["data"]), value) for value in fields["results"]]
    except (ValueError, RecursionError) as error:  # a SchemaError is one too
        raise HistoryError(f"its header or size is wrong ({error})") from None
    if place.at != len(data) or not blocks:
        raise HistoryError("it is of another size than its header says")
    return blocks


class _Place:
    """Where the next array begins."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data = data
        self.at = at + -at % _ALIGNMENT

    def take(self, kind: str, count: int) -> NDArray[Any]:
        array = np.frombuffer(self._data, kind, count, self.at)  # raises ValueError beyond the end
        self.at += array.nbytes + -array.nbytes % _ALIGNMENT
        return array


def _block(place: _Place, data: str, value: object) -> Block:
    fields = exact_fields(value, "query", "monomials", "cells", "rows", "units")
    monomials = fields["monomials"]
    if not isinstance(monomials, list) or not monomials:
        raise SchemaError("monomials must be a list")
    names = tuple(_monomial(monomial) for monomial in monomials)
    cells, rows, units = (checked_count(fields[name]) for name in ("cells", "rows", "units"))
    width = len(names)
    if max(cells, rows, units) > _MAX_ROWS or not cells or not rows:
        raise SchemaError("too many rows, or none")
    counts = (cells + 1, width * cells, width * cells, rows, units, units + 1, rows, width * rows)
    arrays = [place.take(kind, count) for kind, count in zip(_KINDS, counts, strict=True)]
    starts, numbers, hashes, unit, distinct, unit_starts, order, prints = arrays
    _check_runs(starts, rows)
    _check_runs(unit_starts, rows)
    if int(distinct[0]) < 0 or not (distinct[1:] > distinct[:-1]).all():
        raise SchemaError("units out of order")
    if int(order.min()) < 0 or int(order.max()) >= rows or int(numbers.min()) < 0:
        raise SchemaError("a place or a count out of range")
    return Block(
        names,
        starts,
        unit,
        prints.reshape(width, rows),
        distinct,
        unit_starts,
        order,
        numbers.reshape(width, cells),
        hashes.reshape(width, cells),
        str(fields["query"]),
        data,
    )


def _monomial(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise SchemaError("a monomial must be a list")
    return tuple(checked_name(name) for name in value)


def _check_runs(starts: NDArray[Any], rows: int) -> None:
    if starts[0] != 0 or starts[-1] != rows or not (starts[1:] >= starts[:-1]).all():
        raise SchemaError("runs out of order")
