"""What each privacy unit contributed to each cell, as columns in a file.

The stage-1 worker writes one file per cell query, the release worker reads it;
nobody else can. Little-endian arrays of R rows each, one after the other,
sorted by cell, then unit:

- cell: int32, numbered from 0 in the order of the key rows that stage 1 sends;
- unit: int32;
- for each component int64, or, if it is wide, int64 `hi` and int64 `lo` with the
  value hi·2^62 + lo, 0 ≤ lo < 2^62. Integers are at the component's scale.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.schema import CellSchema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]
    Ids: TypeAlias = NDArray[np.int32]

Place: TypeAlias = "Path | int"
"""A file, by its path or by an open descriptor, which is closed after use."""

LOW_BITS = 62
LOW_MASK = (1 << LOW_BITS) - 1
# Up to this many flags per row it is cheaper to mark places than to sort rows.
_FLAGS_PER_ROW = 16


class ContributionsError(Exception):
    """Contributions that aren't as the schema says; says what, never a value."""


@dataclass(frozen=True, slots=True, eq=False)
class Contributed:
    """One component's integers, one per row.

    Attributes:
        hi: The value, or its high part if `lo` is there.
        lo: Low 62 bits of wide values, or None.
    """

    hi: Ints
    lo: Ints | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """Contributions of one cell query.

    Attributes:
        cells: Number of cells; one without any row is possible where there are no keys, or no
            components.
        cell: Cell of each row.
        unit: Unit of each row.
        values: For each component.
    """

    cells: int
    cell: Ids
    unit: Ids
    values: tuple[Contributed, ...]


def write(file: BinaryIO, columns: Sequence[Ints | Ids], cells: int) -> int:
    """Writes a file of contributions.

    Args:
        file: To write to.
        columns: Cell, unit, and each component's integers, `hi` and `lo` of those that are wide,
            in any order of rows.
        cells: Number of cells.

    Returns:
        The number of rows.

    Raises:
        ContributionsError: A unit or cell out of range, or two rows of one cell and unit.
    """
    cell, unit = columns[0].astype("<i4", copy=False), columns[1].astype("<i4", copy=False)
    rows = len(cell)
    if rows and (unit.min() < 0 or cell.min() < 0 or cell.max() >= cells):
        raise ContributionsError("a unit or a cell out of range")
    order = _order(cell, unit, cells)
    for column in (cell, unit, *columns[2:]):
        kind = "<i4" if column.dtype.itemsize == 4 else "<i8"
        file.write(order.apply(column.astype(kind, copy=False)).data)
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """How to sort rows: `take` gathers, `put` scatters; the cheaper one is there."""

    take: Ints | None = None
    put: Ids | None = None

    def apply(self, column: Ints | Ids) -> Ints | Ids:
        if self.put is None:
            return column[self.take]
        result = np.empty_like(column)
        result[self.put] = column
        return result


def _order(cell: Ids, unit: Ids, cells: int) -> _Order:
    """The order by cell, then unit.

    Raises:
        ContributionsError: Two rows of one cell and unit.
    """
    rows = len(cell)
    if not rows:
        return _Order(take=np.zeros(0, np.int64))
    span = int(unit.max()) + 1
    code = cell.astype(np.int64) * span + unit
    if cells * span <= _FLAGS_PER_ROW * rows:
        taken = np.zeros(cells * span, np.bool_)
        taken[code] = True
        places = np.cumsum(taken, dtype=np.int32)
        if int(places[-1]) != rows:
            raise ContributionsError("two rows of one cell and unit")
        return _Order(put=places[code] - np.int32(1))
    take = np.argsort(code)
    ordered = code[take]
    if (ordered[1:] == ordered[:-1]).any():
        raise ContributionsError("two rows of one cell and unit")
    return _Order(take=take)


def read(place: Place, schema: CellSchema, cells: int, rows: int) -> Contributions:
    """Reads and checks a file of contributions.

    Args:
        place: Written by `export`.
        schema: Of the cell query.
        cells: Number of key rows.
        rows: As stage 1 said.

    Raises:
        ContributionsError: The file isn't exactly as `export` writes it.
        OSError: It can't be read.
    """
    wide = [component.is_wide for component in schema.components]
    if os.stat(place).st_size != rows * (8 + 8 * len(wide) + 8 * sum(wide)):  # noqa: PTH116 - it may be a descriptor
        raise ContributionsError("a file of another size")
    with open(place, "rb") as file:  # noqa: PTH123 - it may be a descriptor
        cell, unit = np.fromfile(file, "<i4", rows), np.fromfile(file, "<i4", rows)
        values = tuple(
            Contributed(
                np.fromfile(file, "<i8", rows), np.fromfile(file, "<i8", rows) if pair else None
            )
            for pair in wide
        )
    if len(cell) != rows or len(unit) != rows or any(len(v.hi) != rows for v in values):
        raise ContributionsError("a file of another size")
    check(Contributions(cells, cell, unit, values))
    return Contributions(cells, cell, unit, tuple(narrowed(value) for value in values))


def check(found: Contributions) -> None:
    """Checks what every reader relies on.

    Raises:
        ContributionsError: A cell or unit out of range, rows out of order or twice, or a low part
            out of range.
    """
    cell, unit = found.cell, found.unit
    if len(cell):
        if cell[0] < 0 or int(cell[-1]) >= found.cells or unit.min() < 0:
            raise ContributionsError("a cell or unit out of range")
        code = (cell.astype(np.int64) << 32) | unit
        if not (code[1:] > code[:-1]).all():
            raise ContributionsError("rows out of order")
    for value in found.values:
        low = value.lo
        if low is not None and len(low) and (low.min() < 0 or int(low.max()) > LOW_MASK):
            raise ContributionsError("a low part out of range")


def narrowed(value: Contributed) -> Contributed:
    """The same values in one word, if all fit: few sums that could be wide are."""
    if value.lo is None:
        return value
    if len(value.hi) and (int(value.hi.min()) < -2 or int(value.hi.max()) > 1):
        return value
    return Contributed((value.hi << LOW_BITS) + value.lo)
