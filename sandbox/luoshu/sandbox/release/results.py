"""What the release stage gets for each cell query, and exact figures about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.contributions import LOW_BITS, LOW_MASK, Contributed, Contributions
from luoshu.sandbox.schema import CellSchema, Component, ComponentKind
from luoshu.sandbox.wire import Row

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Longs: TypeAlias = NDArray[np.int64]
    Flags: TypeAlias = NDArray[np.bool_]

_PPM = 1_000_000
_HALF = (1 << 32) - 1
_SAFE = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class CellQueryResult:
    """What stage 1 yielded for one cell query.

    Attributes:
        schema: Of its cells.
        keys: Each cell's keys, by cell number.
        found: Contributions to its cells.
        query: Digest of the verified SQL, which is the same for queries that differ in spelling
            only.
    """

    schema: CellSchema
    keys: Sequence[Row]
    found: Contributions
    query: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """One component's figures, by cell.

    Attributes:
        units: Distinct units with a contribution that isn't 0.
        totals: The exact sum, at the component's scale.
        dominated: Whether one unit contributes more than the given share of the sum of absolute
            contributions.
    """

    units: Longs
    totals: list[int]
    dominated: Flags


def counted(component: Component, value: Contributed) -> Contributed:
    """What a component adds up: the row counts of kinds UNITS and SET stand for one each."""
    if component.kind is ComponentKind.SUM:
        return value
    return Contributed(is_nonzero(value).astype(np.int64))


def cell_starts(found: Contributions) -> Longs:
    """Where each cell's rows begin, and the number of rows at the end."""
    numbers = np.arange(found.cells + 1, dtype=np.int32)
    return np.searchsorted(found.cell, numbers).astype(np.int64)


def figures(value: Contributed, starts: Longs, share_ppm: int) -> Figures:
    """Computes a component's figures.

    Args:
        value: Its contributions.
        starts: See `cell_starts`.
        share_ppm: In parts per million, beyond which a unit dominates.
    """
    units = by_cell(np.add, is_nonzero(value), starts, np.int64)
    totals = exact_sums(value, starts)
    size = magnitude(value)
    absolute = totals if size is value else exact_sums(size, starts)
    largest = _largest(size, starts)
    # Doubles sort out what is clear; what is near is decided exactly.
    sums = np.array(absolute, np.float64)
    near = np.array(largest, np.float64) * _PPM >= sums * (share_ppm * (1 - 1e-9))
    dominated = np.zeros(len(sums), np.bool_)
    for cell in np.flatnonzero(near):
        dominated[cell] = largest[cell] * _PPM > absolute[cell] * share_ppm
    return Figures(units, totals, dominated)


def is_nonzero(value: Contributed) -> Flags:
    """Where a contribution isn't 0."""
    found = np.not_equal(value.hi, 0)
    return found if value.lo is None else found | np.not_equal(value.lo, 0)


def by_cell(
    function: np.ufunc, values: NDArray[Any], starts: Longs, kind: type[np.generic]
) -> NDArray[Any]:
    """Reduces each cell's values; 0 for a cell without rows."""
    result = np.zeros(len(starts) - 1, kind)
    filled = starts[:-1] < starts[1:]
    if filled.any():
        result[filled] = function.reduceat(values, starts[:-1][filled], dtype=kind)
    return result


def exact_sums(value: Contributed, starts: Longs) -> list[int]:
    """Each cell's sum, without overflow."""
    result = [0] * (len(starts) - 1)
    for part, shift in _limbs(value):
        for cell, total in enumerate(by_cell(np.add, part, starts, np.int64).tolist()):
            result[cell] += total << shift
    return result


def _limbs(value: Contributed) -> list[tuple[Longs, int]]:
    """Parts that can be added up 2^31 times in 64 bits, with the power of 2 of each."""
    if value.lo is None:
        rows = len(value.hi)
        if not rows or max(int(value.hi.max()), -int(value.hi.min())) * rows < _SAFE:
            return [(value.hi, 0)]
        return [(value.hi & _HALF, 0), (value.hi >> 32, 32)]
    return [
        (value.lo & _HALF, 0),
        (value.lo >> 32, 32),
        (value.hi & _HALF, LOW_BITS),
        (value.hi >> 32, LOW_BITS + 32),
    ]


def magnitude(value: Contributed) -> Contributed:
    """Absolute values; the same object if none is negative."""
    if not len(value.hi) or int(value.hi.min()) >= 0:
        return value
    if value.lo is None:
        if int(value.hi.min()) > -(2**63):
            return Contributed(np.abs(value.hi))
        value = Contributed(value.hi >> LOW_BITS, value.hi & LOW_MASK)
    assert value.lo is not None  # noqa: S101 - just made
    negative = value.hi < 0
    borrow = (value.lo > 0).astype(np.int64)
    high = np.where(negative, -value.hi - borrow, value.hi)
    low = np.where(negative, -value.lo & LOW_MASK, value.lo)
    return Contributed(high, low)


def _largest(size: Contributed, starts: Longs) -> list[int]:
    high = by_cell(np.maximum, size.hi, starts, np.int64)
    if size.lo is None:
        return [int(number) for number in high.tolist()]
    lengths = starts[1:] - starts[:-1]
    low = np.where(size.hi == np.repeat(high, lengths), size.lo, 0)
    lows = by_cell(np.maximum, low, starts, np.int64)
    return [
        (upper << LOW_BITS) + lower
        for upper, lower in zip(high.tolist(), lows.tolist(), strict=True)
    ]
