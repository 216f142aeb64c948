"""SQL that tries to get more than released aggregates: each must be refused by the guard.

Two gates are tried with each text. The whole guard refuses it with a code that
says why; and the verifier alone, given DuckDB's plan of the very text as if a
rewriter had passed it on, refuses whatever binds.
"""

from __future__ import annotations

import json

import pytest
from sandbox_world import CLAIMS, Guard

from luoshu.sandbox import engine
from luoshu.sandbox.errors import GuardRefusalError, QueryError

ATTACKS = {
    # Raw rows.
    "star": ("SELECT * FROM visits", "GUARD_RAW_ROWS"),
    "star_of_table": ("SELECT visits.* FROM visits", "GUARD_RAW_ROWS"),
    "star_excluding": ("SELECT * EXCLUDE (ward) FROM visits", "GUARD_RAW_ROWS"),
    "star_replacing": ("SELECT * REPLACE (1 AS ward) FROM visits", "GUARD_RAW_ROWS"),
    "columns_of_pattern": ("SELECT COLUMNS('a.*') FROM visits", "GUARD_RAW_ROWS"),
    "sum_of_columns": ("SELECT sum(COLUMNS(*)) FROM visits", "GUARD_RAW_ROWS"),
    "from_first": ("FROM visits", "GUARD_RAW_ROWS"),
    "table_statement": ("TABLE visits", "GUARD_RAW_ROWS"),
    "plain_column": ("SELECT ward FROM visits", "GUARD_RAW_ROWS"),
    "column_beside_aggregate": ("SELECT age, count(*) FROM visits", "QUERY_INVALID"),
    "whole_row": ("SELECT visits FROM visits", "GUARD_CLAUSE"),
    "whole_row_count": ("SELECT count(visits) FROM visits", "GUARD_FUNCTION"),
    "whole_row_max": ("SELECT max(visits) FROM visits", "GUARD_FUNCTION"),
    "row_constructor": ("SELECT (ward, age) FROM visits", "GUARD_FUNCTION"),
    "struct_pack": ("SELECT {'a': age} FROM visits", "GUARD_CLAUSE"),
    "row_id": ("SELECT rowid FROM visits", "GUARD_RAW_ROWS"),
    "row_id_grouped": ("SELECT rowid, count(*) FROM visits GROUP BY rowid", "GUARD_RAW_ROWS"),
    "undeclared_column": ("SELECT hidden, count(*) FROM visits GROUP BY hidden", "QUERY_INVALID"),
    "distinct_on": ("SELECT DISTINCT ON (ward) ward FROM visits", "GUARD_CLAUSE"),
    # The privacy unit.
    "unit_column": ("SELECT patient_id FROM visits", "GUARD_RAW_ROWS"),
    "unit_as_key": ("SELECT patient_id, count(*) FROM visits GROUP BY patient_id", "GUARD_UNIT"),
    "unit_as_hidden_key": ("SELECT count(*) FROM visits GROUP BY patient_id", "GUARD_UNIT"),
    "unit_as_quoted_key": ('SELECT count(*) FROM visits GROUP BY "PATIENT_ID"', "GUARD_UNIT"),
    "unit_by_alias": ("SELECT v.patient_id FROM visits v", "GUARD_RAW_ROWS"),
    "unit_in_filter": ("SELECT count(*) FROM visits WHERE patient_id = 7", "GUARD_UNIT"),
    "unit_range": ("SELECT count(*) FROM visits WHERE patient_id BETWEEN 1 AND 9", "GUARD_UNIT"),
    "unit_summed": ("SELECT sum(patient_id) FROM visits", "GUARD_UNIT"),
    "unit_averaged": ("SELECT avg(patient_id) FROM visits", "GUARD_UNIT"),
    "unit_arithmetic": ("SELECT sum(patient_id + 1) FROM visits", "GUARD_UNIT"),
    "unit_hashed": ("SELECT sum(hash(patient_id)) FROM visits", "GUARD_EXPRESSION"),
    "unit_hash_as_key": (
        "SELECT hash(patient_id), count(*) FROM visits GROUP BY 1",
        "GUARD_UNIT",
    ),
    "unit_length_as_key": (
        "SELECT count(*) FROM visits GROUP BY length(patient_id::VARCHAR)",
        "GUARD_UNIT",
    ),
    "unit_maximum": ("SELECT max(patient_id) FROM visits", "GUARD_FUNCTION"),
    # Columns used in ways that aren't declared.
    "group_by_aggregate_column": (
        "SELECT age, count(*) FROM visits GROUP BY age",
        "GUARD_COLUMN_USE",
    ),
    "group_by_filter_column": ("SELECT count(*) FROM visits GROUP BY note", "GUARD_COLUMN_USE"),
    "sum_of_group_column": ("SELECT sum(ward) FROM visits", "QUERY_INVALID"),
    "sum_of_boolean": ("SELECT sum(urgent) FROM visits", "GUARD_EXPRESSION"),
    # Aggregates that return or leak values.
    **{
        name.split("(")[0]: (f"SELECT {name} FROM visits", "GUARD_FUNCTION")
        for name in (
            "min(age)",
            "max(age)",
            "arg_max(note, age)",
            "arg_min(note, age)",
            "max_by(note, age)",
            "any_value(note)",
            "first(note)",
            "last(note)",
            "mode(note)",
            "median(cost)",
            "quantile_disc(age, 1)",
            "quantile_cont(age, [0.1, 0.5])",
            "approx_quantile(age, 0.5)",
            "reservoir_quantile(age, 0.5)",
            "histogram(age)",
            "list(note)",
            "array_agg(note)",
            "string_agg(note, ',')",
            "group_concat(note)",
            "approx_top_k(note, 3)",
            "approx_count_distinct(note)",
            "bool_or(urgent)",
            "bool_and(urgent)",
            "bit_or(age)",
            "bit_xor(age)",
            "bitstring_agg(age)",
            "product(age)",
            "entropy(note)",
            "kurtosis(age)",
            "skewness(age)",
            "fsum(cost)",
            "mad(age)",
            "sum_no_overflow(age)",
            "favg(age)",
        )
    },
    "max_with_n": ("SELECT max(age, 5) FROM visits", "GUARD_FUNCTION"),
    "percentile_within_group": (
        "SELECT percentile_disc(0) WITHIN GROUP (ORDER BY age) FROM visits",
        "GUARD_FUNCTION",
    ),
    "count_distinct_values": ("SELECT count(DISTINCT note) FROM visits", "GUARD_COLUMN_USE"),
    "sum_distinct": ("SELECT sum(DISTINCT age) FROM visits", "GUARD_FUNCTION"),
    "ordered_aggregate": ("SELECT sum(age ORDER BY cost) FROM visits", "GUARD_FUNCTION"),
    "exported_state": ("SELECT sum(age) EXPORT_STATE FROM visits", "GUARD_FUNCTION"),
    # Conditions hidden in aggregates.
    "power_switch": ("SELECT sum(power(0, abs(age - 120))) FROM visits", "GUARD_EXPRESSION"),
    "two_arguments": ("SELECT count(age, cost) FROM visits", "QUERY_INVALID"),
    "named_argument": ("SELECT sum(arg := age) FROM visits", "GUARD_EXPRESSION"),
    # Oracles after the aggregate.
    "order_by_raw": ("SELECT count(*) FROM visits ORDER BY age", "QUERY_INVALID"),
    "limit_percent": ("SELECT count(*) FROM visits LIMIT 10%", "GUARD_CLAUSE"),
    "limit_from_data": ("SELECT count(*) FROM visits LIMIT (SELECT 1)", "GUARD_CLAUSE"),
    "case_over_aggregate": (
        "SELECT CASE WHEN count(*) > 3 THEN error('x') END FROM visits",
        "GUARD_FUNCTION",
    ),
    "error_function": ("SELECT error(note) FROM visits", "GUARD_FUNCTION"),
    "sleep": ("SELECT sleep_ms(1000) FROM visits", "GUARD_FUNCTION"),
    "constant_column": ("SELECT 1 FROM visits", "GUARD_RAW_ROWS"),
    "current_setting": ("SELECT current_setting('memory_limit') FROM visits", "GUARD_FUNCTION"),
    # Conditions that aren't plain.
    "regex": ("SELECT count(*) FROM visits WHERE note SIMILAR TO '.*7'", "GUARD_UNPROVEN"),
    "regex_function": (
        "SELECT count(*) FROM visits WHERE regexp_matches(note, '(a+)+$')",
        "GUARD_UNPROVEN",
    ),
    "arithmetic_on_column": ("SELECT count(*) FROM visits WHERE age + 0 = 120", "GUARD_FILTER"),
    "cast_of_column": ("SELECT count(*) FROM visits WHERE note::INT = 7", "GUARD_UNPROVEN"),
    "lazy_cast_oracle": (
        "SELECT count(*) FROM visits WHERE ward = 'lone' AND age = 'x'",
        "GUARD_EXPRESSION",
    ),
    "row_comparison": (
        "SELECT count(*) FROM visits WHERE (age, cost) = (120, 1)",
        "GUARD_FUNCTION",
    ),
    "in_subquery": (
        "SELECT count(*) FROM visits WHERE age IN (SELECT age FROM visits)",
        "GUARD_UNPROVEN",
    ),
    "in_column": ("SELECT count(*) FROM visits WHERE age IN (cost)", "GUARD_UNPROVEN"),
    "in_list_value": ("SELECT count(*) FROM visits WHERE age IN [1, 2]", "GUARD_CLAUSE"),
    "exists": (
        "SELECT count(*) FROM visits WHERE EXISTS (SELECT 1 FROM visits WHERE age = 120)",
        "GUARD_CLAUSE",
    ),
    "scalar_subquery": (
        "SELECT count(*) FROM visits WHERE age = (SELECT max(age) FROM visits)",
        "GUARD_FUNCTION",
    ),
    "any_subquery": (
        "SELECT count(*) FROM visits WHERE age = ANY (SELECT 120)",
        "GUARD_CLAUSE",
    ),
    "case_condition": (
        "SELECT count(*) FROM visits WHERE CASE WHEN age = 1 THEN patient_id = 'a' ELSE false END",
        "GUARD_UNIT",
    ),
    "error_in_condition": ("SELECT count(*) FROM visits WHERE error(note) = 1", "GUARD_FUNCTION"),
    "random_condition": ("SELECT count(*) FROM visits WHERE random() < 0.5", "GUARD_FUNCTION"),
    "now_constant": ("SELECT count(*) FROM visits WHERE seen_at < now()", "GUARD_FUNCTION"),
    "aggregate_in_where": ("SELECT count(*) FROM visits WHERE sum(age) > 1", "QUERY_INVALID"),
    "collated": ("SELECT count(*) FROM visits WHERE note COLLATE NOCASE = 'A'", "GUARD_CLAUSE"),
    "lambda": (
        "SELECT count(*) FROM visits WHERE list_filter([1], x -> x = age) = [1]",
        "GUARD_EXPRESSION",
    ),
    # More than one relation.
    "self_join": (
        "SELECT count(*) FROM visits a JOIN visits b ON a.ward = b.ward",
        "GUARD_UNPROVEN",
    ),
    "cross_join": ("SELECT count(*) FROM visits, visits v", "GUARD_UNPROVEN"),
    "fan_out": ("SELECT count(*) FROM visits, range(1000)", "GUARD_TABLE"),
    "positional_join": ("SELECT count(*) FROM visits POSITIONAL JOIN visits v", "GUARD_CLAUSE"),
    "asof_join": (
        "SELECT count(*) FROM visits a ASOF JOIN visits b ON a.age >= b.age",
        "GUARD_CLAUSE",
    ),
    "subquery_limit": ("SELECT count(*) FROM (FROM visits LIMIT 1)", "GUARD_CLAUSE"),
    "subquery_in_select": ("SELECT (SELECT max(age) FROM visits)", "GUARD_FUNCTION"),
    "subquery_beside": (
        "SELECT count(*), (SELECT first(note) FROM visits) FROM visits",
        "GUARD_FUNCTION",
    ),
    "recursive_cte": (
        "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a) SELECT count(*) FROM a",
        "GUARD_CLAUSE",
    ),
    "union_by_name": (
        "SELECT count(*) AS n FROM visits UNION ALL BY NAME SELECT age AS n FROM visits",
        "GUARD_CLAUSE",
    ),
    "pivot": ("PIVOT visits ON ward USING sum(age)", "GUARD_STATEMENT"),
    "unpivot": ("SELECT count(*) FROM (UNPIVOT visits ON age INTO NAME n VALUE v)", "GUARD_TABLE"),
    "table_sample": ("SELECT count(*) FROM visits TABLESAMPLE 1 ROWS", "GUARD_CLAUSE"),
    "using_sample": ("SELECT count(*) FROM visits USING SAMPLE 1 ROWS", "GUARD_CLAUSE"),
    "time_travel": ("SELECT count(*) FROM visits AT (VERSION => 1)", "GUARD_TABLE"),
    "qualified_table": ("SELECT count(*) FROM p0.main.visits", "GUARD_TABLE"),
    "system_table": ("SELECT count(*) FROM sqlite_master", "QUERY_INVALID"),
    "unknown_table": ("SELECT count(*) FROM patients", "QUERY_INVALID"),
    "information_schema": ("SELECT count(*) FROM information_schema.tables", "QUERY_INVALID"),
    "table_name_as_text": ("SELECT count(*) FROM 'visits.parquet'", "QUERY_INVALID"),
    "file_by_path": ("SELECT count(*) FROM '/etc/passwd'", "QUERY_INVALID"),
    # Table functions and metadata.
    **{
        f"function_{name.split('(')[0]}": (f"SELECT count(*) FROM {name}", "GUARD_TABLE")
        for name in (
            "read_csv('/etc/passwd')",
            "read_parquet('x')",
            "read_text('/etc/passwd')",
            "read_blob('/product/*')",
            "read_json('x')",
            "glob('/*')",
            "duckdb_tables()",
            "duckdb_columns()",
            "duckdb_settings()",
            "duckdb_secrets()",
            "duckdb_logs()",
            "pragma_storage_info('visits')",
            "pragma_table_info('visits')",
            "query('SELECT 1')",
            "query_table('visits')",
            "range(10000000000)",
            "generate_series(1, 2)",
            "unnest([1, 2])",
            "repeat_row(1)",
            "summary((FROM visits))",
            "histogram('visits', age)",
            "parquet_metadata('x')",
            "test_all_types()",
            "seq_scan('visits')",
            "sniff_csv('/etc/passwd')",
            "which_secret('a', 'b')",
        )
    },
    "summarize": ("SUMMARIZE visits", "GUARD_TABLE"),
    "describe": ("DESCRIBE visits", "GUARD_TABLE"),
    "show_tables": ("SHOW TABLES", "GUARD_TABLE"),
    "show_all": ("SHOW ALL TABLES", "GUARD_TABLE"),
    "stats": ("SELECT stats(age) FROM visits", "GUARD_FUNCTION"),
    "getenv": ("SELECT getenv('HOME') FROM visits", "GUARD_FUNCTION"),
    "version": ("SELECT version() FROM visits", "GUARD_FUNCTION"),
    "nextval": ("SELECT nextval('s') FROM visits", "GUARD_FUNCTION"),
    "repeat_bomb": ("SELECT repeat('x', 3000000000) FROM visits", "GUARD_FUNCTION"),
    "lambda_column": ("SELECT list_transform([1], x -> x) FROM visits", "GUARD_EXPRESSION"),
    "dot_call": ("SELECT note.upper() FROM visits", "GUARD_RAW_ROWS"),
    "dot_call_aggregate": ("SELECT age.max() FROM visits", "GUARD_FUNCTION"),
    # Windows.
    "window_sum": ("SELECT sum(age) OVER () FROM visits", "GUARD_CLAUSE"),
    "window_row_number": ("SELECT row_number() OVER () FROM visits", "GUARD_CLAUSE"),
    "window_lag": ("SELECT lag(note) OVER (ORDER BY age) FROM visits", "GUARD_CLAUSE"),
    # Grouping in other ways.
    "group_by_expression": ("SELECT count(*) FROM visits GROUP BY age % 2", "GUARD_COLUMN_USE"),
    "group_by_position_of_unit": (
        "SELECT patient_id, count(*) FROM visits GROUP BY 1",
        "GUARD_UNIT",
    ),
    "group_by_alias_of_unit": (
        "SELECT patient_id AS ward2, count(*) FROM visits GROUP BY ward2",
        "GUARD_UNIT",
    ),
    "group_by_no_position": ("SELECT count(*) FROM visits GROUP BY 9", "QUERY_INVALID"),
    "group_by_position_of_aggregate": (
        "SELECT count(*) FROM visits GROUP BY 1",
        "QUERY_INVALID",
    ),
    "positional_reference": ("SELECT #1 FROM visits", "GUARD_RAW_ROWS"),
    # Statements.
    "two_statements": ("SELECT count(*) FROM visits; SELECT 1", "GUARD_STATEMENT"),
    "statement_after_comment": (
        "SELECT count(*) FROM visits; --\nSELECT * FROM visits",
        "GUARD_STATEMENT",
    ),
    "empty": ("", "GUARD_STATEMENT"),
    "only_comment": ("-- SELECT 1", "GUARD_STATEMENT"),
    **{
        f"statement_{sql.split()[0].lower()}": (sql, "GUARD_STATEMENT")
        for sql in (
            "EXPLAIN SELECT count(*) FROM visits",
            "ATTACH '/tmp/x.db'",
            "DETACH p0",
            "COPY visits TO '/tmp/x.csv'",
            "EXPORT DATABASE '/tmp/x'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "SET threads = 1",
            "RESET threads",
            "PRAGMA version",
            "CALL pragma_version()",
            "CREATE TABLE x (a INT)",
            "INSERT INTO visits VALUES (1)",
            "UPDATE visits SET age = 1",
            "DELETE FROM visits",
            "DROP TABLE visits",
            "ALTER TABLE visits ADD COLUMN a INT",
            "PREPARE q AS SELECT 1",
            "EXECUTE q",
            "BEGIN",
            "CHECKPOINT",
            "VACUUM",
            "USE p0",
        )
    },
    "explain_analyze": ("EXPLAIN ANALYZE SELECT * FROM visits", "GUARD_STATEMENT"),
    "create_macro": ("CREATE MACRO sum(x) AS max(x)", "GUARD_STATEMENT"),
    "create_as": ("CREATE TABLE x AS FROM visits", "GUARD_STATEMENT"),
    # Parameters.
    "parameter_question": ("SELECT count(*) FROM visits WHERE age = ?", "GUARD_PARAMETER"),
    "parameter_dollar": ("SELECT count(*) FROM visits WHERE age = $1", "GUARD_PARAMETER"),
    "parameter_named": ("SELECT count(*) FROM visits WHERE age = $who", "GUARD_PARAMETER"),
    "variable": ("SELECT count(*) FROM visits WHERE age = getvariable('x')", "GUARD_FUNCTION"),
    # Form.
    "typing_error": ("SELEC count(*) FROM visits", "QUERY_INVALID"),
    "unclosed": ("SELECT count(* FROM visits", "QUERY_INVALID"),
    "nul_byte": ("SELECT count(*) FROM visits\0", "QUERY_INVALID"),
    "nul_byte_hides": ("SELECT count(*) FROM visits\0; DROP TABLE visits", "QUERY_INVALID"),
    "nul_in_constant": ("SELECT count(*) FROM visits WHERE note = 'a\0b'", "QUERY_INVALID"),
    "nul_by_escape": ("SELECT count(*) FROM visits WHERE note = e'\\x00'", "QUERY_INVALID"),
    "nul_in_alias": ('SELECT count(*) AS U&"\\0000" FROM visits', "QUERY_INVALID"),
    "escape_character": ("SELECT count(*) FROM visits \x1b[2J", "QUERY_INVALID"),
    "lone_surrogate": ("SELECT count(*) FROM visits WHERE note = '\ud800'", "QUERY_INVALID"),
    "homoglyph_column": ("SELECT sum(\u0430ge) FROM visits", "QUERY_INVALID"),
    "homoglyph_function": ("SELECT \u0455um(age) FROM visits", "QUERY_INVALID"),
    "fullwidth_table": ("SELECT count(*) FROM \uff56isits", "QUERY_INVALID"),
    "zero_width_column": ('SELECT sum("a\u200bge") FROM visits', "QUERY_INVALID"),
    "quoted_function": ('SELECT "max"(age) FROM visits', "GUARD_FUNCTION"),
    "quoted_row_id": ('SELECT "rowid" FROM visits', "GUARD_RAW_ROWS"),
    "too_long": (f"SELECT count(*) FROM visits WHERE note = '{'x' * 70000}'", "GUARD_SIZE"),
    "too_many_columns": (f"SELECT {', '.join(['count(*)'] * 300)} FROM visits", "GUARD_SIZE"),
    "long_alias": (f"SELECT count(*) AS {'x' * 300} FROM visits", "GUARD_SIZE"),
    "deep_parentheses": (f"SELECT {'(' * 500}1{')' * 500} FROM visits", "QUERY_INVALID"),
    "deep_not": (f"SELECT count(*) FROM visits WHERE {'NOT ' * 500}true", "QUERY_INVALID"),
    "deep_arithmetic": (f"SELECT {'1 + ' * 900}1 FROM visits", "QUERY_INVALID"),
    "huge_exponent": ("SELECT count(*) FROM visits WHERE age = 1e999999999", "GUARD_UNPROVEN"),
    "huge_number": (f"SELECT count(*) FROM visits WHERE age = {'9' * 5000}", "QUERY_INVALID"),
    "nan_constant": ("SELECT count(*) FROM visits WHERE cost = 'nan'", "GUARD_EXPRESSION"),
    "infinite_constant": (
        "SELECT count(*) FROM visits WHERE cost < 'infinity'",
        "GUARD_EXPRESSION",
    ),
    "infinite_date": ("SELECT count(*) FROM visits WHERE day < DATE 'infinity'", "GUARD_UNPROVEN"),
    "bad_date": ("SELECT count(*) FROM visits WHERE day = DATE '2024-02-30'", "GUARD_EXPRESSION"),
    "number_for_text": ("SELECT count(*) FROM visits WHERE note = 7", "GUARD_UNPROVEN"),
    "cast_constant_overflows": (
        "SELECT count(*) FROM visits WHERE age = 300::TINYINT",
        "GUARD_EXPRESSION",
    ),
}


ANSWERED = {
    "select_distinct": "SELECT DISTINCT ward FROM visits",
    "unit_is_null": "SELECT count(*) FROM visits WHERE patient_id IS NULL",
    "unit_counted_plainly": "SELECT count(patient_id) FROM visits",
    "count_of_filter_column": "SELECT count(note) FROM visits",
    "stddev": "SELECT stddev(age) FROM visits",
    "var_pop": "SELECT var_pop(age) FROM visits",
    "corr": "SELECT corr(age, cost) FROM visits",
    "count_if": "SELECT count_if(age = 120) FROM visits",
    "filter_clause": "SELECT count(*) FILTER (WHERE age = 120) FROM visits",
    "case_in_sum": "SELECT sum(CASE WHEN age = 120 THEN 1 ELSE 0 END) FROM visits",
    "superincreasing": "SELECT sum(age * 1000000) FROM visits",
    "sum_of_constant": "SELECT sum(1) FROM visits",
    "count_of_constant": "SELECT count(1) FROM visits",
    "count_of_null": "SELECT count(NULL) FROM visits",
    "sum_of_comparison": "SELECT sum((age = 120)::INT) FROM visits",
    "coalesced": "SELECT sum(coalesce(age, 0)) FROM visits",
    "cast_in_sum": "SELECT sum(age::DOUBLE) FROM visits",
    "overflow_in_sum": "SELECT sum(age * 9223372036854775807) FROM visits",
    "having": "SELECT ward FROM visits GROUP BY ward HAVING count(*) = 3",
    "having_alone": "SELECT count(*) FROM visits HAVING sum(age) > 10",
    "order_by": "SELECT ward, count(*) FROM visits GROUP BY ward ORDER BY 2",
    "limit": "SELECT ward, count(*) FROM visits GROUP BY ward LIMIT 1",
    "offset": "SELECT ward, count(*) FROM visits GROUP BY ward OFFSET 3",
    "qualify": "SELECT ward, count(*) FROM visits GROUP BY ward QUALIFY row_number() OVER () = 1",
    "arithmetic_on_aggregates": "SELECT sum(age) - 1 FROM visits",
    "division_oracle": "SELECT 1 / (count(*) - 600) FROM visits",
    "or": "SELECT count(*) FROM visits WHERE age = 120 OR age = 30",
    "not": "SELECT count(*) FROM visits WHERE NOT age = 120",
    "not_in": "SELECT count(*) FROM visits WHERE age NOT IN (120)",
    "not_between": "SELECT count(*) FROM visits WHERE age NOT BETWEEN 1 AND 2",
    "like": "SELECT count(*) FROM visits WHERE note LIKE 'secret-7'",
    "ilike": "SELECT count(*) FROM visits WHERE note ILIKE 'S%'",
    "function_of_column": "SELECT count(*) FROM visits WHERE length(note) = 8",
    "try_cast_constant": "SELECT count(*) FROM visits WHERE age = TRY_CAST('7' AS INT)",
    "column_to_column": "SELECT count(*) FROM visits WHERE age = cost",
    "column_to_itself": "SELECT count(*) FROM visits WHERE age = age",
    "constant_condition": "SELECT count(*) FROM visits WHERE 1 = 1",
    "constant_boolean": "SELECT count(*) FROM visits WHERE true",
    "bare_column": "SELECT count(*) FROM visits WHERE urgent",
    "distinct_from": "SELECT count(*) FROM visits WHERE age IS DISTINCT FROM 7",
    "null_comparison": "SELECT count(*) FROM visits WHERE age = NULL",
    "self_join_on_unit": "SELECT count(*) FROM visits a JOIN visits b USING (patient_id)",
    "lateral": "SELECT count(*) FROM visits v, LATERAL (SELECT v.age) s",
    "subquery_in_from": "SELECT count(*) FROM (SELECT * FROM visits)",
    "cte": "WITH a AS (FROM visits) SELECT count(*) FROM a",
    "cte_materialized": "WITH a AS MATERIALIZED (FROM visits) SELECT count(*) FROM a",
    "shadowing_cte": "WITH visits AS (SELECT 1 AS ward) SELECT count(*) FROM visits",
    "union": "SELECT count(*) FROM visits UNION ALL SELECT 1",
    "except": "SELECT count(*) FROM visits EXCEPT SELECT 600",
    "intersect": "SELECT count(*) FROM visits INTERSECT SELECT 600",
    "values": "VALUES (1)",
    "values_in_from": "SELECT count(*) FROM (VALUES (1)) t(a)",
    "no_from": "SELECT count(*)",
    "column_aliases": "SELECT count(*) FROM visits AS t(a, b, c, d, e, f, g, h, i)",
    "qualified_function": "SELECT main.sum(age) FROM visits",
    "system_function": "SELECT system.main.sum(age) FROM visits",
    "window_over_aggregate": (
        "SELECT ward, rank() OVER (ORDER BY count(*)) FROM visits GROUP BY ward"
    ),
    "group_by_all": "SELECT ward, count(*) FROM visits GROUP BY ALL",
    "rollup": "SELECT ward, count(*) FROM visits GROUP BY ROLLUP (ward)",
    "cube": "SELECT ward, sex, count(*) FROM visits GROUP BY CUBE (ward, sex)",
    "grouping_sets": "SELECT ward, count(*) FROM visits GROUP BY GROUPING SETS ((ward), ())",
    "grouping_function": "SELECT grouping(ward), count(*) FROM visits GROUP BY ward",
    "group_by_function": "SELECT count(*) FROM visits GROUP BY upper(ward)",
    "group_by_case": "SELECT count(*) FROM visits GROUP BY CASE WHEN age = 120 THEN 1 END",
    "group_by_text": "SELECT count(*) FROM visits GROUP BY 'ward'",
    "huge_in_list": (
        f"SELECT count(*) FROM visits WHERE age IN ({', '.join(map(str, range(1001)))})"
    ),
    "tiny_exponent": "SELECT count(*) FROM visits WHERE cost = 1e-999999999",
    "fraction_for_integer": "SELECT count(*) FROM visits WHERE age = 1.5",
}
"""What looks like an attack, but is answered by cells like any other query."""


@pytest.mark.parametrize("sql", ANSWERED.values(), ids=ANSWERED)
def test_answered_by_cells_alone(guard: Guard, sql: str) -> None:
    checked = guard.check(sql)
    for cell in checked.cells:
        assert bool(cell.schema.tables) == bool(cell.schema.components)
    assert "visits" not in checked.stage2.replace("cells", "")


@pytest.mark.parametrize(("sql", "code"), ATTACKS.values(), ids=ATTACKS)
def test_guard_refuses(guard: Guard, sql: str, code: str) -> None:
    with pytest.raises((GuardRefusalError, QueryError)) as refused:
        guard.check(sql)
    assert refused.value.code == code
    assert refused.value.message.endswith(".")
    assert "Candidate" not in refused.value.message  # DuckDB's words list what exists
    assert len(refused.value.message) < 700


def bound(guard: Guard, sql: str) -> dict[str, object] | None:
    try:
        plan = guard.plan(sql.replace("\0", " ").replace("\ud800", "?"))
    except (engine.EngineError, json.JSONDecodeError, RecursionError):
        return None
    return None if plan.get("error") else plan


def test_most_attacks_bind(guard: Guard) -> None:
    # What doesn't bind tests nothing of the verifier.
    assert sum(bound(guard, sql) is not None for sql, _ in ATTACKS.values()) > 120


CELL_QUERIES = {
    "unit_as_key",
    "group_by_position_of_unit",
    "group_by_alias_of_unit",
    "function_query",
}
"""What is a good cell query, or reads no table: as an analyst's query it is refused above."""


@pytest.mark.parametrize(
    "sql", [sql for name, (sql, _) in ATTACKS.items() if name not in CELL_QUERIES]
)
def test_verifier_alone_refuses(guard: Guard, sql: str) -> None:
    # As if a rewriter had passed it on as it is, whatever it claims of it.
    plan = bound(guard, sql) or {"error": True, "error_type": "binder"}
    for claim in CLAIMS:
        with pytest.raises(GuardRefusalError) as refused:
            guard.verify_plan(plan, claim)
        assert refused.value.code == "GUARD_UNPROVEN"


def test_denials_do_not_depend_on_data(
    guard: Guard, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = guard.emptied(tmp_path_factory.mktemp("empty"))
    for sql, _ in ATTACKS.values():
        said = []
        for each in (guard, empty):
            with pytest.raises((GuardRefusalError, QueryError)) as refused:
                each.check(sql)
            said.append((refused.value.code, refused.value.message))
        assert said[0] == said[1]
    empty.close()
