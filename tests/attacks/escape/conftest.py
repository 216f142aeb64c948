"""One prison for all attempts, and a look at what each leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from escape_world import Prison, workers_below

from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig


@pytest.fixture(scope="session")
def prison() -> Iterator[Prison]:
    wall = BwrapIsolation(IsolationConfig(ready=0, ready_most=0))
    held = Prison(wall)
    yield held
    held.close()
    wall.close()


@pytest.fixture(autouse=True)
async def nothing_is_left(prison: Prison) -> AsyncIterator[None]:
    """No process but zygotes, no mount and no control group outlives an attempt."""
    await prison.run("tell(1)")  # so that there is a zygote
    before = _traces()
    yield
    launcher = prison.wall.launcher
    for _ in range(200):  # a killed process is gone once it is reaped
        workers = workers_below(launcher)
        if not workers:
            break
        await asyncio.sleep(0.01)
    assert not workers
    after = _traces()
    assert after == before


def _traces() -> tuple[str, str]:
    return Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
