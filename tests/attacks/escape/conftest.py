"""One prison of each kind for all attempts, and a look at what each attempt leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from escape_world import Prison


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "prison" not in metafunc.fixturenames:
        return
    walls = ["bwrap", "docker"]
    if metafunc.definition.get_closest_marker("host_kernel") is None:
        walls.append("gvisor")
    metafunc.parametrize("prison", walls, indirect=True, scope="session")


@pytest.fixture(scope="session")
def prison(request: pytest.FixtureRequest) -> Prison:
    held: Prison = request.getfixturevalue(f"{request.param}_prison")
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
