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
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN (SELECT x FROM (SELECT "
        "passport AS x FROM patient GROUP BY passport, pid) GROUP BY x "
        "HAVING count(*) >= CAST('3' AS BIGINT)) s "
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
        "SELECT p.pid AS u, count(*) AS a0 FROM visit p JOIN (SELECT count(*) AS n FROM (SELECT "
        f"pid FROM patient WHERE {condition} GROUP BY pid) HAVING count(*) >= CAST('3' AS BIGINT)) "
        "s ON s.n > p.code GROUP BY p.pid",
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


UNITS = "count(*) FILTER (WHERE n <> CAST('0' AS {}))"
SHARE = "CAST(max(abs({0})) AS DOUBLE) <= CAST('0.85' AS DOUBLE) * CAST(sum(abs({0})) AS DOUBLE)"
ENOUGH = "{} >= CAST('3' AS BIGINT)"


def guarded(
    inner: str = "count(*)",
    value: str = "sum(n)",
    *,
    kind: str = "BIGINT",
    having: str | None = None,
    by: str = "pid",
    condition: str = "s.n > p.level",
) -> str:
    """Patients compared with a value of all patients together, which HAVING checks.

    Args:
        inner: What each unit contributes, `n`.
        value: What the contributions come to.
        kind: Type of `n`.
        having: None for what is needed.
        by: Keys of the contributions.
        condition: Of the comparison.
    """
    checks = f"{ENOUGH.format(UNITS.format(kind))} AND {SHARE.format('n')}"
    return (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN "
        f"(SELECT {value} AS n FROM (SELECT {inner} AS n FROM patient GROUP BY {by}) "
        f"HAVING {checks if having is None else having}) s ON {condition} GROUP BY p.pid"
    )


TOO_FEW = {
    "fewer": guarded(
        having=f"{UNITS.format('BIGINT')} >= CAST('2' AS BIGINT) AND {SHARE.format('n')}"
    ),
    "more_than": guarded(
        having=f"{UNITS.format('BIGINT')} > CAST('2' AS BIGINT) AND {SHARE.format('n')}"
    ),
    "units_that_contribute_nothing": guarded(
        "sum(age)", kind="HUGEINT", having=f"{ENOUGH.format('count(*)')} AND {SHARE.format('n')}"
    ),
    "units_with_a_value": guarded(
        "sum(age)", kind="HUGEINT", having=f"{ENOUGH.format('count(n)')} AND {SHARE.format('n')}"
    ),
    "units_that_contribute_otherwise": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT').replace('0', '1'))} AND {SHARE.format('n')}"
    ),
    "rows": guarded(having=f"{ENOUGH.format('sum(n)')} AND {SHARE.format('n')}"),
    "either": guarded(
        having=f"({ENOUGH.format(UNITS.format('BIGINT'))} OR sum(n) > CAST('9' AS HUGEINT)) "
        f"AND {SHARE.format('n')}"
    ),
    "and_a_switch": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND {SHARE.format('n')} "
        "AND sum(n) > CAST('9' AS HUGEINT)"
    ),
    "nothing": guarded(having="true"),
    "one_level": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN (SELECT count(*) AS n FROM patient "
        "HAVING count(DISTINCT pid) >= CAST('3' AS BIGINT)) s ON s.n > p.level GROUP BY p.pid"
    ),
    "no_value": guarded(value="CAST('1' AS BIGINT)", having="true"),
}
DOMINATED = {
    "forgotten": guarded(having=ENOUGH.format(UNITS.format("BIGINT"))),
    "greater_share": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND {SHARE.format('n')}".replace(
            "0.85", "0.851"
        )
    ),
    "no_number": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND {SHARE.format('n')}".replace(
            "0.85", "1e30"
        )
    ),
    "reversed": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND {SHARE.format('n')}".replace(
            "<= CAST", ">= CAST"
        )
    ),
    "with_signs": guarded(
        "sum(age)",
        kind="HUGEINT",
        having=f"{ENOUGH.format(UNITS.format('HUGEINT'))} AND "
        f"{SHARE.format('n').replace('abs(n)', 'n')}",
    ),
    "of_the_smallest": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND "
        f"{SHARE.format('n').replace('max(', 'min(')}"
    ),
    "of_the_number": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND "
        f"{SHARE.format('n').replace('sum(abs(n))', 'sum(n)')}"
    ),
    "of_another_value": guarded(
        "sum(age) AS m, count(*)",
        "sum(m)",
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND {SHARE.format('n')}",
    ),
    "of_one_of_two": guarded(
        "sum(age) AS m, count(*)",
        "sum(n)",
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND {SHARE.format('n')} "
        "AND sum(m) IS NOT NULL",
    ),
    "some_of_it": guarded(
        having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND "
        "CAST(max(abs(n)) AS DOUBLE) <= CAST('0.85' AS DOUBLE)"
    ),
    "computed_and_not_checked": guarded(
        value="max(abs(n)) AS largest, sum(abs(n)) AS size, sum(n)",
        having=ENOUGH.format(UNITS.format("BIGINT")),
    ),
    # What serves HAVING is one unit's own: nothing else may see it.
    "largest_alone": guarded(value="max(abs(n))"),
    "largest_beside": guarded(
        value="sum(n) AS m, max(abs(n))", condition="s.m > p.level AND s.n > p.level"
    ),
    "largest_as_key": (
        guarded(value="sum(n) AS m, max(abs(n))", condition="s.m > p.level")
        .replace("SELECT p.pid AS u", "SELECT s.n AS k0, p.pid AS u")
        .replace("GROUP BY p.pid", "GROUP BY s.n, p.pid")
    ),
    # Contributions that aren't whole: each of a unit's rows is small.
    "contributions_by_another_key": guarded(by="pid, ward"),
    "contributions_of_groups": guarded(by="ward"),
    "rows_as_contributions": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p JOIN (SELECT sum(n) AS n FROM (SELECT "
        f"age AS n FROM patient) HAVING {ENOUGH.format(UNITS.format('BIGINT'))} "
        f"AND {SHARE.format('n')}) s ON s.n > p.level GROUP BY p.pid"
    ),
    "averages_as_contributions": guarded(
        "avg(level)",
        kind="DOUBLE",
    ),
    "extremes_as_contributions": guarded("max(level)"),
    "average_of_contributions": guarded(value="avg(n)"),
    "extreme_of_contributions": guarded(value="max(n)"),
    "distinct_contributions": guarded(value="sum(DISTINCT n)"),
    "filtered_contributions": guarded(value="sum(n) FILTER (WHERE n > CAST('1' AS BIGINT))"),
    "hidden_or": guarded("count(*) FILTER (WHERE note = 'x' OR ward = 'w1')"),
}


@pytest.mark.parametrize("sql", TOO_FEW.values(), ids=TOO_FEW)
def test_group_of_too_few_is_nothing_to_compare_with(clinic: Clinic, sql: str) -> None:
    refuses(clinic, sql)


@pytest.mark.parametrize("sql", DOMINATED.values(), ids=DOMINATED)
def test_group_that_one_unit_dominates_is_nothing_to_compare_with(clinic: Clinic, sql: str) -> None:
    refuses(clinic, sql)


@pytest.mark.parametrize(
    "sql",
    [
        guarded(),
        guarded("count(age)"),
        guarded("sum(age)", kind="HUGEINT"),
        guarded("count(*) FILTER (WHERE note = 'x')"),
        guarded(value="count(*)", having=ENOUGH.format("count(*)")),
        guarded(
            having=f"{ENOUGH.format(UNITS.format('BIGINT'))} AND {SHARE.format('n')}".replace(
                "0.85", "0.5"
            )
        ),
    ],
)
def test_group_of_enough_may_be_compared_with(clinic: Clinic, sql: str) -> None:
    assert clinic.verify(sql).components
    with pytest.raises(GuardRefusalError):
        clinic.verify(sql, mode="dp")


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
        "(SELECT ward FROM (SELECT ward, pid FROM patient GROUP BY ward, pid) GROUP BY ward "
        "HAVING count(*) >= CAST('3' AS BIGINT)) s",
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
            "(SELECT ward FROM (SELECT ward, pid FROM patient GROUP BY ward, pid) GROUP BY ward "
            "HAVING count(*) >= CAST('3' AS BIGINT)) s",
            "p.ward = s.ward",
        ),
    ],
)
def test_rows_of_nobody_may_be_met_once(clinic: Clinic, sql: str) -> None:
    assert clinic.verify(sql).components
