"""Opening the engine in a worker, locked, before any text of an analyst arrives."""

from __future__ import annotations

from luoshu.sandbox import engine
from luoshu.sandbox.wire import WireError
from luoshu.sandbox.worker.stage import Message


def set_up(message: Message) -> tuple[engine.Connection, int]:
    """Opens the engine as a `setup` message says.

    Returns:
        The locked connection, with `/product/N.duckdb` attached as the Nth catalog, whose tables
        are found by their bare names, and the most rows that an answer may have.

    Raises:
        WireError: Another message.
    """
    memory, threads, max_rows = (
        message.get(name) for name in ("memory_bytes", "threads", "max_rows")
    )
    catalogs = message.get("catalogs")
    if (
        message.get("type") != "setup"
        or not isinstance(memory, int)
        or not isinstance(threads, int)
        or not isinstance(max_rows, int)
        or not isinstance(catalogs, list)
    ):
        raise WireError("not a setup message")
    connection = engine.open_engine(memory, threads)
    for number, catalog in enumerate(catalogs):
        engine.attach(connection, str(catalog), f"/product/{number}.duckdb")
    if catalogs:
        engine.search(connection, [str(catalog) for catalog in catalogs])
    engine.lock(connection)
    return connection, max_rows
