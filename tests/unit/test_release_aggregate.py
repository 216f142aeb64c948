"""Release mode aggregate, cell by cell."""

from __future__ import annotations

import datetime as dt

import pytest

from luoshu.sandbox.release.aggregate import AggregateRules, release
from luoshu.sandbox.schema import (
    BIGINT,
    DATE,
    HUGEINT,
    VARCHAR,
    CellSchema,
    Component,
    ComponentKind,
    SchemaError,
)

ROWS = Component(ComponentKind.ROWS, "t", "", HUGEINT)
TOTAL = Component(ComponentKind.SUM, "t", "a", HUGEINT)
GROUPED = CellSchema(("t",), (VARCHAR,), (ROWS, TOTAL))
UNGROUPED = CellSchema(("t",), (), (ROWS, TOTAL))
RULES = AggregateRules(10)


def test_threshold_is_inclusive() -> None:
    released = release([("a", 30, 10, 5, 10), ("b", 30, 9, 5, 9)], GROUPED, RULES)
    assert released.rows == [("a", 30, 5)]
    assert (released.withheld_groups, released.withheld_values) == (1, 0)


def test_each_component_has_its_own_threshold() -> None:
    released = release([("a", 30, 10, 5, 9), ("b", 30, 9, 5, 10)], GROUPED, RULES)
    assert released.rows == [("a", 30, None), ("b", None, 5)]
    assert (released.withheld_groups, released.withheld_values) == (0, 2)


def test_ungrouped_cell_stays_as_nulls() -> None:
    released = release([(30, 9, 5, 9)], UNGROUPED, RULES)
    assert released.rows == [(None, None)]
    assert released.withheld_groups == 1


def test_sum_of_nothing_looks_withheld() -> None:
    assert release([(30, 10, None, 0)], UNGROUPED, RULES).rows == [(30, None)]


def test_rows_come_in_the_order_of_keys_null_last() -> None:
    cells = [(None, 1, 10, 1, 10), ("b", 1, 10, 1, 10), ("a", 1, 10, 1, 10)]
    assert [row[0] for row in release(cells, GROUPED, RULES).rows] == ["a", "b", None]
    dates = CellSchema(("t",), (DATE, BIGINT), (ROWS,))
    days = [
        (dt.date(2024, 1, 2), 2, 1, 10),
        (dt.date(2024, 1, 2), None, 1, 10),
        (dt.date(2024, 1, 1), 3, 1, 10),
    ]
    assert [row[:2] for row in release(days, dates, RULES).rows] == [
        (dt.date(2024, 1, 1), 3),
        (dt.date(2024, 1, 2), 2),
        (dt.date(2024, 1, 2), None),
    ]


@pytest.mark.parametrize("units", [None, True, "20", 20.0])
def test_number_of_units_must_be_a_number(units: object) -> None:
    assert release([(30, units, 5, 10)], UNGROUPED, RULES).rows == [(None, 5)]  # type: ignore[list-item]


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"mode": "aggregate"},
        {"mode": "aggregate", "min_units": 0},
        {"mode": "aggregate", "min_units": True},
        {"mode": "aggregate", "min_units": "10"},
        {"mode": "rows", "min_units": 10},
        {"mode": "aggregate", "min_units": 10, "jitter": 4},
    ],
)
def test_rules_that_are_not_understood_are_not_skipped(rules: dict[str, object]) -> None:
    with pytest.raises(SchemaError):
        AggregateRules.from_json(rules)


def test_released_schema_has_counts_as_bigint() -> None:
    assert GROUPED.row_types == (VARCHAR, HUGEINT, BIGINT, HUGEINT, BIGINT)
    assert GROUPED.released_types == (VARCHAR, BIGINT, HUGEINT)
    assert CellSchema.from_json(GROUPED.to_json()) == GROUPED
