"""Projections: tables that are derived from the log, and how they keep up with it.

A projection is a pure function from entries to table rows: applied to the same entries it writes
the same rows, whatever else happens. The ledger applies each entry in the same SQL transaction
that commits it; what a crash kept from the tables is caught up before the node serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update

from luoshu.connector.journal import tables
from luoshu.contracts.log.entry import Entry

BATCH = 1000

_SET_ANCHOR = update(tables.log_anchor).values(
    size=bindparam("new_size"), root=bindparam("new_root")
)


class Projection(Protocol):
    """Tables that follow the log."""

    @property
    def name(self) -> str:
        """Its name in the ``projection`` table; never changes."""

    @property
    def version(self) -> int:
        """Raised when `apply` would write other rows: the tables are then built anew."""

    def apply(self, connection: Connection, entry: Entry) -> None:
        """Applies one entry. Reads no clock, draws no randomness, reads no other projection.

        An error here refuses the command that recorded the entry.
        """

    def clear(self, connection: Connection) -> None:
        """Empties its tables."""


class Projections:
    """All projections of a node, as one."""

    def __init__(self, origin: str, projections: Sequence[Projection]) -> None:
        names = [each.name for each in projections]
        if len(set(names)) != len(names):
            raise ValueError("two projections have one name")
        self._origin = origin
        self._all = tuple(projections)
        self._names = names
        self._set_last = (
            update(tables.projection)
            .where(tables.projection.c.name.in_(names))
            .values(last_index=bindparam("last"))
        )

    def apply(self, connection: Connection, entry: Entry) -> None:
        """Applies one entry to every projection."""
        for projection in self._all:
            projection.apply(connection, entry)

    def advance(self, connection: Connection, size: int, root: bytes) -> None:
        """Notes that every projection has applied all of a log of ``size`` entries."""
        connection.execute(self._set_last, {"last": size - 1})
        connection.execute(_SET_ANCHOR, {"new_size": size, "new_root": root})

    def prepare(self, engine: Engine) -> None:
        """Adds rows for new projections and empties those whose version changed."""
        with engine.begin() as connection:
            rows = {row.name: row.version for row in connection.execute(select(tables.projection))}
            for each in self._all:
                if rows.get(each.name) == each.version:
                    continue
                each.clear(connection)
                connection.execute(
                    delete(tables.projection).where(tables.projection.c.name == each.name)
                )
                connection.execute(
                    insert(tables.projection).values(
                        name=each.name, version=each.version, last_index=-1
                    )
                )

    def catch_up(
        self,
        engine: Engine,
        read: Callable[[int, int], Iterable[Entry]],
        size: int,
        root: bytes,
    ) -> int:
        """Applies what each projection hasn't seen.

        Args:
            engine: The writer's.
            read: Reads entries: first index, count.
            size: Entries of the log.
            root: Its root.

        Returns:
            Number of entries that were applied to at least one projection.
        """
        with engine.connect() as connection:
            last = {
                row.name: row.last_index for row in connection.execute(select(tables.projection))
            }
        position = start = min((last[name] + 1 for name in self._names), default=size)
        while position < size:
            batch = list(read(position, min(BATCH, size - position)))
            with engine.begin() as connection:
                for each in self._all:
                    for entry in batch:
                        if entry.index > last[each.name]:
                            each.apply(connection, entry)
                position += len(batch)
                connection.execute(
                    update(tables.projection)
                    .where(tables.projection.c.name.in_(self._names))
                    .where(tables.projection.c.last_index < position - 1)
                    .values(last_index=position - 1)
                )
        with engine.begin() as connection:
            self._set_anchor(connection, size, root)
        return size - start

    def _set_anchor(self, connection: Connection, size: int, root: bytes) -> None:
        connection.execute(delete(tables.log_anchor))
        connection.execute(
            insert(tables.log_anchor).values(id=1, origin=self._origin, size=size, root=root)
        )


def read_anchor(engine: Engine) -> tuple[str, int, bytes] | None:
    """Returns origin, size and root of the log as the database last saw it, if it did."""
    with engine.connect() as connection:
        row = connection.execute(select(tables.log_anchor)).one_or_none()
    return None if row is None else (row.origin, row.size, row.root)
