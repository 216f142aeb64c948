"""Histories that are long or large: one reader's wish isn't another one's memory.

A member decides how large its events are, and how often it asks for them.
"""

from dataclasses import replace

import pytest
from contract_world import ANALYST, PRODUCT, offer, terms
from trading_world import offers_json, trading_world

from luoshu.connector.contract.store import MAX_ANSWER_BYTES, news_after
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.constraint import Constraint, LeftOperand, Operator
from luoshu.contracts.offer import AnswerMode
from luoshu.contracts.terms import Action, Rule


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


async def flood(world, count):
    await world.holder.products.publish("lung", offers_json(offer(answer=AnswerMode.MANUAL)))
    wanted = canonicalize(bulky().to_payload())
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
