"""Histories that are long or large: one reader's wish isn't another one's memory.

A member decides how large its events are, and how often it asks for them.
"""

from dataclasses import replace

import pytest
from contract_world import ANALYST, PRODUCT, offer, terms
from trading_world import offers_json, trading_world

from luoshu.connector.contract.service import ContractAction
from luoshu.connector.contract.store import MAX_ANSWER_BYTES, news_after
from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.constraint import Constraint, LeftOperand, Operator
from luoshu.contracts.contract import SequencedEvent, fold
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.offer import AnswerMode
from luoshu.contracts.terms import Action, Rule

pytestmark = pytest.mark.system


@pytest.fixture
async def world(tmp_path):
    async with trading_world(tmp_path) as world:
        yield world


def bulky():
    """Terms for an event of nearly 256 KiB, as large as one may be."""
    rule = Rule(
        Action.COMPUTE,
        tuple(
            Constraint(
                LeftOperand.PURPOSE,
                Operator.IS_NONE_OF,
                tuple(f"{place:02}-{value:02}-{'x' * 80}" for value in range(64)),
            )
            for place in range(11)
        ),
    )
    return replace(terms(), prohibitions=(rule,))


def wide():
    return canonicalize(bulky().to_payload())


async def flood(world, count):
    await world.holder.products.publish("lung", offers_json(offer(answer=AnswerMode.MANUAL)))
    wanted = wide()
    assert len(wanted) < 64 << 10
    return [await world.analyst.contracts.request(PRODUCT, "", wanted) for _ in range(count)]


async def test_a_stream_reads_no_more_at_once_than_one_answer_holds(world):
    """Sixty-four streams from the beginning, each of 200 events of 256 KiB, were 3 GiB."""
    states = await flood(world, 40)
    holder = world.holder
    batch = await holder.ledger.read(
        lambda connection: news_after(connection, ANALYST.id, holder.member.id, -1)
    )
    assert sum(len(each.event.event) for each in batch) <= MAX_ANSWER_BYTES
    seen = []
    async for news in holder.provider.watch_events(ANALYST.id, ""):
        seen.append(news.contract_id)
        if len(seen) == len(states):
            break
    assert seen == [state.contract_id for state in states]


async def test_a_position_beyond_all_numbers(world):
    [state] = await flood(world, 1)
    provider = world.holder.provider
    assert await provider.list_events(ANALYST.id, state.contract_id, 2**64 - 1) == ()


async def test_a_contract_with_more_events_than_a_message_holds_is_read_in_pieces(world):
    """It couldn't be read, and so not be revoked with our tools, once its uses took 8 MiB."""
    [state] = await flood(world, 1)
    holder, rounds = world.holder, 20
    for _ in range(rounds):
        await holder.contracts.act(state.contract_id, ContractAction.COUNTER, wide())
        await world.analyst.consumer.refresh(state.contract_id)
        await world.analyst.contracts.act(state.contract_id, ContractAction.COUNTER, wide())
    events, pieces = [], 0
    while len(events) < 1 + 2 * rounds:
        piece = await holder.contracts.get(state.contract_id, len(events))
        assert 0 < sum(len(each.event) for each in piece.events) <= MAX_ANSWER_BYTES
        events.extend(piece.events)
        pieces += 1
    assert pieces > 1
    envelopes = [Envelope.from_bytes(each.event) for each in events]
    positions = [Envelope.from_bytes(each.position) for each in events]
    sequenced = [SequencedEvent(*both) for both in zip(envelopes, positions, strict=True)]
    assert fold(sequenced, holder.directory) == piece.state


async def test_more_contracts_than_a_message_holds_are_listed_in_pages(world):
    states = await flood(world, 40)
    listed, token, pages = [], "", 0
    while token or not pages:
        found, token = await world.holder.contracts.page("REQUESTED", token)
        assert sum(len(canonicalize(s.terms.to_payload())) for s in found) <= MAX_ANSWER_BYTES
        listed.extend(found)
        pages += 1
    assert pages > 1
    assert [s.contract_id for s in listed] == [s.contract_id for s in reversed(states)]


async def test_a_page_token_of_nobody(world):
    with pytest.raises(NodeError, check=lambda error: error.reason == "MALFORMED_MESSAGE"):
        await world.holder.contracts.page("", "'; DROP TABLE contract_states")
