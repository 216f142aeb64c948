"""The fingerprints of one result, laid out for comparing: by cell and by unit.

A *block* is one cell query's result, new or from the history. An *item* is one
component of one cell; its number is component · cells + cell. Only items that
come out, or came out, have fingerprints; the others are all 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.fingerprints import component_key, fingerprints, unit_weights
from luoshu.sandbox.release.results import CellQueryResult, by_cell, counted
from luoshu.sandbox.release.sorting import among

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.fingerprints import Prints

    Places: TypeAlias = NDArray[np.int64]

_FEW_EMPTY = 16

Monomial: TypeAlias = "tuple[str, ...]"


_SEARCH = 16
_RUN = 8


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One result's fingerprints.

    Attributes:
        monomials: Of each component.
        starts: Where each cell's rows begin, and the number of rows at the end.
        unit: Unit of each row; rows are sorted by cell, then unit.
        prints: Fingerprint by component and row; 0 for none.
        units: The distinct units, sorted.
        unit_starts: Where each unit begins in `order`, and the number of rows at the end.
        order: The rows sorted by unit, then cell.
        counts: Units with a fingerprint, by component and cell.
        hashes: Of the fingerprints, by component and cell; see `fingerprints.unit_weights`.
        query: Digest of the query.
        data: Digest of the data version.
    """

    monomials: tuple[Monomial, ...]
    starts: Places
    unit: NDArray[np.int32]
    prints: Prints
    units: NDArray[np.int32]
    unit_starts: NDArray[np.int32]
    order: NDArray[np.int32]
    counts: Places
    hashes: Prints
    query: str
    data: str

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.starts) - 1

    def cell_of(self, rows: NDArray[Any]) -> Places:
        """The cell of each row."""
        if len(rows) * _SEARCH > len(self.unit):  # a list of all rows' cells is cheaper
            every = np.repeat(np.arange(self.cells), np.diff(self.starts))
            return np.asarray(every[rows], np.int64)
        places = np.searchsorted(self.starts, rows, side="right")
        return np.asarray(places - 1, np.int64)

    def item(self, number: int) -> tuple[NDArray[np.int32], Prints]:
        """An item's units, sorted, and their fingerprints."""
        component, cell = divmod(number, self.cells)
        rows = slice(int(self.starts[cell]), int(self.starts[cell + 1]))
        prints = np.asarray(self.prints[component, rows])
        present = prints != 0
        return np.asarray(self.unit[rows])[present], prints[present]

    def rows_of(self, units: NDArray[np.int32]) -> tuple[Places, Places]:
        """The rows of some units.

        Returns:
            For each row found the place of its unit in `units`, and the row; sorted by place.
        """
        if not len(self.units):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        places = np.searchsorted(self.units, units)
        places[places == len(self.units)] = 0
        lengths = np.where(
            self.units[places] == units, self.unit_starts[places + 1] - self.unit_starts[places], 0
        )
        rows = self.order[spans(self.unit_starts[places], lengths)]
        return np.repeat(np.arange(len(units)), lengths), rows.astype(np.int64)


def spans(starts: NDArray[Any], lengths: NDArray[Any]) -> Places:
    """The numbers from each start on, as many as its length, one span after the other."""
    lengths = lengths.astype(np.int64, copy=False)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    result: Places = np.arange(total, dtype=np.int64)
    result += np.repeat(starts - (ends - lengths), lengths)
    return result


def spread(steps: Places, lengths: Places, most: int) -> Places:
    """Places of some rows out of `lengths`: runs of a few, which lie on one page of a file."""
    runs = -(-most // _RUN)
    jump = np.maximum(lengths // runs, _RUN)
    return np.where(lengths <= most, steps, steps // _RUN * jump + steps % _RUN)


def new_block(
    result: CellQueryResult,
    starts: Places,
    allowed: NDArray[np.bool_],
    secret: bytes,
    data: str,
) -> Block:
    """The block of a new result.

    Args:
        result: Of one cell query.
        starts: See `results.cell_starts`.
        allowed: By component and cell, whether it may come out as far as it alone decides;
            components of kind SET never do.
        secret: Of the privacy domain.
        data: Digest of the data version.
    """
    components, found = result.schema.components, result.found
    rows = len(found.unit)
    prints = np.zeros((len(components), rows), np.uint64)
    lengths = starts[1:] - starts[:-1]
    for number, (component, value) in enumerate(zip(components, found.values, strict=True)):
        if not allowed[number].any():
            continue
        key = component_key(secret, component.monomial, component.scale)
        prints[number] = fingerprints(counted(component, value), key)
        if not allowed[number].all():
            prints[number][np.repeat(~allowed[number], lengths)] = 0
    return build(
        tuple(component.monomial for component in components),
        starts,
        found.unit,
        prints,
        unit_weights(found.unit, secret),
        query=result.query,
        data=data,
    )


def build(
    monomials: Sequence[Monomial],
    starts: Places,
    unit: NDArray[np.int32],
    prints: Prints,
    weights: Prints,
    *,
    query: str,
    data: str,
) -> Block:
    """Builds a block from rows sorted by cell and unit."""
    order = np.argsort(unit, kind="stable").astype(np.int32)
    ordered = unit[order]
    firsts = (
        np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        if len(ordered)
        else np.zeros(0, np.int64)
    )
    cells = len(starts) - 1
    counts = np.zeros((len(prints), cells), np.int64)
    hashes = np.zeros((len(prints), cells), np.uint64)
    for number, line in enumerate(prints):
        if line.any():
            counts[number] = by_cell(np.add, np.not_equal(line, 0), starts, np.int64)
            hashes[number] = by_cell(np.add, line * weights, starts, np.uint64)
    return Block(
        tuple(monomials),
        starts,
        unit,
        prints,
        ordered[firsts],
        np.append(firsts, len(ordered)).astype(np.int32),
        order,
        counts,
        hashes,
        query,
        data,
    )


def without(block: Block, allowed: NDArray[np.bool_], secret: bytes) -> Block | None:
    """The block of those items only, without the rows of which nothing is left.

    Args:
        block: A new block.
        allowed: By component and cell, what comes out.
        secret: Of the privacy domain.

    Returns:
        None if nothing is left.
    """
    kept = [number for number in range(len(block.monomials)) if allowed[number].any()]
    if not kept:
        return None
    lengths = block.starts[1:] - block.starts[:-1]
    empty = int(lengths[~allowed.any(axis=0)].sum())
    changed = len(kept) < len(block.monomials) or ((block.counts > 0) & ~allowed).any()
    if not changed and empty * _FEW_EMPTY <= len(block.unit):
        return block  # rows of nothing are harmless
    prints = block.prints[kept]
    present = np.zeros(prints.shape[1], np.bool_)
    for number, line in zip(kept, prints, strict=True):
        line[np.repeat(~allowed[number], lengths)] = 0
        present |= np.not_equal(line, 0)
    cells = allowed.any(axis=0)
    sizes = by_cell(np.add, np.asarray(present), block.starts, np.int64)[cells]
    starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    return build(
        [block.monomials[number] for number in kept],
        starts,
        block.unit[present],
        prints[:, present],
        unit_weights(block.unit[present], secret),
        query=block.query,
        data=block.data,
    )


def is_known(block: Block, history: Sequence[Block]) -> bool:
    """Whether one earlier result has every item of a block: then it has nothing to add."""
    for earlier in history:
        numbers = [
            [n for n, name in enumerate(earlier.monomials) if name == monomial]
            for monomial in block.monomials
        ]
        if all(
            among(
                codes(block, n)[block.counts[n] > 0],
                np.concatenate([codes(earlier, m) for m in same]),
            ).all()
            if same
            else False
            for n, same in enumerate(numbers)
        ):
            return True
    return False


def codes(block: Block, component: int) -> Prints:
    """What tells a component's items apart, by cell: hash and number of units."""
    counts = block.counts[component].astype(np.uint64)
    result: Prints = counts * np.uint64(0x9E3779B97F4A7C15)
    result ^= block.hashes[component]
    return result
