"""A prepared product: a read-only DuckDB file and the manifest that describes it.

The manifest is canonical JSON (`luoshu/prepared/v1`) with the digests of what it
was made from and of the prepared file. It names columns and counts, and holds
no value of the data beyond the bounds that the holder declared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from luoshu.contracts.canonical import JsonObject, canonicalize, parse_object
from luoshu.contracts.errors import CanonicalError
from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.schema import (
    ColumnSchema,
    SchemaError,
    TableSchema,
    Use,
    ValueType,
    checked_name,
    exact_fields,
)

MANIFEST = "manifest.json"
PREPARED = "prepared.duckdb"
SCHEMA = "luoshu/prepared/v1"
_CHUNK = 1 << 20
_MAX_MANIFEST = 16 << 20
_FIELDS = (
    "schema",
    "product",
    "product_digest",
    "source_digest",
    "engine",
    "table",
    "privacy_unit",
    "columns",
    "rows",
    "units",
    "release",
    "notes",
    "prepared_digest",
)


@dataclass(frozen=True, slots=True)
class ReleaseFloor:
    """What every release of the product obeys; contracts may only be stricter.

    Attributes:
        mode: `aggregate`.
        min_units: Fewest distinct units behind anything released.
    """

    mode: str
    min_units: int


@dataclass(frozen=True, slots=True)
class PreparedColumn:
    """A declared column, as it was prepared.

    Attributes:
        source_type: Its type in the source.
        bounds: Declared least and greatest value as text, or None.
        values: Declared domain as text, or None.
    """

    name: str
    type: ValueType
    uses: frozenset[Use]
    source_type: str
    bounds: tuple[str, str] | None
    values: tuple[str, ...] | None

    @property
    def schema(self) -> ColumnSchema:
        """What a worker knows of it."""
        return ColumnSchema(self.name, self.type, self.uses)

    def to_json(self) -> JsonObject:
        """The manifest's form."""
        return {
            "name": self.name,
            "type": str(self.type),
            "use": [str(use) for use in sorted(self.uses)],
            "source_type": self.source_type,
            "bounds": list(self.bounds) if self.bounds else None,
            "values": list(self.values) if self.values is not None else None,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the manifest's form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "name", "type", "use", "source_type", "bounds", "values")
        column = ColumnSchema.from_json({key: fields[key] for key in ("name", "type", "use")})
        bounds, values = _texts(fields["bounds"]), _texts(fields["values"])
        if bounds is not None and len(bounds) != 2:
            raise SchemaError("bounds must be two")
        return cls(
            column.name,
            column.type,
            column.uses,
            checked_name(fields["source_type"]),
            (bounds[0], bounds[1]) if bounds else None,
            values,
        )


@dataclass(frozen=True, slots=True)
class PreparedProduct:
    """A product that computations can run over.

    Attributes:
        id: The product's local id.
        table_name: How analysts call its table.
        path: The prepared DuckDB file.
        digest: `sha256:<hex>` of the manifest's bytes; names this data version.
        product_digest: Of the product file's content.
        source_digest: Of the source file's bytes.
        engine: The engine that wrote the file.
        columns: The declared columns.
        privacy_unit: Column that names the protected units.
        units: How many distinct units it holds. For the holder's eyes.
        rows: How many rows it holds. For the holder's eyes.
        release: The floor.
        notes: What preparation changed, for the holder's eyes.
    """

    id: str
    table_name: str
    path: Path
    digest: str
    product_digest: str
    source_digest: str
    engine: str
    columns: tuple[PreparedColumn, ...]
    privacy_unit: str
    units: int
    rows: int
    release: ReleaseFloor
    notes: tuple[str, ...]

    def schema(self, catalog: str) -> TableSchema:
        """What a worker knows of it, attached as `catalog`."""
        return TableSchema(
            catalog,
            self.table_name,
            self.privacy_unit,
            tuple(column.schema for column in self.columns),
        )

    @classmethod
    def load(cls, out_dir: Path | str) -> Self:
        """Loads what `prepare_product` wrote, and checks the file against its digest.

        Raises:
            PreparationError: Something is missing, altered or of another version.
        """
        out_dir = Path(out_dir)
        try:
            data = (out_dir / MANIFEST).read_bytes()
            prepared_digest = file_digest(out_dir / PREPARED)
        except OSError as error:
            raise PreparationError(
                f"{out_dir} holds no prepared product ({error.strerror}): prepare it again."
            ) from None
        try:
            product, expected = cls._read(data, out_dir)
        except (CanonicalError, SchemaError) as error:
            raise PreparationError(
                f"{out_dir / MANIFEST} can't be read ({error}): prepare the product again."
            ) from None
        if prepared_digest != expected:
            raise PreparationError(
                f"{product.path} was altered since it was prepared: prepare the product again."
            )
        return product

    @classmethod
    def _read(cls, data: bytes, out_dir: Path) -> tuple[Self, str]:
        fields = parse_object(data, max_bytes=_MAX_MANIFEST)
        if fields.get("schema") != SCHEMA:
            raise SchemaError(f"this version reads {SCHEMA}")
        exact_fields(fields, *_FIELDS)
        release = exact_fields(fields["release"], "mode", "min_units")
        columns = fields["columns"]
        if not isinstance(columns, list):
            raise SchemaError("columns must be a list")
        product = cls(
            id=checked_name(fields["product"]),
            table_name=checked_name(fields["table"]),
            path=out_dir / PREPARED,
            digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
            product_digest=checked_name(fields["product_digest"]),
            source_digest=checked_name(fields["source_digest"]),
            engine=checked_name(fields["engine"]),
            columns=tuple(PreparedColumn.from_json(column) for column in columns),
            privacy_unit=checked_name(fields["privacy_unit"]),
            units=_count(fields["units"]),
            rows=_count(fields["rows"]),
            release=ReleaseFloor(checked_name(release["mode"]), _count(release["min_units"])),
            notes=_texts(fields["notes"]) or (),
        )
        return product, checked_name(fields["prepared_digest"])


def write_manifest(out_dir: Path, fields: JsonObject) -> None:
    """Writes the manifest in canonical form."""
    temporary = out_dir / f".{MANIFEST}.part"
    temporary.write_bytes(canonicalize({"schema": SCHEMA, **fields}))
    temporary.replace(out_dir / MANIFEST)


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes.

    Raises:
        OSError: It can't be read.
    """
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return f"sha256:{total.hexdigest()}"


def _texts(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SchemaError("a list of texts was expected")
    return tuple(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise SchemaError("a count was expected")
    return value
