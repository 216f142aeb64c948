"""The node's clock: the one place where time comes from.

Services take a `Clock` and never call ``datetime.now`` themselves, so that a decision's time is
the one in its log entry and a test can set it. The ledger refuses a clock that is behind the last
log entry (``CLOCK_BEHIND_LOG``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Returns the current time, aware and in UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Returns the current time, aware and in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is moved: for tests and replays."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Returns the time that was set."""
        return self._now

    def set(self, now: datetime) -> None:
        """Sets the time, backwards too."""
        self._now = now

    def advance(self, step: timedelta) -> None:
        """Moves the time on by ``step``."""
        self._now += step
