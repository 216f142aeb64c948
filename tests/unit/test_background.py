"""Background work outlives whatever it meets."""

import asyncio

import pytest

from luoshu.connector import background
from luoshu.connector.errors import NodeError


@pytest.fixture
def pauses(monkeypatch):
    """Lets time pass at once, and notes for how long it would have."""
    noted = []

    async def pass_time(seconds):
        noted.append(seconds)

    monkeypatch.setattr(background.asyncio, "sleep", pass_time)
    return noted


@pytest.mark.parametrize(
    "error", [NodeError("PEER_UNREACHABLE"), OverflowError("date value out of range")]
)
async def test_failures_are_tried_again_later_and_later(pauses, error):
    tries = []

    async def work():
        tries.append(len(tries))
        if len(tries) == 9:
            raise asyncio.CancelledError
        raise error

    with pytest.raises(asyncio.CancelledError):
        await background.repeat("work_failed", work)
    waits = [seconds for seconds in pauses if seconds]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_success_starts_anew(pauses):
    outcomes = iter([ValueError(), None, ValueError(), asyncio.CancelledError()])

    async def work():
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome

    with pytest.raises(asyncio.CancelledError):
        await background.repeat("work_failed", work, pause=7.0)
    assert pauses == [7.0, 0.5, 7.0, 7.0, 0.5, 7.0]
