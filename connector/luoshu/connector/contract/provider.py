"""The provider's side: sequences the events of contracts about this node's products.

Whatever arrives is verified, gets its position and is answered in one commit of the
ledger: either all of it is durable, or nothing happened. The provider never holds an
event back: what binds on receipt binds in the commit that receives it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial

import sqlalchemy as sa

from luoshu.connector.catalog.service import parse_cursor
from luoshu.connector.clock import Clock
from luoshu.connector.contract.errors import as_node_error
from luoshu.connector.contract.ports import Members, OwnEntries
from luoshu.connector.contract.store import (
    due_contracts,
    events_after,
    find_state,
    news_after,
)
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.observability import get_logger
from luoshu.connector.peer_port import ContractNews, SequencedBytes
from luoshu.contracts.answer import Agree, Counter, Refuse, answer_request
from luoshu.contracts.contract import (
    AgreeBody,
    AgreementState,
    ConfirmBody,
    ContractEvent,
    ContractState,
    EmptyBody,
    EventType,
    OfferBody,
    ReasonBody,
    RequestBody,
    check_submission,
    draft_event,
    sequence,
    unverified_event,
)
from luoshu.contracts.contract.bodies import MAX_REASON, Body
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.ids import parse_product_id
from luoshu.contracts.keys import SigningKey
from luoshu.contracts.log.entry import EntryKind
from luoshu.contracts.offer import Offer
from luoshu.contracts.product import CatalogEntry
from luoshu.contracts.terms import Terms
from luoshu.contracts.times import to_milliseconds

__all__ = ["ContractProvider"]

MAX_EVENT_BYTES = 256 << 10
"""Largest event envelope that is accepted, in bytes."""

_LIVE = frozenset({AgreementState.ACTIVE, AgreementState.SUSPENDED})


class ContractProvider:
    """Sequences events. `caller` is always an authenticated participant id."""

    def __init__(
        self,
        ledger: Ledger,
        members: Members,
        entries: OwnEntries,
        clock: Clock,
        *,
        participant_id: str,
        events_key: SigningKey,
    ) -> None:
        """Builds the provider's side.

        Args:
            ledger: This node's.
            members: Keys of the other side.
            entries: What this node published.
            clock: For the sweep.
            participant_id: This node.
            events_key: Signs events and positions.
        """
        self._ledger = ledger
        self._members = members
        self._entries = entries
        self._clock = clock
        self._me = participant_id
        self._key = events_key

    async def submit_event(
        self, caller: str, event: bytes, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """Takes an event that the caller signed, places it and answers it.

        Args:
            caller: Must be its author.
            event: Envelope of a `ContractEvent`, at most 256 KiB.
            known_position: Number of events of this contract that the caller holds.

        Returns:
            The events after that, the submitted one and automatic answers included, in
            order; at most 2 MiB of them.

        Raises:
            NodeError: The event doesn't count (CONTRACT_…, with ``head`` and ``position``
                in the metadata of CONTRACT_STALE_HEAD), the product or offer doesn't exist
                for the caller (NOT_FOUND), or its entry has a newer version
                (CATALOG_VERSION_CONFLICT).
        """
        with as_node_error():
            if len(event) > MAX_EVENT_BYTES:
                raise NodeError("MESSAGE_TOO_LARGE", "A contract event is larger than 256 KiB.")
            envelope = Envelope.from_bytes(event, max_bytes=MAX_EVENT_BYTES)
            claimed = unverified_event(envelope)
        if claimed.author != caller:
            raise NodeError("CONTRACT_WRONG_PARTY", "An event is submitted by its author itself.")

        def command(tx: Transaction) -> tuple[SequencedBytes, ...]:
            state = self._held(tx.connection, claimed.contract_id, caller)
            if state is None:
                self._require_own_product(claimed)
            self._place(tx, state, envelope)
            return events_after(tx.connection, claimed.contract_id, known_position)

        return await self._ledger.commit(command)

    async def list_events(
        self, caller: str, contract_id: str, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """Returns a contract's events after a position, at most 2 MiB of them.

        Raises:
            NodeError: NOT_FOUND, unless the caller is the contract's consumer.
        """

        def find(connection: sa.Connection) -> tuple[SequencedBytes, ...]:
            if self._held(connection, contract_id, caller) is None:
                raise NodeError("NOT_FOUND")
            return events_after(connection, contract_id, known_position)

        return await self._ledger.read(find)

    async def watch_events(self, caller: str, cursor: str) -> AsyncGenerator[ContractNews, None]:
        """Streams events of the caller's contracts with this node, without end.

        Args:
            caller: The consumer.
            cursor: Of the last event received; empty starts from the beginning.

        Raises:
            NodeError: MALFORMED_MESSAGE: not a cursor.
        """
        after = parse_cursor(cursor)
        committed = self._ledger.size
        while batch := await self._news(caller, after):
            for news in batch:
                after = int(news.cursor)
                yield news
        async for entry in self._ledger.subscribe(committed):
            if entry.index <= after or entry.body.kind != EntryKind.CONTRACT:
                continue
            for news in await self._news(caller, after):
                after = int(news.cursor)
                yield news

    async def _news(self, caller: str, after: int) -> Sequence[ContractNews]:
        return await self._ledger.read(
            lambda connection: news_after(connection, caller, self._me, after)
        )

    async def act(self, contract_id: str, event_type: EventType, body: Body) -> ContractState:
        """Takes one step of this side: OFFER, TERMINATE, SUSPEND, RESUME, REVOKE or END.

        Raises:
            NodeError: NOT_FOUND (no contract of which this node is the provider), or why the
                step can't be taken.
        """

        def command(tx: Transaction) -> ContractState:
            state = self._own(tx.connection, contract_id)
            if isinstance(body, OfferBody):
                self._check_floor(self._current_entry(tx.connection, state), body.terms)
            return self._author(tx, self.expire_if_due(tx, state), event_type, body)

        return await self._ledger.commit(command)

    async def approve(self, contract_id: str) -> ContractState:
        """Agrees to what is asked.

        Raises:
            NodeError: NOT_FOUND, CONTRACT_TRANSITION_INVALID, CATALOG_VERSION_CONFLICT (the
                entry has changed since), TERMS_INVALID (weaker than the product's floor).
        """

        def command(tx: Transaction) -> ContractState:
            state = self._own(tx.connection, contract_id)
            self._check_floor(self._current_entry(tx.connection, state), state.terms)
            return self._agree(tx, state)

        return await self._ledger.commit(command)

    async def sweep(self) -> tuple[str, ...]:
        """Expires the agreements whose last moment has passed; returns their ids."""
        now = int(self._clock.now().timestamp() * 1000)
        due = await self._ledger.read(lambda connection: due_contracts(connection, self._me, now))
        expired = []
        for contract_id in due:
            try:
                await self._ledger.commit(partial(self._expire, contract_id))
            except NodeError as error:
                # One that can't be expired now must not keep the others alive; a use of it
                # is refused all the same, since the decision looks at the time itself.
                get_logger().warning(
                    "contract_not_expired", contract=contract_id, reason=error.reason
                )
            else:
                get_logger().info("contract_expired", contract=contract_id)
                expired.append(contract_id)
        return tuple(expired)

    def _expire(self, contract_id: str, tx: Transaction) -> None:
        self.expire_if_due(tx, self._own(tx.connection, contract_id))

    def expire_if_due(self, tx: Transaction, state: ContractState) -> ContractState:
        """Records the expiry of an agreement whose last moment has passed."""
        last = state.terms.not_after
        if state.agreement not in _LIVE or last is None or to_milliseconds(tx.now) <= last:
            return state
        return self._author(tx, state, EventType.EXPIRE, EmptyBody())

    def author(
        self, tx: Transaction, state: ContractState, event_type: EventType, body: Body
    ) -> ContractState:
        """Signs, places and records an event of this node, in a transaction of the caller.

        Raises:
            NodeError: The event can't follow.
        """
        return self._author(tx, state, event_type, body)

    def _held(
        self, connection: sa.Connection, contract_id: str, caller: str
    ) -> ContractState | None:
        """The contract, if this node provides it to the caller; a third party sees none."""
        state = find_state(connection, contract_id)
        if state is not None and (state.provider, state.consumer) != (self._me, caller):
            raise NodeError("NOT_FOUND")
        return state

    def _own(self, connection: sa.Connection, contract_id: str) -> ContractState:
        state = find_state(connection, contract_id)
        if state is None or state.provider != self._me:
            raise NodeError("NOT_FOUND")
        return state

    def _require_own_product(self, event: ContractEvent) -> None:
        """Refuses to begin a contract about what isn't this node's; fuller checks follow."""
        if not isinstance(event.body, RequestBody):
            raise NodeError("NOT_FOUND")
        if parse_product_id(event.body.product_id).participant_id != self._me:
            raise NodeError("NOT_FOUND")

    def _place(
        self, tx: Transaction, state: ContractState | None, envelope: Envelope
    ) -> ContractState:
        """Verifies, sequences and records the other side's event, and answers it."""
        with as_node_error(state):
            event = check_submission(state, envelope, self._members, tx.now)
        body = event.body
        offer = self._offered(tx, event.author, body) if isinstance(body, RequestBody) else None
        after = self._sequence(tx, state, envelope)
        if offer is not None:
            return self._answer(tx, after, offer)
        if event.type is EventType.ACCEPT:
            return self._conclude(tx, after)
        if event.type is EventType.VERIFY and after.agreed is not None:
            return self._author(tx, after, EventType.FINALIZE, ConfirmBody(after.agreed.digest))
        return after

    def _offered(self, tx: Transaction, consumer: str, body: RequestBody) -> Offer:
        published = self._entries.published_entry(tx.connection, body.product_id)
        if published is None or published.entry is None:
            raise NodeError("NOT_FOUND")
        entry = published.entry
        offer = entry.offer(body.offer_id)
        if offer is None or not offer.is_visible_to(consumer) or not entry.is_valid_at(tx.now):
            raise NodeError("NOT_FOUND")
        if published.digest != body.entry:
            raise NodeError(
                "CATALOG_VERSION_CONFLICT",
                "The product's entry has a newer version than the one asked about.",
            )
        return offer

    def _answer(self, tx: Transaction, state: ContractState, offer: Offer) -> ContractState:
        # No offer is weaker than its product's floor, and no answer weaker than its offer.
        answer = answer_request(offer, offer.limits, state.terms, tx.now)
        if isinstance(answer, Agree):
            return self._agree(tx, state)
        if isinstance(answer, Counter):
            return self._author(tx, state, EventType.OFFER, OfferBody(answer.terms))
        if isinstance(answer, Refuse):
            return self._refuse(tx, state, answer.reason)
        return state

    def _conclude(self, tx: Transaction, state: ContractState) -> ContractState:
        """Agrees to this node's own offer that was accepted, unless it can't hold any more."""
        try:
            self._check_floor(self._current_entry(tx.connection, state), state.terms)
        except NodeError:
            return self._refuse(tx, state, "the product was changed or withdrawn meanwhile")
        last = state.terms.not_after
        if last is not None and last < tx.now:
            return self._refuse(tx, state, "no time is left within the terms' validity")
        return self._agree(tx, state)

    def _current_entry(self, connection: sa.Connection, state: ContractState) -> CatalogEntry:
        """The entry that the contract is asked under, if it is still the newest."""
        published = self._entries.published_entry(connection, state.product_id)
        if published is None or published.entry is None or published.digest != state.entry:
            raise NodeError(
                "CATALOG_VERSION_CONFLICT",
                "The product's entry was changed or withdrawn since it was asked about; "
                "refuse, and let the consumer ask anew.",
            )
        return published.entry

    def _check_floor(self, entry: CatalogEntry, terms: Terms) -> None:
        if not terms.stricter_or_equal(entry.release):
            raise NodeError(
                "TERMS_INVALID",
                f"The product releases by {entry.release}; terms can only be stricter.",
            )

    def _agree(self, tx: Transaction, state: ContractState) -> ContractState:
        agreement = state.pending_agreement(to_milliseconds(tx.now))
        return self._author(tx, state, EventType.AGREE, AgreeBody(agreement))

    def _refuse(self, tx: Transaction, state: ContractState, reason: str) -> ContractState:
        return self._author(tx, state, EventType.TERMINATE, ReasonBody(reason[:MAX_REASON]))

    def _author(
        self, tx: Transaction, state: ContractState, event_type: EventType, body: Body
    ) -> ContractState:
        with as_node_error(state):
            event = draft_event(state, event_type, body, author=self._me, time=tx.now)
            envelope = event.sign(self._key)
            check_submission(state, envelope, self._members, tx.now)
        return self._sequence(tx, state, envelope)

    def _sequence(
        self, tx: Transaction, state: ContractState | None, envelope: Envelope
    ) -> ContractState:
        with as_node_error(state):
            sequenced = sequence(state, envelope, self._key, tx.now)
        event = unverified_event(envelope)
        consumer = event.author if state is None else state.consumer
        tx.record(
            EntryKind.CONTRACT,
            sequenced.to_json(),
            parties=[self._me, consumer],
            contract_id=event.contract_id,
        )
        after = find_state(tx.connection, event.contract_id)
        if after is None:
            raise NodeError("INTERNAL", private="a recorded contract event left no state")
        return after
