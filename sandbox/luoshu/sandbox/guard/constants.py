"""Constants: which texts a type surely takes.

Each constant reaches DuckDB as `CAST('text' AS type)`, so no cast of a constant can fail: a
cast that fails only when a row gets that far would tell whether there is such a row.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from luoshu.sandbox.schema import ValueType

_INTEGER = re.compile(r"-?[0-9]{1,39}")
_DECIMAL = re.compile(r"-?([0-9]{1,38})(?:\.([0-9]{1,38}))?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?")
_DOUBLE = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?(?:e[+-]?[0-9]{1,2})?")
_INTEGERS = {"TINYINT": 7, "SMALLINT": 15, "INTEGER": 31, "BIGINT": 63, "HUGEINT": 127}


def cast_succeeds(text: str, kind: ValueType) -> bool:
    """Whether DuckDB surely casts this text to the type, to exactly what it says.

    Stricter than DuckDB: one way to write each value.
    """
    if kind.name == "VARCHAR":
        return "\0" not in text  # DuckDB's parser takes it for the end of the statement
    if kind.name == "BOOLEAN":
        return text in {"true", "false"}
    if bits := _INTEGERS.get(kind.name):
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
