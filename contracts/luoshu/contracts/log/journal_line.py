"""The journal's line: the entries of one commit, with bodies and salts.

A node's journal is its log's only original; tree, tiles and tables are derived from it. One line
is one commit and one canonical JSON object, ``{"entries":[{"body":…,"salt":…}],"first":n}``, so a
commit is there completely or, torn, not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luoshu.contracts.canonical import canonicalize, parse_object
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.keys import decode_base64, encode_base64
from luoshu.contracts.log.entry import SALT_SIZE, Entry, EntryBody, leaf_bytes
from luoshu.contracts.log.errors import LogFormatError

JOURNAL_NAME = "journal"
"""File name of the journal in a node's log directory."""

MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry of a line: parsed, with the leaf that it must have.

    Attributes:
        entry: The entry in its place.
        leaf: The leaf's bytes.
    """

    entry: Entry
    leaf: bytes


def encode_line(entries: Sequence[Entry]) -> bytes:
    """Write one commit's line.

    Args:
        entries: The commit's entries, with consecutive indices.

    Raises:
        LogFormatError: No entries, a gap between them, or more than 16 MiB.
    """
    if not entries or any(e.index != entries[0].index + i for i, e in enumerate(entries)):
        raise LogFormatError("a commit has entries with consecutive indices")
    # Put together by hand, bodies being canonical already: keys in RFC 8785 order.
    parts = [
        b'{"body":%b,"salt":"%b"}' % (entry.body.to_bytes(), encode_base64(entry.salt).encode())
        for entry in entries
    ]
    line = b'{"entries":[%b],"first":%d}\n' % (b",".join(parts), entries[0].index)
    if len(line) > MAX_LINE_BYTES:
        raise LogFormatError(f"a commit has at most {MAX_LINE_BYTES} bytes")
    return line


def decode_line(line: bytes) -> list[JournalEntry]:
    """Read one commit's line.

    Args:
        line: With its newline.

    Raises:
        LogFormatError: It isn't exactly what `encode_line` writes.
        CanonicalError: It is no strict JSON object.
    """
    if not line.endswith(b"\n"):
        raise LogFormatError("the journal's line is cut short")
    payload = parse_object(line, max_bytes=MAX_LINE_BYTES)
    first, items = payload.get("first"), payload.get("entries")
    if not isinstance(first, int) or isinstance(first, bool) or not isinstance(items, list):
        raise LogFormatError("the journal's line has no entries")
    if set(payload) != {"first", "entries"} or not items or first < 0:
        raise LogFormatError("the journal's line has other keys than it should")
    if canonicalize(payload) + b"\n" != line:
        raise LogFormatError("the journal's line is not canonical JSON")
    result = []
    for position, item in enumerate(items):
        if not isinstance(item, dict) or set(item) != {"body", "salt"}:
            raise LogFormatError("an entry of the journal has a body and a salt")
        body, salt = item["body"], item["salt"]
        if not isinstance(body, dict) or not isinstance(salt, str):
            raise LogFormatError("an entry of the journal has a body and a salt")
        entry = Entry(first + position, EntryBody.from_payload(body), _decode_salt(salt))
        # The line is canonical, so this is the very body that was committed to.
        result.append(JournalEntry(entry, leaf_bytes(canonicalize(body), entry.salt)))
    return result


def _decode_salt(text: str) -> bytes:
    try:
        salt = decode_base64(text)
    except DocumentError as error:
        raise LogFormatError(f"a salt is {error.message}") from error
    if len(salt) != SALT_SIZE:
        raise LogFormatError(f"a salt has {SALT_SIZE} bytes")
    return salt
