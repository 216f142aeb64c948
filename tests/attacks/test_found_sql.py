"""What an attack on the guard with names and shapes tried: it held, and stays tried.

Each accepted text must mean to us what it means to DuckDB; where a name could
mean two things, a mistake would answer another question than was asked.
"""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from clinic import released_cells
from sandbox_world import Guard

from luoshu.sandbox import engine, wire
from luoshu.sandbox.errors import GuardRefusalError, QueryError
from luoshu.sandbox.worker.stage2 import load_cells

SAME = [
    # Aliases that are names of ours, of columns, or of one another.
    "SELECT sum(age) AS c1, sum(cost) AS c0, sex AS k0 FROM visits GROUP BY sex",
    "SELECT sum(age) AS k0, sex AS c0, count(*) AS cells FROM visits GROUP BY sex",
    "SELECT count(age) AS u, sum(cost) AS a0, count(*) AS units, sex AS t FROM visits GROUP BY sex",
    "SELECT sex AS ward, ward AS sex, count(*) FROM visits GROUP BY ward, sex",
    "SELECT sex AS ward, count(*) FROM visits GROUP BY 1",
    "SELECT sex AS a, a.sex, count(*) FROM visits AS a GROUP BY a.sex",
    "SELECT count(*) AS age, sum(age) AS age FROM visits WHERE age > 40",
    "SELECT count(*), sex, sex, sex AS again FROM visits GROUP BY sex, 2, sex",
    'SELECT count(*) AS "x"";DROP TABLE cells;--" FROM visits',
    'SELECT count(*) AS "select", sum(age) AS "a, (SELECT 1)" FROM visits',
    'SELECT "v""v".sex, count(*) FROM "VISITS" AS "v""v" GROUP BY "v""v"."SEX"',
    "SELECT lbl: count(*), count(*) AS 'text' FROM visits",
    # Other ways to write the same.
    "SELECT count() FROM visits GROUP BY GROUPING SETS ((sex))",
    "SELECT sex, ward, count(*) FROM visits GROUP BY sex, GROUPING SETS ((ward))",
    "SELECT\u00a0count(*)\u3000FROM\u2003visits",
    'FROM visits SELECT count(ALL age), "sum"(age)',
    "SELECT count(*) FROM 'visits' WHERE (((age))) == (30)",
    ";/* a */SELECT count(DISTINCT (patient_id)) FROM visits;;--",
    # Conditions.
    "SELECT count(*) FROM visits WHERE 40 <= age AND 50 > age AND age NOTNULL",
    "SELECT count(*) FROM visits WHERE age BETWEEN 50 AND 40",
    "SELECT count(*) FROM visits WHERE age IN (-5, 4e1, 41.0, '42', 4_3)",
    "SELECT count(*), count(age) FROM visits WHERE age ISNULL",
    "SELECT count(*) FROM visits WHERE cost = -0.0 AND cost < .5 AND cost > -1.5e0",
    "SELECT count(*) FROM visits WHERE day = '2024-02-01' AND seen_at > DATE '2024-01-02'",
    "SELECT count(*) FROM visits WHERE seen_at > TIMESTAMP '2024-01-02T00:00:00.5'",
    "SELECT count(*) FROM visits WHERE urgent = 'TRUE' AND urgent IN (true, false)",
    "SELECT count(*) FROM visits WHERE note <> 'it''s' AND note > $$secret-1$$",
    "SELECT count(*) FROM visits WHERE note <> e'\\n' AND sex = 'f'",
]


def answered(guard: Guard, sql: str) -> list[tuple[object, ...]]:
    """The answer by way of cells, of which none is withheld that has a contribution."""
    checked = guard.check(sql)
    shaping = engine.open_engine(256 << 20, 1)
    try:
        for number, cell in enumerate(checked.cells):
            rows = guard.connection.execute(cell.sql).fetchall()
            cells = json.dumps(wire.encode_rows(list(released_cells(cell.schema, rows))))
            keys, types = len(cell.schema.keys), cell.schema.released_types
            load_cells(shaping, f"cells{number}", keys, types, cells)
        return shaping.execute(checked.stage2).fetchall()
    finally:
        shaping.close()


@pytest.mark.parametrize("sql", SAME)
def test_answer_is_what_duckdb_answers(guard: Guard, sql: str) -> None:
    expected = guard.connection.execute(sql).fetchall()
    # A number of nobody and a sum of nothing but zeros are withheld, from one unit on.
    withheld = [
        tuple(None if cell == 0 and isinstance(cell, int | Decimal) else cell for cell in row)
        for row in expected
    ]
    assert sorted(map(str, answered(guard, sql))) == sorted(map(str, withheld))


@pytest.mark.parametrize(
    "text",
    [
        *("'" + "x" * 60_000, "(" * 4000, "[" * 20_000, "SELECT " + "-" * 60_000),
        "SELECT " + "(" * 30_000 + "1" + ")" * 30_000,
        "SELECT count(*) FROM visits WHERE " + "NOT " * 10_000 + "true",
        "SELECT count(*) FROM visits WHERE " + "age<>1 AND (" * 200 + "age=1" + ")" * 200,
        "SELECT " + "CASE WHEN 1 THEN " * 2000 + "1" + " END" * 2000,
        "SELECT " + "f(" * 5000 + "1" + ")" * 5000 + " FROM visits",
        "SELECT 1" + "::INT" * 10_000 + " FROM visits",
        "SELECT a" + ".a" * 20_000 + " FROM visits",
        "SELECT 1;" * 6000,
        "SELECT 1 " + " UNION SELECT 1" * 4000,
        "SELECT count(*) FROM visits" + ",visits" * 8000,
        "WITH " + ",".join(f"a{n} AS (SELECT 1)" for n in range(2000)) + " SELECT count(*) FROM a1",
    ],
    ids=range(15),
)
def test_monstrous_text_is_denied(guard: Guard, text: str) -> None:
    with pytest.raises((GuardRefusalError, QueryError)):
        guard.check(text)
