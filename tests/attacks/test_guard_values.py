"""Aggregates that return a value of somebody, or nearly so."""

from __future__ import annotations

import pytest
from attack_world import Answers, Attack, World, denied, either, family, nothing, silent

_RETURNING = (
    "min(income)",
    "max(income)",
    "max(income, 3)",
    "min(email)",
    "arg_max(email, income)",
    "arg_min(income, age)",
    "max_by(income, age, 2)",
    "min_by(email, joined)",
    "any_value(income)",
    "first(income ORDER BY age DESC)",
    "last(email)",
    "mode(income)",
    "histogram(income)",
    "list(income)",
    "array_agg(email ORDER BY income DESC)",
    "string_agg(email, ';')",
    "group_concat(income)",
    "listagg(email)",
    "approx_top_k(income, 3)",
    "reservoir_quantile(income, 0.999)",
    "approx_quantile(income, 1.0)",
    "bit_or(age)",
    "bit_xor(age)",
    "bit_and(age)",
    "bitstring_agg(age)",
    "bool_or(income > 7000000)",
    "bool_and(age < 120)",
    "product(income)",
    "entropy(email)",
    "mad(income)",
    "kurtosis(income)",
    "skewness(income)",
    "geomean(income)",
    "sum(DISTINCT income)",
    "avg(DISTINCT income)",
    "count(DISTINCT (income, age))",
    "count(income ORDER BY email)",
    "sum(income ORDER BY email)",
    "sum(age) EXPORT_STATE",
    "sem(income)",
    "fsum(income)",
    "kahan_sum(income)",
    "map_from_entries(list((email, income)))",
    "json_group_array(income)",
    "arbitrary(email)",
)

ATTACKS = family(
    denied(
        "a value out of an aggregate",
        {
            f"{number:02}_{name.partition('(')[0]}": f"SELECT {name} FROM person"
            for number, name in enumerate(_RETURNING)
        },
    ),
    denied(
        "a value out of a group, a window or a condition on a group",
        {
            "max_by_group": "SELECT district, max(income) FROM person GROUP BY district",
            "max_in_having": (
                "SELECT district FROM person GROUP BY district HAVING max(income) > 7000000"
            ),
            "max_in_order": (
                "SELECT district, count(*) FROM person GROUP BY district ORDER BY max(income)"
            ),
            "max_filtered": "SELECT max(income) FILTER (WHERE age > 100) FROM person",
            "max_of_case": "SELECT max(CASE WHEN age > 100 THEN income END) FROM person",
            "max_in_arithmetic": "SELECT sum(income) - max(income) FROM person",
            "max_of_a_window": "SELECT max(income) OVER (PARTITION BY sex) FROM person",
            "max_over_a_join": (
                "SELECT max(v.cost) FROM person p JOIN visit v ON p.person_id = v.visitor"
            ),
            "max_across_people_below": (
                "SELECT sum(m) FROM (SELECT ward, max(cost) AS m FROM visit GROUP BY ward)"
            ),
            "limit_one_below": "SELECT sum(income) FROM (FROM person LIMIT 1)",
            "first_row_below": (
                "SELECT sum(income) FROM (FROM person ORDER BY income DESC LIMIT 10)"
            ),
            "distinct_below": "SELECT sum(income) FROM (SELECT DISTINCT income FROM person)",
        },
    ),
    either(
        "a weighted average",
        {"weighted_average": "SELECT weighted_avg(income, age) FROM person WHERE age = 127"},
    ),
    either(
        "a percentile that is somebody's own value",
        {
            "quantile_one": "SELECT quantile_disc(income, 1.0) FROM person",
            "quantile_list": "SELECT quantile_disc(income, [0.5, 0.999, 1.0]) FROM person",
            "quantile_of_few": "SELECT median(income) FROM person WHERE district = 'lone'",
            "quantile_by_district": (
                "SELECT district, quantile_disc(income, 0.5) FROM person "
                "WHERE district IN ('lone', 'rare') GROUP BY district"
            ),
        },
        (World.CHANGED,),
    ),
    nothing(
        "a percentile so near the end that fewer than the threshold are beyond",
        {
            "quantile_near_one": "SELECT quantile_disc(income, 0.9995) FROM person",
            "quantile_interpolated": "SELECT quantile_cont(age, 0.9999) FROM person",
            "percentile_within": (
                "SELECT percentile_disc(0.9999) WITHIN GROUP (ORDER BY age) FROM person"
            ),
            "percentile_near_zero": "SELECT quantile_disc(age, 0.0001) FROM person",
            "median_of_one": "SELECT median(age), median(income) FROM person WHERE age = 127",
            "median_of_nine": "SELECT median(age) FROM person WHERE email IN ("
            + ", ".join(f"'user{n}@mail.example'" for n in range(100, 109))
            + ")",
        },
    ),
    silent(
        "a percentile of many, told as a value of the grid",
        {
            "median": "SELECT median(age), quantile_disc(age, 0.25) FROM person",
            "by_grade": "SELECT grade, quantile_cont(age, 0.75) FROM person GROUP BY grade",
        },
    ),
    nothing(
        "an extreme inside one unit, of hers alone",
        {
            "average_of_her_maximum": (
                "SELECT avg(m) FROM (SELECT visitor, max(cost) AS m FROM visit "
                "WHERE ward = 'hospice' GROUP BY visitor)"
            ),
            "sum_of_her_minimum": (
                "SELECT sum(m) FROM (SELECT visitor, min(cost) AS m FROM visit "
                "WHERE ward = 'hospice' GROUP BY visitor)"
            ),
        },
    ),
    silent(
        "an extreme of released cells: hers isn't one",
        {
            "smallest_district": (
                "SELECT min(n) FROM (SELECT district, count(*) AS n FROM person GROUP BY district)"
            ),
            "oldest_district": (
                "SELECT max(a) FROM (SELECT district, avg(age) AS a FROM person GROUP BY district)"
            ),
            "richest_district": (
                "SELECT district, avg(income) AS a FROM person GROUP BY district "
                "ORDER BY a DESC LIMIT 1"
            ),
            "number_of_districts": (
                "SELECT count(*) FROM (SELECT district FROM person GROUP BY district)"
            ),
        },
    ),
    nothing(
        "one dominates: the sum is hers",
        {
            "sum_dominated": "SELECT sum(cost) FROM visit WHERE cohort = 'c0'",
            "average_dominated": "SELECT avg(cost) FROM visit WHERE cohort = 'c0'",
            "variance_dominated": "SELECT var_pop(cost) FROM visit WHERE cohort = 'c0'",
            "deviation_dominated": "SELECT stddev_samp(cost) FROM visit WHERE cohort = 'c0'",
            "sum_of_squares_dominated": "SELECT sum(cost * cost) FROM visit WHERE cohort = 'c0'",
            "correlation_dominated": (
                "SELECT corr(p.income, v.cost) FROM person p JOIN visit v "
                "ON p.person_id = v.visitor WHERE v.cohort = 'c0'"
            ),
            "sum_dominated_by_group": (
                "SELECT sum(cost) FROM visit WHERE cohort = 'c0' GROUP BY cohort"
            ),
        },
        others=(),  # an ordinary cost doesn't dominate
    ),
    nothing(
        "everybody has the declared bound, so the sum tells each value",
        {"sum_at_the_bound": "SELECT sum(grade) FROM person WHERE grade = 4"},
        others=(),
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_values_stay(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
