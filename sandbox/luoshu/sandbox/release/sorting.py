"""Sets of numbers by sorting.

NumPy's own `unique` and `isin` load `numpy.ma` when first called: 20 ms, and modules that a worker
has no other use for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from luoshu.sandbox.arrays import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Array = TypeVar("_Array", bound=NDArray[Any])


def distinct(numbers: _Array) -> _Array:
    """The different numbers, sorted."""
    ordered = np.sort(numbers)
    return ordered[_changes(ordered)]  # type: ignore[return-value]  # of the same kind


def numbered_distinct(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different numbers, sorted, and for each number its place among them."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    changes = _changes(ordered)
    places = np.empty(len(numbers), np.int64)
    places[order] = np.cumsum(changes) - 1
    return ordered[changes], places


def among(numbers: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Which numbers are among others."""
    if not len(others):
        return np.zeros(numbers.shape, np.bool_)
    ordered = np.sort(others)
    places = np.searchsorted(ordered, numbers)
    places[places == len(ordered)] = 0
    return np.asarray(ordered[places] == numbers, np.bool_)


def _changes(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a sorted array's number is another than the one before."""
    changes = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    return changes
