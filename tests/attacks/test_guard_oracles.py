"""HAVING, ORDER BY, LIMIT, OFFSET, windows and arithmetic over cells: released ones only.

In the district `lone` there is nobody but Alice, so that its cell must count for nothing, however
the result is cut, ordered or computed with.
"""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, denied, either, family, nothing, silent

_BY = "FROM person GROUP BY district"

ATTACKS = family(
    nothing(
        "a condition on the withheld cell",
        {
            "having_her_count": f"SELECT district {_BY} HAVING count(*) = 1",
            "having_her_sum": f"SELECT district, sum(income) {_BY} HAVING sum(income) > 7000000 "
            "AND count(*) < 10",
            "having_her_average": f"SELECT district {_BY} HAVING avg(income) > 100000",
            "having_without_groups": (
                "SELECT sum(income) FROM person WHERE district = 'lone' "
                "HAVING sum(income) > 5000000"
            ),
            "having_key": f"SELECT count(*) {_BY} HAVING district = 'lone'",
            "having_filtered": (
                "SELECT district, count(*) FROM person WHERE district = 'lone' GROUP BY district "
                "HAVING count(*) FILTER (WHERE income > 5000000) = 1"
            ),
            "having_distinct": (
                f"SELECT district {_BY} HAVING count(DISTINCT person_id) BETWEEN 1 AND 3"
            ),
            "where_over_cells": (
                f"SELECT n FROM (SELECT district, count(*) AS n {_BY}) WHERE n < 10"
            ),
            "where_key_over_cells": (
                f"SELECT n FROM (SELECT district AS d, count(*) AS n {_BY}) WHERE d = 'lone'"
            ),
        },
    ),
    silent(
        "an order that a withheld value would decide",
        {
            "order_by_count": f"SELECT district, count(*) {_BY} ORDER BY count(*), district",
            "order_by_sum": f"SELECT district {_BY} ORDER BY sum(income) DESC",
            "order_by_average": f"SELECT district {_BY} ORDER BY avg(income) DESC LIMIT 2",
            "first_of_smallest": f"SELECT district, count(*) AS n {_BY} ORDER BY n LIMIT 1",
            "after_the_smallest": f"SELECT district, count(*) AS n {_BY} ORDER BY n OFFSET 1",
            "last_by_offset": f"SELECT district {_BY} ORDER BY sum(income) DESC LIMIT 1 OFFSET 3",
            "limit_tells_how_many": f"SELECT district {_BY} ORDER BY district LIMIT 100",
            "nulls_first": f"SELECT district, sum(age) AS a {_BY} ORDER BY a NULLS FIRST",
        },
    ),
    silent(
        "windows and arithmetic over cells",
        {
            "rank_of_cells": f"SELECT district, rank() OVER (ORDER BY count(*)) {_BY}",
            "share_of_cells": f"SELECT district, count(*) / sum(count(*)) OVER () {_BY}",
            "lag_of_cells": (
                f"SELECT district, count(*) - lag(count(*)) OVER (ORDER BY district) {_BY}"
            ),
            "number_of_cells": f"SELECT count(*) OVER () {_BY}",
            "sum_of_cells": f"SELECT sum(n) FROM (SELECT count(*) AS n {_BY})",
            "join_of_cells": (
                f"SELECT a.d, b.d FROM (SELECT district AS d, count(*) AS n {_BY}) a JOIN "
                f"(SELECT district AS d, sum(income) AS s {_BY}) b ON a.d = b.d"
            ),
            "missing_cells": (
                f"SELECT c.code, s.n FROM codes c LEFT JOIN (SELECT district, count(*) AS n {_BY}) "
                "s ON s.n < c.code * 10"
            ),
            "exists_over_cells": (
                f"SELECT district, count(*) {_BY} HAVING EXISTS (SELECT 1 FROM codes)"
            ),
            "coalesced_cells": (
                f"SELECT district, coalesce(sum(income), -1), sum(income) IS NULL {_BY}"
            ),
            "case_over_cells": (
                f"SELECT district, CASE WHEN count(*) < 10 THEN 'few' ELSE 'many' END {_BY}"
            ),
            "distinct_cells": f"SELECT DISTINCT count(*) > 10 {_BY}",
        },
    ),
    nothing(
        "arithmetic over her withheld cell alone",
        {
            "null_plus": "SELECT sum(income) + 0 FROM person WHERE age = 127",
            "null_compared": "SELECT sum(income) > 5000000 FROM person WHERE age = 127",
            "null_product": "SELECT count(*) * 0 FROM person WHERE age = 127",
            "null_ratio": "SELECT sum(income) / count(*) FROM person WHERE age = 127",
            "null_in_text": "SELECT 'it is ' || sum(income)::VARCHAR FROM person WHERE age = 127",
        },
    ),
    silent(
        "does a withheld cell look like an empty one",
        {
            "null_coalesced": "SELECT coalesce(sum(income), 0) FROM person WHERE age = 127",
            "null_is_null": "SELECT count(*) IS NULL FROM person WHERE age = 127",
            "null_in_case": (
                "SELECT CASE WHEN count(*) = 0 THEN 'none' WHEN count(*) > 0 THEN 'some' ELSE '?' "
                "END FROM person WHERE age = 127"
            ),
            "union_of_cells": (
                "SELECT count(*) FROM person WHERE age = 127 UNION ALL "
                "SELECT count(*) FROM person WHERE district = 'd1'"
            ),
            "exists_of_a_cell": (
                "SELECT EXISTS (SELECT 1 FROM (SELECT district AS d, count(*) AS n "
                f"{_BY}) WHERE d = 'lone')"
            ),
        },
    ),
    denied(
        "an order, a limit or a condition below the cells, or from data",
        {
            "order_by_raw": "SELECT count(*) FROM person ORDER BY income",
            "limit_from_people": (
                "SELECT district, count(*) FROM person GROUP BY district LIMIT "
                "(SELECT count(*) FROM person WHERE age = 127)"
            ),
            "offset_from_people": (
                "SELECT district, count(*) FROM person GROUP BY district OFFSET "
                "(SELECT max(grade) FROM person)"
            ),
            "limit_expression": f"SELECT district, count(*) {_BY} LIMIT 1 + random()::INT",
            "limit_below": "SELECT count(*) FROM (SELECT 1 FROM person WHERE age = 127 LIMIT 1)",
            "having_raw_column": f"SELECT district {_BY} HAVING income > 5000000",
            "qualify_raw": "SELECT count(*) FROM person QUALIFY income > 5000000",
            "order_by_scalar_of_her": (
                f"SELECT district {_BY} ORDER BY (SELECT income FROM person WHERE age = 127)"
            ),
            "volatile_order": f"SELECT district, count(*) {_BY} ORDER BY random()",
        },
    ),
    either(
        "an order by what only she has",
        {
            "order_by_her_filter": (
                f"SELECT district, count(*) {_BY} ORDER BY count(*) FILTER "
                f"(WHERE email = '{MAIL}' AND income > 5000000), district"
            ),
            "having_cohort_of_rich": (
                "SELECT cohort, count(*) FROM person GROUP BY cohort HAVING "
                "sum(CASE WHEN income > 5000000 THEN 1 ELSE 0 END) = 1"
            ),
            "qualify_smallest": (f"SELECT district, count(*) {_BY} QUALIFY count(*) < 10"),
            "limit_percent": "SELECT cohort, count(*) FROM person GROUP BY cohort LIMIT 10%",
            "negative_limit": f"SELECT district, count(*) {_BY} LIMIT -1",
        },
        (World.CHANGED,),
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_cells_are_no_oracle(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
