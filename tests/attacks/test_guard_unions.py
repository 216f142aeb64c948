"""UNION ALL below an aggregate, as a way to pad, to copy or to hide rows."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, denied, family, nothing, silent

_COHORT = "FROM person WHERE cohort = 'c3'"
_ALICE = "FROM person WHERE age = 127"
_COPIES = " UNION ALL ".join([f"SELECT income AS x {_ALICE}"] * 12)

ATTACKS = family(
    nothing(
        "an arm of one person, padded by an arm of fifty",
        {
            "sum": (
                f"SELECT sum(x) FROM (SELECT income AS x {_COHORT} UNION ALL "
                f"SELECT income {_ALICE})"
            ),
            "rows": f"SELECT count(*) FROM (SELECT 1 {_COHORT} UNION ALL SELECT 1 {_ALICE})",
            "units": (
                f"SELECT count(DISTINCT u) FROM (SELECT person_id AS u {_COHORT} UNION ALL "
                f"SELECT person_id {_ALICE})"
            ),
            "average": (
                f"SELECT avg(x), var_pop(x) FROM (SELECT income AS x {_COHORT} UNION ALL "
                f"SELECT income {_ALICE})"
            ),
            "by_where_above": (
                "SELECT count(DISTINCT u) FROM (SELECT person_id AS u, cohort AS c, age AS a "
                "FROM person WHERE sex = 'f' UNION ALL SELECT person_id, 'c3', age FROM person "
                "WHERE sex = 'm') WHERE c = 'c3' AND a > 100"
            ),
            "by_filter": (
                "SELECT count(DISTINCT u) FILTER (WHERE k = 1 OR a = 127) FROM (SELECT person_id "
                "AS u, 1 AS k, age AS a FROM person UNION ALL SELECT person_id, 2, age FROM person)"
            ),
            "another_table": (
                f"SELECT count(DISTINCT u), count(*) FROM (SELECT person_id AS u {_COHORT} "
                "UNION ALL SELECT visitor FROM visit WHERE ward = 'hospice')"
            ),
            "nested": (
                f"SELECT count(*) FROM (SELECT 1 {_COHORT} UNION ALL (SELECT 1 {_COHORT} "
                f"UNION ALL SELECT 1 {_ALICE}))"
            ),
            "in_a_cte_twice": (
                f"WITH e AS (SELECT person_id AS u, income AS x {_COHORT} UNION ALL "
                f"SELECT person_id, income {_ALICE}) SELECT sum(a.x) FROM e a JOIN e b ON a.u = b.u"
            ),
            "as_distinct_values": (
                f"SELECT count(DISTINCT k) FROM (SELECT grade AS k {_COHORT} UNION ALL "
                f"SELECT grade {_ALICE})"
            ),
            "per_person": (
                "SELECT avg(s) FROM (SELECT person_id, sum(income) AS s FROM person WHERE cohort = "
                "'c3' GROUP BY person_id UNION ALL SELECT visitor, sum(cost) FROM visit WHERE "
                "ward = 'hospice' GROUP BY visitor)"
            ),
            "copies": (f"SELECT count(*), sum(x) FROM ({_COPIES})"),
        },
    ),
    silent(
        "keys that only one person's arm has",
        {
            "a_key_of_its_own": (
                f"SELECT k, count(*) FROM (SELECT 'many' AS k {_COHORT} UNION ALL "
                f"SELECT 'one' {_ALICE}) GROUP BY k"
            ),
            "rolled_up": (
                f"SELECT k, count(*) FROM (SELECT 'many' AS k {_COHORT} UNION ALL "
                f"SELECT 'one' {_ALICE}) GROUP BY ROLLUP (k)"
            ),
            "from_a_column": (
                "SELECT k, count(*) FROM (SELECT sex AS k FROM person WHERE cohort = 'c3' "
                "UNION ALL SELECT ward FROM visit WHERE ward = 'hospice') GROUP BY k"
            ),
        },
    ),
    denied(
        "a union that chooses rows, or hides a column",
        {
            "in": (
                "SELECT count(*) FROM person WHERE person_id IN (SELECT person_id FROM person "
                f"WHERE cohort = 'c3' UNION ALL SELECT person_id {_ALICE})"
            ),
            "exists": (
                "SELECT count(*) FROM person p WHERE EXISTS (SELECT 1 FROM (SELECT person_id AS u "
                f"{_COHORT} UNION ALL SELECT person_id {_ALICE}) e WHERE e.u = p.person_id)"
            ),
            "left_join": (
                "SELECT count(e.u) FROM person p LEFT JOIN (SELECT person_id AS u "
                f"{_COHORT} UNION ALL SELECT person_id {_ALICE}) e ON e.u = p.person_id"
            ),
            "by_person": (
                "SELECT avg(n) FROM (SELECT u, count(*) AS n FROM (SELECT person_id AS u "
                f"{_COHORT} UNION ALL SELECT person_id {_ALICE}) GROUP BY u)"
            ),
            "with_made_up_rows": (
                f"SELECT sum(x) FROM (SELECT income AS x {_ALICE} UNION ALL SELECT 1.00)"
            ),
            "with_results": (
                f"SELECT sum(x) FROM (SELECT income AS x {_ALICE} UNION ALL "
                "SELECT sum(income) FROM person)"
            ),
            "an_undeclared_key": (
                "SELECT k, count(*) FROM (SELECT grade::VARCHAR AS k FROM person UNION ALL "
                "SELECT email FROM person) GROUP BY k"
            ),
            "the_unit_as_a_key": (
                "SELECT k, count(*) FROM (SELECT district AS k FROM person UNION ALL "
                "SELECT person_id FROM person) GROUP BY k"
            ),
            "an_undeclared_summand": (
                "SELECT sum(x) FROM (SELECT age AS x FROM person UNION ALL SELECT code FROM visit)"
            ),
            "an_undeclared_condition": (
                "SELECT count(*) FROM (SELECT age AS x FROM person UNION ALL "
                "SELECT score FROM person) WHERE x > 1"
            ),
            "other_people": (
                "SELECT count(DISTINCT u) FROM (SELECT person_id AS u FROM person UNION ALL "
                "SELECT employee FROM pay)"
            ),
            "cut_to_one": (
                "SELECT sum(x) FROM (SELECT income AS x FROM person UNION ALL "
                "SELECT income FROM person LIMIT 1)"
            ),
            "without_copies": (
                f"SELECT count(*) FROM (SELECT email FROM person UNION SELECT '{MAIL}')"
            ),
        },
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_arms_hide_nobody(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
