"""Page tokens are opaque and bound to one caller and one search."""

import base64

import pytest

from luoshu.connector.catalog.page_token import PageTokenError, PageTokens
from luoshu.connector.catalog.search import Cursor

CURSOR = Cursor(1, 4711, 9000)
SEARCH = {"viewer": "urn:luoshu:demo:analyst", "text": "肺癌", "filters": {"level": ["general"]}}


@pytest.fixture
def tokens():
    return PageTokens(bytes(range(32)))


def test_opens_what_it_sealed(tokens):
    assert tokens.open(tokens.seal(CURSOR, **SEARCH), **SEARCH) == CURSOR


def test_shows_nothing_of_the_cursor(tokens):
    token = tokens.seal(CURSOR, **SEARCH)
    assert b"4711" not in base64.urlsafe_b64decode(token)


@pytest.mark.parametrize(
    "other", [{"viewer": "urn:luoshu:demo:other"}, {"text": "肺"}, {"filters": {}}]
)
def test_is_void_for_another_search(tokens, other):
    token = tokens.seal(CURSOR, **SEARCH)
    with pytest.raises(PageTokenError):
        tokens.open(token, **{**SEARCH, **other})


def test_is_void_under_another_key(tokens):
    with pytest.raises(PageTokenError):
        PageTokens(bytes(32)).open(tokens.seal(CURSOR, **SEARCH), **SEARCH)


def test_every_changed_bit_is_noticed(tokens):
    sealed = base64.urlsafe_b64decode(tokens.seal(CURSOR, **SEARCH))
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(PageTokenError):
            tokens.open(base64.urlsafe_b64encode(bytes(changed)).decode(), **SEARCH)


@pytest.mark.parametrize("token", ["", "x", "é", "!!!!", "A" * 5000])
def test_malformed_tokens_are_refused(tokens, token):
    with pytest.raises(PageTokenError):
        tokens.open(token, **SEARCH)
