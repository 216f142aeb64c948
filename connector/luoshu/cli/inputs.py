"""What commands read from their arguments: times, assignments, choices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum

from luoshu.cli.exits import UsageError

# Choices are listed here, not imported: `--help` must not load the ground floor.
# A test compares them with the roles that documents know.


class MemberRole(StrEnum):
    """Roles of a node in a space."""

    OPERATOR = "operator"
    HOLDER = "holder"
    ANALYST = "analyst"
    AUDITOR = "auditor"


class UserRoleName(StrEnum):
    """Roles of a user at a node."""

    ADMIN = "admin"
    ANALYST = "analyst"
    AUDITOR = "auditor"


def utc_now() -> dt.datetime:
    """Now, aware UTC."""
    return dt.datetime.now(dt.UTC)


def moment(option: str, text: str | None, *, end: bool = False) -> dt.datetime | None:
    """A date or time as an aware UTC moment.

    A bare date begins at midnight UTC; as an end it includes the whole day.

    Raises:
        UsageError: It is neither.
    """
    if text is None:
        return None
    try:
        parsed = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text}: write a date or time as 2026-12-31 or 2026-12-31T18:00:00Z."
        ) from None
    if end and len(text) == len("2026-12-31"):
        parsed = parsed.replace(hour=23, minute=59, second=59)
    return parsed.replace(tzinfo=dt.UTC) if parsed.tzinfo is None else parsed.astimezone(dt.UTC)


def assignments(option: str, items: Sequence[str]) -> dict[str, list[str]]:
    """`key=value` arguments, gathered by key.

    Raises:
        UsageError: One has no key or no value.
    """
    found: dict[str, list[str]] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{option} {item}: write it as key=value.")
        found.setdefault(key, []).append(value)
    return found
