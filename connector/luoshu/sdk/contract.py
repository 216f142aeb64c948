"""A digital contract, folded here from the events that both parties signed.

The node reports a state; this module doesn't take its word. It verifies both
parties' credentials, folds the signed events with the same pure functions that
the nodes use, and shows the state that follows. A node can hold back the newest
events, it can't invent or reorder any.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonValue, canonicalize
from luoshu.contracts.contract import (
    ContractState,
    RequestBody,
    SequencedEvent,
    fold,
    unverified_event,
)
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.membership import (
    MembershipCredential,
    SpaceTrust,
    UserCredential,
    verify_credential,
)
from luoshu.contracts.request import ComputationRequest
from luoshu.contracts.terms import Terms
from luoshu.contracts.times import to_milliseconds
from luoshu.sdk.computation import Computation, Parties, PhaseCallback
from luoshu.sdk.errors import DeadlineError, InvalidRequestError, VerificationError
from luoshu.sdk.explanation import Explanation, read_explanation
from luoshu.sdk.result import Result
from luoshu.sdk.rpc.client import NodeClient
from luoshu.sdk.rpc.messages import ContractAction, ContractAnswer, ContractSummary
from luoshu.sdk.templates import call_of
from luoshu.sdk.terms import Wish, as_list

WAITING_FOR_PROVIDER = frozenset({"REQUESTED", "ACCEPTED", "AGREED", "VERIFIED"})
"""States in which a consumer can only wait."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts through the SDK, and by what it judges others.

    Attributes:
        participant_id: The user's organisation.
        user_credential: As signed by it.
        user: The same, read.
        clock: Aware UTC.
    """

    participant_id: str
    trust: SpaceTrust
    user_credential: Envelope
    user: UserCredential
    request_key: SigningKey
    clock: Callable[[], dt.datetime]


@dataclass(frozen=True, slots=True)
class _Folded:
    """A contract as the signed events tell it."""

    state: ContractState
    provider: MembershipCredential
    consumer: MembershipCredential
    consumer_envelope: Envelope
    requested: Terms
    debits: int | None
    heads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Keys:
    """The events keys of a contract's two parties, as their present credentials list them.

    A renewed credential begins later than events that it still vouches for: it lists
    past keys so that what they signed stays verifiable. So only its end counts here.
    """

    members: dict[str, MembershipCredential] = field(default_factory=dict)

    def event_keys(self, participant_id: str, at: dt.datetime) -> tuple[PublicKey, ...]:
        """Keys that could sign events of a participant at a time."""
        member = self.members.get(participant_id)
        if member is None or at >= member.not_after:
            return ()
        return member.keys_for(KeyUse.EVENTS)


class Contract:
    """One contract; `refresh` reads it again, steps return it as it then is."""

    def __init__(self, client: NodeClient, contract_id: str, actor: Actor) -> None:
        self._client = client
        self._actor = actor
        self._id = contract_id
        self._folded = self._load()

    # What it says

    @property
    def id(self) -> str:
        """Contract id."""
        return self._id

    @property
    def signed_state(self) -> ContractState:
        """The state that follows from the signed events."""
        return self._folded.state

    @property
    def state(self) -> str:
        """Of the agreement once there is one (ACTIVE, ...), else of the negotiation."""
        state = self._folded.state
        current = state.agreement if state.agreement is not None else state.negotiation
        return str(current.value)

    @property
    def state_hash(self) -> str:
        """Digest of the state; both parties arrive at the same."""
        return self._folded.state.state_hash

    @property
    def product_id(self) -> str:
        """The product it is about."""
        return self._folded.state.product_id

    @property
    def provider(self) -> str:
        """Participant id of the holder."""
        return self._folded.state.provider

    @property
    def consumer(self) -> str:
        """Participant id of the analyst's organisation."""
        return self._folded.state.consumer

    @property
    def terms(self) -> Terms:
        """The terms on the table, or agreed."""
        return self._folded.state.terms

    @property
    def uses(self) -> int:
        """How many computations were debited, as of the last `refresh`."""
        return self._folded.state.uses

    @property
    def reason(self) -> str:
        """Why the last step was taken, in its author's words; may be empty."""
        return self._folded.state.reason

    @property
    def debits(self) -> int | None:
        """Holder: computations that the release history withheld something from, or that failed.

        Counted since the contract began or was resumed, as of the last `refresh`. Once there
        are as many as its terms allow (`terms.release.aggregate.debits`) it is suspended until
        it is resumed. None on the analyst's side, which isn't told.
        """
        return self._folded.debits

    def requested_terms(self) -> Terms:
        """The terms that its first request asked for."""
        return self._folded.requested

    def summary(self) -> dict[str, JsonValue]:
        """Plain facts, as the CLI prints them."""
        state = self._folded.state
        debits: dict[str, JsonValue] = {} if self.debits is None else {"debits": self.debits}
        return {
            "id": self.id,
            "state": self.state,
            "product": self.product_id,
            "provider": self.provider,
            "consumer": self.consumer,
            "offer": state.offer_id,
            "uses": self.uses,
            **debits,
            "reason": self.reason,
            "position": state.position,
            "state_hash": self.state_hash,
            "terms": self.terms.to_payload(),
        }

    def __repr__(self) -> str:
        """Id and state."""
        return f"<Contract {self.id} {self.state}>"

    # Steps

    def refresh(self) -> Contract:
        """Reads and verifies the contract again.

        Raises:
            VerificationError: Its events don't verify, or contradict what was seen before.
        """
        before, after = self._folded.heads, self._load()
        if after.heads[: len(before)] != before:
            raise VerificationError(
                f"The node shows another history of {self._id} than before.",
                reason="CONTRACT_INVALID",
            )
        self._folded = after
        return self

    def wait(self, timeout: float = 60.0) -> Contract:
        """Waits until it is no longer the provider's turn.

        Args:
            timeout: Seconds.

        Returns:
            The contract: active, with a counter-offer (OFFERED), or ended.

        Raises:
            DeadlineError: The provider hasn't answered in time; the request stands.
        """
        deadline = time.monotonic() + timeout
        while self.state in WAITING_FOR_PROVIDER:
            left = deadline - time.monotonic()
            if left <= 0 or not self._changed(left):
                raise DeadlineError(
                    f"{self.provider} hasn't answered {self._id} yet.",
                    next_step="The request stands: look again later, with `contract.wait()` or "
                    "`luoshu contract show`.",
                )
            self.refresh()
        return self

    def accept(self, wait: float = 60.0) -> Contract:
        """Consumer: takes the counter-offer, and waits for the agreement.

        Raises:
            DeadlineError: See `wait`.
        """
        self._act(ContractAction.ACCEPT)
        return self.wait(wait)

    def approve(self) -> Contract:
        """Holder: agrees to what is asked, where the offer is answered by hand."""
        return self._act(ContractAction.APPROVE)

    def counter(
        self,
        *,
        purpose: str | Sequence[str] | None = None,
        uses: int | None = None,
        not_before: dt.datetime | None = None,
        not_after: dt.datetime | None = None,
        regions: Sequence[str] | None = None,
        min_units: int | None = None,
        release: Mapping[str, object] | None = None,
        terms: Terms | None = None,
        reason: str = "",
    ) -> Contract:
        """Either: proposes other terms. What isn't named stays as it is on the table.

        Raises:
            InvalidRequestError: No difference is named.
        """
        wish = Wish(as_list(purpose), uses, not_before, not_after, regions, min_units, release)
        if terms is None:
            if wish.is_empty:
                raise InvalidRequestError("Name the terms that should change.")
            terms = wish.over(self.terms)
        return self._act(
            ContractAction.COUNTER, terms=canonicalize(terms.to_payload()), reason=reason
        )

    def refuse(self, reason: str) -> Contract:
        """Either: ends the negotiation."""
        return self._act(ContractAction.REFUSE, reason=reason)

    def suspend(self, reason: str) -> Contract:
        """Holder: stops uses for now."""
        return self._act(ContractAction.SUSPEND, reason=reason)

    def resume(self, reason: str = "") -> Contract:
        """Holder: allows uses again."""
        return self._act(ContractAction.RESUME, reason=reason)

    def revoke(self, reason: str) -> Contract:
        """Holder: ends the agreement for good."""
        return self._act(ContractAction.REVOKE, reason=reason)

    def end(self, reason: str = "") -> Contract:
        """Either: ends the agreement before its time."""
        return self._act(ContractAction.END, reason=reason)

    # Uses

    def submit(
        self,
        sql: str | None = None,
        *,
        template: str | None = None,
        parameters: Mapping[str, object] | None = None,
        purpose: str | None = None,
    ) -> Computation:
        """Signs and submits one query; doesn't wait.

        Args:
            sql: One SELECT statement, at most 64 KiB.
            template: Instead of SQL, the name of one of the contract's templates.
            parameters: Values of the template's parameters, by name; integers, texts, booleans,
                dates and decimals, or the text of one.
            purpose: What for; needed unless the contract allows exactly one.

        Raises:
            InvalidRequestError: No purpose, SQL that can't be signed, or a template or value
                that the contract doesn't have.
            DeniedError: Refused before it started.
        """
        actor = self._actor
        asked = self._request(sql, template, parameters, purpose)
        request = asked.sign(actor.request_key)
        parties = Parties(
            trust=actor.trust,
            contract_id=self._id,
            provider=self.provider,
            consumer_credential=self._folded.consumer_envelope,
            user_credential=actor.user_credential,
        )
        self._client.submit(request.to_bytes())
        return Computation(self._client, asked.id, request, parties)

    def explain(
        self,
        sql: str | None = None,
        *,
        template: str | None = None,
        parameters: Mapping[str, object] | None = None,
        purpose: str | None = None,
    ) -> Explanation:
        """Says what a query would cost, what is left, and how noisy it would be; spends nothing.

        Args: as `submit` takes them.

        Raises:
            InvalidRequestError: As `submit`.
            DeniedError: The guard refuses the query.
        """
        asked = self._request(sql, template, parameters, purpose)
        answer = self._client.explain_computation(canonicalize(asked.to_payload()))
        return read_explanation(answer)

    def query(
        self,
        sql: str | None = None,
        *,
        template: str | None = None,
        parameters: Mapping[str, object] | None = None,
        purpose: str | None = None,
        timeout: float = 300.0,
        on_phase: PhaseCallback | None = None,
    ) -> Result:
        """Computes under the contract; see `submit` and `Computation.result`.

        The computation is attached: it ends if this process, or its connection, does. One that is
        to go on is what `submit` is for.
        """
        computation = self.submit(sql, template=template, parameters=parameters, purpose=purpose)
        return computation.result(timeout, on_phase, attached=True)

    # Inside

    def _request(
        self,
        sql: str | None,
        template: str | None,
        parameters: Mapping[str, object] | None,
        purpose: str | None,
    ) -> ComputationRequest:
        if template is None and (sql is None or parameters is not None):
            raise InvalidRequestError("Give SQL, or a template with its parameters.")
        try:
            call = None
            if template is not None:
                call = call_of(self.terms, template, parameters or {})
            return ComputationRequest(
                id=ids.request_id(uuid4()),
                contract_id=self._id,
                user_id=self._actor.user.user_id,
                purpose=purpose or self._only_purpose(),
                sql=sql,
                issued_at=to_milliseconds(self._actor.clock()),
                template=call,
            )
        except ContractsError as error:
            raise InvalidRequestError(f"This can't be asked: {error}") from error

    def _only_purpose(self) -> str:
        purposes = sorted(self.terms.purposes or ())
        if len(purposes) == 1:
            return purposes[0]
        raise InvalidRequestError(
            "The contract allows more than one purpose." if purposes else "No purpose was given.",
            next_step=f"Name one of: {', '.join(purposes)}." if purposes else "Name a purpose.",
        )

    def _act(self, action: ContractAction, *, terms: bytes = b"", reason: str = "") -> Contract:
        self._client.act_on_contract(self._id, action, terms=terms, reason=reason)
        return self.refresh()

    def _changed(self, timeout: float) -> bool:
        """Waits for the node to report a newer position; False once the time is over."""
        known = self._folded.state.position
        try:
            for summary in self._client.watch_contract(self._id, timeout):
                if summary.position > known:
                    return True
        except DeadlineError:
            return False
        # The node ended the stream, as it does after an hour: reading again finds what is new.
        return True

    def _load(self) -> _Folded:
        answer = self._client.get_contract(self._id)
        try:
            return self._verified(answer)
        except ContractsError as error:
            raise VerificationError(
                f"The contract {self._id} doesn't verify: {error}", reason="CONTRACT_INVALID"
            ) from error

    def _verified(self, answer: ContractAnswer) -> _Folded:
        trust, moment = self._actor.trust, self._actor.clock()
        consumer_envelope = Envelope.from_bytes(answer.consumer_credential)
        provider = verify_credential(Envelope.from_bytes(answer.provider_credential), trust, moment)
        consumer = verify_credential(consumer_envelope, trust, moment)
        events = [
            SequencedEvent(Envelope.from_bytes(event), Envelope.from_bytes(position))
            for event, position in answer.events
        ]
        keys = _Keys({member.participant_id: member for member in (provider, consumer)})
        state = fold(events, keys)
        wrong = _mismatch(state, answer.summary, provider, consumer, self._id)
        if wrong is None and self._actor.participant_id not in (state.provider, state.consumer):
            wrong = "the own organisation is no party of it"
        if wrong is not None:
            raise VerificationError(
                f"The contract {self._id} doesn't verify: {wrong}.", reason="CONTRACT_INVALID"
            )
        # Folding has verified the first event's signature and that it is a request.
        first = unverified_event(events[0].event).body
        requested = first.terms if isinstance(first, RequestBody) else state.terms
        heads = tuple(sequenced.position.digest for sequenced in events)
        return _Folded(
            state, provider, consumer, consumer_envelope, requested, answer.debits, heads
        )


def _mismatch(
    state: ContractState,
    summary: ContractSummary,
    provider: MembershipCredential,
    consumer: MembershipCredential,
    contract_id: str,
) -> str | None:
    if state.contract_id != contract_id:
        return "the events are another contract's"
    if (state.provider, state.consumer) != (provider.participant_id, consumer.participant_id):
        return "the credentials are not its parties'"
    if summary.state_hash != state.state_hash:
        return "the node reports another state than its events give"
    return None
