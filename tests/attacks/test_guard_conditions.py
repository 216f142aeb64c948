"""Conditions hidden in what is added up, and weights that number people."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, denied, either, family

ATTACKS = family(
    denied(
        "a function of a column that is a condition in disguise",
        {
            "power_switch": "SELECT sum(power(0, abs(age - 127))) FROM person",
            "power_of_a_key": "SELECT sum(income * power(0, abs(grade - 7))) FROM person",
            "sign_switch": "SELECT sum(sign(income - 5000000)) FROM person",
            "abs_switch": "SELECT sum(abs(income - 5000000)) FROM person",
            "greatest_switch": "SELECT sum(greatest(income, 5000000)) FROM person",
            "least_switch": "SELECT sum(income - least(income, 5000000)) FROM person",
            "floor_switch": "SELECT sum(floor(income / 5000000)) FROM person",
            "integer_division": "SELECT sum(income // 5000000) FROM person",
            "modulo": "SELECT sum(age % 2) FROM person",
            "bit_shift": "SELECT sum(age >> 6) FROM person",
            "bit_and": "SELECT sum(age & 64) FROM person",
            "exponential": "SELECT sum(exp(age)) FROM person",
            "logarithm": "SELECT sum(ln(income)) FROM person",
            "square_root": "SELECT sum(sqrt(income - 7000000)) FROM person",
            "rounded": "SELECT sum(round(income, -7)) FROM person",
            "division_by_column": "SELECT sum(income / (age - 126)) FROM person",
            "division_by_zero": "SELECT sum(income / 0) FROM person",
            "text_length": "SELECT sum(length(email)) FROM person",
            "text_found": "SELECT sum(strpos(email, 'alice') * income) FROM person",
            "hashed": "SELECT sum(hash(email)) FROM person",
            "cast_to_text_and_back": "SELECT sum(left(income::VARCHAR, 1)::INT) FROM person",
            "narrow_cast": "SELECT sum(income::BOOLEAN::INT) FROM person",
            "date_part": "SELECT sum(year(joined)) FROM person",
            "epoch": "SELECT sum(epoch(joined)) FROM person",
            "sine": "SELECT sum(sin(age)) FROM person",
            "list_element": "SELECT sum([0, income][(age = 127)::INT + 1]) FROM person",
        },
    ),
    denied(
        "weights that keep people apart in one sum",
        {
            "superincreasing_by_case": (
                "SELECT sum(CASE WHEN grade = 0 THEN 1 WHEN grade = 1 THEN 10000 "
                "ELSE power(10, age) END) FROM person"
            ),
            "superincreasing_by_power": "SELECT sum(power(2, age)) FROM person",
            "superincreasing_by_shift": "SELECT sum(1::BIGINT << grade) FROM person",
            "weights_from_a_table": (
                "SELECT sum(w * income) FROM person, (VALUES ('f', 1), ('m', 100000000)) v(s, w) "
                "WHERE s = sex AND power(w, 2) > 0"
            ),
            "row_number_as_weight": (
                "SELECT sum(income * row_number() OVER (ORDER BY email)) FROM person"
            ),
            "random_weight": "SELECT sum(income * random()) FROM person",
            "random_condition": "SELECT sum(income) FROM person WHERE random() < 0.5",
        },
    ),
    either(
        "a sum that is told who it should be of",
        {
            "nullif_switch": "SELECT count(nullif(age, 127)) FROM person",
            "comparison_as_number": "SELECT sum((age = 127)::INT) FROM person",
            "comparison_counted": "SELECT count_if(age = 127) FROM person",
            "comparison_times_income": (
                f"SELECT sum((email = '{MAIL}')::INT * income) FROM person"
            ),
            "overflowing_weight": (
                "SELECT sum(income * 170141183460469231731687303715884105727) FROM person "
                "WHERE age = 127"
            ),
            "case_else_zero": (
                f"SELECT sum(CASE WHEN email = '{MAIL}' THEN income ELSE 0 END) FROM person"
            ),
            "case_else_nothing": "SELECT sum(CASE WHEN age = 127 THEN income END) FROM person",
            "case_else_hundredth": (
                "SELECT sum(CASE WHEN age = 127 THEN income ELSE 0.01 END) FROM person"
            ),
            "case_else_column": (
                "SELECT sum(CASE WHEN age = 127 THEN income ELSE grade END) FROM person"
            ),
            "case_both_signs": (
                "SELECT sum(CASE WHEN age = 127 THEN -income ELSE income END) FROM person"
            ),
            "case_weighs": (
                "SELECT sum(income * CASE WHEN age = 127 THEN 1000 ELSE 1 END) FROM person"
            ),
            "case_of_column": "SELECT sum(CASE age WHEN 127 THEN income ELSE 0 END) FROM person",
            "case_nested": (
                "SELECT sum(CASE WHEN sex = 'm' THEN CASE WHEN age = 127 THEN income ELSE 1 END "
                "ELSE 1 END) FROM person"
            ),
            "if_function": "SELECT sum(if(age = 127, income, 0)) FROM person",
            "counted_case": "SELECT count(CASE WHEN age = 127 THEN 1 END) FROM person",
            "averaged_case": "SELECT avg(CASE WHEN age = 127 THEN income ELSE 0 END) FROM person",
            "deviation_of_case": (
                "SELECT stddev_pop(CASE WHEN age = 127 THEN income ELSE 0 END) FROM person"
            ),
            "filter_clause": "SELECT sum(income) FILTER (WHERE age = 127) FROM person",
            "filter_count": f"SELECT count(*) FILTER (WHERE email = '{MAIL}') FROM person",
            "filter_by_group": (
                "SELECT cohort, sum(income) FILTER (WHERE age = 127) FROM person GROUP BY cohort"
            ),
            "coalesced": "SELECT sum(coalesce(CASE WHEN age = 127 THEN income END, 0)) FROM person",
            "distinct_of_case": (
                "SELECT count(DISTINCT CASE WHEN age = 127 THEN person_id END) FROM person"
            ),
            "distinct_value_of_case": (
                "SELECT count(DISTINCT CASE WHEN age = 127 THEN district END) FROM person"
            ),
            "case_key": (
                "SELECT CASE WHEN age = 127 THEN 'her' ELSE 'others' END AS g, sum(income) "
                "FROM person WHERE district = 'lone' GROUP BY g"
            ),
            "boolean_key": (
                "SELECT income > 5000000 AS g, count(*) FROM person WHERE age = 127 GROUP BY g"
            ),
            "key_column_of_case": (
                "SELECT CASE WHEN district = 'lone' THEN district ELSE 'other' END AS g, "
                "sum(age) FROM person WHERE district = 'lone' GROUP BY g"
            ),
        },
        (World.CHANGED,),
    ),
    either(
        "a branch that is withheld if she earns much",
        {
            "secret_in_case": (
                "SELECT sum(CASE WHEN cohort = 'c5' THEN grade WHEN age = 127 AND income > 5000000 "
                "THEN grade END) FROM person WHERE cohort = 'c5' OR district = 'lone'"
            ),
            "secret_in_filter": (
                "SELECT count(*), count(*) FILTER (WHERE age = 127 AND income > 5000000) "
                "FROM person"
            ),
            "secret_in_two_filters": (
                "SELECT count(*) FILTER (WHERE age = 127 AND income > 5000000), "
                "count(*) FILTER (WHERE age = 127 AND income <= 5000000) FROM person"
            ),
            "secret_in_having": (
                "SELECT cohort, count(*) FROM person GROUP BY cohort "
                "HAVING count(*) FILTER (WHERE age = 127 AND income > 5000000) = 1"
            ),
            "secret_beside_a_group": (
                "SELECT district, count(*), sum(CASE WHEN age = 127 AND income > 5000000 THEN 1 "
                "ELSE 0 END) FROM person GROUP BY district"
            ),
        },
        (World.CHANGED,),
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_conditions_decide_nothing(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
