"""The stage-1 worker: holds the protected file, verifies one query, computes its contributions.

They go into files that come with the order to compute, one per cell query; the connector is told
the keys of the cells and the numbers of rows, and nothing of the contributions.
"""

from __future__ import annotations

import hashlib

from luoshu.sandbox import engine, wire
from luoshu.sandbox.errors import GuardRefusalError, QueryError
from luoshu.sandbox.export import export
from luoshu.sandbox.guard.check import CellQuery, CheckedQuery, check_query
from luoshu.sandbox.guard.public_keys import public_keys
from luoshu.sandbox.schema import TableSchema, checked_count
from luoshu.sandbox.templates import BoundParameter, bind_parameters
from luoshu.sandbox.worker import rehearsal
from luoshu.sandbox.worker.setup import hold_memory, open_ahead, set_up
from luoshu.sandbox.worker.stage import Channel, Message, run


def work(channel: Channel) -> None:
    """Serves one computation: `verify`, then `compute`."""
    connection, max_rows = set_up(channel)
    channel.send({"type": "ready"})
    engine.give_back(connection)
    query = _verify(channel, connection, channel.receive())
    if query is None:
        return
    job, files = channel.receive(), channel.files
    drop = job.get("drop")
    if job.get("type") != "compute" or not isinstance(drop, bool):
        raise wire.WireError("an unknown message")
    results: list[Message] = []
    for number, (cell, file) in enumerate(zip(query.cells, files, strict=True)):
        done = export(
            connection,
            cell.sql,
            cell.schema,
            file,
            min_units=checked_count(job["min_units"]),
            drop=drop,
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
            dominance_ppm=checked_count(job["dominance_ppm"]),
            mode=str(job["mode"]),
        )
    except (GuardRefusalError, QueryError) as error:
        channel.send({"type": "refused", "code": error.code, "message": error.message})
        return None
    # Under mode `dp` cells of public keys come out whoever is in them, so their values are needed.
    channel.send(
        {
            "type": "verified",
            "cells": [cell.schema.to_json() for cell in query.cells],
            "stage2": query.stage2,
            "public": public_keys(connection, [cell.schema for cell in query.cells], tables)
            if job["mode"] == "dp"
            else {},
        }
    )
    return query


def _digest(cell: CellQuery) -> str:
    """Of the SQL that the guard made, which doesn't depend on how the analyst spelt the query."""
    return hashlib.sha256(cell.sql.encode()).hexdigest()


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise wire.WireError("a list was expected")
    return value


def rehearse() -> None:
    """Loads what loads lazily."""
    rehearsal.stage1()
    open_ahead()


def warm_up() -> None:
    """Touches what a computation will, before it is known."""
    rehearsal.stage1()
    hold_memory()


def main() -> None:
    """Entry point."""
    run(work)
