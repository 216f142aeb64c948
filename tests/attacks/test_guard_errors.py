"""Errors, overflow, casts and allocation: whether a query fails must not depend on anybody.

A statement that may fail by protected data is refused; what is computed from released cells may
fail, but by them alone.
"""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, constant, denied, family, silent

_HER = f"email = '{MAIL}'"

ATTACKS = family(
    denied(
        "fail, if the condition holds for her",
        {
            "error_in_case": (
                "SELECT count(*) FROM person WHERE CASE WHEN income > 5000000 "
                "THEN error('x') IS NULL ELSE true END"
            ),
            "error_in_sum": (
                "SELECT sum(CASE WHEN income > 5000000 THEN error('x')::INT ELSE 1 END) FROM person"
            ),
            "error_of_value": "SELECT error(email) FROM person",
            "error_of_sum": "SELECT error(sum(income)::VARCHAR) FROM person",
            "cast_of_text": f"SELECT count(*) FROM person WHERE {_HER} AND email::INT = 1",
            "cast_of_text_in_sum": "SELECT sum(email::INT) FROM person",
            "cast_to_narrow": "SELECT sum(income::TINYINT) FROM person",
            "cast_to_narrow_decimal": "SELECT sum(income::DECIMAL(8, 2)) FROM person",
            "cast_of_key": "SELECT district::INT, count(*) FROM person GROUP BY 1",
            "cast_to_date": "SELECT count(*) FROM person WHERE email::DATE = joined",
            "cast_to_enum": "SELECT count(*) FROM person WHERE district::ENUM('d0') = 'd0'",
            "cast_to_bit": "SELECT count(*) FROM person WHERE email::BIT = '1'::BIT",
            "negative_root": "SELECT sum(sqrt(5000000 - income)) FROM person",
            "log_of_zero": "SELECT sum(log(income - 20000.25)) FROM person",
            "factorial": "SELECT sum(factorial(age::INT)) FROM person",
            "overflowing_shift": "SELECT sum(1 << age) FROM person",
            "overflowing_date": "SELECT count(*) FROM person WHERE joined + age * 1000000 > joined",
            "character_of_age": "SELECT count(*) FROM person WHERE chr(age::INT) = 'a'",
            "parsed_date": "SELECT count(*) FROM person WHERE strptime(email, '%Y') IS NULL",
            "list_position": "SELECT count(*) FROM person WHERE [1, 2][age] = 1",
            "two_rows_as_one": (
                "SELECT count(*) FROM person WHERE age = (SELECT age FROM person WHERE age > 100)"
            ),
            "division_by_difference": "SELECT count(*) FROM person WHERE 1 // (age - 127) = 0",
        },
    ),
    denied(
        "allocate or wait, if the condition holds for her",
        {
            "repeat_by_value": "SELECT sum(length(repeat('x', income::INT))) FROM person",
            "repeat_in_filter": "SELECT count(*) FROM person WHERE repeat('x', age * 1000000) > ''",
            "pad_by_value": "SELECT count(*) FROM person WHERE lpad('', income::INT, 'x') > ''",
            "range_by_value": "SELECT sum(len(range(income::INT))) FROM person",
            "sleep_by_value": "SELECT sleep_ms(age) FROM person",
            "sleep_in_case": (
                "SELECT count(*) FROM person WHERE CASE WHEN age = 127 THEN sleep_ms(9000) IS NULL "
                "ELSE true END"
            ),
            "pattern_that_backtracks": (
                "SELECT count(*) FROM person WHERE regexp_matches(email, '((a+)+)+b(.*)*$')"
            ),
            "repeat_of_constant": "SELECT count(*), repeat('x', 3000000000) FROM person",
            "repeat_of_cell": "SELECT repeat('x', count(*) * 10000000) FROM person",
            "list_of_cell": "SELECT range(count(*) * 10000000) FROM person",
            "pad_of_cell": "SELECT lpad('x', 1000000000, 'y') || count(*) FROM person",
            "error_of_constant": "SELECT count(*), error('x') FROM person",
        },
    ),
    silent(
        "products beyond what is added up exactly",
        {"overflowing_product": "SELECT sum(income * income * income * income) FROM person"},
    ),
    denied(
        "constants that only a lazy engine would cast",
        {
            "text_for_number": f"SELECT count(*) FROM person WHERE {_HER} AND age = 'x'",
            "text_for_date": f"SELECT count(*) FROM person WHERE {_HER} AND joined = 'tomorrow'",
            "impossible_date": "SELECT count(*) FROM person WHERE joined = DATE '2024-02-30'",
            "infinite_number": f"SELECT count(*) FROM person WHERE {_HER} AND age = 1e400",
            "number_for_text": f"SELECT count(*) FROM person WHERE {_HER} AND email = 7",
            "narrow_constant": "SELECT count(*) FROM person WHERE age = 300::TINYINT",
            "text_in_list": f"SELECT count(*) FROM person WHERE {_HER} OR age IN (1, 'x')",
        },
    ),
    constant(
        "a cast or a division over released cells",
        {
            "overflowing_column": "SELECT sum(age * 9223372036854775807) FROM person",
            "cell_to_narrow": "SELECT count(*)::TINYINT FROM person WHERE district = 'd0'",
            "cell_to_date": ("SELECT (count(*)::VARCHAR)::DATE FROM person WHERE district = 'd0'"),
            "cell_division": (
                "SELECT 1 / (count(*) - 600), 1 // (count(*) - 600), 1 % (count(*) - 600) "
                "FROM person WHERE district = 'd0'"
            ),
            "cell_root": "SELECT sqrt(-count(*)), ln(-count(*)) FROM person WHERE district = 'd0'",
            "cell_product": (
                "SELECT sum(income) * sum(income) * sum(income) * sum(income) * sum(income) "
                "* sum(income) * sum(income) * sum(income) FROM person WHERE district = 'd0'"
            ),
            "cell_decimal": ("SELECT sum(income)::DECIMAL(4, 2) FROM person WHERE district = 'd0'"),
            "cells_two_rows_as_one": (
                "SELECT (SELECT count(*) FROM person GROUP BY sex) FROM codes"
            ),
            "cell_power": "SELECT power(count(*), 1e9) FROM person WHERE district = 'd0'",
            "cell_date": (
                "SELECT DATE '9999-12-31' + count(*)::INT FROM person WHERE district = 'd0'"
            ),
            "aggregate_of_nothing": "SELECT sum(income), 1 / count(*) FROM person WHERE age > 129",
        },
        (World.CHANGED,),
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_failure_tells_nothing(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
