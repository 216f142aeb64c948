"""Who somebody is: no key, no condition and no digest of it leaves or decides."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, denied, family, nothing, silent

ATTACKS = family(
    denied(
        "one group for each person",
        {
            "unit_key": "SELECT person_id, sum(income) FROM person GROUP BY person_id",
            "unit_key_hidden": "SELECT sum(income) FROM person GROUP BY person_id",
            "unit_key_quoted": 'SELECT count(*) FROM person GROUP BY "PERSON_ID"',
            "unit_key_all": "SELECT person_id, count(*) FROM person GROUP BY ALL",
            "unit_key_position": "SELECT person_id, count(*) FROM person GROUP BY 1",
            "unit_key_rollup": "SELECT person_id, count(*) FROM person GROUP BY ROLLUP (person_id)",
            "unit_key_beside": (
                "SELECT district, person_id, count(*) FROM person GROUP BY district, person_id"
            ),
            "unit_key_of_visits": "SELECT visitor, sum(cost) FROM visit GROUP BY visitor",
            "unit_key_of_join": (
                "SELECT p.person_id, count(*) FROM person p JOIN visit v "
                "ON p.person_id = v.visitor GROUP BY p.person_id"
            ),
            "unit_through_inner_group": (
                "SELECT who, sum(s) FROM (SELECT visitor AS who, sum(cost) AS s FROM visit "
                "GROUP BY visitor) GROUP BY who"
            ),
            "per_unit_sums": (
                "SELECT s FROM (SELECT visitor, sum(cost) AS s FROM visit GROUP BY visitor)"
            ),
            "per_unit_sum_as_key": (
                "SELECT s, count(*) FROM (SELECT sum(cost) AS s FROM visit GROUP BY visitor) "
                "GROUP BY s"
            ),
            "per_unit_maximum_as_key": (
                "SELECT m, count(*) FROM (SELECT max(cost) AS m FROM visit GROUP BY visitor) "
                "GROUP BY m"
            ),
            "email_as_key": "SELECT email, count(*) FROM person GROUP BY email",
            "income_as_key": "SELECT income, count(*) FROM person GROUP BY income",
            "visit_number_as_key": "SELECT visit_no, sum(cost) FROM visit GROUP BY visit_no",
            "path_key_as_key": "SELECT item_visit, sum(amount) FROM item GROUP BY item_visit",
            "illness_as_key": "SELECT illness, count(*) FROM visit GROUP BY illness",
            "partition_by_unit": ("SELECT sum(income) OVER (PARTITION BY person_id) FROM person"),
            "distinct_unit": "SELECT DISTINCT person_id FROM person",
        },
    ),
    denied(
        "a digest of the identifier instead of it",
        {
            "hash_of_unit_as_key": "SELECT hash(person_id), count(*) FROM person GROUP BY 1",
            "hash_bucket_of_unit": ("SELECT count(*) FROM person WHERE hash(person_id) % 2 = 0"),
            "md5_of_unit": "SELECT md5(person_id), count(*) FROM person GROUP BY 1",
            "length_of_unit": "SELECT length(person_id), count(*) FROM person GROUP BY 1",
            "sum_of_length": "SELECT sum(length(person_id)) FROM person",
            "sum_of_hash": "SELECT sum(hash(person_id)) FROM person",
            "prefix_of_unit": "SELECT left(person_id, 5), count(*) FROM person GROUP BY 1",
            "concatenated_unit": "SELECT person_id || '', count(*) FROM person GROUP BY 1",
            "length_of_email": "SELECT length(email), count(*) FROM person GROUP BY 1",
            "hash_of_email": "SELECT hash(email) % 1000, count(*) FROM person GROUP BY 1",
            "prefix_of_email": "SELECT substr(email, 1, 5), count(*) FROM person GROUP BY 1",
            "distinct_emails": "SELECT count(DISTINCT email) FROM person",
            "distinct_incomes": "SELECT count(DISTINCT income) FROM person",
            "distinct_visit_numbers": "SELECT count(DISTINCT visit_no) FROM visit",
            "distinct_pairs": "SELECT count(DISTINCT (person_id, income)) FROM person",
            "approximate_distinct": "SELECT approx_count_distinct(email) FROM person",
        },
    ),
    denied(
        "a condition on the identifier",
        {
            "unit_equals": "SELECT count(*) FROM person WHERE person_id = 'P-7'",
            "unit_equals_id": "SELECT count(*) FROM person WHERE person_id = 7",
            "unit_in_list": "SELECT sum(income) FROM person WHERE person_id IN ('P-7', 'P-8')",
            "unit_range": "SELECT count(*) FROM person WHERE person_id < 'P-2'",
            "unit_between": "SELECT count(*) FROM visit WHERE visitor BETWEEN 10 AND 40",
            "unit_like": "SELECT count(*) FROM person WHERE person_id LIKE 'P-c%'",
            "unit_in_case": (
                "SELECT sum(CASE WHEN person_id = 7 THEN income ELSE 0 END) FROM person"
            ),
            "unit_in_filter_clause": ("SELECT count(*) FILTER (WHERE person_id = 7) FROM person"),
            "unit_in_having": (
                "SELECT count(*) FROM (SELECT visitor FROM visit GROUP BY visitor "
                "HAVING visitor = 7)"
            ),
            "unit_in_order": "SELECT count(*) FROM person ORDER BY person_id",
            "unit_modulo": "SELECT count(*) FROM person WHERE person_id % 2 = 0",
            "unit_less_than_unit": (
                "SELECT count(*) FROM person JOIN visit ON person_id < visitor"
            ),
            "unit_against_a_column": "SELECT count(*) FROM person WHERE person_id = email",
            "unit_against_a_serial": (
                "SELECT count(*) FROM person JOIN visit ON person_id = serial"
            ),
            "unit_against_a_literal_table": (
                "SELECT count(*) FROM person JOIN (VALUES (7)) v(x) ON person_id = x"
            ),
            "unit_against_a_public_key": (
                "SELECT count(*) FROM person JOIN codes ON person_id = code"
            ),
        },
    ),
    denied(
        "arithmetic with the identifier",
        {
            "sum_of_unit": "SELECT sum(person_id) FROM person",
            "average_of_unit": "SELECT avg(visitor) FROM visit",
            "maximum_of_unit": "SELECT max(person_id) FROM person",
            "unit_times_income": "SELECT sum(person_id * income) FROM person",
            "listed_units": "SELECT string_agg(person_id, ',') FROM person",
            "correlation_with_unit": "SELECT corr(person_id, income) FROM person",
            "sum_of_path_key": "SELECT sum(item_visit) FROM item",
            "distinct_unit_filtered_by_itself": (
                "SELECT count(DISTINCT person_id) FILTER (WHERE person_id = 7) FROM person"
            ),
            "distinct_unit_plus": "SELECT count(DISTINCT person_id + 0) FROM person",
        },
    ),
    nothing(
        "the accepted uses of the unit, aimed at Alice",
        {
            "unit_is_null": "SELECT count(*) FROM person WHERE person_id IS NULL",
            "count_of_unit": "SELECT count(person_id) FROM person WHERE age = 127",
            "distinct_units_of_one": (
                f"SELECT count(DISTINCT person_id) FROM person WHERE email = '{MAIL}'"
            ),
            "semijoin_on_unit": (
                "SELECT count(*), sum(income) FROM person WHERE district = 'lone' "
                "AND person_id IN (SELECT visitor FROM visit)"
            ),
            "average_of_her_sums": (
                "SELECT avg(s), count(*) FROM (SELECT visitor, sum(cost) AS s FROM visit "
                "WHERE ward = 'hospice' GROUP BY visitor)"
            ),
            "joined_on_unit": (
                "SELECT sum(v.cost) FROM person p JOIN visit v ON p.person_id = v.visitor "
                "WHERE p.age = 127"
            ),
            "joined_on_path": (
                "SELECT sum(amount) FROM item JOIN visit ON item_visit = visit_no "
                "WHERE ward = 'hospice'"
            ),
        },
    ),
    silent(
        "groups that only she is in, beside large ones",
        {
            "by_district": "SELECT district, count(*), avg(age) FROM person GROUP BY district",
            "distinct_by_district": (
                "SELECT district, count(DISTINCT person_id) FROM person GROUP BY district"
            ),
            "keys_alone": "SELECT district FROM person GROUP BY district",
            "distinct_keys": "SELECT DISTINCT district FROM person",
        },
    ),
    nothing(
        "how many different values, hers among them",
        {
            "distinct_districts": "SELECT count(DISTINCT district) FROM person",
            "distinct_days": "SELECT count(DISTINCT joined) FROM person",
            "distinct_drugs": "SELECT count(DISTINCT drug) FROM item",
            "distinct_wards": "SELECT count(DISTINCT ward) FROM visit",
        },
        others=(),  # without her, each value is common
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_identity_stays(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
