"""A provider that streams to its consumer what no honest node writes: the node goes on.

Whoever a node follows can send it signed bytes of its choosing, and a node ends when its
follower does. So nothing that comes from a provider may be more than a refusal.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from contract_world import HOLDER, PRODUCT, offer, terms
from trading_world import offers_json, trading_world

from luoshu.connector.contract import store
from luoshu.connector.contract.follower import ContractFollower
from luoshu.connector.peer_port import ContractNews, SequencedBytes
from luoshu.contracts.canonical import MAX_BYTES
from luoshu.contracts.constraint import Constraint, LeftOperand, Operator
from luoshu.contracts.contract import EventType, NegotiationState, OfferBody, draft_event, sequence
from luoshu.contracts.documents import CONTRACT_EVENT, CONTRACT_POSITION
from luoshu.contracts.envelope import sign
from luoshu.contracts.offer import AnswerMode
from luoshu.contracts.terms import Action, Rule
from luoshu.contracts.times import format_time


@pytest.fixture
async def world(tmp_path):
    async with trading_world(tmp_path) as world:
        yield world


async def ask(world):
    """A contract that waits for the provider's word."""
    await world.holder.products.publish("lung", offers_json(offer(answer=AnswerMode.MANUAL)))
    state = await world.analyst.contracts.request(PRODUCT, "", b"")
    assert state.negotiation is NegotiationState.REQUESTED
    return state


def counter_offer(world, state, offered):
    """A counter-offer that the provider signs, places and streams."""
    now = world.clock.now()
    event = draft_event(state, EventType.OFFER, OfferBody(offered), author=HOLDER.id, time=now)
    placed = sequence(state, event.sign(HOLDER.events), HOLDER.events, now)
    return SequencedBytes(placed.event.to_bytes(), placed.position.to_bytes())


def forged_offer(world, state, **permission):
    """The same by hand, so that it may hold what this code wouldn't write."""
    time = format_time(world.clock.now())
    event = sign(
        {
            "schema": CONTRACT_EVENT.schema,
            "contract_id": state.contract_id,
            "type": "offer",
            "author": HOLDER.id,
            "author_sequence": 1,
            "head": state.head,
            "time": time,
            "payload": {
                "terms": {
                    "permission": [{"action": "compute", **permission}],
                    "release": {"mode": "aggregate", "min_units": 10},
                }
            },
        },
        CONTRACT_EVENT.payload_type,
        HOLDER.events,
    )
    position = sign(
        {
            "schema": CONTRACT_POSITION.schema,
            "contract_id": state.contract_id,
            "position": 2,
            "event": event.digest,
            "previous": state.head,
            "time": time,
        },
        CONTRACT_POSITION.payload_type,
        HOLDER.events,
    )
    return SequencedBytes(event.to_bytes(), position.to_bytes())


def bulky(padding):
    """Terms of nearly 780,000 bytes, and so many more, each part within its own limits."""

    def excluding(*names):
        return Constraint(LeftOperand.PURPOSE, Operator.IS_NONE_OF, names)

    rules = [
        [
            excluding(*(f"{rule:02}-{place}-{value:02}-{'x' * 83}" for value in range(64)))
            for place in range(8)
        ]
        for rule in range(16)
    ]
    full, rest = divmod(padding, 200)
    rules[0].append(excluding(*(f"{value:03}{'y' * 194}" for value in range(full)), "z" * rest))
    return replace(terms(), prohibitions=tuple(Rule(Action.COMPUTE, tuple(rule)) for rule in rules))


async def follow(world, *news):
    """Lets the analyst's node take the news in, and sees that it still follows."""
    taken = asyncio.Event()

    async def stream(_peer, _cursor):
        for each in news:
            yield each
        taken.set()
        await asyncio.Event().wait()

    world.analyst.wire.watch_events = stream
    follower = asyncio.ensure_future(ContractFollower(world.analyst.consumer).run())
    waiting = asyncio.ensure_future(taken.wait())
    await asyncio.wait([follower, waiting], timeout=20, return_when=asyncio.FIRST_COMPLETED)
    try:
        assert not follower.done(), follower.exception()
        assert taken.is_set()
    finally:
        for task in (follower, waiting):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def held(world, state):
    return (await world.analyst.contracts.get(state.contract_id)).state


@pytest.mark.parametrize(
    ("operator", "moment"),
    [("gt", "9999-12-31T23:59:59.999Z"), ("lt", "0001-01-01T00:00:00Z")],
)
async def test_terms_with_a_time_beyond_all_times(world, operator, moment):
    state = await ask(world)
    constraint = {"leftOperand": "dateTime", "operator": operator, "rightOperand": moment}
    event = forged_offer(world, state, constraint=[constraint])
    await follow(world, ContractNews("7", state.contract_id, event))
    assert await held(world, state) == state


async def test_the_same_by_hand_but_sound_is_taken(world):
    state = await ask(world)
    await follow(world, ContractNews("7", state.contract_id, forged_offer(world, state)))
    assert (await held(world, state)).negotiation is NegotiationState.OFFERED


async def test_an_event_that_fits_an_envelope_but_no_log_entry(world):
    state = await ask(world)
    missing = MAX_BYTES - len(counter_offer(world, state, bulky(1)).event)

    event = counter_offer(world, state, bulky(missing * 3 // 4 - 100))
    assert MAX_BYTES - 400 < len(event.event) <= MAX_BYTES
    await follow(world, ContractNews("7", state.contract_id, event))
    assert await held(world, state) == state


async def test_whatever_goes_wrong_in_one_contract_another_goes_on(world, monkeypatch):
    first, second = await ask(world), await world.analyst.contracts.request(PRODUCT, "", b"")
    save = store.save_state

    def broken(connection, state, **more):
        if state.contract_id == first.contract_id:
            raise RecursionError
        save(connection, state, **more)

    monkeypatch.setattr("luoshu.connector.contract.projection.save_state", broken)
    news = [
        ContractNews(str(place), state.contract_id, counter_offer(world, state, terms(uses=2)))
        for place, state in ((7, first), (8, second))
    ]
    await follow(world, *news)
    assert (await held(world, second)).negotiation is NegotiationState.OFFERED
    assert await held(world, first) == first
