"""From a searcher's words to FTS5 expressions, best matches first.

Results are ordered by *tier*, then newest first. A tier says where all the
words were found: in the title, in title or keywords, anywhere, and at last
loosely (a Latin word as the beginning of a longer one; a CJK run of several
words as its pieces, not side by side). Tiers need no statistics of the whole
catalog, so the order tells nothing about entries that the searcher may not
see, a page costs the same however common its words are, and a cursor
(tier, position) stays exact while entries are added. See ADR 0040.

Title and head (title and keywords) have terms of their own, told apart by a
first character, instead of FTS5's column filters: a filter walks through every
entry that has the word anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from luoshu.connector.catalog.tokens import EVERYWHERE, HEAD, TITLE, Run, runs

__all__ = [
    "FACET_FIELDS",
    "MAX_QUERY_CHARACTERS",
    "QueryTooLongError",
    "access_mark",
    "facet_mark",
    "tier_expressions",
]

MAX_QUERY_CHARACTERS = 200
FACET_FIELDS = ("issuer", "level", "personal_information", "theme", "release_mode")
"""Fields that a search can be filtered by and counted over."""

MAX_RUNS = 16
_LOOSE_WORD = 3
_LOOSE_RUN = 12


class QueryTooLongError(ValueError):
    """The text searched for has too many characters or words."""


def access_mark(participant_id: str) -> str:
    """Returns the index term that lets a participant see an entry; ``*`` is everybody."""
    return _mark("@", participant_id)


def facet_mark(field: str, value: str) -> str:
    """Returns the index term of a facet's value."""
    return _mark("=", f"{field}\x00{value}")


def tier_expressions(
    text: str,
    *,
    viewer: str,
    filters: Mapping[str, Sequence[str]],
    hidden_issuers: Iterable[str] = (),
) -> tuple[tuple[str, ...], str]:
    """Builds the expressions that find what a viewer may see.

    Args:
        text: Chinese or English words; all must match. Empty matches everything.
        viewer: Participant id of the searcher.
        filters: Facet field to the values any of which will do.
        hidden_issuers: Issuers whose entries are to be left out, for instance
            members that were revoked.

    Returns:
        The disjoint tiers in order, and one expression that matches their union.

    Raises:
        QueryTooLongError: More than 200 characters or 16 words.
    """
    if len(text) > MAX_QUERY_CHARACTERS:
        raise QueryTooLongError(f"the text is longer than {MAX_QUERY_CHARACTERS} characters")
    words = tuple(dict.fromkeys(runs(text)))
    if len(words) > MAX_RUNS:
        raise QueryTooLongError(f"the text has more than {MAX_RUNS} words")
    scope = _scope(viewer, filters, hidden_issuers)
    if not words:
        return (scope,), scope
    title, head, everywhere = (
        _all_of(_strict(word, place) for word in words) for place in (TITLE, HEAD, EVERYWHERE)
    )
    anything = _all_of(_loose(word) for word in words)
    tiers = [title, f"({head} NOT {title})", f"({everywhere} NOT {head})"]
    if anything != everywhere:
        tiers.append(f"({anything} NOT {everywhere})")
    return tuple(f"({tier} AND {scope})" for tier in tiers), f"({anything} AND {scope})"


def _scope(viewer: str, filters: Mapping[str, Sequence[str]], hidden_issuers: Iterable[str]) -> str:
    visible = _marks(access_mark(who) for who in ("*", viewer))
    wanted = [_marks(facet_mark(field, value) for value in filters[field]) for field in filters]
    scope = _all_of((visible, *wanted))
    hidden = [facet_mark("issuer", issuer) for issuer in hidden_issuers]
    return f"({scope} NOT {_marks(hidden)})" if hidden else scope


def _strict(run: Run, place: str) -> str:
    """A word as it is; a CJK run as a phrase of its bigrams."""
    terms = run.bigrams if run.cjk and len(run.text) > 1 else (run.text,)
    return _quote(" ".join(place + term for term in terms))


def _loose(run: Run) -> str:
    """A word as a beginning; a CJK run as pieces of two or three characters."""
    if not run.cjk:
        word = _quote(EVERYWHERE + run.text)
        return f"{word} *" if len(run.text) >= _LOOSE_WORD else word
    ways = tuple(_pieces(run.text)) if 4 <= len(run.text) <= _LOOSE_RUN else ((run.text,),)
    return _any_of(_all_of(_strict(Run(piece, True), EVERYWHERE) for piece in way) for way in ways)


def _pieces(text: str) -> Iterator[tuple[str, ...]]:
    """Every way to cut a text into pieces of two or three characters.

    Chinese words mostly have two or three; longer pieces would only find
    less. There are 12 ways for 12 characters.
    """
    if len(text) <= 3:
        yield (text,)
    for size in (2, 3):
        if len(text) - size >= 2:
            for rest in _pieces(text[size:]):
                yield (text[:size], *rest)


def _marks(marks: Iterable[str]) -> str:
    return _any_of(_quote(mark) for mark in marks)


def _all_of(parts: Iterable[str]) -> str:
    return f"({' AND '.join(parts)})"


def _any_of(parts: Iterable[str]) -> str:
    return f"({' OR '.join(parts)})"


def _quote(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _mark(kind: str, value: str) -> str:
    # Hashed, so that any participant id or theme makes one short ASCII term.
    return kind + hashlib.blake2b(value.encode(), digest_size=12).hexdigest()
