"""Who asks, under which contract, and whether policy allows this use now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from sqlalchemy import Connection

from luoshu.connector.compute.outcome import Refusal
from luoshu.connector.compute.templates import template_refusal
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Transaction
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.contract import AgreementState, ContractState
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.membership import MembershipCredential, UserRole, verify_user_credential
from luoshu.contracts.product import CatalogEntry
from luoshu.contracts.request import ComputationRequest, verify_request
from luoshu.policies import Decision, Meters, Party, PolicyEngine, Product, build_input

RequestKey: TypeAlias = tuple[str, str]
"""Consumer and request id: what others call their requests is nobody's business."""


@dataclass(frozen=True, slots=True)
class AuthenticRequest:
    """A request whose user and organisation are proven."""

    request: ComputationRequest
    envelope: Envelope
    user_envelope: Envelope
    consumer: MembershipCredential

    @property
    def digest(self) -> str:
        """Digest of what the user signed."""
        return self.envelope.digest

    @property
    def key(self) -> RequestKey:
        """What the request is known by."""
        return self.consumer.participant_id, self.request.id


class ContractBook(Protocol):
    """What a computation needs of the contracts of this node."""

    def find(self, connection: Connection, contract_id: str) -> ContractState | None:
        """The contract's state, or None."""
        ...

    def entry_of(self, connection: Connection, state: ContractState) -> CatalogEntry:
        """The catalog entry that the contract is about."""
        ...

    def expire_if_due(self, tx: Transaction, state: ContractState) -> ContractState:
        """Writes the expiry event of a contract whose end has passed."""
        ...

    def record_use(
        self,
        tx: Transaction,
        state: ContractState,
        *,
        request: Envelope,
        user: Envelope,
        decision_index: int,
    ) -> object:
        """Writes and sequences the use event: this debits."""
        ...

    def suspend(self, tx: Transaction, state: ContractState, reason: str) -> None:
        """Writes and sequences the suspension of an active contract."""
        ...


class Members(Protocol):
    """What is asked of the member directory."""

    def require_member(self, participant_id: str, now: datetime) -> MembershipCredential:
        """The credential of a member that may be trusted now."""
        ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """What policy said, with the input that it said it on, and what the request is refused for."""

    decision: Decision
    decision_input: JsonObject
    refusal: Refusal | None


class Gatekeeper:
    """Authenticates requests and asks policy about them. Holds no state of its own."""

    def __init__(
        self,
        *,
        own: MembershipCredential,
        members: Members,
        contracts: ContractBook,
        policy: PolicyEngine,
    ) -> None:
        self._own = own
        self._members = members
        self._contracts = contracts
        self._policy = policy

    def authenticate(
        self, caller: str, request: bytes, user_credential: bytes, now: datetime
    ) -> AuthenticRequest:
        """Checks that the request is of a user of the caller.

        Raises:
            NodeError: Malformed, not signed by the user, the user not of the
                caller or without the role `analyst`, too old or from the future.
        """
        try:
            user_envelope = Envelope.from_bytes(user_credential)
            envelope = Envelope.from_bytes(request)
        except ContractsError as error:
            raise NodeError.from_reason(error) from error
        return self._verify(caller, user_envelope, envelope, now)

    def require_current(self, request: AuthenticRequest, now: datetime) -> None:
        """Checks a request again that has waited since it was authenticated.

        Raises:
            NodeError: As `authenticate`: revoked, expired or too old by now.
        """
        caller = request.consumer.participant_id
        self._verify(caller, request.user_envelope, request.envelope, now)

    def _verify(
        self, caller: str, user_envelope: Envelope, envelope: Envelope, now: datetime
    ) -> AuthenticRequest:
        consumer = self._members.require_member(caller, now)
        try:
            user = verify_user_credential(user_envelope, consumer, now)
            asked = verify_request(envelope, user, now)
        except ContractsError as error:
            raise NodeError.from_reason(error) from error
        if not user.has_role(UserRole.ANALYST):
            raise NodeError("ROLE_REQUIRED", "Only a user with the role analyst may compute.")
        return AuthenticRequest(asked, envelope, user_envelope, consumer)

    def contract_of(self, connection: Connection, request: AuthenticRequest) -> ContractState:
        """The contract that the request names, if it is the caller's and executed here.

        Raises:
            NodeError: ``NOT_FOUND``, the same for unknown and for somebody else's.
        """
        return self.contract_between(
            connection, request.consumer.participant_id, request.request.contract_id
        )

    def contract_between(
        self, connection: Connection, consumer: str, contract_id: str
    ) -> ContractState:
        """A contract of a consumer that is executed here.

        Raises:
            NodeError: ``NOT_FOUND``, the same for unknown and for somebody else's.
        """
        state = self._contracts.find(connection, contract_id)
        if (
            state is None
            or state.consumer != consumer
            or state.provider != self._own.participant_id
        ):
            raise NodeError("NOT_FOUND")
        return state

    def rule(
        self, connection: Connection, request: AuthenticRequest, state: ContractState, now: datetime
    ) -> Ruling:
        """Asks policy about this use, on the meters of this connection's moment.

        What policy allows may still not be a query that the contract allows: policies see no
        SQL, so the node compares the request with the contract's templates itself.

        Raises:
            NodeError: ``POLICY_UNAVAILABLE``; the contract was never finalised
                (``CONTRACT_NOT_ACTIVE``).
        """
        agreement = state.agreement
        if agreement is None:
            raise NodeError("CONTRACT_NOT_ACTIVE", "The contract is not concluded yet.")
        entry = self._contracts.entry_of(connection, state)
        decision_input = build_input(
            now=now,
            request=request.request,
            terms=state.terms.to_payload(),
            agreement_state=agreement.value,
            meters=Meters(uses=state.uses),
            consumer=Party(request.consumer.participant_id, request.consumer.jurisdiction),
            provider=Party(self._own.participant_id, self._own.jurisdiction),
            product=Product(entry.id, entry.version, entry.classification.to_payload()),
        )
        decision = self._policy.decide(decision_input)
        refusal = refusal_of(decision, agreement) or template_refusal(state.terms, request.request)
        return Ruling(decision, decision_input, refusal)

    def record_use(
        self, tx: Transaction, state: ContractState, request: AuthenticRequest, decision_index: int
    ) -> None:
        """Debits the use, in the transaction of its decision."""
        self._contracts.record_use(
            tx,
            state,
            request=request.envelope,
            user=request.user_envelope,
            decision_index=decision_index,
        )

    def suspend(self, tx: Transaction, contract_id: str, reason: str) -> None:
        """Suspends a contract of this holder, if it is active, until the holder looks."""
        state = self._contracts.find(tx.connection, contract_id)
        if state is not None:
            self._contracts.suspend(tx, self._contracts.expire_if_due(tx, state), reason)

    def expire_if_due(self, tx: Transaction, state: ContractState) -> ContractState:
        """Notices an end that has passed, in the transaction of the decision."""
        return self._contracts.expire_if_due(tx, state)


def refusal_of(decision: Decision, agreement: AgreementState) -> Refusal | None:
    """The catalogue's reason for a policy's no: state first, then exhausted uses."""
    if decision.allow:
        return None
    by_rule = {reason.rule: reason.message for reason in decision.reasons}
    if "agreement_state" in by_rule:
        return Refusal(
            "CONTRACT_NOT_ACTIVE",
            f"The contract is {agreement.value.lower()}.",
            "agreement_state",
        )
    if set(by_rule) == {"count"}:
        return Refusal("USES_EXHAUSTED", by_rule["count"], "count")
    rule = next(iter(by_rule), "terms")
    return Refusal("POLICY_DENIED", by_rule.get(rule, "The contract does not allow it."), rule)
