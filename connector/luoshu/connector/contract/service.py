"""Contracts as this node's users meet them, whichever side the node is on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from luoshu.connector.catalog.service import parse_cursor
from luoshu.connector.contract.consumer import ContractConsumer
from luoshu.connector.contract.ports import Members
from luoshu.connector.contract.provider import ContractProvider
from luoshu.connector.contract.store import events_after, find_state, list_page, list_states
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger
from luoshu.connector.peer_port import SequencedBytes
from luoshu.contracts.canonical import parse_object
from luoshu.contracts.contract import (
    ContractState,
    EmptyBody,
    EventType,
    OfferBody,
    ReasonBody,
)
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.fields import check_text
from luoshu.contracts.log.entry import EntryKind
from luoshu.contracts.terms import Terms

__all__ = ["ContractAction", "ContractDetails", "ContractService", "read_terms"]

MAX_TERMS_BYTES = 64 << 10
MAX_REASON = 500


class ContractAction(StrEnum):
    """Steps that a user takes; the names of the API."""

    ACCEPT = "accept"
    COUNTER = "counter"
    APPROVE = "approve"
    REFUSE = "refuse"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    END = "end"


_GOVERNING = {
    ContractAction.REFUSE: EventType.TERMINATE,
    ContractAction.SUSPEND: EventType.SUSPEND,
    ContractAction.RESUME: EventType.RESUME,
    ContractAction.REVOKE: EventType.REVOKE,
    ContractAction.END: EventType.END,
}


@dataclass(frozen=True, slots=True)
class ContractDetails:
    """A contract with all that proves it.

    Attributes:
        state: Its newest state.
        events: Events and positions after a place, as signed, in order.
        provider_credential: Envelope of the provider's membership credential; empty if
            this node doesn't know it.
        consumer_credential: Envelope of the consumer's.
        debits: Where this node is the provider: computations that the release history
            withheld something from, or that failed, since it began or was resumed.
    """

    state: ContractState
    events: tuple[SequencedBytes, ...]
    provider_credential: bytes
    consumer_credential: bytes
    debits: int | None


class ContractService:
    """Makes, lists, watches and governs the contracts of this node."""

    def __init__(
        self,
        ledger: Ledger,
        members: Members,
        provider: ContractProvider,
        consumer: ContractConsumer,
        *,
        participant_id: str,
        debits: Callable[[sa.Connection, str], int],
    ) -> None:
        """Builds the service.

        Args:
            ledger: This node's.
            members: For the parties' credentials.
            provider: This node as a provider.
            consumer: This node as a consumer.
            participant_id: This node.
            debits: Reads a contract's, see `luoshu.connector.compute.projection`.
        """
        self._ledger = ledger
        self._debits = debits
        self._members = members
        self._provider = provider
        self._consumer = consumer
        self._me = participant_id

    async def request(self, product_id: str, offer_id: str, terms: bytes) -> ContractState:
        """Asks a provider for a contract; see `ContractConsumer.request`.

        Args:
            product_id: The product.
            offer_id: The offer; may be empty if there is only one for this node.
            terms: JSON of the terms asked for; empty asks for the offer's own.

        Raises:
            NodeError: TERMS_INVALID, or as there.
        """
        return await self._consumer.request(
            product_id, offer_id, read_terms(terms) if terms else None
        )

    async def act(
        self, contract_id: str, action: ContractAction, terms: bytes = b"", reason: str = ""
    ) -> ContractState:
        """Takes one step of this node's side.

        Args:
            contract_id: The contract.
            action: The step.
            terms: JSON of the terms, for COUNTER only.
            reason: Why, for the other side to read; at most 500 characters.

        Returns:
            The contract after it, and after what followed by itself.

        Raises:
            NodeError: NOT_FOUND, TERMS_INVALID, CONTRACT_WRONG_PARTY (a step of the other
                side), CONTRACT_TRANSITION_INVALID (not now), or what the provider refused.
        """
        state = await self._find(contract_id)
        try:
            check_text(reason, max_length=MAX_REASON, empty=True)
        except ContractsError as error:
            raise NodeError("MALFORMED_MESSAGE", f"The reason: {error.message}.") from error
        is_provider = state.provider == self._me
        if action in _GOVERNING:
            side = self._provider if is_provider else self._consumer
            return await side.act(contract_id, _GOVERNING[action], ReasonBody(reason))
        if action is ContractAction.COUNTER:
            wanted = read_terms(terms)
            if is_provider:
                return await self._provider.act(contract_id, EventType.OFFER, OfferBody(wanted))
            return await self._consumer.counter(contract_id, wanted)
        if is_provider != (action is ContractAction.APPROVE):
            other = "consumer" if is_provider else "provider"
            raise NodeError("CONTRACT_WRONG_PARTY", f"It is for the {other} to {action}.")
        if is_provider:
            return await self._provider.approve(contract_id)
        return await self._consumer.act(contract_id, EventType.ACCEPT, EmptyBody())

    async def list(self, state: str = "") -> tuple[ContractState, ...]:
        """Returns contracts, newest first.

        Args:
            state: Keep only those in this negotiation or agreement state; empty keeps all.
        """
        return await self._ledger.read(lambda connection: list_states(connection, state))

    async def page(self, state: str, token: str) -> tuple[tuple[ContractState, ...], str]:
        """Returns contracts, newest first, as many as one answer holds.

        Args:
            state: As for `list`.
            token: Of the page before; empty for the first.

        Returns:
            The contracts, and the token of the next page; empty for the last.

        Raises:
            NodeError: MALFORMED_MESSAGE: not a token.
        """
        before = parse_cursor(token) if token else None
        found, rest = await self._ledger.read(
            lambda connection: list_page(connection, state, before)
        )
        return found, "" if rest is None else str(rest)

    async def get(self, contract_id: str, known_position: int = 0) -> ContractDetails:
        """Returns a contract with its events.

        The other side decides how many and how large they are, so they come in pieces.

        Args:
            contract_id: The contract.
            known_position: Number of events that the caller holds; those after it are
                returned, at most 2 MiB of them.

        Raises:
            NodeError: NOT_FOUND.
        """

        def find(
            connection: sa.Connection,
        ) -> tuple[ContractState | None, tuple[SequencedBytes, ...], int]:
            return (
                find_state(connection, contract_id),
                events_after(connection, contract_id, known_position),
                self._debits(connection, contract_id),
            )

        state, events, debits = await self._ledger.read(find)
        if state is None:
            raise NodeError("NOT_FOUND")
        return ContractDetails(
            state,
            events,
            self._credential(state.provider, state),
            self._credential(state.consumer, state),
            debits if state.provider == self._me else None,
        )

    async def watch(self, contract_id: str) -> AsyncGenerator[ContractState, None]:
        """Yields a contract's present state, then each new one, without end.

        Raises:
            NodeError: NOT_FOUND.
        """
        committed = self._ledger.size
        state = await self._find(contract_id)
        yield state
        async for entry in self._ledger.subscribe(committed):
            if entry.body.kind != EntryKind.CONTRACT or entry.body.contract_id != contract_id:
                continue
            newer = await self._find(contract_id)
            if newer.position > state.position:
                state = newer
                yield state

    async def _find(self, contract_id: str) -> ContractState:
        state = await self._ledger.read(lambda connection: find_state(connection, contract_id))
        if state is None:
            raise NodeError("NOT_FOUND")
        return state

    def _credential(self, participant_id: str, state: ContractState) -> bytes:
        known = self._members.credential_at(participant_id, state.changed_at)
        return b"" if known is None else known.envelope.to_bytes()


def read_terms(data: bytes) -> Terms:
    """Reads terms from JSON.

    Raises:
        NodeError: TERMS_INVALID, naming the field.
    """
    try:
        return Terms.from_payload(parse_object(data, max_bytes=MAX_TERMS_BYTES))
    except ContractsError as error:
        raise NodeError("TERMS_INVALID", f"The terms are not valid: {error.message}.") from error
