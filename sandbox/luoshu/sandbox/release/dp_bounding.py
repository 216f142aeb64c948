"""Bounding what one privacy unit contributes, and exact sums of what is left.

Everything before the sums looks at one unit's rows at a time: adding or removing another unit
changes nothing in what is kept of this one. That, and not the hash, is what the proof needs; the
hash is keyed afresh for each computation so that no cell is preferred for long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.contributions import LOW_BITS, LOW_MASK, Contributed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers: TypeAlias = NDArray[np.int64]
    Indices: TypeAlias = NDArray[np.int64] | NDArray[np.int32]
    Mask: TypeAlias = NDArray[np.bool_]

KEY_BYTES: Final = 32
_HALF_BITS: Final = 31
_LEAST, _GREATEST = -(2**63), 2**63 - 1


def clamp(column: Contributed, low: int, high: int) -> Contributed:
    """Each integer, moved into [low, high]; 0 is within."""
    if column.lo is None:
        return Contributed(np.clip(column.hi, max(low, _LEAST), min(high, _GREATEST)))
    upper, lower = column.hi, column.lo
    low_upper, low_lower = _halves(low)
    high_upper, high_lower = _halves(high)
    below = (upper < low_upper) | ((upper == low_upper) & (lower < low_lower))
    above = (upper > high_upper) | ((upper == high_upper) & (lower > high_lower))
    upper = np.where(below, low_upper, np.where(above, high_upper, upper))
    lower = np.where(below, low_lower, np.where(above, high_lower, lower))
    return Contributed(upper, lower)


def _halves(value: int) -> tuple[int, int]:
    """`value` as wide integers have it; one that is out of their range becomes the furthest."""
    upper = max(_LEAST, min(_GREATEST, value >> LOW_BITS))
    return upper, value & LOW_MASK if upper == value >> LOW_BITS else 0


def keep_cells(
    cells: Indices, units: Indices, name: Callable[[int], bytes], limit: int, key: bytes
) -> Mask:
    """Chooses which of a unit's rows are kept, so that each unit has at most `limit`.

    Kept are those with the least keyed hash of unit and cell.

    Args:
        cells: Each row's cell.
        units: Each row's unit; a unit has at most one row of a cell.
        name: What a cell is known by, whatever other cells there are: its keys.
        limit: Most rows of a unit.
        key: Secret of `KEY_BYTES`, drawn for this computation.
    """
    kept = np.ones(len(units), dtype=np.bool_)
    if not len(units):
        return kept
    order = np.argsort(units, kind="stable")
    ordered = units[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    contested = order[np.repeat(sizes > limit, sizes)]
    if not len(contested):
        return kept
    begun = hashlib.blake2b(key=key, digest_size=8)
    prefixes: dict[int, hashlib.blake2b] = {}
    hashes = np.empty(len(contested), dtype=np.uint64)
    for place, (unit, cell) in enumerate(
        zip(units[contested].tolist(), cells[contested].tolist(), strict=True)
    ):
        prefix = prefixes.get(cell)
        if prefix is None:
            prefix = begun.copy()
            prefix.update(hashlib.blake2b(name(cell), digest_size=32).digest())
            prefixes[cell] = prefix
        keyed = prefix.copy()
        keyed.update(unit.to_bytes(8, "little"))
        hashes[place] = int.from_bytes(keyed.digest(), "little")
    # By unit, then hash; within a unit the rows after the first `limit` go.
    ranked = contested[np.lexsort((cells[contested], hashes, units[contested]))]
    owners = units[ranked]
    starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
    sizes = np.diff(np.r_[starts, len(owners)])
    ranks = np.arange(len(owners)) - np.repeat(starts, sizes)
    kept[ranked[ranks >= limit]] = False
    return kept


def exact_sums(cells: Indices, column: Contributed, count: int) -> list[int]:
    """The exact sum of each cell, from rows of up to 2^31 units.

    Args:
        cells: Each row's cell, below `count`.
        column: Each row's integer.
        count: Number of cells.
    """
    sums = _exact_sums(cells, column.hi, count)
    if column.lo is None:
        return sums
    lower = _exact_sums(cells, column.lo, count)
    return [(high << LOW_BITS) + low for high, low in zip(sums, lower, strict=True)]


def _exact_sums(cells: Indices, values: Integers, count: int) -> list[int]:
    # 2^31 integers of 63 bits don't fit into 64: their halves do.
    upper = _sums(cells, values >> _HALF_BITS, count).tolist()
    lower = _sums(cells, values & (2**_HALF_BITS - 1), count).tolist()
    return [(high << _HALF_BITS) + low for high, low in zip(upper, lower, strict=True)]


def _sums(cells: Indices, values: Integers, count: int) -> Integers:
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, cells, values)
    return sums
