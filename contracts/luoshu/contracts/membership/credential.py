"""The membership credential: who a member is, which keys speak for it, since when.

Signed by the space's authority and nobody else. It names each key of the member
with its one use; no key has two uses. Validity is half-open,
``not_before <= now < not_after``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.documents import MEMBERSHIP_CREDENTIAL
from luoshu.contracts.envelope import Envelope, sign, unverified_payload, verify
from luoshu.contracts.errors import ContractsError, CredentialError, DocumentError, EnvelopeError
from luoshu.contracts.fields import Fields, check_endpoint, check_region
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership.space import SpaceTrust
from luoshu.contracts.times import format_time

MEMBER_KEY_USES = frozenset({KeyUse.EVENTS, KeyUse.LOG, KeyUse.WITNESS, KeyUse.STATUS, KeyUse.TLS})
_MAX_KEYS = 32


class Role(StrEnum):
    """What a member does in the space."""

    OPERATOR = "operator"
    HOLDER = "holder"
    ANALYST = "analyst"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a member can be reached.

    Attributes:
        peer: ``host:port`` of its peer API; None for a node that only dials out.
    """

    peer: str | None = None

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"peer": self.peer}

    @classmethod
    def from_payload(cls, value: JsonValue) -> Endpoints:
        """Reads the JSON form.

        Raises:
            DocumentError: Ill-formed.
        """
        return cls(Fields(value, "endpoints", {"peer"}).nullable("peer", check_endpoint))


def check_member_keys(keys: tuple[PublicKey, ...], roles: tuple[Role, ...]) -> None:
    """Demands the keys that a member needs, each for one use.

    Raises:
        DocumentError: No events, log or TLS key, no status key for an operator, a
            status key for anyone else, a key of a use that members don't have, or
            the same key twice.
    """
    uses = {key.use for key in keys}
    if not uses <= MEMBER_KEY_USES:
        raise DocumentError("a member has no keys for authority or request")
    missing = {KeyUse.EVENTS, KeyUse.LOG, KeyUse.TLS} - uses
    if Role.OPERATOR in roles and KeyUse.STATUS not in uses:
        missing.add(KeyUse.STATUS)
    if missing:
        raise DocumentError(f"a member lacks a key for {', '.join(sorted(missing))}")
    if Role.OPERATOR not in roles and KeyUse.STATUS in uses:
        raise DocumentError("only an operator has a key for status")
    if len({key.key_id for key in keys}) != len(keys) or len(keys) > _MAX_KEYS:
        raise DocumentError("a member names a key twice, or too many keys")


@dataclass(frozen=True, slots=True)
class MembershipCredential:
    """What the authority says of a member.

    Attributes:
        space: Name of the space.
        participant_id: The member.
        name: Its name for people.
        roles: Distinct roles, at least one.
        jurisdiction: ISO 3166 code of the law it is under.
        keys: Its keys, past ones included where what they signed must stay verifiable.
        endpoints: Where it can be reached.
        not_before: Valid from, inclusive.
        not_after: Valid until, exclusive.
        serial: Grows with each credential of this member, from 1; the highest counts.
    """

    space: str
    participant_id: str
    name: LocalizedText
    roles: tuple[Role, ...]
    jurisdiction: str
    keys: tuple[PublicKey, ...]
    endpoints: Endpoints
    not_before: datetime
    not_after: datetime
    serial: int

    def __post_init__(self) -> None:
        if ids.parse_participant_id(self.participant_id).space != self.space:
            raise DocumentError("a member's id belongs to another space than its credential")
        if not self.not_before < self.not_after:
            raise DocumentError("a credential ends before it begins")
        check_member_keys(self.keys, self.roles)

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether ``moment`` lies within the validity."""
        return self.not_before <= moment < self.not_after

    def keys_for(self, use: KeyUse) -> tuple[PublicKey, ...]:
        """The member's keys of one use, in the credential's order (newest first)."""
        return tuple(key for key in self.keys if key.use is use)

    def has_role(self, role: Role) -> bool:
        """Whether the authority gave it this role."""
        return role in self.roles

    def to_payload(self) -> JsonObject:
        """The JSON form that the authority signs."""
        return {
            "schema": MEMBERSHIP_CREDENTIAL.schema,
            "space": self.space,
            "participant_id": self.participant_id,
            "name": self.name.to_payload(),
            "roles": [role.value for role in self.roles],
            "jurisdiction": self.jurisdiction,
            "keys": [key.to_payload() for key in self.keys],
            "endpoints": self.endpoints.to_payload(),
            "not_before": format_time(self.not_before),
            "not_after": format_time(self.not_after),
            "serial": self.serial,
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> MembershipCredential:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, or of another schema.
        """
        MEMBERSHIP_CREDENTIAL.check_schema(value)
        fields = Fields(
            value,
            MEMBERSHIP_CREDENTIAL.name,
            {
                *("schema", "space", "participant_id", "name", "roles", "jurisdiction", "keys"),
                *("endpoints", "not_before", "not_after", "serial"),
            },
        )
        return cls(
            space=fields.string("space", ids.check_space),
            participant_id=fields.participant("participant_id"),
            name=LocalizedText.from_payload(fields.raw("name")),
            roles=fields.choices("roles", Role, minimum=1),
            jurisdiction=fields.string("jurisdiction", check_region),
            keys=fields.array("keys", PublicKey.from_payload, minimum=1, maximum=_MAX_KEYS),
            endpoints=Endpoints.from_payload(fields.raw("endpoints")),
            not_before=fields.time("not_before"),
            not_after=fields.time("not_after"),
            serial=fields.integer("serial", minimum=1),
        )

    def sign(self, authority: SigningKey) -> Envelope:
        """Signs with the space's authority key."""
        return sign(self.to_payload(), MEMBERSHIP_CREDENTIAL.payload_type, authority)


def verify_credential(envelope: Envelope, trust: SpaceTrust, now: datetime) -> MembershipCredential:
    """Verifies a membership credential against the space's trust anchor.

    Whether the member was revoked is the status list's to say.

    Raises:
        CredentialError: Not signed by this space's authority (``WRONG_SPACE`` if it
            states another space), ill-formed, or ``now`` is outside its validity
            (``CREDENTIAL_EXPIRED``).
    """
    try:
        payload = verify(envelope, MEMBERSHIP_CREDENTIAL.payload_type, [trust.authority])
        credential = MembershipCredential.from_payload(payload)
    except EnvelopeError as error:
        if _states_other_space(envelope, trust.space):
            raise CredentialError(
                f"this credential is of another space than {trust.space}: enrol here first",
                reason="WRONG_SPACE",
            ) from None
        raise CredentialError(
            f"{error.message}: get the credential from the authority of {trust.space}",
            reason="SCHEMA_UNKNOWN" if error.reason == "SCHEMA_UNKNOWN" else None,
        ) from None
    except ContractsError as error:
        raise CredentialError(error.message) from None
    if credential.space != trust.space:
        raise CredentialError(
            f"this credential is of another space than {trust.space}", reason="WRONG_SPACE"
        )
    check_validity(credential.not_before, credential.not_after, now, "a membership credential")
    return credential


def check_validity(not_before: datetime, not_after: datetime, now: datetime, what: str) -> None:
    """Demands that ``now`` lies within a credential's validity.

    Raises:
        CredentialError: It doesn't; reason ``CREDENTIAL_EXPIRED``.
    """
    if not not_before <= now < not_after:
        when = "is not valid yet" if now < not_before else "has expired"
        raise CredentialError(f"{what} {when}: get a new one", reason="CREDENTIAL_EXPIRED")


def _states_other_space(envelope: Envelope, space: str) -> bool:
    try:
        stated: JsonValue = unverified_payload(envelope).get("space")
    except EnvelopeError:
        return False
    return isinstance(stated, str) and stated != space
