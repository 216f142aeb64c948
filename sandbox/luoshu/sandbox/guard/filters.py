"""WHERE as far as it is accepted: conditions on declared columns, joined by AND."""

from __future__ import annotations

from collections.abc import Callable

from luoshu.sandbox.guard import tree
from luoshu.sandbox.guard.constants import ConstantError, constant_text
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.scope import Scope, folded, require
from luoshu.sandbox.guard.tree import Node
from luoshu.sandbox.schema import ColumnSchema, Use

MAX_CONSTANTS = 1000
_MIRRORED = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_NOTEQUAL": "COMPARE_NOTEQUAL",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
}
_HOW = (
    "WHERE takes conditions joined by AND, each between a column and constants: =, <>, <, <=, >, "
    ">=, BETWEEN, IN (…), IS NULL, IS NOT NULL."
)
_NAMES = {
    "CONJUNCTION_OR": "OR",
    "OPERATOR_NOT": "NOT",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
    "COLUMN_REF": "a column alone (write column = true)",
    "SUBQUERY": "a subquery",
    "VALUE_CONSTANT": "a constant alone",
}
_LITERAL_TYPES = {"date": "DATE", "timestamp": "TIMESTAMP"}


def conditions(where: Node | None, scope: Scope, alias: str) -> list[Node]:
    """The conditions, rewritten over the table called `alias` with constants of its types.

    Raises:
        GuardRefusalError: Something else than conditions joined by AND.
        QueryError: A column that doesn't exist.
    """
    found: list[Node] = []
    pending = [where] if where else []
    while pending:
        node = pending.pop()
        if node.get("type") == "CONJUNCTION_AND":
            pending += reversed(node["children"])
        else:
            found += _condition(node, scope, alias)
    return found


def _condition(node: Node, scope: Scope, alias: str) -> list[Node]:
    kind = str(node.get("type"))
    if kind in _MIRRORED:
        left, right = node["left"], node["right"]
        if right.get("class") == "COLUMN_REF" and left.get("class") != "COLUMN_REF":
            kind, left, right = _MIRRORED[kind], right, left
        column, reference, value = _operand(left, scope, alias)
        return [tree.compare(kind, reference, value(right))]
    if kind == "COMPARE_BETWEEN":
        column, reference, value = _operand(node["input"], scope, alias)
        return [
            tree.compare("COMPARE_GREATERTHANOREQUALTO", reference, value(node["lower"])),
            tree.compare("COMPARE_LESSTHANOREQUALTO", reference, value(node["upper"])),
        ]
    if kind in {"OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}:
        column, reference, _ = _operand(node["children"][0], scope, alias)
        return [tree.operator(kind, reference)]
    if kind == "COMPARE_IN" and len(node["children"]) > 1:
        column, reference, value = _operand(node["children"][0], scope, alias)
        items = node["children"][1:]
        if len(items) > MAX_CONSTANTS:
            raise refuse(
                Refusal.SIZE, f"IN takes at most {MAX_CONSTANTS} constants; {column.name} has more."
            )
        return [tree.operator("COMPARE_IN", reference, *(value(item) for item in items))]
    raise _refused(_NAMES.get(kind, _described(node)))


def _operand(
    node: Node, scope: Scope, alias: str
) -> tuple[ColumnSchema, Node, Callable[[Node], Node]]:
    if node.get("class") != "COLUMN_REF":
        raise _refused(_described(node))
    column = require(scope.column(node["column_names"]), Use.FILTER, "WHERE")

    def value(constant: Node) -> Node:
        kind, text = _literal(constant)
        try:
            return tree.cast(tree.constant(constant_text(kind, text, column.type)), column.type)
        except ConstantError as error:
            raise refuse(
                Refusal.FILTER, f"The condition on {column.name} does not fit its type: {error}."
            ) from None

    return column, tree.column(alias, column.name), value


def _literal(node: Node) -> tuple[str, str]:
    if node.get("class") == "CONSTANT":
        literal = node.get("literal") or {}
        if literal.get("kind") == "NULL_LITERAL":
            raise refuse(Refusal.FILTER, "A comparison with NULL holds for no row; write IS NULL.")
        return str(literal.get("kind")), str(literal.get("text"))
    if node.get("class") == "CAST" and node.get("try_cast") is False:
        child, kind = node["child"], node.get("type_expr") or {}
        name = _LITERAL_TYPES.get(folded(str(kind.get("type_name"))))
        plain = (child.get("literal") or {}).get("kind") == "STRING" and not kind.get("children")
        if name and plain:
            return name, str(child["literal"]["text"])
    raise _refused(_described(node))


def _described(node: Node) -> str:
    kind = node.get("class")
    if kind == "FUNCTION":
        return f"the function or operator {shown(node.get('function_name'))}"
    if kind == "CAST":
        return "a cast"
    if kind == "COLUMN_REF":
        return "a comparison of columns with each other"
    return _NAMES.get(str(node.get("type")), shown(node.get("type")))


def _refused(what: str) -> Exception:
    return refuse(Refusal.FILTER, f"In WHERE, {what} is not accepted. {_HOW}")
