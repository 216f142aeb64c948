"""The operator's status list: members revoked before their credentials end.

It is versioned, and valid for ``max_age`` seconds only: a node that is cut off
from newer ones stops trusting, rather than going on with an old list.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.documents import STATUS_LIST
from luoshu.contracts.envelope import Envelope, sign, verify
from luoshu.contracts.errors import ContractsError, CredentialError, DocumentError
from luoshu.contracts.fields import Fields
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership.credential import MembershipCredential
from luoshu.contracts.times import MAX_SKEW, format_time

DEFAULT_MAX_AGE = 600
_MAX_REVOKED = 100_000


class RevocationReason(StrEnum):
    """Why a member was revoked."""

    KEY_COMPROMISED = "key-compromised"
    LEFT = "left"
    EXPELLED = "expelled"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Revocation:
    """One member that must not be trusted any more.

    Attributes:
        participant_id: The member.
        since: From when on what it signed doesn't count.
        reason: Why.
    """

    participant_id: str
    since: datetime
    reason: RevocationReason

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "participant_id": self.participant_id,
            "since": format_time(self.since),
            "reason": self.reason.value,
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> Revocation:
        """Reads the JSON form.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "revocation", {"participant_id", "since", "reason"})
        return cls(
            fields.participant("participant_id"),
            fields.time("since"),
            fields.choice("reason", RevocationReason),
        )


@dataclass(frozen=True, slots=True)
class StatusList:
    """Who was revoked, as of a moment.

    Attributes:
        space: Name of the space.
        version: Grows by each list, from 1.
        issued_at: When it was signed.
        max_age: Seconds for which it may be relied on, 1 to 86,400.
        revoked: The revoked members, each once.
    """

    space: str
    version: int
    issued_at: datetime
    max_age: int = DEFAULT_MAX_AGE
    revoked: tuple[Revocation, ...] = ()

    def __post_init__(self) -> None:
        if len({item.participant_id for item in self.revoked}) != len(self.revoked):
            raise DocumentError("a status list names a member twice")

    def is_fresh_at(self, moment: datetime) -> bool:
        """Whether the list may be relied on at ``moment``."""
        return -MAX_SKEW <= moment - self.issued_at < timedelta(seconds=self.max_age)

    def revocation_of(self, participant_id: str) -> Revocation | None:
        """The member's revocation, if any."""
        return next((r for r in self.revoked if r.participant_id == participant_id), None)

    def is_revoked(self, participant_id: str, at: datetime) -> bool:
        """Whether what the member signs at ``at`` doesn't count."""
        revocation = self.revocation_of(participant_id)
        return revocation is not None and revocation.since <= at

    def to_payload(self) -> JsonObject:
        """The JSON form that the operator signs."""
        return {
            "schema": STATUS_LIST.schema,
            "space": self.space,
            "version": self.version,
            "issued_at": format_time(self.issued_at),
            "max_age": self.max_age,
            "revoked": [item.to_payload() for item in self.revoked],
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> StatusList:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, or of another schema.
        """
        STATUS_LIST.check_schema(value)
        fields = Fields(
            value,
            STATUS_LIST.name,
            {"schema", "space", "version", "issued_at", "max_age", "revoked"},
        )
        return cls(
            space=fields.string("space", ids.check_space),
            version=fields.integer("version", minimum=1),
            issued_at=fields.time("issued_at"),
            max_age=fields.integer("max_age", minimum=1, maximum=86_400),
            revoked=fields.array("revoked", Revocation.from_payload, maximum=_MAX_REVOKED),
        )

    def sign(self, status_key: SigningKey) -> Envelope:
        """Signs with the operator's status key."""
        return sign(self.to_payload(), STATUS_LIST.payload_type, status_key)


def verify_status_list(
    envelope: Envelope,
    operator: MembershipCredential,
    now: datetime,
    newest_seen_version: int | None = None,
) -> StatusList:
    """Verifies a status list.

    Args:
        envelope: What arrived.
        operator: The operator's credential, verified before.
        now: The time at which it must be fresh.
        newest_seen_version: The highest version accepted so far; an older list is
            a roll-back.

    Raises:
        CredentialError: Not signed by the operator's status key, of another space
            (``WRONG_SPACE``), or too old, from the future, or rolled back
            (``STATUS_LIST_STALE``).
    """
    keys = operator.keys_for(KeyUse.STATUS)
    if not keys or not operator.is_valid_at(now):
        raise CredentialError("the one who issued a status list is no operator of the space now")
    try:
        status = StatusList.from_payload(verify(envelope, STATUS_LIST.payload_type, keys))
    except ContractsError as error:
        raise CredentialError(
            error.message,
            reason="SCHEMA_UNKNOWN" if error.reason == "SCHEMA_UNKNOWN" else None,
        ) from None
    if status.space != operator.space:
        raise CredentialError("a status list is of another space", reason="WRONG_SPACE")
    if newest_seen_version is not None and status.version < newest_seen_version:
        raise CredentialError(
            "a status list is older than one that was seen before", reason="STATUS_LIST_STALE"
        )
    if not status.is_fresh_at(now):
        raise CredentialError(
            "the status list is too old or from the future: check that the operator can be "
            "reached and that this machine's clock is right",
            reason="STATUS_LIST_STALE",
        )
    return status
