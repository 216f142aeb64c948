"""Random data, random accepted queries: what comes out is true, and rests on enough units.

The guard, stage 1, the release rules and stage 2 run in this process, by the
same functions as in the workers. The oracle is plain DuckDB over the same rows,
written without any of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luoshu.sandbox import engine
from luoshu.sandbox.guard.check import check_query
from luoshu.sandbox.release.aggregate import AggregateRules, release
from luoshu.sandbox.schema import BIGINT, DATE, VARCHAR, ColumnSchema, TableSchema, Use, ValueType
from luoshu.sandbox.worker.stage2 import load_cells

G, F, A = Use.GROUP, Use.FILTER, Use.AGGREGATE
TABLE = TableSchema(
    "p0",
    "t",
    "person",
    (
        ColumnSchema("g", VARCHAR, frozenset({G, F})),
        ColumnSchema("h", BIGINT, frozenset({G, F})),
        ColumnSchema("day", DATE, frozenset({G, F})),
        ColumnSchema("n", BIGINT, frozenset({A, F})),
        ColumnSchema("x", ValueType("DECIMAL", 18, 3), frozenset({A, F})),
    ),
)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 15),
        st.sampled_from(["a", "b", "A", "", "心", None]),
        st.sampled_from([0, 1, -1, 2**62, None]),
        st.sampled_from(["2024-01-01", "2024-02-29", None]),
        st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63), None]),
        st.integers(-2000, 2000).map(lambda v: str(Decimal(v).scaleb(-3)))
        | st.sampled_from(["999999999999999.999", None]),
    ),
    max_size=120,
)

AGGREGATES = st.sampled_from(
    ["count(*)", "count(DISTINCT person)"]
    + [f"{name}({column})" for name in ("count", "sum", "avg") for column in ("n", "x")]
)
CONDITIONS = st.one_of(
    st.tuples(
        st.sampled_from(["h", "n"]),
        st.sampled_from(["=", "<>", "<", "<=", ">", ">="]),
        st.integers(-2, 2),
    ).map(lambda c: f"{c[0]} {c[1]} {c[2]}"),
    st.tuples(st.integers(-2, 2), st.integers(-2, 2)).map(lambda b: f"n BETWEEN {b[0]} AND {b[1]}"),
    st.lists(st.sampled_from(["a", "b", "心", "none"]), min_size=1, max_size=3).map(
        lambda items: f"g IN ({', '.join(map(engine.literal, items))})"
    ),
    st.sampled_from(["g IS NULL", "g IS NOT NULL", "day IS NULL", "n IS NOT NULL"]),
    st.sampled_from(["x < 0.5", "x >= -1.25", "'a' = g", "0 < x", "day = DATE '2024-02-29'"]),
)
QUERIES = st.tuples(
    st.lists(st.sampled_from(["g", "h", "day"]), unique=True, max_size=3),
    st.lists(AGGREGATES, min_size=1, max_size=4),
    st.lists(CONDITIONS, max_size=3),
)


@pytest.fixture(scope="module")
def connection() -> Iterator[engine.Connection]:
    opened = engine.open_engine(256 << 20, 1)
    opened.execute("ATTACH ':memory:' AS p0")
    columns = ", ".join(f"{column.name} {column.type}" for column in TABLE.columns)
    opened.execute(f"CREATE TABLE p0.main.t (person BIGINT NOT NULL, {columns})")
    opened.execute("USE p0")
    yield opened
    opened.close()


def fill(connection: engine.Connection, rows: list[tuple[Any, ...]]) -> None:
    connection.execute("DELETE FROM t")
    if rows:
        lists = ", ".join(
            f"unnest(?::{kind}[])" for kind in (BIGINT, *(column.type for column in TABLE.columns))
        )
        connection.execute(
            f"INSERT INTO t SELECT {lists}", [list(column) for column in zip(*rows, strict=True)]
        )


def guarded(connection: engine.Connection, sql: str, min_units: int) -> list[tuple[Any, ...]]:
    query = check_query(connection, [TABLE], sql)
    cells = connection.execute(query.stage1).fetchall()
    released = release(cells, query.cells, AggregateRules(min_units))
    connection.execute("DROP TABLE IF EXISTS cells")
    load_cells(connection, len(query.cells.keys), query.cells.released_types, released.rows)
    return connection.execute(query.stage2).fetchall()


def contributing(aggregate: str) -> str:
    name, _, column = aggregate.rstrip(")").partition("(")
    if column in {"*", "DISTINCT person"}:
        return "true"
    counted = f"count(*) FILTER (WHERE {column} IS NOT NULL) > 0"
    added = f"sum({column}) <> 0"
    return {"count": counted, "sum": added, "avg": f"{counted} AND {added}"}[name]


def units_behind(
    connection: engine.Connection, keys: list[str], aggregate: str, where: str
) -> dict[tuple[Any, ...], int]:
    """How many distinct people contribute to each group, counted in Python."""
    columns = "".join(f"{key}, " for key in keys)
    rows = connection.execute(
        f"SELECT {columns}person FROM t {where} GROUP BY {columns}person "
        f"HAVING {contributing(aggregate)}"
    ).fetchall()
    people: dict[tuple[Any, ...], set[int]] = {}
    for *key, person in rows:
        people.setdefault(tuple(key), set()).add(person)
    return {key: len(group) for key, group in people.items()}


def same(value: Any, raw: Any) -> bool:
    if isinstance(value, float):
        return math.isclose(value, float(raw), rel_tol=1e-11, abs_tol=1e-300)
    return bool(value == raw) and value is not None


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, query=QUERIES, min_units=st.integers(1, 6))
def test_released_is_true_and_rests_on_enough_units(
    connection: engine.Connection,
    rows: list[tuple[Any, ...]],
    query: tuple[list[str], list[str], list[str]],
    min_units: int,
) -> None:
    keys, aggregates, conditions = query
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    group = f"GROUP BY {', '.join(keys)}" if keys else ""
    sql = f"SELECT {', '.join([*keys, *aggregates])} FROM t {where} {group}"
    width = len(keys)
    fill(connection, rows)
    result = guarded(connection, sql, min_units)
    raw = {row[:width]: row[width:] for row in connection.execute(sql).fetchall()}
    units = [units_behind(connection, keys, aggregate, where) for aggregate in aggregates]
    released = {row[:width]: row[width:] for row in result}
    assert len(released) == len(result)
    for key, values in released.items():
        for value, expected, behind in zip(values, raw[key], units, strict=True):
            if value is None:
                assert behind.get(key, 0) < min_units
            else:
                assert behind.get(key, 0) >= min_units
                assert same(value, expected)
    for key in raw.keys() - released.keys():  # withheld, and nothing of it was due
        assert keys
        assert all(behind.get(key, 0) < min_units for behind in units)
