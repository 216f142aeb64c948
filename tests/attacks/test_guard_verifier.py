"""The verifier alone, against cell queries that a hostile rewriter might hand to DuckDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clinic import Clinic, open_clinic

from luoshu.sandbox import engine
from luoshu.sandbox.errors import GuardRefusalError


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


def refuses(
    clinic: Clinic,
    sql: str,
    kinds: str = "s",
    *,
    mode: str = "aggregate",
    code: str = "GUARD_UNPROVEN",
) -> None:
    """The verifier refuses, and what it refuses is SQL that DuckDB binds."""
    assert engine.bind(clinic.connection, sql)["error"] is False
    with pytest.raises(GuardRefusalError) as caught:
        clinic.verify(sql, kinds, mode=mode)
    assert caught.value.code == code


def where(condition: str, table: str = "patient") -> str:
    return f"SELECT pid AS u, count(*) AS a0 FROM {table} WHERE {condition} GROUP BY pid"


def by(key: str) -> str:
    return f"SELECT {key} AS k0, pid AS u, count(*) AS a0 FROM patient GROUP BY {key}, pid"


RAISING = {
    # DuckDB takes places in a text up to 2^32: an error tells that there is a row.
    "substring_far_right": "substring(note, 5000000000) = 'a'",
    "substring_far_left": "substring(note, -5000000000) = 'a'",
    "substring_long": "substring(note, 1, 5000000000) = 'a'",
    "left_long_text": "left(note, CAST('5000000000' AS BIGINT)) = 'a'",
    "left_long": "left(note, 9223372036854775807) = 'a'",
    "right_long": "right(note, 9223372036854775807) = 'a'",
    "substring_by_column": "substring(note, level) = 'a'",
    # A text such as 300000-01-01 is a DATE that no TIMESTAMP holds.
    "far_date_as_timestamp": "CAST(TRY_CAST(note AS DATE) AS TIMESTAMP) > TIMESTAMP '2000-01-01'",
    "far_date_cut": "date_trunc('month', TRY_CAST(note AS DATE)) > DATE '2000-01-01'",
    "far_last_day": "last_day(TRY_CAST(note AS DATE)) > DATE '2000-01-01'",
    "text_as_number": "CAST(note AS BIGINT) > CAST('1' AS BIGINT)",
    "narrowed": "CAST(level AS TINYINT) = CAST('1' AS TINYINT)",
    "sum_of_integers": "age + level > CAST('1' AS BIGINT)",
    "negation": "-level > CAST('1' AS BIGINT)",
    "division": "age / level > CAST('1' AS DOUBLE)",
    "pattern_by_column": "note LIKE ward",
    "pattern_escape": "note LIKE 'a' ESCAPE 'ab'",
    "regular_expression": "regexp_matches(note, 'a')",
    "constant_that_fails": "level = CAST('x' AS BIGINT)",
    "part_of_a_date": "date_part('epoch', born) > CAST('1' AS DOUBLE)",
    "repetition": "repeat(note, 1000000000) = 'a'",
}


@pytest.mark.parametrize("condition", RAISING.values(), ids=RAISING)
def test_what_may_raise_is_refused(clinic: Clinic, condition: str) -> None:
    refuses(clinic, where(condition))


@pytest.mark.parametrize(
    "condition",
    [
        "substring(note, CAST('2' AS BIGINT), CAST('3' AS BIGINT)) = 'a'",
        "left(note, CAST('-2' AS BIGINT)) = 'a'",
        "TRY_CAST(note AS BIGINT) > CAST('1' AS BIGINT)",
        "date_trunc('month', born) > DATE '2000-01-01'",
        "last_day(born) > DATE '2000-01-01'",
    ],
)
def test_what_cannot_raise_is_accepted(clinic: Clinic, condition: str) -> None:
    assert clinic.verify(where(condition)).components


BESIDE = {
    "cast": "(SELECT drug AS x, CAST(words AS INTEGER) AS y FROM drugs)",
    "division": "(SELECT drug AS x, 1 // drug AS y FROM drugs)",
    "logarithm": "(SELECT drug AS x, ln(drug) AS y FROM drugs)",
    "overflow": "(SELECT drug AS x, drug * drug AS y FROM drugs)",
    "date": "(SELECT drug AS x, since + INTERVAL 9999999 YEAR AS y FROM drugs)",
    "big_sum": "(SELECT drug AS x, sum(CAST(drug AS HUGEINT)) AS y FROM drugs GROUP BY drug)",
    "spread": "(SELECT drug AS x, stddev(CAST(drug AS DOUBLE)) AS y FROM drugs GROUP BY drug)",
    "tiles": "(SELECT drug AS x, ntile(drug) OVER () AS y FROM drugs)",
    "frame": "(SELECT drug AS x, count(*) OVER (ROWS drug PRECEDING) AS y FROM drugs)",
    "pattern": "(SELECT drug AS x, regexp_matches('a', words) AS y FROM drugs)",
}


@pytest.mark.parametrize("public", BESIDE.values(), ids=BESIDE)
def test_public_rows_that_may_raise_are_refused_beside_protected_ones(
    clinic: Clinic, public: str
) -> None:
    # DuckDB computes a public row only if a protected one could meet it.
    joined = f"SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN {public} d ON p.level = d.x"
    refuses(clinic, f"{joined} WHERE d.y IS NOT NULL GROUP BY p.pid")
    cte = f"WITH d AS MATERIALIZED (SELECT * FROM {public})"
    refuses(clinic, f"{cte} {joined} WHERE d.y IS NOT NULL GROUP BY p.pid")


UNDECLARED = {
    "identity_by_public_text": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN (VALUES ('P7')) v(x) "
        "ON p.passport = v.x GROUP BY p.pid"
    ),
    "key_of_the_unit_by_public_number": (
        "SELECT p.pid AS u, count(*) AS a0 FROM visit p JOIN codes c ON p.visit_id = c.code "
        "GROUP BY p.pid"
    ),
    "key_of_the_unit_as_group_by_public_number": (
        "SELECT c.code AS k0, p.pid AS u, count(*) AS a0 FROM visit p JOIN codes c "
        "ON p.visit_id = c.code GROUP BY c.code, p.pid"
    ),
    "guarded_groups_of_identities": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN (SELECT passport AS x FROM patient "
        "GROUP BY passport HAVING count(DISTINCT pid) >= CAST('3' AS BIGINT)) s "
        "ON s.x = p.passport GROUP BY p.pid"
    ),
    "extreme_of_extreme_as_key": (
        "SELECT y AS k0, pid AS u, count(*) AS a0 FROM (SELECT pid, max(x) AS y FROM (SELECT pid, "
        "ward, max(salary) AS x FROM patient GROUP BY pid, ward) GROUP BY pid) GROUP BY y, pid"
    ),
    "extreme_of_extreme_in_condition": (
        "SELECT pid AS u, count(*) AS a0 FROM (SELECT pid, max(x) AS y FROM (SELECT pid, ward, "
        "max(salary) AS x FROM patient GROUP BY pid, ward) GROUP BY pid) "
        "WHERE y > CAST('5' AS BIGINT) GROUP BY pid"
    ),
    "number_of_identities": (
        "SELECT pid AS u, count(*) AS a0 FROM (SELECT pid, passport FROM patient "
        "GROUP BY pid, passport) GROUP BY pid"
    ),
    "inner_key_that_tests_an_identity": (
        "SELECT pid AS u, count(*) AS a0 FROM (SELECT pid FROM patient "
        "GROUP BY pid, CASE WHEN passport = 'P7' THEN 'x' END) GROUP BY pid"
    ),
    "sum": "SELECT pid AS u, coalesce(sum(visit_id), 0) AS a0 FROM visit GROUP BY pid",
    "row_id_in_condition": where("rowid = CAST('5' AS BIGINT)"),
    "row_id_as_key": by("rowid"),
    "unit_in_condition": where("pid = CAST('5' AS BIGINT)"),
    "unit_as_key": by("pid + CAST('0' AS BIGINT)"),
}


@pytest.mark.parametrize("sql", UNDECLARED.values(), ids=UNDECLARED)
def test_undeclared_use_is_refused(clinic: Clinic, sql: str) -> None:
    refuses(clinic, sql)


HIDDEN = {
    "plain": "note = 'x' OR ward = 'w1'",
    "compared_with_true": "(note = 'x' OR ward = 'w1') = true",
    "is_true": "(note = 'x' OR ward = 'w1') IS TRUE",
    "is_not_false": "(note = 'x' OR ward = 'w1') IS NOT FALSE",
    "listed": "(note = 'x' OR ward = 'w1') IN (true)",
    "is_null": "(note = 'x' OR ward = 'w1') IS NULL",
    "coalesced": "coalesce(note = 'x' OR ward = 'w1', false)",
    "first_of_two": "coalesce(note, ward) = 'x'",
    "exclusive": "(note = 'x') <> (ward = 'w1')",
    "ordered_truths": "(note = 'x') >= (ward <> 'w1')",
    "as_text": "starts_with(CAST((note = 'x' OR ward = 'w1') AS VARCHAR), 't')",
    "not_both": "NOT (note <> 'x' AND ward <> 'w1')",
    "not_true_that_both": "(note <> 'x' AND ward <> 'w1') IS DISTINCT FROM true",
    "not_true_that_not": "(NOT (note = 'x' OR ward = 'w1')) IS DISTINCT FROM true",
}


@pytest.mark.parametrize("condition", HIDDEN.values(), ids=HIDDEN)
def test_hidden_or_is_refused(clinic: Clinic, condition: str) -> None:
    refuses(clinic, where(condition))
    refuses(
        clinic,
        f"SELECT pid AS u, count(*) FILTER (WHERE {condition}) AS a0 FROM patient GROUP BY pid",
    )
    inner = f"SELECT pid, count(*) FILTER (WHERE {condition}) AS n FROM patient GROUP BY pid"
    for use in (
        "n > CAST('0' AS BIGINT)",
        "n IS NOT NULL",
    ):
        refuses(
            clinic,
            f"SELECT pid AS u, count(*) FILTER (WHERE {use}) AS a0 FROM ({inner}) GROUP BY pid",
        )
    refuses(clinic, f"SELECT n AS k0, pid AS u, count(*) AS a0 FROM ({inner}) GROUP BY n, pid")
    refuses(
        clinic,
        "SELECT pid AS u, coalesce(sum(n), CAST('0' AS HUGEINT)) AS a0 "
        f"FROM ({inner}) GROUP BY pid",
    )
    refuses(
        clinic,
        f"SELECT pid AS u, count(*) AS a0 FROM patient p WHERE EXISTS (SELECT 1 FROM ({inner}) s "
        "WHERE s.pid = p.pid AND s.n > CAST('0' AS BIGINT)) GROUP BY pid",
    )
    refuses(
        clinic,
        f"SELECT pid AS u, count(*) AS a0 FROM visit p WHERE EXISTS (SELECT 1 FROM patient s "
        f"WHERE s.pid = p.pid AND ({condition})) GROUP BY pid",
    )
    refuses(
        clinic,
        f"SELECT p.pid AS u, count(*) AS a0 FROM visit p JOIN (SELECT count(*) AS n FROM patient "
        f"WHERE {condition} HAVING count(DISTINCT pid) >= CAST('3' AS BIGINT)) s "
        "ON s.n > p.code GROUP BY p.pid",
    )


MERGING = {
    "two_branches_one_value": (
        "CASE WHEN ward = 'w1' THEN 'a' WHEN level = CAST('1' AS BIGINT) THEN 'a' ELSE 'b' END"
    ),
    "one_number_in_two_spellings": (
        "CASE WHEN ward = 'w1' THEN CAST('1.0' AS DECIMAL(3,1)) "
        "WHEN sex = 'f' THEN CAST('1' AS DECIMAL(3,1)) END"
    ),
    "value_of_a_column": "CASE WHEN ward = 'w1' THEN ward ELSE sex END",
    "value_as_of_others": "CASE WHEN sex = 'f' THEN ward ELSE 'w1' END",
    "or": "ward = 'w1' OR level = CAST('1' AS BIGINT)",
    "or_in_case": "CASE WHEN ward = 'w1' OR sex = 'f' THEN 'a' ELSE 'b' END",
    "first_of_two": "coalesce(ward, sex)",
    "exclusive": "(ward = 'w1') <> (sex = 'f')",
    "case_in_function": "lower(CASE WHEN ward = 'w1' THEN 'A' WHEN sex = 'f' THEN 'a' END)",
}


@pytest.mark.parametrize("key", MERGING.values(), ids=MERGING)
def test_key_that_merges_sets_is_refused(clinic: Clinic, key: str) -> None:
    refuses(clinic, by(key))
    inner = f"SELECT pid, {key} AS x FROM patient GROUP BY pid, x"
    refuses(clinic, f"SELECT x AS k0, pid AS u, count(*) AS a0 FROM ({inner}) GROUP BY x, pid")


@pytest.mark.parametrize(
    "key",
    [
        "CASE WHEN ward = 'w1' AND sex = 'f' THEN 'a' WHEN level = CAST('1' AS BIGINT) THEN 'b' "
        "ELSE NULL END",
        "coalesce(ward, 'none')",
        "CASE WHEN ward IS NULL THEN 'none' ELSE ward END",
        "CASE WHEN age < CAST('20' AS BIGINT) THEN 'young' WHEN age BETWEEN CAST('20' AS BIGINT) "
        "AND CAST('40' AS BIGINT) THEN 'older' ELSE 'old' END",
        "ward = 'w1'",
        "year(born)",
    ],
)
def test_key_of_sets_is_accepted(clinic: Clinic, key: str) -> None:
    assert len(clinic.verify(by(key)).keys) == 1


def test_filter_cuts_the_branches_of_where(clinic: Clinic) -> None:
    # Both branches of WHERE are large, but FILTER leaves nine of one and one of the other.
    rows = "FROM patient WHERE note = 'x' OR sex = 'm' GROUP BY pid"
    level = "level = CAST('1' AS BIGINT)"
    cut = f"SELECT pid AS u, count(*) FILTER (WHERE {level}) AS a0"
    whole_sets = "count(*) FILTER (WHERE note = 'x') AS a1, count(*) FILTER (WHERE sex = 'm') AS a2"
    cut_sets = (
        f"count(*) FILTER (WHERE {level} AND note = 'x') AS a1, "
        f"count(*) FILTER (WHERE {level} AND sex = 'm') AS a2"
    )
    refuses(clinic, f"{cut}, {whole_sets} {rows}", "sgg")
    assert clinic.verify(f"{cut}, {cut_sets} {rows}", "sgg").components
    refuses(clinic, f"SELECT pid AS u, count(*) AS a0, {cut_sets} {rows}", "sgg")
    assert clinic.verify(f"SELECT pid AS u, count(*) AS a0, {whole_sets} {rows}", "sgg").components


GUARDED = {
    "filter": ("count(*) FILTER (WHERE note = 'x')", "count(DISTINCT pid) >= 3"),
    "filter_of_a_sum": ("sum(age) FILTER (WHERE note = 'x')", "count(DISTINCT pid) >= 3"),
    "not_null": ("count(age)", "count(DISTINCT pid) >= 3"),
    "sum_of_few": ("sum(age)", "count(DISTINCT pid) >= 3"),
    "other_filter": ("count(age)", "count(DISTINCT pid) FILTER (WHERE sex IS NOT NULL) >= 3"),
    "one_of_two": (
        "sum(age) + sum(level)",
        "count(DISTINCT pid) FILTER (WHERE age IS NOT NULL) >= 3",
    ),
    "fewer": ("count(*)", "count(DISTINCT pid) >= 2"),
    "more_than": ("count(*)", "count(DISTINCT pid) > 1"),
    "rows": ("count(*)", "count(pid) >= 3"),
    "others": ("count(*)", "count(DISTINCT age) >= 3"),
    "forgotten": ("count(*)", "count(*) >= 3"),
    "or": ("count(*)", "count(DISTINCT pid) >= 3 OR count(*) >= 3"),
    "extreme": ("max(age)", "count(DISTINCT pid) FILTER (WHERE age IS NOT NULL) >= 3"),
}


def guarded(value: str, having: str) -> str:
    for number in "123":
        having = having.replace(f"> {number}", f"> CAST('{number}' AS BIGINT)")
        having = having.replace(f">= {number}", f">= CAST('{number}' AS BIGINT)")
    return (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN "
        f"(SELECT {value} AS n FROM patient HAVING {having}) s ON s.n > p.level GROUP BY p.pid"
    )


@pytest.mark.parametrize(("value", "having"), GUARDED.values(), ids=GUARDED)
def test_group_of_too_few_is_nothing_to_compare_with(
    clinic: Clinic, value: str, having: str
) -> None:
    refuses(clinic, guarded(value, having))


@pytest.mark.parametrize(
    ("value", "having"),
    [
        ("count(*)", "count(DISTINCT pid) >= 3"),
        ("count(age)", "count(DISTINCT pid) FILTER (WHERE age IS NOT NULL) >= 3"),
        (
            "count(*) FILTER (WHERE note = 'x')",
            "count(DISTINCT pid) FILTER (WHERE note = 'x') >= 3",
        ),
    ],
)
def test_group_of_enough_may_be_compared_with(clinic: Clinic, value: str, having: str) -> None:
    assert clinic.verify(guarded(value, having)).components
    with pytest.raises(GuardRefusalError):
        clinic.verify(guarded(value, having), mode="dp")


@pytest.mark.parametrize(
    "sql", ["SELECT INTERVAL 1 DAY AS k0 FROM codes", "SELECT TIME '10:00:00' AS k0 FROM codes"]
)
def test_type_that_no_cell_has_is_refused(clinic: Clinic, sql: str) -> None:
    refuses(clinic, sql, "")


def met(other: str, condition: str) -> str:
    return (
        f"SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN {other} ON {condition} "
        "GROUP BY p.pid"
    )


FANS = {
    # Each contribution doubled equals no earlier one: the differencing guard compares in vain.
    "copies": met("(VALUES ('a'), ('b')) v(x)", "true"),
    "table": met("codes c", "true"),
    "copies_by_value": met("(VALUES ('w1', 1), ('w1', 2)) v(x, y)", "p.ward = v.x"),
    "spellings": met("(VALUES ('1.0'), ('1.00')) v(x)", "p.level = TRY_CAST(v.x AS BIGINT)"),
    "not_all_of_what_is_unique": met(
        "(SELECT DISTINCT code, label FROM codes) c", "p.level = c.code"
    ),
    "union": met("(SELECT code FROM codes UNION ALL SELECT code FROM codes) c", "p.level = c.code"),
    "range": met("codes c", "p.level < c.code"),
    "some_branch": met("codes c", "p.level = c.code OR p.ward = 'w1'"),
    "public_with_itself": met(
        "(SELECT a.code FROM codes a JOIN codes b ON a.code < b.code) c", "p.level = c.code"
    ),
    "guarded_groups": met(
        "(SELECT ward FROM patient GROUP BY ward "
        "HAVING count(DISTINCT pid) >= CAST('3' AS BIGINT)) s",
        "true",
    ),
    "left": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p LEFT JOIN (SELECT fee FROM codes) c "
        "ON p.level < CAST('0' AS BIGINT) AND c.fee > CAST('0' AS DECIMAL(9,2)) GROUP BY p.pid"
    ),
    "inside_one_unit": (
        "SELECT pid AS u, coalesce(sum(n), CAST('0' AS HUGEINT)) AS a0 FROM (SELECT p.pid, "
        "count(*) AS n FROM patient p, codes c GROUP BY p.pid) GROUP BY pid"
    ),
    "weights": (
        "SELECT p.pid AS u, coalesce(sum(v.w), CAST('0' AS DECIMAL(38,6))) AS a0 FROM patient p "
        "JOIN (VALUES ('w0', CAST('1.000001' AS DECIMAL(9,6))), ('w1', CAST('1' AS DECIMAL(9,6)))) "
        "v(k, w) ON p.ward = v.k GROUP BY p.pid"
    ),
}


@pytest.mark.parametrize("sql", FANS.values(), ids=FANS)
def test_rows_of_nobody_do_not_multiply_or_weigh(clinic: Clinic, sql: str) -> None:
    has_another_reason = sql in {FANS["left"], FANS["weights"]}
    refuses(clinic, sql, code="GUARD_UNPROVEN" if has_another_reason else "GUARD_FAN_OUT")


@pytest.mark.parametrize(
    "sql",
    [
        met("(VALUES ('w1', 'north'), ('w2', 'south')) v(x, y)", "p.ward = v.x"),
        met("codes c", "p.level = c.code"),
        met("(SELECT DISTINCT code FROM codes) c", "p.level = c.code"),
        met("(SELECT code, max(fee) AS fee FROM codes GROUP BY code) c", "p.level = c.code"),
        met("(SELECT max(code) AS code FROM codes) c", "p.level < c.code"),
        met("codes c JOIN drugs d ON c.code = d.drug", "p.level = c.code"),
        met(
            "(SELECT ward FROM patient GROUP BY ward "
            "HAVING count(DISTINCT pid) >= CAST('3' AS BIGINT)) s",
            "p.ward = s.ward",
        ),
    ],
)
def test_rows_of_nobody_may_be_met_once(clinic: Clinic, sql: str) -> None:
    assert clinic.verify(sql).components
