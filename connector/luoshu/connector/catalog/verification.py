"""Checks what claims to be a holder's signed entry, on whatever side it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from luoshu.connector.catalog.ports import Members
from luoshu.connector.errors import NodeError
from luoshu.contracts.catalog import verify_catalog_entry, verify_tombstone
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.errors import ContractsError, CredentialError, EnvelopeError
from luoshu.contracts.product import CatalogEntry, Tombstone

__all__ = [
    "MAX_ENTRY_BYTES",
    "VerifiedEntry",
    "VerifiedTombstone",
    "stated_issuer",
    "verified_entry",
    "verified_tombstone",
]

MAX_ENTRY_BYTES: Final = 256 << 10
"""Largest envelope of an entry, in bytes."""


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """An entry that its issuer signed, and the envelope that proves it."""

    entry: CatalogEntry
    envelope: Envelope

    @property
    def digest(self) -> str:
        """Names this version; the next one and contract requests refer to it."""
        return self.envelope.digest


@dataclass(frozen=True, slots=True)
class VerifiedTombstone:
    """A withdrawal that its issuer signed, and the envelope that proves it."""

    tombstone: Tombstone
    envelope: Envelope


def stated_issuer(data: bytes) -> str:
    """Returns who is said to have issued an entry, to look up keys by; nothing is verified.

    Raises:
        NodeError: MESSAGE_TOO_LARGE or MALFORMED_MESSAGE.
    """
    with _as_node_error():
        issuer = unverified_payload(_envelope(data)).get("issuer")
    if not isinstance(issuer, str):
        raise NodeError("MALFORMED_MESSAGE", "The catalog entry names no issuer.")
    return issuer


def verified_entry(data: bytes, members: Members, now: datetime) -> VerifiedEntry:
    """Verifies an entry's envelope against the credential of the issuer it states.

    Args:
        data: The envelope's JSON.
        members: Knows the issuer.
        now: The entry must be valid then.

    Raises:
        NodeError: MESSAGE_TOO_LARGE, MALFORMED_MESSAGE, CATALOG_ENTRY_INVALID, or why the
            issuer is no member.
    """
    issuer = members.require_known(stated_issuer(data), now).credential
    with _as_node_error():
        envelope = _envelope(data)
        return VerifiedEntry(verify_catalog_entry(envelope, issuer, now), envelope)


def verified_tombstone(data: bytes, members: Members, now: datetime) -> VerifiedTombstone:
    """Verifies a tombstone's envelope against the credential of the issuer it states.

    Raises:
        NodeError: As `verified_entry`.
    """
    issuer = members.require_known(stated_issuer(data), now).credential
    with _as_node_error():
        envelope = _envelope(data)
        return VerifiedTombstone(verify_tombstone(envelope, issuer, now), envelope)


def _envelope(data: bytes) -> Envelope:
    if len(data) > MAX_ENTRY_BYTES:
        raise NodeError(
            "MESSAGE_TOO_LARGE",
            f"A catalog entry is {len(data)} bytes and {MAX_ENTRY_BYTES} are allowed.",
        )
    return Envelope.from_bytes(data, max_bytes=MAX_ENTRY_BYTES)


@contextmanager
def _as_node_error() -> Iterator[None]:
    try:
        yield
    except EnvelopeError as error:
        if error.reason == "SIGNATURE_INVALID":
            raise NodeError("CATALOG_ENTRY_INVALID", _sentence(error)) from error
        raise NodeError.from_reason(error) from error
    except CredentialError as error:
        raise NodeError("ROLE_REQUIRED", _sentence(error)) from error
    except ContractsError as error:
        if error.reason == "MALFORMED_MESSAGE":
            raise NodeError("CATALOG_ENTRY_INVALID", _sentence(error)) from error
        raise NodeError.from_reason(error) from error


def _sentence(error: ContractsError) -> str:
    return f"{error.message[:1].upper()}{error.message[1:]}."
