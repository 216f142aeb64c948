"""From an analyst's text to a verified stage 1, on the connection that will run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luoshu.sandbox import engine
from luoshu.sandbox.errors import QueryError
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.split import split
from luoshu.sandbox.guard.tree import Node
from luoshu.sandbox.guard.verify import verify
from luoshu.sandbox.schema import CellSchema, TableSchema

MAX_SQL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """A query that passed the guard.

    Attributes:
        stage1: SQL that yields the cells; verified on the given connection.
        stage2: SQL over the table `cells` of released cells (columns k0…, c0…).
        cells: What stage 1 yields.
    """

    stage1: str
    stage2: str
    cells: CellSchema


def check_query(
    connection: engine.Connection, tables: Sequence[TableSchema], sql: str
) -> CheckedQuery:
    """Parses, splits, binds and verifies a query. Reads no data.

    Args:
        connection: Locked, with the tables attached; the one that runs stage 1 next.
        tables: What the query may read.
        sql: The analyst's text.

    Raises:
        QueryError: It doesn't parse, or names what doesn't exist.
        GuardRefusalError: It isn't accepted.
    """
    statement = _one_select(connection, sql)
    stages = split(statement, tables)
    try:
        stage1 = engine.unparse(connection, stages.stage1)
        stage2 = engine.unparse(connection, stages.stage2)
        if "\0" in stage1 + stage2:  # from an escape such as e'\\0'; a parser may stop there
            raise QueryError("The SQL holds a control character; remove it.")
        plan = engine.bind(connection, stage1)
    except engine.EngineError:
        # DuckDB's words may name what the analyst must not see.
        raise refuse(
            Refusal.UNPROVEN, "The guard could not bind the query; ask in a simpler form."
        ) from None
    return CheckedQuery(stage1, stage2, verify(plan, tables))


def _one_select(connection: engine.Connection, sql: str) -> Node:
    size = len(sql.encode("utf-8", "replace"))
    if size > MAX_SQL_BYTES:
        raise refuse(Refusal.SIZE, f"The SQL is longer than {MAX_SQL_BYTES >> 10} KiB; shorten it.")
    if "\0" in sql or (not sql.isprintable() and any(_is_odd(char) for char in sql)):
        raise QueryError("The SQL holds a control character; remove it.")
    try:
        document = engine.parse(connection, sql)
    except (engine.EngineError, RecursionError, ValueError):
        raise _unparsable() from None
    if document.get("error") is not False:
        if document.get("error_type") == "not implemented":
            raise refuse(
                Refusal.STATEMENT, "Only a SELECT is accepted; this is another kind of statement."
            )
        raise _unparsable()
    statements = document.get("statements")
    if not isinstance(statements, list) or len(statements) != 1:
        raise refuse(Refusal.STATEMENT, "Give exactly one SELECT statement.")
    statement: Node = statements[0]
    return statement


def _is_odd(char: str) -> bool:
    return (ord(char) < 32 and char not in "\t\n\r\f\v") or 0xD800 <= ord(char) < 0xE000


def _unparsable() -> QueryError:
    return QueryError("The SQL does not parse as DuckDB SQL; check it for typing errors.")
