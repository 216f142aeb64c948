"""DuckDB as the workers use it: locked down before any text of an analyst arrives.

Loads `_duckdb`, the extension module itself: the Python package around it takes
four times as long to import (120 ms instead of 30) and brings code that a
worker has no use for. The version is pinned; what the guard proves, it proves
about this one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import _duckdb

VERSION = "duckdb 2.0.0"
Connection = _duckdb.DuckDBPyConnection
EngineError = _duckdb.Error

MAX_EXPRESSION_DEPTH = 64
_QUIET = (
    "SET enable_progress_bar=false",
    "SET autoinstall_known_extensions=false",
    "SET autoload_known_extensions=false",
    "SET allow_community_extensions=false",
    "SET python_enable_replacements=false",
    f"SET max_expression_depth={MAX_EXPRESSION_DEPTH}",
    "SET TimeZone='UTC'",
)
_HELD = "temp.main.__luoshu_held"
_LOCK = ("SET enable_external_access=false", "SET lock_configuration=true")


def open_engine(
    memory_bytes: int = 256 << 20, threads: int = 1, temp_directory: str = ""
) -> Connection:
    """Opens an empty in-memory database, not yet locked.

    Args:
        memory_bytes: What DuckDB may allocate.
        threads: How many threads it runs, beside the one that asks: with one it starts none.
        temp_directory: Where it may spill; by default nowhere.

    Raises:
        RuntimeError: Another version of DuckDB than the guard was written for.
    """
    if f"duckdb {_duckdb.__version__}" != VERSION:
        raise RuntimeError(f"this is duckdb {_duckdb.__version__}, the guard is for {VERSION}")
    connection = _duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_bytes}B",
            "threads": str(threads),
            "async_threads": "0",  # for remote files
            "temp_directory": temp_directory,
        },
    )
    for statement in _QUIET:
        connection.execute(statement)
    return connection


def seed(connection: Connection, entropy: bytes) -> None:
    """Sets the state of a connection's random numbers, which nothing released rests on."""
    number = int.from_bytes(entropy, "big") / (1 << 8 * len(entropy))
    connection.execute("SELECT setseed(?)", [number]).fetchall()


def allot(connection: Connection, memory_bytes: int, threads: int) -> None:
    """Sets what an open engine may use."""
    connection.execute(f"SET memory_limit='{memory_bytes}B'")
    connection.execute(f"SET threads={threads}")


def hold(connection: Connection, rows: int) -> None:
    """Takes 16 bytes of memory for each of some rows, until `give_back`."""
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {_HELD} (filler HUGEINT)")
    connection.execute(f"INSERT INTO {_HELD} SELECT 0 FROM range({rows:d})")  # noqa: S608 - a number


def give_back(connection: Connection) -> None:
    """Gives back what was held, for the engine's own use."""
    connection.execute(f"DROP TABLE IF EXISTS {_HELD}")


def attach(connection: Connection, catalog: str, path: str) -> None:
    """Attaches a prepared file, read-only."""
    connection.execute(f"ATTACH {literal(path)} AS {identifier(catalog)} (READ_ONLY)")


def search(connection: Connection, catalogs: Sequence[str]) -> None:
    """Has tables of some catalogs found by their bare names."""
    path = ",".join(f"{identifier(catalog)}.main" for catalog in catalogs)
    connection.execute(f"SET search_path={literal(path)}")


def lock(connection: Connection) -> None:
    """Closes the way to files and settings for good."""
    for statement in _LOCK:
        connection.execute(statement)


def parse(connection: Connection, sql: str) -> dict[str, Any]:
    """DuckDB's unbound syntax trees of a text (`json_serialize_sql`).

    The tree says itself whether the text didn't parse or holds no SELECT.
    """
    return _json(connection, "SELECT json_serialize_sql(?)", sql)


def unparse(connection: Connection, tree: dict[str, Any]) -> str:
    """The SQL of a syntax tree (`json_deserialize_sql`)."""
    row = connection.execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone()
    return str(row[0]) if row else ""


def bind(connection: Connection, sql: str) -> dict[str, Any]:
    """DuckDB's bound, unoptimised plan of a text (`json_serialize_plan`)."""
    return _json(connection, "SELECT json_serialize_plan(?, optimize:=false)", sql)


def result_names(connection: Connection, sql: str) -> list[str]:
    """The names of a query's columns; binds it, and reads no data."""
    return [str(row[0]) for row in connection.execute(f"DESCRIBE {sql}").fetchall()]


def _json(connection: Connection, statement: str, text: str) -> dict[str, Any]:
    row = connection.execute(statement, [text]).fetchone()
    document = json.loads(row[0]) if row else {}
    return document if isinstance(document, dict) else {}


def column_types(connection: Connection) -> list[tuple[str, str]]:
    """Name and type of each column of the statement that was just executed."""
    return [(str(column[0]), str(column[1])) for column in connection.description or ()]


def identifier(name: str) -> str:
    """A name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def names(items: Sequence[str]) -> str:
    """Names as a list of quoted identifiers."""
    return ", ".join(identifier(item) for item in items)


def warm_up() -> None:
    """Runs what loads lazily, so that a probe sees every library a worker loads."""
    connection = open_engine(256 << 20, 1)
    connection.execute(
        "SELECT 1::DECIMAL(18,2), DATE '2020-01-01', TIMESTAMP '2020-01-01', 1.5::DOUBLE, "
        "json_serialize_sql('SELECT 1')"
    ).fetchall()
    connection.execute("SELECT 1::INTEGER, 1::BIGINT, 1::DOUBLE").fetchnumpy()
    connection.close()
