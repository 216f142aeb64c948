"""The journal's line: the entries of one commit, with bodies and salts.

A node's journal is its log's only original; tree, tiles and tables are derived from it. One line
is one commit and one canonical JSON object, ``{"entries":[{"body":…,"salt":…}],"first":n}``, so a
commit is there completely or, torn, not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luoshu.contracts.canonical import JsonValue, canonicalize, parse_object
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.keys import decode_base64, encode_base64
from luoshu.contracts.log.entry import SALT_SIZE, Entry, EntryBody, leaf_bytes
from luoshu.contracts.log.errors import LogFormatError

JOURNAL_NAME = "journal"
"""File name of the journal in a node's log directory."""

MAX_LINE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry with the bytes that its leaf commits to.

    Attributes:
        entry: The entry in its place.
        body: The canonical bytes of its body.
    """

    entry: Entry
    body: bytes

    @classmethod
    def of(cls, entry: Entry) -> JournalEntry:
        """Writes the entry's body out.

        Raises:
            LogFormatError: More than 1 MiB.
            CanonicalError: It holds what canonical JSON can't.
        """
        return cls(entry, entry.body.to_bytes())

    @property
    def leaf(self) -> bytes:
        """The leaf's bytes, as published."""
        return leaf_bytes(self.body, self.entry.salt)


def encode_line(entries: Sequence[JournalEntry]) -> bytes:
    """Writes one commit's line, with its newline.

    Args:
        entries: The commit's entries, with consecutive indices.

    Raises:
        LogFormatError: No entries, a gap between them, or more than 16 MiB.
    """
    if not entries:
        raise LogFormatError("a commit has entries")
    first = entries[0].entry.index
    if any(each.entry.index != first + i for i, each in enumerate(entries)):
        raise LogFormatError("a commit has entries with consecutive indices")
    # Put together by hand, bodies being canonical already: keys in RFC 8785 order.
    parts = [
        b'{"body":%b,"salt":"%b"}' % (each.body, encode_base64(each.entry.salt).encode())
        for each in entries
    ]
    line = b'{"entries":[%b],"first":%d}\n' % (b",".join(parts), first)
    if len(line) > MAX_LINE_BYTES:
        raise LogFormatError(f"a commit has at most {MAX_LINE_BYTES} bytes")
    return line


def decode_line(line: bytes) -> list[JournalEntry]:
    """Reads one commit's line.

    Args:
        line: With its newline.

    Raises:
        LogFormatError: It isn't exactly what `encode_line` writes.
        ContractsError: It is no strict JSON object, or an entry's time is none.
    """
    if not line.endswith(b"\n"):
        raise LogFormatError("the journal's line is cut short")
    payload = parse_object(line, max_bytes=MAX_LINE_BYTES)
    first, items = payload.get("first"), payload.get("entries")
    if not isinstance(first, int) or isinstance(first, bool) or not isinstance(items, list):
        raise LogFormatError("the journal's line has no entries")
    if set(payload) != {"first", "entries"} or not items or first < 0:
        raise LogFormatError("the journal's line has other keys than it should")
    # Nearly always the C encoder writes what RFC 8785 says, at a fifth of the time; it differs in
    # how it sorts names beyond the Basic Multilingual Plane. What it wrote is believed only where
    # it is exactly what stands in the line.
    for write in (_write_fast, canonicalize):
        entries = [_read_item(item, first + i, write) for i, item in enumerate(items)]
        if encode_line(entries) == line:
            return entries
    raise LogFormatError("the journal's line is not canonical JSON")


def _read_item(item: JsonValue, index: int, write: Callable[[JsonValue], bytes]) -> JournalEntry:
    if not isinstance(item, dict) or set(item) != {"body", "salt"}:
        raise LogFormatError("an entry of the journal has a body and a salt")
    body, salt = item["body"], item["salt"]
    if not isinstance(body, dict) or not isinstance(salt, str):
        raise LogFormatError("an entry of the journal has a body and a salt")
    entry = Entry(index, EntryBody.from_payload(body), _decode_salt(salt))
    return JournalEntry(entry, write(body))


def _write_fast(value: JsonValue) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def _decode_salt(text: str) -> bytes:
    try:
        salt = decode_base64(text)
    except DocumentError as error:
        raise LogFormatError(f"a salt is {error.message}") from error
    if len(salt) != SALT_SIZE:
        raise LogFormatError(f"a salt has {SALT_SIZE} bytes")
    return salt
