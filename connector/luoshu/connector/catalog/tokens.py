"""How catalog texts and queries become index terms.

Chinese is written without spaces, so a dictionary-free index needs terms of
its own: each run of CJK characters is indexed as overlapping two-character
terms (bigrams), which a query of two or more characters meets as a phrase,
and as its single characters, for queries of one. SQLite's own trigram
tokenizer finds nothing for a two-character word, the commonest length in
Chinese. Everything else is split at what is neither letter nor digit, and
folded: compatibility forms, case and diacritics don't matter.

Terms are written into the index separated by spaces. The index itself uses FTS5's
``ascii`` tokenizer, for which every non-ASCII character belongs to a term (and
``_~^@=`` as well, see the migration), so that no second opinion on Unicode
(SQLite's tables are older than Python's) can lose a character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["EVERYWHERE", "HEAD", "TITLE", "Run", "index_text", "runs"]

TITLE, HEAD, EVERYWHERE = "~", "^", ""
"""First characters of the terms of a place; no text produces them."""

BOUNDARY = "_"
"""A term that no text produces; keeps phrases from crossing between two runs."""

_ASCII_WORD = re.compile(r"[a-z0-9]+")

_CJK_RANGES = (
    (0x3005, 0x3007),  # iteration mark, closing mark, zero
    (0x3041, 0x3096),  # hiragana
    (0x30A1, 0x30FF),  # katakana
    (0x3105, 0x312F),  # bopomofo
    (0x31F0, 0x31FF),  # katakana extensions
    (0x3400, 0x4DBF),  # ideographs, extension A
    (0x4E00, 0x9FFF),  # ideographs
    (0xAC00, 0xD7A3),  # hangul syllables
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0x20000, 0x3FFFF),  # ideographs, extensions B and later
)


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of one script, folded.

    Attributes:
        text: The folded characters; never empty.
        cjk: Whether the run is written without spaces between words.
    """

    text: str
    cjk: bool

    @property
    def bigrams(self) -> tuple[str, ...]:
        """Overlapping pairs of characters; empty for a run of one."""
        return tuple(self.text[i : i + 2] for i in range(len(self.text) - 1))


def runs(text: str) -> Iterator[Run]:
    """Splits a text into folded runs, in order.

    Args:
        text: Any text, in any normal form.

    Yields:
        Runs of CJK characters, and words of all other scripts.
    """
    if text.isascii():
        yield from (Run(word, cjk=False) for word in _ASCII_WORD.findall(text.lower()))
        return
    current: list[str] = []
    current_cjk = False
    for character in unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()):
        cjk = _is_cjk(character)
        folded = character if cjk else _fold(character)
        if folded is None:  # a mark on the character before it
            continue
        if current and (not folded or cjk != current_cjk):
            yield Run("".join(current), current_cjk)
            current = []
        if folded:
            current.append(folded)
            current_cjk = cjk
    if current:
        yield Run("".join(current), current_cjk)


def index_text(texts: Iterable[Sequence[Run]], place: str = EVERYWHERE) -> str:
    """Returns the terms of some texts, in the form that the index stores.

    Args:
        texts: The runs of each, for instance of the title in each language.
        place: Where the texts stand: ``TITLE``, ``HEAD`` or ``EVERYWHERE``.

    Returns:
        Terms separated by spaces: words and bigrams in reading order with
        boundaries between runs, then each single CJK character once.
    """
    terms: list[str] = []
    characters: dict[str, None] = {}
    for text in texts:
        for run in text:
            if not run.cjk:
                terms.append(place + run.text)
                continue
            terms.extend(place + bigram for bigram in run.bigrams)
            terms.append(BOUNDARY)
            characters.update(dict.fromkeys(place + character for character in run.text))
        terms.append(BOUNDARY)
    return " ".join((*terms, *characters))


def _is_cjk(character: str) -> bool:
    point = ord(character)
    if point < 0x3005:
        return False
    return any(low <= point <= high for low, high in _CJK_RANGES) and (
        unicodedata.category(character)[0] in "LN"
    )


def _fold(character: str) -> str | None:
    """Returns the letter without diacritics, "" for a separator, None for a mark."""
    category = unicodedata.category(character)
    if category[0] == "M":
        return None
    if category[0] not in "LN" and category != "Co":
        return ""
    if character.isascii():
        return character
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if unicodedata.category(part)[0] in "LN") or character
