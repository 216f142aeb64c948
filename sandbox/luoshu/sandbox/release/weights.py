"""What a sum with weights may tell, judged by the binary digits of the weights.

A sum with weights w is the sum over the digits i of 2^i times a plain sum: of those rows whose w
has the digit i. So it tells at most these plain sums, and is withheld unless each of them could be
told beside the others: any two of them, the sum of all rows, and that of none, differ in no unit or
in enough.

Known of each unit are the digits that are 1 in any of its rows and in all. Where two digits are
both 1 in some rows and 0 in others, they count as different.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from luoshu.sandbox.arrays import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from luoshu.sandbox.release.results import Flags, Longs

_SIGN = 63


def tell_few(
    masks: Sequence[tuple[Longs, Longs]], starts: Longs, needed: Longs, wanted: Flags
) -> Flags:
    """In which cells weights tell about too few units.

    Args:
        masks: For each weight of the same rows: by contribution the digits of any, and of all, of a
            unit's rows; 0 and -1 for a unit without rows.
        starts: See `results.cell_starts`.
        needed: Fewest units, by cell.
        wanted: Which cells to look at; False for all others.
    """
    result = np.zeros(len(needed), np.bool_)
    for cell in np.flatnonzero(wanted):
        rows = slice(int(starts[cell]), int(starts[cell + 1]))
        result[cell] = _differ_little([(a[rows], b[rows]) for a, b in masks], int(needed[cell]))
    return result


def _differ_little(masks: Sequence[tuple[Longs, Longs]], needed: int) -> bool:
    some, every = masks[0]
    present = (every & ~some) == 0
    units = int(present.sum())
    # What is in every row, and in no row, of each unit: of all rows, of none, and of each digit.
    ones = [np.ones(units), np.zeros(units)]
    zeros = [np.zeros(units), np.ones(units)]
    for any_row, all_rows in masks:
        some, every = any_row[present], all_rows[present]
        for digit in _digits(some, every):
            ones.append((every >> digit & 1).astype(np.float64))
            zeros.append((~some >> digit & 1).astype(np.float64))
    one, zero = np.stack(ones), np.stack(zeros)
    differing: NDArray[np.float64] = units - (one @ one.T + zero @ zero.T)
    np.fill_diagonal(differing, 0)
    return bool(((differing > 0) & (differing < needed)).any())


def _digits(some: Longs, every: Longs) -> list[int]:
    """The digits that aren't merely copies of the sign, and the sign if any weight has one."""
    used = int(np.bitwise_or.reduce((some ^ some >> _SIGN) | (every ^ every >> _SIGN), initial=0))
    found = [digit for digit in range(_SIGN) if used >> digit & 1]
    return [*found, _SIGN] if (some < 0).any() else found
