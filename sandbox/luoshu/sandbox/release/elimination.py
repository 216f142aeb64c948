"""Which subsets of items add up to a target, by linear algebra modulo p.

If fewer than k units are wrong, then of k disjoint sets of units one has none that is. The units
of a set that has as many independent rows as there are items say which items were chosen: one
elimination a set finds every union that is near. What identical items contribute can be chosen
several times; what a set leaves open is tried, up to 2^10 ways.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.fingerprints import inverses, multiply, subtract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from luoshu.sandbox.release.fingerprints import Prints

MOST_ITEMS = 256
MOST_OPEN = 10
_SPARE = 8


def solutions(
    table: Prints, wanted: Prints, times: NDArray[np.int64], sets: int
) -> Iterator[NDArray[np.int64]] | None:
    """Every choice of columns that agrees with what is wanted in all but fewer than `sets` rows.

    Args:
        table: Rows times distinct columns, residues.
        wanted: Of each row.
        times: How often each column can be chosen.
        sets: How many disjoint sets of rows to solve.

    Returns:
        How often each column is chosen, some of them more than once, and with others that agree in
        fewer rows; None if there are too few rows to tell.
    """
    rows, columns = table.shape
    # Neighbours are often alike: take rows from all over.
    order = np.argsort(np.arange(rows).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    solved = []
    for _ in range(sets):
        size = columns + columns // 4 + _SPARE
        pool, order = order[:size], order[size:]
        used, reduced, pivots = _reduced(table[pool], wanted[pool])
        left = np.ones(len(pool), np.bool_)
        left[used] = False
        order = np.concatenate([order, pool[left]])
        is_free = np.ones(columns, np.bool_)
        is_free[pivots] = False
        free = np.flatnonzero(is_free)
        if int(np.prod(times[free] + 1, dtype=np.float64)) > 1 << MOST_OPEN:
            return None
        solved.append((reduced, pivots, free))
    return (choice for one in solved for choice in _choices(*one, times))


def _reduced(table: Prints, wanted: Prints) -> tuple[list[int], Prints, list[int]]:
    """Independent rows, what they leave open in reduced form, and the columns they decide.

    The reduced form has a line for each decided column: the columns left open, then what is wanted.
    """
    work = np.concatenate([table, wanted[:, None]], axis=1)
    names = np.arange(len(work))
    pivots: list[int] = []
    for column in range(table.shape[1]):
        top = len(pivots)
        rows = np.flatnonzero(work[top:, column])
        if not len(rows):
            continue
        row = top + int(rows[0])
        work[[top, row]] = work[[row, top]]
        names[[top, row]] = names[[row, top]]
        rows = rows[1:] + top
        line = multiply(work[top, column:], int(inverses(work[top, column : column + 1])[0]))
        work[top, column:] = line
        work[rows, column:] = _less(work[rows, column:], work[rows, column], line)
        pivots.append(column)
    is_left = np.ones(work.shape[1], np.bool_)
    is_left[pivots] = False
    left = work[: len(pivots), is_left]
    for place in range(len(pivots) - 1, 0, -1):
        left[:place] = _less(left[:place], work[:place, pivots[place]], left[place])
    return names[: len(pivots)].tolist(), left, pivots


def _less(lines: Prints, factors: Prints, line: Prints) -> Prints:
    """Each line less a multiple of another."""
    both = np.repeat(factors[:, None], len(line), axis=1)
    return subtract(lines, multiply(both, np.broadcast_to(line, both.shape)))


def _choices(
    reduced: Prints,
    pivots: list[int],
    free: NDArray[np.int64],
    times: NDArray[np.int64],
) -> Iterator[NDArray[np.int64]]:
    options = list(product(*(range(int(n) + 1) for n in times[free])))
    tried = np.array(options, np.uint64).reshape(len(options), len(free)).T
    values = np.repeat(reduced[:, -1:], len(options), axis=1)
    for number in range(len(free)):
        factors = np.broadcast_to(reduced[:, number, None], values.shape)
        values = subtract(values, multiply(factors, np.broadcast_to(tried[number], values.shape)))
    fits = (values <= times[pivots].astype(np.uint64)[:, None]).all(axis=0)
    for index in np.flatnonzero(fits):
        choice = np.zeros(len(times), np.int64)
        choice[pivots] = values[:, index].astype(np.int64)
        choice[free] = tried[:, index].astype(np.int64)
        yield choice
