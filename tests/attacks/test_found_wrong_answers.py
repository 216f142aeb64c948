"""Answers that were wrong, or never came: where NULL meets NULL, where a row is missing.

An analyst who is told a wrong number without a word trusts the next one no less; and what
is wrong by the rows that have no value tells how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clinic import Clinic, assert_same_answer, open_clinic

from luoshu.sandbox.errors import GuardRefusalError

VISIT_OF = "FROM visit v WHERE v.pid = p.pid AND"
ITEM_OF = "FROM item i WHERE i.visit_id = v.visit_id AND"

# EXISTS compared what a subquery depends on by `=`, so it had no row where that is NULL.
EXISTS = {
    "the-outer-column-is-null": f"patient p WHERE EXISTS (SELECT 1 {VISIT_OF} p.ward IS NULL)",
    "not-the-outer-column-is-null": (
        f"visit v WHERE NOT EXISTS (SELECT 1 {ITEM_OF} v.code IS NULL)"
    ),
    "null-is-null": (
        f"patient p WHERE EXISTS (SELECT 1 {VISIT_OF} v.code IS NOT DISTINCT FROM p.level)"
    ),
    "null-is-no-value": (
        f"patient p WHERE EXISTS (SELECT 1 {VISIT_OF} v.code IS DISTINCT FROM p.level)"
    ),
    "null-as-zero": (
        f"patient p WHERE NOT EXISTS (SELECT 1 {VISIT_OF} "
        "coalesce(v.code, 0) = coalesce(p.level, 0))"
    ),
    "by-a-key-of-the-unit": (
        f"visit v WHERE NOT EXISTS (SELECT 1 {ITEM_OF} i.drug IS NOT DISTINCT FROM v.code)"
    ),
    "by-a-key-that-may-be-null": (
        "patient p LEFT JOIN visit v ON p.pid = v.pid AND v.kind = 'in' "
        "WHERE NOT EXISTS (SELECT 1 FROM item i WHERE i.visit_id IS NOT DISTINCT FROM v.visit_id)"
    ),
    "in-a-branch": (f"patient p WHERE sex = 'f' OR EXISTS (SELECT 1 {VISIT_OF} p.ward IS NULL)"),
    "nested": (
        f"patient p WHERE NOT EXISTS (SELECT 1 {VISIT_OF} "
        f"NOT EXISTS (SELECT 1 {ITEM_OF} i.drug = p.level))"
    ),
    "semi-join": (
        "visit v SEMI JOIN item i ON i.visit_id = v.visit_id AND i.drug IS NOT DISTINCT FROM v.code"
    ),
    "anti-join": (
        "patient p ANTI JOIN visit v ON v.pid = p.pid AND v.code IS DISTINCT FROM p.level"
    ),
    "anti-join-of-a-public-table": (
        "visit v ANTI JOIN codes c ON c.label IS NOT DISTINCT FROM v.kind"
    ),
}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


@pytest.mark.parametrize("rows", EXISTS.values(), ids=EXISTS)
def test_exists_compares_null_as_duckdb_does(clinic: Clinic, rows: str) -> None:
    assert_same_answer(clinic, f"SELECT count(*) FROM {rows}")


def test_exists_in_an_aggregate_compares_null_as_duckdb_does(clinic: Clinic) -> None:
    exists = f"EXISTS (SELECT 1 {ITEM_OF} v.code IS NULL)"
    assert_same_answer(
        clinic,
        f"SELECT count(*) FILTER (WHERE {exists}), sum(CASE WHEN {exists} THEN 1 ELSE 0 END) "
        "FROM visit v",
    )


# A unit that may be missing counted as if it were there.
MISSING = [
    "SELECT count(v.pid), count(DISTINCT v.pid), count(*) {rows}",
    "SELECT p.sex, count(DISTINCT v.pid) FILTER (WHERE p.smokes) {rows} GROUP BY p.sex",
    "SELECT count(DISTINCT u) FROM (SELECT v.pid AS u {rows})",
    "SELECT count(DISTINCT u) FROM (SELECT v.pid AS u {rows} UNION ALL SELECT pid FROM visit)",
    "SELECT count(*), avg(p.age) {rows} WHERE v.pid IS NULL",
    "SELECT count(*), avg(p.age) {rows} WHERE v.pid IS NOT NULL",
    "SELECT count(s.pid) FROM patient p LEFT JOIN "
    "(SELECT pid, count(*) FROM visit WHERE kind = 'in' GROUP BY pid) s ON s.pid = p.pid",
]
WITH_VISITS = "FROM patient p LEFT JOIN visit v ON v.pid = p.pid AND v.kind = 'in'"


@pytest.mark.parametrize("sql", MISSING)
def test_unit_that_is_missing_is_not_counted(clinic: Clinic, sql: str) -> None:
    assert_same_answer(clinic, sql.format(rows=WITH_VISITS))


@pytest.mark.parametrize("grouped", ["GROUP BY v.visit_id", "GROUP BY v.visit_id, v.kind"])
def test_group_of_what_is_missing_is_no_ones(clinic: Clinic, grouped: str) -> None:
    # All who have none are one group for DuckDB; it was a group for each of them.
    with pytest.raises(GuardRefusalError, match="may be missing"):
        clinic.check(f"SELECT avg(n) FROM (SELECT count(*) AS n {WITH_VISITS} {grouped})")
    told = f"SELECT avg(n) FROM (SELECT count(*) AS n {WITH_VISITS} {grouped}, p.pid)"
    assert_same_answer(clinic, told)


def test_values_of_what_is_missing_are_not_told_apart(clinic: Clinic) -> None:
    with pytest.raises(GuardRefusalError, match="may be missing"):
        clinic.check(f"SELECT count(*) FROM (SELECT DISTINCT v.visit_id {WITH_VISITS})")


# Inside one unit, a sum over branches was NULL where one of them had no row, or 0 where none had.
BRANCHES = [
    "CASE WHEN kind = 'in' THEN cost ELSE 0 END",
    "CASE WHEN kind = 'in' THEN cost WHEN kind = 'out' THEN -cost END",
    "CASE WHEN kind = 'in' THEN 1 WHEN kind = 'out' THEN -1 END",
    "CASE WHEN kind = 'in' THEN 1 END",
    "coalesce(cost, 0)",
    "coalesce(cost, 1)",
    "cost - cost",
    "0",
]


@pytest.mark.parametrize("argument", BRANCHES)
def test_sum_of_branches_inside_one_unit(clinic: Clinic, argument: str) -> None:
    assert_same_answer(
        clinic,
        "SELECT avg(s), count(s), sum(s), count(*) "
        f"FROM (SELECT pid, sum({argument}) AS s FROM visit GROUP BY pid)",
    )


def test_sum_of_branches_inside_one_unit_in_a_condition(clinic: Clinic) -> None:
    by_patient = "SELECT pid, sum(CASE WHEN kind = 'in' THEN cost ELSE 0 END) AS s FROM visit"
    assert_same_answer(clinic, f"SELECT count(*) FROM ({by_patient} GROUP BY pid) WHERE s < 10")


# NOT of a CASE whose condition is unknown was unknown, where the CASE goes on to the next branch.
NOT_CASE = [
    "NOT CASE WHEN sex = 'f' THEN age > 40 ELSE smokes END",
    "NOT (CASE WHEN sex = 'f' THEN age ELSE level END > 0)",
    "NOT (smokes OR CASE WHEN sex = 'f' THEN age > 40 ELSE level = 1 END)",
    "NOT (smokes AND NOT CASE WHEN sex = 'f' THEN age > 40 ELSE level = 1 END)",
    "NOT if(age > 30, sex = 'f', smokes)",
    "NOT CASE ward WHEN 'w1' THEN smokes WHEN 'w2' THEN sex = 'f' ELSE level = 0 END",
]


@pytest.mark.parametrize("condition", NOT_CASE)
def test_not_of_a_case_on_what_is_unknown(clinic: Clinic, condition: str) -> None:
    assert_same_answer(clinic, f"SELECT count(*) FROM patient WHERE {condition}")
    assert_same_answer(clinic, f"SELECT count(*) FILTER (WHERE {condition}) FROM patient")


# Bounds that are no constants, or a condition said twice, were taken apart without an end.
NO_RANGE = [
    "NOT (age > level AND age < balance)",
    "NOT (age > level AND age > 30 AND age < 50)",
    "NOT (age > (SELECT avg(age) FROM patient) AND age > (SELECT avg(level) FROM patient))",
    "(age > level AND age < balance) IS NOT TRUE",
    "NOT (level BETWEEN 0 AND age AND level BETWEEN 0 AND age)",
    "NOT (ward NOT IN ('w1', 'w3') AND ward NOT IN ('w1', 'w3'))",
    "NOT (smokes AND smokes > false AND smokes)",
]


@pytest.mark.parametrize("condition", NO_RANGE)
def test_not_of_a_range_between_columns(clinic: Clinic, condition: str) -> None:
    assert_same_answer(clinic, f"SELECT count(*) FROM patient WHERE {condition}")
