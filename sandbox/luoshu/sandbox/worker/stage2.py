"""The stage-2 worker: the analyst's select list over released cells. Holds no protected data."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from luoshu.sandbox import engine, wire
from luoshu.sandbox.schema import SchemaError, ValueType, checked_count, exact_fields
from luoshu.sandbox.worker.setup import set_up
from luoshu.sandbox.worker.stage import MAX_CELLS, Channel, run


def work(channel: Channel) -> None:
    """Serves one result."""
    connection, max_rows = set_up(channel)
    channel.send({"type": "ready"})
    job = exact_fields(channel.receive(), "type", "cells", "sql")
    cells = job["cells"]
    if job["type"] != "shape" or not isinstance(cells, list):
        raise SchemaError("not a result to shape")
    for number, value in enumerate(cells):
        fields = exact_fields(value, "keys", "types", "rows")
        kinds = fields["types"]
        if not isinstance(kinds, list):
            raise SchemaError("types must be a list")
        types = [ValueType.parse(kind) for kind in kinds]
        rows = wire.decode_rows(fields["rows"], types, MAX_CELLS)
        load_cells(connection, f"cells{number}", checked_count(fields["keys"]), types, rows)
    result = connection.execute(str(job["sql"])).fetchmany(max_rows + 1)
    if len(result) > max_rows:
        raise MemoryError
    columns = [{"name": name, "type": kind} for name, kind in engine.column_types(connection)]
    channel.send({"type": "result", "columns": columns, "rows": wire.encode_rows(result)})


def load_cells(
    connection: engine.Connection,
    table: str,
    keys: int,
    types: Sequence[ValueType],
    rows: Sequence[wire.Row],
) -> None:
    """Makes a table of released cells: `keys` columns k0…, then c0…."""
    names = [f"k{n}" if n < keys else f"c{n - keys}" for n in range(len(types))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
    connection.execute(f"CREATE TABLE {table} ({columns})")
    if rows:
        lists = ", ".join(f"unnest(?::{kind}[])" for kind in types)
        connection.execute(
            f"INSERT INTO {table} SELECT {lists}",
            [list(column) for column in zip(*rows, strict=True)],
        )


def rehearse() -> None:
    """Loads what loads lazily."""
    connection = engine.open_engine()
    types = [ValueType.parse(kind) for kind in ("VARCHAR", "DECIMAL(38,2)", "DOUBLE")]
    load_cells(connection, "cells0", 1, types, [("a", Decimal(1), 1.5)])
    connection.execute("SELECT k0, c0, c0 / c1, round(c1, 2) FROM cells0 ORDER BY k0").fetchmany(2)
    engine.column_types(connection)
    connection.close()


def main() -> None:
    """Entry point."""
    run(work)
