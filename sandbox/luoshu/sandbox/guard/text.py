"""Expressions as SQL text, in one spelling each.

Constants are texts cast to their type, whatever the analyst wrote, so that the verifier
can see that no cast fails. Functions are called by quoted name, so no text of the
analyst's reaches DuckDB's parser but inside quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal

from luoshu.sandbox.engine import identifier, literal
from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.schema import BIGINT, DOUBLE, SchemaError, ValueType

Leaf = Callable[["plan.Reference | plan.Leaf"], str]

_WIDE = Context(prec=80)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}
_OPERATORS = frozenset({"+", "-", "*", "/", "//", "%", "||", "&", "|", "<<", ">>"})
_LIKES = {"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE"}
_PLAIN = {"OPERATOR_IS_NULL": "IS NULL", "OPERATOR_IS_NOT_NULL": "IS NOT NULL"}


def short_name(path: str) -> str:
    """The last part of a function's path; operators may contain dots in none of their names."""
    return path.removeprefix("system.main.")


def sql_of(expression: Expression, leaf: Leaf) -> str:
    """Renders an expression.

    Args:
        expression: Of a plan.
        leaf: Renders references and leaves.

    Raises:
        GuardRefusalError: A construct that has no text here.
    """
    match expression:
        case plan.Reference() | plan.Leaf():
            return leaf(expression)
        case plan.Constant():
            return constant_sql(expression)
        case plan.Case():
            checks = " ".join(
                f"WHEN {sql_of(when, leaf)} THEN {sql_of(then, leaf)}"
                for when, then in expression.checks
            )
            return f"CASE {checks} ELSE {sql_of(expression.otherwise, leaf)} END"
        case plan.Call():
            return _call(expression, [sql_of(child, leaf) for child in expression.children])


def _call(call: plan.Call, parts: list[str]) -> str:
    kind, name = call.kind, short_name(call.name)
    if kind in COMPARISONS:
        return f"({parts[0]} {COMPARISONS[kind]} {parts[1]})"
    if kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
        return "(" + f" {kind.removeprefix('CONJUNCTION_')} ".join(parts) + ")"
    if kind == "OPERATOR_CAST":
        return f"{'TRY_CAST' if call.is_try else 'CAST'}({parts[0]} AS {type_sql(call.type)})"
    if kind == "OPERATOR_NOT":
        return f"(NOT {parts[0]})"
    if kind in _PLAIN:
        return f"({parts[0]} {_PLAIN[kind]})"
    if kind in {"COMPARE_IN", "COMPARE_NOT_IN"}:
        word = "IN" if kind == "COMPARE_IN" else "NOT IN"
        return f"({parts[0]} {word} ({', '.join(parts[1:])}))"
    if kind == "OPERATOR_COALESCE":
        return f"coalesce({', '.join(parts)})"
    if kind == "OPERATOR_TRY":
        return f"TRY({parts[0]})"
    if kind == "BOUND_FUNCTION" and call.name.startswith("system.main."):
        if name in _LIKES:
            return f"({parts[0]} {_LIKES[name]} {parts[1]})"
        if name in _OPERATORS and len(parts) == 2:
            return f"({parts[0]} {name} {parts[1]})"
        if name in {"-", "+"} and len(parts) == 1:
            return f"({name}{parts[0]})"
        return f"{identifier(name)}({', '.join(parts)})"
    raise refuse(
        Refusal.EXPRESSION,
        f"The expression {shown(call.name)} is not accepted; ask in a simpler form.",
    )


def type_sql(kind: ValueType) -> str:
    """A type's name in SQL."""
    return '"NULL"' if kind.name == "NULL" else str(kind)


def stored_type(kind: ValueType) -> ValueType:
    """The type that a value has in a released cell: whole numbers are BIGINT there.

    Raises:
        GuardRefusalError: There is none.
    """
    if kind.name in {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER", "NULL"}:
        return BIGINT
    if kind.name == "FLOAT":
        return DOUBLE
    try:
        return ValueType.parse(str(kind))
    except SchemaError:
        raise refuse(
            Refusal.EXPRESSION,
            f"A result of type {shown(kind.name)} is not accepted; cast it to another, such as "
            "VARCHAR.",
        ) from None


def stored(value: str, kind: ValueType) -> str:
    """A value as it is stored."""
    return value if stored_type(kind) == kind else f"CAST({value} AS {stored_type(kind)})"


def unstored(value: str, kind: ValueType) -> str:
    """A stored value as what it was."""
    return value if stored_type(kind) == kind else f"CAST({value} AS {type_sql(kind)})"


def constant_sql(constant: plan.Constant) -> str:
    """A constant as a text that is cast to its type."""
    value, kind = constant.value, constant.type
    if value is None:
        return "NULL" if kind.name == "NULL" else f"CAST(NULL AS {kind})"
    if kind.name == "VARCHAR":
        return literal(str(value))
    return f"CAST({literal(constant_text(constant))} AS {kind})"


def constant_text(constant: plan.Constant) -> str:
    """The text that a constant's type casts to exactly its value.

    Raises:
        GuardRefusalError: There is no such text.
    """
    value, kind = constant.value, constant.type.name
    if isinstance(value, plan.Interval):
        return f"{value.months} months {value.days} days {value.micros} microseconds"
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        if kind == "DATE" and isinstance(value, int):
            return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
        if kind == "TIMESTAMP" and isinstance(value, int):
            moment = (_EPOCH + timedelta(microseconds=value)).replace(tzinfo=None)
            return moment.isoformat(sep=" ")
        if kind == "DECIMAL" and isinstance(value, int):
            return format(Decimal(value).scaleb(-constant.type.scale, _WIDE), "f")
    except OverflowError:
        raise refuse(
            Refusal.EXPRESSION, "A date is outside the years 1 to 9999; correct it."
        ) from None
    return repr(value) if isinstance(value, float) else str(value)
