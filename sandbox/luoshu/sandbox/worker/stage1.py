"""The stage-1 worker: holds the protected file, verifies one query, computes its cells."""

from __future__ import annotations

from luoshu.sandbox import wire
from luoshu.sandbox.errors import GuardRefusalError, QueryError
from luoshu.sandbox.guard.check import check_query
from luoshu.sandbox.schema import TableSchema
from luoshu.sandbox.worker.setup import set_up
from luoshu.sandbox.worker.stage import Channel, Message, run


def work(channel: Channel) -> None:
    """Serves one computation: `verify`, then `compute`."""
    connection, max_rows = set_up(channel.receive())
    channel.send({"type": "ready"})
    job = channel.receive()
    tables = [TableSchema.from_json(table) for table in _list(job["tables"])]
    try:
        query = check_query(connection, tables, str(job["sql"]))
    except (GuardRefusalError, QueryError) as error:
        channel.send({"type": "refused", "code": error.code, "message": error.message})
        return
    channel.send({"type": "verified", "cells": query.cells.to_json(), "stage2": query.stage2})
    if channel.receive() != {"type": "compute"}:
        raise wire.WireError("an unknown message")
    rows = connection.execute(query.stage1).fetchmany(max_rows + 1)
    if len(rows) > max_rows:
        raise MemoryError
    answer: Message = {"type": "rows", "rows": wire.encode_rows(rows)}
    channel.send(answer)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise wire.WireError("a list was expected")
    return value


def main() -> None:
    """Entry point."""
    run(work)
