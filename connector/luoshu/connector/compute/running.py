"""A computation under way in this process: its phase, and who waits for it."""

from __future__ import annotations

import asyncio

from luoshu.connector.compute.outcome import Phase
from luoshu.connector.errors import NodeError


class Running:
    """A computation, from the moment its id is claimed. Used from one event loop.

    Attributes:
        request_digest: Of the signed request.
        phase: Where it is; None while it is being admitted.
        admitted: Whether it got past the refusals that its submission answers.
        error: What it ended with, unless it was released.
        task: What runs it.
        debits: Those after which its contract is suspended; None until it is admitted.
    """

    def __init__(self, request_digest: str) -> None:
        self.request_digest = request_digest
        self.phase: Phase | None = None
        self.admitted = False
        self.error: NodeError | None = None
        self.task: asyncio.Task[None] | None = None
        self.debits: int | None = None
        self._cancelled = False
        self._changed = asyncio.Event()

    def enter(self, phase: Phase) -> None:
        """Goes on to a phase and wakes whoever waits for one."""
        self.phase = phase
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def after(self, seen: Phase | None) -> Phase:
        """Waits for another phase than `seen`."""
        while self.phase is None or self.phase is seen:
            await self._changed.wait()
        return self.phase

    async def ended(self) -> None:
        """Waits for the end."""
        while self.phase is not Phase.ENDED:
            await self._changed.wait()

    def cancel(self) -> None:
        """Ends it, once: a second cancellation must not interrupt the failure entry."""
        if not self._cancelled and self.task is not None:
            self._cancelled = True
            self.task.cancel()
