"""A prepared product: a read-only DuckDB file and the manifest that describes it.

The manifest is canonical JSON (`luoshu/prepared/v3`) with the digests of what it
was made from and of the prepared file. It names tables, columns and counts, and
holds no value of the data beyond the bounds and domains that the holder declared.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from luoshu.contracts.canonical import JsonObject, canonicalize, parse_object
from luoshu.contracts.errors import CanonicalError
from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.prepared_table import PreparedColumn, PreparedTable
from luoshu.sandbox.release_floor import ReleaseFloor
from luoshu.sandbox.schema import (
    SchemaError,
    TableSchema,
    checked_count,
    checked_name,
    exact_fields,
)

__all__ = [
    "MANIFEST",
    "PREPARED",
    "PreparedColumn",
    "PreparedProduct",
    "PreparedTable",
    "ReleaseFloor",
    "file_digest",
    "write_manifest",
]

MANIFEST = "manifest.json"
PREPARED = "prepared.duckdb"
SCHEMA = "luoshu/prepared/v3"
_CHUNK = 1 << 20
_MAX_MANIFEST = 16 << 20
_FIELDS = (
    "schema",
    "product",
    "product_digest",
    "source_digest",
    "engine",
    "name",
    "domain",
    "registry",
    "tables",
    "units",
    "release",
    "notes",
    "prepared_digest",
)


@dataclass(frozen=True, slots=True)
class PreparedProduct:
    """A product that computations can run over.

    Attributes:
        id: The product's local id.
        table_name: The product's name in SQL: of its catalog, and of its table if it has but one.
        path: The prepared DuckDB file.
        digest: `sha256:<hex>` of the manifest's bytes; names this data version.
        product_digest: Of the product file's content.
        source_digest: Of the source file's bytes; of several files, of all their digests.
        engine: The engine that wrote the file.
        domain: Whom it protects; empty if nobody.
        registry: Id of the unit registry that its unit ids are of; empty if there is none.
        tables: Its tables, each after the one it refers to.
        units: How many distinct units it holds. For the holder's eyes.
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
    domain: str
    registry: str
    tables: tuple[PreparedTable, ...]
    units: int
    release: ReleaseFloor
    notes: tuple[str, ...]

    @property
    def columns(self) -> tuple[PreparedColumn, ...]:
        """The declared columns of all tables."""
        return tuple(column for table in self.tables for column in table.declared)

    @property
    def privacy_unit(self) -> str | None:
        """Column that names the protected units, of the first table that has one; None if none."""
        return next((table.unit for table in self.tables if table.unit is not None), None)

    @property
    def rows(self) -> int:
        """How many rows all tables hold. For the holder's eyes."""
        return sum(table.rows for table in self.tables)

    def schemas(self) -> tuple[TableSchema, ...]:
        """What a worker knows of its tables, attached as `table_name`."""
        return tuple(table.schema(self.table_name, self.domain) for table in self.tables)

    @classmethod
    def load(cls, out_dir: Path | str) -> Self:
        """Loads what `prepare_product` wrote, and checks the file against its digest.

        Raises:
            PreparationError: Something is missing, altered or of another version.
        """
        out_dir = Path(out_dir)
        product, expected = cls._read(out_dir)
        try:
            prepared_digest = file_digest(out_dir / PREPARED)
        except OSError as error:
            raise _nothing(out_dir, error) from None
        if prepared_digest != expected:
            raise PreparationError(
                f"{product.path} was altered since it was prepared: prepare the product again."
            )
        return product

    @classmethod
    def read(cls, out_dir: Path) -> Self:
        """Reads the manifest alone; the file beside it may be any.

        Raises:
            PreparationError: It is missing, altered or of another version.
        """
        return cls._read(out_dir)[0]

    @classmethod
    def _read(cls, out_dir: Path) -> tuple[Self, str]:
        try:
            return cls._parse((out_dir / MANIFEST).read_bytes(), out_dir)
        except OSError as error:
            raise _nothing(out_dir, error) from None
        except (CanonicalError, SchemaError) as error:
            raise PreparationError(
                f"{out_dir / MANIFEST} can't be read ({error}): prepare the product again."
            ) from None

    @classmethod
    def _parse(cls, data: bytes, out_dir: Path) -> tuple[Self, str]:
        fields = parse_object(data, max_bytes=_MAX_MANIFEST)
        if fields.get("schema") != SCHEMA:
            raise SchemaError(f"this version reads {SCHEMA}")
        exact_fields(fields, *_FIELDS)
        tables, notes = fields["tables"], fields["notes"]
        if not isinstance(tables, list) or not tables:
            raise SchemaError("tables must be a list")
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise SchemaError("notes must be texts")
        product = cls(
            id=checked_name(fields["product"]),
            table_name=checked_name(fields["name"]),
            path=out_dir / PREPARED,
            digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
            product_digest=checked_name(fields["product_digest"]),
            source_digest=checked_name(fields["source_digest"]),
            engine=checked_name(fields["engine"]),
            domain=_text(fields["domain"]),
            registry=_text(fields["registry"]),
            tables=tuple(PreparedTable.from_json(table) for table in tables),
            units=checked_count(fields["units"]),
            release=ReleaseFloor.from_json(fields["release"]),
            notes=tuple(str(note) for note in notes),
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


def _nothing(out_dir: Path, error: OSError) -> PreparationError:
    return PreparationError(
        f"{out_dir} holds no prepared product ({error.strerror}): prepare it again."
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SchemaError("a text was expected")
    return value
