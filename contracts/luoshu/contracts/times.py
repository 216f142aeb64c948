"""Times in signed documents: RFC 3339 in UTC, one text for each instant.

Second precision, or millisecond precision where the milliseconds are not zero;
always ``Z``. A second spelling of the same instant would give the same document
two digests, so it is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from luoshu.contracts.errors import DocumentError

MAX_SKEW = timedelta(seconds=60)
"""How far the clocks of two parties may be apart."""

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}))?Z"
)


def require_utc(moment: datetime) -> datetime:
    """Returns ``moment`` unchanged if it is an aware UTC time.

    Raises:
        ValueError: It is naive or of another offset: a programming error.
    """
    if moment.utcoffset() != timedelta(0):
        raise ValueError("a time must be aware and in UTC")
    return moment


def to_milliseconds(moment: datetime) -> datetime:
    """Cuts a UTC time down to the millisecond precision that documents hold."""
    moment = require_utc(moment)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Writes an aware UTC time for a signed document, cut down to milliseconds.

    Raises:
        ValueError: The time is naive or not in UTC.
    """
    moment = to_milliseconds(moment)
    text = (
        f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}"
        f"T{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d}"
    )
    milliseconds = moment.microsecond // 1000
    return f"{text}.{milliseconds:03d}Z" if milliseconds else f"{text}Z"


def parse_time(text: str) -> datetime:
    """Reads what `format_time` writes, and nothing else.

    Raises:
        DocumentError: Not RFC 3339 UTC in the one accepted spelling.
    """
    match = _TIME.fullmatch(text)
    if match is None or match[7] == "000":
        raise DocumentError(
            "a time must be RFC 3339 in UTC, as 2026-01-31T08:00:00Z or with milliseconds "
            "that are not zero"
        )
    try:
        year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
        return datetime(
            year, month, day, hour, minute, second, int(match[7] or 0) * 1000, tzinfo=UTC
        )
    except ValueError:
        raise DocumentError("a time names a day or hour that does not exist") from None
