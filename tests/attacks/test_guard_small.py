"""Few people, and rows that pretend to be many."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, denied, either, family, nothing, silent

_MEASURES = "count(*), count(age), sum(income), avg(age), count(DISTINCT person_id)"

ATTACKS = family(
    nothing(
        "a condition that only few people meet",
        {
            name: f"SELECT {_MEASURES} FROM person WHERE {where}"
            for name, where in {
                "by_email": f"email = '{MAIL}'",
                "by_age": "age = 127",
                "by_age_range": "age > 100 AND age < 130",
                "by_age_between": "age BETWEEN 127 AND 127",
                "by_day": "joined = DATE '1999-12-31'",
                "by_day_range": "joined < DATE '2020-01-01'",
                "by_day_as_text": "joined = '1999-12-31'",
                "by_district": "district = 'lone'",
                "by_two_districts": "district IN ('lone', 'rare')",
                "by_income": "income > 5000000",
                "by_pattern": "email LIKE 'alice%'",
                "by_pattern_anywhere": "email ILIKE '%LICE@%'",
                "by_conjunction": "sex = 'm' AND cohort = 'c0' AND age > 79 AND NOT member",
                "by_negations": "age >= 80",
                "by_a_list_of_nine": (
                    "email IN ("
                    + ", ".join(f"'user{n}@mail.example'" for n in range(100, 108))
                    + f", '{MAIL}')"
                ),
                "nobody": "district = 'nowhere'",
                "never": "1 = 0",
            }.items()
        },
    ),
    nothing(
        "twelve rows of three people, or four of one",
        {
            "visits_of_three": (
                "SELECT count(*), sum(cost) FROM visit WHERE serial IN "
                "('V4', 'V5', 'V6', 'V7', 'V8', 'V9', 'V10', 'V11', 'V12', 'V13', 'V14', 'V15')"
            ),
            "visits_of_one": (
                "SELECT count(*), sum(cost), avg(cost) FROM visit WHERE ward = 'hospice'"
            ),
            "items_of_one": "SELECT count(*), sum(amount) FROM item WHERE drug = 'unobtainium'",
            "visits_of_few_joined": (
                "SELECT count(*) FROM person p JOIN visit v ON p.person_id = v.visitor "
                "JOIN item i ON i.item_visit = v.visit_no WHERE p.district IN ('lone', 'rare')"
            ),
        },
    ),
    nothing(
        "grouped so that each group is small",
        {
            "few_by_sex": (
                f"SELECT {_MEASURES} FROM person WHERE district IN ('lone', 'rare') GROUP BY sex"
            ),
            "one_by_cohort": (
                f"SELECT sum(income) FROM person WHERE email = '{MAIL}' GROUP BY cohort"
            ),
            "small_sets_by_day": (
                "SELECT count(*) FROM person WHERE age = 127 GROUP BY joined, sex, cohort"
            ),
            "cube_of_few": (
                "SELECT count(*) FROM person WHERE district = 'lone' GROUP BY CUBE (sex, cohort)"
            ),
            "few_by_day_part": (
                "SELECT count(*) FROM person WHERE age = 127 GROUP BY year(joined)"
            ),
        },
    ),
    silent(
        "groups of one beside large ones",
        {
            "wards": "SELECT ward, count(*), avg(cost) FROM visit GROUP BY ward",
            "drugs": "SELECT drug, count(*), sum(amount) FROM item GROUP BY drug",
            "districts_and_sexes": (
                "SELECT district, sex, count(*), sum(income) FROM person GROUP BY district, sex"
            ),
            "years": "SELECT year(joined) AS y, count(*) FROM person GROUP BY y",
            "wards_joined": (
                "SELECT v.ward, count(DISTINCT p.person_id) FROM person p JOIN visit v "
                "ON p.person_id = v.visitor GROUP BY v.ward"
            ),
            "wards_and_codes": (
                "SELECT v.ward, c.chapter, count(*) FROM visit v JOIN codes c ON v.code = c.code "
                "GROUP BY v.ward, c.chapter"
            ),
        },
        # Changed, she is one of a large ward; the counts there are others then.
        (World.WITHOUT,),
    ),
    nothing(
        "padding: nine known people or the target",
        {
            "nine_or_target_by_age": (
                "SELECT sum(income) FROM person WHERE age = 127 OR email IN ("
                + ", ".join(f"'user{n}@mail.example'" for n in range(100, 108))
                + ")"
            ),
            "many_or_target_by_age": (
                "SELECT sum(income) FROM person WHERE cohort = 'c3' OR age = 127"
            ),
            "many_or_target_by_email": (
                f"SELECT count(*), sum(income) FROM person WHERE cohort = 'c3' OR email = '{MAIL}'"
            ),
            "many_or_target_nested": (
                "SELECT sum(income) FROM person WHERE sex = 'f' AND (cohort = 'c4' OR "
                "(district = 'lone' AND cohort = 'c0')) OR age = 127"
            ),
            "many_or_target_negated": (
                "SELECT sum(income) FROM person WHERE NOT (cohort <> 'c3' AND age <> 127)"
            ),
            "many_or_target_by_case": (
                "SELECT sum(CASE WHEN cohort = 'c3' THEN income WHEN age = 127 THEN income END) "
                "FROM person"
            ),
        },
        others=(World.CHANGED,),
    ),
    either(
        "padding that tells, by being withheld, what the target earns",
        {
            "padding_with_a_secret_range": (
                "SELECT count(*) FROM person WHERE cohort = 'c3' OR "
                f"(email = '{MAIL}' AND income > 5000000)"
            ),
            "padding_with_a_secret_half": (
                "SELECT count(*) FROM person WHERE cohort = 'c3' OR "
                f"(email = '{MAIL}' AND income <= 5000000)"
            ),
            "padding_in_a_filter_clause": (
                "SELECT count(*) FILTER (WHERE cohort = 'c3' OR "
                "(age = 127 AND income > 5000000)) FROM person"
            ),
            "padding_in_a_case": (
                "SELECT sum(CASE WHEN cohort = 'c3' THEN grade WHEN age = 127 AND income > 5000000 "
                "THEN grade ELSE 0 END) FROM person"
            ),
            "padding_in_union_arms": (
                "SELECT sum(income) FROM (SELECT income FROM person WHERE cohort = 'c3' "
                "UNION ALL SELECT income FROM person WHERE age = 127 AND income > 5000000)"
            ),
            "padding_with_an_illness": (
                "SELECT count(*) FROM visit WHERE cohort = 'c3' OR "
                "(ward = 'hospice' AND cohort = 'c0')"
            ),
            "membership_of_a_list": (
                "SELECT count(*) FROM person WHERE cohort = 'c3' OR email = '" + MAIL + "'"
            ),
        },
    ),
    denied(
        "rows made up to reach the threshold",
        {
            "cross_join_of_people": "SELECT count(*) FROM person a, person b WHERE a.age = 127",
            "join_by_anything": (
                "SELECT count(DISTINCT b.person_id), sum(a.income) FROM person a JOIN person b "
                "ON a.cohort = b.cohort WHERE a.age = 127"
            ),
        },
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_few_stay_unseen(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
