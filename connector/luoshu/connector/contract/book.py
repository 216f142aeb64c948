"""What computations ask of this node's contracts: state, entry, expiry, debits.

Implements `luoshu.connector.compute.gatekeeping.ContractBook`. Nothing here decides
whether a use is allowed: policy does, on the state and the meter read here.
"""

from __future__ import annotations

import sqlalchemy as sa

from luoshu.connector.contract.ports import OwnEntries
from luoshu.connector.contract.provider import ContractProvider
from luoshu.connector.contract.replay import used_request
from luoshu.connector.contract.store import Use, find_state, find_use
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Transaction
from luoshu.contracts.contract import (
    AgreementState,
    ContractState,
    EventType,
    ReasonBody,
    UseBody,
)
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.product import CatalogEntry

__all__ = ["ContractBook"]


class ContractBook:
    """Reads contracts and debits uses inside the transactions of computations."""

    def __init__(self, provider: ContractProvider, entries: OwnEntries) -> None:
        """Builds the book.

        Args:
            provider: Signs and sequences.
            entries: What this node published.
        """
        self._provider = provider
        self._entries = entries

    def find(self, connection: sa.Connection, contract_id: str) -> ContractState | None:
        """Returns a contract's newest state, whichever side this node is on, or None."""
        return find_state(connection, contract_id)

    def entry_of(self, connection: sa.Connection, state: ContractState) -> CatalogEntry:
        """Returns the catalog entry that a contract of this provider is about.

        It is the one that was current when the contract was asked for, also if it was
        withdrawn since.

        Raises:
            NodeError: NOT_FOUND: this node never signed it.
        """
        entry = self._entries.entry_by_digest(connection, state.entry)
        if entry is None:
            raise NodeError("NOT_FOUND")
        return entry

    def expire_if_due(self, tx: Transaction, state: ContractState) -> ContractState:
        """Records the expiry of an agreement whose last moment has passed."""
        return self._provider.expire_if_due(tx, state)

    def record_use(
        self,
        tx: Transaction,
        state: ContractState,
        *,
        request: Envelope,
        user: Envelope,
        decision_index: int,
    ) -> Use:
        """Debits a use: signs, sequences and records the use event.

        Args:
            tx: The transaction of the decision, so that both are durable or neither is.
            state: The contract as read in this transaction.
            request: The user's signed computation request.
            user: The user's credential.
            decision_index: Index of the decision's entry in this node's log.

        Returns:
            The use. A request that was debited before isn't debited again: its first use
            is returned.

        Raises:
            NodeError: The event can't follow: CONTRACT_NOT_ACTIVE, USES_EXHAUSTED, or the
                request isn't a valid one of the consumer's user.
        """
        body = UseBody(request=request, user=user, decision=decision_index)
        request_id = used_request(body)
        known = find_use(tx.connection, state.contract_id, request_id)
        if known is not None:
            return known
        after = self._provider.author(tx, state, EventType.USE, body)
        return Use(request_id, after.position, after.uses, decision_index)

    def suspend(self, tx: Transaction, state: ContractState, reason: str) -> None:
        """Suspends an active contract until this node's users resume it; else does nothing.

        Args:
            tx: The transaction of what it is suspended for.
            state: The contract as read in this transaction.
            reason: For the other side to read.
        """
        if state.agreement is AgreementState.ACTIVE:
            self._provider.author(tx, state, EventType.SUSPEND, ReasonBody(reason))

    def find_use(self, connection: sa.Connection, contract_id: str, request_id: str) -> Use | None:
        """Returns the use that was debited for a request, or None."""
        return find_use(connection, contract_id, request_id)
