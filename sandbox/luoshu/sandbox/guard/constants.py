"""Constants, and casts that surely succeed.

Each constant reaches DuckDB as `CAST('text' AS type)`, so no cast of a constant can fail: a
cast that fails only when a row gets that far would tell whether there is such a row.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.schema import DOUBLE, ValueType

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
"""From the narrowest to the widest."""

_INTEGER = re.compile(r"-?[0-9]{1,39}")
_DECIMAL = re.compile(r"-?([0-9]{1,38})(?:\.([0-9]{1,38}))?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?")
_DOUBLE = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:e[+-]?[0-9]{1,2})?")
_BITS = {"TINYINT": 7, "SMALLINT": 15, "INTEGER": 31, "BIGINT": 63, "HUGEINT": 127}
_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19, "HUGEINT": 39}


def cast_succeeds(text: str, kind: ValueType) -> bool:
    """Whether DuckDB surely casts this text to the type, to exactly what it says.

    Stricter than DuckDB: one way to write each value.
    """
    if kind.name == "VARCHAR":
        return "\0" not in text  # DuckDB's parser takes it for the end of the statement
    if kind.name == "BOOLEAN":
        return text in {"true", "false"}
    if bits := _BITS.get(kind.name):
        return bool(_INTEGER.fullmatch(text)) and -(2**bits) <= int(text) < 2**bits
    if kind.name == "DOUBLE":
        return bool(_DOUBLE.fullmatch(text))
    if kind.name == "DECIMAL":
        match = _DECIMAL.fullmatch(text)
        return (
            match is not None
            and len(match[1].lstrip("0")) <= kind.width - kind.scale
            and len(match[2] or "") <= kind.scale
        )
    try:
        if kind.name == "DATE":
            return bool(_DATE.fullmatch(text)) and bool(date.fromisoformat(text))
        if kind.name == "TIMESTAMP":
            return bool(_TIMESTAMP.fullmatch(text)) and bool(datetime.fromisoformat(text))
    except ValueError:
        return False
    return False


def is_constant(expression: Expression) -> bool:
    """Whether it is a literal whose cast surely succeeds."""
    if isinstance(expression, plan.Constant):
        # A literal is its own value, of whatever type.
        return not isinstance(expression.value, plan.Interval)
    return (
        isinstance(expression, plan.Call)
        and (expression.kind, expression.name) == ("OPERATOR_CAST", "__cast")
        and len(expression.children) == 1
        and isinstance(text := expression.children[0], plan.Constant)
        and (
            text.value is None
            or (
                text.type.name == "VARCHAR"
                and isinstance(text.value, str)
                and cast_succeeds(text.value, expression.type)
            )
        )
    )


def constant_value(expression: Expression) -> str | int | None:
    """What a literal says; None if it is NULL or no literal."""
    if isinstance(expression, plan.Call) and is_constant(expression):
        expression = expression.children[0]
    if isinstance(expression, plan.Constant) and isinstance(expression.value, str | int):
        return expression.value
    return None


def widens(source: ValueType, target: ValueType) -> bool:
    """Whether every value of a type can be cast to another, without an error."""
    if source == target:
        return True
    if source.name in INTEGERS and target.name in INTEGERS:
        return INTEGERS.index(source.name) <= INTEGERS.index(target.name)
    if target == DOUBLE:
        return source.name in INTEGERS or source.name == "DECIMAL"
    if target.name == "DECIMAL":
        whole = target.width - target.scale
        if source.name == "DECIMAL":
            return source.scale <= target.scale and source.width - source.scale <= whole
        return source.name in INTEGERS and _DIGITS[source.name] <= whole
    if target.name == "TIMESTAMP":
        return source.name == "DATE"  # of the years 1 to 9999, see the preparation
    return target.name == "VARCHAR" and source.name in {"DATE", "TIMESTAMP", "BOOLEAN", *INTEGERS}
