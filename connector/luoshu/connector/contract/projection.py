"""Keeps the tables of contracts in step with the log: entries of kind ``contract``."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from luoshu.connector.contract import tables
from luoshu.connector.contract.replay import replayed, used_request
from luoshu.connector.contract.store import find_state, save_state
from luoshu.contracts.contract import Position, SequencedEvent, UseBody, unverified_event
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.log.entry import Entry, EntryKind

__all__ = ["ContractProjection"]

_INSERT_EVENT = sa.insert(tables.events)
_INSERT_USE = sa.insert(tables.uses)


class ContractProjection:
    """Folds sequenced events; they were verified before they were written."""

    name: Final = "contract"
    version: Final = 1

    def clear(self, connection: sa.Connection) -> None:
        """Empties its tables, before they are built again from the first entry."""
        for table in (tables.contracts, tables.events, tables.uses):
            connection.execute(sa.delete(table))

    def apply(self, connection: sa.Connection, entry: Entry) -> None:
        """Applies one entry; entries of other kinds change nothing here."""
        if entry.body.kind != EntryKind.CONTRACT:
            return
        sequenced = SequencedEvent.from_json(entry.body.data)
        event = unverified_event(sequenced.event)
        position = Position.from_payload(unverified_payload(sequenced.position))
        before = find_state(connection, event.contract_id)
        after = replayed(before, event, position, sequenced.position.digest)
        connection.execute(
            _INSERT_EVENT,
            {
                "contract_id": event.contract_id,
                "position": position.position,
                "log_index": entry.index,
                "event": sequenced.event.to_bytes(),
                "event_digest": sequenced.event.digest,
                "position_envelope": sequenced.position.to_bytes(),
                "position_digest": sequenced.position.digest,
            },
        )
        if isinstance(event.body, UseBody):
            connection.execute(
                _INSERT_USE,
                {
                    "contract_id": event.contract_id,
                    "request_id": used_request(event.body),
                    "position": position.position,
                    "ordinal": after.uses,
                    "decision": event.body.decision,
                },
            )
        save_state(connection, after, begun_index=None if before else entry.index)
