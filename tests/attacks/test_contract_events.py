"""Attacks on a contract's events: each is refused for its own reason, and changes nothing."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from contract_world import (
    ANALYST,
    CONTRACT,
    ENTRY_DIGEST,
    HOLDER,
    NOW,
    PRODUCT,
    THIRD,
    Dealings,
    EmptyBody,
    Member,
    terms,
    uuid,
)

from luoshu.contracts import ids
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.contract import (
    AgreementState,
    EventType,
    OfferBody,
    Position,
    ReasonBody,
    RequestBody,
    SequencedEvent,
    apply,
    check_submission,
    draft_event,
    fold,
    proves_equivocation,
    sequence,
    unverified_event,
)
from luoshu.contracts.documents import CONTRACT_EVENT
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.errors import EnvelopeError, TransitionError
from luoshu.contracts.keys import KeyUse, SigningKey

E = EventType
SECOND = timedelta(seconds=1)


def refused(dealings: Dealings, envelope: Envelope) -> str:
    """The reason for which the provider refuses, and a fold would too."""
    before = dealings.state
    with pytest.raises(TransitionError) as caught:
        check_submission(dealings.state, envelope, dealings.keys, dealings.now)
    # A provider that sequences it all the same convinces nobody.
    sequenced = sequence(dealings.state, envelope, HOLDER.events, dealings.now)
    with pytest.raises(TransitionError) as folded:
        apply(dealings.state, sequenced, dealings.keys)
    assert folded.value.reason == caught.value.reason
    assert dealings.state == before
    return caught.value.reason


def signed_bytes(data: bytes, signer: SigningKey = HOLDER.events) -> Envelope:
    """An event envelope over whatever bytes, by whatever key."""
    kind = CONTRACT_EVENT.payload_type
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(data), data)
    return Envelope(data, kind, signer.public.key_id, signer.sign(pae))


def active() -> Dealings:
    dealings = Dealings().negotiated()
    dealings.now += SECOND
    return dealings


def test_an_event_by_a_third_party() -> None:
    dealings = active()
    event = dealings.draft(HOLDER, E.SUSPEND, ReasonBody())
    stranger = replace(event, author=THIRD.id, author_sequence=99)
    assert refused(dealings, stranger.sign(THIRD.events)) == "CONTRACT_WRONG_PARTY"


@pytest.mark.parametrize("forger", [ANALYST, THIRD])
def test_an_event_in_anothers_name(forger: Member) -> None:
    dealings = active()
    event = dealings.draft(HOLDER, E.REVOKE, ReasonBody())
    assert refused(dealings, event.sign(forger.events)) == "CONTRACT_SIGNATURE_INVALID"
    signed = event.sign(forger.events)
    relabelled = Envelope(
        signed.payload, signed.payload_type, HOLDER.events.public.key_id, signed.signature
    )
    assert refused(dealings, relabelled) == "CONTRACT_SIGNATURE_INVALID"


@pytest.mark.parametrize(
    ("member", "event_type", "body"),
    [
        (ANALYST, E.SUSPEND, ReasonBody()),
        (ANALYST, E.RESUME, ReasonBody()),
        (ANALYST, E.REVOKE, ReasonBody()),
        (ANALYST, E.EXPIRE, EmptyBody()),
        (ANALYST, E.COMPLETE, EmptyBody()),
        (ANALYST, E.OFFER, OfferBody(terms())),
        (HOLDER, E.ACCEPT, EmptyBody()),
        (HOLDER, E.REQUEST, RequestBody(PRODUCT, "standard", terms(), ENTRY_DIGEST)),
    ],
)
def test_a_step_that_is_the_other_sides(
    member: Member, event_type: EventType, body: object
) -> None:
    dealings = active()
    event = dealings.draft(member, event_type, body)  # type: ignore[arg-type]
    assert refused(dealings, event.sign(member.events)) == "CONTRACT_WRONG_PARTY"


def test_the_provider_cannot_accept_its_own_offer() -> None:
    dealings = Dealings()
    dealings.request()
    dealings.counter(terms(uses=1))
    event = dealings.draft(HOLDER, E.ACCEPT, EmptyBody())
    assert refused(dealings, event.sign(HOLDER.events)) == "CONTRACT_WRONG_PARTY"


@pytest.mark.parametrize("use", [use for use in KeyUse if use not in {KeyUse.EVENTS, KeyUse.TLS}])
def test_an_event_signed_with_a_key_of_another_use(use: KeyUse) -> None:
    dealings = active()
    event = dealings.draft(HOLDER, E.SUSPEND, ReasonBody())
    with pytest.raises(EnvelopeError):
        event.sign(HOLDER.key(use))
    honest = event.sign(HOLDER.events)
    forged = signed_bytes(honest.payload, HOLDER.key(use))
    assert refused(dealings, forged) == "CONTRACT_SIGNATURE_INVALID"


def test_an_accepted_event_sent_again() -> None:
    dealings = active()
    for sequenced in list(dealings.events):
        assert refused(dealings, sequenced.event) in {
            "CONTRACT_EVENT_REPLAYED",
            "CONTRACT_STALE_HEAD",
        }


def test_a_suspension_sent_again_after_the_contract_was_resumed() -> None:
    # It binds whatever head it names, so only its author's count gives it away.
    dealings = active()
    dealings.reasoned(HOLDER, E.SUSPEND)
    suspension = dealings.events[-1].event
    dealings.reasoned(HOLDER, E.RESUME)
    assert refused(dealings, suspension) == "CONTRACT_EVENT_REPLAYED"
    assert dealings.state is not None
    assert dealings.state.is_active


def test_an_event_of_one_contract_sent_to_another() -> None:
    mine, other = active(), active()
    other_id = ids.contract_id(uuid("other"))
    assert mine.state is not None
    other.state = replace(mine.state, contract_id=other_id)
    event = mine.draft(HOLDER, E.REVOKE, ReasonBody()).sign(HOLDER.events)
    assert refused(other, event) == "CONTRACT_WRONG_PARTY"


def test_an_event_on_a_stale_head() -> None:
    dealings = Dealings()
    dealings.request()
    stale = dealings.draft(HOLDER, E.OFFER, OfferBody(terms(uses=1)))
    dealings.counter(terms(uses=2))
    dealings.request(terms(uses=3))
    late = replace(stale, author_sequence=2, time=dealings.now)
    assert refused(dealings, late.sign(HOLDER.events)) == "CONTRACT_STALE_HEAD"
    for head in (None, ENTRY_DIGEST):
        event = replace(late, head=head)
        assert refused(dealings, event.sign(HOLDER.events)) == "CONTRACT_STALE_HEAD"


def test_an_acceptance_of_an_offer_that_was_not_seen() -> None:
    dealings = Dealings()
    dealings.request()
    dealings.counter(terms(uses=1))
    acceptance = dealings.draft(ANALYST, E.ACCEPT, EmptyBody())
    other = Dealings()
    other.request()
    other.counter(terms(uses=1, min_units=500))
    other.now = dealings.now
    assert refused(other, acceptance.sign(ANALYST.events)) == "CONTRACT_STALE_HEAD"


@pytest.mark.parametrize(
    ("member", "event_type", "after"),
    [
        (HOLDER, E.SUSPEND, AgreementState.SUSPENDED),
        (HOLDER, E.REVOKE, AgreementState.REVOKED),
        (ANALYST, E.END, AgreementState.ENDED),
    ],
)
def test_what_takes_rights_away_binds_on_receipt(
    member: Member, event_type: EventType, after: AgreementState
) -> None:
    dealings = active()
    event = dealings.draft(member, event_type, ReasonBody("now"))
    dealings.use()
    late = replace(event, author_sequence=50)
    assert dealings.submit(late.sign(member.events)).agreement is after


def test_a_resumption_does_not_bind_on_receipt() -> None:
    dealings = active()
    dealings.reasoned(HOLDER, E.SUSPEND)
    event = dealings.draft(HOLDER, E.RESUME, ReasonBody())
    stale = replace(event, head=ENTRY_DIGEST)
    assert refused(dealings, stale.sign(HOLDER.events)) == "CONTRACT_STALE_HEAD"


@pytest.mark.parametrize("seconds", [-61, 61, 86_400])
def test_an_event_from_another_time(seconds: int) -> None:
    dealings = active()
    event = dealings.draft(
        HOLDER, E.SUSPEND, ReasonBody(), time=dealings.now + timedelta(seconds=seconds)
    )
    assert refused(dealings, event.sign(HOLDER.events)) == "CONTRACT_TIME_SKEW"


def test_an_event_signed_after_its_author_was_revoked() -> None:
    dealings = active()
    dealings.keys.revoked[ANALYST.id] = dealings.now
    event = dealings.draft(ANALYST, E.END, ReasonBody()).sign(ANALYST.events)
    assert refused(dealings, event) == "CONTRACT_SIGNATURE_INVALID"
    # What it signed before still counts.
    assert fold(dealings.events, dealings.keys) == dealings.state


def test_a_contract_that_does_not_begin_with_a_request() -> None:
    dealings = Dealings()
    event = draft_event(
        None, E.TERMINATE, ReasonBody(), author=ANALYST.id, time=NOW, contract_id=CONTRACT
    )
    assert refused(dealings, event.sign(ANALYST.events)) == "CONTRACT_TRANSITION_INVALID"


def test_a_first_event_that_names_a_head() -> None:
    dealings = Dealings()
    body = RequestBody(PRODUCT, "standard", terms(), ENTRY_DIGEST)
    event = draft_event(None, E.REQUEST, body, author=ANALYST.id, time=NOW, contract_id=CONTRACT)
    headed = replace(event, head=ENTRY_DIGEST)
    assert refused(dealings, headed.sign(ANALYST.events)) == "CONTRACT_TRANSITION_INVALID"


def test_a_contract_with_oneself_or_across_spaces() -> None:
    dealings = Dealings()
    own = RequestBody(ids.product_id(ANALYST.id, "lung"), "standard", terms(), ENTRY_DIGEST)
    event = dealings.draft(ANALYST, E.REQUEST, own, author=ANALYST.id)
    with pytest.raises(TransitionError) as caught:
        check_submission(None, event.sign(ANALYST.events), dealings.keys, NOW)
    assert caught.value.reason == "CONTRACT_WRONG_PARTY"
    far = RequestBody("urn:luoshu:elsewhere:north:product:lung", "standard", terms(), ENTRY_DIGEST)
    event = dealings.draft(ANALYST, E.REQUEST, far, author=ANALYST.id)
    with pytest.raises(TransitionError) as caught:
        check_submission(None, event.sign(ANALYST.events), dealings.keys, NOW)
    assert caught.value.reason == "WRONG_SPACE"


def test_a_second_request_for_a_contract_id_in_use() -> None:
    dealings = active()
    body = RequestBody(PRODUCT, "standard", terms(uses=100), ENTRY_DIGEST)
    event = draft_event(
        None, E.REQUEST, body, author=ANALYST.id, time=dealings.now, contract_id=CONTRACT
    )
    assert refused(dealings, event.sign(ANALYST.events)) == "CONTRACT_EVENT_REPLAYED"
    event = replace(event, author=THIRD.id)
    assert refused(dealings, event.sign(THIRD.events)) == "CONTRACT_WRONG_PARTY"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("author_sequence", True),
        ("author_sequence", 0),
        ("author_sequence", 2**53),
        ("author_sequence", "3"),
        ("head", ""),
        ("head", "SHA256:" + "0" * 64),
        ("type", "delete"),
        ("author", "north"),
        ("payload", None),
        ("payload", {"reason": "a\u202eb"}),
        ("payload", {"reason": "x" * 501}),
        ("payload", {}),
        ("extra", 1),
    ],
)
def test_an_ill_formed_event_though_well_signed(field: str, value: object) -> None:
    dealings = active()
    event = dealings.draft(HOLDER, E.SUSPEND, ReasonBody())
    payload = {**event.to_payload(), field: value}
    # Not by `sign`, which refuses some of these: an attacker signs what bytes it likes.
    envelope = signed_bytes(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(TransitionError) as caught:
        check_submission(dealings.state, envelope, dealings.keys, dealings.now)
    assert caught.value.reason == "MALFORMED_MESSAGE"


def test_an_event_in_other_bytes_of_the_same_meaning() -> None:
    dealings = active()
    event = dealings.draft(HOLDER, E.SUSPEND, ReasonBody())
    envelope = signed_bytes(canonicalize(event.to_payload()) + b" ")
    assert refused(dealings, envelope) == "MALFORMED_MESSAGE"


# ---- a dishonest provider: what the consumer's fold refuses


def _next(dealings: Dealings) -> tuple[SequencedEvent, Position]:
    event = dealings.draft(HOLDER, E.SUSPEND, ReasonBody()).sign(HOLDER.events)
    sequenced = sequence(dealings.state, event, HOLDER.events, dealings.now)
    return sequenced, Position.from_payload(unverified_payload(sequenced.position))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"position": 4}, "CONTRACT_EVENT_REPLAYED"),
        ({"position": 6}, "CONTRACT_TRANSITION_INVALID"),
        ({"previous": ENTRY_DIGEST}, "CONTRACT_STALE_HEAD"),
        ({"event": ENTRY_DIGEST}, "CONTRACT_SIGNATURE_INVALID"),
        ({"contract_id": ids.contract_id(uuid("other"))}, "CONTRACT_SIGNATURE_INVALID"),
        ({"time": NOW}, "CONTRACT_TIME_SKEW"),
        ({"time": NOW + timedelta(seconds=90)}, "CONTRACT_TIME_SKEW"),
    ],
)
def test_a_forged_position_by_the_provider_itself(change: dict, reason: str) -> None:
    dealings = active()
    sequenced, position = _next(dealings)
    forged = SequencedEvent(sequenced.event, replace(position, **change).sign(HOLDER.events))
    with pytest.raises(TransitionError) as caught:
        apply(dealings.state, forged, dealings.keys)
    assert caught.value.reason == reason
    assert apply(dealings.state, sequenced, dealings.keys).position == 5


@pytest.mark.parametrize("forger", [ANALYST, THIRD])
def test_a_position_signed_by_anyone_but_the_provider(forger: Member) -> None:
    dealings = active()
    sequenced, position = _next(dealings)
    for envelope in (
        position.sign(forger.events),
        replace(sequenced.position, key_id=forger.events.public.key_id),
        sequenced.event,
    ):
        with pytest.raises(TransitionError):
            apply(dealings.state, replace(sequenced, position=envelope), dealings.keys)


def test_a_position_by_the_providers_key_for_the_log() -> None:
    dealings = active()
    _, position = _next(dealings)
    with pytest.raises(EnvelopeError):
        position.sign(HOLDER.key(KeyUse.LOG))


def test_events_reordered_dropped_repeated_or_cut() -> None:
    dealings = active()
    events = dealings.events
    for n in range(len(events) - 1):
        reordered = [*events[:n], events[n + 1], events[n], *events[n + 2 :]]
        with pytest.raises(TransitionError):
            fold(reordered, dealings.keys)
        with pytest.raises(TransitionError):
            fold([*events[:n], *events[n + 1 :]], dealings.keys)
        with pytest.raises(TransitionError):
            fold([*events[: n + 1], *events[n:]], dealings.keys)
    with pytest.raises(TransitionError):
        fold([], dealings.keys)
    with pytest.raises(TransitionError):
        fold(events[1:], dealings.keys)


def test_a_position_from_the_future_when_it_arrives() -> None:
    dealings = active()
    sequenced, _ = _next(dealings)
    late = dealings.now - timedelta(seconds=61)
    with pytest.raises(TransitionError) as caught:
        apply(dealings.state, sequenced, dealings.keys, late)
    assert caught.value.reason == "CONTRACT_TIME_SKEW"
    assert apply(dealings.state, sequenced, dealings.keys, NOW + timedelta(days=99))


def test_a_clock_set_back_stops_sequencing() -> None:
    dealings = active()
    event = dealings.draft(HOLDER, E.SUSPEND, ReasonBody()).sign(HOLDER.events)
    with pytest.raises(TransitionError) as caught:
        sequence(dealings.state, event, HOLDER.events, NOW)
    assert caught.value.reason == "CONTRACT_TIME_SKEW"


def test_two_stories_told_by_the_provider_are_evidence() -> None:
    dealings = active()
    keys = [HOLDER.events.public]
    one, position = _next(dealings)
    other_event = dealings.draft(HOLDER, E.REVOKE, ReasonBody()).sign(HOLDER.events)
    other = sequence(dealings.state, other_event, HOLDER.events, dealings.now)
    assert proves_equivocation(one.position, other.position, keys)
    assert not proves_equivocation(one.position, one.position, keys)
    assert not proves_equivocation(one.position, dealings.events[0].position, keys)
    framed = replace(position, event=ENTRY_DIGEST).sign(THIRD.events)
    assert not proves_equivocation(one.position, framed, keys)
    framed = replace(framed, key_id=HOLDER.events.public.key_id)
    assert not proves_equivocation(one.position, framed, keys)
    elsewhere = replace(position, contract_id=ids.contract_id(uuid("x"))).sign(HOLDER.events)
    assert not proves_equivocation(one.position, elsewhere, keys)
    # The consumer that holds the first refuses the second.
    state = apply(dealings.state, one, dealings.keys)
    with pytest.raises(TransitionError) as caught:
        apply(state, other, dealings.keys)
    assert caught.value.reason == "CONTRACT_EVENT_REPLAYED"


def test_one_document_signed_anew_is_the_same_event() -> None:
    # A second envelope over the same payload has the same digest: no second event.
    dealings = active()
    sequenced, _ = _next(dealings)
    again = unverified_event(sequenced.event).sign(HOLDER.events)
    assert again.digest == sequenced.event.digest
    replayed = sequence(dealings.state, again, HOLDER.events, dealings.now)
    state = apply(dealings.state, replayed, dealings.keys)
    assert state == apply(dealings.state, sequenced, dealings.keys)
    with pytest.raises(TransitionError) as caught:
        check_submission(state, again, dealings.keys, dealings.now)
    assert caught.value.reason == "CONTRACT_EVENT_REPLAYED"
