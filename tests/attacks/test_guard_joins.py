"""Joins that make many of few, and joins of people with other people."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, denied, either, family, nothing

ATTACKS = family(
    denied(
        "other people's rows beside hers",
        {
            "cross": "SELECT count(*) FROM person, visit",
            "cross_with_herself": "SELECT sum(a.income) FROM person a, person b WHERE a.age = 127",
            "on_true": "SELECT count(*) FROM person JOIN visit ON true",
            "on_group_column": (
                "SELECT sum(a.income) FROM person a JOIN person b ON a.sex = b.sex "
                "WHERE a.age = 127"
            ),
            "on_cohort_of_two_tables": (
                "SELECT sum(p.income) FROM person p JOIN visit v ON p.cohort = v.cohort "
                "WHERE v.ward = 'hospice'"
            ),
            "using_cohort": "SELECT sum(income) FROM person JOIN visit USING (cohort)",
            "natural": "SELECT count(*) FROM person NATURAL JOIN visit",
            "on_inequality": (
                "SELECT count(*) FROM person a JOIN person b ON a.person_id <> b.person_id"
            ),
            "on_unit_or_more": (
                "SELECT sum(v.cost) FROM person p JOIN visit v "
                "ON p.person_id = v.visitor OR p.age = 127"
            ),
            "on_unit_or_true": (
                "SELECT sum(p.income) FROM person p JOIN visit v ON p.person_id = v.visitor OR true"
            ),
            "on_not_unit": (
                "SELECT sum(p.income) FROM person p JOIN visit v ON NOT (p.person_id = v.visitor)"
            ),
            "on_units_not_distinct_shifted": (
                "SELECT count(*) FROM person p JOIN visit v ON p.person_id = v.visitor + 1"
            ),
            "on_units_swapped": (
                "SELECT count(*) FROM person a JOIN person b ON a.person_id = a.person_id"
            ),
            "on_case": (
                "SELECT count(*) FROM person p JOIN visit v ON CASE WHEN p.age = 127 THEN true "
                "ELSE p.person_id = v.visitor END"
            ),
            "through_public": (
                "SELECT sum(p.income) FROM person p JOIN codes c ON p.grade = c.code "
                "JOIN visit v ON v.code = c.code WHERE v.ward = 'hospice'"
            ),
            "through_literal_table": (
                "SELECT sum(p.income) FROM person p JOIN (VALUES ('c0')) t(c) ON p.cohort = t.c "
                "JOIN visit v ON v.cohort = t.c WHERE v.ward = 'hospice'"
            ),
            "key_to_wrong_key": "SELECT count(*) FROM item JOIN visit ON item_visit = code",
            "key_to_public_to_key": (
                "SELECT count(*) FROM item a JOIN codes c ON a.item_visit = c.code "
                "JOIN item b ON b.item_visit = c.code"
            ),
            "key_arithmetic": "SELECT count(*) FROM item JOIN visit ON item_visit = visit_no + 1",
            "key_inequality": "SELECT count(*) FROM item JOIN visit ON item_visit <= visit_no",
            "key_in_filter": "SELECT count(*) FROM item WHERE item_visit = 28",
            "key_against_public": "SELECT count(*) FROM item JOIN codes ON item_visit = code",
            "another_domain": (
                "SELECT sum(salary) FROM pay JOIN person ON employee = person_id "
                "WHERE district = 'lone'"
            ),
            "another_domain_cross": "SELECT count(*) FROM pay, person",
            "another_domain_by_value": (
                "SELECT count(*) FROM pay JOIN person ON salary = income WHERE age = 127"
            ),
            "positional": "SELECT sum(income) FROM person POSITIONAL JOIN visit",
            "as_of": "SELECT sum(income) FROM person a ASOF JOIN visit v ON a.joined >= v.day",
            "lateral": (
                "SELECT sum(s.c) FROM person p, LATERAL (SELECT cost AS c FROM visit v "
                "WHERE v.cohort = p.cohort) s"
            ),
            "lateral_limit": (
                "SELECT sum(s.c) FROM person p, LATERAL (SELECT cost AS c FROM visit v "
                "WHERE v.visitor = p.person_id ORDER BY cost DESC LIMIT 1) s"
            ),
            "full_outer_on_anything": (
                "SELECT count(*) FROM person p FULL JOIN visit v ON p.cohort = v.cohort"
            ),
        },
    ),
    nothing(
        "fan-out over own rows: twenty rows of one person are one person",
        {
            "own_rows_squared": (
                "SELECT count(*) FROM visit a JOIN visit b ON a.visitor = b.visitor "
                "WHERE a.ward = 'hospice'"
            ),
            "public_condition_on_her_ward": (
                "SELECT sum(v.cost) FROM visit v JOIN codes c ON v.code = c.code "
                "WHERE v.ward = 'hospice' AND c.tariff >= 0"
            ),
        },
    ),
    either(
        "fan-out over public rows: each person's contribution several times",
        {
            "public_cross": "SELECT count(*), sum(p.income) FROM person p, codes WHERE age = 127",
            "public_cross_grouped": (
                "SELECT sum(p.income) FROM person p, codes c WHERE p.district = 'lone' "
                "GROUP BY c.chapter"
            ),
            "public_twice": "SELECT count(*) FROM person, codes a, codes b WHERE age = 127",
            "public_left": (
                "SELECT count(*), sum(c.tariff) FROM person p LEFT JOIN codes c ON true "
                f"WHERE p.email = '{MAIL}'"
            ),
            "public_on_range": (
                "SELECT count(*) FROM person p JOIN codes c ON c.code >= p.grade WHERE p.age = 127"
            ),
            "own_rows_of_few": (
                "SELECT count(*), sum(i.amount) FROM person p JOIN visit v "
                "ON p.person_id = v.visitor JOIN item i ON i.item_visit = v.visit_no, codes "
                "WHERE p.district IN ('lone', 'rare')"
            ),
        },
    ),
    denied(
        "fan-out by choice: as many copies of a row as its place in a number",
        {
            "copies_by_code": ("SELECT sum(v.cost) FROM visit v JOIN ladder l ON v.code = l.code"),
            "copies_by_code_counted": (
                "SELECT count(*) FROM visit v LEFT JOIN ladder l ON v.code = l.code"
            ),
            "copies_by_a_range": (
                "SELECT sum(p.income) FROM person p JOIN codes c ON c.code <= p.grade"
            ),
            "copies_by_or": (
                "SELECT sum(v.cost) FROM visit v JOIN person p ON p.person_id = v.visitor "
                "JOIN codes c ON c.code = v.code OR c.code = p.grade"
            ),
            "copies_by_list": (
                "SELECT sum(income) FROM person JOIN codes c ON c.code = 1 OR c.code = 2"
            ),
            "copies_by_chapter": (
                "SELECT sum(v.cost) FROM visit v JOIN codes c ON v.code = c.code "
                "JOIN codes d ON c.chapter = d.chapter"
            ),
            "copies_within_one_unit": (
                "SELECT avg(n) FROM (SELECT v.visitor, count(*) AS n FROM visit v "
                "JOIN ladder l ON v.code = l.code GROUP BY v.visitor)"
            ),
            "copies_in_a_cte": (
                "WITH l AS (SELECT code, rung FROM ladder) "
                "SELECT sum(v.cost) FROM visit v JOIN l USING (code)"
            ),
        },
    ),
    either(
        "fan-out over rows that are nobody's",
        {
            "range": "SELECT count(*), sum(income) FROM person, range(1000) WHERE age = 127",
            "series": "SELECT count(*) FROM person, generate_series(1, 100) WHERE age = 127",
            "values": "SELECT count(*) FROM person, (VALUES (1), (2), (3)) v(x) WHERE age = 127",
            "unnested": "SELECT count(*) FROM (SELECT unnest([1, 2, 3]) FROM person WHERE age=127)",
            "recursive": (
                "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 50) "
                "SELECT count(*) FROM person, n WHERE age = 127"
            ),
            "huge": "SELECT count(*) FROM person, range(100000000000) WHERE age = 127",
        },
    ),
    either(
        "whole cohorts decide on whole cohorts",
        {
            "semi_on_anything": "SELECT count(*) FROM person p SEMI JOIN visit v USING (cohort)",
            "anti_on_anything": "SELECT count(*) FROM person p ANTI JOIN visit v USING (cohort)",
        },
        (World.CHANGED,),
    ),
    either(
        "outer joins: rows of nobody tell who isn't there",
        {
            "anti_join": (
                "SELECT count(*) FROM person p WHERE p.district = 'lone' AND NOT EXISTS "
                "(SELECT 1 FROM visit v WHERE v.visitor = p.person_id AND v.ward = 'hospice')"
            ),
            "left_join_is_null": (
                "SELECT count(*) FROM person p LEFT JOIN visit v ON p.person_id = v.visitor "
                "AND v.ward = 'hospice' WHERE p.district = 'lone' AND v.serial IS NULL"
            ),
            "right_join_counts_nobody": (
                "SELECT c.code, count(v.cost) FROM visit v RIGHT JOIN codes c ON v.code = c.code "
                "AND v.ward = 'hospice' GROUP BY c.code"
            ),
            "public_left_protected": (
                "SELECT c.chapter, count(v.cost) FROM codes c LEFT JOIN visit v "
                "ON v.code = c.code AND v.ward = 'hospice' GROUP BY c.chapter"
            ),
            "public_full_protected": (
                "SELECT count(*) FROM codes c FULL JOIN visit v ON v.code = c.code "
                "AND v.ward = 'hospice' WHERE v.ward = 'hospice'"
            ),
            "public_where_protected": (
                "SELECT count(*) FROM codes c WHERE EXISTS (SELECT 1 FROM visit v "
                "WHERE v.code = c.code AND v.ward = 'hospice')"
            ),
            "public_in_protected": (
                "SELECT sum(tariff) FROM codes WHERE code IN "
                "(SELECT code FROM visit WHERE ward = 'hospice')"
            ),
        },
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_joins_make_nobody_more(answers: Answers, attack: Attack) -> None:
    answers.check(attack)


def test_worlds_are_as_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    # The attacks rest on it: Alice is alone in what they ask for.
    import duckdb
    from attack_world import write_town

    directory = tmp_path_factory.mktemp("told")
    found = {}
    for world in World:
        write_town(directory / world, world)
        found[world] = duckdb.execute(
            "SELECT count(*), count(*) FILTER (age = 127 AND district = 'lone' AND email = ?), "
            f"count(*) FILTER (income > 5000000) FROM '{directory / world}/person.parquet'",
            [MAIL],
        ).fetchone()
    assert found == {
        World.BASE: (2400, 1, 1),
        World.WITHOUT: (2399, 0, 0),
        World.CHANGED: (2400, 1, 0),
    }
