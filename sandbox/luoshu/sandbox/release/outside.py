"""Which items can't be in any union near a target: too many of their units lie outside of it.

Looking at some units of each item is enough to exclude it for certain, and never excludes one that
could be in: of two cells of different people nearly every unit does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.blocks import spans, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.blocks import Block

    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]

_LEAST = 64


class Outside:
    """Some units of each cell of a block, to be compared with targets."""

    def __init__(self, source: Block, k: int) -> None:
        """Picks the units.

        Args:
            source: Of the items.
            k: So many units outside exclude an item.
        """
        most = max(_LEAST, 4 * k)
        lengths = np.diff(source.starts)
        taken = np.minimum(lengths, most)
        self._cell = np.repeat(np.arange(source.cells), taken)
        steps = spans(np.zeros_like(taken), taken)
        rows = source.starts[self._cell] + spread(steps, lengths[self._cell], most)
        self._unit = np.asarray(source.unit[rows])
        self._prints = np.asarray(source.prints[:, rows])
        self._cells, self._k = source.cells, k
        self._marks = np.zeros(int(self._unit.max(initial=0)) + 1, np.bool_)

    def possible(self, units: NDArray[np.int32], component: int) -> Flags:
        """Which items of a component aren't excluded.

        Args:
            units: The target's.
            component: Of the source.
        """
        known = units[units < len(self._marks)]
        self._marks[known] = True
        outside = ~self._marks[self._unit] & (self._prints[component] != 0)
        self._marks[known] = False
        return np.asarray(np.bincount(self._cell[outside], minlength=self._cells) < self._k)
