"""The user credential: what a member says of one of its users.

Signed by an events key of the member whose user it is. It enrols the key that
signs the user's computation requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.documents import USER_CREDENTIAL
from luoshu.contracts.envelope import Envelope, sign, verify
from luoshu.contracts.errors import ContractsError, CredentialError, DocumentError
from luoshu.contracts.fields import Fields
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.membership.credential import MembershipCredential, check_validity
from luoshu.contracts.times import format_time


class UserRole(StrEnum):
    """What a user may do at its own node."""

    ADMIN = "admin"
    ANALYST = "analyst"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class UserCredential:
    """What a member says of one of its users.

    Attributes:
        user_id: The user; its prefix is the member's id.
        participant_id: The member.
        request_key: The key that signs the user's computation requests.
        roles: What the user may do at its own node, at least one.
        not_before: Valid from, inclusive.
        not_after: Valid until, exclusive.
    """

    user_id: str
    participant_id: str
    request_key: PublicKey
    roles: tuple[UserRole, ...]
    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if ids.parse_user_id(self.user_id).participant_id != self.participant_id:
            raise DocumentError("a user's id belongs to another member than its credential")
        if self.request_key.use is not KeyUse.REQUEST:
            raise DocumentError("a user's key must be one for request")
        if not self.not_before < self.not_after:
            raise DocumentError("a credential ends before it begins")

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether ``moment`` lies within the validity."""
        return self.not_before <= moment < self.not_after

    def has_role(self, role: UserRole) -> bool:
        """Whether the member gave the user this role."""
        return role in self.roles

    def to_payload(self) -> JsonObject:
        """The JSON form that the member signs."""
        return {
            "schema": USER_CREDENTIAL.schema,
            "user_id": self.user_id,
            "participant_id": self.participant_id,
            "request_key": self.request_key.to_payload(),
            "roles": [role.value for role in self.roles],
            "not_before": format_time(self.not_before),
            "not_after": format_time(self.not_after),
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> UserCredential:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, or of another schema.
        """
        USER_CREDENTIAL.check_schema(value)
        fields = Fields(
            value,
            USER_CREDENTIAL.name,
            {
                *("schema", "user_id", "participant_id", "request_key", "roles"),
                *("not_before", "not_after"),
            },
        )
        return cls(
            user_id=fields.string("user_id", ids.parse_user_id),
            participant_id=fields.participant("participant_id"),
            request_key=PublicKey.from_payload(fields.raw("request_key")),
            roles=fields.choices("roles", UserRole, minimum=1),
            not_before=fields.time("not_before"),
            not_after=fields.time("not_after"),
        )

    def sign(self, events_key: SigningKey) -> Envelope:
        """Signs with the member's events key."""
        return sign(self.to_payload(), USER_CREDENTIAL.payload_type, events_key)


def verify_user_credential(
    envelope: Envelope, member: MembershipCredential, now: datetime
) -> UserCredential:
    """Verifies a user's credential against that of the member whose user it is.

    Args:
        envelope: The user's credential.
        member: The member's credential, verified before.
        now: When it must be valid; for a past request, the time of that request.

    Raises:
        CredentialError: Not signed by the member, about another member's user,
            ill-formed, or either credential isn't valid (``CREDENTIAL_EXPIRED``).
    """
    check_validity(member.not_before, member.not_after, now, "a membership credential")
    credential = open_user_credential(envelope, member.keys_for(KeyUse.EVENTS))
    if credential.participant_id != member.participant_id:
        raise CredentialError("a user credential names another member than the one that signed it")
    check_validity(credential.not_before, credential.not_after, now, "a user credential")
    return credential


def open_user_credential(envelope: Envelope, keys: tuple[PublicKey, ...]) -> UserCredential:
    """Checks who signed a user credential; the caller checks member and validity.

    Raises:
        CredentialError: Signed by none of ``keys``, or ill-formed.
    """
    try:
        payload = verify(envelope, USER_CREDENTIAL.payload_type, keys)
        return UserCredential.from_payload(payload)
    except ContractsError as error:
        raise CredentialError(
            error.message,
            reason="SCHEMA_UNKNOWN" if error.reason == "SCHEMA_UNKNOWN" else None,
        ) from None
