"""The space's trust anchor.

`SpaceTrust` is a file that reaches a node by a channel people trust; it isn't
signed, since everything else is verified from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from luoshu.contracts import canonical, ids
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.documents import check_schema
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields, check_endpoint
from luoshu.contracts.keys import KeyUse, PublicKey

SPACE_SCHEMA = "luoshu/space/v1"


@dataclass(frozen=True, slots=True)
class SpaceTrust:
    """A space's trust anchor: ``space.json``.

    Attributes:
        space: Name of the space.
        authority: The key that signs membership credentials.
        ca_certificate: The space's TLS CA, one PEM certificate.
        operator_id: The operator's participant id.
        operator_endpoint: ``host:port`` of the operator's peer API.
    """

    space: str
    authority: PublicKey
    ca_certificate: str
    operator_id: str
    operator_endpoint: str

    def __post_init__(self) -> None:
        if self.authority.use is not KeyUse.AUTHORITY:
            raise DocumentError("a space's authority key must be one for authority")
        if ids.parse_participant_id(self.operator_id).space != self.space:
            raise DocumentError("a space's operator belongs to another space")

    @property
    def digest(self) -> str:
        """Fingerprint to compare over the telephone."""
        return canonical.digest_of(self.to_payload())

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "schema": SPACE_SCHEMA,
            "space": self.space,
            "authority": self.authority.to_payload(),
            "ca_certificate": self.ca_certificate,
            "operator_id": self.operator_id,
            "operator_endpoint": self.operator_endpoint,
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> SpaceTrust:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, or of another schema.
            KeyMaterialError: The authority key is unusable.
        """
        check_schema(value, SPACE_SCHEMA)
        fields = Fields(
            value,
            "space",
            {"schema", "space", "authority", "ca_certificate", "operator_id", "operator_endpoint"},
        )
        return cls(
            space=fields.string("space", ids.check_space),
            authority=PublicKey.from_payload(fields.raw("authority")),
            ca_certificate=fields.string("ca_certificate", _check_certificate),
            operator_id=fields.participant("operator_id"),
            operator_endpoint=fields.string("operator_endpoint", check_endpoint),
        )

    def to_bytes(self) -> bytes:
        """The file's content: canonical JSON."""
        return canonical.canonicalize(self.to_payload())

    @classmethod
    def from_bytes(cls, data: bytes) -> SpaceTrust:
        """Reads the file's content; it need not be canonical.

        Raises:
            CanonicalError: Not JSON as we accept it.
            DocumentError: See `from_payload`.
            KeyMaterialError: See `from_payload`.
        """
        return cls.from_payload(canonical.parse_object(data))


def _check_certificate(pem: str) -> None:
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        raise DocumentError("must be a PEM certificate") from None
    if len(certificates) != 1:
        raise DocumentError("must be exactly one PEM certificate")
