"""Which computation runs next: participants take turns, whoever asked more often."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from luoshu.connector.errors import NodeError

WAIT_SECONDS: Final = 300.0
"""More than twice what one computation may take, unless the node allows more."""


class Slots:
    """So many computations at a time; those that wait are served one participant after another."""

    def __init__(self, number: int, seconds: float = WAIT_SECONDS) -> None:
        """All are free.

        Args:
            number: How many computations may run at a time.
            seconds: How long one waits for its turn.
        """
        self._free = number
        self._seconds = seconds
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By participant, in the order of their turns."""

    @asynccontextmanager
    async def one(self, participant: str) -> AsyncIterator[None]:
        """Waits for a slot, and holds it within; a wait can be cancelled.

        Raises:
            NodeError: ``RATE_LIMITED``: its turn didn't come in time.
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._acquire(participant)
        except TimeoutError:
            raise NodeError(
                "RATE_LIMITED", "Other computations kept the node busy; ask again later."
            ) from None
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, participant: str) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(participant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it was given the slot just now
            else:
                self._forget(participant, turn)
            raise

    def _release(self) -> None:
        self._free += 1
        while self._free and self._waiting:
            participant = next(iter(self._waiting))
            queue = self._waiting.pop(participant)
            turn = queue.popleft()
            if queue:
                self._waiting[participant] = queue  # last in the order of turns
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def _forget(self, participant: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(participant)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[participant]
