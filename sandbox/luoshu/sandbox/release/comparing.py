"""Finds items that differ from other items, or from unions of items, in too few units.

A *conflict* is a target item and a set of source items of the same monomial whose sum, or a
multiple of whose sum, differs from it in at least 1 and fewer than k units: releasing both tells
about those few. (A join with two public rows doubles every contribution, and the sum can be halved
again. Of a multiple other than 1 most units have to agree: few agree by chance.)

How it stays near linear. If fewer than k units differ, then of any m units of the target at
least m - k + 1 agree; so a sample of each target's units, looked up in the source by unit,
finds all candidates, and rules out nearly all others before their rows are touched:

- pairs: all items that agree with the sample so often are counted out exactly;
- unions: of few items all subsets are tried on the sample; of many, a target is ruled out by the
  units of its sample that no item has, or only one with something else. What is left is solved on
  all rows of the items of which all but k - 1 units lie in the target (`unions.near_unions`).

Every pair and every union of such items is found if there are up to ten of them, or no unit is in
two; and of others, as long as the effort of the target and of the computation lasts: it is enough
for up to 256 items that share units, if the target has about k units for each, and for many that
share few. Beyond, `descent` looks step by step, and finds what it finds. Of multiples, the most
frequent one in each target's sample is tried.

Not found: unions with an item of which k or more units lie outside the target, where other items
cancel its contributions. Counts never cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.blocks import Block, spans, spread
from luoshu.sandbox.release.descent import descents
from luoshu.sandbox.release.fingerprints import inverses, multiply
from luoshu.sandbox.release.outside import Outside
from luoshu.sandbox.release.puzzles import Puzzle, subset_sums
from luoshu.sandbox.release.sorting import distinct
from luoshu.sandbox.release.unions import Effort, EntangledError, near_unions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.blocks import Places
    from luoshu.sandbox.release.fingerprints import Prints

    Flags = NDArray[np.bool_]

_SAMPLE = 64
_FEW_ITEMS = 10
_SEVERAL = 2
_EARLY = 16
_EVIDENCE = 4
_MOST_SUMS = 1 << 20
_TARGETS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Conflict:
    """A target and source items whose sum differs from it in too few units."""

    target: int
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some units of each target.

    Attributes:
        target: Index of the target of each, ascending.
        unit: The unit.
        wanted: The target's fingerprint of it.
        sizes: How many each target has.
    """

    target: Places
    unit: NDArray[np.int32]
    wanted: Prints
    sizes: Places


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Where a sample meets the source: index into the sample, item and its fingerprint."""

    place: Places
    item: Places
    prints: Prints

    def only(self, chosen: Flags) -> Hits:
        """Some of them."""
        return Hits(self.place[chosen], self.item[chosen], self.prints[chosen])


class Comparison:
    """Targets of one block against the items of another, or of the same block."""

    def __init__(
        self,
        targets: Block,
        items: Places,
        source: Block,
        *,
        alive: Flags,
        k: int,
        effort: Effort,
    ) -> None:
        """Prepares it.

        Args:
            targets: Where the targets are.
            items: Their numbers; each has units. Those whose monomial the source doesn't have are
                left out.
            source: What to compare with; may be the same block.
            alive: By component and cell of the source, which items count.
            k: Fewest units that may differ.
            effort: What the computation may still spend on the search for unions.
        """
        self._targets, self._source, self._k = targets, source, k
        self._effort = effort
        self._same = targets is source
        self._alive = alive & (source.counts > 0)
        self._siblings = _siblings(targets, source)
        items = items[self._siblings[items // targets.cells, :1].ravel() >= 0]
        self._items, self._component = items, items // targets.cells
        self._sizes = targets.counts.reshape(-1)[items]
        self._counts = source.counts.reshape(-1)
        self._factors: dict[int, int] = {}
        self._outside: Outside | None = None

    def run(self, *, pairs: bool = True) -> list[Conflict]:
        """Compares.

        Args:
            pairs: Whether to report conflicts with single items.
        """
        found: list[Conflict] = []
        for first in range(0, len(self._items), _TARGETS_AT_ONCE):
            chunk = np.arange(first, min(first + _TARGETS_AT_ONCE, len(self._items)))
            sample = self._sample(chunk)
            hits = self._hits(chunk, sample)
            if pairs:
                self._pairs(chunk, sample, hits, found)
            self._unions(chunk, sample, hits, found)
            multiples, factors = self._multiples(chunk, sample, hits)
            if len(multiples):
                few, theirs = _narrowed(sample, hits, multiples)
                wanted = multiply(few.wanted, factors[few.target])
                self._factors = dict(
                    zip(self._items[chunk[multiples]].tolist(), factors.tolist(), strict=True)
                )
                scaled = Sample(few.target, few.unit, wanted, few.sizes)
                self._unions(chunk[multiples], scaled, theirs, found)
                self._factors = {}
        return found

    def _multiples(self, chunk: Places, sample: Sample, hits: Hits) -> tuple[Places, Prints]:
        """Targets that look like a multiple of source items, and what to multiply them by.

        Joining with rows of others multiplies every contribution of a unit. Where that is by the
        same number for most units, the target tells what the plain one would.
        """
        starts = np.searchsorted(sample.target, np.arange(len(chunk)))
        early = np.arange(len(sample.unit)) - starts[sample.target] < _EARLY
        some = hits.only(early[hits.place])
        if not len(some.place):
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        ratios = _ratios(sample, some)
        target = sample.target[some.place]
        often = np.flatnonzero(_may_repeat(_mixed(target, ratios), _EVIDENCE))
        target, ratios = target[often], ratios[often]
        places, counts = _frequent(target, ratios)
        order = np.argsort(counts, kind="stable")
        places, counts = places[order], counts[order]
        most = np.full(len(chunk), -1, np.int64)
        most[target[places]] = np.arange(len(places))  # the last one, and most frequent, stays
        kept = np.flatnonzero(most >= 0)
        chosen = most[kept]
        wanted = (ratios[places[chosen]] != 1) & (counts[chosen] >= _EVIDENCE)
        return kept[wanted], inverses(ratios[places[chosen[wanted]]])

    def _item(self, number: int) -> tuple[NDArray[np.int32], Prints]:
        """A target's units and fingerprints, as they are compared."""
        units, prints = self._targets.item(number)
        factor = self._factors.get(number, 1)
        return units, prints if factor == 1 else multiply(prints, factor)

    # --- samples ---------------------------------------------------------------------------

    def _sample(self, chunk: Places) -> Sample:
        """Rows from all over each target, some next to each other; all rows of a small one."""
        block, most = self._targets, max(_SAMPLE, 4 * self._k)
        component, cell = np.divmod(self._items[chunk], block.cells)
        starts = block.starts[cell]
        lengths = block.starts[cell + 1] - starts
        # Rows without the component are no use: where they are many, look at the others only.
        taken = np.where(self._sizes[chunk] * 2 < lengths, 0, np.minimum(lengths, most))
        target = np.repeat(np.arange(len(chunk)), taken)
        rows = starts[target] + spread(spans(np.zeros_like(taken), taken), lengths[target], most)
        wanted = block.prints[component[target], rows]
        present = wanted != 0
        target, unit, wanted = target[present], block.unit[rows[present]], wanted[present]
        short = np.bincount(target, minlength=len(chunk)) < np.minimum(
            self._sizes[chunk], 2 * self._k
        )
        if short.any():
            keep = ~short[target]
            parts = [(target[keep], unit[keep], wanted[keep])]
            for index in np.flatnonzero(short):
                units, prints = block.item(int(self._items[chunk[index]]))
                size = min(len(units), most)
                some = spread(np.arange(size), np.full(size, len(units)), most)
                parts.append((np.full(size, index), units[some], prints[some]))
            target, unit, wanted = (np.concatenate(part) for part in zip(*parts, strict=True))
            order = np.argsort(target, kind="stable")
            target, unit, wanted = target[order], unit[order], wanted[order]
        return Sample(target, unit, wanted, np.bincount(target, minlength=len(chunk)))

    def _hits(self, chunk: Places, sample: Sample) -> Hits:
        place, rows = self._source.rows_of(sample.unit)
        cell = self._source.cell_of(rows)
        siblings = self._siblings[self._component[chunk]][sample.target[place]]
        parts = []
        for column in siblings.T:
            prints = self._source.prints[column, rows]
            present = (column >= 0) & (prints != 0) & self._alive[column, cell]
            item = column[present] * self._source.cells + cell[present]
            parts.append((place[present], item, prints[present]))
        place, item, prints = (np.concatenate(part) for part in zip(*parts, strict=True))
        if len(parts) > 1:
            order = np.argsort(place, kind="stable")
            place, item, prints = place[order], item[order], prints[order]
        hits = Hits(place, item, prints)
        if not self._same:
            return hits
        return hits.only(item != self._items[chunk[sample.target[place]]])

    # --- pairs -----------------------------------------------------------------------------

    def _pairs(self, chunk: Places, sample: Sample, hits: Hits, found: list[Conflict]) -> None:
        sizes = self._sizes[chunk[sample.target[hits.place]]]
        hits = hits.only(np.abs(sizes - self._counts[hits.item]) < self._k)
        if not len(hits.place):
            return
        needed = np.maximum(sample.sizes - self._k + 1, 1)
        codes = sample.target[hits.place] * len(self._counts) + hits.item
        wanted = needed[sample.target[hits.place]]
        may = _may_repeat(_mixed(codes, np.uint64(0)), wanted)
        hits, codes, wanted = hits.only(may), codes[may], wanted[may]
        often = _counted(codes) >= wanted
        hits, codes = hits.only(often), codes[often]
        ratios = _ratios(sample, hits)
        places, agreeing = _frequent(codes, ratios)
        for place in places[agreeing >= needed[sample.target[hits.place[places]]]]:
            target, item = int(sample.target[hits.place[place]]), int(hits.item[place])
            ratio = int(ratios[place])
            number = int(self._items[chunk[target]])
            if ratio == 1 and self._is_equal(number, item):
                continue
            units, prints = self._targets.item(number)
            other_units, other_prints = self._source.item(item)
            if ratio != 1:
                other_prints = multiply(other_prints, ratio)
            few = differing(units, prints, other_units, other_prints)
            if 0 < few < self._k and (ratio == 1 or few * 2 < len(units)):
                found.append(Conflict(number, (item,)))

    def _is_equal(self, number: int, item: int) -> bool:
        first, second = divmod(number, self._targets.cells), divmod(item, self._source.cells)
        return bool(
            self._targets.hashes[first] == self._source.hashes[second]
            and self._targets.counts[first] == self._source.counts[second]
        )

    # --- unions ----------------------------------------------------------------------------

    def _unions(self, chunk: Places, sample: Sample, hits: Hits, found: list[Conflict]) -> None:
        candidates = self._candidates(chunk)
        width = (candidates >= 0).sum(axis=1)
        few = np.flatnonzero((width > 1) & (width <= _FEW_ITEMS))
        if len(few):
            self._try_all(chunk[few], *_narrowed(sample, hits, few), candidates[few], found)
        many = np.flatnonzero(width > _FEW_ITEMS)
        if not len(many):
            return
        self._search(chunk[many], *_narrowed(sample, hits, many), found)

    def _candidates(self, chunk: Places) -> Places:
        """For each target the items that can be in a union, padded with -1.

        An item of which k units lie outside the target is in none, so neither is one that is
        larger by so many; looked at for all targets of a monomial together. Where there are too
        many, there is one more than `_FEW_ITEMS` of them.
        """
        component = self._component[chunk]
        rows = np.full((len(chunk), _FEW_ITEMS + 1), -1, np.int64)
        most = 0
        for number in distinct(component):
            of_it = component == number
            columns = self._siblings[number]
            columns = columns[columns >= 0]
            largest = int(self._sizes[chunk[of_it]].max()) + self._k
            flags = self._alive[columns] & (self._source.counts[columns] < largest)
            place, cell = np.nonzero(flags)
            items = (columns[place] * self._source.cells + cell)[: _FEW_ITEMS + 1]
            rows[of_it, : len(items)] = items
            most = max(most, len(items))
        return rows[:, :most]

    def _try_all(
        self, chunk: Places, sample: Sample, hits: Hits, items: Places, found: list[Conflict]
    ) -> None:
        """Tries all subsets of at most ten items on the sample; what is near is solved."""
        width = items.shape[1]
        table = np.zeros((len(sample.unit), width), np.uint64)
        where = hits.item[:, None] == items[sample.target[hits.place]]
        entry, column = np.nonzero(where)
        table[hits.place[entry], column] = hits.prints[entry]
        step = max(1, _MOST_SUMS >> width)
        wrong = np.zeros((len(chunk), 1 << width), np.int64)
        for first in range(0, len(table), step):
            rows = slice(first, first + step)
            misses = subset_sums(table[rows]) != sample.wanted[rows, None]
            target = sample.target[rows]
            firsts = np.flatnonzero(np.diff(target, prepend=-1))
            wrong[target[firsts]] += np.add.reduceat(misses, firsts, axis=0, dtype=np.int64)
        masks = np.arange(1 << width)
        several = np.array([mask.bit_count() > 1 for mask in range(1 << width)])
        unused = ((items < 0) << np.arange(width)).sum(axis=1)
        near = (wrong < self._k) & several & (masks & unused[:, None] == 0)
        self._solve(chunk[near.any(axis=1)], found)

    def _is_near(self, number: int, few: int) -> bool:
        """Whether most units agree, which a multiple must show."""
        component, cell = divmod(number, self._targets.cells)
        units = int(self._targets.counts[component, cell])
        return number not in self._factors or few * 2 < units

    def _search(self, chunk: Places, sample: Sample, hits: Hits, found: list[Conflict]) -> None:
        """Searches for the unions of many items."""
        # Of a target that was looked at as a whole it is known which items lie outside of it.
        is_whole = sample.sizes >= self._sizes[chunk]
        target = sample.target[hits.place]
        within = _counted(target * len(self._counts) + hits.item)
        hits = hits.only(~is_whole[target] | (self._counts[hits.item] - within < self._k))
        # Units that no item has, or only one with another contribution, differ whatever is chosen.
        count = np.bincount(hits.place, minlength=len(sample.unit))
        misses = np.bincount(hits.place, hits.prints != sample.wanted[hits.place], len(sample.unit))
        lost = np.bincount(sample.target, (count <= 1) & (count == misses), len(chunk))
        self._solve(chunk[lost < self._k], found)

    def _solve(self, chunk: Places, found: list[Conflict]) -> None:
        """Finds the unions that are near to some targets, on all rows."""
        for index in chunk:
            number = int(self._items[index])
            if self._possible(number) < _SEVERAL:
                continue
            puzzle = self._puzzle(number, np.array([index]))
            if len(puzzle.names) < 2:
                continue
            try:
                outcomes = near_unions(puzzle, self._k, self._effort)
            except EntangledError:
                components = puzzle.names // self._source.cells
                outcomes = {
                    (puzzle.wrong(chosen), int(chosen.sum())): tuple(puzzle.names[chosen].tolist())
                    for chosen in descents(puzzle, components)
                }
            for (few, size), sources in outcomes.items():
                if 0 < few < self._k and size > 1 and self._is_near(number, few):
                    found.append(Conflict(number, sources))

    def _possible(self, number: int) -> int:
        """How many items may be in a union near a target, at most."""
        if self._outside is None:  # most comparisons never come here
            self._outside = Outside(self._source, self._k)
        units, _ = self._targets.item(number)
        found = 0
        for component in self._siblings[number // self._targets.cells]:
            if component >= 0:
                fits = self._alive[component] & self._outside.possible(units, int(component))
                fits &= self._source.counts[component] < len(units) + self._k
                if self._same and component == number // self._targets.cells:
                    fits[number % self._targets.cells] = False
                found += int(fits.sum())
        return found

    def _puzzle(self, number: int, only: Places) -> Puzzle:
        """A target, and the items of which too few units lie outside of it."""
        units, prints = self._item(number)
        sample = Sample(np.zeros(len(units), np.int64), units, prints, self._sizes[only])
        hits = self._hits(only, sample)
        within = np.bincount(hits.item, minlength=len(self._counts))
        inside = (within > 0) & (self._counts - within < self._k)
        if self._same:
            inside[number] = False
        items = np.flatnonzero(inside)
        parts = [self._source.item(int(item)) for item in items]
        everyone = distinct(np.concatenate([units, *(part[0] for part in parts)]))
        wanted = np.zeros(len(everyone), np.uint64)
        wanted[np.searchsorted(everyone, units)] = prints
        place = np.searchsorted(everyone, np.concatenate([units[:0], *(p[0] for p in parts)]))
        choice = np.repeat(np.arange(len(items)), [len(part[0]) for part in parts])
        order = np.argsort(place, kind="stable")
        return Puzzle(
            wanted,
            place[order],
            choice[order],
            np.concatenate([prints[:0], *(part[1] for part in parts)])[order],
            items,
        )


def _ratios(sample: Sample, hits: Hits) -> Prints:
    """By what each hit has to be multiplied to be what is wanted."""
    return multiply(sample.wanted[hits.place], inverses(hits.prints))


def _counted(groups: Places) -> Places:
    """For each place how many are in its group."""
    order = np.argsort(groups)
    firsts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    lengths = np.diff(firsts, append=len(order))
    counts = np.empty(len(order), np.int64)
    counts[order] = np.repeat(lengths, lengths)
    return counts


def _mixed(groups: Places, ratios: Prints | np.uint64) -> Prints:
    """A number of each group and ratio that others have by chance only."""
    mixed: Prints = groups.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + ratios
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    return mixed


def _may_repeat(numbers: Prints, times: Places | int) -> Flags:
    """Which numbers may occur so often: the others certainly don't.

    Counting by some of their bits is ten times as fast as sorting, and leaves little to sort.
    """
    bits = max(1, len(numbers)).bit_length() + 2
    buckets = (numbers >> np.uint64(64 - bits)).astype(np.int64)
    return np.asarray(np.bincount(buckets)[buckets] >= times, np.bool_)


def _frequent(groups: Places, ratios: Prints) -> tuple[Places, Places]:
    """For each group and ratio a place where it is found, and how often it is."""
    order = np.lexsort((ratios, groups))
    ordered, values = groups[order], ratios[order]
    changes = np.ones(len(order), np.bool_)
    changes[1:] = (ordered[1:] != ordered[:-1]) | (values[1:] != values[:-1])
    firsts = np.flatnonzero(changes)
    return order[firsts], np.diff(firsts, append=len(order))


def _narrowed(sample: Sample, hits: Hits, kept: Places) -> tuple[Sample, Hits]:
    """The sample and hits of some targets, numbered anew."""
    if len(kept) == len(sample.sizes):
        return sample, hits
    names = np.full(len(sample.sizes), -1, np.int64)
    names[kept] = np.arange(len(kept))
    target = names[sample.target]
    stays = target >= 0
    places = np.cumsum(stays) - 1
    some = hits.only(stays[hits.place])
    return (
        Sample(target[stays], sample.unit[stays], sample.wanted[stays], sample.sizes[kept]),
        Hits(places[some.place], some.item, some.prints),
    )


def _siblings(targets: Block, source: Block) -> Places:
    """For each target component the source's components of its monomial, padded with -1."""
    rows = [
        [n for n, name in enumerate(source.monomials) if name == monomial]
        for monomial in targets.monomials
    ]
    width = max(1, *(len(row) for row in rows)) if rows else 1
    return np.array([row + [-1] * (width - len(row)) for row in rows], np.int64).reshape(-1, width)


def differing(
    units: NDArray[np.int32],
    prints: Prints,
    other_units: NDArray[np.int32],
    other_prints: Prints,
) -> int:
    """In how many units two items differ, exactly."""
    if not len(units) or not len(other_units):
        return len(units) + len(other_units)
    places = np.searchsorted(units, other_units)
    places[places == len(units)] = 0
    both = units[places] == other_units
    equal = both & (prints[places] == other_prints)
    shared = int(np.count_nonzero(both))
    return len(units) + len(other_units) - shared - int(np.count_nonzero(equal))
