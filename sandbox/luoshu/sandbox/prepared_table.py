"""A table of a prepared product, as the manifest describes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, TypeVar, cast

from luoshu.contracts.canonical import JsonObject
from luoshu.sandbox.schema import (
    ColumnSchema,
    SchemaError,
    TableSchema,
    UnitKey,
    Use,
    ValueType,
    checked_count,
    checked_name,
    checked_unique,
    exact_fields,
)

_COLUMN = ("name", "type", "use", "bounds", "magnitude", "values", "is_nullable")
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class PreparedColumn:
    """A column, as it was prepared.

    Attributes:
        schema: What a worker knows of it.
        source_type: Its type in the source.
        declared: Its bounds as the holder wrote them, or None.
    """

    schema: ColumnSchema
    source_type: str = ""
    declared: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """As analysts write it."""
        return self.schema.name

    @property
    def type(self) -> ValueType:
        """As stored."""
        return self.schema.type

    @property
    def uses(self) -> frozenset[Use]:
        """What it is declared for; empty if it is only a key to other tables."""
        return self.schema.uses

    @property
    def values(self) -> tuple[str, ...] | None:
        """Declared domain as text, or None."""
        return self.schema.values

    def to_json(self) -> JsonObject:
        """The manifest's form."""
        return {
            **cast("JsonObject", self.schema.to_json()),
            "source_type": self.source_type,
            "declared": list(self.declared) if self.declared else None,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the manifest's form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, *_COLUMN, "source_type", "declared")
        declared = fields["declared"]
        if declared is not None:
            low, high = _listed(declared, checked_name, 2)
            declared = (low, high)
        schema = ColumnSchema.from_json({key: fields[key] for key in _COLUMN})
        return cls(schema, checked_name(fields["source_type"]), declared)


@dataclass(frozen=True, slots=True)
class PreparedTable:
    """A table of a product.

    Attributes:
        name: How analysts call it.
        unit: Column of its unit ids, never shown; None if it is public.
        columns: Its other columns.
        keys: Which of them determine the unit.
        unique: Of a public table: sets of columns of which no two rows have all values in common.
        rows: How many rows it holds. For the holder's eyes.
    """

    name: str
    unit: str | None
    columns: tuple[PreparedColumn, ...]
    keys: tuple[UnitKey, ...] = field(default=())
    unique: tuple[tuple[str, ...], ...] = ()
    rows: int = 0

    @property
    def is_public(self) -> bool:
        """Whether its rows belong to nobody."""
        return self.unit is None

    @property
    def declared(self) -> tuple[PreparedColumn, ...]:
        """The columns that analysts may use for more than joins."""
        return tuple(column for column in self.columns if column.uses)

    def schema(self, catalog: str, domain: str) -> TableSchema:
        """What a worker knows of it, attached as `catalog`."""
        return TableSchema(
            catalog,
            self.name,
            self.unit,
            tuple(column.schema for column in self.columns),
            "" if self.is_public else domain,
            self.keys,
            self.unique,
        )

    def to_json(self) -> JsonObject:
        """The manifest's form."""
        return {
            "name": self.name,
            "public": self.is_public,
            "unit": self.unit,
            "keys": [{"domain": key.domain, "columns": list(key.columns)} for key in self.keys],
            "unique": [list(names) for names in self.unique],
            "columns": [column.to_json() for column in self.columns],
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the manifest's form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "name", "public", "unit", "keys", "unique", "columns", "rows")
        unit = None if fields["unit"] is None else checked_name(fields["unit"])
        if fields["public"] is not (unit is None):
            raise SchemaError("a table has a unit, or is public")
        columns = _listed(fields["columns"], PreparedColumn.from_json)
        keys = _listed(fields["keys"], _key)
        known = {column.name for column in columns}
        if any(not set(key.columns) <= known for key in keys):
            raise SchemaError("a key of unknown columns")
        unique = checked_unique(fields["unique"])
        if (unique and unit is not None) or any(not set(names) <= known for names in unique):
            raise SchemaError("unique columns that are unknown, or of a protected table")
        rows = checked_count(fields["rows"])
        return cls(checked_name(fields["name"]), unit, columns, keys, unique, rows)


def _key(value: object) -> UnitKey:
    fields = exact_fields(value, "domain", "columns")
    return UnitKey(checked_name(fields["domain"]), _listed(fields["columns"], checked_name))


def _listed(
    value: object, read: Callable[[object], _Item], length: int | None = None
) -> tuple[_Item, ...]:
    if not isinstance(value, list) or length not in {None, len(value)}:
        raise SchemaError("a list was expected")
    return tuple(read(item) for item in value)
