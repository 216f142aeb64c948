"""Items are excluded from unions for certain, or not at all."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from luoshu.sandbox.release.blocks import build
from luoshu.sandbox.release.outside import Outside

CELL = st.dictionaries(st.integers(0, 200), st.tuples(st.integers(0, 2), st.integers(0, 2)))


@given(
    cells=st.lists(CELL, min_size=1, max_size=6),
    target=st.sets(st.integers(0, 200), min_size=1),
    k=st.integers(1, 12),
)
def test_only_items_with_enough_units_outside_are_excluded(
    cells: list[dict[int, tuple[int, int]]], target: set[int], k: int
) -> None:
    rows = [(n, unit, *cell[unit]) for n, cell in enumerate(cells) for unit in sorted(cell)]
    starts = np.cumsum([0, *map(len, cells)])
    table = np.array(rows, np.int64).reshape(-1, 4)
    block = build(
        [("a",), ("b",)],
        starts,
        table[:, 1].astype(np.int32),
        table[:, 2:].T.astype(np.uint64),
        np.ones(len(table), np.uint64),
        query="",
        data="",
    )
    outside = Outside(block, k)
    for component in range(2):
        possible = outside.possible(np.array(sorted(target), np.int32), component)
        for number, cell in enumerate(cells):
            beyond = sum(
                bool(values[component]) for unit, values in cell.items() if unit not in target
            )
            if beyond < k:
                assert possible[number]
            elif len(cell) <= 64:  # looked at as a whole
                assert not possible[number]


def test_cells_of_other_people_are_excluded() -> None:
    starts = np.array([0, 100_000, 200_000])
    unit = np.arange(200_000, dtype=np.int32)
    prints = np.ones((1, 200_000), np.uint64)
    weights = np.ones(200_000, np.uint64)
    block = build([()], starts, unit, prints, weights, query="", data="")
    assert Outside(block, 10).possible(unit[:100_000], 0).tolist() == [True, False]
