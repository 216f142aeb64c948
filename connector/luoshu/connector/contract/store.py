"""Reads and writes of the contract tables. All take a connection and never commit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from luoshu.connector.contract import tables
from luoshu.connector.peer_port import ContractNews, SequencedBytes
from luoshu.contracts.canonical import MAX_INTEGER, canonicalize
from luoshu.contracts.contract import (
    Agreement,
    AgreementState,
    ContractState,
    NegotiationState,
)
from luoshu.contracts.terms import Terms
from luoshu.contracts.times import format_time, parse_time

__all__ = [
    "Use",
    "due_contracts",
    "event_digests",
    "events_after",
    "find_cursor",
    "find_state",
    "find_use",
    "holds_event",
    "list_page",
    "list_states",
    "news_after",
    "providers_of",
    "save_cursor",
    "save_state",
]

MAX_ANSWER_BYTES: Final = 2 << 20
"""Events that one answer holds, in bytes; whoever wants more asks again."""

_BATCH: Final = 200
_CACHED: Final = 256


@dataclass(frozen=True, slots=True)
class Use:
    """A use that was debited.

    Attributes:
        request_id: The user's request.
        position: Position of the use event in its contract.
        ordinal: Which use it was, from 1.
        decision: Index of the decision in the provider's log.
    """

    request_id: str
    position: int
    ordinal: int
    decision: int


class _States:
    """States by head. A head fixes all events before it, so none of them can be stale."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[str, ContractState] = OrderedDict()

    def get(self, head: str) -> ContractState | None:
        with self._lock:
            state = self._states.get(head)
            if state is not None:
                self._states.move_to_end(head)
            return state

    def put(self, state: ContractState) -> None:
        with self._lock:
            self._states[state.head] = state
            if len(self._states) > _CACHED:
                self._states.popitem(last=False)


_states = _States()

# Built once: building a statement takes longer than running it.
_OF = tables.contracts.c.contract_id == sa.bindparam("of")
_FIND_HEAD = sa.select(tables.contracts.c.head).where(_OF)
_FIND = sa.select(tables.contracts).where(_OF)
_INSERT = sa.insert(tables.contracts)
_UPDATE = sa.update(tables.contracts).where(_OF)


def find_state(connection: sa.Connection, contract_id: str) -> ContractState | None:
    """Returns a contract's newest state, or None."""
    head = connection.scalar(_FIND_HEAD, {"of": contract_id})
    if head is None:
        return None
    cached = _states.get(head)
    if cached is not None:
        return cached
    return _state(connection, connection.execute(_FIND, {"of": contract_id}).one())


def save_state(connection: sa.Connection, state: ContractState, *, begun_index: int | None) -> None:
    """Writes a contract's newest state.

    Args:
        connection: Inside the transaction that records the event.
        state: The state after it.
        begun_index: Log index of the first event, if this is it; None otherwise.
    """
    last = state.terms.not_after
    values = {
        "entry": state.entry,
        "terms": state.terms.to_payload(),
        "negotiation": state.negotiation.value,
        "agreement": None if state.agreement is None else state.agreement.value,
        "agreed": None if state.agreed is None else state.agreed.to_payload(),
        "position": state.position,
        "head": state.head,
        "changed_at": format_time(state.changed_at),
        "provider_sequence": state.provider_sequence,
        "consumer_sequence": state.consumer_sequence,
        "uses": state.uses,
        "reason": state.reason,
        "last_moment": None if last is None else int(last.timestamp() * 1000),
    }
    if begun_index is None:
        connection.execute(_UPDATE, {"of": state.contract_id, **values})
    else:
        connection.execute(
            _INSERT,
            {
                "contract_id": state.contract_id,
                "product_id": state.product_id,
                "offer_id": state.offer_id,
                "provider": state.provider,
                "consumer": state.consumer,
                "begun_index": begun_index,
                **values,
            },
        )
    _states.put(state)


def list_states(connection: sa.Connection, state: str = "") -> tuple[ContractState, ...]:
    """Returns contracts, newest first.

    Args:
        connection: A read connection.
        state: Keep only those in this negotiation or agreement state; empty keeps all.
    """
    table = tables.contracts
    query = sa.select(table).order_by(table.c.begun_index.desc())
    if state:
        query = query.where(sa.or_(table.c.negotiation == state, table.c.agreement == state))
    return tuple(_state(connection, row) for row in connection.execute(query))


def list_page(
    connection: sa.Connection, state: str, before: int | None
) -> tuple[tuple[ContractState, ...], int | None]:
    """Returns contracts, newest first, as many as one answer holds, and where the rest begins.

    Args:
        connection: A read connection.
        state: As for `list_states`.
        before: What the page before returned; None for the first.
    """
    table = tables.contracts
    query = sa.select(table).order_by(table.c.begun_index.desc()).limit(_BATCH + 1)
    if state:
        query = query.where(sa.or_(table.c.negotiation == state, table.c.agreement == state))
    if before is not None:
        query = query.where(table.c.begun_index < before)
    found: list[ContractState] = []
    size, last = 0, None
    for row in connection.execute(query):
        one = _state(connection, row)
        size += len(canonicalize(one.terms.to_payload()))
        if found and (size > MAX_ANSWER_BYTES or len(found) == _BATCH):
            return tuple(found), last
        found.append(one)
        last = row.begun_index
    return tuple(found), None


def due_contracts(connection: sa.Connection, provider: str, now: int) -> tuple[str, ...]:
    """Returns ids of a provider's live agreements whose last moment has passed.

    Args:
        connection: A read connection.
        provider: This node.
        now: Unix milliseconds.
    """
    table = tables.contracts
    return tuple(
        connection.scalars(
            sa.select(table.c.contract_id).where(
                table.c.provider == provider,
                table.c.agreement.in_(
                    [AgreementState.ACTIVE.value, AgreementState.SUSPENDED.value]
                ),
                table.c.last_moment < now,
            )
        )
    )


def events_after(
    connection: sa.Connection, contract_id: str, known_position: int
) -> tuple[SequencedBytes, ...]:
    """Returns a contract's events after a position, as many as one answer holds."""
    if known_position > MAX_INTEGER:  # more than the database can be asked
        return ()
    table = tables.events
    rows = connection.execute(
        sa.select(table.c.event, table.c.position_envelope)
        .where(table.c.contract_id == contract_id, table.c.position > known_position)
        .order_by(table.c.position)
        .limit(_BATCH)
    )
    found: list[SequencedBytes] = []
    size = 0
    for row in rows:
        size += len(row.event) + len(row.position_envelope)
        if found and size > MAX_ANSWER_BYTES:
            break
        found.append(SequencedBytes(bytes(row.event), bytes(row.position_envelope)))
    return tuple(found)


def event_digests(connection: sa.Connection, contract_id: str, position: int) -> tuple[str, str]:
    """Returns the digests of the event and of the position that are held at a place.

    Raises:
        sqlalchemy.exc.NoResultFound: Nothing is held there.
    """
    table = tables.events
    row = connection.execute(
        sa.select(table.c.event_digest, table.c.position_digest).where(
            table.c.contract_id == contract_id, table.c.position == position
        )
    ).one()
    return row.event_digest, row.position_digest


def holds_event(connection: sa.Connection, contract_id: str, digest: str) -> bool:
    """Whether an event of a contract is held, by the digest of its envelope's payload."""
    table = tables.events
    found = connection.scalar(
        sa.select(table.c.position).where(
            table.c.contract_id == contract_id, table.c.event_digest == digest
        )
    )
    return found is not None


def news_after(
    connection: sa.Connection, party: str, provider: str, after: int
) -> Sequence[ContractNews]:
    """Returns events of a party's contracts with a provider, in the order of its log.

    As many as one answer holds, since each stream that is opened anew reads so many at once.

    Args:
        connection: A read connection.
        party: Who asks.
        provider: This node, whose log indexes are the cursors.
        after: Log index; only later ones.
    """
    table, states = tables.events, tables.contracts
    rows = connection.execute(
        sa.select(table.c.log_index, table.c.contract_id, table.c.event, table.c.position_envelope)
        .join(states, states.c.contract_id == table.c.contract_id)
        .where(
            table.c.log_index > after,
            states.c.provider == provider,
            states.c.consumer == party,
        )
        .order_by(table.c.log_index)
        .limit(_BATCH)
    )
    found: list[ContractNews] = []
    size = 0
    for row in rows:
        size += len(row.event) + len(row.position_envelope)
        if found and size > MAX_ANSWER_BYTES:
            break
        event = SequencedBytes(bytes(row.event), bytes(row.position_envelope))
        found.append(ContractNews(str(row.log_index), row.contract_id, event))
    return found


def find_cursor(connection: sa.Connection, provider: str) -> str:
    """Returns how far a provider's stream was read; empty for not at all."""
    table = tables.cursors
    found = connection.scalar(sa.select(table.c.cursor).where(table.c.provider == provider))
    return found or ""


def save_cursor(connection: sa.Connection, provider: str, cursor: str) -> None:
    """Notes how far a provider's stream was read."""
    table = tables.cursors
    connection.execute(sa.delete(table).where(table.c.provider == provider))
    connection.execute(sa.insert(table).values(provider=provider, cursor=cursor))


def providers_of(connection: sa.Connection, consumer: str) -> tuple[str, ...]:
    """Returns the providers that a consumer has contracts with or has asked, sorted."""
    held = sa.select(tables.contracts.c.provider).where(tables.contracts.c.consumer == consumer)
    asked = sa.select(tables.cursors.c.provider)
    return tuple(sorted(connection.scalars(sa.union(held, asked))))


def find_use(connection: sa.Connection, contract_id: str, request_id: str) -> Use | None:
    """Returns the use that was debited for a request, or None."""
    table = tables.uses
    row = connection.execute(
        sa.select(table).where(table.c.contract_id == contract_id, table.c.request_id == request_id)
    ).one_or_none()
    if row is None:
        return None
    return Use(row.request_id, row.position, row.ordinal, row.decision)


def _state(connection: sa.Connection, row: sa.Row[Any]) -> ContractState:
    cached = _states.get(row.head)
    if cached is not None:
        return cached
    table = tables.uses
    state = ContractState(
        contract_id=row.contract_id,
        product_id=row.product_id,
        offer_id=row.offer_id,
        entry=row.entry,
        provider=row.provider,
        consumer=row.consumer,
        terms=Terms.from_payload(row.terms),
        negotiation=NegotiationState(row.negotiation),
        agreement=None if row.agreement is None else AgreementState(row.agreement),
        agreed=None if row.agreed is None else Agreement.from_payload(row.agreed),
        position=row.position,
        head=row.head,
        changed_at=parse_time(row.changed_at),
        provider_sequence=row.provider_sequence,
        consumer_sequence=row.consumer_sequence,
        uses=row.uses,
        request_ids=frozenset(
            connection.scalars(
                sa.select(table.c.request_id).where(table.c.contract_id == row.contract_id)
            )
        ),
        reason=row.reason,
    )
    _states.put(state)
    return state
