"""The answer to an enrolment request: a file with everything a new member needs.

The bundle itself is not signed. Each part carries its own proof, and `enrol_node` checks
all of them against the node's own keys; the trust anchor in it is as good as the channel
that the file came by, so its fingerprint can be compared over another one.
"""

from dataclasses import dataclass

from luoshu.contracts import canonical
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.documents import check_schema
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.fields import Fields
from luoshu.contracts.membership import SpaceTrust

GRANT_SCHEMA = "luoshu/enrolment-grant/v1"


@dataclass(frozen=True, slots=True)
class EnrolmentGrant:
    """What `luoshu space approve` writes and `luoshu node enrol` reads.

    Attributes:
        trust: The space's trust anchor.
        credential: Membership credential, signed by the authority.
        tls_certificate: PEM, issued by the space CA.
        operator: The operator's membership credential, where it exists already.
    """

    trust: SpaceTrust
    credential: Envelope
    tls_certificate: str
    operator: Envelope | None

    def to_bytes(self) -> bytes:
        """The file's content: canonical JSON."""
        value: JsonObject = {
            "schema": GRANT_SCHEMA,
            "space": self.trust.to_payload(),
            "credential": self.credential.to_json(),
            "tls_certificate": self.tls_certificate,
            "operator": None if self.operator is None else self.operator.to_json(),
        }
        return canonical.canonicalize(value)

    @classmethod
    def from_bytes(cls, data: bytes) -> "EnrolmentGrant":
        """Reads the file's content; checks its form only.

        Raises:
            ContractsError: Not such a file.
        """
        value = canonical.parse_object(data)
        check_schema(value, GRANT_SCHEMA)
        fields = Fields(
            value,
            "enrolment grant",
            {"schema", "space", "credential", "tls_certificate", "operator"},
        )
        operator = fields.raw("operator")
        return cls(
            trust=SpaceTrust.from_payload(_object(fields.raw("space"))),
            credential=Envelope.from_json(fields.raw("credential")),
            tls_certificate=fields.string("tls_certificate"),
            operator=None if operator is None else Envelope.from_json(operator),
        )


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}
