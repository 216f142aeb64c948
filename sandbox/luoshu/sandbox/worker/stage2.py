"""The stage-2 worker: the analyst's select list over released cells. Holds no protected data."""

from __future__ import annotations

from collections.abc import Sequence

from luoshu.sandbox import engine, wire
from luoshu.sandbox.schema import ValueType
from luoshu.sandbox.worker.setup import set_up
from luoshu.sandbox.worker.stage import MAX_CELLS, Channel, run


def work(channel: Channel) -> None:
    """Serves one result."""
    connection, max_rows = set_up(channel.receive())
    channel.send({"type": "ready"})
    job = channel.receive()
    keys, values = job["keys"], job["types"]
    if not isinstance(keys, int) or not isinstance(values, list):
        raise wire.WireError("types must be a list")
    types = [ValueType.parse(kind) for kind in values]
    rows = wire.decode_rows(job["rows"], types, MAX_CELLS)
    load_cells(connection, keys, types, rows)
    result = connection.execute(str(job["sql"])).fetchmany(max_rows + 1)
    if len(result) > max_rows:
        raise MemoryError
    columns = [{"name": name, "type": kind} for name, kind in engine.column_types(connection)]
    channel.send({"type": "result", "columns": columns, "rows": wire.encode_rows(result)})


def load_cells(
    connection: engine.Connection,
    keys: int,
    types: Sequence[ValueType],
    rows: Sequence[wire.Row],
) -> None:
    """Makes the table `cells` of released cells: `keys` columns k0…, then c0…."""
    names = [f"k{n}" if n < keys else f"c{n - keys}" for n in range(len(types))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
    connection.execute(f"CREATE TABLE cells ({columns})")
    if rows:
        lists = ", ".join(f"unnest(?::{kind}[])" for kind in types)
        connection.execute(
            f"INSERT INTO cells SELECT {lists}",
            [list(column) for column in zip(*rows, strict=True)],
        )


def main() -> None:
    """Entry point."""
    run(work)
