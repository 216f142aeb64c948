"""Puts the values of a query template into its SQL, as literals of DuckDB's own syntax tree.

The one place where a value meets SQL, and it never meets its text: DuckDB parses the template,
each parameter node of the tree is replaced by a literal node, and DuckDB writes the tree as SQL
again, quoting what needs it. The result is then checked as any analyst's SQL is, so this needs
no trust: at worst it yields another query, and the guard decides on that one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from luoshu.sandbox.schema import DATE, SchemaError, ValueType, checked_name, exact_fields

if TYPE_CHECKING:
    from luoshu.sandbox.engine import Connection

Node: TypeAlias = "dict[str, Any]"

_MAX_TEXT: Final = 4096
_SPELLING: Final = {
    "integer": re.compile(r"-?[0-9]{1,19}"),
    "decimal": re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,18})?"),
    "boolean": re.compile(r"true|false"),
    "date": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    "text": re.compile(r".*", re.DOTALL),
}


@dataclass(frozen=True, slots=True)
class BoundParameter:
    """A template's parameter and what stands in its place.

    Attributes:
        name: As in ``$name``.
        type: `integer`, `decimal`, `text`, `date` or `boolean`.
        text: The value's one spelling.
    """

    name: str
    type: str
    text: str

    def __post_init__(self) -> None:
        spelling = _SPELLING.get(self.type)
        if spelling is None or len(self.text) > _MAX_TEXT or not spelling.fullmatch(self.text):
            raise SchemaError("a parameter's value isn't spelt as its type is")

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"name": self.name, "type": self.type, "text": self.text}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "name", "type", "text")
        text = fields["text"]
        if not isinstance(text, str):
            raise SchemaError("a value must be text")
        return cls(checked_name(fields["name"]), checked_name(fields["type"]), text)

    def literal(self) -> Node:
        """The node that stands in the parameter's place."""
        match self.type:
            case "integer":
                return constant(self.text, "INTEGER")
            case "decimal":
                return constant(self.text, "NUMERIC" if "." in self.text else "INTEGER")
            case "boolean":
                return constant(self.text, "BOOLEAN")
            case "date":
                return cast(constant(self.text), DATE)
            case _:
                return constant(self.text)


@dataclass(frozen=True, slots=True)
class Query:
    """What a computation is asked for.

    Attributes:
        sql: One SELECT statement; with ``$name`` for each of `parameters`.
        parameters: A template's values; none for an analyst's own SQL.
    """

    sql: str
    parameters: tuple[BoundParameter, ...] = ()


def bind_parameters(connection: Connection, sql: str, parameters: Sequence[BoundParameter]) -> str:
    """The template's SQL with its values in it.

    What can't be bound is returned as it is: the guard says what is wrong with it, and refuses a
    parameter that is left over.

    Args:
        connection: For its parser.
        sql: The template.
        parameters: All of its values.
    """
    if not parameters:
        return sql
    tree = json.loads(_scalar(connection, "SELECT json_serialize_sql(?::VARCHAR)", sql))
    statements = tree.get("statements")
    if tree.get("error") or not isinstance(statements, list) or len(statements) != 1:
        return sql
    bound = _bind(tree, {each.name: each.literal() for each in parameters})
    return _scalar(connection, "SELECT json_deserialize_sql(?::JSON)", json.dumps(bound))


def _bind(node: Any, literals: Mapping[str, Node]) -> Any:
    if isinstance(node, list):
        return [_bind(item, literals) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("class") == "PARAMETER" and node.get("identifier") in literals:
        return {**literals[node["identifier"]], "alias": node.get("alias", "")}
    return {name: _bind(value, literals) for name, value in node.items()}


def _scalar(connection: Connection, sql: str, argument: str) -> str:
    row = connection.execute(sql, [argument]).fetchone()
    if row is None or not isinstance(row[0], str):
        raise RuntimeError("the engine's parser gave no answer")
    return row[0]


def constant(text: str, kind: str = "STRING") -> Node:
    """A literal, in the form of `json_serialize_sql`."""
    return {
        "class": "CONSTANT",
        "type": "VALUE_CONSTANT",
        "alias": "",
        "literal": {"kind": kind, "text": text},
    }


def cast(child: Node, kind: ValueType) -> Node:
    """CAST(child AS type), in the form of `json_serialize_sql`."""
    return {
        "class": "CAST",
        "type": "OPERATOR_CAST",
        "alias": "",
        "child": child,
        "try_cast": False,
        "type_expr": {
            "class": "TYPE",
            "type": "TYPE",
            "alias": "",
            "catalog": "",
            "schema": "",
            "type_name": kind.name,
            "children": [],
            "qualified_name": {"path": [kind.name]},
        },
    }
