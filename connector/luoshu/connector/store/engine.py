"""Opens the node's database: SQLite in WAL mode, one writing engine and a reading one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy
from sqlalchemy import URL, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from luoshu.connector.store.schema import make_private, upgrade

BUSY_TIMEOUT_MS = 10_000
READERS = 4


class Store:
    """The node's database, at the newest schema.

    Attributes:
        path: The database file.
        writer: Engine of the one writer: its transactions take the write lock at BEGIN.
        reader: Engine of the readers: a snapshot each, and any write refused.
    """

    def __init__(self, path: Path, writer: Engine, reader: Engine) -> None:
        self.path = path
        self.writer = writer
        self.reader = reader

    @classmethod
    def open(cls, path: Path) -> Store:
        """Opens or creates the database and brings its schema up to date.

        Args:
            path: The database file; its directory is created if it is missing. What it
                holds of others' dealings is for the node alone, as the journal is, so
                nobody else may open it, wherever it lies.

        Raises:
            NodeError: ``SCHEMA_TOO_NEW``: a newer version of luoshu wrote it.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_private(path)
        writer = _create_engine(path, begin="BEGIN IMMEDIATE", query_only=False)
        try:
            upgrade(writer, path)
        except BaseException:
            writer.dispose()
            raise
        return cls(path, writer, _create_engine(path, begin="BEGIN", query_only=True))

    def close(self) -> None:
        """Closes all connections."""
        self.reader.dispose()
        self.writer.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _create_engine(path: Path, *, begin: str, query_only: bool) -> Engine:
    engine = sqlalchemy.create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        pool_size=READERS,
        max_overflow=0,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own transaction handling breaks SAVEPOINT; BEGIN is emitted below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA trusted_schema = OFF")
        cursor.execute(f"PRAGMA query_only = {int(query_only)}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
