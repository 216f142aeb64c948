"""Everything that isn't one SELECT over the tables: engine, files, settings, statements, texts."""

from __future__ import annotations

import pytest
from attack_world import MAIL, Answers, Attack, World, denied, either, family, nothing

ATTACKS = family(
    denied(
        "a sample is a smaller table",
        {
            "tablesample_rows": "SELECT sum(income) FROM person TABLESAMPLE 1 ROWS",
            "tablesample_percent": "SELECT count(*) FROM person TABLESAMPLE reservoir(10%)",
            "using_sample": "SELECT sum(income) FROM person USING SAMPLE 15 ROWS",
            "sample_repeatable": "SELECT sum(income) FROM person TABLESAMPLE 50% REPEATABLE (1)",
            "sample_of_subquery": "SELECT count(*) FROM (FROM person USING SAMPLE 1 ROWS)",
        },
    ),
    denied(
        "what the engine knows about the table",
        {
            "statistics": "SELECT stats(income) FROM person",
            "storage": "SELECT * FROM pragma_storage_info('person')",
            "columns": "SELECT * FROM duckdb_columns()",
            "tables": "SELECT estimated_size FROM duckdb_tables()",
            "information_schema": "SELECT count(*) FROM information_schema.columns",
            "catalog": "SELECT count(*) FROM pg_catalog.pg_class",
            "settings": "SELECT * FROM duckdb_settings()",
            "setting": "SELECT current_setting('temp_directory') FROM person",
            "secrets": "SELECT * FROM duckdb_secrets()",
            "memory": "SELECT * FROM duckdb_memory()",
            "databases": "SELECT path FROM duckdb_databases()",
            "query_by_text": "SELECT * FROM query('FROM person')",
            "table_by_text": "SELECT count(*) FROM query_table('person')",
            "table_by_texts": "SELECT count(*) FROM query_table(['person', 'visit'])",
            "sql_of_plan": "SELECT json_serialize_plan('FROM person')",
            "run_serialised": (
                "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM person'))"
            ),
            "row_ids": "SELECT max(rowid) FROM person",
            "file_names": "SELECT filename, count(*) FROM person GROUP BY 1",
            "summarize": "SUMMARIZE person",
            "summarize_below": "SELECT max FROM (SUMMARIZE person)",
            "describe": "SELECT * FROM (DESCRIBE person)",
            "prepared_catalog": "SELECT count(*) FROM p0.main.units",
            "other_schema": "SELECT count(*) FROM temp.main.person",
            "environment": "SELECT getenv('PATH') FROM person",
            "version": "SELECT version(), count(*) FROM person",
            "time": "SELECT now(), count(*) FROM person",
        },
    ),
    denied(
        "files",
        {
            "own_file": "SELECT count(*) FROM '/product/0.duckdb'",
            "password_file": "SELECT * FROM read_text('/etc/passwd')",
            "glob": "SELECT * FROM glob('/product/*')",
            "csv": "SELECT count(*) FROM read_csv('/product/0.duckdb')",
            "remote": "SELECT count(*) FROM 'https://example.com/x.parquet'",
            "copy": "COPY person TO '/tmp/x.csv'",
            "attach": "ATTACH '/product/0.duckdb' AS again",
            "export": "EXPORT DATABASE '/tmp/x'",
            "load": "LOAD httpfs",
            "import": "IMPORT DATABASE '/tmp/x'",
        },
    ),
    denied(
        "statements that aren't one SELECT",
        {
            "two": "SELECT count(*) FROM person; SELECT * FROM person",
            "two_after_comment": "SELECT count(*) FROM person; --\nFROM person",
            "explain": "EXPLAIN SELECT count(*) FROM person",
            "explain_analyze": "EXPLAIN ANALYZE SELECT * FROM person WHERE age = 127",
            "profile": "PRAGMA enable_profiling",
            "set": "SET memory_limit = '10GB'",
            "variable": "SET VARIABLE x = (SELECT max(income) FROM person)",
            "macro": "CREATE MACRO sum(x) AS max(x)",
            "table": "CREATE TABLE x AS FROM person",
            "view": "CREATE VIEW person AS SELECT 1",
            "insert": "INSERT INTO person SELECT * FROM person",
            "delete": "DELETE FROM person WHERE age = 127",
            "prepare": "PREPARE q AS SELECT count(*) FROM person WHERE age = $1",
            "call": "CALL pragma_table_info('person')",
            "pivot": "PIVOT person ON district USING sum(income)",
            "pivot_below": "SELECT * FROM (PIVOT person ON age USING max(income) GROUP BY sex)",
            "unpivot": "SELECT count(*) FROM (UNPIVOT person ON income INTO NAME n VALUE v)",
            "empty": "",
            "semicolons": ";;",
            "comment": "/* SELECT * FROM person */",
            "using_key": (
                "WITH RECURSIVE r(k, v) USING KEY (k) AS (SELECT email, income FROM person "
                "UNION SELECT k, v FROM r WHERE false) SELECT v FROM r"
            ),
            "recursive_rows": (
                "WITH RECURSIVE r AS (SELECT income AS x, 0 AS n FROM person UNION ALL "
                "SELECT x, n + 1 FROM r WHERE n < 3) SELECT sum(x) FROM r"
            ),
        },
    ),
    denied(
        "parameters",
        {
            "question_mark": "SELECT count(*) FROM person WHERE age = ?",
            "numbered": "SELECT count(*) FROM person WHERE age = $1",
            "named": "SELECT count(*) FROM person WHERE email = $who",
            "in_limit": "SELECT district, count(*) FROM person GROUP BY district LIMIT ?",
        },
    ),
    denied(
        "sets of rows",
        {
            "union_distinct": "SELECT count(*) FROM (SELECT income FROM person UNION SELECT 0)",
            "union_by_name": (
                "SELECT count(*) AS n FROM person UNION ALL BY NAME SELECT age AS n FROM person"
            ),
            "except_rows": (
                "SELECT count(*) FROM (SELECT email FROM person EXCEPT SELECT email FROM person "
                "WHERE age <> 127)"
            ),
            "intersect_rows": (
                f"SELECT count(*) FROM (SELECT email FROM person INTERSECT SELECT '{MAIL}')"
            ),
            "except_all": "FROM person EXCEPT ALL FROM person",
            "union_of_people": (
                "SELECT x, count(*) FROM (SELECT email AS x FROM person UNION ALL "
                "SELECT illness FROM visit) GROUP BY x"
            ),
            "union_of_units": (
                "SELECT count(DISTINCT u) FROM (SELECT person_id AS u FROM person WHERE age = 127 "
                "UNION ALL SELECT employee FROM pay)"
            ),
        },
    ),
    either(
        "constants that tell nothing",
        {
            "user": "SELECT current_user, count(*) FROM person",
            "get_variable": "SELECT count(*) FROM person WHERE income > getvariable('x')",
        },
        (World.CHANGED,),
    ),
    either(
        "text that is none",
        {
            "lone_surrogate": "SELECT count(*) FROM person WHERE email = '\ud800'",
        },
    ),
    either(
        "sets of aggregates",
        {
            "except_of_cells": (
                "SELECT district, count(*) FROM person GROUP BY district EXCEPT SELECT 'd0', 300"
            ),
            "intersect_of_cells": (
                "SELECT count(*) FROM person WHERE age = 127 INTERSECT SELECT 1"
            ),
            "except_of_her_cell": ("SELECT 1 EXCEPT SELECT count(*) FROM person WHERE age = 127"),
            "union_distinct_of_cells": (
                "SELECT count(*) FROM person WHERE age = 127 UNION "
                "SELECT count(*) FROM person WHERE age = 128"
            ),
            "padding_by_union": (
                "SELECT sum(n) FROM (SELECT count(*) AS n FROM person WHERE age = 127 UNION ALL "
                "SELECT count(*) FROM person WHERE cohort = 'c3')"
            ),
        },
    ),
    denied(
        "letters that look like others, or like nothing",
        {
            "homoglyph_column": "SELECT sum(\u0456ncome) FROM person",
            "homoglyph_table": "SELECT count(*) FROM p\u0435rson",
            "fullwidth": "SELECT count(*) FROM \uff50erson",
            "zero_width": 'SELECT sum("in\u200bcome") FROM person',
            "combining": 'SELECT sum("income\u0301") FROM person',
            "right_to_left": "SELECT count(*) FROM person \u202e; TABLE person",
            "nul_byte": "SELECT count(*) FROM person\0; FROM person",
            "nul_in_text": "SELECT count(*) FROM person WHERE email = 'a\0b'",
            "unicode_escape": 'SELECT sum(U&"\\0069ncome") FROM person WHERE U&"\\0000" = 1',
            "dollar_quoted_statement": "SELECT $$; FROM person; $$ FROM person",
            "unclosed_quote": "SELECT count(*) FROM person WHERE email = 'a",
            "quoted_function": 'SELECT "max"(income) FROM person',
            "function_in_schema": "SELECT main.max(income) FROM person",
            "quoted_dots": 'SELECT "person.income" FROM person',
            "comment_in_name": "SELECT ma/**/x(income) FROM person",
            "operator_as_function": 'SELECT "+"(income, 1) FROM person',
        },
    ),
    nothing(
        "quoting and letter case mean the same as without",
        {
            "upper_case": "SELECT SUM(INCOME) FROM PERSON WHERE AGE = 127",
            "quoted_names": 'SELECT sum("income") FROM "person" WHERE "age" = 127',
            "quoted_upper_names": f'SELECT sum("INCOME") FROM "PERSON" WHERE "EMAIL" = \'{MAIL}\'',
            "escaped_text": "SELECT sum(income) FROM person WHERE email = "
            "e'\\x61lice@mail.example'",
            "dollar_text": f"SELECT sum(income) FROM person WHERE email = $${MAIL}$$",
            "wide_spaces": "SELECT\u3000sum(income)\u00a0FROM person WHERE age = 127",
            "alias_with_statement": (
                'SELECT sum(income) AS "x"";FROM person;--" FROM person WHERE age = 127'
            ),
        },
    ),
    denied(
        "size",
        {
            "deep_not": f"SELECT count(*) FROM person WHERE {'NOT ' * 600}true",
            "deep_parentheses": f"SELECT {'(' * 600}1{')' * 600} FROM person",
            "many_columns": f"SELECT {', '.join(['count(*)'] * 400)} FROM person",
            "long_text": f"SELECT count(*) FROM person WHERE email = '{'x' * 80_000}'",
            "many_constants": (
                "SELECT count(*) FROM person WHERE age IN ("
                + ", ".join(map(str, range(5000)))
                + ")"
            ),
            "many_subqueries": "SELECT " + " + ".join(["(SELECT count(*) FROM person)"] * 200),
            "wide_rollup": (
                "SELECT count(*) FROM person GROUP BY CUBE ("
                "sex, district, cohort, grade, joined, member, sex, district, cohort, grade, "
                "joined, member, sex, district, cohort, grade, joined, member)"
            ),
        },
    ),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_only_one_select(answers: Answers, attack: Attack) -> None:
    answers.check(attack)
