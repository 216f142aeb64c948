"""What the rewriter makes of accepted queries: names, constants, components, both stages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clinic import Clinic, open_clinic

from luoshu.sandbox.errors import GuardRefusalError, QueryError
from luoshu.sandbox.guard.constants import cast_succeeds
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
SUM, UNITS, SET = ComponentKind.SUM, ComponentKind.UNITS, ComponentKind.SET


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


def test_a_cell_query_in_full(clinic: Clinic) -> None:
    checked = clinic.check("SELECT sex, count(*) AS n FROM patient WHERE ward = 'w1' GROUP BY sex")
    (cell,) = checked.cells
    assert cell.sql.replace('"', "") == (
        "SELECT t1.sex AS k0, t1.pid AS u, count(*) AS a0 FROM clinic.main.patient AS t1 "
        "WHERE (t1.ward = 'w1') GROUP BY t1.sex, t1.pid"
    )
    assert cell.schema.key_columns == ("clinic.patient.sex",)
    assert clinic.answer("SELECT sex, count(*) AS n FROM patient GROUP BY sex ORDER BY 1")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT ward, count(*) FROM patient GROUP BY ward",
        "select WARD, COUNT(*) from PATIENT group by Ward",
        'SELECT "ward", count(*) FROM "patient" GROUP BY "WARD"',
        "SELECT v.ward, count(*) FROM patient v GROUP BY v.ward",
        "SELECT patient.ward, count(*) FROM clinic.patient GROUP BY ward",
        "SELECT ward AS w, count(*) FROM patient GROUP BY w;",
        "SELECT ward, count(*) FROM patient GROUP BY ALL",
        "FROM patient SELECT ward, count(*) GROUP BY ward -- comment",
        "SELECT a, count(*) FROM patient AS t(p, a) GROUP BY 1",
        "WITH x AS (SELECT ward AS w FROM patient) SELECT w, count(*) FROM x GROUP BY 1",
        "SELECT w, count(*) FROM (SELECT upper(ward) u, ward w FROM patient) GROUP BY w",
        "SELECT ward, count() FROM patient GROUP BY (ward)",
    ],
)
def test_names_are_what_duckdb_makes_of_them(clinic: Clinic, sql: str) -> None:
    (cell,) = clinic.check(sql).cells
    assert cell.schema.key_columns == ("clinic.patient.ward",)
    assert [c.kind for c in cell.schema.components] == [SUM]
    assert sorted(map(repr, clinic.answer(sql))) == sorted(map(repr, clinic.plain(sql)))


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT count(*) FROM patient", ["count_star()"]),
        ("SELECT count(*) AS n FROM patient", ["n"]),
        ("SELECT Sum(AGE), avg(balance) FROM patient", ["sum(AGE)", "avg(balance)"]),
        ('SELECT count(*) AS "总数" FROM patient ORDER BY 1 LIMIT 1', ["总数"]),
        ("SELECT count(*) AS a, count(*) AS a FROM patient", ["a", "a"]),
        ("SELECT ward AS b FROM patient GROUP BY 1 UNION ALL SELECT 'x'", ["b"]),
    ],
)
def test_result_columns_are_named(clinic: Clinic, sql: str, names: list[str]) -> None:
    assert [column[0] for column in clinic.plain_columns(sql)] == names
    assert clinic.answer_columns(sql) == names


def components(clinic: Clinic, sql: str) -> list[tuple[ComponentKind, tuple[str, ...]]]:
    (cell,) = clinic.check(sql).cells
    return [(c.kind, c.monomial) for c in cell.schema.components]


def test_arguments_are_split_into_monomials(clinic: Clinic) -> None:
    found = components(clinic, "SELECT sum(cost * (1 - cost) + 3) FROM visit")
    assert found == [(SUM, ("cost",)), (SUM, ("cost", "cost")), (SUM, ())]


def test_equal_aggregates_are_one_component(clinic: Clinic) -> None:
    found = components(clinic, "SELECT avg(cost), sum(cost), 2 * sum(cost), sum(2*cost) FROM visit")
    assert found == [(SUM, ("cost",)), (SUM, ())]


def test_a_sum_with_bounds_has_its_rows_beside_it(clinic: Clinic) -> None:
    (cell,) = clinic.check("SELECT sum(age) FROM patient").cells
    total, rows = cell.schema.components
    assert (total.bounds, total.rows, rows.monomial) == ((0, 120), 1, ())


@pytest.mark.parametrize(
    ("condition", "sets"),
    [
        ("age > 3 OR smokes", 2),
        ("ward = 'a' OR ward = 'b'", 0),
        ("ward IN ('a', 'b')", 0),
        ("NOT (age > 3 AND smokes)", 2),
        ("(age > 3 OR smokes) AND (level = 1 OR sex = 'f')", 4),
        ("age > 3 AND smokes", 0),
        ("(age > 3 AND smokes) OR (level = 1 AND (sex = 'f' OR born IS NULL))", 3),
    ],
)
def test_branches_of_or_are_sets(clinic: Clinic, condition: str, sets: int) -> None:
    found = components(clinic, f"SELECT count(*) FROM patient WHERE {condition}")
    assert [kind for kind, _ in found].count(SET) == sets
    found = components(clinic, f"SELECT count(*) FILTER (WHERE {condition}) FROM patient")
    assert [kind for kind, _ in found].count(SET) == sets


def test_an_or_over_group_keys_is_no_choice(clinic: Clinic) -> None:
    sql = "SELECT ward, count(*) FROM patient WHERE ward = 'a' OR ward > 'b' GROUP BY ward"
    assert components(clinic, sql) == [(SUM, ())]


def test_conditions_on_public_rows_stay_with_them(clinic: Clinic) -> None:
    sql = (
        "SELECT label, maker FROM codes, drugs WHERE code = drug AND maker = 'acme' AND EXISTS "
        "(SELECT 1 FROM (SELECT v.code c, count(*) n FROM visit v GROUP BY 1) WHERE c = codes.code)"
    )
    public = [cell.sql for cell in clinic.check(sql).cells if not cell.schema.tables]
    assert any("'acme'" in text and '"codes"' in text for text in public)
    assert sorted(map(repr, clinic.answer(sql))) == sorted(map(repr, clinic.plain(sql)))


@pytest.mark.parametrize(
    ("condition", "written"),
    [
        ("age = 3", "age = CAST('3' AS BIGINT)"),
        ("age >= 2 + 3 * 4", "age >= CAST('14' AS BIGINT)"),
        ("balance = 1.50", "balance = CAST('1.50' AS DECIMAL(9,2))"),
        ("note = 'a''b'", "note = 'a''b'"),
        ("note = e'\\x41'", "note = 'A'"),
        ("note = $$a$$", "note = 'a'"),
        ("note = '心'", "note = '心'"),
        ("smokes = true", "smokes = CAST('true' AS BOOLEAN)"),
        ("born = '2024-02-29'", "born = CAST('2024-02-29' AS DATE)"),
        (
            "born < DATE '2024-01-31' + INTERVAL 1 MONTH",
            "CAST(t1.born AS TIMESTAMP) < CAST('2024-02-29 00:00:00' AS TIMESTAMP)",
        ),
        ("sex IN ('f')", "sex IN ('f')"),
    ],
)
def test_constants_arrive_as_texts_of_their_type(
    clinic: Clinic, condition: str, written: str
) -> None:
    (cell,) = clinic.check(f"SELECT count(*) FROM patient WHERE {condition}").cells
    assert written in cell.sql.replace('"', "")


@pytest.mark.parametrize(
    ("sql", "code", "hint"),
    [
        ("SELECT * FROM patient", "GUARD_RAW_ROWS", "GROUP BY"),
        ("SELECT DISTINCT pid FROM patient", "GUARD_UNIT", "aggregate"),
        ("SELECT count(*) FROM patient WHERE pid = 1", "GUARD_UNIT", "COUNT(DISTINCT pid)"),
        ("SELECT count(*) FROM patient GROUP BY age", "GUARD_COLUMN_USE", "aggregate, filter"),
        ("SELECT count(*) FROM patient WHERE salary > 1", "GUARD_COLUMN_USE", "`filter`"),
        ("SELECT sum(level * salary * passport::int) FROM patient", "GUARD_EXPRESSION", "cast"),
        ("SELECT max(age) FROM patient", "GUARD_FUNCTION", "AVG"),
        ("SELECT count(*) FROM patient WHERE age = ?", "GUARD_PARAMETER", "the constant"),
        ("SELECT count(*) FROM range(3)", "GUARD_TABLE", "table function"),
        ("SELECT visit_id, count(*) FROM visit GROUP BY 1", "GUARD_UNIT", "once more"),
        ("SELECT count(*) FROM patient LIMIT (SELECT 1)", "GUARD_CLAUSE", "LIMIT"),
        ("SELECT row_number() OVER () FROM patient", "GUARD_CLAUSE", "aggregate first"),
        ("SELECT count(*) FROM patient USING SAMPLE 10%", "GUARD_CLAUSE", "SAMPLE"),
    ],
)
def test_refusals_name_the_accepted_way(clinic: Clinic, sql: str, code: str, hint: str) -> None:
    with pytest.raises(GuardRefusalError) as refused:
        clinic.check(sql)
    assert refused.value.code == code
    assert hint in refused.value.message


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT count(*) FROM nowhere", "There is no table nowhere"),
        ("SELECT count(*) FROM other.patient", "There is no table patient"),
        ("SELECT count(nothing) FROM patient", "There is no column nothing"),
        ("SELECT frobnicate(age) FROM patient", "does not bind"),
    ],
)
def test_what_does_not_exist_is_said_in_our_words(clinic: Clinic, sql: str, named: str) -> None:
    with pytest.raises(QueryError) as failed:
        clinic.check(sql)
    assert named in failed.value.message
    assert "unit_of_item" not in failed.value.message


def test_refusals_show_only_printable_names(clinic: Clinic) -> None:
    with pytest.raises(QueryError) as refused:
        clinic.check('SELECT count(*) FROM "a\nb\u202e' + "x" * 500 + '"')
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
        ("32768", ValueType("SMALLINT"), False),
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
        ("1.5", DOUBLE, True),
        ("nan", DOUBLE, False),
        ("1e999", DOUBLE, False),
    ],
)
def test_casts_that_surely_succeed(
    clinic: Clinic, text: str, kind: ValueType, succeeds: bool
) -> None:
    assert cast_succeeds(text, kind) is succeeds
    if succeeds:  # and DuckDB agrees, without losing anything
        rows = clinic.plain(f"SELECT CAST(CAST('{text}' AS {kind}) AS VARCHAR)")
        assert rows == [(text,)]
