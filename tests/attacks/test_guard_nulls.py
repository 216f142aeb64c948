"""NULL, NaN and infinity: what isn't a number must not single anybody out."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, denied, either, family, nothing

ATTACKS = family(
    either(
        "values that swallow a sum, but for her part",
        {
            "ifnull_of_value": "SELECT sum(ifnull(age, 1000000)) FROM person",
            "nan_constant": "SELECT sum('nan'::DOUBLE) FROM person",
            "nan_in_case": "SELECT sum(CASE WHEN age = 127 THEN income ELSE 'nan' END) FROM person",
            "infinity_in_case": (
                "SELECT sum(CASE WHEN age = 127 THEN 'inf'::DOUBLE ELSE income END) FROM person"
            ),
            "nan_times_column": "SELECT sum(income * 'nan'::DOUBLE) FROM person",
            "huge_minus_huge": "SELECT sum(income + 1e300 - 1e300) FROM person WHERE age = 127",
            "infinite_bound": "SELECT sum(income) FROM person WHERE income < 'infinity'",
            "nan_bound": "SELECT count(*) FROM person WHERE income > 'nan'::DOUBLE",
            "null_times_column": "SELECT sum(income * NULL) FROM person",
            "null_else": (
                "SELECT sum(CASE WHEN age = 127 THEN income ELSE NULL END), count(*) FROM person"
            ),
            "null_sum": "SELECT sum(NULL), count(NULL) FROM person",
            "null_key": "SELECT NULL AS k, sum(income) FROM person WHERE age = 127 GROUP BY k",
            "minus_zero": "SELECT sum(-0.0 * income) FROM person",
            "zero_times_column": "SELECT sum(0 * income) FROM person",
            "column_minus_itself": "SELECT sum(income - income) FROM person",
        },
        (World.CHANGED,),
    ),
    either(
        "conditions that are neither true nor false",
        {
            "not_not_equal": f"SELECT sum(income) FROM person WHERE NOT (email <> '{MAIL}')",
            "not_distinct": (
                f"SELECT sum(income) FROM person WHERE email IS NOT DISTINCT FROM '{MAIL}'"
            ),
            "is_true": "SELECT sum(income) FROM person WHERE (age = 127) IS TRUE",
            "is_not_false": "SELECT sum(income) FROM person WHERE (age = 127) IS NOT FALSE "
            "AND age IS NOT NULL",
            "is_unknown": (
                "SELECT count(*) FROM person WHERE (age = 127) IS NULL AND district = 'lone'"
            ),
            "not_in_with_null": "SELECT count(*) FROM person WHERE district NOT IN ('d0', NULL)",
            "null_or_her": "SELECT sum(income) FROM person WHERE NULL OR age = 127",
            "double_negation": "SELECT sum(income) FROM person WHERE NOT NOT age = 127",
            "null_comparison": "SELECT count(*) FROM person WHERE age = NULL",
            "between_with_null": "SELECT count(*) FROM person WHERE age BETWEEN 127 AND NULL",
            "coalesce_key": (
                "SELECT coalesce(district, 'none') AS d, sum(age) FROM person "
                "WHERE district = 'lone' GROUP BY d"
            ),
        },
    ),
    nothing(
        "cells of nothing but zeros or NULLs",
        {
            "zeros": "SELECT sum(grade) FROM person WHERE grade = 0",
            "nulls": "SELECT sum(age), avg(age), count(age) FROM person WHERE age IS NULL",
            "variance_of_nulls": "SELECT var_samp(age) FROM person WHERE age IS NULL",
        },
    ),
    denied(
        "NULLs made from a comparison",
        {
            "nullif_counted": f"SELECT count(*) - count(nullif(email, '{MAIL}')) FROM person",
            "nullif_in_key": "SELECT nullif(email, 'x') AS k, count(*) FROM person GROUP BY k",
            "try_cast_to_null": "SELECT count(TRY_CAST(email AS INT)) FROM person",
            "try_of_error": "SELECT count(TRY(email::INT)) FROM person",
        },
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_nothing_stays_nothing(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
