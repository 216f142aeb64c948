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
from types import NoneType
from typing import BinaryIO, NoReturn, TypeAlias

from luoshu.sandbox.schema import ValueType

Value: TypeAlias = "bool | int | float | Decimal | str | date | datetime | None"
Row: TypeAlias = "tuple[Value, ...]"

HEADER = struct.Struct(">I")
MAX_NESTED = 1 << 22
"""Most lists and objects of a frame: each takes up to 100 bytes, and 3 to be asked for."""
_INTEGER = r"-?(?:0|[1-9][0-9]{0,38})"
_DOUBLE = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIMESTAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?"
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
        WireError: Not one JSON object, a name twice, a float, a lone surrogate, too deep, or too
            many lists and objects.
    """
    if body.count(b"[") + body.count(b"{") > MAX_NESTED:
        raise WireError("a frame of too many parts")
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


def write_frame(stream: BinaryIO, message: dict[str, object]) -> None:
    """Writes a frame to a blocking stream and flushes it."""
    stream.write(encode(message))
    stream.flush()


def encode_rows(rows: Sequence[Row]) -> list[list[str | bool | None]]:
    """Writes rows of values in their wire form.

    Raises:
        WireError: A number that is not finite.
    """
    # Column by column: a column's values are of one type, and there are few columns.
    columns = [_encode_column(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in rows]


def _encode_column(column: Sequence[Value]) -> Sequence[str | bool | None]:
    kinds = set(map(type, column))
    if kinds <= {str, bool, NoneType}:
        return column  # type: ignore[return-value]
    if kinds == {int}:
        return list(map(str, column))
    return [_encode_value(value) for value in column]


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
    if not all(isinstance(row, list) and len(row) == width for row in value):
        raise WireError("a row of another width than the schema's")
    if not value or not width:
        return [()] * len(value)
    columns = []
    for column, kind in zip(zip(*value, strict=True), types, strict=True):
        try:
            columns.append(_decode_column(column, kind))
        except (ValueError, OverflowError):
            raise WireError(f"a value that is not a {kind}") from None
    return list(zip(*columns, strict=True))


def _decode_column(column: Sequence[object], kind: ValueType) -> Sequence[Value]:
    present = [item for item in column if item is not None]
    wanted = bool if kind.name == "BOOLEAN" else str
    if not all(type(item) is wanted for item in present):
        raise ValueError
    if kind.name == "BOOLEAN":
        return column  # type: ignore[return-value]
    decoded = _decode_texts(present, kind)  # type: ignore[arg-type]
    if len(present) == len(column):
        return decoded
    rest = iter(decoded)
    return [None if item is None else next(rest) for item in column]


def _decode_texts(texts: list[str], kind: ValueType) -> Sequence[Value]:
    if kind.name == "VARCHAR":
        "".join(texts).encode()  # a lone surrogate raises: it is no Unicode text
        return texts
    if kind.name in _BOUNDS:
        _require(_INTEGER, texts)
        bound = _BOUNDS[kind.name]
        numbers = list(map(int, texts))
        if numbers and not -bound <= min(numbers) <= max(numbers) < bound:
            raise ValueError
        return numbers
    if kind.name == "DECIMAL":
        whole, fraction = kind.width - kind.scale, kind.scale
        form = rf"-?(?=[0-9])0*[0-9]{{0,{whole}}}(?:\.[0-9]{{1,{fraction}}})?"
        _require(form if fraction else form.partition("(?:")[0], texts)
        return list(map(Decimal, texts))
    if kind.name == "DOUBLE":
        _require(_DOUBLE, texts)
        doubles = list(map(float, texts))
        if not all(map(math.isfinite, doubles)):
            raise ValueError
        return doubles
    if kind.name == "DATE":
        _require(_DATE, texts)
        return list(map(date.fromisoformat, texts))
    _require(_TIMESTAMP, texts)
    return list(map(datetime.fromisoformat, texts))


def _require(form: str, texts: Sequence[str]) -> None:
    """Checks that each text has a form, all at once and never going back.

    A text of many digits that ends wrongly must cost no more than its length.
    """
    joined = "\n".join(texts)
    if texts and (
        joined.count("\n") != len(texts) - 1
        or re.fullmatch(rf"(?>{form})(?:\n(?>{form}))*+", joined) is None
    ):
        raise ValueError
