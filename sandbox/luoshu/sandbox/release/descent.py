"""Looks for the union of items that is nearest to a target, step by step, without a promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.fingerprints import PRIME, fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.fingerprints import Prints
    from luoshu.sandbox.release.puzzles import Puzzle

    Flags = NDArray[np.bool_]

_P = np.uint64(PRIME)
_TOGETHER = 6
_STEPS = 24


def descents(puzzle: Puzzle, components: NDArray[np.int64]) -> Iterator[Flags]:
    """The nearest unions seen, by descents from all items of each component, all and none.

    Args:
        puzzle: The target and the items.
        components: Of each item; a partition is all cells of one component.
    """
    found = sorted(set(components.tolist()))
    beginnings = [components == component for component in found] if len(found) > 1 else []
    for everything in (True, False):
        beginnings.append(np.full(len(components), everything, np.bool_))
    for beginning in beginnings:
        yield _descend(puzzle, beginning)


def _descend(puzzle: Puzzle, chosen: Flags) -> Flags:
    """Turns the choices that make the fewest units wrong, several at once in the beginning."""
    fewest, kept = len(puzzle.wanted) + 1, chosen
    for step in range(_STEPS):
        rest = puzzle.rest(chosen)
        wrong = np.not_equal(rest, 0)
        count = int(np.count_nonzero(wrong))
        if count < fewest:
            fewest, kept = count, chosen
        turn = _turns(puzzle, chosen, rest, wrong, single=step >= _TOGETHER)
        if not count or not turn.any():
            break
        chosen = chosen ^ turn
    return kept


def _turns(puzzle: Puzzle, chosen: Flags, rest: Prints, wrong: Flags, *, single: bool) -> Flags:
    """Which choices to turn: those that gain more than half of what the best one gains."""
    change = np.where(chosen[puzzle.choice], puzzle.prints, _P - puzzle.prints)
    after = np.not_equal(fold(rest[puzzle.place] + change), 0)
    change_of_wrong = wrong[puzzle.place].astype(np.int64) - after
    gain = np.bincount(puzzle.choice, change_of_wrong, len(chosen)).astype(np.int64)
    most = int(gain.max(initial=0))
    turn: NDArray[Any] = (gain > 0) & (gain * 2 > most)
    if single and most > 0:
        turn = np.arange(len(chosen)) == int(gain.argmax())
    return turn
