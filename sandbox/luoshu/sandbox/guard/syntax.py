"""What is refused by its form, before DuckDB binds anything, so that the reason is plain.

Nothing rests on this: it names constructs as the analyst wrote them. The verifier decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from luoshu.sandbox.errors import QueryError
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.refused import check_function
from luoshu.sandbox.schema import TableSchema

_MAX_NODES = 20_000
_CASE = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_FROM = {
    "TABLE_FUNCTION": "a table function",
    "SHOW_REF": "DESCRIBE, SHOW or SUMMARIZE",
    "PIVOT": "PIVOT or UNPIVOT",
    "COLUMN_DATA": "a materialised result",
}
_EXPRESSIONS = {
    "LAMBDA": "a lambda",
    "LAMBDA_REF": "a lambda",
    "DEFAULT": "DEFAULT",
}


def folded(name: str) -> str:
    """A name as it compares: without regard to the case of ASCII letters."""
    return name.translate(_CASE)


def check_syntax(statement: dict[str, object], tables: Sequence[TableSchema]) -> None:
    """Refuses forms that no query may have, and names that mean several tables.

    Raises:
        GuardRefusalError: Such a form.
        QueryError: A table that isn't there, or a name that means several.
    """
    if statement.get("named_param_map") not in ([], None):
        raise refuse(
            Refusal.PARAMETER, "Parameters (?, $1, $name) are not accepted; write the constant."
        )
    nodes = list(_nodes(statement))
    order_by_all = {id(star) for node in nodes for star in _order_by_all(node)}
    ctes = {folded(name) for name in _cte_names(nodes)}
    for node in nodes:
        kind, group = str(node.get("type")), str(node.get("class"))
        if group == "PARAMETER" or kind == "VALUE_PARAMETER":
            raise refuse(
                Refusal.PARAMETER, "Parameters (?, $1, $name) are not accepted; write the constant."
            )
        if kind in _FROM and "class" not in node:
            raise refuse(
                Refusal.TABLE,
                f"FROM takes tables of products and subqueries; {_FROM[kind]} is not accepted.",
            )
        if group in _EXPRESSIONS:
            raise refuse(Refusal.EXPRESSION, f"{_EXPRESSIONS[group]} is not accepted.")
        if kind == "RECURSIVE_CTE_NODE":
            raise refuse(Refusal.CLAUSE, "WITH RECURSIVE is not accepted.")
        if group == "STAR" and node.get("columns") is True and id(node) not in order_by_all:
            raise refuse(
                Refusal.RAW_ROWS, "COLUMNS(…) is not accepted; name the columns one by one."
            )
        if isinstance(node.get("sample"), dict):
            raise refuse(
                Refusal.CLAUSE, "TABLESAMPLE and USING SAMPLE are not accepted; ask without."
            )
        if isinstance(node.get("at_clause"), dict):
            raise refuse(Refusal.TABLE, "FROM takes a table without AT (time travel).")
        if group in {"FUNCTION", "WINDOW"}:
            check_function(folded(str(node.get("function_name"))))
        _check_clause(node, kind, group)
        if kind == "BASE_TABLE":
            _check_table(node, tables, ctes)


def _order_by_all(node: dict[str, Any]) -> Iterator[object]:
    """ORDER BY ALL, which is written as COLUMNS(*)."""
    for order in node.get("orders") or ():
        star = order.get("expression") if isinstance(order, dict) else None
        if isinstance(star, dict) and star.get("class") == "STAR" and star.get("expr") is None:
            yield star


_JOINS = {"ASOF": "ASOF JOIN", "POSITIONAL": "POSITIONAL JOIN"}


def _check_clause(node: dict[str, Any], kind: str, group: str) -> None:
    if kind == "JOIN" and (join := _JOINS.get(str(node.get("ref_type")))):
        raise refuse(Refusal.CLAUSE, f"{join} is not accepted; join by equality.")
    if kind == "DISTINCT_MODIFIER" and node.get("distinct_on_targets"):
        raise refuse(
            Refusal.CLAUSE,
            "DISTINCT ON is not accepted; over results, QUALIFY row_number() OVER (PARTITION BY "
            "… ORDER BY …) = 1 says the same.",
        )
    if group == "WINDOW":
        if node.get("exclude_clause") not in {None, "NO_OTHER"}:
            raise refuse(
                Refusal.CLAUSE,
                "EXCLUDE in a window frame is not accepted; write the frame by ROWS BETWEEN.",
            )
        if {node.get("start"), node.get("end")} & {"EXPR_PRECEDING_RANGE", "EXPR_FOLLOWING_RANGE"}:
            raise refuse(
                Refusal.CLAUSE,
                "RANGE with an offset is not accepted in a window frame; use ROWS or GROUPS.",
            )


def _check_table(node: dict[str, Any], tables: Sequence[TableSchema], ctes: set[str]) -> None:
    schema, name = str(node.get("schema_name") or ""), str(node.get("table_name") or "")
    if str(node.get("catalog_name") or ""):
        raise refuse(Refusal.TABLE, f"Name a table by product and name, or alone: {_or(tables)}.")
    if not schema and folded(name) in ctes:
        return
    found = [
        table
        for table in tables
        if folded(table.table) == folded(name)
        and (not schema or folded(schema) == folded(table.catalog))
    ]
    if not found:
        raise QueryError(f"There is no table {shown(name)}; there is {_or(tables)}.")
    if len(found) > 1:
        both = " and ".join(f"{table.catalog}.{table.table}" for table in found)
        raise QueryError(f"{shown(name)} means {both}; write one of these.")


def _or(tables: Sequence[TableSchema]) -> str:
    return ", ".join(dict.fromkeys(table.table for table in tables))


def unknown_names(statement: dict[str, object], tables: Sequence[TableSchema]) -> Iterator[str]:
    """Columns in the query that neither a table nor an alias has."""
    nodes = list(_nodes(statement))
    known = {folded(column.name) for table in tables for column in table.columns}
    known |= {folded(table.unit) for table in tables if table.unit}
    known |= {folded(table.table) for table in tables}
    for node in nodes:
        known.add(folded(str(node.get("alias") or "")))
        aliases = node.get("column_name_alias")
        if isinstance(aliases, list):
            known |= {folded(str(alias)) for alias in aliases}
    known |= {folded(name) for name in _cte_names(nodes)}
    for node in nodes:
        names = node.get("column_names")
        if node.get("class") != "COLUMN_REF" or not isinstance(names, list) or not names:
            continue
        if folded(str(names[-1])) not in known:
            yield f"column {'.'.join(map(str, names))}"


def _cte_names(nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    for node in nodes:
        ctes = node.get("cte_map")
        if isinstance(ctes, dict):
            for item in ctes.get("map") or ():
                yield str(item.get("key"))


def _nodes(root: object) -> Iterator[dict[str, Any]]:
    pending, count = [root], 0
    while pending:
        node = pending.pop()
        count += 1
        if count > _MAX_NODES:
            raise refuse(Refusal.SIZE, "The query has too many parts; ask in several queries.")
        if isinstance(node, dict):
            yield node
            pending += node.values()
        elif isinstance(node, list):
            pending += node
