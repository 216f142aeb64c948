"""Every union of items that is near to a target: that leaves fewer than a limit of units wrong.

The search is exact:

- *evidence*: a unit that only one open item has is wrong either if that item is chosen or if it
  isn't. An item is decided on as soon as the other way makes too many units wrong. If no unit is
  in two items this alone finds the nearest union, in one pass: an item is chosen if more of its
  units are as wanted than are nobody's;
- *parts*: what is left falls apart into items that share units; each part is solved alone, and
  the numbers of wrong units are added up;
- a part of few items is solved by trying all subsets; another by elimination (`elimination`), if
  its units tell its items apart often enough; else by deciding on one item both ways.

Only elimination and the last step can take long. They end after a bounded effort, for one target
and for all of a computation: then it is said that nothing is known, and the caller has to do with
less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.elimination import MOST_ITEMS, MOST_OPEN, solutions
from luoshu.sandbox.release.puzzles import Puzzle, subset_sums

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

Outcomes: TypeAlias = "dict[tuple[int, int], tuple[int, ...]]"
"""For each (wrong units, items up to two) that can be reached the names of such items."""

ONE_TARGET = 40_000_000
_ALL_TARGETS = 5 * ONE_TARGET
_STEP = 1000
_DEPTH = 64
_FEW = 10
_TABLE = 1 << 21
_ROWS = 512


class EntangledError(Exception):
    """The search has no end in sight."""


@dataclass(slots=True)
class Effort:
    """How many entries a computation may still look at, each time counted."""

    left: int = _ALL_TARGETS


def near_unions(puzzle: Puzzle, limit: int, effort: Effort) -> Outcomes:
    """Which numbers of wrong units below a limit unions have, each with an example.

    Args:
        puzzle: The target and the items.
        limit: Fewest wrong units that don't matter.
        effort: What is left of the computation's; a target takes `ONE_TARGET` of it at most.

    Raises:
        EntangledError: That wasn't enough.
    """
    search = _Search(min(effort.left, ONE_TARGET))
    effort.left -= search.effort
    try:
        return search.outcomes(puzzle, limit)
    finally:
        effort.left += max(search.effort, 0)


class _Search:
    def __init__(self, effort: int) -> None:
        self.effort = effort
        self._depth = 0

    def _spend(self, entries: int) -> None:
        self.effort -= entries
        if self.effort < 0:
            raise EntangledError

    def _look_at(self, entries: int) -> None:
        """What is looked at before anything was decided both ways is bounded, and free."""
        if self._depth:
            self._spend(entries + _STEP)

    def outcomes(self, puzzle: Puzzle, limit: int) -> Outcomes:
        """What `near_unions` returns."""
        nobody = np.zeros(len(puzzle.names), np.bool_)
        puzzle, lost = puzzle.decided(nobody, nobody)
        names: list[int] = []
        while lost < limit:
            self._look_at(len(puzzle.place))
            chosen, dropped, hopeless = _evidence(puzzle, limit - lost)
            if hopeless:
                return {}
            if not (chosen | dropped).any():
                break
            names += puzzle.names[chosen].tolist()
            puzzle, more = puzzle.decided(chosen, dropped)
            lost += more
        if lost >= limit:
            return {}
        found: Outcomes = {(lost, min(len(names), 2)): tuple(names)}
        for part in puzzle.parts():
            least = min(wrong for wrong, _ in found)
            found = _added(found, self._part(part, limit - least), limit)
            if not found:
                break
        return found

    def _part(self, part: Puzzle, limit: int) -> Outcomes:
        size = len(part.names)
        choices: Iterator[Flags] | None
        if size <= _FEW or (1 << size) * len(part.wanted) <= _TABLE:
            choices = self._all(part, limit)
        else:
            choices = self._by_elimination(part, limit) if size <= MOST_ITEMS else None
            if choices is None:
                return self._both_ways(part, limit)
        found: Outcomes = {}
        for chosen in choices:
            self._look_at(len(part.place))
            wrong = part.wrong(chosen)
            if wrong < limit:
                names = part.names[chosen].tolist()
                found.setdefault((wrong, min(len(names), 2)), tuple(names))
        return found

    def _all(self, part: Puzzle, limit: int) -> Iterator[Flags]:
        """All subsets that are near in some of the units."""
        size = len(part.names)
        most = max(_ROWS, _TABLE >> size)
        rows = np.arange(len(part.wanted))
        if len(rows) > most:
            rows = rows[:: -(-len(rows) // most)]
        wrong = np.zeros(1 << size, np.int64)
        step = max(1, _TABLE >> size)
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            sums = subset_sums(part.table(some))
            wrong += np.count_nonzero(sums != part.wanted[some, None], axis=0)
        bits = np.arange(size)
        for mask in np.flatnonzero(wrong < limit).tolist():
            yield (mask >> bits & 1).astype(np.bool_)

    def _by_elimination(self, part: Puzzle, limit: int) -> Iterator[Flags] | None:
        """All subsets that are near, and others; None if elimination doesn't tell."""
        same: dict[bytes, list[int]] = {}
        order = np.argsort(part.choice, kind="stable")
        ends = np.searchsorted(part.choice[order], np.arange(len(part.names) + 1))
        for number in range(len(part.names)):
            mine = order[ends[number] : ends[number + 1]]
            content = part.place[mine].tobytes() + part.prints[mine].tobytes()
            same.setdefault(content, []).append(number)
        groups = list(same.values())
        rows = np.arange(len(part.wanted))
        if len(rows) < limit * (len(groups) - MOST_OPEN):
            return None
        most = 2 * limit * len(groups)
        if len(rows) > most:
            rows = rows[:: -(-len(rows) // most)]
        self._spend(limit * len(groups) * (2000 + len(groups) ** 2 // 8))
        found = solutions(
            part.table(rows)[:, [members[0] for members in groups]],
            part.wanted[rows],
            np.array([len(members) for members in groups], np.int64),
            limit,
        )
        return None if found is None else _flags(found, groups, len(part.names))

    def _both_ways(self, part: Puzzle, limit: int) -> Outcomes:
        """Decides on the item that leaves the most units with few others."""
        count = np.bincount(part.place, minlength=len(part.wanted))
        weights = np.exp2(-np.minimum(count, 60).astype(np.float64))
        item = int(np.bincount(part.choice, weights[part.place]).argmax())
        is_it = np.arange(len(part.names)) == item
        nobody = np.zeros(len(part.names), np.bool_)
        found: Outcomes = {}
        self._depth += 1
        if self._depth > _DEPTH:
            raise EntangledError
        for chosen, dropped in ((is_it, nobody), (nobody, is_it)):
            rest, lost = part.decided(chosen, dropped)
            if lost >= limit:
                continue
            names = tuple(part.names[chosen].tolist())
            before: Outcomes = {(lost, len(names)): names}
            for key, value in _added(before, self.outcomes(rest, limit - lost), limit).items():
                found.setdefault(key, value)
        self._depth -= 1
        return found


def _evidence(puzzle: Puzzle, limit: int) -> tuple[Flags, Flags, bool]:
    """Which items to choose and to drop for sure; whether all choices make too many wrong."""
    size = len(puzzle.names)
    alone = np.bincount(puzzle.place, minlength=len(puzzle.wanted))[puzzle.place] == 1
    choice, wanted = puzzle.choice[alone], puzzle.wanted[puzzle.place[alone]]
    if_chosen = np.bincount(choice, wanted != puzzle.prints[alone], size)
    if_dropped = np.bincount(choice, wanted != 0, size)
    least = np.minimum(if_chosen, if_dropped)
    spare = limit - int(least.sum())
    if spare <= 0:
        none = np.zeros(size, np.bool_)
        return none, none, True
    return if_dropped - least >= spare, if_chosen - least >= spare, False


def _added(found: Outcomes, others: Outcomes, limit: int) -> Outcomes:
    result: Outcomes = {}
    for (wrong, size), names in found.items():
        for (more, more_size), more_names in others.items():
            if wrong + more < limit:
                key = wrong + more, min(size + more_size, 2)
                result.setdefault(key, (*names, *more_names))
    return result


def _flags(
    found: Iterator[NDArray[np.int64]], groups: list[list[int]], size: int
) -> Iterator[Flags]:
    seen = set()
    for times in found:
        if times.tobytes() in seen:
            continue
        seen.add(times.tobytes())
        chosen = np.zeros(size, np.bool_)
        for members, n in zip(groups, times.tolist(), strict=True):
            chosen[members[:n]] = True
        yield chosen
