"""The differencing guard: nothing comes out that differs too little from what else is out.

Between a component of a cell and every other released component of the same monomial, and unions
of such, the number of units whose contributions differ is 0 or at least `min_units`. Compared are

- what comes out together: all cells and components of all cell queries of one computation, and
  unions of those of one cell query. Items are taken in descending number of units, ties in the
  order of their keys, and an item that is in conflict with earlier ones stays in: so a total comes
  out, and the smallest group of its partition is what is withheld;
- new items with every earlier result, and with unions of its items;
- earlier items with unions of the new items of one cell query.

What equals a released item tells nothing new, and is in conflict with nothing in the history.
Counts of rows and of units are of one monomial, the empty
one: where each unit has one row, `count(*)` and `count(distinct unit)` are the same numbers.

Not compared: different monomials, and unions of items of different results.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.blocks import Block, Monomial, codes
from luoshu.sandbox.release.comparing import Comparison, Conflict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.blocks import Places

    Flags: TypeAlias = NDArray[np.bool_]

Item: TypeAlias = "tuple[int, int]"
"""Number of the cell query, number of the item in its block."""


@dataclass(slots=True)
class Verdict:
    """What the guard withholds.

    Attributes:
        within: Items in conflict with others that come out together.
        history: Items in conflict with what came out before.
        cells: Cells, as (cell query, cell), of those in conflict with what came out before.
        counted: Those of them in conflict with another query's results, or with the same query's
            on the same data: this tells somebody who probes from a refresh.
    """

    within: list[Item] = field(default_factory=list)
    history: list[Item] = field(default_factory=list)
    cells: set[tuple[int, int]] = field(default_factory=set)
    counted: set[tuple[int, int]] = field(default_factory=set)


class Differencing:
    """One computation's items, decided on together."""

    def __init__(
        self, blocks: Sequence[Block], allowed: Sequence[Flags], ranks: Sequence[Places], k: int
    ) -> None:
        """Prepares it.

        Args:
            blocks: One for each cell query.
            allowed: By component and cell, what comes out so far; changed in place.
            ranks: Place of each cell in the order of the keys.
            k: Fewest units that may differ.
        """
        self._blocks, self._allowed, self._k = blocks, allowed, k
        self._ranks = ranks
        self.verdict = Verdict()

    def compare_within(self) -> None:
        """Withholds what is in conflict with other new items."""
        numbers = range(len(self._blocks))
        pending = [
            (number, other, monomial)
            for number in numbers
            for other in numbers
            for monomial in _shared(self._blocks[number], self._blocks[other])
        ]
        while pending:
            sets, again = [], []
            for number, other, monomial in pending:
                conflicts = self._among(number, other, monomial)
                sets += [
                    {(number, one.target), *((other, item) for item in one.sources)}
                    for one in conflicts
                ]
                if conflicts:
                    again.append((number, other, monomial))
            pending = again if self._withhold_last(sets) else []

    def _among(self, number: int, other: int, monomial: Monomial) -> list[Conflict]:
        targets = self._blocks[number]
        items = _items(targets, self._allowed[number], monomial)
        comparison = Comparison(
            *(targets, items, self._blocks[other]),
            alive=self._allowed[other],
            monomial=monomial,
            k=self._k,
        )
        return comparison.run()

    def _withhold_last(self, sets: Sequence[set[Item]]) -> bool:
        """Withholds the last item of each set that is still all there; whether there was one."""
        ordered = sorted((sorted(members, key=self._rank) for members in sets), key=self._last)
        changed = False
        for members in ordered:
            if all(self._allowed[number].reshape(-1)[place] for number, place in members):
                number, place = members[-1]
                self._allowed[number].reshape(-1)[place] = False
                self.verdict.within.append(members[-1])
                changed = True
        return changed

    def _rank(self, item: Item) -> tuple[int, int, int, int]:
        """Most units first, then by keys, then by component."""
        block = self._blocks[item[0]]
        component, cell = divmod(item[1], block.cells)
        units = int(block.counts[component, cell])
        return -units, item[0], int(self._ranks[item[0]][cell]), component

    def _last(self, members: Sequence[Item]) -> tuple[int, int, int, int]:
        return self._rank(members[-1])

    def compare_with(self, history: Iterable[Block]) -> None:
        """Withholds what is in conflict with earlier results."""
        earlier = list(history)
        known = self._known(earlier)
        self._compare_new(earlier, known)
        self._compare_earlier(earlier, known)

    def _known(self, earlier: Sequence[Block]) -> list[Flags]:
        """Which new items equal an earlier one, by component and cell."""
        return [
            np.stack(
                [
                    np.isin(codes(block, n), _all_codes(earlier, monomial))
                    for n, monomial in enumerate(block.monomials)
                ]
            )
            for block in self._blocks
        ]

    def _compare_new(self, earlier: Sequence[Block], known: list[Flags]) -> None:
        """New items with earlier ones and unions of them."""
        for number, targets in enumerate(self._blocks):
            against: dict[int, list[Block]] = {}
            for source in earlier:
                alive = source.counts > 0
                for monomial in _shared(targets, source):
                    items = _items(targets, self._allowed[number] & ~known[number], monomial)
                    if not len(items):
                        continue
                    found = Comparison(
                        targets, items, source, alive=alive, monomial=monomial, k=self._k
                    ).run()
                    for conflict in found:
                        against.setdefault(conflict.target, []).append(source)
            for item, sources in against.items():
                self._withhold((number, item), sources)

    def _compare_earlier(self, earlier: Sequence[Block], known: list[Flags]) -> None:
        """Earlier items with unions of new ones."""
        for number, source in enumerate(self._blocks):
            for targets in earlier:
                for monomial in _shared(targets, source):
                    alive = self._allowed[number]
                    found = np.concatenate(
                        [
                            codes(source, n)[alive[n]]
                            for n, name in enumerate(source.monomials)
                            if name == monomial
                        ]
                    )
                    items = _items(targets, targets.counts > 0, monomial)
                    components, cells = np.divmod(items, targets.cells)
                    equal = np.zeros(len(items), np.bool_)
                    for component in np.unique(components):
                        of_it = components == component
                        equal[of_it] = np.isin(codes(targets, component)[cells[of_it]], found)
                    self._compare_unions(targets, items[~equal], number, monomial, known[number])

    def _compare_unions(
        self, targets: Block, items: Places, number: int, monomial: Monomial, known: Flags
    ) -> None:
        source = self._blocks[number]
        while len(items):
            found = Comparison(
                targets, items, source, alive=self._allowed[number], monomial=monomial, k=self._k
            ).run(pairs=False)
            again = set()
            for conflict in found:
                new = [item for item in conflict.sources if not known.reshape(-1)[item]]
                alive = self._allowed[number].reshape(-1)
                if new and alive[list(conflict.sources)].all():
                    self._withhold(max(((number, item) for item in new), key=self._rank), [targets])
                    again.add(conflict.target)
            items = np.array(sorted(again), np.int64)

    def _withhold(self, item: Item, sources: Sequence[Block]) -> None:
        number, place = item
        block = self._blocks[number]
        self._allowed[number].reshape(-1)[place] = False
        self.verdict.history.append(item)
        self.verdict.cells.add((number, place % block.cells))
        if any(source.query != block.query or source.data == block.data for source in sources):
            self.verdict.counted.add((number, place % block.cells))


def _shared(first: Block, second: Block) -> list[Monomial]:
    return sorted(set(first.monomials) & set(second.monomials))


def _items(block: Block, alive: Flags, monomial: Monomial) -> Places:
    """Numbers of the items of a monomial that count and have units."""
    flags = alive & (block.counts > 0)
    for number, name in enumerate(block.monomials):
        if name != monomial:
            flags[number] = False
    return np.flatnonzero(flags)


def _all_codes(blocks: Sequence[Block], monomial: Monomial) -> NDArray[np.uint64]:
    found = [
        codes(block, number)[block.counts[number] > 0]
        for block in blocks
        for number, name in enumerate(block.monomials)
        if name == monomial
    ]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)
