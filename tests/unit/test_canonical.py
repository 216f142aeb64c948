"""Canonical JSON: one form out, nothing ambiguous in."""

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoshu.contracts.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    canonicalize,
    digest,
    digest_of,
    parse_object,
)
from luoshu.contracts.errors import CanonicalError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_rfc_8785_sorts_by_utf_16_and_escapes_minimally() -> None:
    # RFC 8785 §3.2.3: the sample's names, sorted by UTF-16 code units.
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\u00f6"]
    expected = ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    written = canonicalize(dict.fromkeys(names, 0))
    assert list(parse_object(written)) == expected
    assert (
        canonicalize({"s": '€$\x0f\nA\'B"\\"/'}) == '{"s":"€$\\u000f\\nA\'B\\"\\\\\\"/"}'.encode()
    )


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4))
def test_what_is_written_is_read_back_and_written_the_same(value: dict) -> None:
    data = canonicalize(value)
    assert parse_object(data) == value
    assert canonicalize(parse_object(data)) == data


def test_digest_is_sha_256_of_the_canonical_form() -> None:
    expected = "sha256:" + hashlib.sha256(b'{"a":1,"b":[]}').hexdigest()
    assert digest_of({"b": [], "a": 1}) == expected == digest(b'{"a":1,"b":[]}')


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        {"a": float("nan")},
        MAX_INTEGER + 1,
        [-MAX_INTEGER - 1],
        {"a": b"bytes"},
        {1: "a"},
        "\ud800",
        {"\udc00": 1},
        {"a": {1, 2}},
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(CanonicalError) as caught:
        canonicalize(value)  # type: ignore[arg-type]
    assert str(MAX_INTEGER + 1) not in caught.value.message


def test_depth_is_bounded_both_ways() -> None:
    value: list | dict = {}
    for _ in range(MAX_DEPTH - 1):
        value = {"a": value}
    assert canonicalize(parse_object(canonicalize(value))) == canonicalize(value)
    with pytest.raises(CanonicalError, match="nested"):
        canonicalize({"a": value})
    with pytest.raises(CanonicalError, match="nested"):
        parse_object(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 100_000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":01}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1} {}',
        b'{"a":"\n"}',
        b"[1]",
        b'"a"',
        b"null",
        b"",
        b"{",
        b'{"a":"',
    ],
)
def test_ambiguous_or_broken_json_is_refused(data: bytes) -> None:
    with pytest.raises(CanonicalError) as caught:
        parse_object(data)
    assert caught.value.reason == "MALFORMED_MESSAGE"


def test_size_is_checked_before_anything_else() -> None:
    with pytest.raises(CanonicalError) as caught:
        parse_object(b"\xff" * 101, max_bytes=100)
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'"', b'\\"', b'"\\', b"[],", b'"",', b"\\"])
def test_hostile_shapes_cost_linear_time(unit: bytes) -> None:
    data = unit * ((1 << 20) // len(unit))
    begin = time.process_time()
    with pytest.raises(CanonicalError):
        parse_object(data)
    assert time.process_time() - begin < 2


def test_brackets_inside_strings_are_not_nesting() -> None:
    text = "[{" * 100 + '\\"'
    assert parse_object(canonicalize({"a": text})) == {"a": text}
