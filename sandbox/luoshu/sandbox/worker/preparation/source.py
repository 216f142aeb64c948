"""Opening a holder's files as relations with known columns."""

from __future__ import annotations

from dataclasses import dataclass

from luoshu.sandbox.engine import Connection, identifier, literal
from luoshu.sandbox.wire import WireError


class SourceError(Exception):
    """The data isn't as declared; the message is for the holder."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A source, opened.

    Attributes:
        name: SQL name to read it by.
        kinds: DuckDB type of each column.
        is_collated: Whether its texts may compare by a collation.
    """

    name: str
    kinds: dict[str, str]
    is_collated: bool


def open_source(
    connection: Connection, number: int, kind: str, path: str, table: str | None
) -> Relation:
    """Opens the source of the `number`th table.

    Args:
        connection: Not yet locked.
        number: Distinguishes the names that are made here.
        kind: parquet, csv or duckdb.
        path: Where it is mounted.
        table: Within a DuckDB file, with or without its schema.

    Raises:
        SourceError: A DuckDB file without such a table.
        WireError: Another kind.
    """
    name = f"source_rows_{number}"
    if kind == "duckdb":
        source = _attached(connection, number, path, str(table))
    elif kind == "csv":
        # The whole file decides on the types: a sample could decide otherwise next time. Columns
        # are declared by name, so there is a header; and no row is ever taken for a comment.
        source = f"read_csv({literal(path)}, sample_size := -1, header := true, comment := '')"
    elif kind == "parquet":
        source = f"read_parquet({literal(path)})"
    else:
        raise WireError("an unknown source")
    form = "TABLE" if kind == "csv" else "VIEW"
    connection.execute(f"CREATE TEMP {form} {name} AS SELECT * FROM {source}")  # noqa: S608 - ours
    described = connection.execute(f"DESCRIBE {name}").fetchall()
    kinds = {str(row[0]): _type_name(str(row[1])) for row in described}
    return Relation(name, kinds, kind == "duckdb")


def _attached(connection: Connection, number: int, path: str, table: str) -> str:
    # One file may hold several tables: it is attached once.
    row = connection.execute(
        "SELECT database_name FROM duckdb_databases() WHERE path = ?", [path]
    ).fetchone()
    catalog = str(row[0]) if row else f"source_{number}"
    if row is None:
        connection.execute(f"ATTACH {literal(path)} AS {catalog} (READ_ONLY)")
    found = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ?", [catalog]
    ).fetchall()
    schema, _, name = table.rpartition(".")
    if (schema or "main", name) not in found:
        names = ", ".join(sorted(f"{s}.{t}" for s, t in found)) or "none"
        raise SourceError(f"the DuckDB file has no table {table}; its tables: {names}.")
    return f"{catalog}.{identifier(schema or 'main')}.{identifier(name)}"


def _type_name(described: str) -> str:
    # An ENUM is described by all its values, which have no place in messages and manifests.
    return "ENUM" if described.startswith("ENUM(") else described
