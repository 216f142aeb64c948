"""Query templates: the queries that a contract is restricted to, and the values it allows them.

A template is SQL with ``$name`` in place of values, and for each name a type and what may stand
there. Values are JSON of the type: integers, ``true`` and ``false``, and texts for everything
else; a decimal is text, since canonical JSON has no floats. They are put into the SQL where it
runs (`luoshu.sandbox.templates`), as literals in DuckDB's own syntax tree; nothing here
touches SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias

from luoshu.contracts.canonical import MAX_INTEGER, JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields, check_text
from luoshu.contracts.ids import check_label

MAX_TEMPLATES: Final = 32
MAX_PARAMETERS: Final = 32
MAX_VALUES: Final = 1000
MAX_TEMPLATE_SQL: Final = 16 << 10
MAX_TEXT: Final = 1000

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,19})(?:\.[0-9]{1,18})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Scalar: TypeAlias = "str | int | bool"
"""A parameter's value in JSON."""


class ParameterType(StrEnum):
    """Types of values in templates."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    TEXT = "text"
    DATE = "date"
    BOOLEAN = "boolean"

    def check(self, value: JsonValue) -> Scalar:
        """Returns a value of this type.

        Raises:
            DocumentError: It isn't one, in its one spelling.
        """
        if self is ParameterType.BOOLEAN:
            if isinstance(value, bool):
                return value
        elif self is ParameterType.INTEGER:
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER:
                return value
        elif isinstance(value, str) and self._is_spelt(value):
            return value
        raise DocumentError(f"must be {_SPELLING[self]}")

    def read(self, text: str) -> Scalar:
        """Reads a value as a person types it.

        Raises:
            DocumentError: It isn't one.
        """
        if self is ParameterType.INTEGER and re.fullmatch(r"-?[0-9]{1,16}", text):
            return self.check(int(text))
        if self is ParameterType.BOOLEAN and text in {"true", "false"}:
            return text == "true"
        return self.check(text)

    def _is_spelt(self, text: str) -> bool:
        if self is ParameterType.DECIMAL:
            return _DECIMAL.fullmatch(text) is not None
        if self is ParameterType.DATE:
            try:
                return _DATE.fullmatch(text) is not None and bool(date.fromisoformat(text))
            except ValueError:
                return False
        check_text(text, max_length=MAX_TEXT, empty=True)
        return True


_SPELLING: Final = {
    ParameterType.INTEGER: "an integer",
    ParameterType.DECIMAL: "a decimal number as text, such as 12.50",
    ParameterType.TEXT: "text",
    ParameterType.DATE: "a date such as 2026-12-31",
    ParameterType.BOOLEAN: "true or false",
}
_ORDERED: Final = frozenset({ParameterType.INTEGER, ParameterType.DECIMAL, ParameterType.DATE})


@dataclass(frozen=True, slots=True)
class TemplateParameter:
    """What may stand in one place of a template.

    Attributes:
        name: As in ``$name``.
        type: Of its values.
        values: The values allowed; empty if `bounds` says it.
        bounds: Least and greatest value allowed, of an integer, a decimal or a date.
    """

    name: str
    type: ParameterType
    values: tuple[Scalar, ...] = ()
    bounds: tuple[Scalar, Scalar] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DocumentError(
                "a template's parameter is named by lower-case letters, digits and _"
            )
        if bool(self.values) == (self.bounds is not None) or len(self.values) > MAX_VALUES:
            raise DocumentError(
                f"parameter {self.name}: give 1 to {MAX_VALUES} values, or a range of two"
            )
        for value in (*self.values, *(self.bounds or ())):
            self._typed(value)
        if len({(type(value), value) for value in self.values}) != len(self.values):
            raise DocumentError(f"parameter {self.name}: a value is given twice")
        if self.bounds is not None:
            if self.type not in _ORDERED:
                raise DocumentError(f"parameter {self.name}: a {self.type} has no range")
            low, high = map(self._key, self.bounds)
            if low > high:
                raise DocumentError(f"parameter {self.name}: a range is [least, greatest]")

    def allow(self, value: JsonValue) -> Scalar:
        """Returns a value that may stand here.

        Raises:
            DocumentError: Another type, or not allowed; names the parameter and never the value.
        """
        typed = self._typed(value)
        if self.bounds is not None:
            low, high = map(self._key, self.bounds)
            if not low <= self._key(typed) <= high:
                raise DocumentError(
                    f"parameter {self.name} must be from {self.bounds[0]} to {self.bounds[1]}"
                )
        elif typed not in self.values:
            raise DocumentError(f"parameter {self.name} has a value that the contract doesn't list")
        return typed

    def _typed(self, value: JsonValue) -> Scalar:
        try:
            return self.type.check(value)
        except DocumentError as error:
            raise DocumentError(f"parameter {self.name} {error.message}") from None

    def _key(self, value: Scalar) -> Decimal:
        if self.type is ParameterType.DATE:
            return Decimal(date.fromisoformat(str(value)).toordinal())
        return Decimal(value)

    def to_payload(self) -> JsonObject:
        """The JSON form; the name is the key that it stands under."""
        payload: JsonObject = {"type": self.type.value}
        if self.bounds is None:
            payload["values"] = list(self.values)
        else:
            payload["range"] = list(self.bounds)
        return payload

    @classmethod
    def from_payload(cls, name: str, value: JsonValue) -> TemplateParameter:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "parameter", {"type"}, {"values", "range"})
        kind = fields.choice("type", ParameterType)
        values: tuple[Scalar, ...] = ()
        bounds: tuple[Scalar, ...] | None = None
        if "values" in fields:
            values = fields.array("values", kind.check, minimum=1, maximum=MAX_VALUES)
        if "range" in fields:
            bounds = fields.array("range", kind.check, minimum=2, maximum=2)
        return cls(name, kind, values, None if bounds is None else (bounds[0], bounds[1]))


@dataclass(frozen=True, slots=True)
class QueryTemplate:
    """A query that a contract allows.

    Attributes:
        name: Unique within the terms.
        sql: One SELECT statement with ``$name`` where values go.
        parameters: What may go there, in the order of their names.
    """

    name: str
    sql: str
    parameters: tuple[TemplateParameter, ...] = ()

    def __post_init__(self) -> None:
        check_label(self.name)
        check_text(self.sql, max_length=MAX_TEMPLATE_SQL, multiline=True)
        names = [parameter.name for parameter in self.parameters]
        if len(names) > MAX_PARAMETERS or names != sorted(set(names)):
            raise DocumentError(
                f"template {self.name}: at most {MAX_PARAMETERS} parameters, each once, by name"
            )
        unused = [name for name in names if not re.search(rf"\${name}(?![A-Za-z0-9_])", self.sql)]
        if unused:
            raise DocumentError(f"template {self.name}: its SQL has no ${unused[0]}")

    def bind(self, values: Mapping[str, JsonValue]) -> tuple[tuple[TemplateParameter, Scalar], ...]:
        """Returns each parameter with its value.

        Raises:
            DocumentError: A parameter without a value, a value without a parameter, or one that
                isn't allowed.
        """
        known = {parameter.name for parameter in self.parameters}
        if unknown := sorted(values.keys() - known):
            raise DocumentError(
                f"the template {self.name} has {len(unknown)} parameter(s) less than were given; "
                f"it has: {', '.join(sorted(known)) or 'none'}"
            )
        if missing := sorted(known - values.keys()):
            raise DocumentError(f"the template {self.name} needs a value for {missing[0]}")
        return tuple((each, each.allow(values[each.name])) for each in self.parameters)

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "name": self.name,
            "sql": self.sql,
            "parameters": {each.name: each.to_payload() for each in self.parameters},
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> QueryTemplate:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "template", {"name", "sql", "parameters"})
        parameters = fields.raw("parameters")
        if not isinstance(parameters, dict):
            raise fields.error("parameters", "must be an object")
        return cls(
            fields.string("name", check_label),
            fields.text("sql", max_length=MAX_TEMPLATE_SQL, multiline=True),
            tuple(
                TemplateParameter.from_payload(name, parameters[name])
                for name in sorted(parameters)
            ),
        )


@dataclass(frozen=True, slots=True)
class TemplateCall:
    """A template asked for, with values. What the contract allows is checked by `find_template`.

    Attributes:
        name: Of the template.
        parameters: Name and value of each parameter, in the order of their names.
    """

    name: str
    parameters: tuple[tuple[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        check_label(self.name)
        names = [name for name, _ in self.parameters]
        if len(names) > MAX_PARAMETERS or names != sorted(set(names)):
            raise DocumentError("a template's values are given once each, by name")
        for name, value in self.parameters:
            if not _NAME.fullmatch(name):
                raise DocumentError(
                    "a template's parameter is named by lower-case letters, digits and _"
                )
            if isinstance(value, str):
                check_text(value, max_length=MAX_TEXT, empty=True)
            elif not isinstance(value, int) or abs(value) > MAX_INTEGER:
                raise DocumentError("a template's value is text, an integer, true or false")

    @classmethod
    def of(cls, name: str, values: Mapping[str, Scalar]) -> TemplateCall:
        """A call with values by name."""
        return cls(name, tuple(sorted(values.items())))

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"name": self.name, "parameters": dict(self.parameters)}

    @classmethod
    def from_payload(cls, value: JsonValue) -> TemplateCall:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "template", {"name", "parameters"})
        parameters = fields.raw("parameters")
        if not isinstance(parameters, dict):
            raise fields.error("parameters", "must be an object")
        values: list[tuple[str, Scalar]] = []
        for name in sorted(parameters):
            item = parameters[name]
            if not isinstance(item, str | int):
                raise fields.error("parameters", "may hold texts, integers, true and false")
            values.append((name, item))
        return cls(fields.string("name", check_label), tuple(values))


def check_templates(templates: Sequence[QueryTemplate]) -> None:
    """Checks what terms hold.

    Raises:
        DocumentError: Too many, or two of one name.
    """
    if len(templates) > MAX_TEMPLATES:
        raise DocumentError(f"terms have at most {MAX_TEMPLATES} templates")
    if len({template.name for template in templates}) != len(templates):
        raise DocumentError("two templates of the terms have one name")


def find_template(templates: Iterable[QueryTemplate], name: str) -> QueryTemplate:
    """The template of a name.

    Raises:
        DocumentError: There is none; names those that there are.
    """
    templates = tuple(templates)
    for template in templates:
        if template.name == name:
            return template
    known = ", ".join(template.name for template in templates)
    raise DocumentError(
        f"the contract has no template of that name; it has: {known}"
        if known
        else "the contract has no templates; send SQL"
    )
