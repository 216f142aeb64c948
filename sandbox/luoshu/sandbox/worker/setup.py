"""Readying the engine in a worker, locked and behind the closed wall, before any analyst's text."""

from __future__ import annotations

import os
import select

from luoshu.sandbox import engine
from luoshu.sandbox.wire import WireError
from luoshu.sandbox.worker.enclosure import landlock
from luoshu.sandbox.worker.enclosure.namespaces import INPUTS
from luoshu.sandbox.worker.enclosure.seal import CODE, seal
from luoshu.sandbox.worker.stage import Channel

_PIECES = 16
_PIECE_ROWS = 1 << 18  # 4 MB

_opened: list[engine.Connection] = []


def open_ahead() -> None:
    """Opens an engine in a zygote, for workers to be forked with: without threads and data."""
    _opened.append(engine.open_engine())


def hold_memory() -> None:
    """Has the engine touch memory until there is something to do (`luoshu.sandbox.worker.memory`).

    To be given back once it is set up, for that empties its caches.
    """
    asked = select.poll()
    asked.register(0, select.POLLIN)
    for _ in range(_PIECES):
        if asked.poll(0):
            return
        engine.hold(_opened[-1], _PIECE_ROWS)


def set_up(channel: Channel) -> tuple[engine.Connection, int]:
    """Readies an engine as a `setup` message says.

    The engine has no threads until the files are fenced: Landlock holds for threads to come.

    Returns:
        The locked connection, with the Nth file that came with the message attached as the Nth
        catalog, whose tables are found by their bare names; and the most rows of an answer.

    Raises:
        WireError: Another message.
    """
    connection = _opened.pop() if _opened else engine.open_engine()
    engine.seed(connection, os.urandom(4))  # forks would draw the same numbers
    message, files = channel.receive(), channel.files
    memory_bytes, threads, max_rows = (
        message.get(name) for name in ("memory_bytes", "threads", "max_rows")
    )
    catalogs = message.get("catalogs")
    if (
        message.get("type") != "setup"
        or not isinstance(memory_bytes, int)
        or not isinstance(threads, int)
        or not isinstance(max_rows, int)
        or not isinstance(catalogs, list)
        or len(catalogs) != len(files)
    ):
        raise WireError("not a setup message")
    landlock.restrict(CODE, files)
    for catalog, file in zip(catalogs, files, strict=True):
        engine.attach(connection, str(catalog), f"{INPUTS}/{file}")
    engine.allot(connection, memory_bytes, threads)
    if catalogs:
        engine.search(connection, [str(catalog) for catalog in catalogs])
    engine.lock(connection)
    seal()
    return connection, max_rows
