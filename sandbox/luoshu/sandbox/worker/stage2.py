"""The stage-2 worker: the analyst's select list over released cells. Holds no protected data."""

# ruff: noqa: S608 - names and types made here

from __future__ import annotations

import json
from collections.abc import Sequence

from luoshu.sandbox import engine, wire
from luoshu.sandbox.schema import SchemaError, ValueType, checked_count, exact_fields
from luoshu.sandbox.worker.setup import open_ahead, set_up
from luoshu.sandbox.worker.stage import Channel, run


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
        rows = json.dumps(fields["rows"], ensure_ascii=False)
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
    rows: str,
) -> None:
    """Makes a table of released cells: `keys` columns k0…, then c0….

    Args:
        connection: Where.
        table: Its name.
        keys: How many columns are keys.
        types: Of all columns.
        rows: In their wire form, as a JSON list of lists, which the engine reads itself.
    """
    names = [f"k{n}" if n < keys else f"c{n - keys}" for n in range(len(types))]
    columns = ", ".join(
        f"row[{place}]::{kind} AS {name}"
        for place, (name, kind) in enumerate(zip(names, types, strict=True), 1)
    )
    connection.execute(
        f"""CREATE TABLE {table} AS SELECT {columns}
        FROM (SELECT unnest(from_json(?, '[["VARCHAR"]]')) AS row)""",
        [rows],
    )


def warm_up() -> None:
    """Shapes a made-up result."""
    connection = engine.open_engine()
    types = [ValueType.parse(kind) for kind in ("VARCHAR", "DECIMAL(38,2)", "DOUBLE")]
    load_cells(connection, "cells0", 1, types, '[["a","1","1.5"]]')
    connection.execute("SELECT k0, c0, c0 / c1, round(c1, 2) FROM cells0 ORDER BY k0").fetchmany(2)
    engine.column_types(connection)
    connection.close()


def rehearse() -> None:
    """Loads what loads lazily."""
    warm_up()
    open_ahead()


def main() -> None:
    """Entry point."""
    run(work)
