"""Raw rows, whole rows, and columns under other names: nothing of one person comes out."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, denied, either, family

ATTACKS = family(
    denied(
        "the rows themselves",
        {
            "star": "SELECT * FROM person",
            "from_first": "FROM person",
            "table_statement": "TABLE person",
            "one_column": f"SELECT income FROM person WHERE email = '{MAIL}'",
            "richest_row": "SELECT income FROM person ORDER BY income DESC LIMIT 1",
            "distinct_values": "SELECT DISTINCT income FROM person",
            "distinct_on": "SELECT DISTINCT ON (district) district, income FROM person",
            "star_of_a_join": "SELECT * FROM person JOIN visit ON person_id = visitor",
            "star_through_cte": "WITH x AS (FROM person) SELECT * FROM x",
            "star_through_subquery": "SELECT s.income FROM (SELECT * FROM person) s",
            "rows_in_union_arm": (
                "SELECT count(*)::DECIMAL(18, 2) AS n FROM person UNION ALL SELECT income "
                "FROM person"
            ),
            "natural_join_of_rows": "SELECT illness FROM person NATURAL JOIN visit",
            "lateral_row": "SELECT s.x FROM person p, LATERAL (SELECT p.income AS x) s",
            "undeclared_column": "SELECT hidden, count(*) FROM person GROUP BY hidden",
        },
    ),
    denied(
        "rows as one value",
        {
            "whole_row": "SELECT person FROM person",
            "whole_row_by_alias": "SELECT p FROM person AS p",
            "whole_row_counted": "SELECT count(DISTINCT p) FROM person p",
            "whole_row_maximum": "SELECT max(p) FROM person p",
            "whole_row_listed": "SELECT list(p) FROM person p",
            "row_constructor": "SELECT row(email, income) FROM person",
            "struct_of_columns": "SELECT {'who': email, 'what': income} FROM person",
            "struct_field": "SELECT p.income FROM (SELECT p FROM person p) s",
            "row_as_json": "SELECT to_json(p) FROM person p",
            "array_of_rows": "SELECT ARRAY(SELECT income FROM person)",
            "key_of_whole_row": "SELECT p, count(*) FROM person p GROUP BY p",
            "hash_of_whole_row": "SELECT hash(p), count(*) FROM person p GROUP BY 1",
        },
    ),
    denied(
        "columns that no name gives away",
        {
            "columns_pattern": "SELECT COLUMNS('inc.*') FROM person",
            "columns_lambda": "SELECT COLUMNS(c -> c LIKE 'e%') FROM person",
            "columns_in_sum": "SELECT sum(COLUMNS(*)) FROM person",
            "columns_in_max": "SELECT max(COLUMNS('income|age')) FROM person",
            "columns_unpacked": "SELECT coalesce(*COLUMNS(['email'])) FROM person",
            "columns_in_filter": f"SELECT count(*) FROM person WHERE COLUMNS('em.*') = '{MAIL}'",
            "star_replaced": "SELECT * REPLACE (1 AS income) FROM person",
            "star_excluded": "SELECT * EXCLUDE (email) FROM person",
            "star_renamed": "SELECT * RENAME (email AS district) FROM person",
            "position_of_unit": "SELECT #1 FROM person",
            "position_in_order": "SELECT count(*) FROM person ORDER BY #7",
            "alias_list_unit_key": "SELECT a, count(*) FROM person AS t(a, b, c) GROUP BY a",
            "alias_list_shifted": (
                "SELECT district, count(*) FROM person AS t(district, person_id) GROUP BY district"
            ),
            "alias_list_of_subquery": (
                "SELECT a, count(*) FROM (SELECT email FROM person) AS t(a) GROUP BY a"
            ),
            "alias_list_of_cte": (
                "WITH t(district) AS (SELECT email FROM person) "
                "SELECT district, count(*) FROM t GROUP BY district"
            ),
            "alias_swaps_columns": (
                "SELECT district, count(*) FROM (SELECT email AS district FROM person) "
                "GROUP BY district"
            ),
        },
    ),
    denied(
        "functions written as calls on a column",
        {
            "dot_max": "SELECT income.max() FROM person",
            "dot_any_value": "SELECT email.any_value() FROM person",
            "dot_list": "SELECT person.income.list() FROM person",
            "dot_chain": "SELECT email.substr(1, 3).first() FROM person",
            "dot_key": "SELECT email.length(), count(*) FROM person GROUP BY 1",
        },
    ),
    denied(
        "rows through window functions",
        {
            "window_row_number": "SELECT row_number() OVER (ORDER BY income), income FROM person",
            "window_first_value": "SELECT first_value(income) OVER () FROM person",
            "window_lag": "SELECT lag(email) OVER (ORDER BY age) FROM person",
            "window_sum_of_one": "SELECT sum(income) OVER (PARTITION BY email) FROM person",
            "window_running_sum": (
                "SELECT sum(income) OVER (ORDER BY age ROWS 1 PRECEDING) FROM person"
            ),
            "window_then_aggregate": (
                "SELECT sum(x) FROM (SELECT row_number() OVER (ORDER BY income) AS n, income AS x "
                "FROM person) WHERE n = 1"
            ),
            "qualify": "SELECT income FROM person QUALIFY rank() OVER (ORDER BY income DESC) = 1",
            "window_ntile_key": (
                "SELECT t, count(*) FROM (SELECT ntile(1200) OVER (ORDER BY income) AS t "
                "FROM person) GROUP BY t"
            ),
        },
    ),
    either(
        "sums of columns under other names",
        {
            "position": "SELECT #2, count(*) FROM person GROUP BY #2",
            "row_id": "SELECT rowid, count(*) FROM person GROUP BY rowid",
            "alias_list_sum": ("SELECT sum(e) FROM person AS t(a, b, c, d, e) WHERE c = 'lone'"),
            "alias_like_a_table": (
                "SELECT visit.sex, count(*) FROM person AS visit WHERE visit.district = 'lone' "
                "GROUP BY visit.sex"
            ),
            "alias_like_a_column": (
                "SELECT sum(income.income) FROM person AS income WHERE income.age = 127"
            ),
            "cte_hides_the_table": (
                "WITH person AS (SELECT 41 AS income) SELECT sum(income) FROM person"
            ),
            "alias_before_its_column": (
                "SELECT sex AS district, count(*) FROM person WHERE district = 'lone' "
                "GROUP BY district"
            ),
        },
        (World.CHANGED,),
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_rows_stay(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
