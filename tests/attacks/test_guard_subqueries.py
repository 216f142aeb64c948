"""Subqueries of the same person, as conditions that few meet, hidden in one that many meet."""

from __future__ import annotations

import pytest
from attack_world import Answers, Attack, denied, family, nothing

_ILL = "SELECT 1 FROM visit v WHERE v.visitor = p.person_id AND v.illness = 'zebra-' || 'syndrome'"
_VISITS = "SELECT count(*) FROM visit v WHERE v.visitor = p.person_id"
_HOSPICE = f"({_VISITS} AND v.ward = 'hospice')"
_RICH = "(SELECT max(cost) FROM visit v WHERE v.visitor = p.person_id) > 5000000"

ATTACKS = family(
    nothing(
        "a count, extreme or sum of one's own visits that only one person has",
        {
            "count": f"SELECT count(*), sum(income) FROM person p WHERE {_HOSPICE} > 0",
            "count_between": f"SELECT count(*) FROM person p WHERE {_HOSPICE} BETWEEN 1 AND 9",
            "count_in": f"SELECT count(*) FROM person p WHERE {_HOSPICE} IN (3, 4)",
            "extreme": f"SELECT count(*), avg(age) FROM person p WHERE {_RICH}",
            "in_a_filter": f"SELECT count(*) FILTER (WHERE {_HOSPICE} > 0) FROM person p",
            "in_a_case": f"SELECT sum(CASE WHEN {_RICH} THEN income ELSE 0 END) FROM person p",
            "added_up": f"SELECT sum({_HOSPICE}) FROM person p WHERE age = 127",
            "as_a_key": (
                f"SELECT n FROM (SELECT {_HOSPICE} AS n, count(*) AS c FROM person p GROUP BY n) "
                "WHERE n > 0"
            ),
            "lateral": (
                "SELECT sum(l.n) FROM person p, LATERAL (SELECT count(*) AS n FROM visit v "
                "WHERE v.visitor = p.person_id AND v.ward = 'hospice') l WHERE l.n > 0"
            ),
            "tuple": (
                "SELECT count(*) FROM person WHERE (person_id, 'hospice') IN (SELECT visitor, "
                "ward FROM visit)"
            ),
            "by_a_key": (
                "SELECT count(*) FROM visit v WHERE ward = 'hospice' AND (SELECT count(*) FROM "
                "item i WHERE i.item_visit = v.visit_no) > 1"
            ),
        },
    ),
    nothing(
        "the same, padded by fifty others",
        {
            "or_exists": f"SELECT count(*) FROM person p WHERE cohort = 'c3' OR EXISTS ({_ILL})",
            "or_in": (
                "SELECT sum(income) FROM person WHERE cohort = 'c3' OR person_id IN "
                "(SELECT visitor FROM visit WHERE ward = 'hospice')"
            ),
            "or_count": f"SELECT count(*) FROM person p WHERE cohort = 'c3' OR {_HOSPICE} > 0",
            "or_tuple": (
                "SELECT count(*) FROM person WHERE cohort = 'c3' OR (person_id, 'hospice') IN "
                "(SELECT visitor, ward FROM visit)"
            ),
            "not_and": (
                f"SELECT count(*) FROM person p WHERE NOT (cohort <> 'c3' AND NOT EXISTS ({_ILL}))"
            ),
            "case": (
                "SELECT count(*) FROM person p WHERE CASE WHEN cohort = 'c3' THEN true "
                f"ELSE {_RICH} END"
            ),
            "case_of_texts": (
                "SELECT count(*) FROM person WHERE CASE WHEN cohort = 'c3' THEN 'in' "
                "WHEN age = 127 THEN 'in' ELSE 'out' END = 'in'"
            ),
            "case_in_case": (
                "SELECT count(*) FROM person WHERE CASE WHEN sex = 'f' THEN cohort = 'c3' "
                "ELSE CASE WHEN age = 127 THEN true ELSE cohort = 'c3' END END"
            ),
            "filter_or_exists": (
                f"SELECT count(*) FILTER (WHERE cohort = 'c3' OR EXISTS ({_ILL})) FROM person p"
            ),
            "two_exists": (
                f"SELECT count(*) FROM person p WHERE EXISTS ({_ILL}) OR EXISTS (SELECT 1 "
                "FROM visit v WHERE v.visitor = p.person_id AND v.cohort = 'c3')"
            ),
        },
    ),
    denied(
        "other people's rows, or one of several rows",
        {
            "of_others": (
                "SELECT count(*) FROM person p WHERE (SELECT count(*) FROM visit v "
                "WHERE v.cohort = p.cohort AND v.ward = 'hospice') > 0"
            ),
            "of_anyone": (
                "SELECT count(*) FROM person p WHERE (SELECT count(*) FROM visit v "
                "WHERE v.visitor <> p.person_id AND v.cost > p.income) > 0"
            ),
            "one_of_several": (
                "SELECT count(*) FROM person p WHERE (SELECT cost FROM visit v "
                "WHERE v.visitor = p.person_id AND v.ward = 'hospice') > 3"
            ),
            "the_first": (
                "SELECT sum(l.cost) FROM person p, LATERAL (SELECT cost FROM visit v WHERE "
                "v.visitor = p.person_id ORDER BY cost LIMIT 1) l"
            ),
            "the_unit_itself": (
                "SELECT count(*) FROM person p WHERE (SELECT max(v.visitor) FROM visit v "
                "WHERE v.visitor = p.person_id) > 'P-b'"
            ),
            "undeclared_inside": (
                "SELECT count(*) FROM person p WHERE (SELECT max(score) FROM person q "
                "WHERE q.person_id = p.person_id) > 1"
            ),
            "of_no_use": (
                "SELECT count(*) FROM visit v WHERE (SELECT count(*) FROM visit w WHERE "
                "w.visitor = v.visitor AND w.visit_no < v.visit_no) > 1"
            ),
            "full_join": (
                "SELECT count(*) FROM person p FULL JOIN visit v ON p.person_id = v.visitor"
            ),
        },
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_ones_own_rows_tell_of_nobody(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
