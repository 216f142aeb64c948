"""Release mode aggregate, cell by cell: what one cell may release by itself."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from release_world import ROWS, SECRET, SET, UNITS, result, total, values

from luoshu.sandbox.release.aggregate import AggregateRules, Released, release
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.release.thresholds import Rule
from luoshu.sandbox.schema import (
    BIGINT,
    DATE,
    VARCHAR,
    CellSchema,
    Component,
    ComponentKind,
    SchemaError,
)

RULES = AggregateRules(10, jitter=0)
JITTERED = AggregateRules(10, jitter=4)


def units(count: int, *amounts: int, start: int = 0) -> dict[int, tuple[int, ...]]:
    return dict.fromkeys(range(start, start + count), amounts)


def out(*results: CellQueryResult, rules: AggregateRules = RULES) -> Released:
    return release(results, rules, SECRET)


def rules_of(released: Released) -> set[Rule]:
    return {item.rule for item in released.explained}


def test_threshold_is_inclusive() -> None:
    released = out(
        result({("a",): units(10, 3), ("b",): units(9, 3, start=20)}, [ROWS]),
    )
    assert released.rows == [[("a", 30)]]
    assert (released.withheld_groups, released.withheld_values) == (1, 0)
    assert rules_of(released) == {Rule.THRESHOLD}


def test_units_without_a_contribution_do_not_count() -> None:
    cells = {("a",): {**units(10, 1, 5), **units(90, 1, 0, start=10)}}
    assert out(result(cells, [ROWS, total("x")])).rows == [[("a", 100, 50)]]
    cells = {("a",): {**units(9, 1, 5), **units(91, 1, 0, start=9)}}
    released = out(result(cells, [ROWS, total("x")]))
    assert released.rows == [[("a", 100, None)]]
    assert (released.withheld_groups, released.withheld_values) == (0, 1)


def test_each_component_is_decided_by_itself() -> None:
    cells = {("a",): {**units(20, 1, 0, 2), **units(5, 0, 7, 0, start=20)}}
    released = out(result(cells, [ROWS, total("x"), total("y")]))
    assert released.rows == [[("a", 20, None, 40)]]


def test_an_ungrouped_cell_stays_as_nulls() -> None:
    released = out(result({(): units(9, 1, 1)}, [ROWS, total("x")]))
    assert released.rows == [[(None, None)]]
    assert released.withheld_groups == 1
    assert out(result({(): {}}, [ROWS], keys=())).rows == [[(None,)]]


def test_nothing_of_a_set_comes_out_and_a_small_one_withholds_its_cell() -> None:
    cells = {
        ("none",): units(20, 1, 0),
        ("enough",): {**units(10, 1, 1, start=100), **units(10, 1, 0, start=110)},
        ("few",): {**units(9, 1, 1, start=200), **units(11, 1, 0, start=209)},
    }
    released = out(result(cells, [ROWS, SET]))
    assert values(released) == {("enough",): (20,)}  # nobody there is withheld like somebody
    assert rules_of(released) == {Rule.SET}


def test_a_count_of_units_counts_each_once() -> None:
    cells = {(): {**units(10, 500), **units(10, 1, start=10)}}
    assert out(result(cells, [UNITS])).rows == [[(20,)]]


@pytest.mark.parametrize(
    ("largest", "is_out"), [(850, True), (851, False), (-850, True), (-851, False)]
)
def test_no_unit_dominates(largest: int, is_out: bool) -> None:
    """850 of 1000 is 85 %; the others' absolute contributions are 150."""
    others = {unit: (15 if unit % 2 else -15,) for unit in range(1, 11)}
    released = out(result({(): {0: (largest,), **others}}, [total("x")]))
    assert released.rows == [[(largest if is_out else None,)]]
    assert rules_of(released) == (set() if is_out else {Rule.DOMINANCE})


def test_dominance_is_decided_exactly_for_wide_sums() -> None:
    least = 10**30
    for more, is_out in ((0, True), (1, False)):
        amounts = {0: (85 * least + more,), **dict.fromkeys(range(1, 16), (least,))}
        released = out(result({(): amounts}, [total("x", "x", wide=True)]))
        assert (released.rows[0][0][0] is not None) == is_out


def test_counts_can_be_dominated_too() -> None:
    cells = {(): {0: (1000,), **units(20, 1, start=1)}}
    assert out(result(cells, [ROWS])).rows == [[(None,)]]


def test_a_sum_at_a_declared_bound_is_withheld() -> None:
    bounded = Component(ComponentKind.SUM, ("x",), 1, (0, 55), rows=0)
    for amount, is_out in ((110, False), (109, True)):
        released = out(result({(): units(12, 2, amount)}, [ROWS, bounded]))
        value = Decimal(12 * amount).scaleb(-1)
        assert released.rows == [[(24, value if is_out else None)]]
    negative = Component(ComponentKind.SUM, ("x",), 0, (-3, 5), rows=0)
    assert out(result({(): units(12, 2, -6)}, [ROWS, negative])).rows == [[(24, None)]]


def test_a_prefix_comes_out_whole_or_not_at_all() -> None:
    """COUNT(DISTINCT illness) by ward: each illness must reach the threshold."""
    cells = {
        ("w1", "flu"): units(20, 1),
        ("w1", "plague"): units(3, 1, start=100),
        ("w2", "flu"): units(20, 1, start=200),
    }
    released = out(result(cells, [ROWS], prefix=1))
    assert released.rows == [[("w2", "flu", 20)]]
    assert rules_of(released) == {Rule.THRESHOLD, Rule.PREFIX}
    assert out(result(cells, [ROWS], prefix=0)).rows == [[]]
    assert len(out(result(cells, [ROWS])).rows[0]) == 2


def test_jitter_is_sticky_and_keyed() -> None:
    def shown(secret: bytes, count: int, first: int) -> bool:
        cells = {(): units(count, 1, start=first)}
        released = release([result(cells, [ROWS])], JITTERED, secret)
        return released.rows[0][0][0] is not None

    for first in range(0, 300, 15):
        assert shown(SECRET, 12, first) == shown(SECRET, 12, first)
        assert shown(SECRET, 14, first)
        assert not shown(SECRET, 9, first)
    ours = [shown(SECRET, 12, first) for first in range(0, 900, 15)]
    theirs = [shown(bytes(32), 12, first) for first in range(0, 900, 15)]
    assert 20 < sum(ours) < 52  # three of five values of the jitter let twelve units pass
    assert ours != theirs


def test_jitter_depends_on_the_units_and_not_on_the_component() -> None:
    for first in range(0, 300, 15):
        cells = {(): {unit: (1, unit + 7, 3) for unit in range(first, first + 12)}}
        (row,) = release([result(cells, [ROWS, total("a"), total("b")])], JITTERED, SECRET).rows[0]
        assert len({value is None for value in row}) == 1


def test_rows_come_in_the_order_of_keys_null_last() -> None:
    cells = {
        (None,): units(10, 1),
        ("b",): units(10, 1, start=20),
        ("a",): units(10, 1, start=40),
    }
    assert [row[0] for row in out(result(cells, [ROWS])).rows[0]] == ["a", "b", None]
    days = {
        (dt.date(2024, 1, 2), 2): units(10, 1),
        (dt.date(2024, 1, 2), None): units(10, 1, start=20),
        (dt.date(2024, 1, 1), 3): units(10, 1, start=40),
    }
    assert [row[:2] for row in out(result(days, [ROWS], keys=(DATE, BIGINT))).rows[0]] == [
        (dt.date(2024, 1, 1), 3),
        (dt.date(2024, 1, 2), 2),
        (dt.date(2024, 1, 2), None),
    ]


def test_rows_of_public_tables_come_out_as_they_are() -> None:
    schema = CellSchema((), (VARCHAR,), ())
    public = result({("a",): {}}, [])
    public = CellQueryResult(schema, [("b",), ("a",), ("a",)], public.found)
    assert out(public).rows == [[("a",), ("a",), ("b",)]]


def test_several_results_come_out_together() -> None:
    one = result({("a",): units(10, 1)}, [ROWS])
    two = result({(): units(30, 2, start=50)}, [total("x")])
    assert out(one, two).rows == [[("a", 10)], [(60,)]]


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"mode": "aggregate"},
        {"mode": "aggregate", "min_units": 0},
        {"mode": "aggregate", "min_units": True},
        {"mode": "aggregate", "min_units": "10"},
        {"mode": "rows"},
        {"mode": "aggregate", "dominance_ppm": 1_000_001},
        {"mode": "aggregate", "jitter": -1},
        {"mode": "aggregate", "rows": 4},
    ],
)
def test_rules_that_are_not_understood_are_not_skipped(rules: dict[str, object]) -> None:
    whole = RULES.to_json()
    assert AggregateRules.from_json(whole) == RULES
    changed = {**whole, **rules} if len(rules) > 1 or rules.get("mode") == "rows" else rules
    with pytest.raises(SchemaError):
        AggregateRules.from_json(changed)
