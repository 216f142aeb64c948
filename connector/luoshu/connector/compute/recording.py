"""What a computation writes into the log at the holder, each inside one transaction.

Whatever belongs together is in one commit: a decision and the use that it debits; an end, what
it debits of the contract's counter, and the suspension that follows when that is used up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from luoshu.connector.compute import budget, entries
from luoshu.connector.compute.budget import PrivacyCharge
from luoshu.connector.compute.entries import Pseudonyms, Subject
from luoshu.connector.compute.gatekeeping import AuthenticRequest, Gatekeeper, RequestKey, Ruling
from luoshu.connector.compute.history import ScopedHistory
from luoshu.connector.compute.measured import measurement_refusal
from luoshu.connector.compute.outcome import ComputationState, Refusal
from luoshu.connector.compute.projection import Computation, find_computation, find_debits
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Transaction
from luoshu.contracts.contract import ContractState
from luoshu.sandbox.run import Outcome

__all__ = ["Recorder", "Verdict"]

SUSPENDED: Final = "The holder looks at what was asked under this contract before it goes on."
"""What the analyst's side reads. It is constant: neither how often nor why is told."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was ruled in a transaction; a refusal is in it and yet to be raised."""

    state: ContractState
    ruling: Ruling
    refused: NodeError | None


class Recorder:
    """Writes decisions and ends. Holds no state of its own."""

    def __init__(self, node_id: str, gatekeeper: Gatekeeper, pseudonyms: Pseudonyms) -> None:
        self._node_id = node_id
        self._gatekeeper = gatekeeper
        self._pseudonyms = pseudonyms

    def verdict(self, tx: Transaction, asked: AuthenticRequest) -> Verdict:
        """Rules on this moment, and writes a refusal down.

        Who asks is checked again: the request may have waited for its turn, and its
        organisation may have been revoked meanwhile.
        """
        self._gatekeeper.require_current(asked, tx.now)
        state = self._gatekeeper.contract_of(tx.connection, asked)
        state = self._gatekeeper.expire_if_due(tx, state)
        ruling = self._gatekeeper.rule(tx.connection, asked, state, tx.now)
        if ruling.refusal is None:
            return Verdict(state, ruling, None)
        index = self.refusal(tx, asked, ruling.refusal, ruling)
        return Verdict(state, ruling, ruling.refusal.error(index))

    def decision(
        self,
        tx: Transaction,
        asked: AuthenticRequest,
        measurement: str,
        charge: PrivacyCharge | None,
    ) -> NodeError | None:
        """Decides on this moment's meters and budgets; debits use and privacy if it is allowed.

        Args:
            tx: The transaction.
            asked: The request.
            measurement: Digest of everything a worker can see.
            charge: What the computation costs in privacy; None outside of mode ``dp``.

        Returns:
            The refusal, to be raised; None if the computation may start.
        """
        verdict = self.verdict(tx, asked)
        if verdict.refused is None:
            ruling, contract_id = verdict.ruling, asked.request.contract_id
            if other := measurement_refusal(verdict.state.terms, measurement):
                return other.error(self.refusal(tx, asked, other, ruling))
            if charge is not None and (
                exhausted := budget.refusal_of(tx.connection, contract_id, charge)
            ):
                return exhausted.error(self.refusal(tx, asked, exhausted, ruling))
            index = tx.record(
                entries.DECISION,
                entries.allowed(
                    self._subject(asked),
                    ruling.decision,
                    ruling.decision_input,
                    measurement,
                    None if charge is None else charge.to_json(),
                ),
                parties=(self._node_id, asked.consumer.participant_id),
                contract_id=contract_id,
            )
            self._gatekeeper.record_use(tx, verdict.state, asked, index)
        return verdict.refused

    def refusal(
        self, tx: Transaction, asked: AuthenticRequest, refusal: Refusal, ruling: Ruling | None
    ) -> int:
        """Writes a refusal, by policy or by the guard; returns its index."""
        return tx.record(
            entries.DECISION,
            entries.refused(
                self._subject(asked),
                refusal,
                ruling.decision if ruling else None,
                ruling.decision_input if ruling else None,
            ),
            parties=(self._node_id, asked.consumer.participant_id),
            contract_id=asked.request.contract_id,
        )

    def release(
        self,
        tx: Transaction,
        asked: AuthenticRequest,
        outcome: Outcome,
        *,
        result_digest: str,
        history: ScopedHistory | None,
        debits: int,
    ) -> None:
        """Writes a release, and how it fared against the history for the holder alone.

        Args:
            tx: The transaction.
            asked: The request.
            outcome: What is released.
            result_digest: Of the stored result.
            history: What it was compared with; None if its mode compares nothing.
            debits: Those after which the contract is suspended.

        Raises:
            NodeError: ``INTERNAL``, the request isn't decided.
        """
        stored = find_computation(tx.connection, *asked.key)
        if stored is None or stored.state is not ComputationState.DECIDED:
            raise NodeError("INTERNAL", private="a result without a decision")
        contract_id = asked.request.contract_id
        if history is not None:
            tx.record(
                entries.HISTORY,
                entries.compared(
                    asked.request.id, stored.decision_index, history, outcome.conflicts
                ),
                parties=(self._node_id,),
                contract_id=contract_id,
            )
        tx.record(
            entries.RELEASE,
            entries.released(
                asked.request.id,
                asked.digest,
                stored.decision_index,
                result_digest=result_digest,
                rows=len(outcome.rows),
                columns=outcome.columns,
            ),
            parties=(self._node_id, asked.consumer.participant_id),
            contract_id=contract_id,
        )
        if outcome.conflicts:
            self._suspend_if_used_up(tx, contract_id, debits)

    def failure(
        self, tx: Transaction, key: RequestKey, reason: str, debits: int | None
    ) -> ComputationState | None:
        """Writes the failure of a request that is decided and has no outcome.

        Args:
            tx: The transaction.
            key: The request.
            reason: Why.
            debits: Those after which the contract is suspended; None if it isn't known,
                and nothing ran.

        Returns:
            The request's state after that; None if it was never decided.
        """
        stored = find_computation(tx.connection, *key)
        if stored is None or stored.state is not ComputationState.DECIDED:
            return None if stored is None else stored.state
        before = find_debits(tx.connection, stored.contract_id)
        self.end(tx, stored, reason)
        if debits is not None and find_debits(tx.connection, stored.contract_id) > before:
            self._suspend_if_used_up(tx, stored.contract_id, debits)
        return ComputationState.FAILED

    def end(self, tx: Transaction, one: Computation, reason: str) -> None:
        """Writes the failure of a stored computation."""
        tx.record(
            entries.FAILURE,
            entries.failed(one.request_id, one.request_digest, one.decision_index, reason),
            parties=(self._node_id, one.consumer),
            contract_id=one.contract_id,
        )

    def _suspend_if_used_up(self, tx: Transaction, contract_id: str, debits: int) -> None:
        if find_debits(tx.connection, contract_id) >= debits:
            self._gatekeeper.suspend(tx, contract_id, SUSPENDED)

    def _subject(self, asked: AuthenticRequest) -> Subject:
        return Subject(
            asked.request.id,
            asked.digest,
            asked.consumer.participant_id,
            self._pseudonyms.of(asked.request.user_id),
        )
