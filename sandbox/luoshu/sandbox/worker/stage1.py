"""The stage-1 worker: holds the protected file, verifies one query, computes its contributions.

They go into files under /cells, one per cell query; the connector is told the
keys of the cells and the numbers of rows, and nothing of the contributions.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from pathlib import Path

from luoshu.sandbox import engine, wire
from luoshu.sandbox.errors import GuardRefusalError, QueryError
from luoshu.sandbox.guard.check import CellQuery, CheckedQuery, check_query
from luoshu.sandbox.schema import TableSchema, checked_count
from luoshu.sandbox.templates import BoundParameter, bind_parameters
from luoshu.sandbox.worker.setup import set_up
from luoshu.sandbox.worker.stage import Channel, Message, run

CELLS = Path("/cells")


def work(channel: Channel, cells: Path = CELLS) -> None:
    """Serves one computation: `verify`, then `compute`.

    Args:
        channel: To the connector.
        cells: Where the contributions go.
    """
    connection, max_rows = set_up(channel.receive())
    channel.send({"type": "ready"})
    # NumPy is needed only once the query is verified and decided on: it loads meanwhile.
    loading = threading.Thread(target=_load_arrays, daemon=True)
    loading.start()
    query = _verify(channel, connection, channel.receive())
    if query is None:
        return
    job = channel.receive()
    if job.get("type") != "compute" or not isinstance(job.get("drop"), bool):
        raise wire.WireError("an unknown message")
    loading.join()
    export = importlib.import_module("luoshu.sandbox.export").export
    results: list[Message] = []
    for number, cell in enumerate(query.cells):
        done = export(
            connection,
            cell.sql,
            cell.schema,
            cells / str(number),
            min_units=checked_count(job["min_units"]),
            drop=job["drop"],
            max_cells=max_rows,
            number=number,
        )
        results.append(
            {
                "keys": wire.encode_rows(done.keys),
                "rows": done.rows,
                "dropped": done.dropped,
                "query": _digest(cell),
            }
        )
    channel.send({"type": "cells", "results": results})


def _verify(channel: Channel, connection: engine.Connection, job: Message) -> CheckedQuery | None:
    if job.get("type") != "verify":
        raise wire.WireError("an unknown message")
    tables = [TableSchema.from_json(table) for table in _list(job["tables"])]
    parameters = [BoundParameter.from_json(value) for value in _list(job["parameters"])]
    try:
        query = check_query(
            connection,
            tables,
            bind_parameters(connection, str(job["sql"]), parameters),
            min_units=checked_count(job["min_units"]),
            mode=str(job["mode"]),
        )
    except (GuardRefusalError, QueryError) as error:
        channel.send({"type": "refused", "code": error.code, "message": error.message})
        return None
    channel.send(
        {
            "type": "verified",
            "cells": [cell.schema.to_json() for cell in query.cells],
            "stage2": query.stage2,
        }
    )
    return query


def _digest(cell: CellQuery) -> str:
    """Of the SQL that the guard made, which doesn't depend on how the analyst spelt the query."""
    return hashlib.sha256(cell.sql.encode()).hexdigest()


def _load_arrays() -> None:
    importlib.import_module("luoshu.sandbox.export")


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise wire.WireError("a list was expected")
    return value


def main() -> None:
    """Entry point."""
    run(work)
