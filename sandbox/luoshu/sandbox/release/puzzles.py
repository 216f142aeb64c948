"""A target and the items that may add up to it, unit by unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.fingerprints import add_up, fold, subtract
from luoshu.sandbox.release.sorting import numbered_distinct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from luoshu.sandbox.release.fingerprints import Prints

    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Puzzle:
    """What to choose from, so that few units are *wrong*: not what is wanted.

    An *entry* is what an item contributes to a unit.

    Attributes:
        wanted: The target's fingerprint of each unit.
        place: The unit of each entry, as an index into `wanted`; ascending.
        choice: The item of each entry, as an index into `names`.
        prints: Each entry's fingerprint; not 0.
        names: What the caller calls each item.
    """

    wanted: Prints
    place: Places
    choice: Places
    prints: Prints
    names: Places

    def rest(self, chosen: Flags) -> Prints:
        """What is still wanted of each unit if some items are chosen."""
        result = self.wanted.copy()
        mine = chosen[self.choice]
        place = self.place[mine]
        if len(place):
            firsts = np.flatnonzero(np.diff(place, prepend=-1))
            touched = place[firsts]
            result[touched] = subtract(result[touched], add_up(self.prints[mine], firsts))
        return result

    def wrong(self, chosen: Flags) -> int:
        """How many units are wrong if exactly these are chosen."""
        return int(np.count_nonzero(self.rest(chosen)))

    def decided(self, chosen: Flags, dropped: Flags) -> tuple[Puzzle, int]:
        """The puzzle after some decisions, and how many units are wrong for good."""
        rest = self.rest(chosen)
        stays = ~(chosen | dropped)[self.choice]
        place = self.place[stays]
        is_open = np.zeros(len(rest), np.bool_)
        is_open[place] = True
        lost = int(np.count_nonzero(rest[~is_open]))
        places = np.cumsum(is_open) - 1
        kept = np.flatnonzero(~(chosen | dropped))
        numbers = np.full(len(self.names), -1, np.int64)
        numbers[kept] = np.arange(len(kept))
        puzzle = Puzzle(
            rest[is_open],
            places[place],
            numbers[self.choice[stays]],
            self.prints[stays],
            self.names[kept],
        )
        return puzzle, lost

    def parts(self) -> Iterator[Puzzle]:
        """Puzzles that have no unit in common. Each unit has an entry."""
        if not len(self.names):
            return
        firsts = np.flatnonzero(np.diff(self.place, prepend=-1))
        labels = np.arange(len(self.names))
        while True:
            lowest = np.minimum.reduceat(labels[self.choice], firsts)
            before = labels.copy()
            np.minimum.at(labels, self.choice, lowest[self.place])
            labels = labels[labels]
            if (labels == before).all():
                break
        found, label = numbered_distinct(labels)
        if len(found) == 1:
            yield self
            return
        order = np.argsort(label[self.choice], kind="stable")
        ends = np.searchsorted(label[self.choice][order], np.arange(len(found) + 1))
        members = np.argsort(label, kind="stable")
        member_ends = np.searchsorted(label[members], np.arange(len(found) + 1))
        numbers = np.empty(len(self.names), np.int64)
        for part in range(len(found)):
            mine = members[member_ends[part] : member_ends[part + 1]]
            numbers[mine] = np.arange(len(mine))
            entries = order[ends[part] : ends[part + 1]]
            place = self.place[entries]
            starts = np.flatnonzero(np.diff(place, prepend=-1))
            renumbered = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(place)))
            yield Puzzle(
                self.wanted[place[starts]],
                renumbered,
                numbers[self.choice[entries]],
                self.prints[entries],
                self.names[mine],
            )

    def table(self, rows: Places) -> Prints:
        """Fingerprints of some units, ascending, by item."""
        result = np.zeros((len(rows), len(self.names)), np.uint64)
        row = np.full(len(self.wanted), -1, np.int64)
        row[rows] = np.arange(len(rows))
        mine = row[self.place] >= 0
        result[row[self.place[mine]], self.choice[mine]] = self.prints[mine]
        return result


def subset_sums(columns: Prints) -> Prints:
    """Sums of all subsets of some columns, modulo p: column s adds up those of the bits of s."""
    sums = np.zeros((len(columns), 1), np.uint64)
    for number in range(columns.shape[1]):
        sums = np.concatenate([sums, fold(sums + columns[:, number : number + 1])], axis=1)
    return sums
