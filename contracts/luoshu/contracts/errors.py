"""Errors of the ground floor.

Each carries a ``reason`` of the one error catalogue and a message that may be
shown to anyone: it names fields and rules, never the values found in them. The
connector maps reasons to gRPC status codes.
"""

from __future__ import annotations

from typing import ClassVar

REASONS: frozenset[str] = frozenset(
    {
        "MALFORMED_MESSAGE",
        "MESSAGE_TOO_LARGE",
        "SCHEMA_UNKNOWN",
        "SIGNATURE_INVALID",
        "CREDENTIAL_EXPIRED",
        "CREDENTIAL_INVALID",
        "CREDENTIAL_REVOKED",
        "WRONG_SPACE",
        "STATUS_LIST_STALE",
        "REQUEST_SIGNATURE_INVALID",
        "REQUEST_TIME_SKEW",
        "CATALOG_VERSION_CONFLICT",
        "CONTRACT_EVENT_REPLAYED",
        "CONTRACT_NOT_ACTIVE",
        "CONTRACT_SIGNATURE_INVALID",
        "CONTRACT_STALE_HEAD",
        "CONTRACT_TIME_SKEW",
        "CONTRACT_TRANSITION_INVALID",
        "CONTRACT_WRONG_PARTY",
        "USES_EXHAUSTED",
    }
)
"""Every reason that the modules of this package (its ``log`` apart) raise."""


class ContractsError(Exception):
    """Base of all errors raised here.

    Attributes:
        reason: A name of the error catalogue, ``UPPER_SNAKE``.
        message: Public text: what happened, and what to do where that helps.
    """

    default_reason: ClassVar[str] = "MALFORMED_MESSAGE"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason if reason is not None else self.default_reason


class CanonicalError(ContractsError):
    """A value has no canonical JSON form, or bytes are not the JSON we accept."""


class DocumentError(ContractsError):
    """A document has a missing, unknown or ill-typed field, or breaks a rule of its kind."""


class KeyMaterialError(ContractsError):
    """Bytes are not a usable key of the stated use."""

    default_reason = "CREDENTIAL_INVALID"


class SignatureError(ContractsError):
    """A signature does not verify."""

    default_reason = "SIGNATURE_INVALID"


class EnvelopeError(ContractsError):
    """An envelope is malformed, of another type, or not signed by an accepted key."""

    default_reason = "SIGNATURE_INVALID"


class CredentialError(ContractsError):
    """A membership or user credential, or a status list, must not be relied on."""

    default_reason = "CREDENTIAL_INVALID"


class RequestError(ContractsError):
    """A computation request is not what its user signed for this contract, now."""

    default_reason = "REQUEST_SIGNATURE_INVALID"


class CatalogError(ContractsError):
    """A catalog entry or tombstone does not follow from what came before it."""

    default_reason = "CATALOG_VERSION_CONFLICT"


class TransitionError(ContractsError):
    """An event may not follow in a contract; the contract is unchanged."""

    default_reason = "CONTRACT_TRANSITION_INVALID"
