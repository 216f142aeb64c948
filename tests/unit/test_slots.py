"""Participants take turns, and no slot is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from luoshu.connector.compute.slots import Slots
from luoshu.connector.errors import NodeError


async def asked(slots: Slots, order: list[str], participant: str, go: asyncio.Event) -> None:
    async with slots.one(participant):
        order.append(participant)
        await go.wait()


async def test_who_asks_most_waits_as_long_as_who_asks_once() -> None:
    slots, order, go = Slots(1), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(asked(slots, order, who, go)) for who in "aaaaabbc"]
    await asyncio.sleep(0)
    assert order == ["a"]
    go.set()
    await asyncio.gather(*tasks)
    assert order == list("aabcabaa")


async def test_as_many_run_as_there_are_slots() -> None:
    slots, order, go = Slots(3), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(asked(slots, order, who, go)) for who in "aaaab"]
    await asyncio.sleep(0)
    assert order == ["a", "a", "a"]
    go.set()
    await asyncio.gather(*tasks)
    assert sorted(order) == list("aaaab")


@pytest.mark.parametrize("seed", range(20))
async def test_cancelling_loses_no_slot(seed: int) -> None:
    chance = random.Random(seed)
    slots, running, most = Slots(2), 0, 0

    async def work(participant: str) -> None:
        nonlocal running, most
        async with slots.one(participant):
            running += 1
            most = max(most, running)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            running -= 1

    tasks = [asyncio.create_task(work(chance.choice("abc"))) for _ in range(60)]
    for _ in range(200):
        await asyncio.sleep(0)
        chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # `running` may be off for those cancelled within; the slots are not.
    assert slots._free == 2
    assert not slots._waiting
    assert most >= 2


async def test_waiting_ends_in_time() -> None:
    slots = Slots(1, seconds=0.01)
    async with slots.one("a"):
        with pytest.raises(NodeError) as error:
            async with slots.one("b"):
                pass
    assert error.value.reason == "RATE_LIMITED"
    async with slots.one("b"):
        pass
