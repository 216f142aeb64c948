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
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from luoshu.contracts.envelope import Envelope
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
WEIGHTS = {"terminate": 1, "revoke": 1, "end": 1, "complete": 1, "use": 20}
DEFECTS = ["head", "count", "forged", "skew", "dishonest", "side"]


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

    @initialize(steps=st.sampled_from([0, 1, 4, 4]))
    def begin(self, steps: int) -> None:
        """From nothing, from a request, or from a finalised contract."""
        for _ in range(steps):
            self.advance()

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

    @rule(data=st.data())
    def throw(self, data: st.DataObject) -> None:
        """One event: one that may follow, or any; without a defect, or with one."""
        legal = [
            (member, kind)
            for member in (HOLDER, ANALYST)
            for kind in EventType
            if self.model.step(member.name, kind.value) is not None
        ]
        # Drawn as often as the rest, endings would cut every run short.
        legal = [(m, k) for m, k in legal for _ in range(WEIGHTS.get(k.value, 8))]
        anything = st.tuples(st.sampled_from([HOLDER, ANALYST, THIRD]), st.sampled_from(EventType))
        wild = not legal or data.draw(st.sampled_from([False, False, False, True]))
        member, kind = data.draw(anything if wild else st.sampled_from(legal))
        defect = data.draw(st.sampled_from(["", "", "", *DEFECTS]))
        if defect == "side":
            member = ANALYST if member is HOLDER else HOLDER
        if self.provider is None and (kind is EventType.AGREE or member is not ANALYST):
            return  # nothing to agree to; and another may well ask, in another story
        self.now += timedelta(seconds=1)
        skew = 61 if defect == "skew" else data.draw(st.sampled_from([0, 0, 0, 59, -59]))
        name = data.draw(st.sampled_from("abc"))
        count = self.model.counts.get(member.name, 0)
        head = None if self.provider is None else self.provider.head
        honest = defect != "dishonest"
        event = ContractEvent(
            contract_id=CONTRACT,
            type=kind,
            author=member.id,
            author_sequence=max(1, count) if defect == "count" else count + 1,
            head=ENTRY_DIGEST if defect == "head" else head,
            time=self.now + timedelta(seconds=skew),
            body=self.body(kind, data.draw(st.integers(0, 1)), honest, name),
        )
        forger = ANALYST if member is HOLDER else HOLDER
        following = self.model.step(member.name, kind.value)
        expected = (
            following is not None
            and defect not in {"forged", "skew"}
            and (defect != "head" or (kind.value in ANY_HEAD))
            and event.author_sequence > count
            and self.fits(kind, honest, skew, name)
        )
        self.attempt(event, forger if defect == "forged" else member, expected)
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

    def refuse_sequenced(self, envelope: Envelope) -> None:
        """The consumer refuses it even when the provider gives it a position."""
        sequenced = sequence(self.provider, envelope, HOLDER.events, self.now)
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

    @precondition(lambda self: self.model.negotiation not in {"FINALIZED", "TERMINATED"})
    @rule(steps=st.integers(1, 3))
    def go_on(self, steps: int) -> None:
        """The honest path, so that runs get far."""
        for _ in range(steps):
            self.advance()

    @precondition(lambda self: self.thrown)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Any event that was accepted, once more: as it was, or with time and head renewed."""
        event, signer = data.draw(st.sampled_from(self.thrown))
        if data.draw(st.booleans()):
            head = None if self.provider is None else self.provider.head
            event = replace(event, time=self.now, head=head)
        self.attempt(event, signer, expected=False)

    @precondition(lambda self: self.model.agreement == "ACTIVE")
    @rule(
        forger=st.sampled_from([HOLDER, HOLDER, ANALYST, THIRD]),
        change=st.sampled_from(["", "place", "gap", "previous", "event", "back", "contract"]),
    )
    def forge_position(self, forger: Member, change: str) -> None:
        """A good event at a forged place, by the provider itself or another."""
        state = self.consumer
        assert state is not None
        event = ContractEvent(
            contract_id=CONTRACT,
            type=EventType.SUSPEND,
            author=HOLDER.id,
            author_sequence=self.model.counts["north"] + 1,
            head=state.head,
            time=self.now,
            body=ReasonBody(),
        ).sign(HOLDER.events)
        position = Position(CONTRACT, state.position + 1, event.digest, state.head, self.now)
        position = {
            "": position,
            "place": replace(position, position=state.position),
            "gap": replace(position, position=state.position + 2),
            "previous": replace(position, previous=ENTRY_DIGEST),
            "event": replace(position, event=self.events[-1].event.digest),
            "back": replace(position, time=state.changed_at - timedelta(milliseconds=1)),
            "contract": replace(position, contract_id=OTHER),
        }[change]
        try:
            apply(state, SequencedEvent(event, position.sign(forger.events)), self.keys)
        except TransitionError:
            assert self.consumer is state
            assert (forger, change) != (HOLDER, "")
            return
        assert (forger, change) == (HOLDER, ""), "a forged position was accepted"

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


ContractMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestContractMachine = ContractMachine.TestCase
