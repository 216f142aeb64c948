"""Subqueries as switches: what one person is decides on what many are counted as."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, either, family, nothing

_HERS = f"FROM person WHERE email = '{MAIL}'"
_RICH = f"{_HERS} AND income > 5000000"
_COUNT = "SELECT count(*) FROM person WHERE district = 'd0' AND"

ATTACKS = family(
    either(
        "a large count that is there only if she is, or earns much",
        {
            "scalar_count": f"{_COUNT} (SELECT count(*) {_RICH}) = 1",
            "scalar_count_is_zero": f"{_COUNT} (SELECT count(*) {_RICH}) = 0",
            "scalar_sum": f"{_COUNT} (SELECT sum(income) {_HERS}) > 5000000",
            "scalar_maximum": f"{_COUNT} (SELECT max(income) FROM person) > 5000000",
            "scalar_column": f"{_COUNT} (SELECT income {_HERS}) > 5000000",
            "scalar_first": f"{_COUNT} (SELECT first(income) {_HERS}) > 5000000",
            "scalar_in_case": (
                f"SELECT sum(CASE WHEN (SELECT count(*) {_RICH}) = 1 THEN grade ELSE 0 END) "
                "FROM person WHERE district = 'd0'"
            ),
            "scalar_as_weight": (
                f"SELECT sum(grade * (SELECT count(*) {_RICH})) FROM person WHERE district = 'd0'"
            ),
            "scalar_as_addend": (
                f"SELECT sum(grade + (SELECT income {_HERS})) FROM person WHERE district = 'd0'"
            ),
            "scalar_in_select": f"SELECT count(*), (SELECT count(*) {_RICH}) FROM codes",
            "scalar_in_key": (
                f"SELECT (SELECT count(*) {_RICH}) AS k, count(*) FROM person "
                "WHERE district = 'd0' GROUP BY k"
            ),
            "scalar_in_filter_clause": (
                f"SELECT count(*) FILTER (WHERE (SELECT count(*) {_RICH}) = 1) FROM person "
                "WHERE district = 'd0'"
            ),
            "scalar_in_having": (
                "SELECT district, count(*) FROM person WHERE district = 'd0' GROUP BY district "
                f"HAVING (SELECT count(*) {_RICH}) = 1"
            ),
            "scalar_in_order": (
                "SELECT district, count(*) FROM person WHERE district LIKE 'd%' "
                f"GROUP BY district ORDER BY count(*) * (SELECT count(*) {_RICH})"
            ),
            "scalar_in_limit": (
                "SELECT district, count(*) FROM person WHERE district LIKE 'd%' "
                f"GROUP BY district LIMIT (SELECT count(*) {_RICH})"
            ),
            "exists": f"{_COUNT} EXISTS (SELECT 1 {_RICH})",
            "not_exists": f"{_COUNT} NOT EXISTS (SELECT 1 {_RICH})",
            "exists_by_cohort": (
                f"{_COUNT} EXISTS (SELECT 1 FROM person q WHERE q.cohort = 'c0' "
                "AND q.income > 5000000)"
            ),
            "exists_correlated_by_grade": (
                f"{_COUNT} EXISTS (SELECT 1 FROM person q WHERE q.grade = person.grade "
                "AND q.age = 127)"
            ),
            "in_her_columns": f"{_COUNT} grade IN (SELECT grade {_RICH})",
            "not_in_her_columns": f"{_COUNT} grade NOT IN (SELECT grade {_RICH})",
            "any_of_hers": f"{_COUNT} income < ANY (SELECT income {_HERS})",
            "all_of_hers": f"{_COUNT} income * 100 < ALL (SELECT income {_HERS})",
            "equal_to_her_grade": f"{_COUNT} grade = (SELECT grade {_HERS})",
            "cte_as_switch": (
                f"WITH s AS (SELECT count(*) AS n {_RICH}) "
                "SELECT count(*) FROM person, s WHERE district = 'd0' AND n = 1"
            ),
            "join_as_switch": (
                f"SELECT count(*) FROM person p JOIN (SELECT count(*) AS n {_RICH}) s ON s.n = 1 "
                "WHERE p.district = 'd0'"
            ),
            "group_as_switch": (
                "SELECT count(*) FROM person p JOIN (SELECT district AS d, count(*) AS n "
                "FROM person GROUP BY district) s ON p.district = 'd0' AND s.d = 'lone' "
                "AND s.n = 1"
            ),
            "group_of_grades_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND grade IN "
                "(SELECT grade FROM person WHERE age = 127 GROUP BY grade)"
            ),
            "having_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND grade IN "
                "(SELECT grade FROM person GROUP BY grade HAVING max(income) > 5000000)"
            ),
            "having_sum_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND cohort NOT IN "
                "(SELECT cohort FROM person WHERE district = 'lone' GROUP BY cohort "
                "HAVING sum(income) > 5000000)"
            ),
            "correlated_count": (
                "SELECT count(*) FROM person p WHERE p.district = 'd0' AND (SELECT count(*) "
                "FROM person q WHERE q.grade = p.grade AND q.age = 127) = 1"
            ),
            "correlated_sum_of_grade": (
                "SELECT sum(p.grade) FROM person p WHERE p.district = 'd0' AND p.income < "
                "(SELECT sum(q.income) FROM person q WHERE q.grade = p.grade AND q.age = 127)"
            ),
            "window_as_switch": (
                "SELECT count(*) FROM (SELECT district AS d, max(income) OVER () AS m "
                "FROM person) WHERE d = 'd0' AND m > 5000000"
            ),
            "limit_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND grade IN "
                "(SELECT grade FROM person ORDER BY income DESC LIMIT 1)"
            ),
            "union_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND grade IN "
                f"(SELECT grade {_RICH} UNION ALL SELECT 9)"
            ),
            "except_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND grade IN "
                f"(SELECT code FROM codes EXCEPT SELECT grade {_RICH})"
            ),
            "intersect_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND grade IN "
                f"(SELECT code FROM codes INTERSECT SELECT grade {_RICH})"
            ),
            "public_rows_chosen_by_her": (
                f"SELECT count(*) FROM codes WHERE code > (SELECT count(*) {_RICH})"
            ),
            "public_rows_joined_to_her": (
                f"SELECT sum(tariff) FROM codes c JOIN person p ON c.code = p.grade "
                f"WHERE p.email = '{MAIL}'"
            ),
            "another_product_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND "
                "(SELECT max(salary) FROM pay) > 5000000"
            ),
            "dominated_sum_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND "
                "(SELECT sum(cost) FROM visit WHERE cohort = 'c0') > 5000000"
            ),
            "dominated_average_as_switch": (
                "SELECT count(*) FROM person WHERE district = 'd0' AND "
                "(SELECT avg(cost) FROM visit WHERE cohort = 'c0') > 5000"
            ),
            "dominated_group_as_switch": (
                "SELECT count(*) FROM person p WHERE p.district = 'd0' AND p.sex = 'f' AND "
                "p.income < (SELECT sum(v.cost) FROM visit v WHERE v.cohort = 'c0' "
                "AND v.code >= p.grade)"
            ),
        },
    ),
    nothing(
        "subqueries that read her own rows decide on her own rows only",
        {
            "own_exists": (
                "SELECT count(*), sum(p.income) FROM person p WHERE EXISTS (SELECT 1 FROM visit v "
                "WHERE v.visitor = p.person_id AND v.ward = 'hospice')"
            ),
            "own_in": (
                "SELECT count(*), sum(income) FROM person WHERE person_id IN "
                "(SELECT visitor FROM visit WHERE ward = 'hospice')"
            ),
            "own_sum": (
                "SELECT count(*), avg(p.age) FROM person p WHERE "
                "(SELECT sum(v.cost) FROM visit v WHERE v.visitor = p.person_id) > 1000000"
            ),
            "own_path": (
                "SELECT count(*), sum(v.cost) FROM visit v WHERE EXISTS (SELECT 1 FROM item i "
                "WHERE i.item_visit = v.visit_no AND i.drug = 'unobtainium')"
            ),
            "own_having": (
                "SELECT count(*), avg(n) FROM (SELECT visitor, count(*) AS n FROM visit "
                "GROUP BY visitor HAVING sum(cost) > 1000000)"
            ),
        },
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_nobody_is_a_switch(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
