"""Canonical JSON (RFC 8785), digests over it, and a reader that trusts nothing.

Signed documents hold no floating-point numbers: their canonical form depends on
the printing algorithm, and nothing we sign needs one. Integers stay within
±(2^53 - 1) (RFC 7493 §2.2). The reader refuses whatever two parsers could read
in two ways: duplicate names, NaN, lone surrogates, a byte-order mark.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TypeAlias

import rfc8785

from luoshu.contracts.errors import CanonicalError

JsonValue: TypeAlias = "bool | int | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1

# The closing quote is optional so that a scan never restarts inside a string:
# every byte is visited once, whatever the input.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_MAX_INTEGER_DIGITS = 17


def canonicalize(value: JsonValue) -> bytes:
    """Writes a JSON value in its one canonical form (RFC 8785), as UTF-8.

    Raises:
        CanonicalError: A float, an integer beyond ±(2^53 - 1), text that is not
            Unicode, nesting deeper than 32, or a type that JSON doesn't have.
    """
    _check(value, MAX_DEPTH)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        # The library's message quotes the value; ours must not.
        raise CanonicalError("text that is not valid Unicode cannot be signed") from None


def _check(value: object, depth: int) -> None:
    if value is None or isinstance(value, bool | str):
        return
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise CanonicalError("an integer is beyond ±(2^53 - 1)")
        return
    if depth == 0:
        raise CanonicalError(f"a value is nested deeper than {MAX_DEPTH}")
    if isinstance(value, list | tuple):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise CanonicalError("an object's names must be text")
            _check(item, depth - 1)
    else:
        raise CanonicalError(f"a {type(value).__name__} has no place in a signed document")


def digest(data: bytes) -> str:
    """Returns ``sha256:<hex>`` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(value: JsonValue) -> str:
    """Returns the digest of a value's canonical form."""
    return digest(canonicalize(value))


def parse_object(data: bytes, *, max_bytes: int = MAX_BYTES) -> JsonObject:
    """Reads one JSON object, refusing whatever is ambiguous or too big.

    The bytes need not be canonical; `luoshu.contracts.envelope.verify` demands that
    of signed payloads.

    Args:
        data: UTF-8 bytes without a byte-order mark.
        max_bytes: Refuse more than this many bytes before looking at them.

    Raises:
        CanonicalError: Too large (reason ``MESSAGE_TOO_LARGE``), not UTF-8, not one
            JSON object, a duplicate name, a number that is no integer within
            ±(2^53 - 1), nesting deeper than 32.
    """
    if len(data) > max_bytes:
        raise CanonicalError(
            f"a document of {len(data)} bytes is larger than the {max_bytes} allowed",
            reason="MESSAGE_TOO_LARGE",
        )
    _check_depth(data)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_integer,
        )
    except UnicodeDecodeError:
        raise CanonicalError("a document must be UTF-8") from None
    except json.JSONDecodeError as error:
        raise CanonicalError(f"not JSON: {error.msg} at byte {error.pos}") from None
    if not isinstance(value, dict):
        raise CanonicalError("a document must be one JSON object")
    result: JsonObject = value
    if b"\\u" in data:
        # An escape can spell half a surrogate pair, which no UTF-8 text can hold.
        canonicalize(result)
    return result


def _check_depth(data: bytes) -> None:
    depth = 0
    for token in _STRUCTURE.finditer(data):
        first = token[0][0]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise CanonicalError(f"a document is nested deeper than {MAX_DEPTH}")
        elif first in b"]}":
            depth -= 1


def _object(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise CanonicalError("a JSON object names a field twice")
    return result


def _integer(text: str) -> int:
    if len(text) <= _MAX_INTEGER_DIGITS:
        number = int(text)
        if -MAX_INTEGER <= number <= MAX_INTEGER:
            return number
    raise CanonicalError("an integer is beyond ±(2^53 - 1)")


def _refuse_number(_text: str) -> JsonValue:
    raise CanonicalError("a number must be an integer")
