"""A holder with entries as large as they may be: others' searches and streams stay answerable."""

from contextlib import aclosing
from dataclasses import replace

import pytest
from contract_world import ANALYST, HOLDER, entry, offer, terms
from trading_world import trading_world

from luoshu.connector.catalog.search import MAX_PAGE_BYTES
from luoshu.connector.catalog.verification import MAX_ENTRY_BYTES
from luoshu.connector.peer_port import CatalogQuery
from luoshu.contracts.constraint import Constraint, LeftOperand, Operator
from luoshu.contracts.ids import product_id
from luoshu.contracts.terms import Action, Rule

pytestmark = pytest.mark.system

COUNT = 40


@pytest.fixture
async def world(tmp_path):
    async with trading_world(tmp_path) as world:
        yield world


def large(number):
    """An entry with an offer that excludes a great many purposes, one by one."""
    excluded = tuple(
        Constraint(
            LeftOperand.PURPOSE,
            Operator.IS_NONE_OF,
            tuple(f"{place:02}-{value:02}-{'x' * 150}" for value in range(64)),
        )
        for place in range(17)
    )
    offered = replace(terms(), prohibitions=(Rule(Action.COMPUTE, excluded),))
    return entry(id=product_id(HOLDER.id, f"product-{number}"), offers=(offer(offered),))


async def publish(world):
    made = [large(number).sign(HOLDER.events).to_bytes() for number in range(COUNT)]
    assert len(made[0]) > MAX_ENTRY_BYTES * 8 // 10
    assert sum(map(len, made)) > 2 * MAX_PAGE_BYTES
    for each in made:
        await world.operator.catalog.publish(HOLDER.id, each)


async def test_a_page_holds_no_more_than_an_answer_does(world):
    """A page of a hundred was 25 MiB, and a message has 8 MiB at most."""
    await publish(world)
    found, token = [], ""
    while len(found) < COUNT:
        query = CatalogQuery("肺癌", page_size=100, page_token=token)
        page = await world.operator.catalog.search(ANALYST.id, query)
        assert 0 < sum(map(len, page.entries)) <= MAX_PAGE_BYTES
        assert page.total == COUNT
        found.extend(page.entries)
        token = page.next_page_token
    assert token == ""
    assert len(set(found)) == COUNT


async def test_a_stream_goes_through_all_of_them(world):
    await publish(world)
    seen = []
    async with aclosing(world.operator.catalog.watch(ANALYST.id, "")) as changes:
        async for change in changes:
            seen.append(change.entry)
            if len(seen) == COUNT:
                break
    assert len(set(seen)) == COUNT
