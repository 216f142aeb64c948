"""Negotiating and governing contracts between nodes with real ledgers."""

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from contract_world import ANALYST, HOLDER, NOW, PRODUCT, THIRD, offer, terms
from trading_world import offers_json, shelved, trading_world

from luoshu.connector.contract.follower import ContractFollower
from luoshu.connector.contract.service import ContractAction
from luoshu.connector.errors import NodeError
from luoshu.connector.peer_port import SequencedBytes
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.contract import (
    AgreementState,
    ConfirmBody,
    EmptyBody,
    EventType,
    NegotiationState,
    ReasonBody,
    SequencedEvent,
    draft_event,
    fold,
)
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.ids import product_id
from luoshu.contracts.offer import AnswerMode, Limits

pytestmark = pytest.mark.system

S = NegotiationState
MANUAL = offer(answer=AnswerMode.MANUAL)


@pytest.fixture
async def world(tmp_path):
    async with trading_world(tmp_path) as world:
        yield world


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


def asked(**changes):
    return canonicalize(terms(**changes).to_payload())


async def negotiate(world, *offers, **changes):
    """Publishes offers and asks for a contract under the first."""
    await world.holder.products.publish("lung", offers_json(*(offers or (offer(),))))
    wanted = asked(**changes) if changes else b""
    return await world.analyst.contracts.request(PRODUCT, "", wanted)


async def state_at(node, contract_id):
    return (await node.contracts.get(contract_id)).state


async def assert_same(world, contract_id):
    """Both sides hold the same events and come to the same state; an auditor does too."""
    ours, theirs = [await n.contracts.get(contract_id) for n in (world.holder, world.analyst)]
    assert replace(ours, debits=None) == theirs
    assert ours.state.state_hash == theirs.state.state_hash
    events = [
        SequencedEvent(Envelope.from_bytes(e.event), Envelope.from_bytes(e.position))
        for e in ours.events
    ]
    assert fold(events, world.holder.directory) == ours.state
    assert ours.provider_credential
    assert ours.consumer_credential
    return ours.state


@asynccontextmanager
async def following(node, provider=HOLDER):
    """The node keeps the provider's stream open."""
    task = asyncio.ensure_future(node.consumer.follow(provider.id))
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(node, contract_id, condition):
    """Waits for the contract to come into a state."""
    async with aclosing(node.contracts.watch(contract_id)) as states:
        async for state in states:
            if condition(state):
                return state
    raise AssertionError


async def test_asking_for_the_offer_is_agreed_at_once(world):
    state = await negotiate(world)
    assert (state.negotiation, state.agreement) == (S.FINALIZED, AgreementState.ACTIVE)
    assert state.position == 4
    assert state.terms == terms()
    assert (await assert_same(world, state.contract_id)) == state
    assert [s.contract_id for s in await world.analyst.contracts.list("ACTIVE")] == [
        state.contract_id
    ]
    assert await world.holder.contracts.list("REQUESTED") == ()


async def test_counter_offer_is_taken(world):
    limited = offer(terms(uses=3), limits=Limits(max_uses=5))
    state = await negotiate(world, limited, uses=50)
    assert state.negotiation is S.OFFERED
    assert state.terms.uses == 5
    state = await world.analyst.contracts.act(state.contract_id, ContractAction.ACCEPT)
    assert state.agreement is AgreementState.ACTIVE
    assert state.agreed.terms.uses == 5
    await assert_same(world, state.contract_id)


async def test_counter_offer_is_answered_by_another_request(world):
    state = await negotiate(world, offer(terms(uses=3)), uses=50)
    state = await world.analyst.contracts.act(
        state.contract_id, ContractAction.COUNTER, asked(uses=2)
    )
    assert state.agreement is AgreementState.ACTIVE
    assert state.terms.uses == 2
    await assert_same(world, state.contract_id)


async def test_counter_offer_is_refused(world):
    state = await negotiate(world, offer(terms(uses=3)), uses=50)
    state = await world.analyst.contracts.act(
        state.contract_id, ContractAction.REFUSE, reason="too few"
    )
    assert state.negotiation is S.TERMINATED
    assert (await assert_same(world, state.contract_id)).reason == "too few"


async def test_another_purpose_is_refused_then_the_right_one_accepted(world):
    first = await negotiate(world, purposes=("marketing",))
    assert first.negotiation is S.TERMINATED
    assert "research" in first.reason
    await assert_same(world, first.contract_id)
    with refused("CONTRACT_TRANSITION_INVALID"):
        await world.analyst.contracts.act(first.contract_id, ContractAction.ACCEPT)
    second = await world.analyst.contracts.request(PRODUCT, "standard", asked())
    assert second.agreement is AgreementState.ACTIVE
    listed = await world.analyst.contracts.list()
    assert [s.contract_id for s in listed] == [second.contract_id, first.contract_id]


async def test_weaker_release_than_the_floor_is_refused_also_by_hand(world):
    first = await negotiate(world, MANUAL, min_units=5)
    assert first.negotiation is S.TERMINATED
    assert "10" in first.reason


async def test_offer_by_hand_is_approved(world):
    state = await negotiate(world, MANUAL)
    assert state.negotiation is S.REQUESTED
    with refused("CONTRACT_WRONG_PARTY"):
        await world.analyst.contracts.act(state.contract_id, ContractAction.APPROVE)
    async with following(world.analyst):
        agreed = await world.holder.contracts.act(state.contract_id, ContractAction.APPROVE)
        assert agreed.negotiation is S.AGREED
        await until(world.analyst, state.contract_id, lambda s: s.is_active)
    await assert_same(world, state.contract_id)


async def test_offer_by_hand_is_countered_and_accepted(world):
    state = await negotiate(world, MANUAL, uses=50)
    with refused("TERMS_INVALID"):
        await world.holder.contracts.act(
            state.contract_id, ContractAction.COUNTER, asked(min_units=5)
        )
    async with following(world.analyst):
        await world.holder.contracts.act(state.contract_id, ContractAction.COUNTER, asked(uses=7))
        await until(world.analyst, state.contract_id, lambda s: s.negotiation is S.OFFERED)
        state = await world.analyst.contracts.act(state.contract_id, ContractAction.ACCEPT)
    assert state.is_active
    assert state.terms.uses == 7
    await assert_same(world, state.contract_id)


async def test_offer_by_hand_is_refused(world):
    state = await negotiate(world, MANUAL)
    await world.holder.contracts.act(state.contract_id, ContractAction.REFUSE, reason="no")
    await world.analyst.consumer.refresh(state.contract_id)
    state = await assert_same(world, state.contract_id)
    assert (state.negotiation, state.reason) == (S.TERMINATED, "no")


async def test_what_can_not_be_seen_can_not_be_asked_for(world):
    private = offer(id="private", visible_to=(THIRD.id,))
    await world.holder.products.publish("lung", offers_json(offer(), private))
    with refused("NOT_FOUND"):
        await world.analyst.contracts.request(PRODUCT, "private", b"")
    with refused("NOT_FOUND"):
        await world.analyst.contracts.request(PRODUCT, "none", b"")
    with refused("NOT_FOUND"):
        await world.analyst.contracts.request(f"{HOLDER.id}:product:none", "", b"")
    with refused("MALFORMED_MESSAGE"):
        await world.third.contracts.request(PRODUCT, "", b"")
    assert (await world.third.contracts.request(PRODUCT, "private", b"")).is_active


async def test_provider_checks_visibility_itself(world):
    await world.holder.products.publish("lung", offers_json(offer(visible_to=(THIRD.id,))))
    state = await world.third.contracts.request(PRODUCT, "standard", b"")
    details = await world.third.contracts.get(state.contract_id)
    body = _event(details, 0).body
    draft = draft_event(
        None,
        EventType.REQUEST,
        body,
        author=ANALYST.id,
        time=NOW,
        contract_id="urn:luoshu:contract:00000000-0000-4000-8000-000000000000",
    )
    with refused("NOT_FOUND"):
        await submit(world, draft.sign(ANALYST.events))


async def test_changed_or_withdrawn_entry_ends_what_it_offered(world):
    state = await negotiate(world, offer(terms(uses=3)), uses=50)
    await world.holder.products.publish("lung", offers_json(offer(terms(uses=3))))
    state = await world.analyst.contracts.act(state.contract_id, ContractAction.ACCEPT)
    assert state.negotiation is S.TERMINATED
    assert "changed" in state.reason
    manual = await negotiate(world, MANUAL)
    await world.holder.products.withdraw(PRODUCT)
    with refused("CATALOG_VERSION_CONFLICT"):
        await world.holder.contracts.act(manual.contract_id, ContractAction.APPROVE)
    with refused("NOT_FOUND"):
        await world.analyst.contracts.request(PRODUCT, "", b"")


async def test_request_on_an_entry_that_was_replaced_is_refused(world):
    await world.holder.products.publish("lung", offers_json(offer()))
    old = await world.analyst.reader.get_entry(PRODUCT)
    await world.holder.products.publish("lung", offers_json(offer()))

    class Stale:
        async def get_entry(self, product):
            return old

    world.analyst.consumer._entries = Stale()
    with refused("CATALOG_VERSION_CONFLICT"):
        await world.analyst.contracts.request(PRODUCT, "", b"")
    assert await world.holder.contracts.list() == ()


def _event(details, index):
    from luoshu.contracts.contract import unverified_event

    return unverified_event(Envelope.from_bytes(details.events[index].event))


async def submit(world, envelope, caller=ANALYST, known=0):
    return await world.holder.provider.submit_event(caller.id, envelope.to_bytes(), known)


async def test_event_on_a_stale_head_is_refused_with_the_present_one(world):
    state = await negotiate(world, MANUAL)
    await world.holder.contracts.act(state.contract_id, ContractAction.COUNTER, asked(uses=2))
    stale = draft_event(state, EventType.TERMINATE, ReasonBody("late"), author=ANALYST.id, time=NOW)
    with pytest.raises(NodeError) as caught:
        await submit(world, stale.sign(ANALYST.events))
    now = await state_at(world.holder, state.contract_id)
    assert caught.value.reason == "CONTRACT_STALE_HEAD"
    assert caught.value.status == "ABORTED"
    assert caught.value.metadata == {"head": now.head, "position": "2"}
    # The consumer's own step fails the same way, and has caught up then.
    with refused("CONTRACT_STALE_HEAD"):
        await world.analyst.contracts.act(state.contract_id, ContractAction.REFUSE)
    assert await state_at(world.analyst, state.contract_id) == now
    accepted = await world.analyst.contracts.act(state.contract_id, ContractAction.ACCEPT)
    assert accepted.is_active


async def test_replayed_event_changes_nothing(world):
    state = await negotiate(world)
    details = await world.analyst.contracts.get(state.contract_id)
    size = world.holder.ledger.size
    for index in (0, 2):  # the request, the confirmation
        with refused("CONTRACT_EVENT_REPLAYED"):
            await submit(world, Envelope.from_bytes(details.events[index].event))
    assert world.holder.ledger.size == size


async def test_third_party_learns_nothing(world):
    state = await negotiate(world)
    with refused("NOT_FOUND"):
        await world.holder.provider.list_events(THIRD.id, state.contract_id, 0)
    unknown = "urn:luoshu:contract:00000000-0000-4000-8000-000000000000"
    with refused("NOT_FOUND"):
        await world.holder.provider.list_events(ANALYST.id, unknown, 0)
    meddling = replace(
        draft_event(state, EventType.END, ReasonBody(), author=ANALYST.id, time=NOW),
        author=THIRD.id,
    )
    with refused("NOT_FOUND"):
        await submit(world, meddling.sign(THIRD.events), caller=THIRD)
    with refused("CONTRACT_WRONG_PARTY"):
        await submit(world, meddling.sign(THIRD.events), caller=ANALYST)
    with refused("NOT_FOUND"):
        await world.third.contracts.get(state.contract_id)
    watching = world.holder.provider.watch_events(THIRD.id, "")
    pending = asyncio.ensure_future(anext(watching))
    await world.analyst.contracts.act(state.contract_id, ContractAction.END)
    assert not pending.done()
    pending.cancel()
    with suppress(asyncio.CancelledError):
        await pending


async def test_events_of_the_wrong_side_or_key_are_refused(world):
    state = await negotiate(world)
    suspend = draft_event(state, EventType.SUSPEND, ReasonBody(), author=ANALYST.id, time=NOW)
    with refused("CONTRACT_WRONG_PARTY"):
        await submit(world, suspend.sign(ANALYST.events))
    end = draft_event(state, EventType.END, ReasonBody(), author=ANALYST.id, time=NOW)
    with refused("CONTRACT_SIGNATURE_INVALID"):
        await submit(world, end.sign(THIRD.events))
    late = replace(end, time=NOW - timedelta(minutes=2))
    with refused("CONTRACT_TIME_SKEW"):
        await submit(world, late.sign(ANALYST.events))
    forged = end.sign(ANALYST.events)
    with refused("CONTRACT_SIGNATURE_INVALID"):
        await submit(world, replace(forged, signature=bytes(64)))
    with refused("MALFORMED_MESSAGE"):
        await world.holder.provider.submit_event(ANALYST.id, b"{}", 0)
    with refused("MESSAGE_TOO_LARGE"):
        await world.holder.provider.submit_event(ANALYST.id, b" " * (300 << 10), 0)
    begin = draft_event(
        None,
        EventType.ACCEPT,
        EmptyBody(),
        author=ANALYST.id,
        time=NOW,
        contract_id="urn:luoshu:contract:00000000-0000-4000-8000-000000000000",
    )
    with refused("NOT_FOUND"):
        await submit(world, begin.sign(ANALYST.events))
    assert (await state_at(world.holder, state.contract_id)) == state


async def test_revoked_member_can_not_go_on(world):
    state = await negotiate(world, offer(terms(uses=3)), uses=50)
    world.revoke(ANALYST)
    accept = draft_event(
        state, EventType.ACCEPT, EmptyBody(), author=ANALYST.id, time=world.clock.now()
    )
    with refused("CONTRACT_SIGNATURE_INVALID"):
        await submit(world, accept.sign(ANALYST.events))


async def test_suspension_revocation_and_end_reach_a_consumer_that_only_dials_out(world):
    state = await negotiate(world)
    act, contract_id = world.holder.contracts.act, state.contract_id
    async with following(world.analyst):
        await act(contract_id, ContractAction.SUSPEND, reason="audit")
        suspended = await until(
            world.analyst, contract_id, lambda s: s.agreement is AgreementState.SUSPENDED
        )
        assert suspended.reason == "audit"
        await act(contract_id, ContractAction.RESUME)
        await until(world.analyst, contract_id, lambda s: s.is_active)
        await act(contract_id, ContractAction.REVOKE, reason="consent withdrawn")
        await until(world.analyst, contract_id, lambda s: s.agreement is AgreementState.REVOKED)
    final = await assert_same(world, contract_id)
    assert final.reason == "consent withdrawn"
    with refused("CONTRACT_TRANSITION_INVALID"):
        await act(contract_id, ContractAction.RESUME)
    with refused("CONTRACT_TRANSITION_INVALID"):
        await world.analyst.contracts.act(contract_id, ContractAction.END)


async def test_revocation_binds_on_receipt(world):
    """It holds at the provider at once, whatever the consumer has seen."""
    state = await negotiate(world)
    await world.holder.contracts.act(state.contract_id, ContractAction.SUSPEND)
    # The consumer hasn't seen the suspension, and its end counts all the same.
    ended = await world.analyst.contracts.act(state.contract_id, ContractAction.END, reason="done")
    assert ended.agreement is AgreementState.ENDED
    await assert_same(world, state.contract_id)


@pytest.mark.parametrize("restart", [False, True])
async def test_answer_lost_after_the_request_is_caught_up(world, restart):
    await world.holder.products.publish("lung", offers_json(offer()))
    world.analyst.wire.cut_after.add("submit_event")
    world.analyst.wire.cut_before |= {"list_events", "watch_events"}
    with refused("PEER_UNREACHABLE"):
        await world.analyst.contracts.request(PRODUCT, "", b"")
    assert await world.analyst.contracts.list() == ()
    (held,) = await world.holder.contracts.list()
    assert held.negotiation is S.AGREED
    node = world.restart(ANALYST) if restart else world.analyst
    node.wire.cut_after.clear()
    node.wire.cut_before.clear()
    committed = node.ledger.subscribe()
    follower = asyncio.ensure_future(ContractFollower(node.consumer).run())
    async for entry in committed:
        if entry.body.contract_id == held.contract_id:
            break
    state = await until(node, held.contract_id, lambda s: s.is_active)
    assert state.agreement is AgreementState.ACTIVE
    await assert_same(world, held.contract_id)
    follower.cancel()
    with suppress(asyncio.CancelledError):
        await follower


async def test_answer_that_is_lost_is_asked_for_at_once(world):
    await world.holder.products.publish("lung", offers_json(offer()))
    world.analyst.wire.cut_after.add("submit_event")
    state = await world.analyst.contracts.request(PRODUCT, "", b"")
    assert state.is_active
    await assert_same(world, state.contract_id)


async def test_new_providers_are_followed_as_they_are_asked(world):
    follower = asyncio.ensure_future(ContractFollower(world.analyst.consumer).run())
    state = await negotiate(world, MANUAL)
    await world.holder.contracts.act(state.contract_id, ContractAction.APPROVE)
    await until(world.analyst, state.contract_id, lambda s: s.is_active)
    assert not follower.done()
    follower.cancel()
    with suppress(asyncio.CancelledError):
        await follower


@pytest.mark.parametrize("cut", ["cut_before", "cut_after"])
async def test_stop_between_agreement_and_confirmation_is_resumed(world, cut):
    state = await negotiate(world, MANUAL)
    agreed = await world.holder.contracts.act(state.contract_id, ContractAction.APPROVE)
    getattr(world.analyst.wire, cut).add("submit_event")
    await world.analyst.consumer.refresh(state.contract_id)
    node = world.restart(ANALYST)
    async with following(node):
        await until(node, agreed.contract_id, lambda s: s.is_active)
    final = await assert_same(world, state.contract_id)
    assert final.position == 4


async def test_provider_restarts_with_all_it_acknowledged(world):
    state = await negotiate(world)
    world.restart(HOLDER)
    assert await state_at(world.holder, state.contract_id) == state
    ended = await world.analyst.contracts.act(state.contract_id, ContractAction.END)
    assert ended.agreement is AgreementState.ENDED
    await assert_same(world, state.contract_id)


async def test_stream_goes_on_where_it_was_left(world):
    first = await negotiate(world)
    async with following(world.analyst):
        await world.holder.contracts.act(first.contract_id, ContractAction.SUSPEND)
        await until(
            world.analyst, first.contract_id, lambda s: s.agreement is AgreementState.SUSPENDED
        )
    cursors = []
    node = world.restart(ANALYST)
    watch = node.wire.watch_events
    node.wire.watch_events = lambda peer, cursor: cursors.append(cursor) or watch(peer, cursor)
    async with following(node):
        await world.holder.contracts.act(first.contract_id, ContractAction.RESUME)
        await until(node, first.contract_id, lambda s: s.is_active)
    assert cursors != [""]
    assert await node.consumer.providers() == (HOLDER.id,)


async def test_consumer_believes_no_tampered_answer(world):
    await world.holder.products.publish("lung", offers_json(offer()))

    def swap(event: SequencedBytes) -> SequencedBytes:
        forged = replace(Envelope.from_bytes(event.position), signature=bytes(64))
        return SequencedBytes(event.event, forged.to_bytes())

    world.analyst.wire.tamper = swap
    size = world.analyst.ledger.size
    with refused("CONTRACT_SIGNATURE_INVALID"):
        await world.analyst.contracts.request(PRODUCT, "", b"")
    # Nothing of it was taken (the entry it read before is).
    assert world.analyst.ledger.size <= size + 1
    assert await world.analyst.contracts.list() == ()


async def test_provider_that_tells_two_stories_is_caught(world):
    state = await negotiate(world, MANUAL)
    details = await world.holder.contracts.get(state.contract_id)
    position = Envelope.from_bytes(details.events[0].position)
    other = replace(_position(position), time=NOW + timedelta(seconds=1)).sign(HOLDER.events)
    lie = SequencedBytes(details.events[0].event, other.to_bytes())
    with refused("PROOF_INVALID"):
        await world.analyst.consumer._receive(HOLDER.id, state.contract_id, [lie])


def _position(envelope):
    from luoshu.contracts.contract import Position
    from luoshu.contracts.envelope import unverified_payload

    return Position.from_payload(unverified_payload(envelope))


async def test_a_gap_is_filled(world):
    state = await negotiate(world)
    await world.holder.contracts.act(state.contract_id, ContractAction.SUSPEND)
    await world.holder.contracts.act(state.contract_id, ContractAction.REVOKE)
    events = await world.holder.provider.list_events(ANALYST.id, state.contract_id, 5)
    await world.analyst.consumer._take_in(HOLDER.id, state.contract_id, events[0], "99")
    assert (await assert_same(world, state.contract_id)).position == 6


async def test_expiry_is_noticed_by_the_sweep_and_reaches_the_consumer(world):
    state = await negotiate(world, not_after=NOW + timedelta(hours=1))
    other = await world.analyst.contracts.request(PRODUCT, "", b"")
    assert await world.holder.provider.sweep() == ()
    world.clock.advance(timedelta(hours=1))
    assert await world.holder.provider.sweep() == ()  # the last moment is inclusive
    world.clock.advance(timedelta(milliseconds=1))
    assert await world.holder.provider.sweep() == (state.contract_id,)
    assert await world.holder.provider.sweep() == ()
    await world.analyst.consumer.refresh(state.contract_id)
    expired = await assert_same(world, state.contract_id)
    assert expired.agreement is AgreementState.EXPIRED
    assert (await state_at(world.analyst, other.contract_id)).is_active
    with refused("CONTRACT_TRANSITION_INVALID"):
        await world.holder.contracts.act(state.contract_id, ContractAction.REVOKE)


async def test_twenty_negotiations_at_once(world):
    await world.holder.products.publish("lung", offers_json(offer()))
    world.holder.shelf.products["other"] = shelved("other")
    await world.holder.products.publish("other", offers_json(offer()))
    other = product_id(HOLDER.id, "other")
    async with following(world.analyst), following(world.third):
        states = await asyncio.gather(
            *(
                node.contracts.request(product, "", b"")
                for node in (world.analyst, world.third)
                for product in (PRODUCT, other)
                for _ in range(5)
            )
        )
    assert len({state.contract_id for state in states}) == 20
    assert all(state.is_active for state in states)
    for state in states:
        assert await state_at(world.holder, state.contract_id) == state
    assert {s.contract_id for s in await world.holder.contracts.list()} == {
        s.contract_id for s in states
    }


async def test_watching_a_contract_starts_with_its_present_state(world):
    state = await negotiate(world)
    async with aclosing(world.holder.contracts.watch(state.contract_id)) as states:
        assert await anext(states) == state
        await world.holder.contracts.act(state.contract_id, ContractAction.SUSPEND)
        assert (await anext(states)).agreement is AgreementState.SUSPENDED
    with refused("NOT_FOUND"):
        await anext(world.third.contracts.watch(state.contract_id))


async def test_malformed_steps_say_what_is_wrong(world):
    state = await negotiate(world)
    act = world.analyst.contracts.act
    with refused("NOT_FOUND"):
        await act("urn:luoshu:contract:none", ContractAction.END)
    with refused("MALFORMED_MESSAGE"):
        await act(state.contract_id, ContractAction.END, reason="x" * 501)
    with refused("TERMS_INVALID"):
        await act(state.contract_id, ContractAction.COUNTER, b"{}")
    with refused("TERMS_INVALID"):
        await world.analyst.contracts.request(PRODUCT, "", b'{"permission": []}')
    with refused("CONTRACT_WRONG_PARTY"):
        await act(state.contract_id, ContractAction.SUSPEND)
    with refused("CONTRACT_WRONG_PARTY"):
        await world.holder.contracts.act(state.contract_id, ContractAction.ACCEPT)


async def test_tables_can_be_made_again_although_a_member_was_revoked(world):
    state = await negotiate(world)
    await world.holder.contracts.act(state.contract_id, ContractAction.SUSPEND)
    await world.analyst.consumer.refresh(state.contract_id)
    before = await assert_same(world, state.contract_id)
    for member in (HOLDER, ANALYST):
        world.nodes.pop(member.id).close()
        for file in (world.root / member.name).glob("luoshu.db*"):
            file.unlink()
        world.start(member)
    world.revoke(ANALYST)
    for node in (world.holder, world.analyst):
        details = await node.contracts.get(state.contract_id)
        assert details.state == before
        assert len(details.events) == 5


async def test_confirmation_of_another_agreement_is_refused(world):
    state = await negotiate(world, MANUAL)
    agreed = await world.holder.contracts.act(state.contract_id, ContractAction.APPROVE)
    wrong = draft_event(
        agreed,
        EventType.VERIFY,
        ConfirmBody(f"sha256:{'0' * 64}"),
        author=ANALYST.id,
        time=NOW,
    )
    with refused("CONTRACT_TRANSITION_INVALID"):
        await submit(world, wrong.sign(ANALYST.events))


async def test_a_contract_that_cannot_be_expired_keeps_no_other_alive(world, monkeypatch):
    """The sweep goes on past it, and the node past the sweep."""
    soon = NOW + timedelta(hours=1)
    first = await negotiate(world, not_after=soon)
    second = await negotiate(world, not_after=soon)
    world.clock.set(soon + timedelta(seconds=1))
    expire = world.holder.provider._expire

    def broken_for_the_first(contract_id, tx):
        if contract_id == first.contract_id:
            raise NodeError("LOG_UNAVAILABLE")
        expire(contract_id, tx)

    monkeypatch.setattr(world.holder.provider, "_expire", broken_for_the_first)
    assert await world.holder.provider.sweep() == (second.contract_id,)
