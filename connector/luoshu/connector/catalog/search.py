"""The search index: adding, removing, and finding one page of entries.

Everything that narrows a search (words, filters, who may see an entry) is one FTS5
expression over terms, read newest first and cut off at the page's end. What counts
matches (total, facets) stops at `COUNT_LIMIT`, so that no word is too common.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import sqlalchemy as sa

from luoshu.connector.catalog import tables
from luoshu.connector.catalog.expression import (
    FACET_FIELDS,
    access_mark,
    facet_mark,
    tier_expressions,
)
from luoshu.connector.catalog.tokens import EVERYWHERE, HEAD, TITLE, index_text, runs

__all__ = [
    "COUNT_LIMIT",
    "Cursor",
    "FacetCount",
    "IndexedTexts",
    "Page",
    "add_to_index",
    "index_terms",
    "remove_from_index",
    "search_index",
]

COUNT_LIMIT = 5_000
"""Totals and facets are exact up to this many matches; beyond, they describe the newest."""

MAX_PAGE_BYTES = 4 << 20
"""Entries of one page: holders decide how large theirs are, and an answer has a limit."""


@dataclass(frozen=True, slots=True)
class IndexedTexts:
    """What of an entry is searched.

    Attributes:
        title: The title in each language.
        keywords: Keywords, in any language.
        body: All else: descriptions, theme, column names, ids.
    """

    title: Sequence[str]
    keywords: Sequence[str]
    body: Sequence[str]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page starts.

    Attributes:
        tier: Tier that the last result was found in.
        before: Log index of the last result; the next one is older.
        newest: Newest log index when the first page was read. Entries published
            or changed since stay out, so that a walk shows none twice.
    """

    tier: int
    before: int
    newest: int


@dataclass(frozen=True, slots=True)
class FacetCount:
    """How many matches have one value of a facet."""

    field: str
    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page of results.

    Attributes:
        envelopes: The entries as their issuers signed them, best first.
        total: Matches that the viewer may see, at most `COUNT_LIMIT` + 1,
            which means "more than `COUNT_LIMIT`".
        facets: Counts over the newest `COUNT_LIMIT` of them, by field, then by count.
        following: Start of the next page, or None after the last.
    """

    envelopes: tuple[bytes, ...]
    total: int
    facets: tuple[FacetCount, ...]
    following: Cursor | None


def index_terms(texts: IndexedTexts, visible_to: Iterable[str], facets: Mapping[str, str]) -> str:
    """Returns an entry's terms in the form that the index stores.

    Args:
        texts: What is searched.
        visible_to: Participant ids, or ``*``; the issuer must be among them to see it.
        facets: Value of each facet field.
    """
    title, keywords, body = (
        [tuple(runs(text)) for text in part] for part in (texts.title, texts.keywords, texts.body)
    )
    return " ".join(
        (
            index_text(title, TITLE),
            index_text([*title, *keywords], HEAD),
            index_text([*title, *keywords, *body], EVERYWHERE),
            *sorted(access_mark(who) for who in set(visible_to)),
            *(facet_mark(field, facets[field]) for field in FACET_FIELDS),
        )
    )


def add_to_index(
    connection: sa.Connection,
    *,
    log_index: int,
    product_id: str,
    terms: str,
    facets: Mapping[str, str],
    valid_until: int,
) -> None:
    """Makes an entry findable.

    Args:
        connection: Inside the transaction that stores the entry.
        log_index: Index of the log entry that published it; must be new.
        product_id: Its id.
        terms: From `index_terms`.
        facets: Value of each facet field.
        valid_until: Unix milliseconds; not found any more from then on.
    """
    combination = {field: facets[field] for field in FACET_FIELDS}
    found = connection.scalar(_FIND_FACETS, combination)
    if found is None:
        found = connection.scalar(_INSERT_FACETS, combination)
    connection.execute(
        _INSERT_LISTING,
        {
            "log_index": log_index,
            "product_id": product_id,
            "valid_until": valid_until,
            "facets": found,
        },
    )
    connection.execute(_ADD, {"log_index": log_index, "terms": terms})


def remove_from_index(connection: sa.Connection, *, log_index: int, terms: str) -> None:
    """Makes an entry unfindable; ``terms`` must be what was added."""
    connection.execute(_REMOVE, {"log_index": log_index, "terms": terms})
    connection.execute(sa.delete(tables.listing).where(tables.listing.c.log_index == log_index))


def search_index(
    connection: sa.Connection,
    text: str,
    *,
    viewer: str,
    filters: Mapping[str, Sequence[str]],
    hidden_issuers: Iterable[str],
    now: int,
    size: int,
    cursor: Cursor | None,
) -> Page:
    """Finds one page of what a viewer may see.

    Args:
        connection: A read connection.
        text: Words, all of which must match; empty matches everything.
        viewer: Participant id.
        filters: Facet field to the values any of which will do.
        hidden_issuers: Issuers to leave out.
        now: Unix milliseconds; entries no longer valid are left out.
        size: Results of a page; there are fewer where those would take more than 4 MiB.
        cursor: From the page before, or None for the first.

    Raises:
        QueryTooLongError: The text has too many characters or words.
    """
    tiers, everything = tier_expressions(
        text, viewer=viewer, filters=filters, hidden_issuers=hidden_issuers
    )
    newest = cursor.newest if cursor else _newest(connection)
    first = cursor.tier if cursor else 0
    found: list[tuple[int, int, bytes]] = []
    for tier in range(first, len(tiers)):
        before = cursor.before if cursor and tier == first else newest + 1
        rows = connection.execute(
            _FIND,
            {"terms": tiers[tier], "before": before, "now": now, "size": size + 1 - len(found)},
        )
        found.extend((tier, row.log_index, bytes(row.envelope)) for row in rows)
        if len(found) > size:
            break
    shown = _that_fit(found[:size])
    following = None
    if len(found) > len(shown):
        tier, log_index, _ = shown[-1]
        following = Cursor(tier, log_index, newest)
    total, counts = _count(connection, everything, newest, now)
    return Page(tuple(envelope for *_, envelope in shown), total, counts, following)


def _that_fit(found: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The first of them that one answer holds, at least one if there is any."""
    ends = accumulate(len(envelope) for *_, envelope in found)
    fitting = sum(end <= MAX_PAGE_BYTES for end in ends)
    return found[: max(fitting, 1)]


def _newest(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.max(tables.listing.c.log_index))) or 0)


def _count(
    connection: sa.Connection, everything: str, newest: int, now: int
) -> tuple[int, tuple[FacetCount, ...]]:
    rows = connection.execute(
        _COUNT,
        {"terms": everything, "before": newest + 1, "now": now, "size": COUNT_LIMIT + 1},
    ).all()
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        for field in FACET_FIELDS:
            key = (field, str(getattr(row, field)))
            counts[key] = counts.get(key, 0) + int(row.matches)
    ordered = sorted(
        counts.items(), key=lambda item: (FACET_FIELDS.index(item[0][0]), -item[1], item[0][1])
    )
    total = sum(int(row.matches) for row in rows)
    return total, tuple(FacetCount(field, value, count) for (field, value), count in ordered)


# Built once: building a statement takes longer than running it.
_FIND_FACETS = sa.select(tables.facets.c.id).where(
    *(tables.facets.c[field] == sa.bindparam(field) for field in FACET_FIELDS)
)
_INSERT_FACETS = sa.insert(tables.facets).returning(tables.facets.c.id)
_INSERT_LISTING = sa.insert(tables.listing)
_ADD = sa.text("INSERT INTO catalog_index (rowid, terms) VALUES (:log_index, :terms)")
_REMOVE = sa.text(
    "INSERT INTO catalog_index (catalog_index, rowid, terms) VALUES ('delete', :log_index, :terms)"
)
# CROSS JOIN keeps SQLite from turning the order round: the index is read newest first, and
# the limit ends the reading.
_FIND = sa.text(
    "SELECT i.rowid AS log_index, e.envelope AS envelope FROM catalog_index AS i "
    "CROSS JOIN catalog_listing AS l ON l.log_index = i.rowid "
    "CROSS JOIN catalog_entries AS e ON e.log_index = i.rowid "
    "WHERE catalog_index MATCH :terms AND i.rowid < :before AND l.valid_until > :now "
    "ORDER BY i.rowid DESC LIMIT :size"
)
_COUNT = sa.text(
    "SELECT f.issuer, f.level, f.personal_information, f.theme, f.release_mode, m.matches "
    "FROM (SELECT l.facets AS facets, count(*) AS matches FROM ("
    "SELECT rowid AS log_index FROM catalog_index "
    "WHERE catalog_index MATCH :terms AND rowid < :before ORDER BY rowid DESC LIMIT :size"
    ") AS i CROSS JOIN catalog_listing AS l ON l.log_index = i.log_index "
    "WHERE l.valid_until > :now GROUP BY l.facets"
    ") AS m JOIN catalog_facets AS f ON f.id = m.facets"
)
