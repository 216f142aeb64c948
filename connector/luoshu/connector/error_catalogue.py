"""The table of every reason a caller can meet: status, what happened, what to do next.

See ``luoshu.connector.errors`` for the rules; the data are in ``luoshu.connector.error_rows``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from luoshu.connector.error_rows import ROWS

Language = Literal["en", "zh"]

_GUARD_REASON = re.compile(r"GUARD_[A-Z0-9]+(_[A-Z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence in both languages."""

    en: str
    zh: str

    def in_language(self, language: Language) -> str:
        """Returns the sentence in ``language``."""
        return self.zh if language == "zh" else self.en


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """What the catalogue says about one reason.

    Attributes:
        reason: UPPER_SNAKE name, stable across releases.
        status: Name of the gRPC status code, such as ``NOT_FOUND``.
        what: What happened, when the raiser has nothing more precise.
        next_step: What the caller can do about it.
        sealed: The text is constant; a raiser's own words are not shown.
    """

    reason: str
    status: str
    what: Text
    next_step: Text
    sealed: bool = False


_SEALED: Final = frozenset({"QUERY_FAILED", "INTERNAL", "NOT_FOUND"})

CATALOGUE: Final[Mapping[str, CatalogueEntry]] = MappingProxyType(
    {
        reason: CatalogueEntry(
            reason, status, Text(what, what_zh), Text(step, step_zh), reason in _SEALED
        )
        for reason, status, what, step, what_zh, step_zh in ROWS
    }
)
"""Every reason but the guard's, by name."""

_GUARD_STATUS: Final = "PERMISSION_DENIED"
_GUARD_WHAT: Final = Text(
    "The query guard doesn't permit this query.", "查询保护规则不允许该查询。"
)
_GUARD_STEP: Final = Text(
    "Ask for aggregates over the columns that `luoshu catalog show` lists, used as it says there.",
    "请按 `luoshu catalog show` 所列的列及其允许的用途编写聚合查询。",
)


def lookup(reason: str) -> CatalogueEntry | None:
    """Returns what the catalogue says of ``reason``, or None when it doesn't know it.

    A well-formed ``GUARD_…`` code gets the guard's entry under its own name.
    """
    entry = CATALOGUE.get(reason)
    if entry is None and _GUARD_REASON.fullmatch(reason):
        return CatalogueEntry(reason, _GUARD_STATUS, _GUARD_WHAT, _GUARD_STEP)
    return entry
