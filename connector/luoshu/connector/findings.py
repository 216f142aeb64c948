"""What `luoshu doctor` finds: one finding a check, with the remedy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Its name, stable.
        level: ``missing`` means that something doesn't work until it is remedied.
        detail: What was found.
        remedy: What exactly to do; empty when all is well.
    """

    check: str
    level: Level
    detail: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done before the node can work."""
        return self.level is not Level.MISSING


Check = Callable[[], Iterator[Finding]]
"""A check yields what it found: one finding or more."""
