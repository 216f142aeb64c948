"""Constants in conditions: which texts a type surely takes, and how a literal becomes one.

Each constant reaches DuckDB as `CAST('text' AS type)` of the column's own type,
so that no column is ever cast and no cast can fail: a cast that fails only when
a row gets that far would tell whether there is such a row.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from luoshu.sandbox.schema import ValueType

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"-?([0-9]{1,38})(?:\.([0-9]{1,38}))?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?")
_NUMBER = re.compile(r"-?(?:[0-9][0-9_]*)?(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]{1,4})?")
_MAX_EXPONENT = 40


def cast_succeeds(text: str, kind: ValueType) -> bool:
    """Whether DuckDB surely casts this text to the type, to exactly what it says.

    Stricter than DuckDB: one way to write each value.
    """
    if kind.name == "VARCHAR":
        return "\0" not in text  # DuckDB's parser takes it for the end of the statement
    if kind.name == "BOOLEAN":
        return text in {"true", "false"}
    if kind.name == "BIGINT":
        return bool(_INTEGER.fullmatch(text)) and -(2**63) <= int(text) < 2**63
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


class ConstantError(ValueError):
    """A literal that a column can't be compared with; says how to write it."""


def constant_text(literal: str, text: str, kind: ValueType) -> str:
    """The text of a literal as the column's type takes it.

    Args:
        literal: What kind of literal DuckDB parsed: INTEGER, NUMERIC, STRING, BOOLEAN, DATE
            or TIMESTAMP (a string with a type before it).
        text: As written, without quotes.
        kind: The column's type.

    Raises:
        ConstantError: The literal isn't a value of the type.
    """
    if kind.name in {"BIGINT", "DECIMAL"}:
        candidate = _number(literal, text, kind)
    elif kind.name == "BOOLEAN":
        candidate = text.lower() if literal in {"BOOLEAN", "STRING"} else ""
    elif kind.name == "VARCHAR":
        if literal != "STRING":
            raise ConstantError(_HOW["VARCHAR"])
        candidate = text
    elif kind.name == "DATE":
        candidate = text if literal in {"STRING", "DATE"} else ""
    else:
        candidate = _timestamp(text) if literal in {"STRING", "DATE", "TIMESTAMP"} else ""
    if not cast_succeeds(candidate, kind):
        raise ConstantError(_HOW[kind.name].format(scale=kind.scale))
    return candidate


_HOW = {
    "BIGINT": "compare a whole-number column with a whole number within 64 bits",
    "DECIMAL": "compare a decimal column with a number of at most {scale} decimals in its range",
    "BOOLEAN": "compare a boolean column with true or false",
    "DATE": "compare a date column with DATE 'YYYY-MM-DD'",
    "TIMESTAMP": "compare a timestamp column with TIMESTAMP 'YYYY-MM-DD HH:MM:SS'",
    "VARCHAR": "compare a text column with a text in single quotes, without NUL characters",
}


def _number(literal: str, text: str, kind: ValueType) -> str:
    if literal not in {"INTEGER", "NUMERIC", "STRING"} or not _NUMBER.fullmatch(text):
        return ""
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation:
        return ""
    # An exponent is bounded before any arithmetic that would write the number out.
    if not number.is_finite() or abs(number.adjusted()) > _MAX_EXPONENT:
        return "" if number else "0"
    exact = number.normalize()
    digits = format(exact + 0, "f")
    return digits if kind.name == "DECIMAL" or "." not in digits else ""


def _timestamp(text: str) -> str:
    if _DATE.fullmatch(text):
        return f"{text} 00:00:00"
    whole, point, fraction = text.replace("T", " ", 1).partition(".")
    return f"{whole}.{fraction:0<6}" if point else whole
