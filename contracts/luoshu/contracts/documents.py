"""Every kind of signed document, the use of the key that signs it, and its versions.

A kind has a payload type for the envelope and a schema name inside the payload;
both carry the version. A verifier states the kind it expects, and from that
follows which keys can have signed it: a key enrolled for one use is no key at
all for the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.keys import KeyUse

_PAYLOAD_TYPE = re.compile(r"application/vnd\.luoshu\.([a-z-]{1,40})\.v([0-9]{1,6})\+json")


@dataclass(frozen=True, slots=True)
class DocumentType:
    """One kind of signed document in one version.

    Attributes:
        name: Kebab-case name.
        use: Use of the key that signs it.
        version: Version of its schema, from 1.
    """

    name: str
    use: KeyUse
    version: int = 1

    @property
    def payload_type(self) -> str:
        """The DSSE ``payloadType``."""
        return f"application/vnd.luoshu.{self.name}.v{self.version}+json"

    @property
    def schema(self) -> str:
        """The ``schema`` that each payload states."""
        return f"luoshu/{self.name}/v{self.version}"

    def check_schema(self, payload: JsonObject) -> None:
        """Demands that a payload states this schema.

        Raises:
            DocumentError: It states another; reason ``SCHEMA_UNKNOWN``.
        """
        check_schema(payload, self.schema)


MEMBERSHIP_CREDENTIAL = DocumentType("membership-credential", KeyUse.AUTHORITY)
ENROLMENT_REQUEST = DocumentType("enrolment-request", KeyUse.EVENTS)
USER_CREDENTIAL = DocumentType("user-credential", KeyUse.EVENTS)
STATUS_LIST = DocumentType("status-list", KeyUse.STATUS)
CATALOG_ENTRY = DocumentType("catalog-entry", KeyUse.EVENTS)
TOMBSTONE = DocumentType("tombstone", KeyUse.EVENTS)
COMPUTATION_REQUEST = DocumentType("computation-request", KeyUse.REQUEST)
CONTRACT_EVENT = DocumentType("contract-event", KeyUse.EVENTS)
CONTRACT_POSITION = DocumentType("contract-position", KeyUse.EVENTS)

DOCUMENT_TYPES: dict[str, DocumentType] = {
    kind.payload_type: kind
    for kind in (
        MEMBERSHIP_CREDENTIAL,
        ENROLMENT_REQUEST,
        USER_CREDENTIAL,
        STATUS_LIST,
        CATALOG_ENTRY,
        TOMBSTONE,
        COMPUTATION_REQUEST,
        CONTRACT_EVENT,
        CONTRACT_POSITION,
    )
}
"""The kinds that this version writes and reads, by payload type."""


def document_type(payload_type: str) -> DocumentType:
    """Looks a payload type up.

    Raises:
        DocumentError: Unknown; reason ``SCHEMA_UNKNOWN``, and the versions that are
            known if only the version is not.
    """
    kind = DOCUMENT_TYPES.get(payload_type)
    if kind is not None:
        return kind
    match = _PAYLOAD_TYPE.fullmatch(payload_type)
    known = [k for k in DOCUMENT_TYPES.values() if match is not None and k.name == match[1]]
    if match is not None and known:
        versions = ", ".join(f"v{k.version}" for k in known)
        raise DocumentError(
            f"this is a {match[1]} of version {match[2]}; this program reads {versions}: "
            "upgrade luoshu",
            reason="SCHEMA_UNKNOWN",
        )
    raise DocumentError("this is no document type of luoshu", reason="SCHEMA_UNKNOWN")


def check_schema(payload: JsonObject, schema: str) -> None:
    """Demands that a document states ``schema``.

    Raises:
        DocumentError: It states none or another; reason ``SCHEMA_UNKNOWN``.
    """
    stated: JsonValue = payload.get("schema")
    if stated != schema:
        raise DocumentError(
            f"a document states another schema than {schema}, the one this program reads: "
            "check which document this is, or upgrade luoshu",
            reason="SCHEMA_UNKNOWN",
        )
