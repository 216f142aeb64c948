"""The differencing guard: nothing comes out that differs too little from what else is out.

Between a component of a cell and every other released component of the same monomial, and unions
of such, the number of units whose contributions differ is 0 or at least `min_units`. Compared are

- what comes out together: all cells and components of all cell queries of one computation, and
  unions of those of one cell query. Items are taken in descending number of units, ties in the
  order of their keys, those first that came out before; an item that is in conflict with earlier
  ones stays in: so a total comes out, and the smallest group of its partition is withheld;
- new items with every earlier result, and with unions of its items;
- earlier items with unions of the new items of one cell query.

What equals a released item tells nothing new, and is in conflict with nothing in the history.
Counts of rows and of units are of one monomial, the empty
one: where each unit has one row, `count(*)` and `count(distinct unit)` are the same numbers.

Which unions are found surely, and which are only searched for, `comparing` says. Not compared:
different monomials, and unions of items of different results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.blocks import Block, Monomial, codes, is_known
from luoshu.sandbox.release.comparing import Comparison
from luoshu.sandbox.release.sorting import among
from luoshu.sandbox.release.unions import Effort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.blocks import Places

    Flags: TypeAlias = NDArray[np.bool_]

_NONE = np.zeros(0, np.uint64)

Item: TypeAlias = "tuple[int, int]"
"""Number of the cell query, number of the item in its block."""


@dataclass(slots=True)
class Verdict:
    """What the guard withholds.

    Attributes:
        within: Items in conflict with others that come out together, with those others.
        history: Items in conflict with what came out before, with the places of those earlier
            results.
        cells: Cells, as (cell query, cell), of those in conflict with what came out before.
        counted: Those of them in conflict with another query's results: this tells somebody who
            probes from somebody who asks again when there are new data.
    """

    within: list[tuple[Item, tuple[Item, ...]]] = field(default_factory=list)
    history: list[tuple[Item, tuple[int, ...]]] = field(default_factory=list)
    cells: set[tuple[int, int]] = field(default_factory=set)
    counted: set[tuple[int, int]] = field(default_factory=set)


class Differencing:
    """One computation's items, decided on together."""

    def __init__(
        self,
        blocks: Sequence[Block],
        allowed: Sequence[Flags],
        ranks: Sequence[Places],
        history: Sequence[Block],
        k: int,
    ) -> None:
        """Prepares it.

        Args:
            blocks: One for each cell query.
            allowed: By component and cell, what comes out so far; changed in place.
            ranks: Place of each cell in the order of the keys.
            history: Earlier results.
            k: Fewest units that may differ.
        """
        self._blocks, self._allowed, self._history, self._k = blocks, allowed, history, k
        self._known = self._find_known()
        self._ranks = ranks
        self._effort = Effort()
        self.verdict = Verdict()

    def compare_within(self) -> None:
        """Withholds what is in conflict with other new items."""
        numbers = range(len(self._blocks))
        pending = [(number, other) for number in numbers for other in numbers]
        while pending:
            sets, again = [], []
            for number, other in pending:
                targets = self._blocks[number]
                conflicts = Comparison(
                    *(targets, _items(targets, self._allowed[number]), self._blocks[other]),
                    alive=self._allowed[other],
                    k=self._k,
                    effort=self._effort,
                ).run()
                sets += [
                    {(number, one.target), *((other, item) for item in one.sources)}
                    for one in conflicts
                ]
                if conflicts:
                    again.append((number, other))
            pending = again if self._withhold_last(sets) else []

    def _withhold_last(self, sets: Sequence[set[Item]]) -> bool:
        """Withholds the last item of each set that is still all there; whether there was one."""
        ordered = sorted((sorted(members, key=self._rank) for members in sets), key=self._last)
        changed = False
        for members in ordered:
            if all(self._allowed[number].reshape(-1)[place] for number, place in members):
                number, place = members[-1]
                self._allowed[number].reshape(-1)[place] = False
                self.verdict.within.append((members[-1], tuple(members[:-1])))
                changed = True
        return changed

    def _rank(self, item: Item) -> tuple[bool, int, int, int, int]:
        """What is out already first, then by most units, by keys, by component."""
        block = self._blocks[item[0]]
        component, cell = divmod(item[1], block.cells)
        units = int(block.counts[component, cell])
        is_new = not self._known[item[0]][component, cell]
        return is_new, -units, item[0], int(self._ranks[item[0]][cell]), component

    def _last(self, members: Sequence[Item]) -> tuple[bool, int, int, int, int]:
        return self._rank(members[-1])

    def compare_with_history(self) -> None:
        """Withholds what is in conflict with earlier results."""
        self._compare_new()
        self._compare_earlier()

    def _find_known(self) -> list[Flags]:
        """Which new items equal an earlier one, by component and cell."""
        before = _all_codes(self._history)
        return [
            np.stack(
                [
                    among(codes(block, n), before.get(monomial, _NONE))
                    for n, monomial in enumerate(block.monomials)
                ]
            )
            for block in self._blocks
        ]

    def _compare_new(self) -> None:
        """New items with earlier ones and unions of them."""
        for number, targets in enumerate(self._blocks):
            items = _items(targets, self._allowed[number] & ~self._known[number])
            if not len(items):
                continue
            against: dict[int, list[Block]] = {}
            for source in self._history:
                everything = np.ones(source.counts.shape, np.bool_)
                for conflict in Comparison(
                    *(targets, items, source),
                    alive=everything,
                    k=self._k,
                    effort=self._effort,
                ).run():
                    against.setdefault(conflict.target, []).append(source)
            for item, sources in against.items():
                self._withhold((number, item), sources)

    def _compare_earlier(self) -> None:
        """Earlier items with unions of new ones."""
        for number, source in enumerate(self._blocks):
            alive = self._allowed[number] & (source.counts > 0)
            if is_known(source, self._history):
                continue
            # What equals a new item was compared as that one.
            new = _all_codes([source], alive)
            for targets in self._history:
                items = _items(targets, np.ones(targets.counts.shape, np.bool_))
                equal = np.concatenate(
                    [
                        among(codes(targets, n), new.get(monomial, _NONE))
                        for n, monomial in enumerate(targets.monomials)
                    ]
                )
                self._compare_unions(targets, items[~equal[items]], number)

    def _compare_unions(self, targets: Block, items: Places, number: int) -> None:
        source = self._blocks[number]
        while len(items):
            again = set()
            for conflict in Comparison(
                *(targets, items, source),
                alive=self._allowed[number],
                k=self._k,
                effort=self._effort,
            ).run(pairs=False):
                if self._allowed[number].reshape(-1)[list(conflict.sources)].all():
                    members = [(number, item) for item in conflict.sources]
                    self._withhold(max(members, key=self._rank), [targets])
                    again.add(conflict.target)
            items = np.array(sorted(again), np.int64)

    def _withhold(self, item: Item, sources: Sequence[Block]) -> None:
        number, place = item
        block = self._blocks[number]
        self._allowed[number].reshape(-1)[place] = False
        places = [n for n, earlier in enumerate(self._history) if earlier in sources]
        self.verdict.history.append((item, tuple(places)))
        self.verdict.cells.add((number, place % block.cells))
        if any(source.query != block.query for source in sources):
            self.verdict.counted.add((number, place % block.cells))


def _items(block: Block, alive: Flags) -> Places:
    """Numbers of the items that count and have units."""
    return np.flatnonzero(alive & (block.counts > 0))


def _all_codes(
    blocks: Sequence[Block], alive: Flags | None = None
) -> dict[Monomial, NDArray[np.uint64]]:
    """What tells items apart, by monomial."""
    found: dict[Monomial, list[NDArray[np.uint64]]] = {}
    for block in blocks:
        for number, monomial in enumerate(block.monomials):
            some = block.counts[number] > 0
            if alive is not None:
                some = some & alive[number]
            found.setdefault(monomial, []).append(codes(block, number)[some])
    return {monomial: np.concatenate(parts) for monomial, parts in found.items()}
