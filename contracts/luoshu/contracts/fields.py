"""Strict reading of JSON objects into values: the gate that every document passes.

A field of a wrong type, a missing or an unknown name is an error; ``true`` is
never 1. Error texts name the document and the field, not what was found there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from luoshu.contracts import ids
from luoshu.contracts.canonical import MAX_INTEGER, JsonObject, JsonValue
from luoshu.contracts.errors import ContractsError, DocumentError
from luoshu.contracts.times import parse_time

_Enum = TypeVar("_Enum", bound=StrEnum)
_Item = TypeVar("_Item")

_TOKEN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/#-]{0,198}[A-Za-z0-9])?")
# ISO 3166-1 alpha-2, or ISO 3166-2 for a part of a country.
_REGION = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?")
_ENDPOINT = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9a-f:.]{2,45}\]):([0-9]{1,5})")
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
MAX_ITEMS = 256


def check_text(text: str, *, max_length: int, multiline: bool = False, empty: bool = False) -> str:
    """Returns ``text`` if a person can be shown it safely.

    It must be in Unicode normalisation form C and free of control, formatting
    (bidirectional overrides, zero-width marks) and unassigned characters, so that
    two texts that look alike on a terminal are not two texts by such tricks.

    Raises:
        DocumentError: It is empty, too long, not normalised, or holds such characters.
    """
    if not text and not empty:
        raise DocumentError("text must not be empty")
    if len(text) > max_length:
        raise DocumentError(f"text is longer than {max_length} characters")
    for character in text:
        if unicodedata.category(character) in _FORBIDDEN_CATEGORIES and not (
            multiline and character in "\n\t"
        ):
            raise DocumentError("text holds a control or invisible formatting character")
    if not unicodedata.is_normalized("NFC", text):
        raise DocumentError("text is not in Unicode normalisation form C")
    return text


def check_token(text: str) -> str:
    """Returns ``text`` if it is a vocabulary term: ASCII letters, digits and ``._:/#-``.

    Raises:
        DocumentError: It is not.
    """
    if _TOKEN.fullmatch(text) is None:
        raise DocumentError("a term must be 1 to 200 ASCII letters, digits and ._:/#- inside")
    return text


def check_region(text: str) -> str:
    """Returns ``text`` if it is an ISO 3166 code such as ``CN`` or ``CN-HA``.

    Raises:
        DocumentError: It is not.
    """
    if _REGION.fullmatch(text) is None:
        raise DocumentError("a region must be an ISO 3166 code such as CN or CN-HA")
    return text


def check_endpoint(text: str) -> str:
    """Returns ``text`` if it is ``host:port`` (``[IPv6]:port`` included).

    Raises:
        DocumentError: It is not.
    """
    match = _ENDPOINT.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise DocumentError("an endpoint must be host:port")
    return text


class Fields:
    """One JSON object whose fields are taken by name and type.

    Args:
        value: What should be an object.
        where: Name of the document or part, for error texts.
        required: Names that must be there.
        optional: Names that may be there.

    Raises:
        DocumentError: Not an object, a required name missing, or an unknown name.
    """

    __slots__ = ("_value", "where")

    def __init__(
        self,
        value: JsonValue,
        where: str,
        required: Collection[str],
        optional: Collection[str] = (),
    ) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise DocumentError(f"{where} must be an object")
        missing = sorted(name for name in required if name not in value)
        if missing:
            raise DocumentError(f"{where} lacks {', '.join(missing)}")
        unknown = len(value.keys() - set(required) - set(optional))
        if unknown:
            raise DocumentError(
                f"{where} has {unknown} unknown field(s); known: "
                f"{', '.join(sorted({*required, *optional}))}"
            )
        self._value: JsonObject = value

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def raw(self, name: str) -> JsonValue:
        """The untouched value of a required field."""
        return self._value[name]

    def string(self, name: str, check: Callable[[str], object] | None = None) -> str:
        """Text, passed through ``check``, which raises `ContractsError` to refuse it."""
        value = self._value[name]
        if not isinstance(value, str):
            raise self.error(name, "must be text")
        if check is not None:
            try:
                check(value)
            except ContractsError as error:
                raise self.error(name, error.message) from None
        return value

    def text(
        self, name: str, *, max_length: int, multiline: bool = False, empty: bool = False
    ) -> str:
        """Text for people; see `check_text`."""
        return self.string(
            name,
            lambda value: check_text(
                value, max_length=max_length, multiline=multiline, empty=empty
            ),
        )

    def nullable(self, name: str, check: Callable[[str], object]) -> str | None:
        """Checked text, or JSON null."""
        return None if self._value[name] is None else self.string(name, check)

    def integer(self, name: str, *, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
        """An integer (not a boolean) within inclusive bounds."""
        value = self._value[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, "must be an integer")
        if not minimum <= value <= maximum:
            raise self.error(name, f"must be between {minimum} and {maximum}")
        return value

    def time(self, name: str) -> datetime:
        """A time; see `luoshu.contracts.times.parse_time`."""
        self.string(name, parse_time)
        return parse_time(self.string(name))

    def choice(self, name: str, values: type[_Enum]) -> _Enum:
        """One of an enumeration's values."""
        value = self.string(name)
        try:
            return values(value)
        except ValueError:
            raise self.error(name, f"must be one of {', '.join(values)}") from None

    def array(
        self,
        name: str,
        read: Callable[[JsonValue], _Item],
        *,
        minimum: int = 0,
        maximum: int = MAX_ITEMS,
    ) -> tuple[_Item, ...]:
        """A list of ``minimum`` to ``maximum`` items, each read by ``read``."""
        value = self._value[name]
        if not isinstance(value, list):
            raise self.error(name, "must be a list")
        if not minimum <= len(value) <= maximum:
            raise self.error(name, f"must have {minimum} to {maximum} items")
        return tuple(read(item) for item in value)

    def strings(
        self,
        name: str,
        check: Callable[[str], object],
        *,
        minimum: int = 0,
        maximum: int = MAX_ITEMS,
    ) -> tuple[str, ...]:
        """A list of distinct, checked texts."""

        def read(item: JsonValue) -> str:
            if not isinstance(item, str):
                raise self.error(name, "must be a list of text")
            try:
                check(item)
            except ContractsError as error:
                raise self.error(name, error.message) from None
            return item

        items = self.array(name, read, minimum=minimum, maximum=maximum)
        if len(set(items)) != len(items):
            raise self.error(name, "names something twice")
        return items

    def choices(self, name: str, values: type[_Enum], *, minimum: int = 0) -> tuple[_Enum, ...]:
        """A list of distinct values of an enumeration."""

        def check(item: str) -> None:
            if item not in set(values):
                raise DocumentError(f"may only have {', '.join(values)}")

        return tuple(values(item) for item in self.strings(name, check, minimum=minimum))

    def participant(self, name: str) -> str:
        """A participant id."""
        return self.string(name, ids.parse_participant_id)

    def digest(self, name: str) -> str:
        """A digest."""
        return self.string(name, ids.check_digest)

    def error(self, name: str, message: str) -> DocumentError:
        """An error about one field, to be raised by the caller."""
        return DocumentError(f"{self.where}.{name}: {message}")
