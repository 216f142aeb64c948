"""What a candidate sends to be admitted to a space.

Signed by the candidate's own events key: that proves possession of that key, and
the certificate signing request inside proves possession of the TLS key. Who the
candidate is, people decide; `luoshu space approve` records it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.documents import ENROLMENT_REQUEST
from luoshu.contracts.envelope import Envelope, sign, unverified_payload, verify
from luoshu.contracts.errors import ContractsError, CredentialError, DocumentError
from luoshu.contracts.fields import Fields, check_region
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership.credential import Endpoints, Role, check_member_keys
from luoshu.contracts.times import format_time


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """A candidate's wish to become a member.

    Attributes:
        space: The space it wants to join.
        participant_id: The id it asks for.
        name: Its name for people.
        roles: The roles it asks for.
        jurisdiction: ISO 3166 code of the law it is under.
        keys: Its public keys, events and TLS among them.
        endpoints: Where it can be reached.
        csr: PEM of its PKCS #10 request for the TLS key (ECDSA P-256).
        created_at: When it was made.
    """

    space: str
    participant_id: str
    name: LocalizedText
    roles: tuple[Role, ...]
    jurisdiction: str
    keys: tuple[PublicKey, ...]
    endpoints: Endpoints
    csr: str
    created_at: datetime

    def __post_init__(self) -> None:
        if ids.parse_participant_id(self.participant_id).space != self.space:
            raise DocumentError("a candidate's id belongs to another space")
        check_member_keys(self.keys, self.roles)
        if PublicKey.tls(_csr_public_key(self.csr)) not in self.keys:
            raise DocumentError("the certificate signing request is for a key that isn't listed")

    def keys_for(self, use: KeyUse) -> tuple[PublicKey, ...]:
        """The candidate's keys of one use."""
        return tuple(key for key in self.keys if key.use is use)

    def to_payload(self) -> JsonObject:
        """The JSON form that the candidate signs."""
        return {
            "schema": ENROLMENT_REQUEST.schema,
            "space": self.space,
            "participant_id": self.participant_id,
            "name": self.name.to_payload(),
            "roles": [role.value for role in self.roles],
            "jurisdiction": self.jurisdiction,
            "keys": [key.to_payload() for key in self.keys],
            "endpoints": self.endpoints.to_payload(),
            "csr": self.csr,
            "created_at": format_time(self.created_at),
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> EnrolmentRequest:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, of another schema, or the certificate signing
                request is not the listed TLS key's.
        """
        ENROLMENT_REQUEST.check_schema(value)
        fields = Fields(
            value,
            ENROLMENT_REQUEST.name,
            {
                *("schema", "space", "participant_id", "name", "roles", "jurisdiction", "keys"),
                *("endpoints", "csr", "created_at"),
            },
        )
        return cls(
            space=fields.string("space", ids.check_space),
            participant_id=fields.participant("participant_id"),
            name=LocalizedText.from_payload(fields.raw("name")),
            roles=fields.choices("roles", Role, minimum=1),
            jurisdiction=fields.string("jurisdiction", check_region),
            keys=fields.array("keys", PublicKey.from_payload, minimum=1),
            endpoints=Endpoints.from_payload(fields.raw("endpoints")),
            csr=fields.string("csr"),
            created_at=fields.time("created_at"),
        )

    def sign(self, events_key: SigningKey) -> Envelope:
        """Signs with the candidate's events key."""
        return sign(self.to_payload(), ENROLMENT_REQUEST.payload_type, events_key)


def verify_enrolment_request(envelope: Envelope) -> EnrolmentRequest:
    """Checks that a candidate holds the keys it lists; trusts it no further.

    Raises:
        CredentialError: Ill-formed, or not signed by a listed events key.
    """
    try:
        claimed = EnrolmentRequest.from_payload(unverified_payload(envelope))
        payload = verify(envelope, ENROLMENT_REQUEST.payload_type, claimed.keys_for(KeyUse.EVENTS))
        return EnrolmentRequest.from_payload(payload)
    except ContractsError as error:
        raise CredentialError(
            f"{error.message}: ask the candidate for a new enrolment request",
            reason="SCHEMA_UNKNOWN" if error.reason == "SCHEMA_UNKNOWN" else None,
        ) from None


def _csr_public_key(pem: str) -> bytes:
    try:
        csr = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = csr.public_key()
        valid = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        raise DocumentError("not a PEM certificate signing request") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DocumentError("a TLS key must be ECDSA P-256")
    if not valid:
        raise DocumentError("a certificate signing request is not signed by its own key")
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
