"""One prison of each kind for all attempts, and a look at what each attempt leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from escape_world import Prison


@pytest.fixture(params=["bwrap_prison", "docker_prison"], ids=["bwrap", "docker"])
def prison(request: pytest.FixtureRequest) -> Prison:
    held: Prison = request.getfixturevalue(request.param)
    return held


@pytest.fixture(autouse=True)
async def nothing_is_left(prison: Prison) -> AsyncIterator[None]:
    """No process but zygotes, no mount, no control group and no file outlives an attempt."""
    await prison.settle()
    before = prison.traces()
    yield
    for _ in range(500):  # a killed process is gone once it is reaped, a container once removed
        if not prison.workers() and prison.traces() == before:
            break
        await asyncio.sleep(0.01)
    assert not prison.workers()
    assert prison.traces() == before
