"""The differencing guard, attack by attack, without SQL: what an analyst could ask in turn."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from release_world import ROWS, UNITS, Cells, Holder, result, total, values

from luoshu.sandbox.release import comparing
from luoshu.sandbox.release.aggregate import AggregateRules
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.release.thresholds import Rule
from luoshu.sandbox.schema import Component

K = 10
EVERYONE = range(1000)


@pytest.fixture
def holder(tmp_path: Path) -> Holder:
    return Holder(tmp_path, AggregateRules(K, jitter=0))


def people(*units: int | range) -> dict[int, tuple[int]]:
    """One row each."""
    named = [[one] if isinstance(one, int) else list(one) for one in units]
    return {unit: (1,) for some in named for unit in some}


def one(cells: dict[int, tuple[int, ...]], *components: Component, query: str) -> CellQueryResult:
    return result({(): cells}, components or (ROWS,), query=query)


def without(*units: int) -> dict[int, tuple[int]]:
    return {unit: (1,) for unit in EVERYONE if unit not in units}


def test_all_then_all_but_one(holder: Holder) -> None:
    assert holder.release(one(without(), query="all")).rows == [[(1000,)]]
    released = holder.release(one(without(7), query="but one"))
    assert released.rows == [[(None,)]]
    assert released.conflicts == 1
    assert not released.additions
    assert [item.rule for item in released.explained] == [Rule.HISTORY]


def test_all_but_one_then_all(holder: Holder) -> None:
    holder.release(one(without(7), query="but one"))
    assert holder.release(one(without(), query="all")).rows == [[(None,)]]


@pytest.mark.parametrize(("left_out", "is_out"), [(9, False), (10, True)])
def test_differences_of_min_units_come_out(holder: Holder, left_out: int, is_out: bool) -> None:
    holder.release(one(without(), query="all"))
    released = holder.release(one(without(*range(left_out)), query="some"))
    assert (released.rows[0][0][0] is not None) == is_out


def test_the_same_again_comes_out_again_and_adds_nothing(holder: Holder) -> None:
    holder.release(one(without(), query="all"))
    again = holder.release(one(without(), query="all, in other words"))
    assert again.rows == [[(1000,)]]
    assert not again.additions


def test_an_exchange_of_people_is_seen(holder: Holder) -> None:
    """Equal counts of other people, ten of them: five went, five came, is too few."""
    holder.release(one(people(range(100)), query="one"))
    assert holder.release(one(people(range(4, 104)), query="two")).rows == [[(None,)]]
    assert holder.release(one(people(range(5, 105)), query="three")).rows == [[(100,)]]


def test_rows_of_the_same_people_are_seen(holder: Holder) -> None:
    """A superset by more rows of the same nine people differs in their contributions."""
    many = dict.fromkeys(range(100), (3,))
    holder.release(one(many, query="some rows"))
    more = {unit: (4 if unit < 9 else 3,) for unit in range(100)}
    assert holder.release(one(more, query="more rows")).rows == [[(None,)]]


def test_what_is_added_up_is_compared_and_not_its_total(holder: Holder) -> None:
    holder.release(one({unit: (unit,) for unit in range(1, 101)}, total("x"), query="sum"))
    shifted = {unit: (unit,) for unit in range(1, 101)}
    shifted[1], shifted[2] = (2,), (1,)
    assert holder.release(one(shifted, total("x"), query="other")).rows == [[(None,)]]


def test_only_equal_monomials_are_compared(holder: Holder) -> None:
    holder.release(one({unit: (unit + 1,) for unit in range(100)}, total("x"), query="x"))
    others = {unit: (unit + 1,) for unit in range(99)}
    assert holder.release(one(others, total("y"), query="y")).rows == [[(4950,)]]


def test_another_scale_of_a_column_is_compared(holder: Holder) -> None:
    holder.release(one({unit: (unit + 1,) for unit in range(100)}, total("x"), query="x"))
    finer = {unit: (100 * (unit + 1),) for unit in range(99)}
    assert holder.release(one(finer, total("x", scale=2), query="finer")).rows == [[(None,)]]


@pytest.mark.parametrize("times", [2, 3, 1000, -1])
def test_multiples_are_compared(holder: Holder, times: int) -> None:
    """A join with two public rows doubles everybody's contribution."""
    amounts = {unit: (unit % 7 + 1,) for unit in range(100)}
    holder.release(one(amounts, total("x"), query="plain"))
    del amounts[7]
    more = {unit: (times * amount,) for unit, (amount,) in amounts.items()}
    assert holder.release(one(more, total("x"), query="multiplied")).rows == [[(None,)]]
    more = {unit: (times * amount,) for unit, (amount,) in list(amounts.items())[10:]}
    assert holder.release(one(more, total("x"), query="of others")).rows != [[(None,)]]


@pytest.mark.parametrize("groups", [3, 20])
def test_multiples_of_unions_are_compared(holder: Holder, groups: int) -> None:
    amounts = {unit: (unit % 7 + 1,) for unit in range(groups * 50)}
    cells = {
        (f"g{group:02}",): {u: a for u, a in amounts.items() if u % groups == group}
        for group in range(groups)
    }
    holder.release(result(cells, [total("x")], query="groups"))
    del amounts[7]
    more = {unit: (2 * amount,) for unit, (amount,) in amounts.items()}
    assert holder.release(one(more, total("x"), query="doubled")).rows == [[(None,)]]


def test_groups_of_a_doubled_total_are_compared(holder: Holder) -> None:
    amounts = {unit: (unit % 7 + 1,) for unit in range(150)}
    doubled = {unit: (2 * amount,) for unit, (amount,) in amounts.items()}
    holder.release(one(doubled, total("x"), query="doubled"))
    del amounts[7]
    cells = {
        (f"g{group}",): {u: a for u, a in amounts.items() if u % 3 == group} for group in range(3)
    }
    assert len(holder.release(result(cells, [total("x")], query="groups")).rows[0]) == 2


def test_counts_of_rows_and_of_units_are_compared(holder: Holder) -> None:
    holder.release(one(without(), ROWS, query="rows"))
    assert holder.release(one(without(7), UNITS, query="units")).rows == [[(None,)]]


def test_high_powers_of_even_numbers_leave_a_trace(holder: Holder) -> None:
    """Modulo 2^64 these contributions are all 0."""
    huge = {unit: (((unit % 7 + 1) << 68),) for unit in range(100)}
    holder.release(one(huge, total("x", "x", wide=True), query="all"))
    del huge[7]
    again = holder.release(one(huge, total("x", "x", wide=True), query="but one"))
    assert again.rows == [[(None,)]]


PARTITION: Cells = {
    ("a",): people(range(100)),
    ("b",): people(range(100, 130)),
    ("c",): people(range(130, 150)),
    ("d",): people(range(150, 153)),
}


def test_total_then_partition(holder: Holder) -> None:
    """The smallest of the other groups is withheld, or `d` would follow by subtraction."""
    holder.release(one(people(range(153)), query="total"))
    released = holder.release(result(PARTITION, [ROWS], query="partition"))
    assert values(released) == {("a",): (100,), ("b",): (30,)}


def test_partition_then_total(holder: Holder) -> None:
    holder.release(result(PARTITION, [ROWS], query="partition"))
    assert holder.release(one(people(range(153)), query="total")).rows == [[(None,)]]


def test_rollup(holder: Holder) -> None:
    totals = one(people(range(153)), query="rollup ()")
    released = holder.release(result(PARTITION, [ROWS], query="rollup (k)"), totals)
    assert values(released) == {("a",): (100,), ("b",): (30,)}
    assert released.rows[1] == [(153,)]
    assert released.conflicts == 0  # conflicts inside one computation aren't debited
    assert {item.rule for item in released.explained} == {Rule.THRESHOLD, Rule.RESULT}


def test_what_was_out_before_is_not_what_is_withheld(holder: Holder) -> None:
    holder.release(result(PARTITION, [ROWS], query="partition"))
    totals = one(people(range(153)), query="rollup ()")
    released = holder.release(result(PARTITION, [ROWS], query="rollup (k)"), totals)
    assert values(released) == {("a",): (100,), ("b",): (30,), ("c",): (20,)}
    assert released.rows[1] == [(None,)]


def test_components_of_one_cell_are_compared(holder: Holder) -> None:
    """count(*) beside count(x), where x is NULL for nine people."""
    cells = {unit: (1, int(unit >= 9)) for unit in range(100)}
    assert holder.release(one(cells, ROWS, ROWS, query="q")).rows == [[(100, None)]]


def test_filters_that_add_up_are_compared(holder: Holder) -> None:
    """count(*) beside count(*) FILTER (f) and count(*) FILTER (m); nine are neither."""
    cells = {unit: (1, int(unit < 40), int(40 <= unit < 91)) for unit in range(100)}
    released = holder.release(one(cells, ROWS, ROWS, ROWS, query="q"))
    assert released.rows == [[(100, None, 51)]]


def test_filters_that_add_up_in_each_of_many_cells(holder: Holder) -> None:
    cells = {
        (f"k{cell:02}",): {
            unit + 100 * cell: (1, int(unit < 40), int(40 <= unit < 91)) for unit in range(100)
        }
        for cell in range(30)
    }
    released = holder.release(result(cells, [ROWS, ROWS, ROWS], query="q"))
    assert set(values(released).values()) == {(100, None, 51)}


@pytest.mark.parametrize(
    ("groups", "cells_of_a_unit", "most_tried"),
    [(8, 1, 1), (8, 1, 10), (8, 3, 10), (40, 1, 10), (40, 3, 10)],
)
def test_a_few_groups_that_make_up_another(
    holder: Holder,
    monkeypatch: pytest.MonkeyPatch,
    groups: int,
    cells_of_a_unit: int,
    most_tried: int,
) -> None:
    """Half of the groups, less one person, asked for at once; units may be in several groups."""
    monkeypatch.setattr(comparing, "_FEW_ITEMS", most_tried)
    cells: dict[tuple[str], dict[int, tuple[int]]] = {}
    for unit in range(groups * 30):
        for step in range(cells_of_a_unit):
            group = (unit * 7 + step * (unit % 5 + 1)) % groups
            cells.setdefault((f"g{group:02}",), {})[unit] = (1 + unit % 3,)
    holder.release(result(cells, [ROWS], query="groups"))
    chosen = sorted(cells)[: groups // 2]
    added: dict[int, tuple[int]] = {}
    for name in chosen:
        for unit, (rows,) in cells[name].items():
            added[unit] = (added.get(unit, (0,))[0] + rows,)
    target = next(iter(added))
    del added[target]
    assert holder.release(one(added, query="union")).rows == [[(None,)]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("is_union_first", [True, False])
def test_groups_that_everybody_is_in_eight_of(
    holder: Holder, seed: int, is_union_first: bool
) -> None:
    """Where a search that goes step by step sees nothing, whatever it begins with."""
    rng = random.Random(seed)
    cells: dict[tuple[str], dict[int, tuple[int]]] = {(f"g{n:02}",): {} for n in range(14)}
    for unit in range(300):
        for name in rng.sample(sorted(cells), 8):
            cells[name][unit] = (1,)
    added = {unit: sum(unit in cells[name] for name in sorted(cells)[:7]) for unit in range(1, 300)}
    union = one({unit: (rows,) for unit, rows in added.items() if rows}, query="union")
    groups = result(cells, [ROWS], query="groups")
    if is_union_first:
        assert holder.release(union).rows != [[(None,)]]
        assert len(holder.release(groups).rows[0]) == 13
    else:
        assert len(holder.release(groups).rows[0]) == 14
        assert holder.release(union).rows == [[(None,)]]


def test_a_group_that_others_of_many_nearly_make_up(holder: Holder) -> None:
    """Within one result: everybody of two groups is in a third as well, but one person."""
    cells: Cells = {
        **{(f"g{n:02}",): people(range(n * 50, n * 50 + 50)) for n in range(14)},
        ("both",): people(range(1, 100)),
    }
    released = holder.release(result(cells, [ROWS], query="groups"))
    assert len(released.rows[0]) == 14
    assert {item.rule for item in released.explained} == {Rule.RESULT}


def test_earlier_total_against_new_groups_of_many(holder: Holder) -> None:
    holder.release(one(people(range(2000)), query="total"))
    cells = {(f"k{n:02}",): people(range(n * 50, n * 50 + 50)) for n in range(39)}
    cells["k39",] = people(range(1950, 1997))
    released = holder.release(result(cells, [ROWS], query="groups"))
    assert ("k39",) not in values(released)
    assert len(released.rows[0]) == 39


def test_two_versions_of_the_data(holder: Holder) -> None:
    holder.release(one(without(7), query="count"), data="before")
    released = holder.release(one(without(), query="count"), data="after")
    assert released.rows == [[(None,)]]
    assert released.conflicts == 0  # who asks the same on newer data isn't debited


def test_too_many_conflicts_release_nothing(holder: Holder) -> None:
    cells = {(f"k{n}",): people(range(n * 100, n * 100 + 50)) for n in range(8)}
    holder.release(result(cells, [ROWS], query="one"))
    for changed, is_out in ((4, True), (5, False)):
        other = {
            name: dict(list(units.items())[1:]) if place < changed else units
            for place, (name, units) in enumerate(cells.items())
        }
        released = holder.release(result(other, [ROWS], query="two"))
        assert released.conflicts == changed
        assert len(released.rows[0]) == (8 - changed if is_out else 0)
    assert Rule.CONFLICTS in {item.rule for item in released.explained}


def test_a_withheld_cell_is_compared_with_nothing(holder: Holder) -> None:
    """What never came out can't be subtracted."""
    holder.release(one(people(range(5)), query="few"))
    assert holder.release(one(people(range(12)), query="more")).rows == [[(12,)]]


def test_cells_of_other_people_are_no_conflict(holder: Holder) -> None:
    holder.release(one(people(range(50)), query="one"))
    assert holder.release(one(people(range(50, 100)), query="two")).rows == [[(50,)]]


@pytest.mark.parametrize("most_tried", [1, 10])
def test_large_cells_are_sampled_and_still_compared_exactly(
    holder: Holder, monkeypatch: pytest.MonkeyPatch, most_tried: int
) -> None:
    monkeypatch.setattr(comparing, "_FEW_ITEMS", most_tried)
    cells = {
        (f"k{n}",): {unit: (unit % 50 + n,) for unit in range(20_000) if unit % 4 != n}
        for n in range(4)
    }
    holder.release(result(cells, [ROWS], query="groups"))
    for n, (name, units) in enumerate(cells.items()):
        some = dict(units)
        for unit in list(units)[n * 1000 : n * 1000 + 9]:
            some[unit] = (some[unit][0] + 1,)
        assert holder.release(one(some, query=f"nearly {name}")).rows == [[(None,)]]
        for unit in list(units)[-1:]:
            some[unit] = (some[unit][0] + 1,)
        assert holder.release(one(some, query=f"far from {name}")).rows != [[(None,)]]
