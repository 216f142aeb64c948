"""Which union of items is nearest to a target: trying all of few, descending among many.

An *entry* says what an item contributes to one of the target's units. Choosing a set of items
leaves a unit *wrong* if the chosen entries don't add up to the target's fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.fingerprints import PRIME, add_up, fold, subtract
from luoshu.sandbox.release.sorting import distinct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.fingerprints import Prints

_P = np.uint64(PRIME)
_TOGETHER = 6
_STEPS = 24


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Entries of several targets, sorted by place.

    Attributes:
        target: Target of each place (a unit of a target), ascending.
        wanted: The target's fingerprint at each place.
        place: Of each entry, ascending.
        choice: What chooses each entry: numbers of (target, item) pairs.
        prints: Of each entry.
        owner: The target of each choice.
        component: The component of each choice's item.
        targets: How many there are.
    """

    target: NDArray[np.int64]
    wanted: Prints
    place: NDArray[np.int64]
    choice: NDArray[np.int64]
    prints: Prints
    owner: NDArray[np.int64]
    component: NDArray[np.int64]
    targets: int

    def beginnings(self) -> Iterator[NDArray[np.bool_]]:
        """What to begin a descent with: all cells of one component, everything, nothing.

        A partition is all cells of one component; the others are for what is less tidy.
        """
        components = distinct(self.component)
        if len(components) > 1:
            for component in components:
                yield self.component == component
        for everything in (True, False):
            yield np.full(len(self.owner), everything, np.bool_)


def subset_sums(columns: Prints) -> Prints:
    """Sums of all subsets of some columns, modulo p: column s adds up those of the bits of s."""
    sums = np.zeros((len(columns), 1), np.uint64)
    for number in range(columns.shape[1]):
        sums = np.concatenate([sums, fold(sums + columns[:, number : number + 1])], axis=1)
    return sums


def descend(
    entries: Entries, chosen: NDArray[np.bool_], enough: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Looks for each target's nearest union, by turning choices that improve it most.

    In each step the choices whose turn makes the fewest units wrong are turned, several of them
    at once in the beginning. Linear in the entries for each of a fixed number of steps.

    Args:
        entries: Of all targets.
        chosen: What to begin with.
        enough: A target with fewer wrong units than this isn't improved any further.

    Returns:
        For each target the fewest wrong units seen, and each choice as it was then.
    """
    best = np.full(entries.targets, len(entries.target) + 1, np.int64)
    kept = chosen
    firsts = np.flatnonzero(np.diff(entries.place, prepend=-1))
    touched = entries.place[firsts]
    for step in range(_STEPS):
        rest = entries.wanted.copy()
        if len(firsts):
            parts = entries.prints * chosen[entries.choice]
            rest[touched] = subtract(rest[touched], add_up(parts, firsts))
        wrong = np.not_equal(rest, 0)
        counts = np.bincount(entries.target, wrong, entries.targets).astype(np.int64)
        better = counts < best
        best[better] = counts[better]
        kept = np.where(better[entries.owner], chosen, kept)
        turn = _turns(entries, chosen, rest, wrong, single=step >= _TOGETHER)
        turn &= best[entries.owner] >= enough
        if not turn.any():
            break
        chosen = chosen ^ turn
    return best, kept


def _turns(
    entries: Entries,
    chosen: NDArray[np.bool_],
    rest: Prints,
    wrong: NDArray[np.bool_],
    *,
    single: bool,
) -> NDArray[np.bool_]:
    """Which choices to turn: those that gain more than half of what the best one gains."""
    size = len(chosen)
    before = wrong[entries.place]
    now = rest[entries.place]
    change = np.where(chosen[entries.choice], entries.prints, _P - entries.prints)
    after = np.not_equal(fold(now + change), 0)
    gain = np.bincount(entries.choice, before.astype(np.int64) - after, size).astype(np.int64)
    most = np.zeros(entries.targets, np.int64)
    np.maximum.at(most, entries.owner, gain)
    turn: NDArray[Any] = (gain > 0) & (gain * 2 > most[entries.owner])
    if single:
        turn &= gain == most[entries.owner]
        first = np.full(entries.targets, size, np.int64)
        best = np.flatnonzero(turn)
        np.minimum.at(first, entries.owner[best], best)
        turn &= first[entries.owner] == np.arange(size)
    return turn


def wrong_units(units: list[NDArray[np.int32]], prints: list[Prints]) -> int:
    """Units in which the first of some items differs from the sum of the others, exactly."""
    everyone = np.concatenate(units)
    values = np.concatenate([prints[0], *(_P - others for others in prints[1:])])
    order = np.argsort(everyone, kind="stable")
    firsts = np.flatnonzero(np.diff(everyone[order], prepend=-1))
    if not len(firsts):
        return 0
    return int(np.count_nonzero(add_up(values[order], firsts)))
