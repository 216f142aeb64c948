"""From an analyst's text to verified cell queries, on the connection that will run them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luoshu.sandbox import engine
from luoshu.sandbox.errors import QueryError
from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.checked_groups import GroupRules
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.plan_fields import PlanError
from luoshu.sandbox.guard.plan_reader import read_plan
from luoshu.sandbox.guard.pushdown import pushed_down
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.split import split
from luoshu.sandbox.guard.syntax import check_syntax, unknown_names
from luoshu.sandbox.guard.verify import verify
from luoshu.sandbox.schema import CellSchema, TableSchema

MAX_SQL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class CellQuery:
    """One verified query of stage 1.

    Attributes:
        sql: Puts out k0…, u, a0…; or k0… alone for public rows.
        schema: What it yields.
    """

    sql: str
    schema: CellSchema


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """A query that passed the guard.

    Attributes:
        cells: Verified on the given connection.
        stage2: SQL over the tables cells0, cells1, … of released cells (columns k0…, c0…).
    """

    cells: tuple[CellQuery, ...]
    stage2: str


def check_query(
    connection: engine.Connection,
    tables: Sequence[TableSchema],
    sql: str,
    *,
    min_units: int,
    dominance_ppm: int,
    mode: str = "aggregate",
) -> CheckedQuery:
    """Parses, binds, splits and verifies a query. Reads no data.

    Args:
        connection: Locked, with the tables attached; the one that runs stage 1 next.
        tables: What the query may read.
        sql: The analyst's text.
        min_units: Fewest units of each group of a subquery that protected rows are compared with.
        dominance_ppm: Most that one unit may contribute to such a group, in parts per million.
        mode: The release mode: `dp` accepts no such subquery.

    Raises:
        QueryError: It doesn't parse, or names what doesn't exist.
        GuardRefusalError: It isn't accepted.
    """
    statement = _one_select(connection, sql)
    check_syntax(statement, tables)
    try:
        document = engine.bind(connection, sql)
    except (engine.EngineError, RecursionError, ValueError):
        raise _unbound(statement, tables) from None
    if document.get("error") is not False:
        raise _unbound(statement, tables)
    try:
        root = pushed_down(read_plan(document))
    except PlanError as error:
        is_function = str(error).startswith(("the function", "the aggregate"))
        raise refuse(
            Refusal.FUNCTION if is_function else Refusal.CLAUSE,
            f"The guard does not know {shown(error)}; ask in a simpler form.",
        ) from None
    names = _names(connection, sql, root)
    rules = GroupRules(min_units, dominance_ppm)
    stages = split(root, names, tables, rules, Constants(connection), mode=mode)
    found = []
    for request in stages.cells:
        try:
            bound = engine.bind(connection, request.sql)
        except (engine.EngineError, RecursionError, ValueError):
            # DuckDB's words may name what the analyst must not see.
            raise refuse(
                Refusal.UNPROVEN, "The guard could not bind the query; ask in a simpler form."
            ) from None
        schema = verify(
            bound, tables, request, min_units=min_units, dominance_ppm=dominance_ppm, mode=mode
        )
        found.append(CellQuery(request.sql, schema))
    return CheckedQuery(tuple(found), stages.stage2)


def _one_select(connection: engine.Connection, sql: str) -> dict[str, object]:
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
    statement: dict[str, object] = statements[0]
    return statement


def _unbound(statement: dict[str, object], tables: Sequence[TableSchema]) -> QueryError:
    names: Iterator[str] = unknown_names(statement, tables)
    unknown = next(names, None)
    if unknown is not None:
        return QueryError(
            f"There is no {shown(unknown)}; there is {_or(tables)}, and the catalog entry lists "
            "their columns."
        )
    return QueryError(
        "The SQL does not bind: a column or function does not exist where it is used, or types do "
        f"not fit. There is {_or(tables)}; the catalog entry lists their columns."
    )


def _names(connection: engine.Connection, sql: str, root: plan.Operator) -> Sequence[str]:
    """What the analyst calls the columns of the result.

    A plan doesn't name constants, calls what is grouped by by its number, and spells expressions
    in its own way; DuckDB is asked for such names.
    """
    planned, width = plan.output_names(root), len(plan.output_types(root))
    if len(planned) == width and all(name.isidentifier() for name in planned):
        return planned
    try:
        names = engine.result_names(connection, sql)
    except engine.EngineError:
        names = []
    if len(names) != width:
        names = list(planned) if len(planned) == width else [""] * width
    return [name or f"column{n}" for n, name in enumerate(names)]


def _or(tables: Sequence[TableSchema]) -> str:
    return ", ".join(dict.fromkeys(table.table for table in tables))


def _is_odd(char: str) -> bool:
    return (ord(char) < 32 and char not in "\t\n\r\f\v") or 0xD800 <= ord(char) < 0xE000


def _unparsable() -> QueryError:
    return QueryError("The SQL does not parse as DuckDB SQL; check it for typing errors.")
