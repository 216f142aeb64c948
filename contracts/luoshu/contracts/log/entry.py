"""Log entries: the body that the parties see, and the salted leaf that everybody sees.

A leaf is ``{"commitment": …, "schema": "luoshu/leaf/v1"}`` and nothing else. The commitment is
HMAC-SHA256 with a random 32-byte salt as key over the body's canonical bytes: whoever has body
and salt can check it, whoever has only the leaf can't even guess at it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from luoshu.contracts.canonical import JsonObject, canonicalize, parse_object
from luoshu.contracts.log.errors import LogFormatError
from luoshu.contracts.log.merkle import hash_leaf
from luoshu.contracts.times import format_time, parse_time

ENTRY_SCHEMA = "luoshu/log-entry/v1"
LEAF_SCHEMA = "luoshu/leaf/v1"
SALT_SIZE = 32
MAX_BODY_BYTES = 1 << 20
MAX_PARTIES = 64

_KIND = re.compile(r"[a-z][a-z0-9-]{0,39}")
_BODY_KEYS = {"schema", "kind", "time", "parties", "contract_id", "data"}


class EntryKind(StrEnum):
    """Kinds of entries that this version writes."""

    MEMBERSHIP = "membership"
    PRODUCT = "product"
    CATALOG = "catalog"
    CONTRACT = "contract"
    DECISION = "decision"
    RELEASE = "release"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class EntryBody:
    """What an entry says.

    Attributes:
        kind: What it is about; `EntryKind` or one of a later version.
        time: The writing node's time, UTC, to the millisecond.
        parties: Ids of the participants who may read it, besides the node and auditors.
        contract_id: The contract it belongs to, if any.
        data: JSON without floats; its shape depends on ``kind``.
    """

    kind: str
    time: datetime
    parties: tuple[str, ...]
    contract_id: str | None
    data: JsonObject

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise LogFormatError("an entry's kind is lower-case letters, digits and hyphens")
        if len(self.parties) > MAX_PARTIES or len(set(self.parties)) != len(self.parties):
            raise LogFormatError(f"an entry has at most {MAX_PARTIES} parties, each once")

    def to_payload(self) -> JsonObject:
        """Return the body as JSON."""
        return {
            "schema": ENTRY_SCHEMA,
            "kind": self.kind,
            "time": format_time(self.time),
            "parties": list(self.parties),
            "contract_id": self.contract_id,
            "data": self.data,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are committed to.

        Raises:
            LogFormatError: More than 1 MiB.
            CanonicalError: ``data`` holds what canonical JSON can't.
        """
        # In the journal and in a receipt the body stands deeper than here; what is too deep
        # to be read back there must not be written.
        data = canonicalize([[[self.to_payload()]]])[3:-3]
        if len(data) > MAX_BODY_BYTES:
            raise LogFormatError(f"an entry's body has at most {MAX_BODY_BYTES} bytes")
        return data

    @classmethod
    def from_payload(cls, payload: JsonObject) -> EntryBody:
        """Read a body.

        Raises:
            LogFormatError: Unknown schema, unknown or missing key, or a value of another type.
        """
        if payload.get("schema") != ENTRY_SCHEMA:
            raise LogFormatError(f"unknown entry schema; this version knows {ENTRY_SCHEMA}")
        if set(payload) != _BODY_KEYS:
            raise LogFormatError("an entry's body has other keys than its schema says")
        kind, time, parties = payload["kind"], payload["time"], payload["parties"]
        contract_id, data = payload["contract_id"], payload["data"]
        if not (
            isinstance(kind, str)
            and isinstance(time, str)
            and isinstance(parties, list)
            and isinstance(data, dict)
            and (contract_id is None or isinstance(contract_id, str))
        ):
            raise LogFormatError("an entry's body has a value of the wrong type")
        names = tuple(party for party in parties if isinstance(party, str))
        if len(names) != len(parties):
            raise LogFormatError("an entry's parties are participant ids")
        return cls(kind, parse_time(time), names, contract_id, data)

    @classmethod
    def from_bytes(cls, data: bytes) -> EntryBody:
        """Read a body from its canonical bytes.

        Raises:
            LogFormatError: It isn't one, or the bytes aren't canonical.
        """
        body = cls.from_payload(parse_object(data, max_bytes=MAX_BODY_BYTES))
        if body.to_bytes() != data:
            raise LogFormatError("an entry's body is not canonical JSON")
        return body


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry in its place in the log, as its node keeps it.

    Attributes:
        index: Position in the log, from 0.
        body: What it says.
        salt: The 32 secret bytes of its commitment.
    """

    index: int
    body: EntryBody
    salt: bytes

    def __post_init__(self) -> None:
        if self.index < 0 or len(self.salt) != SALT_SIZE:
            raise LogFormatError(f"an entry has an index from 0 and a salt of {SALT_SIZE} bytes")

    def leaf(self) -> bytes:
        """Return the leaf's bytes, as published."""
        return leaf_bytes(self.body.to_bytes(), self.salt)


def commitment(body: bytes, salt: bytes) -> str:
    """Commit to a body's canonical bytes: HMAC-SHA256 (RFC 2104) under the salt, in hex.

    Raises:
        LogFormatError: The salt isn't 32 bytes: HMAC pads shorter keys, so that two salts of
            different lengths could give one commitment.
    """
    if len(salt) != SALT_SIZE:
        raise LogFormatError(f"a salt has {SALT_SIZE} bytes")
    return hmac.new(salt, body, hashlib.sha256).hexdigest()


def leaf_bytes(body: bytes, salt: bytes) -> bytes:
    """Return the published leaf for a body's canonical bytes and its salt."""
    # Canonical by construction: names in order, nothing to escape.
    return f'{{"commitment":"{commitment(body, salt)}","schema":"{LEAF_SCHEMA}"}}'.encode()


def entry_leaf_hash(body: bytes, salt: bytes) -> bytes:
    """Return the Merkle leaf hash for a body's canonical bytes and its salt."""
    return hash_leaf(leaf_bytes(body, salt))
