"""The verifier alone, with plans of rewriters that forgot something, and with plans made up."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_world import Guard, open_guard

from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.schema import (
    BIGINT,
    HUGEINT,
    VARCHAR,
    CellSchema,
    Component,
    ComponentKind,
    ValueType,
)

INNER = (
    "SELECT ward AS k0, patient_id AS u, count(*) AS a0, sum(age) AS a1, count(age) AS a2 "
    "FROM visits WHERE sex = 'f' GROUP BY ward, patient_id"
)
OUTER = (
    "SELECT k0, sum(a0) AS c0, count(*) AS n0, "
    "sum(a1) AS c1, count(*) FILTER (WHERE a1 <> 0) AS n1 "
    "FROM ({inner}) GROUP BY k0"
)
GOOD = OUTER.format(inner=INNER)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    opened = open_guard(tmp_path_factory.mktemp("guard"))
    yield opened
    opened.close()


def test_cells_are_proved(guard: Guard) -> None:
    assert guard.verify(GOOD) == CellSchema(
        tables=("visits",),
        keys=(VARCHAR,),
        components=(
            Component(ComponentKind.ROWS, "visits", "", HUGEINT),
            Component(ComponentKind.SUM, "visits", "age", HUGEINT),
        ),
    )


def test_ungrouped_cells_are_proved(guard: Guard) -> None:
    schema = guard.verify(
        "SELECT count(*), count(*), sum(a0), count(*) FILTER (WHERE a0 <> 0) FROM "
        "(SELECT patient_id, sum(cost) AS a0 FROM visits GROUP BY patient_id)"
    )
    assert schema.keys == ()
    assert [(c.kind, c.type) for c in schema.components] == [
        (ComponentKind.UNITS, BIGINT),
        (ComponentKind.SUM, ValueType("DECIMAL", 38, 2)),
    ]


@pytest.mark.parametrize(
    "condition",
    [
        "age = 3",
        "age <> CAST('3' AS BIGINT)",
        "cost < CAST('1.25' AS DECIMAL(18,2))",
        "day >= DATE '2024-01-01'",
        "seen_at <= TIMESTAMP '2024-01-01 00:00:00'",
        "urgent = CAST('true' AS BOOLEAN)",
        "note > 'a'",
        "note IN ('a', 'b')",
        "ward IS NULL",
        "ward IS NOT NULL AND sex = 'f' AND age = CAST('-1' AS BIGINT)",
    ],
)
def test_condition(guard: Guard, condition: str) -> None:
    # A whole number beside a BIGINT column is cast as a number: only texts are accepted.
    sql = GOOD.replace("sex = 'f'", condition)
    if condition == "age = 3":
        with pytest.raises(GuardRefusalError):
            guard.verify(sql)
    else:
        assert guard.verify(sql).components


FORGETFUL = {
    "no unit below": GOOD.replace("GROUP BY ward, patient_id", "GROUP BY ward, ward").replace(
        "patient_id AS u, ", ""
    ),
    "no grouping at all": "SELECT ward, count(*), count(*) FROM visits GROUP BY ward",
    "distinct units in one level": (
        "SELECT ward, count(*), count(DISTINCT patient_id) FROM visits GROUP BY ward"
    ),
    "rows": "SELECT ward, age, age, cost, cost FROM visits",
    "contributions": INNER,
    "contributions without unit": INNER.replace("patient_id AS u, ", ""),
    "no number of units": GOOD.replace(", count(*) FILTER (WHERE a1 <> 0) AS n1", ""),
    "units of all rows for a sum": GOOD.replace(" FILTER (WHERE a1 <> 0)", ""),
    "units of another component": GOOD.replace("WHERE a1 <> 0", "WHERE a2 <> 0"),
    "units counted by rows": GOOD.replace("count(*) AS n0", "sum(a0) AS n0"),
    "units with another value": GOOD.replace("a1 <> 0", "a1 <> 1"),
    "units of positive values": GOOD.replace("a1 <> 0", "a1 > 0"),
    "units of non-null values": GOOD.replace("a1 <> 0", "a1 IS NOT NULL"),
    "units by a constant": GOOD.replace("WHERE a1 <> 0", "WHERE true"),
    "units by OR": GOOD.replace("a1 <> 0", "a1 <> 0 OR a0 <> 0"),
    "pairs swapped": GOOD.replace("sum(a0) AS c0, count(*) AS n0", "count(*) AS n0, sum(a0) AS c0"),
    "key missing": GOOD.replace("SELECT k0, ", "SELECT "),
    "key last": GOOD.replace("SELECT k0, ", "SELECT ").replace(" AS n1 FROM", " AS n1, k0 FROM"),
    "key twice": GOOD.replace("SELECT k0, ", "SELECT k0, k0, "),
    "fewer keys above": GOOD.replace("GROUP BY k0", "").replace("SELECT k0, ", "SELECT "),
    "more keys below": GOOD.replace("GROUP BY ward, patient_id", "GROUP BY ward, patient_id, day"),
    "unit as key": GOOD.replace("SELECT k0", "SELECT u").replace("GROUP BY k0", "GROUP BY u"),
    "unit beside key": GOOD.replace("SELECT k0", "SELECT k0, u").replace(
        "GROUP BY k0", "GROUP BY k0, u"
    ),
    "unit added up": GOOD.replace("sum(a0)", "sum(u)"),
    "key of undeclared use": GOOD.replace("ward AS k0", "age AS k0").replace(
        "GROUP BY ward", "GROUP BY age"
    ),
    "key of an expression": GOOD.replace("ward AS k0", "upper(ward) AS k0").replace(
        "GROUP BY ward", "GROUP BY upper(ward)"
    ),
    "sum of undeclared use": GOOD.replace("sum(age)", "count(note)"),
    "minimum below": GOOD.replace("sum(age)", "min(age)"),
    "maximum above": GOOD.replace("sum(a1)", "max(a1)"),
    "average above": GOOD.replace("sum(a1)", "avg(a1)"),
    "list above": GOOD.replace("sum(a1)", "list(a1)"),
    "first above": GOOD.replace("sum(a1)", "first(a1)"),
    "count of contributions above": GOOD.replace("sum(a1)", "count(a1)"),
    "distinct sum above": GOOD.replace("sum(a1)", "sum(DISTINCT a1)"),
    "ordered sum above": GOOD.replace("sum(a1)", "sum(a1 ORDER BY a0)"),
    "filtered sum above": GOOD.replace("sum(a1)", "sum(a1) FILTER (WHERE a1 <> 0)"),
    "filtered sum below": GOOD.replace("sum(age)", "sum(age) FILTER (WHERE age <> 0)"),
    "sum of an expression": GOOD.replace("sum(age)", "sum(age + 0)"),
    "sum of a constant": GOOD.replace("sum(age)", "sum(1)"),
    "expression above": GOOD.replace("sum(a1)", "sum(a1) + 0"),
    "expression between": GOOD.replace("sum(a1)", "sum(a1 * 2)"),
    "having above": GOOD + " HAVING count(*) > 1",
    "having below": GOOD.replace("ward, patient_id)", "ward, patient_id HAVING sum(age) > 1)"),
    "filter between": GOOD.replace(" GROUP BY k0", " WHERE a0 > 1 GROUP BY k0"),
    "order above": GOOD + " ORDER BY k0",
    "limit above": GOOD + " LIMIT 3",
    "limit below": GOOD.replace(
        "WHERE sex = 'f' GROUP BY ward, patient_id", "GROUP BY ward, patient_id LIMIT 3"
    ),
    "distinct above": GOOD.replace("SELECT k0", "SELECT DISTINCT k0", 1),
    "window above": GOOD.replace("sum(a1) AS c1", "sum(sum(a1)) OVER () AS c1"),
    "rollup above": GOOD.replace("GROUP BY k0", "GROUP BY ROLLUP (k0)"),
    "rollup below": GOOD.replace("GROUP BY ward, patient_id", "GROUP BY ROLLUP (ward, patient_id)"),
    "sample below": GOOD.replace("FROM visits", "FROM visits TABLESAMPLE 10%"),
    "join below": GOOD.replace("FROM visits", "FROM visits CROSS JOIN range(9)"),
    "semi join below": GOOD.replace(
        "sex = 'f'", "patient_id IN (SELECT patient_id FROM visits LIMIT 3)"
    ),
    "union below": GOOD.replace("FROM visits", "FROM (FROM visits UNION ALL FROM visits)"),
    "subquery below": GOOD.replace("FROM visits", "FROM (FROM visits LIMIT 10)"),
    "other aggregation above": f"SELECT count(*), count(*) FROM ({GOOD})",
    "cells of cells": (
        f"SELECT k0, sum(c0), count(*) FROM (SELECT k0, c0 FROM ({GOOD})) GROUP BY k0"
    ),
    "filter on unit": GOOD.replace("sex = 'f'", "patient_id = 7"),
    "filter by OR": GOOD.replace("sex = 'f'", "sex = 'f' OR sex = 'm'"),
    "filter by NOT": GOOD.replace("sex = 'f'", "NOT sex = 'f'"),
    "filter by function": GOOD.replace("sex = 'f'", "upper(sex) = 'F'"),
    "filter by arithmetic": GOOD.replace("sex = 'f'", "age + 0 = CAST('1' AS BIGINT)"),
    "filter by column": GOOD.replace("sex = 'f'", "sex = ward"),
    "filter constant first": GOOD.replace("sex = 'f'", "'f' = sex"),
    "filter cast column": GOOD.replace("sex = 'f'", "age = 1.5"),
    "filter failing cast": GOOD.replace("sex = 'f'", "age = CAST('x' AS BIGINT)"),
    "filter overflowing cast": GOOD.replace(
        "sex = 'f'", "age = CAST('9223372036854775808' AS BIGINT)"
    ),
    "filter failing date": GOOD.replace("sex = 'f'", "day = DATE '2024-02-30'"),
    "filter lenient date": GOOD.replace("sex = 'f'", "day = DATE '2024-2-3'"),
    "filter try cast": GOOD.replace("sex = 'f'", "age = TRY_CAST('1' AS BIGINT)"),
    "filter null": GOOD.replace("sex = 'f'", "sex = NULL"),
    "filter in null": GOOD.replace("sex = 'f'", "sex IN ('f', NULL)"),
    "filter not in": GOOD.replace("sex = 'f'", "sex NOT IN ('f')"),
    "filter error": GOOD.replace("sex = 'f'", "sex = error('x')"),
    "filter random": GOOD.replace("sex = 'f'", "age < random()"),
    "row id": GOOD.replace("sum(age)", "sum(rowid)"),
}


@pytest.mark.parametrize("sql", FORGETFUL.values(), ids=FORGETFUL)
def test_rewriter_that_forgot_is_refused(guard: Guard, sql: str) -> None:
    assert sql != GOOD
    plan = guard.plan(sql)
    assert plan["error"] is False, "a plan that doesn't bind tests nothing"
    with pytest.raises(GuardRefusalError) as refused:
        guard.verify_plan(plan)
    assert refused.value.code == "GUARD_UNPROVEN"


def test_table_of_the_same_form_elsewhere_is_refused(guard: Guard) -> None:
    connection = guard.within
    connection.execute("CREATE TABLE memory.main.visits AS FROM p0.main.visits LIMIT 0")
    try:
        sql = GOOD.replace("FROM visits", "FROM memory.main.visits")
        with pytest.raises(GuardRefusalError, match="prepared table"):
            guard.verify(sql)
        connection.execute("CREATE VIEW memory.main.looks AS FROM p0.main.visits")
        # A view is expanded in the bound plan, so what it reads is seen.
        assert guard.verify(GOOD.replace("FROM visits", "FROM memory.main.looks")).components
        connection.execute("CREATE MACRO memory.main.sum(x) AS max(x)")
        with pytest.raises(GuardRefusalError):
            guard.verify(GOOD.replace("sum(age)", "memory.main.sum(age)"))
    finally:
        connection.execute("DROP VIEW IF EXISTS memory.main.looks")
        connection.execute("DROP MACRO IF EXISTS memory.main.sum")
        connection.execute("DROP TABLE memory.main.visits")


def objects(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict):
        yield path
        for key, value in node.items():
            yield from objects(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from objects(value, (*path, index))


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        node = node[step]
    return node


def test_unknown_field_anywhere_is_refused(guard: Guard) -> None:
    plan = guard.plan(GOOD)
    paths = [path for path in objects(plan) if path]
    assert len(paths) > 100
    for path in paths:
        changed = copy.deepcopy(plan)
        at(changed, path)["something_new"] = None
        with pytest.raises(GuardRefusalError):
            guard.verify_plan(changed)


# What may differ between plans of equal meaning: names for people, places in the text, and
# numbers that DuckDB gives to tables.
FREE = {
    "alias",
    "query_location",
    "query_location_length",
    "table_index",
    "group_index",
    "aggregate_index",
    "groupings_index",
}


def scalars(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from scalars(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from scalars(value, (*path, index))
    else:
        yield path


def test_any_changed_value_is_noticed(guard: Guard) -> None:
    plan = guard.plan(GOOD)
    good = guard.verify_plan(plan)
    missed = []
    for path in scalars(plan):
        if path[-1] in FREE:
            continue
        value = at(plan, path[:-1])[path[-1]]
        for other in ("other", None, True, 0, 7, []):
            if other == value and type(other) is type(value):
                continue
            changed = copy.deepcopy(plan)
            at(changed, path[:-1])[path[-1]] = other
            try:
                schema = guard.verify_plan(changed)
            except GuardRefusalError:
                continue
            missed.append((path, value, other, schema == good))
    # The text that a filter compares with may be any text; a column may be another one that is
    # declared for the same use and has the same type.
    allowed = [
        item
        for item in missed
        if item[0][-2:] == ("value", "value") or "column_indexes" in item[0] or "index" in item[0]
    ]
    assert missed == allowed


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        "",
        0,
        {"error": False},
        {"error": False, "plans": []},
        {"error": False, "plans": [None]},
        {"error": False, "plans": [{"type": "LOGICAL_GET"}]},
        {"error": True, "plans": []},
        {"error": 0, "plans": []},
    ],
)
def test_nonsense_is_refused(guard: Guard, document: object) -> None:
    with pytest.raises(GuardRefusalError):
        guard.verify_plan(document)


def test_deep_plan_is_refused(guard: Guard) -> None:
    plan: Any = guard.plan(GOOD)
    projection = plan["plans"][0]
    for _ in range(60):
        wrapped = {**projection, "children": [plan["plans"][0]]}
        plan = {"error": False, "plans": [wrapped]}
    with pytest.raises(GuardRefusalError, match="nested too deeply"):
        guard.verify_plan(plan)
