"""Verification of catalog entries: who signed, and what they follow.

A catalog can omit, but it can neither forge nor roll back: the holder signs each
version, and each names the digest of the one before.
"""

from __future__ import annotations

from datetime import datetime

from luoshu.contracts.documents import CATALOG_ENTRY, TOMBSTONE
from luoshu.contracts.envelope import Envelope, verify
from luoshu.contracts.errors import CatalogError, CredentialError, DocumentError
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.membership import MembershipCredential, Role
from luoshu.contracts.product import CatalogEntry, Tombstone
from luoshu.contracts.times import MAX_SKEW


def verify_catalog_entry(
    envelope: Envelope, issuer: MembershipCredential, now: datetime
) -> CatalogEntry:
    """Verifies an entry against its issuer's credential.

    Args:
        envelope: What arrived.
        issuer: The credential of the participant that should have issued it,
            verified before and not revoked.
        now: When the entry must be valid.

    Raises:
        EnvelopeError: Not signed by an events key of the issuer.
        DocumentError: Ill-formed, issued by another, from the future, or no longer valid.
        CredentialError: The issuer isn't a holder.
    """
    payload = verify(envelope, CATALOG_ENTRY.payload_type, issuer.keys_for(KeyUse.EVENTS))
    entry = CatalogEntry.from_payload(payload)
    _check_issuer(entry, issuer, now)
    if not entry.is_valid_at(now):
        raise DocumentError("a catalog entry is no longer valid: its holder must publish it again")
    return entry


def verify_tombstone(envelope: Envelope, issuer: MembershipCredential, now: datetime) -> Tombstone:
    """Verifies a tombstone against its issuer's credential.

    Raises:
        EnvelopeError: Not signed by an events key of the issuer.
        DocumentError: Ill-formed, issued by another, or from the future.
        CredentialError: The issuer isn't a holder.
    """
    payload = verify(envelope, TOMBSTONE.payload_type, issuer.keys_for(KeyUse.EVENTS))
    tombstone = Tombstone.from_payload(payload)
    _check_issuer(tombstone, issuer, now)
    return tombstone


def check_successor(
    newer: CatalogEntry | Tombstone,
    *,
    version: int | None,
    digest: str | None,
    withdrawn: bool = False,
) -> None:
    """Demands that an entry or tombstone follows what a catalog holds.

    Args:
        newer: What is to be published.
        version: Version that the catalog holds, None if it holds nothing.
        digest: `Envelope.digest` of what it holds.
        withdrawn: Whether that is a tombstone.

    Raises:
        CatalogError: It doesn't follow; reason ``CATALOG_VERSION_CONFLICT``.
    """
    if isinstance(newer, Tombstone) and (version is None or withdrawn):
        raise CatalogError("there is nothing to withdraw: the catalog holds no such entry")
    expected = 1 if version is None else version + 1
    if newer.version != expected or newer.previous != digest:
        raise CatalogError(
            f"the catalog expects version {expected} with the digest of the one before: "
            "get the newest entry and publish on top of it"
        )


def _check_issuer(
    document: CatalogEntry | Tombstone, issuer: MembershipCredential, now: datetime
) -> None:
    if document.issuer != issuer.participant_id:
        raise DocumentError("a catalog entry names another issuer than the one that signed it")
    if not issuer.has_role(Role.HOLDER):
        raise CredentialError("only a member with the holder role publishes products")
    if document.issued_at > now + MAX_SKEW:
        raise DocumentError("a catalog entry is from the future: check its issuer's clock")
