"""The job of a preparation, as the connector writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from luoshu.sandbox.schema import UnitKey, Use, exact_fields
from luoshu.sandbox.worker.preparation.column import Declaration
from luoshu.sandbox.worker.stage import Message


@dataclass(frozen=True, slots=True)
class TableJob:
    """One table to prepare.

    Attributes:
        name: In the product.
        kind: Of its source: parquet, csv or duckdb.
        path: Where its source is mounted.
        source_table: Within a DuckDB file, or None.
        unit: Column that names the unit, or None.
        within: Table that must have each of these units, or None.
        via: Table whose rows its rows refer to, or None.
        on: Pairs of an own column and the column of `via` that it equals.
        keys: Columns that determine the unit.
        unique: Columns that no two rows of a public table may have in common; empty for none.
        columns: What is declared; None for all columns, with every use.
    """

    name: str
    kind: str
    path: str
    source_table: str | None
    unit: str | None
    within: str | None
    via: str | None
    on: tuple[tuple[str, str], ...]
    keys: tuple[UnitKey, ...]
    unique: tuple[str, ...]
    columns: tuple[Declaration, ...] | None

    @property
    def is_public(self) -> bool:
        """Whether its rows belong to nobody."""
        return self.unit is None and self.via is None

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads the JSON form, which the connector wrote."""
        columns = value["columns"]
        return cls(
            name=value["name"],
            kind=value["kind"],
            path=value["path"],
            source_table=value["source_table"],
            unit=value["unit"],
            within=value["within"],
            via=value["via"],
            on=tuple((own, their) for own, their in value["on"]),
            keys=tuple(UnitKey(key["domain"], tuple(key["columns"])) for key in value["keys"]),
            unique=tuple(value["unique"]),
            columns=None if columns is None else tuple(_declaration(column) for column in columns),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """What to prepare.

    Attributes:
        tables: Each after the one it refers to.
        is_clamped: Whether values outside declared bounds are moved to them.
        salt: Of the unit registry; empty if all tables are public.
        memory_bytes, threads: What DuckDB may use.
    """

    tables: tuple[TableJob, ...]
    is_clamped: bool
    salt: str
    memory_bytes: int
    threads: int

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Reads the connector's message.

        Raises:
            SchemaError: Another message.
        """
        fields: Any = exact_fields(
            message, "type", "tables", "is_clamped", "salt", "memory_bytes", "threads"
        )
        return cls(
            tuple(TableJob.from_json(table) for table in fields["tables"]),
            bool(fields["is_clamped"]),
            str(fields["salt"]),
            int(fields["memory_bytes"]),
            int(fields["threads"]),
        )


def _declaration(value: Any) -> Declaration:
    bounds, values = value["bounds"], value["values"]
    return Declaration(
        value["name"],
        frozenset(Use(use) for use in value["use"]),
        None if bounds is None else (bounds[0], bounds[1]),
        None if values is None else tuple(values),
        value["decimals"],
    )
