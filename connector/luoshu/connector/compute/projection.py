"""Keeps the tables of computations in step with the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import sqlalchemy as sa
from sqlalchemy import Connection

from luoshu.connector.compute import entries
from luoshu.connector.compute.outcome import ComputationState, Refusal
from luoshu.connector.compute.tables import computations, debits, history, relayed
from luoshu.contracts.canonical import JsonValue
from luoshu.contracts.contract import EventType, SequencedEvent, unverified_event
from luoshu.contracts.log.entry import Entry, EntryKind

_DEBITED = frozenset({"QUERY_FAILED", "INTERNAL"})
"""Failures that may have been caused by what was asked, whatever the data is."""


@dataclass(frozen=True, slots=True)
class Computation:
    """One decided request at the holder."""

    request_id: str
    request_digest: str
    contract_id: str
    consumer: str
    state: ComputationState
    decision_index: int
    outcome_index: int | None
    result_digest: str | None
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Relayed:
    """One request that this node took to a holder."""

    request_id: str
    request_digest: str
    contract_id: str
    provider: str
    user_id: str
    request_index: int
    receipt_index: int | None


class ComputeProjection:
    """Folds decision, history, release, failure, request and receipt entries.

    Of contract events one: a contract that is resumed has its debits set back.
    """

    name = "compute"
    version = 2

    def clear(self, connection: Connection) -> None:
        """Empties the tables, before they are built again from the first entry."""
        for table in (computations, relayed, history, debits):
            connection.execute(sa.delete(table))

    def apply(self, connection: Connection, entry: Entry) -> None:
        """Applies one entry; entries of other kinds change nothing here."""
        data = cast("Mapping[str, JsonValue]", entry.body.data)
        match entry.body.kind:
            case entries.DECISION:
                self._decision(connection, entry, data)
            case entries.RELEASE:
                self._ended(connection, entry, data, ComputationState.RELEASED)
            case entries.FAILURE:
                self._ended(connection, entry, data, ComputationState.FAILED)
                if data["reason"] in _DEBITED:
                    self._debit(connection, entry)
            case entries.HISTORY:
                self._joined(connection, entry, data)
                if data["conflicts"]:
                    self._debit(connection, entry)
            case EntryKind.CONTRACT:
                event = unverified_event(SequencedEvent.from_json(entry.body.data).event)
                if event.type is EventType.RESUME:
                    connection.execute(
                        sa.delete(debits).where(debits.c.contract_id == event.contract_id)
                    )
            case entries.REQUEST:
                connection.execute(
                    sa.insert(relayed).values(
                        request_id=data["request_id"],
                        request_digest=data["request_digest"],
                        contract_id=entry.body.contract_id,
                        provider=data["provider"],
                        user_id=data["user_id"],
                        request_index=entry.index,
                    )
                )
            case entries.RECEIPT:
                connection.execute(
                    sa.update(relayed)
                    .where(relayed.c.request_id == data["request_id"])
                    .values(receipt_index=entry.index)
                )
            case _:
                return

    def _decision(
        self, connection: Connection, entry: Entry, data: Mapping[str, JsonValue]
    ) -> None:
        allow = data["allow"] is True
        # A refusal can follow an allowed policy check (the guard refused), never a use.
        connection.execute(
            sa.insert(computations).values(
                request_id=data["request_id"],
                request_digest=data["request_digest"],
                contract_id=entry.body.contract_id,
                consumer=data["consumer"],
                state=ComputationState.DECIDED if allow else ComputationState.DENIED,
                reason=None if allow else data["reason"],
                message=None if allow else data["message"],
                rule=data.get("rule"),
                decision_index=entry.index,
            )
        )

    def _joined(self, connection: Connection, entry: Entry, data: Mapping[str, JsonValue]) -> None:
        own, found = data["file"], cast("list[JsonValue]", data["found"])
        for item in found if own is None else [*found, own]:
            file = cast("Mapping[str, str]", item)
            known = connection.scalar(
                sa.select(history.c.digest).where(
                    history.c.domain == data["domain"], history.c.name == file["name"]
                )
            )
            # What two entries name is what the first of them says.
            if known is None:
                connection.execute(
                    sa.insert(history).values(
                        domain=data["domain"], history_index=entry.index, **file
                    )
                )

    def _debit(self, connection: Connection, entry: Entry) -> None:
        contract_id = entry.body.contract_id
        counted = connection.execute(
            sa.update(debits)
            .where(debits.c.contract_id == contract_id)
            .values(debits=debits.c.debits + 1)
        )
        if not counted.rowcount:
            connection.execute(sa.insert(debits).values(contract_id=contract_id, debits=1))

    def _ended(
        self,
        connection: Connection,
        entry: Entry,
        data: Mapping[str, JsonValue],
        state: ComputationState,
    ) -> None:
        connection.execute(
            sa.update(computations)
            .where(computations.c.decision_index == data["decision_index"])
            .values(
                state=state,
                reason=data.get("reason"),
                outcome_index=entry.index,
                result_digest=data.get("result_digest"),
            )
        )


def find_computation(connection: Connection, consumer: str, request_id: str) -> Computation | None:
    """The request as the log knows it, or None if it was never decided for this consumer."""
    row = connection.execute(
        sa.select(computations).where(
            computations.c.consumer == consumer, computations.c.request_id == request_id
        )
    ).one_or_none()
    return None if row is None else _computation(row)


def unfinished_computations(connection: Connection) -> list[Computation]:
    """Decided requests without an outcome: the node stopped while they ran."""
    rows = connection.execute(
        sa.select(computations)
        .where(computations.c.state == ComputationState.DECIDED)
        .order_by(computations.c.decision_index)
    )
    return [_computation(row) for row in rows]


def released_requests(connection: Connection) -> set[str]:
    """Digests of the requests whose result may still be fetched."""
    rows = connection.execute(
        sa.select(computations.c.request_digest).where(
            computations.c.state == ComputationState.RELEASED
        )
    )
    return {row.request_digest for row in rows}


def find_debits(connection: Connection, contract_id: str) -> int:
    """How many computations were debited since the contract began or was resumed.

    For the holder's eyes.
    """
    found = connection.scalar(sa.select(debits.c.debits).where(debits.c.contract_id == contract_id))
    return found or 0


def find_relayed(connection: Connection, request_id: str) -> Relayed | None:
    """The relayed request, or None if this node never took it."""
    row = connection.execute(
        sa.select(relayed).where(relayed.c.request_id == request_id)
    ).one_or_none()
    if row is None:
        return None
    return Relayed(
        request_id=row.request_id,
        request_digest=row.request_digest,
        contract_id=row.contract_id,
        provider=row.provider,
        user_id=row.user_id,
        request_index=row.request_index,
        receipt_index=row.receipt_index,
    )


def _computation(row: sa.Row[tuple[object, ...]]) -> Computation:
    refusal = None
    if row.state in (ComputationState.DENIED, ComputationState.FAILED):
        refusal = Refusal(row.reason, row.message or "", row.rule)
    return Computation(
        request_id=row.request_id,
        request_digest=row.request_digest,
        contract_id=row.contract_id,
        consumer=row.consumer,
        state=ComputationState(row.state),
        decision_index=row.decision_index,
        outcome_index=row.outcome_index,
        result_digest=row.result_digest,
        refusal=refusal,
    )
