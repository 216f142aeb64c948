"""The rewriter: an analyst's SELECT becomes stage 1 (cells) and stage 2 (over released cells).

    SELECT sex, avg(age) FROM lung WHERE inst = 3 GROUP BY sex

becomes as stage 1, to be verified and then run over the protected table,

    SELECT k0, sum(a0), count_star() FILTER (WHERE a0 <> 0), sum(a1), …
    FROM (SELECT t.sex AS k0, t.unit AS u, sum(t.age) AS a0, count(t.age) AS a1
          FROM p0.main.lung AS t WHERE t.inst = CAST('3' AS BIGINT)
          GROUP BY t.sex, t.unit) AS units
    GROUP BY k0

and as stage 2, to be run where only released cells are, in place of each
aggregate an expression over them:

    SELECT k0 AS sex, <c0 / c1, rounded> AS "avg(age)" FROM cells

Nothing of the analyst's text is passed on but checked constants and aliases.
What isn't understood is refused with the accepted way to ask; that this is
safe doesn't rest on it: the verifier decides on what DuckDB makes of stage 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from luoshu.sandbox.errors import QueryError
from luoshu.sandbox.guard import tree
from luoshu.sandbox.guard.filters import conditions
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.scope import Scope, folded, require, unit_refusal
from luoshu.sandbox.guard.tree import Node, UnknownFormError
from luoshu.sandbox.schema import DOUBLE, ColumnSchema, ComponentKind, TableSchema, Use

MAX_OUTPUTS = 256
MAX_ALIAS_BYTES = 256
_TABLE_ALIAS = "t"
_UNIT_ALIAS = "u"
_ACCEPTED = "COUNT(*), COUNT(column), COUNT(DISTINCT privacy unit), SUM(column) and AVG(column)"
_CLAUSES = {
    "having": "HAVING",
    "qualify": "QUALIFY",
    "sample": "USING SAMPLE",
    "aggregate_handling": "GROUP BY ALL",
    "group_sets": "GROUPING SETS, ROLLUP or CUBE",
    "cte_map": "WITH",
}
_MODIFIERS = {
    "ORDER_MODIFIER": "ORDER BY",
    "LIMIT_MODIFIER": "LIMIT or OFFSET",
    "LIMIT_PERCENT_MODIFIER": "LIMIT",
    "DISTINCT_MODIFIER": "SELECT DISTINCT",
}
_NODES = {
    "SET_OPERATION_NODE": "UNION, INTERSECT or EXCEPT",
    "RECURSIVE_CTE_NODE": "WITH RECURSIVE",
}
_EXPRESSIONS = {
    "STAR": "* or COLUMNS(…)",
    "WINDOW": "a window function",
    "SUBQUERY": "a subquery",
    "PARAMETER": "a parameter",
    "LAMBDA": "a lambda",
    "CASE": "CASE",
    "CAST": "a cast",
    "CONSTANT": "a constant",
    "CONJUNCTION": "AND or OR",
    "COMPARISON": "a comparison",
    "POSITIONAL_REFERENCE": "#n",
}


@dataclass(frozen=True, slots=True)
class Split:
    """The two stages as syntax trees for `json_deserialize_sql`."""

    stage1: Node
    stage2: Node


@dataclass(slots=True)
class _Components:
    """The components that the query needs, each once, in order of first use."""

    items: list[tuple[ComponentKind, str]] = field(default_factory=list)

    def place(self, kind: ComponentKind, column: str = "") -> Node:
        """A reference to a component's value in stage 2."""
        item = (kind, column)
        if item not in self.items:
            self.items.append(item)
        return tree.column(f"c{self.items.index(item)}")


def split(statement: Node, tables: Sequence[TableSchema]) -> Split:
    """Splits one SELECT, given as DuckDB's unbound syntax tree.

    Raises:
        GuardRefusalError: It isn't accepted; names the construct and the accepted way.
        QueryError: It names what doesn't exist.
    """
    node = _select_node(statement)
    try:
        items, source, where, groups = tree.read(
            node,
            "select_list",
            "from_table",
            "where_clause",
            "group_expressions",
            neutral={
                "modifiers": [],
                "cte_map": {"map": []},
                "group_sets": [list(range(len(node.get("group_expressions") or ())))]
                if node.get("group_expressions")
                else [],
                "aggregate_handling": "STANDARD_HANDLING",
                "having": None,
                "sample": None,
                "qualify": None,
            },
        )
    except UnknownFormError as error:
        raise _clause_refusal(error.field, node) from None
    scope = Scope.of(source, tables)
    if len(items) > MAX_OUTPUTS or len(groups) > MAX_OUTPUTS:
        raise refuse(Refusal.SIZE, f"More than {MAX_OUTPUTS} columns; ask for fewer.")
    keys = _group_keys(groups, items, scope)
    components = _Components()
    outputs = [_output(item, keys, components, scope) for item in items]
    if not components.items:
        components.place(ComponentKind.ROWS)  # keys alone are released by their rows' units
    filters = conditions(where, scope, _TABLE_ALIAS)
    stage1 = _stage1(keys, components.items, filters, scope.table)
    cells = tree.base_table(("", "", "cells"), "")
    cells["qualified_name"] = {"path": ["cells"]}
    return Split(tree.statement(stage1), tree.statement(tree.select(outputs, cells)))


def _select_node(statement: Node) -> Node:
    try:
        (node,) = tree.read(statement, "node", neutral={"named_param_map": []})
    except UnknownFormError:
        raise refuse(
            Refusal.PARAMETER, "Parameters (?, $1, $name) are not accepted; write the constant."
        ) from None
    if not isinstance(node, dict) or node.get("type") != "SELECT_NODE":
        kind = node.get("type") if isinstance(node, dict) else None
        raise refuse(
            Refusal.CLAUSE,
            f"{_NODES.get(str(kind), shown(kind))} is not accepted; ask with one plain SELECT.",
        )
    return node


def _clause_refusal(name: str, node: Node) -> Exception:
    if name == "modifiers":
        kinds = [str(modifier.get("type")) for modifier in node["modifiers"]]
        clause = _MODIFIERS.get(kinds[0], shown(kinds[0]))
        if clause == "SELECT DISTINCT":
            return refuse(
                Refusal.CLAUSE, "SELECT DISTINCT is not accepted; ask with GROUP BY instead."
            )
        return refuse(
            Refusal.CLAUSE,
            f"{clause} is not accepted yet; ask without it and order or cut the result yourself.",
        )
    clause = _CLAUSES.get(name, shown(name))
    how = "name the columns in GROUP BY" if "GROUP" in clause else "ask without it"
    return refuse(Refusal.CLAUSE, f"{clause} is not accepted yet; {how}.")


def _group_keys(groups: Sequence[Node], items: Sequence[Node], scope: Scope) -> list[ColumnSchema]:
    keys: list[ColumnSchema] = []
    for group in groups:
        key = require(_group_column(group, items, scope), Use.GROUP, "GROUP BY")
        if key not in keys:
            keys.append(key)
    return keys


def _group_column(group: Node, items: Sequence[Node], scope: Scope) -> ColumnSchema:
    if group.get("class") == "COLUMN_REF":
        names = group["column_names"]
        column = scope.find(names)
        if column is not None:
            return column
        # As in DuckDB, a column's own name comes before an alias of the select list.
        aliased = [
            item
            for item in items
            if len(names) == 1 and item.get("alias") and folded(item["alias"]) == folded(names[0])
        ]
        if aliased and aliased[0].get("class") == "COLUMN_REF":
            return scope.column(aliased[0]["column_names"])
        if not aliased:
            return scope.column(names)
    literal = group.get("literal") or {}
    if literal.get("kind") == "INTEGER":
        text = str(literal.get("text"))
        position = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        if not 1 <= position <= len(items):
            raise QueryError("GROUP BY names a position that the select list doesn't have.")
        if items[position - 1].get("class") == "COLUMN_REF":
            return scope.column(items[position - 1]["column_names"])
    raise refuse(
        Refusal.EXPRESSION,
        "GROUP BY takes declared columns, by name, alias or position; expressions are not "
        "accepted yet.",
    )


def _output(
    item: Node, keys: Sequence[ColumnSchema], components: _Components, scope: Scope
) -> Node:
    kind = item.get("class")
    if len(str(item.get("alias")).encode()) > MAX_ALIAS_BYTES:
        raise refuse(Refusal.SIZE, f"An alias is longer than {MAX_ALIAS_BYTES} bytes; shorten it.")
    if kind == "COLUMN_REF":
        column = scope.column(item["column_names"])
        if column not in keys:
            raise refuse(
                Refusal.RAW_ROWS,
                f"The column {column.name} is neither grouped nor aggregated, and rows are not "
                f"released. Group by it, or ask with {_ACCEPTED}.",
            )
        return tree.column(f"k{keys.index(column)}", alias=item["alias"] or column.name)
    if kind == "FUNCTION" and not item.get("is_operator"):
        return _aggregate(item, components, scope)
    if kind == "STAR":
        raise refuse(
            Refusal.RAW_ROWS,
            f"* and COLUMNS(…) are not accepted: rows are not released. Ask with {_ACCEPTED}.",
        )
    what = _EXPRESSIONS.get(str(kind), "an operator" if kind == "FUNCTION" else shown(kind))
    raise refuse(
        Refusal.EXPRESSION,
        f"The select list takes grouped columns and aggregates; {what} is not accepted yet. Ask "
        f"with {_ACCEPTED}, and compute with the result.",
    )


def _aggregate(item: Node, components: _Components, scope: Scope) -> Node:
    name = folded(str(item.get("function_name")))
    distinct = item.get("distinct") is True
    try:
        arguments, order = tree.read(
            item,
            "arguments",
            "order_bys",
            neutral={
                "function_name": item.get("function_name"),
                "qualified_name": {"path": [item.get("function_name")]},
                "schema": "",
                "catalog": "",
                "filter": None,
                "distinct": distinct,
                "is_operator": False,
                "export_state": False,
            },
        )
    except UnknownFormError as error:
        what = "FILTER" if error.field == "filter" else f"this form ({shown(error.field)})"
        raise _function_refusal(f"{shown(name)} with {what}") from None
    if order != {"type": "ORDER_MODIFIER", "orders": []}:
        raise _function_refusal(f"{shown(name)} with ORDER BY")
    if name == "count_star" and not arguments and not distinct:
        return _named(components.place(ComponentKind.ROWS), item, "count_star()")
    if name not in {"count", "sum", "avg"}:
        raise _function_refusal(f"The function {shown(name)}")
    names = _column_argument(name, arguments)
    if name == "count" and distinct:
        if not scope.is_unit(names):
            raise _function_refusal("COUNT(DISTINCT …) of anything but the privacy unit")
        default = f"count(DISTINCT {scope.table.unit})"
        return _named(components.place(ComponentKind.UNITS), item, default)
    if distinct:
        raise _function_refusal(f"{shown(name)} with DISTINCT")
    if scope.is_unit(names):
        raise unit_refusal(scope.table.unit)
    column = require(scope.column(names), Use.AGGREGATE, name.upper())
    default = f"{name}({column.name})"
    if name == "count":
        return _named(components.place(ComponentKind.COUNT, column.name), item, default)
    if not column.type.is_summable:
        raise refuse(
            Refusal.FUNCTION,
            f"{name.upper()} takes numbers; the column {column.name} is {column.type}.",
        )
    total = components.place(ComponentKind.SUM, column.name)
    if name == "sum":
        return _named(total, item, default)
    count = components.place(ComponentKind.COUNT, column.name)
    return _average(total, count, item["alias"] or default)


def _column_argument(name: str, arguments: Sequence[Node]) -> list[str]:
    if len(arguments) == 1 and not arguments[0].get("name"):
        argument = arguments[0].get("expression") or {}
        if argument.get("class") == "COLUMN_REF":
            return list(argument["column_names"])
    raise refuse(
        Refusal.FUNCTION,
        f"{name.upper()} takes one column; expressions and constants in it are not accepted yet. "
        f"Ask with {_ACCEPTED}.",
    )


def _function_refusal(what: str) -> Exception:
    return refuse(Refusal.FUNCTION, f"{what} is not accepted; ask with {_ACCEPTED}.")


def _named(reference: Node, item: Node, default: str) -> Node:
    return {**reference, "alias": item["alias"] or default}


def _average(total: Node, count: Node, alias: str) -> Node:
    # 12 significant digits: what differs beyond them is how a double was divided, not data.
    ratio = tree.call("/", tree.cast(total, DOUBLE), tree.cast(count, DOUBLE), is_operator=True)
    digits = tree.call("format", tree.constant("{:.11e}"), ratio)
    return tree.cast(digits, DOUBLE, alias)


def _stage1(
    keys: Sequence[ColumnSchema],
    components: Sequence[tuple[ComponentKind, str]],
    filters: Sequence[Node],
    table: TableSchema,
) -> Node:
    own = [tree.column(_TABLE_ALIAS, key.name) for key in keys]
    unit = tree.column(_TABLE_ALIAS, table.unit)
    inner = [{**key, "alias": f"k{n}"} for n, key in enumerate(own)]
    inner.append({**unit, "alias": _UNIT_ALIAS})
    outer = [tree.column(f"k{n}") for n in range(len(keys))]
    for number, (kind, name) in enumerate(components):
        argument = tree.column(_TABLE_ALIAS, name)
        place = tree.column(f"a{number}")
        if kind is not ComponentKind.UNITS:
            contribution = (
                tree.call("count_star", alias=f"a{number}")
                if kind is ComponentKind.ROWS
                else tree.call(str(kind), argument, alias=f"a{number}")
            )
            inner.append(contribution)
        is_everyone = kind in {ComponentKind.ROWS, ComponentKind.UNITS}
        contributes = tree.compare("COMPARE_NOTEQUAL", place, tree.constant("0", "INTEGER"))
        outer.append(
            tree.call("count_star", alias=f"c{number}")
            if kind is ComponentKind.UNITS
            else tree.call("sum", place, alias=f"c{number}")
        )
        outer.append(
            tree.call("count_star", alias=f"n{number}", where=None if is_everyone else contributes)
        )
    source = tree.base_table((table.catalog, "main", table.table), _TABLE_ALIAS)
    units = tree.select(inner, source, tree.conjunction(filters), [*own, unit])
    return tree.select(
        outer,
        tree.subquery(units, "units"),
        groups=[tree.column(f"k{n}") for n in range(len(keys))],
    )
