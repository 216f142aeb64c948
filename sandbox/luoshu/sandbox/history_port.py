"""What a computation asks of whoever keeps the release history."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol


class HistoryTransaction(Protocol):
    """The time from reading the history to having its delta durable; nobody else is in it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Files of the directory that a new result is compared with, oldest first."""
        ...

    async def keep(self, delta: Path, digest: str) -> None:
        """Makes a delta durable: from here on it counts as released.

        Args:
            delta: The file that the release worker wrote.
            digest: `sha256:<hex>` of its bytes, as the worker said.
        """
        ...


class HistoryPort(Protocol):
    """The history that one computation's result is compared with."""

    @property
    def directory(self) -> Path:
        """Where its files lie, to be mounted read-only."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[HistoryTransaction]:
        """Waits its turn, then holds the history until it is left."""
        ...
