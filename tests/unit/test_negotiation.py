"""The negotiation machine, and the story it tells over signed events."""

from dataclasses import replace
from datetime import timedelta

import pytest
from contract_world import (
    ANALYST,
    ENTRY_DIGEST,
    HOLDER,
    NOW,
    PRODUCT,
    Dealings,
    terms,
    uuid,
)

from luoshu.contracts import ids
from luoshu.contracts.contract import (
    AgreeBody,
    AgreementState,
    ConfirmBody,
    EmptyBody,
    EventType,
    NegotiationState,
    OfferBody,
    RequestBody,
    fold,
)
from luoshu.contracts.contract.agreement import AGREEMENT_AUTHORS
from luoshu.contracts.contract.negotiation import (
    FINAL_NEGOTIATION_STATES,
    NEGOTIATION_AUTHORS,
    NEGOTIATION_TRANSITIONS,
    negotiate,
)
from luoshu.contracts.errors import DocumentError, TransitionError

S = NegotiationState
E = EventType


def test_the_shortest_negotiation() -> None:
    dealings = Dealings()
    assert dealings.request().negotiation is S.REQUESTED
    assert dealings.agree().negotiation is S.AGREED
    assert dealings.verify().negotiation is S.VERIFIED
    state = dealings.finalize()
    assert state.negotiation is S.FINALIZED
    assert state.agreement is AgreementState.ACTIVE
    assert state.terms == terms()
    assert fold(dealings.events, dealings.keys) == state


def test_rounds_of_counter_offers() -> None:
    dealings = Dealings()
    dealings.request(terms(uses=9))
    assert dealings.counter(terms(uses=2)).negotiation is S.OFFERED
    assert dealings.request(terms(uses=5)).negotiation is S.REQUESTED
    dealings.counter(terms(uses=4))
    assert dealings.accept().negotiation is S.ACCEPTED
    assert dealings.agree().agreed is not None
    dealings.verify()
    state = dealings.finalize()
    assert state.terms.uses == 4
    assert (state.consumer_sequence, state.provider_sequence) == (4, 4)


def test_every_pair_of_state_and_event_is_decided() -> None:
    for state in (None, *S):
        for event in E:
            if (state, event) in NEGOTIATION_TRANSITIONS:
                assert negotiate(state, event) is NEGOTIATION_TRANSITIONS[state, event]
            else:
                with pytest.raises(TransitionError) as caught:
                    negotiate(state, event)
                assert caught.value.reason == "CONTRACT_TRANSITION_INVALID"


def test_final_states_are_final_and_all_states_can_be_reached() -> None:
    sources = {state for state, _ in NEGOTIATION_TRANSITIONS}
    assert not sources & FINAL_NEGOTIATION_STATES
    assert set(NEGOTIATION_TRANSITIONS.values()) == set(S)
    assert set(NEGOTIATION_AUTHORS) | set(AGREEMENT_AUTHORS) == set(E)
    assert not set(NEGOTIATION_AUTHORS) & set(AGREEMENT_AUTHORS)


@pytest.mark.parametrize("steps", range(6))
def test_either_side_may_terminate_until_it_is_final(steps: int) -> None:
    for member in (HOLDER, ANALYST):
        dealings = Dealings()
        dealings.request()
        for step in (
            lambda d: d.counter(terms(uses=1)),
            Dealings.accept,
            Dealings.agree,
            Dealings.verify,
            Dealings.finalize,
        )[:steps]:
            step(dealings)
        if steps == 5:
            with pytest.raises(TransitionError, match="FINALIZED"):
                dealings.reasoned(member, E.TERMINATE)
            continue
        state = dealings.reasoned(member, E.TERMINATE, "no")
        assert (state.negotiation, state.reason) == (S.TERMINATED, "no")
        with pytest.raises(TransitionError):
            dealings.reasoned(member, E.TERMINATE)


@pytest.mark.parametrize(
    "change",
    [
        {"terms": terms(uses=2)},
        {"contract_id": ids.contract_id(uuid("other"))},
        {"product_id": PRODUCT + "s"},
        {"offer_id": "other"},
        {"entry": "sha256:" + "0" * 64},
        {"provider": ANALYST.id},
        {"consumer": HOLDER.id},
        {"signed_at": NOW},
    ],
)
def test_an_agreement_says_what_was_negotiated(change: dict) -> None:
    dealings = Dealings()
    state = dealings.request()
    agreement = replace(state.pending_agreement(dealings.now + timedelta(seconds=1)), **change)
    with pytest.raises(TransitionError, match="something else"):
        dealings.do(HOLDER, E.AGREE, AgreeBody(agreement))
    assert dealings.state == state


@pytest.mark.parametrize("event", [E.VERIFY, E.FINALIZE])
def test_a_confirmation_names_the_agreement(event: EventType) -> None:
    dealings = Dealings()
    dealings.request()
    dealings.agree()
    if event is E.FINALIZE:
        dealings.verify()
    member = ANALYST if event is E.VERIFY else HOLDER
    with pytest.raises(TransitionError, match="another agreement"):
        dealings.do(member, event, ConfirmBody(ENTRY_DIGEST))


@pytest.mark.parametrize(
    "body",
    [
        RequestBody(PRODUCT + "s", "standard", terms(), ENTRY_DIGEST),
        RequestBody(PRODUCT, "other", terms(), ENTRY_DIGEST),
    ],
)
def test_a_counter_offer_stays_with_its_offer(body: RequestBody) -> None:
    dealings = Dealings()
    dealings.request()
    dealings.counter(terms(uses=1))
    with pytest.raises(TransitionError, match="another product or offer"):
        dealings.do(ANALYST, E.REQUEST, body)


def test_a_counter_offer_may_rest_on_a_newer_entry() -> None:
    dealings = Dealings()
    dealings.request()
    dealings.counter(terms(uses=1))
    newer = "sha256:" + "f" * 64
    state = dealings.do(ANALYST, E.REQUEST, RequestBody(PRODUCT, "standard", terms(), newer))
    assert state.entry == newer
    assert dealings.agree().agreed.entry == newer  # type: ignore[union-attr]


def test_an_event_has_its_own_body() -> None:
    dealings = Dealings()
    dealings.request()
    event = dealings.draft(HOLDER, E.OFFER, OfferBody(terms()))
    with pytest.raises(DocumentError):
        replace(event, body=EmptyBody())


def test_a_state_is_named_by_its_hash() -> None:
    dealings = Dealings()
    hashes = [dealings.request().state_hash, dealings.agree().state_hash]
    hashes += [dealings.verify().state_hash, dealings.finalize().state_hash]
    assert len(set(hashes)) == 4
    state = dealings.state
    assert state is not None
    for change in ({"uses": 1}, {"reason": "x"}, {"provider_sequence": 9}, {"agreement": None}):
        assert replace(state, **change).state_hash != state.state_hash
