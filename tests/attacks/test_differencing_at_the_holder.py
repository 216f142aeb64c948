"""Differencing through a holder's node, with its real sandbox: one person is never what differs.

Of 120 patients four have sex 3; a total and a total without them differ by four.
"""

import asyncio

import pytest
from compute_world import OFFERED, RELEASED, Workshop, compute_world
from contract_world import ANALYST, HOLDER, THIRD, key, offer, user_credential
from trading_world import offers_json

from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.release_terms import ReleaseScope
from luoshu.contracts.request import ComputationRequest

pytestmark = pytest.mark.system

ALL = "SELECT count(*) AS n FROM lung"
BUT_FOUR = "SELECT count(*) AS n FROM lung WHERE sex IN (1, 2)"
RENAMED = "SELECT count(*) AS patients FROM lung AS l WHERE l.sex <> 3"
WITHHELD = [{"n": None}]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    made = Workshop.make(tmp_path_factory.mktemp("workshop"))
    yield made
    made.sandbox.close()


@pytest.fixture
async def world(tmp_path, workshop):
    async with compute_world(tmp_path, workshop) as world:
        yield world


async def rows(world, state, sql):
    return (await world.outcome(world.ask(state, sql)))[1]


async def debits(world, state):
    return (await world.holder.contracts.get(state.contract_id)).debits


async def third_asks(world, state, sql):
    user = user_credential(THIRD)
    asked = world.ask(state, sql, user_id=user.user_id)
    request = ComputationRequest.from_payload(unverified_payload(asked)).sign(
        key("west/ada", KeyUse.REQUEST)
    )
    request_id = await world.submit(request, THIRD, user.sign(THIRD.events))
    await world.service.fetch(THIRD.id, request_id)
    return request_id


async def test_total_and_total_without_four(world):
    state = await world.contract(uses=9)
    assert await rows(world, state, ALL) == [{"n": 120}]
    assert await rows(world, state, BUT_FOUR) == WITHHELD
    assert await rows(world, state, RENAMED) == [{"patients": None}]
    assert await debits(world, state) == 2
    # What tells nothing new is released again, and costs no debit.
    assert await rows(world, state, ALL) == [{"n": 120}]
    assert await debits(world, state) == 2


async def test_the_other_way_round(world):
    state = await world.contract(uses=9)
    assert await rows(world, state, BUT_FOUR) == [{"n": 116}]
    assert await rows(world, state, ALL) == WITHHELD


async def test_total_then_partition(world):
    """The small group is withheld; the groups that are left add up to the total but four."""
    state = await world.contract(uses=9)
    assert await rows(world, state, ALL) == [{"n": 120}]
    by_sex = await rows(world, state, "SELECT sex, count(*) AS n FROM lung GROUP BY sex")
    assert sum(row["n"] or 0 for row in by_sex) < 116


async def test_both_at_once(world):
    state = await world.contract(uses=20)
    await world.serve(concurrency=2)
    found = await asyncio.gather(
        *(rows(world, state, sql) for sql in (ALL, BUT_FOUR, ALL, BUT_FOUR))
    )
    released = {row["n"] for each in found for row in each} - {None}
    assert len(released) == 1


async def test_across_a_restart_and_another_contract_of_the_same_organisation(world):
    first = await world.contract(uses=9)
    await rows(world, first, ALL)
    await world.crash()
    await world.serve()
    second = await world.contract(uses=9)
    assert await rows(world, second, BUT_FOUR) == WITHHELD
    assert await debits(world, second) == 1
    assert await debits(world, first) == 0


async def test_what_others_got_counts_in_the_scope_of_the_product_only(world):
    third = await world.contract(THIRD, uses=9)
    await third_asks(world, third, ALL)
    wide = await world.contract(uses=9, scope=ReleaseScope.PRODUCT)
    assert await rows(world, wide, BUT_FOUR) == WITHHELD
    own = await world.contract(uses=9)
    assert await rows(world, own, BUT_FOUR) == [{"n": 116}]


async def test_what_another_got_first_still_counts_as_one_s_own(world):
    """A result that others' files hold already must be found by a contract of a narrower scope."""
    third = await world.contract(THIRD, uses=9)
    await third_asks(world, third, ALL)
    wide = await world.contract(uses=9, scope=ReleaseScope.PRODUCT)
    assert await rows(world, wide, ALL) == [{"n": 120}]
    narrow = await world.contract(uses=9)
    assert await rows(world, narrow, BUT_FOUR) == WITHHELD


async def test_withheld_result_looks_like_a_small_one(world):
    """Entries and results of a conflict and of too few units are alike."""
    state = await world.contract(uses=9)
    await rows(world, state, ALL)
    seen = []
    for sql in (BUT_FOUR, "SELECT count(*) AS n FROM lung WHERE sex IN (3)"):
        size = world.holder.ledger.size
        receipt, found = await world.outcome(world.ask(state, sql))
        data = world.verified(receipt).data
        ledger = world.holder.ledger
        kinds = [entry.body.kind for entry in ledger.entries(size, ledger.size - size)]
        shared = [
            {name: type(value).__name__ for name, value in entry.body.data.items()}
            for entry in ledger.entries(size, ledger.size - size)
            if ANALYST.id in entry.body.parties
        ]
        seen.append((found, kinds, shared, data["result_digest"], data["rows"], data["columns"]))
    assert seen[0] == seen[1]


async def test_probing_ends_in_a_suspension(world):
    await world.holder.products.publish("lung", offers_json(offer(OFFERED)))
    state = await world.contract(uses=50, debits=2)
    await rows(world, state, ALL)
    for sql in (BUT_FOUR, RENAMED):
        await rows(world, state, sql)
    held = await world.holder.contracts.get(state.contract_id)
    assert (held.state.agreement.value, held.debits) == ("SUSPENDED", 2)
    assert held.state.provider == HOLDER.id


async def test_released_groups_stay_what_they_were(world):
    state = await world.contract(uses=9)
    by_sex = "SELECT sex, count(*) AS n, sum(time) AS days FROM lung GROUP BY sex"
    for _ in range(2):
        assert await rows(world, state, by_sex) == RELEASED
    assert await debits(world, state) == 0
