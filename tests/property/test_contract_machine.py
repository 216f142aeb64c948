"""Both sides of a contract under random valid and invalid events.

The model below knows the rules in its own words: which step follows which, for
whom. Whatever is thrown at the provider is accepted exactly when the model says so,
and then the consumer, which applies the same events on its own, has the same hash.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from contract_world import (
    ANALYST,
    CONTRACT,
    ENTRY_DIGEST,
    HOLDER,
    NOW,
    PRODUCT,
    THIRD,
    Directory,
    Member,
    request,
    terms,
    use_body,
    uuid,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from luoshu.contracts import ids
from luoshu.contracts.contract import (
    AgreeBody,
    AgreementState,
    ConfirmBody,
    ContractEvent,
    ContractState,
    EmptyBody,
    EventType,
    NegotiationState,
    OfferBody,
    Position,
    ReasonBody,
    RequestBody,
    SequencedEvent,
    apply,
    check_submission,
    fold,
    sequence,
)
from luoshu.contracts.contract.bodies import Body
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.errors import TransitionError

LIMIT = 2
OTHER = ids.contract_id(uuid("another contract"))
TERMS = [terms(uses=LIMIT), terms(uses=LIMIT, min_units=20)]

# step -> (who, from, to), in words
NEGOTIATION = {
    "request": ("south", {None: "REQUESTED", "OFFERED": "REQUESTED"}),
    "offer": ("north", {"REQUESTED": "OFFERED"}),
    "accept": ("south", {"OFFERED": "ACCEPTED"}),
    "agree": ("north", {"REQUESTED": "AGREED", "ACCEPTED": "AGREED"}),
    "verify": ("south", {"AGREED": "VERIFIED"}),
    "finalize": ("north", {"VERIFIED": "FINALIZED"}),
    "terminate": (
        "north south",
        dict.fromkeys(["REQUESTED", "OFFERED", "ACCEPTED", "AGREED", "VERIFIED"], "TERMINATED"),
    ),
}
AGREEMENT = {
    "use": ("north", {"ACTIVE": "ACTIVE"}),
    "suspend": ("north", {"ACTIVE": "SUSPENDED"}),
    "resume": ("north", {"SUSPENDED": "ACTIVE"}),
    "revoke": ("north", {"ACTIVE": "REVOKED", "SUSPENDED": "REVOKED"}),
    "end": ("north south", {"ACTIVE": "ENDED", "SUSPENDED": "ENDED"}),
    "complete": ("north", {"ACTIVE": "COMPLETED"}),
    "expire": ("north", {}),  # the terms outlast every run
}
ANY_HEAD = {"suspend", "revoke", "end"}


@dataclass
class Model:
    """What the rules come to, in words."""

    negotiation: str | None = None
    agreement: str | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"north": 0, "south": 0})
    used: set[str] = field(default_factory=set)

    def step(self, member: str, kind: str) -> tuple[str | None, str | None] | None:
        """The two states after a step, or None if it may not follow."""
        if kind in NEGOTIATION:
            who, moves = NEGOTIATION[kind]
            if member in who.split() and self.negotiation in moves:
                after = moves[self.negotiation]
                return after, "ACTIVE" if after == "FINALIZED" else self.agreement
            return None
        who, moves = AGREEMENT[kind]
        if member in who.split() and self.agreement in moves:
            return self.negotiation, moves[self.agreement]
        return None


class ContractMachine(RuleBasedStateMachine):
    """Provider, consumer, and whoever throws events at them."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = Directory()
        self.now = NOW
        self.provider: ContractState | None = None
        self.consumer: ContractState | None = None
        self.events: list[SequencedEvent] = []
        self.thrown: list[tuple[ContractEvent, Member]] = []
        self.model = Model()

    def body(self, kind: EventType, choice: int, honest: bool, name: str) -> Body:
        state = self.provider
        if kind is EventType.REQUEST:
            return RequestBody(PRODUCT, "standard", TERMS[choice % 2], ENTRY_DIGEST)
        if kind is EventType.OFFER:
            return OfferBody(TERMS[choice % 2])
        if kind is EventType.AGREE:
            assert state is not None
            agreement = state.pending_agreement(self.now)
            if not honest:
                agreement = replace(agreement, terms=terms(uses=LIMIT + 1))
            return AgreeBody(agreement)
        if kind in {EventType.VERIFY, EventType.FINALIZE}:
            agreed = None if state is None else state.agreed
            return ConfirmBody(agreed.digest if agreed and honest else ENTRY_DIGEST)
        if kind is EventType.USE:
            asked = request(name, issued_at=self.now)
            if not honest:
                asked = replace(asked, contract_id=OTHER)
            return use_body(asked)
        if kind in {EventType.ACCEPT, EventType.EXPIRE, EventType.COMPLETE}:
            return EmptyBody()
        return ReasonBody("why" if honest else "")

    @rule(
        member=st.sampled_from([HOLDER, ANALYST, HOLDER, ANALYST, THIRD]),
        kind=st.sampled_from(EventType),
        choice=st.integers(0, 1),
        honest=st.booleans(),
        fresh_head=st.sampled_from([True, True, True, False]),
        ahead=st.sampled_from([1, 1, 1, 0, 5]),
        forged=st.sampled_from([False, False, False, True]),
        skew=st.sampled_from([0, 0, 0, 59, -59, 61, -61]),
        name=st.sampled_from(["a", "b", "c"]),
    )
    def throw(
        self,
        member: Member,
        kind: EventType,
        choice: int,
        honest: bool,
        fresh_head: bool,
        ahead: int,
        forged: bool,
        skew: int,
        name: str,
    ) -> None:
        """One event, valid or not."""
        if self.provider is None and kind is EventType.AGREE:
            return
        self.now += timedelta(seconds=1)
        head = None if self.provider is None else self.provider.head
        event = ContractEvent(
            contract_id=CONTRACT,
            type=kind,
            author=member.id,
            author_sequence=max(1, self.model.counts.get(member.name, 0) + ahead),
            head=head if fresh_head else ENTRY_DIGEST,
            time=self.now + timedelta(seconds=skew),
            body=self.body(kind, choice, honest, name),
        )
        signer = ANALYST if member is HOLDER else HOLDER
        envelope_signer = signer if forged else member
        following = self.model.step(member.name, kind.value)
        if self.provider is None and member is THIRD and kind is EventType.REQUEST:
            return  # a third party may well be the one that asks; not this story
        expected = (
            following is not None
            and not forged
            and abs(skew) <= 60
            and (fresh_head or (kind.value in ANY_HEAD))
            and event.author_sequence > self.model.counts.get(member.name, 0)
            and self.fits(kind, honest, skew, name)
        )
        self.attempt(event, envelope_signer, expected)
        if expected and following is not None:
            self.model.negotiation, self.model.agreement = following
            self.model.counts[member.name] = event.author_sequence
            if kind is EventType.USE:
                self.model.used.add(name)

    def fits(self, kind: EventType, honest: bool, skew: int, name: str) -> bool:
        if kind is EventType.AGREE:
            return honest and skew == 0
        if kind in {EventType.VERIFY, EventType.FINALIZE}:
            return honest
        if kind is EventType.USE:
            # The request is from now; the use may not be more than a minute before it.
            return honest and name not in self.model.used and len(self.model.used) < LIMIT
        if kind is EventType.COMPLETE:
            return len(self.model.used) == LIMIT
        return True

    def attempt(self, event: ContractEvent, signer: Member, expected: bool) -> None:
        envelope = event.sign(signer.events)
        before = self.provider
        try:
            check_submission(self.provider, envelope, self.keys, self.now)
        except TransitionError as error:
            assert not expected, error
            assert error.reason != "MALFORMED_MESSAGE", error
            self.refuse_sequenced(envelope)
            assert self.provider is before
            return
        assert expected, "an illegal event was accepted"
        sequenced = sequence(self.provider, envelope, HOLDER.events, self.now)
        self.provider = apply(self.provider, sequenced, self.keys, self.now)
        received = SequencedEvent.from_json(sequenced.to_json())
        self.consumer = apply(self.consumer, received, self.keys, self.now)
        self.events.append(sequenced)
        self.thrown.append((event, signer))

    def refuse_sequenced(self, envelope: object) -> None:
        """The consumer refuses it even when the provider gives it a position."""
        sequenced = sequence(self.provider, envelope, HOLDER.events, self.now)  # type: ignore[arg-type]
        try:
            apply(self.consumer, sequenced, self.keys)
        except TransitionError:
            return
        raise AssertionError("the consumer accepted what the provider must refuse")

    def advance(self) -> None:
        """The step the model would take next, so that runs get far."""
        paths = {
            None: EventType.REQUEST,
            "REQUESTED": EventType.AGREE,
            "OFFERED": EventType.ACCEPT,
            "ACCEPTED": EventType.AGREE,
            "AGREED": EventType.VERIFY,
            "VERIFIED": EventType.FINALIZE,
        }
        kind = paths.get(self.model.negotiation)
        if kind is None:
            return
        member = HOLDER if kind in {EventType.AGREE, EventType.FINALIZE} else ANALYST
        self.throw_honestly(member, kind)

    def throw_honestly(self, member: Member, kind: EventType) -> None:
        self.now += timedelta(seconds=1)
        event = ContractEvent(
            contract_id=CONTRACT,
            type=kind,
            author=member.id,
            author_sequence=self.model.counts[member.name] + 1,
            head=None if self.provider is None else self.provider.head,
            time=self.now,
            body=self.body(kind, 0, True, "a"),
        )
        following = self.model.step(member.name, kind.value)
        assert following is not None
        self.attempt(event, member, expected=True)
        self.model.negotiation, self.model.agreement = following
        self.model.counts[member.name] = event.author_sequence

    @rule()
    def go_on(self) -> None:
        self.advance()

    @precondition(lambda self: self.thrown)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Any event that was accepted, once more, as it was or with its time renewed."""
        event, signer = data.draw(st.sampled_from(self.thrown))
        if data.draw(st.booleans()):
            event = replace(event, time=self.now)
        self.attempt(event, signer, expected=False)

    @precondition(lambda self: self.events)
    @rule(
        data=st.data(),
        forger=st.sampled_from([HOLDER, ANALYST, THIRD]),
        shift=st.sampled_from([-1, 0, 1]),
    )
    def forge_position(self, data: st.DataObject, forger: Member, shift: int) -> None:
        """An old event at a new place, by the provider itself or another."""
        sequenced = data.draw(st.sampled_from(self.events))
        assert self.consumer is not None
        position = Position.from_payload(unverified_payload(sequenced.position))
        place = max(2, self.consumer.position + 1 + shift)
        forged = replace(
            position, position=place, previous=self.consumer.head, time=self.consumer.changed_at
        )
        before = self.consumer
        try:
            apply(self.consumer, replace(sequenced, position=forged.sign(forger.events)), self.keys)
        except TransitionError:
            assert self.consumer is before
            return
        raise AssertionError("a forged position was accepted")

    @precondition(lambda self: len(self.events) > 1)
    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        order = data.draw(st.permutations(self.events))
        if order == self.events:
            return
        try:
            fold(order, self.keys)
        except TransitionError:
            return
        raise AssertionError("events counted in another order")

    @invariant()
    def both_sides_agree(self) -> None:
        if self.provider is None or self.consumer is None:
            assert self.provider is self.consumer is None
            return
        assert self.provider.state_hash == self.consumer.state_hash
        assert self.provider.negotiation == NegotiationState(str(self.model.negotiation))
        assert self.provider.agreement == (
            None if self.model.agreement is None else AgreementState(self.model.agreement)
        )
        assert self.provider.uses == len(self.provider.request_ids) == len(self.model.used)
        assert self.provider.uses <= LIMIT
        assert self.provider.position == len(self.events)

    def teardown(self) -> None:
        if self.events:
            assert self.provider is not None
            assert fold(self.events, self.keys) == self.provider
            for n in range(1, len(self.events)):
                assert fold(self.events[:n], self.keys).position == n


ContractMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestContractMachine = ContractMachine.TestCase
