"""What workers and connector know of a prepared table and of the cells that stage 1 yields.

Plain frozen values with a strict JSON form, so that each process checks what
the other sent. No data in here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_DECIMAL = re.compile(r"DECIMAL\(([1-9][0-9]?),([0-9][0-9]?)\)")
_INTEGER = re.compile(r"-?[0-9]{1,100}")
_SIMPLE = frozenset({"BOOLEAN", "BIGINT", "HUGEINT", "VARCHAR", "DATE", "TIMESTAMP", "DOUBLE"})
MAX_NAME_BYTES = 1024
MAX_COLUMNS = 1024
_MAX_FACTORS = 16  # the guard multiplies four
_MAX_SCALE = 38


class SchemaError(ValueError):
    """A JSON form that doesn't follow the schema; says what, never a value."""


class Use(StrEnum):
    """What a declared column may be used for."""

    GROUP = "group"
    FILTER = "filter"
    AGGREGATE = "aggregate"


@dataclass(frozen=True, slots=True)
class ValueType:
    """A DuckDB type as far as the sandbox uses types.

    Attributes:
        name: BOOLEAN, BIGINT, HUGEINT, DECIMAL, VARCHAR, DATE, TIMESTAMP or DOUBLE.
        width: Digits of a DECIMAL, otherwise 0.
        scale: Digits after the point of a DECIMAL, otherwise 0.
    """

    name: str
    width: int = 0
    scale: int = 0

    def __str__(self) -> str:
        return f"DECIMAL({self.width},{self.scale})" if self.name == "DECIMAL" else self.name

    @classmethod
    def parse(cls, text: object) -> Self:
        """Reads the form that `str` gives.

        Raises:
            SchemaError: Any other text.
        """
        if isinstance(text, str):
            if text in _SIMPLE:
                return cls(text)
            if match := _DECIMAL.fullmatch(text):
                width, scale = int(match[1]), int(match[2])
                if width <= 38 and scale <= width:
                    return cls("DECIMAL", width, scale)
        raise SchemaError("an unknown type")

    @property
    def is_summable(self) -> bool:
        """Whether SUM and AVG are exact and can't overflow (see `guard.arithmetic`)."""
        return self.name in {"BIGINT", "DECIMAL"}


BOOLEAN = ValueType("BOOLEAN")
BIGINT = ValueType("BIGINT")
HUGEINT = ValueType("HUGEINT")
VARCHAR = ValueType("VARCHAR")
DATE = ValueType("DATE")
TIMESTAMP = ValueType("TIMESTAMP")
DOUBLE = ValueType("DOUBLE")


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """One declared column of a prepared table.

    Attributes:
        name: As analysts write it.
        type: As stored.
        uses: What it is declared for; a column that is only a key to other tables has none.
        bounds: Declared least and greatest value of a number, as integers at the type's scale
            (19.90 in DECIMAL(8,2) is 1990), or None.
        magnitude: Largest absolute value that can occur, at the type's scale; from the declared
            bounds, else from the source's type; 0 for what is no number.
        values: The declared domain as text, or None.
        is_nullable: Whether a row may lack a value; known to workers, not to analysts.
    """

    name: str
    type: ValueType
    uses: frozenset[Use]
    bounds: tuple[int, int] | None = None
    magnitude: int = 0
    values: tuple[str, ...] | None = None
    is_nullable: bool = True

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "name": self.name,
            "type": str(self.type),
            "use": sorted(self.uses),
            "bounds": None if self.bounds is None else [str(bound) for bound in self.bounds],
            "magnitude": str(self.magnitude),
            "values": None if self.values is None else list(self.values),
            "is_nullable": self.is_nullable,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(
            value, "name", "type", "use", "bounds", "magnitude", "values", "is_nullable"
        )
        uses, bounds, values = fields["use"], fields["bounds"], fields["values"]
        if not isinstance(uses, list) or not all(
            isinstance(use, str) and use in set(Use) for use in uses
        ):
            raise SchemaError("an unknown use")
        if bounds is not None and (not isinstance(bounds, list) or len(bounds) != 2):
            raise SchemaError("bounds must be two")
        if values is not None and not (
            isinstance(values, list) and all(isinstance(item, str) for item in values)
        ):
            raise SchemaError("values must be texts")
        return cls(
            checked_name(fields["name"]),
            ValueType.parse(fields["type"]),
            frozenset(Use(use) for use in uses),
            None if bounds is None else (checked_integer(bounds[0]), checked_integer(bounds[1])),
            checked_integer(fields["magnitude"]),
            None if values is None else tuple(values),
            fields["is_nullable"] is not False,
        )


@dataclass(frozen=True, slots=True)
class UnitKey:
    """Columns whose values, taken together, belong to one unit each.

    Two tables of one product whose keys have the same domain may be joined by equality of all
    its columns: rows that meet belong to the same unit.

    Attributes:
        domain: What the values name, such as `orders(o_orderkey)`; unique within a product.
        columns: The table's columns, in the domain's order.
    """

    domain: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One prepared table, as attached in a stage-1 worker.

    Attributes:
        catalog: Name that the prepared file is attached under: the product's id, `-` as `_`.
        table: Name of the table in schema `main`, and how analysts call it.
        unit: Column that holds unit ids (BIGINT, never NULL, from 0 and below 2^31); the table's
            first. None for a public table.
        columns: The declared columns, in the table's order after `unit`.
        domain: Whose ids `unit` holds: tables of the same domain protect the same people.
        keys: Which columns determine the unit beside `unit` itself.
        unique: Of a public table: sets of columns of which no two rows have all values in common,
            NULL being a value like any other.
    """

    catalog: str
    table: str
    unit: str | None
    columns: tuple[ColumnSchema, ...]
    domain: str = ""
    keys: tuple[UnitKey, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "catalog": self.catalog,
            "table": self.table,
            "unit": self.unit,
            "columns": [column.to_json() for column in self.columns],
            "domain": self.domain,
            "keys": [{"domain": key.domain, "columns": list(key.columns)} for key in self.keys],
            "unique": [list(names) for names in self.unique],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(
            value, "catalog", "table", "unit", "columns", "domain", "keys", "unique"
        )
        columns, keys, domain = fields["columns"], fields["keys"], fields["domain"]
        if not isinstance(columns, list) or len(columns) > MAX_COLUMNS:
            raise SchemaError("columns must be a list")
        if not isinstance(keys, list) or not isinstance(domain, str):
            raise SchemaError("keys must be a list")
        return cls(
            checked_name(fields["catalog"]),
            checked_name(fields["table"]),
            None if fields["unit"] is None else checked_name(fields["unit"]),
            tuple(ColumnSchema.from_json(column) for column in columns),
            domain,
            tuple(_unit_key(key) for key in keys),
            checked_unique(fields["unique"]),
        )


def _unit_key(value: object) -> UnitKey:
    fields = exact_fields(value, "domain", "columns")
    columns = fields["columns"]
    if not isinstance(columns, list) or not columns:
        raise SchemaError("a key needs columns")
    return UnitKey(checked_name(fields["domain"]), tuple(checked_name(name) for name in columns))


class ComponentKind(StrEnum):
    """What a component of a cell adds up over the units."""

    SUM = "sum"
    """The sum of a monomial over a unit's rows; of the empty monomial: its number of rows."""
    UNITS = "units"
    """One for each unit with at least one row."""
    SET = "set"
    """Like UNITS, of a branch of a condition. Never released: a cell in which too few units are
    in the branch is withheld whole, also if there are none."""
    ANY_DIGITS = "any-digits"
    """Of weights (see `Digits`): the binary digits that are 1 in any row. Never released."""
    ALL_DIGITS = "all-digits"
    """The binary digits that are 1 in every row; -1 for no row. Never released."""

    @property
    def is_released(self) -> bool:
        """Whether its values may come out."""
        return self in {ComponentKind.SUM, ComponentKind.UNITS}


@dataclass(frozen=True, slots=True)
class Digits:
    """What is known of the weights in a sum with one factor of a public table.

    Of each unit the digits of the weights of those rows in which no other factor is 0, in 64 bits,
    as integers at the column's scale.

    Attributes:
        plain: Index of the component that adds up the same rows without the weight.
        any: Index of their ANY_DIGITS.
        all: Index of their ALL_DIGITS.
    """

    plain: int
    any: int
    all: int


@dataclass(frozen=True, slots=True)
class Component:
    """One additive quantity of a cell, decided on by itself.

    Stage 1 yields for each cell and unit one integer for it (see `luoshu.sandbox.contributions`).

    Attributes:
        kind: What is added up.
        monomial: The factors, as sorted names of source columns, lower case; () counts rows. What
            has the same monomial is compared by the differencing guard, whatever its filter.
        scale: The value is the integer times 10^-scale.
        bounds: Least and greatest value of the monomial in one row, from declared bounds, as
            integers at `scale`; None without.
        is_wide: Whether a unit's integer may need more than 63 bits.
        rows: Index of the component that counts the rows that this one adds up; None if there
            is none. A SUM with `bounds` always has one.
        digits: Of its weights; None if there are none.
    """

    kind: ComponentKind
    monomial: tuple[str, ...] = ()
    scale: int = 0
    bounds: tuple[int, int] | None = None
    is_wide: bool = False
    rows: int | None = None
    digits: Digits | None = None

    @property
    def type(self) -> ValueType:
        """Of the released value."""
        if not self.monomial:
            return BIGINT
        return ValueType("DECIMAL", 38, self.scale) if self.scale else HUGEINT

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "kind": str(self.kind),
            "monomial": list(self.monomial),
            "scale": self.scale,
            "bounds": None if self.bounds is None else [str(bound) for bound in self.bounds],
            "is_wide": self.is_wide,
            "rows": self.rows,
            "digits": None
            if self.digits is None
            else [self.digits.plain, self.digits.any, self.digits.all],
        }


@dataclass(frozen=True, slots=True)
class CellSchema:
    """What one cell query of stage 1 yields: for each cell its keys and components.

    Attributes:
        tables: Protected tables that the cells come from, as `catalog.table`; none for rows of
            public tables, which have keys only and come out as they are.
        keys: Type of each group key, in order.
        components: In order.
        prefix: Number of leading keys that name a group of cells which are released together or
            not at all (COUNT(DISTINCT column)); None where each cell stands alone.
        key_columns: For each key the column of a protected or public table that it is, as
            `catalog.table.column`, or "" for a derived key.
    """

    tables: tuple[str, ...]
    keys: tuple[ValueType, ...]
    components: tuple[Component, ...]
    prefix: int | None = None
    key_columns: tuple[str, ...] = ()

    @property
    def released(self) -> tuple[Component, ...]:
        """The components whose values may come out."""
        return tuple(c for c in self.components if c.kind.is_released)

    @property
    def released_types(self) -> tuple[ValueType, ...]:
        """Type of each place in a released cell's row: keys, then values."""
        return (*self.keys, *(component.type for component in self.released))

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "tables": list(self.tables),
            "keys": [str(key) for key in self.keys],
            "components": [component.to_json() for component in self.components],
            "prefix": self.prefix,
            "key_columns": list(self.key_columns),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "tables", "keys", "components", "prefix", "key_columns")
        tables, keys, components = fields["tables"], fields["keys"], fields["components"]
        columns, prefix = fields["key_columns"], fields["prefix"]
        if not (
            isinstance(tables, list)
            and isinstance(keys, list)
            and isinstance(components, list)
            and isinstance(columns, list)
            and all(isinstance(column, str) for column in columns)
        ):
            raise SchemaError("tables, keys and components must be lists")
        if max(len(tables), len(columns), len(keys) + len(components)) > MAX_COLUMNS or bool(
            components
        ) != bool(tables):
            raise SchemaError("too many columns, or protected cells without a component")
        if not tables and not keys:
            raise SchemaError("rows without columns")
        if prefix is not None and not 0 <= checked_count(prefix) <= len(keys):
            raise SchemaError("prefix must be a number of keys")
        schema = cls(
            tuple(checked_name(table) for table in tables),
            tuple(ValueType.parse(key) for key in keys),
            tuple(_component(component) for component in components),
            None if prefix is None else checked_count(prefix),
            tuple(columns),
        )
        if any(c.rows is not None and c.rows >= len(components) for c in schema.components):
            raise SchemaError("rows must name a component")
        if any(not _has_digits(c, schema.components) for c in schema.components):
            raise SchemaError("digits must name components of their kinds")
        return schema


def _has_digits(component: Component, others: tuple[Component, ...]) -> bool:
    digits = component.digits
    if digits is None:
        return True
    places = (digits.plain, digits.any, digits.all)
    kinds = (ComponentKind.SUM, ComponentKind.ANY_DIGITS, ComponentKind.ALL_DIGITS)
    return component.kind is ComponentKind.SUM and all(
        place < len(others) and others[place].kind is kind
        for place, kind in zip(places, kinds, strict=True)
    )


def _component(value: object) -> Component:
    fields = exact_fields(value, "kind", "monomial", "scale", "bounds", "is_wide", "rows", "digits")
    kind, monomial, bounds = fields["kind"], fields["monomial"], fields["bounds"]
    is_wide, rows, digits = fields["is_wide"], fields["rows"], fields["digits"]
    if not isinstance(kind, str) or kind not in set(ComponentKind):
        raise SchemaError("an unknown component")
    if not isinstance(monomial, list) or not isinstance(is_wide, bool):
        raise SchemaError("a component of unknown form")
    if len(monomial) > _MAX_FACTORS or checked_count(fields["scale"]) > _MAX_SCALE:
        raise SchemaError("a component of too many factors or digits")
    if bounds is not None and (not isinstance(bounds, list) or len(bounds) != 2):
        raise SchemaError("bounds must be two")
    if digits is not None and (not isinstance(digits, list) or len(digits) != 3):
        raise SchemaError("digits must be three")
    return Component(
        ComponentKind(kind),
        tuple(checked_name(name) for name in monomial),
        checked_count(fields["scale"]),
        None if bounds is None else (checked_integer(bounds[0]), checked_integer(bounds[1])),
        is_wide,
        None if rows is None else checked_count(rows),
        None if digits is None else Digits(*map(checked_count, digits)),
    )


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of the result, as the analyst named it."""

    name: str
    type: ValueType


def exact_fields(value: object, *names: str) -> dict[str, object]:
    """Returns a JSON object that has exactly these fields.

    Raises:
        SchemaError: It isn't one.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise SchemaError("an object with other fields than expected")
    return value


def checked_name(value: object) -> str:
    """Returns a name of at most 1024 bytes.

    Raises:
        SchemaError: It isn't one.
    """
    if not isinstance(value, str) or not value or len(value.encode()) > MAX_NAME_BYTES:
        raise SchemaError("a name must be text of at most 1024 bytes")
    return value


def checked_unique(value: object) -> tuple[tuple[str, ...], ...]:
    """Returns sets of columns.

    Raises:
        SchemaError: It isn't a list of lists of names, none of them empty.
    """
    if not isinstance(value, list) or not all(isinstance(names, list) and names for names in value):
        raise SchemaError("unique columns must be lists of names")
    return tuple(tuple(checked_name(name) for name in names) for names in value)


def checked_count(value: object) -> int:
    """Returns a whole number that isn't negative.

    Raises:
        SchemaError: It isn't one.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SchemaError("a count was expected")
    return value


def checked_integer(value: object) -> int:
    """Returns the integer that a text of at most 100 characters holds.

    Raises:
        SchemaError: It isn't one.
    """
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise SchemaError("an integer as text was expected")
    return int(value)
