"""What the release worker runs on nobody's data: judging, comparing and remembering made-up cells.

So that what loads lazily is loaded before there is a job. Nothing of it stays but code.
"""

from __future__ import annotations

import os

from luoshu.sandbox import contributions, wire
from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.aggregate import AggregateRules, Released, release
from luoshu.sandbox.release.blocks import Block
from luoshu.sandbox.release.history import read_entry, write_entry
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.schema import CellSchema, Component, ComponentKind, ValueType

_UNITS = 64
_CELLS = 2
_SECRET = bytes(32)
_RULES = AggregateRules(2)
_SCHEMA = CellSchema(
    ("rehearsal.rehearsal",),
    (ValueType.parse("VARCHAR"),),
    (
        Component(ComponentKind.SUM, (), 0),
        Component(ComponentKind.SUM, ("amount",), 2, is_wide=True),
    ),
    key_columns=("rehearsal.rehearsal.place",),
)


def rehearse() -> None:
    """Releases twice, the second time beside the first."""
    first = _release(0, [])
    file = os.memfd_create("rehearsal")
    try:
        write_entry(file, first.additions)
        os.lseek(file, 0, os.SEEK_SET)
        _release(1, read_entry(os.dup(file)))
    finally:
        os.close(file)


def _release(shift: int, history: list[Block]) -> Released:
    unit = np.arange(_CELLS * _UNITS, dtype=np.int32)
    value = unit.astype(np.int64) + shift
    file = os.memfd_create("rehearsal")
    try:
        with os.fdopen(os.dup(file), "wb") as written:
            rows = contributions.write(
                written, [unit % np.int32(_CELLS), unit, value, value * 0, value], _CELLS
            )
        os.lseek(file, 0, os.SEEK_SET)
        found = contributions.read(os.dup(file), _SCHEMA, _CELLS, rows)
    finally:
        os.close(file)
    keys = wire.decode_rows(wire.encode_rows([("p0",), ("p1",)]), _SCHEMA.keys, _CELLS)
    released = release(
        [CellQueryResult(_SCHEMA, keys, found)], _RULES, _SECRET, history=history, own=history
    )
    wire.encode_rows(released.rows[0])
    return released
