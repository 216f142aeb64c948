"""The search for unions, against trying every one of them in plain Python."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from release_world import ROWS, Holder, result, total

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release import unions
from luoshu.sandbox.release.aggregate import AggregateRules
from luoshu.sandbox.release.fingerprints import PRIME
from luoshu.sandbox.release.puzzles import Puzzle
from luoshu.sandbox.release.unions import Effort, EntangledError, near_unions

Amounts = dict[int, int]
AMOUNTS = ([1], [1, 2], [1, -1, 2], list(range(1, 50)))


def drawn(
    rng: random.Random, items: int, units: int, kinds: Sequence[int]
) -> tuple[list[Amounts], Amounts]:
    """Items that share units more or less, and what nearly is the sum of some of them."""
    density = rng.choice([0.05, 0.1, 0.3, 0.6, 0.9])
    found = [
        {unit: rng.choice(kinds) for unit in range(units) if rng.random() < density}
        for _ in range(items)
    ]
    if items > 2 and rng.random() < 0.3:
        found[-1] = dict(found[0])
    target = added([item for item in found if rng.random() < 0.5])
    for unit in rng.sample(range(units), min(units, rng.randint(0, 6))):
        target[unit] = target.get(unit, 0) + rng.choice([-1, 1, 2])
    return found, {unit: amount for unit, amount in target.items() if amount}


def added(items: Sequence[Amounts]) -> Amounts:
    found: Amounts = {}
    for item in items:
        for unit, amount in item.items():
            found[unit] = found.get(unit, 0) + amount
    return found


def differing(first: Amounts, second: Amounts) -> int:
    return sum(first.get(unit, 0) != second.get(unit, 0) for unit in first.keys() | second.keys())


def every_union(items: Sequence[Amounts]) -> list[tuple[int, Amounts]]:
    """Each union's number of items and amounts; one is made from another by a single item."""
    now: Amounts = {}
    chosen: set[int] = set()
    found = [(0, {})]
    gray = [number ^ number >> 1 for number in range(1 << len(items))]
    for before, after in pairwise(gray):
        item = (before ^ after).bit_length() - 1
        sign = -1 if item in chosen else 1
        chosen ^= {item}
        for unit, amount in items[item].items():
            now[unit] = now.get(unit, 0) + sign * amount
        found.append((len(chosen), {unit: amount for unit, amount in now.items() if amount}))
    return found


def puzzle(items: Sequence[Amounts], target: Amounts, units: int) -> Puzzle:
    entries = sorted(
        (unit, number, amount % PRIME)
        for number, item in enumerate(items)
        for unit, amount in item.items()
    )
    return Puzzle(
        np.array([target.get(unit, 0) % PRIME for unit in range(units)], np.uint64),
        np.array([unit for unit, _, _ in entries], np.int64),
        np.array([number for _, number, _ in entries], np.int64),
        np.array([amount for _, _, amount in entries], np.uint64),
        np.arange(len(items)),
    )


@pytest.mark.parametrize(
    ("few", "table", "most_items"),
    [(10, 1 << 21, 256), (0, 1, 256), (0, 1, 0)],
    ids=["subsets", "elimination", "both ways"],
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 6), kinds=st.sampled_from(AMOUNTS))
def test_every_near_union_is_found_whichever_way(
    few: int, table: int, most_items: int, seed: int, limit: int, kinds: list[int]
) -> None:
    rng = random.Random(seed)
    units = rng.randint(4, 60)
    items, target = drawn(rng, rng.randint(1, 8), units, kinds)
    expected = {
        (differing(target, union), min(size, 2))
        for size, union in every_union(items)
        if differing(target, union) < limit
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unions, "_FEW", few)
        patch.setattr(unions, "_TABLE", table)
        patch.setattr(unions, "MOST_ITEMS", most_items)
        found = near_unions(puzzle(items, target, units), limit, Effort())
    assert set(found) == expected
    for (wrong, size), names in found.items():
        assert differing(target, added([items[name] for name in names])) == wrong
        assert min(len(set(names)), 2) == min(len(names), 2) == size


@pytest.mark.parametrize("of_a_unit", [1, 3, 20])
@pytest.mark.parametrize("wrong", [0, 1, 9, 10])
def test_unions_of_many_items_that_share_units_are_found(of_a_unit: int, wrong: int) -> None:
    """Forty items: nobody can try all unions; elimination and evidence don't have to."""
    rng = random.Random(1000 * of_a_unit + wrong)
    items: list[Amounts] = [{} for _ in range(40)]
    for unit in range(1200):
        for number in rng.sample(range(40), of_a_unit):
            items[number][unit] = rng.choice([1, 2])
    target = added(items[:20])
    for unit in list(target)[:wrong]:
        target[unit] += 3
    found = near_unions(puzzle(items, target, 1200), 10, Effort())
    assert {few for few, _ in found} == ({wrong} if wrong < 10 else set())
    assert {tuple(sorted(names)) for names in found.values()} <= {tuple(range(20))}


def test_the_search_ends_and_gives_back_what_it_did_not_need() -> None:
    rng = random.Random(7)
    items: list[Amounts] = [{} for _ in range(40)]
    for unit in range(150):
        for number in rng.sample(range(40), 20):
            items[number][unit] = 1
    target = added(items[:20])
    effort = Effort(1_000_000)
    with pytest.raises(EntangledError):  # too few people to tell forty cells apart
        near_unions(puzzle(items, target, 150), 10, effort)
    assert effort.left == 0
    # What needs no more than a look at everything is found all the same.
    assert (0, 2) in near_unions(puzzle(items[:9], added(items[:3]), 150), 10, effort)
    apart = [dict.fromkeys(range(n * 20, n * 20 + 20), 1) for n in range(300)]
    assert (0, 2) in near_unions(puzzle(apart, added(apart[:150]), 6000), 10, effort)
    wide = Effort(5_000_000)
    rich: list[Amounts] = [{} for _ in range(40)]
    for unit in range(1200):
        for number in rng.sample(range(40), 20):
            rich[number][unit] = 1
    assert (0, 2) in near_unions(puzzle(rich, added(rich[:20]), 1200), 10, wide)
    assert 0 < wide.left < 5_000_000


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    min_units=st.integers(2, 5),
    kinds=st.sampled_from([[1], [1, 2], list(range(1, 50))]),
    is_target_first=st.booleans(),
)
def test_no_union_of_many_cells_of_one_result_differs_by_too_few(
    seed: int, min_units: int, kinds: list[int], is_target_first: bool
) -> None:
    """Eleven and more cells, and every unit in several of them: what was searched only before."""
    rng = random.Random(seed)
    units = rng.randint(12, 40)
    items, target = drawn(rng, rng.randint(11, 12), units, kinds)
    component = ROWS if max(kinds) < 3 else total("x")
    cells = {
        (f"g{number:02}",): {unit: (amount,) for unit, amount in item.items()}
        for number, item in enumerate(items)
        if item
    }
    if not cells or not target:
        return
    questions = [
        result(cells, [component], query="cells"),
        result({("t",): {u: (amount,) for u, amount in target.items()}}, [component], query="t"),
    ]
    with tempfile.TemporaryDirectory() as directory:
        holder = Holder(
            Path(directory), AggregateRules(min_units, 0, 1_000_000, max_conflicts=1000)
        )
        released = [holder.release(each).rows[0] for each in questions[:: 1 - 2 * is_target_first]]
    groups, targets = released[:: 1 - 2 * is_target_first]
    out = [items[int(str(key)[1:])] for key, value in groups if value is not None]
    for number, item in enumerate(out):
        others = out[:number] + out[number + 1 :]
        few = {differing(item, union) for size, union in every_union(others) if size}
        assert not few & set(range(1, min_units))
    if targets and out:
        few = {differing(target, union) for size, union in every_union(out) if size}
        assert not few & set(range(1, min_units))
