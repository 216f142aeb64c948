"""What the rewriter makes of accepted queries: names, constants, both stages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sandbox_world import Guard, open_guard

from luoshu.sandbox.errors import GuardRefusalError, QueryError
from luoshu.sandbox.guard.constants import ConstantError, cast_succeeds, constant_text
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    TIMESTAMP,
    VARCHAR,
    ComponentKind,
    ValueType,
)

MONEY = ValueType("DECIMAL", 18, 2)


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    opened = open_guard(tmp_path_factory.mktemp("guard"))
    yield opened
    opened.close()


def test_both_stages(guard: Guard) -> None:
    checked = guard.check("SELECT sex, avg(age) AS mean FROM visits WHERE ward = 'w1' GROUP BY sex")
    assert checked.stage1 == (
        "SELECT k0, sum(a0) AS c0, count_star() FILTER (WHERE (a0 != 0)) AS n0, "
        "sum(a1) AS c1, count_star() FILTER (WHERE (a1 != 0)) AS n1 "
        "FROM (SELECT t.sex AS k0, t.patient_id AS u, sum(t.age) AS a0, count(t.age) AS a1 "
        "FROM p0.main.visits AS t WHERE (t.ward = CAST('w1' AS VARCHAR)) "
        "GROUP BY t.sex, t.patient_id) AS units GROUP BY k0"
    )
    assert checked.stage2 == (
        "SELECT k0 AS sex, CAST(format('{:.11e}', (CAST(c0 AS DOUBLE) / CAST(c1 AS DOUBLE))) "
        "AS DOUBLE) AS mean FROM cells"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT ward, count(*) FROM visits GROUP BY ward",
        "select WARD, COUNT(*) from VISITS group by Ward",
        'SELECT "ward", count(*) FROM "visits" GROUP BY "WARD"',
        "SELECT v.ward, count(*) FROM visits v GROUP BY v.ward",
        "SELECT V.ward, count(*) FROM visits AS v GROUP BY 1",
        "SELECT visits.ward, count(*) FROM visits GROUP BY ward",
        "SELECT ward AS w, count(*) FROM visits GROUP BY w",
        "SELECT ward AS w, count(*) FROM visits GROUP BY W;",
        "SELECT ward, count(*) FROM visits GROUP BY ward, 1, visits.ward",
        "FROM visits SELECT ward, count(*) GROUP BY ward -- comment",
        "SELECT /* comment */ ward, count(*) FROM visits GROUP BY (ward)",
    ],
)
def test_names_resolve_as_in_duckdb(guard: Guard, sql: str) -> None:
    checked = guard.check(sql)
    assert checked.cells.keys == (VARCHAR,)
    assert [c.kind for c in checked.cells.components] == [ComponentKind.ROWS]


def test_a_column_comes_before_an_alias_in_group_by(guard: Guard) -> None:
    # In DuckDB, too, `ward` in GROUP BY is the column; so `sex AS ward` isn't grouped.
    with pytest.raises(GuardRefusalError) as refused:
        guard.check("SELECT sex AS ward, count(*) FROM visits GROUP BY ward")
    assert refused.value.code == "GUARD_RAW_ROWS"


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT count(*) FROM visits", ["count_star()"]),
        ("SELECT count(*) AS n FROM visits", ["n"]),
        ("SELECT COUNT(DISTINCT Patient_ID) FROM visits", ["count(DISTINCT patient_id)"]),
        (
            "SELECT Sum(AGE), avg(cost), count(urgent) FROM visits",
            ["sum(age)", "avg(cost)", "count(urgent)"],
        ),
        ('SELECT count(*) AS "总数" FROM visits', ["总数"]),
        ("SELECT count(*) AS a, count(*) AS a FROM visits", ["a", "a"]),
        ("SELECT ward FROM visits GROUP BY ward", ["ward"]),
    ],
)
def test_result_columns_are_named(guard: Guard, sql: str, names: list[str]) -> None:
    checked = guard.check(sql)
    kinds = checked.cells.released_types
    width = len(checked.cells.keys)
    columns = ", ".join(
        f"NULL::{kind} AS {f'k{n}' if n < width else f'c{n - width}'}"
        for n, kind in enumerate(kinds)
    )
    stage2 = checked.stage2.replace("FROM cells", f"FROM (SELECT {columns})")
    described = guard.within.execute(stage2).description
    assert [column[0] for column in described] == names


def test_equal_aggregates_are_one_component(guard: Guard) -> None:
    checked = guard.check("SELECT avg(age), sum(age), count(age), sum(age) FROM visits")
    assert [c.kind for c in checked.cells.components] == [ComponentKind.SUM, ComponentKind.COUNT]


def test_keys_alone_have_a_component(guard: Guard) -> None:
    checked = guard.check("SELECT ward FROM visits GROUP BY ward")
    assert [c.kind for c in checked.cells.components] == [ComponentKind.ROWS]


@pytest.mark.parametrize(
    ("where", "rewritten"),
    [
        ("age = 3", "(t.age = CAST('3' AS BIGINT))"),
        ("3 < age", "(t.age > CAST('3' AS BIGINT))"),
        ("age <> -1_000", "(t.age != CAST('-1000' AS BIGINT))"),
        ("age >= 1e1", "(t.age >= CAST('10' AS BIGINT))"),
        ("age = 2.0", "(t.age = CAST('2' AS BIGINT))"),
        ("cost = 1.50", "(t.cost = CAST('1.5' AS DECIMAL(18, 2)))"),
        ("cost < 3", "(t.cost < CAST('3' AS DECIMAL(18, 2)))"),
        ("note = 'a''b'", "(t.note = CAST('a''b' AS VARCHAR))"),
        ("note = e'\\x41'", "(t.note = CAST('A' AS VARCHAR))"),
        ("note = $$a$$", "(t.note = CAST('a' AS VARCHAR))"),
        ("note = '心'", "(t.note = CAST('心' AS VARCHAR))"),
        ("urgent = true", "(t.urgent = CAST('true' AS BOOLEAN))"),
        ("day = '2024-02-29'", "(t.day = CAST('2024-02-29' AS DATE))"),
        ("day = DATE '2024-02-29'", "(t.day = CAST('2024-02-29' AS DATE))"),
        ("day = '2024-02-29'::date", "(t.day = CAST('2024-02-29' AS DATE))"),
        (
            "seen_at > TIMESTAMP '2024-01-01 08:00:00.5'",
            "(t.seen_at > CAST('2024-01-01 08:00:00.500000' AS TIMESTAMP))",
        ),
        ("seen_at > DATE '2024-01-01'", "(t.seen_at > CAST('2024-01-01 00:00:00' AS TIMESTAMP))"),
        ("sex IN ('f')", "(t.sex IN (CAST('f' AS VARCHAR)))"),
        ("sex IS NULL", "(t.sex IS NULL)"),
        (
            "sex IS NOT NULL AND (age = 1 AND urgent = false)",
            "((t.sex IS NOT NULL) AND (t.age = CAST('1' AS BIGINT)) AND "
            "(t.urgent = CAST('false' AS BOOLEAN)))",
        ),
        (
            "age BETWEEN 1 AND 2",
            "((t.age >= CAST('1' AS BIGINT)) AND (t.age <= CAST('2' AS BIGINT)))",
        ),
    ],
)
def test_conditions(guard: Guard, where: str, rewritten: str) -> None:
    checked = guard.check(f"SELECT count(*) FROM visits WHERE {where}")
    assert f"WHERE {rewritten} GROUP BY" in checked.stage1.replace('"', "")


@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELECT * FROM visits", "COUNT(*)"),
        ("SELECT DISTINCT ward FROM visits", "GROUP BY"),
        ("SELECT count(*) FROM visits WHERE age = NULL", "IS NULL"),
        ("SELECT count(*) FROM visits WHERE urgent", "column = true"),
        ("SELECT count(*) FROM visits, visits v", "FROM visits"),
        ("SELECT count(*) FROM visits WHERE patient_id = 1", "COUNT(DISTINCT patient_id)"),
        ("SELECT count(*) FROM visits GROUP BY age", "declared for: aggregate, filter"),
        ("SELECT max(age) FROM visits", "AVG"),
        ("SELECT count(*) FROM visits WHERE age = ?", "write the constant"),
        ("SELECT count(*) FROM visits WHERE day = '1.2.2024'", "DATE 'YYYY-MM-DD'"),
    ],
)
def test_refusals_name_the_accepted_way(guard: Guard, sql: str, hint: str) -> None:
    with pytest.raises((GuardRefusalError, QueryError)) as refused:
        guard.check(sql)
    assert hint in refused.value.message


def test_refusals_show_only_printable_names(guard: Guard) -> None:
    with pytest.raises(QueryError) as refused:
        guard.check('SELECT count(*) FROM "a\nb\u202e' + "x" * 500 + '"')
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    ("text", "kind", "succeeds"),
    [
        ("0", BIGINT, True),
        ("-9223372036854775808", BIGINT, True),
        ("9223372036854775808", BIGINT, False),
        (" 1", BIGINT, False),
        ("1.0", BIGINT, False),
        ("", BIGINT, False),
        ("٣", BIGINT, False),
        ("9999999999999999.99", MONEY, True),
        ("10000000000000000", MONEY, False),
        ("1.005", MONEY, False),
        ("1e2", MONEY, False),
        ("2024-02-29", DATE, True),
        ("2023-02-29", DATE, False),
        ("0000-01-01", DATE, False),
        ("infinity", DATE, False),
        ("2024-01-01 23:59:59.999999", TIMESTAMP, True),
        ("2024-01-01 24:00:00", TIMESTAMP, False),
        ("2024-01-01T00:00:00", TIMESTAMP, False),
        ("true", BOOLEAN, True),
        ("t", BOOLEAN, False),
        ("anything", VARCHAR, True),
        ("a\0b", VARCHAR, False),
        ("1.5", DOUBLE, False),
    ],
)
def test_casts_that_surely_succeed(
    guard: Guard, text: str, kind: ValueType, succeeds: bool
) -> None:
    assert cast_succeeds(text, kind) is succeeds
    if succeeds:  # and DuckDB agrees, without losing anything
        row = guard.within.execute(f"SELECT CAST(CAST(? AS {kind}) AS VARCHAR)", [text]).fetchone()
        assert row == (text,)


@pytest.mark.parametrize(
    ("literal", "text", "kind"),
    [
        ("INTEGER", "1", VARCHAR),
        ("BOOLEAN", "true", BIGINT),
        ("NUMERIC", "1.5", BIGINT),
        ("NUMERIC", "1e400", BIGINT),
        ("NUMERIC", "0.001", MONEY),
        ("STRING", "x", BIGINT),
        ("STRING", "1e5000", MONEY),
        ("TIMESTAMP", "2024-01-01 00:00:00", DATE),
        ("INTEGER", "20240101", DATE),
        ("INTEGER", "1", BOOLEAN),
    ],
)
def test_literals_that_do_not_fit(literal: str, text: str, kind: ValueType) -> None:
    with pytest.raises(ConstantError):
        constant_text(literal, text, kind)
