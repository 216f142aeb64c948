"""DuckDB's unbound syntax tree: reading it strictly and building one.

The JSON forms are those of `json_serialize_sql` in DuckDB 2.0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from luoshu.sandbox.schema import ValueType

Node: TypeAlias = "dict[str, Any]"

_POSITION = ("query_location", "query_location_length")


class UnknownFormError(Exception):
    """A node with fields or values that aren't expected at its place."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def read(node: Node, *wanted: str, neutral: Node) -> list[Any]:
    """Returns the wanted fields of a node whose other fields all have neutral values.

    Raises:
        UnknownFormError: A field is missing, unknown, or has another value than neutral.
    """
    for name, value in node.items():
        if name in wanted or name in _POSITION or name in {"class", "type", "alias"}:
            continue
        if name not in neutral or neutral[name] != value:
            raise UnknownFormError(name)
    try:
        return [node[name] for name in wanted]
    except KeyError as error:
        raise UnknownFormError(str(error)) from None


def column(*names: str, alias: str = "") -> Node:
    """A column reference."""
    return {
        "class": "COLUMN_REF",
        "type": "COLUMN_REF",
        "alias": alias,
        "column_names": list(names),
    }


def constant(text: str, kind: str = "STRING") -> Node:
    """A literal."""
    return {
        "class": "CONSTANT",
        "type": "VALUE_CONSTANT",
        "alias": "",
        "literal": {"kind": kind, "text": text},
    }


def cast(child: Node, kind: ValueType, alias: str = "") -> Node:
    """CAST(child AS type)."""
    digits = [str(kind.width), str(kind.scale)] if kind.name == "DECIMAL" else []
    return {
        "class": "CAST",
        "type": "OPERATOR_CAST",
        "alias": alias,
        "child": child,
        "try_cast": False,
        "type_expr": {
            "class": "TYPE",
            "type": "TYPE",
            "alias": "",
            "catalog": "",
            "schema": "",
            "type_name": kind.name,
            "children": [constant(digit, "INTEGER") for digit in digits],
            "qualified_name": {"path": [kind.name]},
        },
    }


def compare(operator: str, left: Node, right: Node) -> Node:
    """A comparison; `operator` as in `COMPARE_EQUAL`."""
    return {"class": "COMPARISON", "type": operator, "alias": "", "left": left, "right": right}


def operator(kind: str, *children: Node) -> Node:
    """IS NULL, IS NOT NULL, IN."""
    return {"class": "OPERATOR", "type": kind, "alias": "", "children": list(children)}


def conjunction(children: Sequence[Node]) -> Node | None:
    """AND of conditions; None of none."""
    if len(children) < 2:
        return children[0] if children else None
    return {
        "class": "CONJUNCTION",
        "type": "CONJUNCTION_AND",
        "alias": "",
        "children": list(children),
    }


def call(
    name: str,
    *arguments: Node,
    alias: str = "",
    where: Node | None = None,
    is_operator: bool = False,
) -> Node:
    """A function call, with FILTER (WHERE …) if `where` is given."""
    return {
        "class": "FUNCTION",
        "type": "FUNCTION",
        "alias": alias,
        "function_name": name,
        "schema": "",
        "catalog": "",
        "filter": where,
        "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
        "distinct": False,
        "is_operator": is_operator,
        "export_state": False,
        "arguments": [{"name": "", "expression": argument} for argument in arguments],
        "qualified_name": {"path": [name]},
    }


def base_table(path: Sequence[str], alias: str) -> Node:
    """A table in FROM; `path` is catalog, schema, table."""
    return {
        "type": "BASE_TABLE",
        "alias": alias,
        "sample": None,
        "catalog_name": path[0],
        "schema_name": path[1],
        "table_name": path[2],
        "column_name_alias": [],
        "at_clause": None,
        "qualified_name": {"path": list(path)},
    }


def subquery(node: Node, alias: str) -> Node:
    """A SELECT in FROM."""
    return {
        "type": "SUBQUERY",
        "alias": alias,
        "sample": None,
        "subquery": {"node": node, "named_param_map": []},
        "column_name_alias": [],
    }


def select(
    items: Sequence[Node], source: Node, where: Node | None = None, groups: Sequence[Node] = ()
) -> Node:
    """A SELECT."""
    return {
        "type": "SELECT_NODE",
        "modifiers": [],
        "cte_map": {"map": []},
        "select_list": list(items),
        "from_table": source,
        "where_clause": where,
        "group_expressions": list(groups),
        "group_sets": [list(range(len(groups)))] if groups else [],
        "aggregate_handling": "STANDARD_HANDLING",
        "having": None,
        "sample": None,
        "qualify": None,
    }


def statement(node: Node) -> Node:
    """What `json_deserialize_sql` takes."""
    return {"error": False, "statements": [{"node": node, "named_param_map": []}]}
