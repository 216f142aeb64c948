"""The index of entries by kind and contract, so that a log can be listed without reading it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from luoshu.connector.journal.tables import log_entry
from luoshu.contracts.log.entry import Entry
from luoshu.contracts.times import format_time, parse_time

MAX_PAGE = 1000

_INSERT = insert(log_entry)


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """What a listing says of an entry.

    Attributes:
        index: Position in the log.
        kind: The entry's kind.
        time: The entry's time, UTC.
        contract_id: The contract it belongs to, if any.
    """

    index: int
    kind: str
    time: datetime
    contract_id: str | None


class EntryIndex:
    """The projection that keeps ``log_entry``; every ledger has it."""

    name = "log_entry"
    version = 1

    def apply(self, connection: Connection, entry: Entry) -> None:
        """See `Projection.apply`."""
        connection.execute(
            _INSERT,
            {
                "entry_index": entry.index,
                "kind": entry.body.kind,
                "time": format_time(entry.body.time),
                "contract_id": entry.body.contract_id,
            },
        )

    def clear(self, connection: Connection) -> None:
        """See `Projection.clear`."""
        connection.execute(delete(log_entry))


def list_entries(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    kind: str | None = None,
    contract_id: str | None = None,
) -> list[EntrySummary]:
    """Lists entries, newest first.

    Args:
        connection: A reader's.
        limit: At most so many; never more than 1,000.
        before: Only entries below this index.
        kind: Only entries of this kind.
        contract_id: Only entries of this contract.
    """
    query = select(log_entry).order_by(log_entry.c.entry_index.desc())
    if before is not None:
        query = query.where(log_entry.c.entry_index < before)
    if kind is not None:
        query = query.where(log_entry.c.kind == kind)
    if contract_id is not None:
        query = query.where(log_entry.c.contract_id == contract_id)
    return [
        EntrySummary(row.entry_index, row.kind, parse_time(row.time), row.contract_id)
        for row in connection.execute(query.limit(max(0, min(limit, MAX_PAGE))))
    ]
