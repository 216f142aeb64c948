"""Frames between the connector and its workers: length, then canonical JSON.

A frame is four bytes of length (big-endian) and one JSON object in the
canonical form of RFC 8785; documents here hold no floating-point numbers, which
is what makes Python's encoder yield that form. Values of cells travel as text,
`true`, `false` or `null`, and are read by the type that the verified schema
states, so nothing a worker sends decides how it is read. Whatever isn't exactly
as expected is a `WireError`: the frame is dropped, its content never quoted.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import BinaryIO, NoReturn, TypeAlias

from luoshu.sandbox.schema import ValueType

Value: TypeAlias = "bool | int | float | Decimal | str | date | datetime | None"
Row: TypeAlias = "tuple[Value, ...]"

HEADER = struct.Struct(">I")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,38})")
_DECIMAL = re.compile(r"-?[0-9]{1,38}(?:\.[0-9]{1,38})?")
_DOUBLE = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BOUNDS = {"BIGINT": 2**63, "HUGEINT": 2**127}


class WireError(Exception):
    """A frame that isn't as agreed; says what is wrong, never what it held."""


def encode(message: dict[str, object]) -> bytes:
    """Writes one frame."""
    body = json.dumps(
        message, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False
    ).encode()
    return HEADER.pack(len(body)) + body


def frame_length(header: bytes, max_bytes: int) -> int:
    """Reads a frame's header.

    Raises:
        WireError: The frame is longer than `max_bytes`.
    """
    (length,) = HEADER.unpack(header)
    if length > max_bytes:
        raise WireError("a frame is larger than its limit")
    return int(length)


def decode(body: bytes) -> dict[str, object]:
    """Reads the JSON object of one frame.

    Raises:
        WireError: Not one JSON object, a name twice, a float, a lone surrogate, or too deep.
    """
    try:
        value = json.loads(
            body.decode("utf-8", "strict"),
            object_pairs_hook=_object,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
        if _SURROGATE.search(body):  # an escape, or a backslash before such a text: look closer
            json.dumps(value, ensure_ascii=False).encode()  # raises for what is no Unicode text
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a frame ({type(error).__name__})") from None
    if not isinstance(value, dict):
        raise WireError("a frame must be one JSON object")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError
    return fields


def _refuse(_text: str) -> NoReturn:
    raise ValueError


def read_frame(stream: BinaryIO, max_bytes: int) -> dict[str, object] | None:
    """Reads a frame from a blocking stream; None at its end.

    Raises:
        WireError: A frame that is cut short, too large or malformed.
    """
    header = stream.read(HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        raise WireError("a frame is cut short")
    length = frame_length(header, max_bytes)
    body = stream.read(length)
    if len(body) < length:
        raise WireError("a frame is cut short")
    return decode(body)


def write_frame(stream: BinaryIO, message: dict[str, object]) -> None:
    """Writes a frame to a blocking stream and flushes it."""
    stream.write(encode(message))
    stream.flush()


def encode_rows(rows: Sequence[Row]) -> list[list[str | bool | None]]:
    """Writes rows of values in their wire form."""
    return [[_encode_value(value) for value in row] for row in rows]


def _encode_value(value: Value) -> str | bool | None:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise WireError("a number that is not finite")
        return repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value)


def decode_rows(value: object, types: Sequence[ValueType], max_rows: int) -> list[Row]:
    """Reads rows by their types.

    Raises:
        WireError: More rows than `max_rows`, or any value that isn't of its type.
    """
    if not isinstance(value, list) or len(value) > max_rows:
        raise WireError("rows must be a list within its limit")
    width = len(types)
    rows = []
    for row in value:
        if not isinstance(row, list) or len(row) != width:
            raise WireError("a row of another width than the schema's")
        rows.append(
            tuple(
                None if item is None else _decode_value(item, kind)
                for item, kind in zip(row, types, strict=True)
            )
        )
    return rows


def _decode_value(item: object, kind: ValueType) -> Value:
    if kind.name == "BOOLEAN":
        if isinstance(item, bool):
            return item
    elif isinstance(item, str):
        try:
            return _decode_text(item, kind)
        except ValueError:
            pass
    raise WireError(f"a value that is not a {kind}")


def _decode_text(text: str, kind: ValueType) -> Value:
    if kind.name in _BOUNDS and _INTEGER.fullmatch(text):
        number = int(text)
        bound = _BOUNDS[kind.name]
        if -bound <= number < bound:
            return number
    elif kind.name == "DECIMAL" and _DECIMAL.fullmatch(text):
        whole, _, fraction = text.lstrip("-").partition(".")
        if len(fraction) <= kind.scale and len(whole.lstrip("0")) <= kind.width - kind.scale:
            return Decimal(text)
    elif kind.name == "DOUBLE" and _DOUBLE.fullmatch(text):
        return _finite(float(text))
    elif kind.name == "DATE" and _DATE.fullmatch(text):
        return date.fromisoformat(text)
    elif kind.name == "TIMESTAMP" and _TIMESTAMP.fullmatch(text):
        return datetime.fromisoformat(text)
    elif kind.name == "VARCHAR":
        text.encode()  # a lone surrogate raises: it is no Unicode text
        return text
    raise ValueError


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError
    return number
