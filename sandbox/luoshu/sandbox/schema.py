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
_SIMPLE = frozenset({"BOOLEAN", "BIGINT", "HUGEINT", "VARCHAR", "DATE", "TIMESTAMP", "DOUBLE"})
MAX_NAME_BYTES = 1024
MAX_COLUMNS = 1024


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
    """One declared column of a prepared table."""

    name: str
    type: ValueType
    uses: frozenset[Use]

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"name": self.name, "type": str(self.type), "use": sorted(self.uses)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "name", "type", "use")
        uses = fields["use"]
        if not isinstance(uses, list) or any(use not in set(Use) for use in uses):
            raise SchemaError("an unknown use")
        return cls(
            checked_name(fields["name"]),
            ValueType.parse(fields["type"]),
            frozenset(Use(use) for use in uses),
        )


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One prepared table, as attached in a stage-1 worker.

    Attributes:
        catalog: Name that the prepared file is attached under.
        table: Name of the table, and how analysts call it.
        unit: Column that holds dense unit ids (BIGINT, never NULL); the table's first.
        columns: The declared columns, in the table's order after `unit`.
    """

    catalog: str
    table: str
    unit: str
    columns: tuple[ColumnSchema, ...]

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "catalog": self.catalog,
            "table": self.table,
            "unit": self.unit,
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "catalog", "table", "unit", "columns")
        columns = fields["columns"]
        if not isinstance(columns, list) or len(columns) > MAX_COLUMNS:
            raise SchemaError("columns must be a list")
        return cls(
            checked_name(fields["catalog"]),
            checked_name(fields["table"]),
            checked_name(fields["unit"]),
            tuple(ColumnSchema.from_json(column) for column in columns),
        )


class ComponentKind(StrEnum):
    """What a component of a cell adds up."""

    ROWS = "rows"
    UNITS = "units"
    COUNT = "count"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class Component:
    """One value of a cell that the release rules decide on.

    In a cell's row it takes two places: its value, then the number of distinct
    units that contribute to it (a non-null, and for sums non-zero, amount).

    Attributes:
        kind: Rows, units, non-null values of a column, or the column's sum.
        table: Whose rows.
        column: The declared column for COUNT and SUM, otherwise "".
        type: Type of the value.
    """

    kind: ComponentKind
    table: str
    column: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class CellSchema:
    """What stage 1 yields: a row per cell, keys first, then two places per component.

    Attributes:
        tables: Protected tables that the cells come from.
        keys: Type of each group key, in order.
        components: In order.
    """

    tables: tuple[str, ...]
    keys: tuple[ValueType, ...]
    components: tuple[Component, ...]

    @property
    def row_types(self) -> tuple[ValueType, ...]:
        """Type of each place in a cell's row."""
        types = list(self.keys)
        for component in self.components:
            types += [component.type, BIGINT]
        return tuple(types)

    @property
    def released_types(self) -> tuple[ValueType, ...]:
        """Type of each place in a released cell's row: keys, then values without unit counts.

        A count is BIGINT again, as analysts expect: DuckDB adds up counts as HUGEINT, but no
        table has 2^63 rows.
        """
        return (
            *self.keys,
            *(c.type if c.kind is ComponentKind.SUM else BIGINT for c in self.components),
        )

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "tables": list(self.tables),
            "keys": [str(key) for key in self.keys],
            "components": [
                {"kind": str(c.kind), "table": c.table, "column": c.column, "type": str(c.type)}
                for c in self.components
            ],
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "tables", "keys", "components")
        tables, keys, components = fields["tables"], fields["keys"], fields["components"]
        if not (
            isinstance(tables, list) and isinstance(keys, list) and isinstance(components, list)
        ):
            raise SchemaError("tables, keys and components must be lists")
        if len(keys) + len(components) > MAX_COLUMNS or not components:
            raise SchemaError("too many columns, or no component")
        return cls(
            tuple(checked_name(table) for table in tables),
            tuple(ValueType.parse(key) for key in keys),
            tuple(_component(component) for component in components),
        )


def _component(value: object) -> Component:
    fields = exact_fields(value, "kind", "table", "column", "type")
    kind, column = fields["kind"], fields["column"]
    if not isinstance(kind, str) or kind not in set(ComponentKind):
        raise SchemaError("an unknown component")
    return Component(
        ComponentKind(kind),
        checked_name(fields["table"]),
        checked_name(column) if column else "",
        ValueType.parse(fields["type"]),
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
