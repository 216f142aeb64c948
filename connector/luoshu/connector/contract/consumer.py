"""The consumer's side: makes contracts about other holders' products.

The provider sequences; this side signs its own steps, verifies everything that comes back
and commits it to its own log. Nothing that a provider says is believed unless both
signatures and the machine of `luoshu.contracts.contract` hold. It only dials out: what a
provider does by itself arrives on a stream that this side keeps open (`follow`).

Where an answer is lost, nothing is: the provider holds the event, and `refresh` fetches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from luoshu.connector.clock import Clock
from luoshu.connector.contract.errors import as_node_error
from luoshu.connector.contract.ports import ContractPeer, Entries, Members
from luoshu.connector.contract.store import (
    event_digests,
    find_cursor,
    find_state,
    holds_event,
    list_states,
    providers_of,
    save_cursor,
)
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.observability import get_logger
from luoshu.connector.peer_port import SequencedBytes
from luoshu.contracts.contract import (
    ConfirmBody,
    ContractState,
    EventType,
    NegotiationState,
    Position,
    RequestBody,
    SequencedEvent,
    apply,
    check_submission,
    draft_event,
)
from luoshu.contracts.contract.bodies import Body
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.ids import contract_id as contract_id_of
from luoshu.contracts.keys import SigningKey
from luoshu.contracts.log.entry import EntryKind
from luoshu.contracts.offer import Offer
from luoshu.contracts.product import CatalogEntry
from luoshu.contracts.terms import Terms

__all__ = ["ContractConsumer"]

MAX_PAGES: Final = 10_000
"""Answers of `list_events` that are read in one go at most; each holds at least one event."""

_LOST_ANSWER: Final = frozenset(
    {"PEER_UNREACHABLE", "DEADLINE_EXCEEDED", "CONTRACT_EVENT_REPLAYED", "CONTRACT_STALE_HEAD"}
)
"""After these, the provider may hold more than this side does."""


class _GapError(Exception):
    """An event before the one received is missing here."""


class ContractConsumer:
    """Negotiates for this node and keeps up with its providers."""

    def __init__(
        self,
        ledger: Ledger,
        peer: ContractPeer,
        members: Members,
        learn: Callable[[str], Awaitable[object]],
        entries: Entries,
        *,
        clock: Clock,
        participant_id: str,
        events_key: SigningKey,
        new_id: Callable[[], UUID],
    ) -> None:
        """Builds the consumer's side.

        Args:
            ledger: This node's.
            peer: Reaches providers.
            members: Keys of the other side.
            learn: Asks the operator for a member's credential; `members` knows it then.
            entries: The space's catalog, verified.
            clock: For times of signing.
            participant_id: This node.
            events_key: Signs events.
            new_id: Source of random (version 4) UUIDs.
        """
        self._ledger = ledger
        self._peer = peer
        self._members = members
        self._learn = learn
        self._entries = entries
        self._clock = clock
        self._me = participant_id
        self._key = events_key
        self._new_id = new_id
        self._met = asyncio.Event()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    async def request(self, product_id: str, offer_id: str, terms: Terms | None) -> ContractState:
        """Asks a product's holder for a contract.

        Args:
            product_id: The product; its entry is read and verified first.
            offer_id: The offer; may be empty if exactly one is visible to this node.
            terms: The terms asked for; None asks for the offer's own.

        Returns:
            The contract after the provider's answer, concluded where it agreed.

        Raises:
            NodeError: NOT_FOUND (no such product or offer for this node), or what the
                provider refused. If the answer was lost, the contract shows up by itself.
        """
        found = (await self._entries.get_entry(product_id)).verified
        offer = self._visible_offer(found.entry, offer_id)
        contract_id = contract_id_of(self._new_id())
        body = RequestBody(product_id, offer.id, terms or offer.terms, found.digest)
        await self._meet(found.entry.issuer)
        async with self._lock(contract_id):
            return await self._step(found.entry.issuer, contract_id, None, EventType.REQUEST, body)

    async def counter(self, contract_id: str, terms: Terms) -> ContractState:
        """Asks again with other terms, under the newest version of the product's entry.

        Raises:
            NodeError: NOT_FOUND, or why the step can't be taken.
        """
        state = await self._own(contract_id)
        found = (await self._entries.get_entry(state.product_id)).verified
        body = RequestBody(state.product_id, state.offer_id, terms, found.digest)
        return await self.act(contract_id, EventType.REQUEST, body)

    async def act(self, contract_id: str, event_type: EventType, body: Body) -> ContractState:
        """Takes one step of this side: REQUEST, ACCEPT, TERMINATE or END.

        Raises:
            NodeError: NOT_FOUND (no contract of which this node is the consumer), why the
                step can't be taken, or CONTRACT_STALE_HEAD: the provider moved first; its
                events have been fetched, so look and decide again.
        """
        async with self._lock(contract_id):
            state = await self._own(contract_id)
            return await self._step(state.provider, contract_id, state, event_type, body)

    async def refresh(self, contract_id: str) -> None:
        """Fetches the events that the provider has written since, and takes automatic steps.

        Does nothing for a contract of which this node is the provider.

        Raises:
            NodeError: NOT_FOUND; the provider can't be reached or what it sent isn't valid.
        """
        state = await self._ledger.read(lambda connection: find_state(connection, contract_id))
        if state is None:
            raise NodeError("NOT_FOUND")
        if state.consumer != self._me:
            return
        async with self._lock(contract_id):
            await self._catch_up(state.provider, contract_id)
            await self._advance(contract_id)

    async def providers(self) -> tuple[str, ...]:
        """Returns the providers whose streams this node should follow."""
        return await self._ledger.read(lambda connection: providers_of(connection, self._me))

    async def wait_met(self) -> None:
        """Waits until `providers` may have a new one."""
        await self._met.wait()
        self._met.clear()

    async def _meet(self, provider: str) -> None:
        """Remembers a provider before it is first asked, so that a lost answer is followed up."""
        if provider in await self.providers():
            return
        await self._ledger.commit(lambda tx: save_cursor(tx.connection, provider, ""))
        self._met.set()

    async def follow(self, provider: str) -> None:
        """Takes in what a provider does by itself, until the stream ends.

        Steps that a stop of this node left open are taken first. A contract whose events
        don't verify, or can't be taken in whatever the cause, stands still, and the others
        go on.

        Raises:
            NodeError: The provider can't be reached; call again.
        """
        await self._know(provider)
        await self._resume(provider)
        cursor = await self._ledger.read(lambda connection: find_cursor(connection, provider))
        async for news in self._peer.watch_events(provider, cursor):
            try:
                await self._take_in(provider, news.contract_id, news.event, news.cursor)
            except Exception as error:
                refusal = NodeError.from_reason(error)
                if refusal.status == "UNAVAILABLE":
                    raise refusal from error
                get_logger().warning(
                    "contract_event_refused",
                    peer=provider,
                    contract=news.contract_id,
                    reason=refusal.reason,
                    incident=refusal.incident,
                    exc_info=error if refusal.incident else None,
                )

    async def _take_in(
        self, provider: str, contract_id: str, event: SequencedBytes, cursor: str
    ) -> None:
        async with self._lock(contract_id):
            try:
                await self._receive(provider, contract_id, [event], cursor)
            except _GapError:
                await self._catch_up(provider, contract_id)
            await self._advance(contract_id)

    async def _resume(self, provider: str) -> None:
        """Takes the automatic steps of contracts that stand between two of them."""
        waiting = await self._ledger.read(
            lambda connection: [
                state.contract_id
                for state in list_states(connection, NegotiationState.AGREED.value)
                if (state.consumer, state.provider) == (self._me, provider)
            ]
        )
        for contract_id in waiting:
            async with self._lock(contract_id):
                await self._advance(contract_id)

    async def _step(
        self,
        provider: str,
        contract_id: str,
        state: ContractState | None,
        event_type: EventType,
        body: Body,
    ) -> ContractState:
        """Signs, submits and takes in the answer. The contract is locked."""
        await self._know(provider)
        now = self._clock.now()
        with as_node_error(state):
            event = draft_event(
                state,
                event_type,
                body,
                author=self._me,
                time=now,
                contract_id=contract_id if state is None else None,
            )
            envelope = event.sign(self._key)
            check_submission(state, envelope, self._members, now)
        try:
            answer = await self._peer.submit_event(
                provider, envelope.to_bytes(), 0 if state is None else state.position
            )
        except NodeError as error:
            if error.reason not in _LOST_ANSWER:
                raise
            await self._catch_up_quietly(provider, contract_id)
            if not await self._ledger.read(
                lambda connection: holds_event(connection, contract_id, envelope.digest)
            ):
                raise
        else:
            try:
                await self._receive(provider, contract_id, answer)
            except _GapError:
                await self._catch_up(provider, contract_id)
        after = await self._advance(contract_id)
        if after is None:
            raise NodeError(
                "CONTRACT_SIGNATURE_INVALID", "The provider answered without the event it was sent."
            )
        return after

    async def _advance(self, contract_id: str) -> ContractState | None:
        """Confirms an agreement that says what was negotiated. The contract is locked.

        `apply` let the provider's agreement pass only because it names the terms on the
        table: those that this side asked for, or accepted. So it may be confirmed.
        """
        state = await self._ledger.read(lambda connection: find_state(connection, contract_id))
        if (
            state is None
            or state.consumer != self._me
            or state.negotiation is not NegotiationState.AGREED
            or state.agreed is None
        ):
            return state
        confirmation = ConfirmBody(state.agreed.digest)
        try:
            return await self._step(
                state.provider, contract_id, state, EventType.VERIFY, confirmation
            )
        except NodeError as error:
            if error.reason not in _LOST_ANSWER:
                raise
            # What was agreed stands; `follow` takes this step as soon as it can be taken.
            get_logger().info(
                "contract_not_confirmed",
                peer=state.provider,
                contract=contract_id,
                reason=error.reason,
            )
            return await self._ledger.read(lambda connection: find_state(connection, contract_id))

    async def _catch_up(self, provider: str, contract_id: str) -> None:
        """Fetches what is missing. The contract is locked."""
        await self._know(provider)
        for _ in range(MAX_PAGES):
            state = await self._ledger.read(lambda connection: find_state(connection, contract_id))
            known = 0 if state is None else state.position
            events = await self._peer.list_events(provider, contract_id, known)
            if not events:
                return
            try:
                await self._receive(provider, contract_id, events)
            except _GapError:
                raise NodeError(
                    "CONTRACT_TRANSITION_INVALID",
                    "The provider's list of this contract's events has a gap.",
                ) from None

    async def _catch_up_quietly(self, provider: str, contract_id: str) -> None:
        """Catches up after a failure that is reported anyway."""
        try:
            await self._catch_up(provider, contract_id)
        except NodeError as error:
            get_logger().info(
                "contract_not_refreshed", peer=provider, contract=contract_id, reason=error.reason
            )

    async def _receive(
        self,
        provider: str,
        contract_id: str,
        events: Sequence[SequencedBytes],
        cursor: str | None = None,
    ) -> None:
        """Verifies events and commits those that are new.

        Raises:
            NodeError: One of them isn't valid; none is taken.
            _GapError: An event before the first is missing.
        """
        with as_node_error():
            parsed = [_parse(event) for event in events]
        if await self._ledger.read(lambda connection: self._all_held(connection, parsed)):
            return  # the stream's echo of what came as an answer: not worth an fsync

        def command(tx: Transaction) -> None:
            state = find_state(tx.connection, contract_id)
            for sequenced, place in parsed:
                if self._is_held(tx.connection, state, sequenced, place):
                    continue
                if place.position > (0 if state is None else state.position) + 1:
                    raise _GapError
                with as_node_error(state):
                    after = apply(state, sequenced, self._members, tx.now)
                if (after.contract_id, after.provider, after.consumer) != (
                    contract_id,
                    provider,
                    self._me,
                ):
                    raise NodeError(
                        "CONTRACT_WRONG_PARTY", "An event is of a contract of other parties."
                    )
                with as_node_error():
                    tx.record(
                        EntryKind.CONTRACT,
                        sequenced.to_json(),
                        parties=[provider, self._me],
                        contract_id=contract_id,
                    )
                state = after
            if cursor is not None:
                save_cursor(tx.connection, provider, cursor)

        await self._ledger.commit(command)

    def _all_held(
        self, connection: sa.Connection, parsed: Sequence[tuple[SequencedEvent, Position]]
    ) -> bool:
        return all(
            self._is_held(connection, find_state(connection, place.contract_id), sequenced, place)
            for sequenced, place in parsed
        )

    def _is_held(
        self,
        connection: sa.Connection,
        state: ContractState | None,
        sequenced: SequencedEvent,
        place: Position,
    ) -> bool:
        """Whether an event is held already; another one at its place is evidence."""
        if state is None or place.position > state.position:
            return False
        if place.contract_id != state.contract_id:
            return False
        held = event_digests(connection, state.contract_id, place.position)
        if held != (sequenced.event.digest, sequenced.position.digest):
            raise NodeError(
                "PROOF_INVALID",
                f"The provider placed another event at position {place.position} than it showed "
                "before. Keep what you hold of this contract as evidence.",
            )
        return True

    async def _own(self, contract_id: str) -> ContractState:
        state = await self._ledger.read(lambda connection: find_state(connection, contract_id))
        if state is None or state.consumer != self._me:
            raise NodeError("NOT_FOUND")
        return state

    async def _know(self, participant_id: str) -> None:
        """Makes sure that a member's keys are known."""
        try:
            self._members.require_known(participant_id, self._clock.now())
        except NodeError as error:
            if error.reason not in {"CREDENTIAL_MISSING", "CREDENTIAL_EXPIRED"}:
                raise
            await self._learn(participant_id)

    def _visible_offer(self, entry: CatalogEntry, offer_id: str) -> Offer:
        visible = [offer for offer in entry.offers if offer.is_visible_to(self._me)]
        if not offer_id and len(visible) == 1:
            return visible[0]
        if not offer_id and visible:
            raise NodeError(
                "MALFORMED_MESSAGE",
                f"Name one of the offers: {', '.join(offer.id for offer in visible)}.",
            )
        for offer in visible:
            if offer.id == offer_id:
                return offer
        raise NodeError("NOT_FOUND")

    @asynccontextmanager
    async def _lock(self, contract_id: str) -> AsyncIterator[None]:
        """One step at a time in a contract: its own, or one that arrives."""
        lock, waiting = self._locks.get(contract_id, (asyncio.Lock(), 0))
        self._locks[contract_id] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks[contract_id]
            if waiting == 1:
                del self._locks[contract_id]
            else:
                self._locks[contract_id] = (lock, waiting - 1)


def _parse(event: SequencedBytes) -> tuple[SequencedEvent, Position]:
    sequenced = SequencedEvent(
        Envelope.from_bytes(event.event), Envelope.from_bytes(event.position)
    )
    return sequenced, Position.from_payload(unverified_payload(sequenced.position))
