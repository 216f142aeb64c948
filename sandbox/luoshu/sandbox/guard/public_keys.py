"""Values of group keys that are columns of public tables: known to everybody, so no secret."""

from __future__ import annotations

from collections.abc import Sequence

from luoshu.sandbox import wire
from luoshu.sandbox.engine import Connection, identifier
from luoshu.sandbox.schema import DOUBLE, CellSchema, TableSchema

MAX_VALUES = 10_000
"""Of one column; keys of a column with more count as unknown."""


def public_keys(
    connection: Connection, schemas: Sequence[CellSchema], tables: Sequence[TableSchema]
) -> dict[str, list[str | bool | None]]:
    """The values of each such column that cells are grouped by, in wire form, sorted, NULL last.

    Args:
        connection: With the tables attached.
        schemas: Of the verified cell queries.
        tables: All that the query could name.
    """
    wanted = {name for schema in schemas if schema.components for name in schema.key_columns}
    found: dict[str, list[str | bool | None]] = {}
    for table in tables:
        for column in table.columns if table.unit is None else ():
            name = f"{table.catalog}.{table.table}.{column.name}"
            if name not in wanted or column.type == DOUBLE:
                continue
            place = ".".join(map(identifier, (table.catalog, "main", table.table)))
            select = f"SELECT DISTINCT {identifier(column.name)} FROM {place}"  # noqa: S608 - quoted
            rows = connection.execute(
                f"{select} ORDER BY 1 NULLS LAST LIMIT {MAX_VALUES + 1}"
            ).fetchall()
            if len(rows) <= MAX_VALUES:
                found[name] = [row[0] for row in wire.encode_rows(rows)]
    return found
