"""What a command of the ledger works with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from luoshu.connector.journal.projections import Projections
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.log.entry import SALT_SIZE, Entry, EntryBody
from luoshu.contracts.log.journal_line import JournalEntry


class Transaction:
    """What a command works with.

    Attributes:
        connection: The SQL transaction; sees what this and earlier commands recorded.
        now: The time of the command and of every entry that it records, UTC, milliseconds.
    """

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        first: int,
        projections: Projections,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.connection = connection
        self.now = now
        self._first = first
        self._projections = projections
        self._entropy = entropy
        self._recorded: list[JournalEntry] = []
        self._closed = False

    def record(
        self,
        kind: str,
        data: JsonObject,
        *,
        parties: Iterable[str],
        contract_id: str | None = None,
    ) -> int:
        """Adds an entry to the log and applies it to the projections.

        Args:
            kind: The entry's kind, see `EntryKind`.
            data: JSON without floats, at most 1 MiB with the rest of the body.
            parties: Ids of the participants who may read it.
            contract_id: The contract it belongs to.

        Returns:
            The entry's index; valid once the command is committed.

        Raises:
            ContractsError: It can't be an entry. Whatever a projection raises.
        """
        if self._closed:
            raise RuntimeError("the transaction is over")
        body = EntryBody(kind, self.now, tuple(parties), contract_id, data)
        entry = Entry(self._first + len(self._recorded), body, self._entropy(SALT_SIZE))
        prepared = JournalEntry.of(entry)
        self._projections.apply(self.connection, entry)
        self._recorded.append(prepared)
        return entry.index

    def close(self) -> Sequence[JournalEntry]:
        """Ends the recording and returns what was recorded: for the ledger."""
        self._closed = True
        return self._recorded
