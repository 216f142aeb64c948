"""Signed envelopes: DSSE v1.0 with one signature over canonical JSON.

The pre-authentication encoding and the check are securesystemslib's; parsing is
stricter than DSSE asks for. An envelope holds exactly one signature (a second
signer signs a document of their own), standard base64, a known payload type and
a payload that is RFC 8785 canonical, so that equal meaning has equal bytes.

Source: https://github.com/secure-systems-lab/dsse (v1.0.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]

from luoshu.contracts import canonical
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.documents import DocumentType, document_type
from luoshu.contracts.errors import ContractsError, DocumentError, EnvelopeError
from luoshu.contracts.fields import Fields, check_text
from luoshu.contracts.keys import (
    PublicKey,
    SigningKey,
    check_key_id,
    decode_base64,
    encode_base64,
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload as it travels. Holding one says nothing about its truth.

    Attributes:
        payload: The signed bytes: canonical JSON, once `verify` has passed.
        payload_type: The DSSE ``payloadType``.
        key_id: Id of the key that is said to have signed.
        signature: 64 bytes of Ed25519.
    """

    payload: bytes
    payload_type: str
    key_id: str
    signature: bytes

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the payload: the name of what was signed.

        It leaves the signature out, so that one document has one name however
        often it was signed; the payload states its own type in ``schema``.
        """
        return canonical.digest(self.payload)

    def to_json(self) -> JsonObject:
        """The DSSE JSON object, to embed in another document."""
        return {
            "payload": encode_base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [{"keyid": self.key_id, "sig": encode_base64(self.signature)}],
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Envelope:
        """Reads a DSSE JSON object.

        Raises:
            EnvelopeError: Ill-formed, or not exactly one signature; reason
                ``MALFORMED_MESSAGE``.
        """
        try:
            fields = Fields(value, "envelope", {"payload", "payloadType", "signatures"})
            signatures = fields.array("signatures", _signature)
            if len(signatures) != 1:
                raise fields.error("signatures", "must hold exactly one")
            return cls(
                payload=decode_base64(fields.string("payload", decode_base64)),
                payload_type=fields.text("payloadType", max_length=100),
                key_id=signatures[0][0],
                signature=signatures[0][1],
            )
        except DocumentError as error:
            raise EnvelopeError(error.message, reason=error.reason) from None

    def to_bytes(self) -> bytes:
        """The envelope as canonical JSON."""
        return canonical.canonicalize(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes, *, max_bytes: int = canonical.MAX_BYTES) -> Envelope:
        """Reads an envelope from JSON.

        Raises:
            EnvelopeError: Too large, not JSON, or not an envelope; reason
                ``MESSAGE_TOO_LARGE`` or ``MALFORMED_MESSAGE``.
        """
        try:
            value = canonical.parse_object(data, max_bytes=max_bytes)
        except ContractsError as error:
            raise EnvelopeError(error.message, reason=error.reason) from None
        return cls.from_json(value)


def sign(payload: JsonObject, payload_type: str, key: SigningKey) -> Envelope:
    """Signs a document.

    Args:
        payload: The document; states its ``schema``.
        payload_type: Its payload type, one of `luoshu.contracts.documents`.
        key: A key of the use that this type demands.

    Raises:
        DocumentError: Unknown payload type, or a payload of another schema.
        CanonicalError: The payload has no canonical form.
        EnvelopeError: The key is for another use.
    """
    kind = document_type(payload_type)
    kind.check_schema(payload)
    if key.use is not kind.use:
        raise EnvelopeError(
            f"a {kind.name} is signed by a key for {kind.use}, not one for {key.use}"
        )
    data = canonical.canonicalize(payload)
    encoded = dsse.Envelope(data, payload_type, {}).pae()
    return Envelope(data, payload_type, key.public.key_id, key.sign(encoded))


def verify(envelope: Envelope, payload_type: str, keys: Iterable[PublicKey]) -> JsonObject:
    """Verifies an envelope and returns its payload.

    Nothing of the payload is parsed before its signature holds.

    Args:
        envelope: What arrived.
        payload_type: The type that the caller expects here.
        keys: Keys of the expected author; those for another use don't count.

    Raises:
        EnvelopeError: Another payload type, signed by none of the keys, a
            signature that doesn't verify, or a payload that isn't canonical JSON
            of the type's schema.
        DocumentError: ``payload_type`` itself is unknown.
    """
    kind = document_type(payload_type)
    if envelope.payload_type != payload_type:
        _refuse_type(envelope, kind)
    key = next((k for k in keys if k.key_id == envelope.key_id and k.use is kind.use), None)
    if key is None:
        raise EnvelopeError(
            f"a {kind.name} is not signed by a key that its author holds for {kind.use}"
        )
    signed = dsse.Envelope(
        envelope.payload,
        payload_type,
        {key.key_id: Signature(key.key_id, envelope.signature.hex())},
    )
    library_key = SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.public_bytes.hex()})
    try:
        signed.verify([library_key], 1)
    except (VerificationError, ValueError):
        raise EnvelopeError(f"the signature of a {kind.name} does not verify") from None
    payload = unverified_payload(envelope)
    if canonical.canonicalize(payload) != envelope.payload:
        raise EnvelopeError(
            f"the payload of a {kind.name} is not canonical JSON (RFC 8785)",
            reason="MALFORMED_MESSAGE",
        )
    try:
        kind.check_schema(payload)
    except DocumentError as error:
        raise EnvelopeError(error.message, reason=error.reason) from None
    return payload


def unverified_payload(envelope: Envelope) -> JsonObject:
    """Parses a payload without checking who signed it: to look up keys, nothing else.

    Raises:
        EnvelopeError: Not one JSON object; reason ``MALFORMED_MESSAGE``.
    """
    try:
        return canonical.parse_object(envelope.payload)
    except ContractsError as error:
        raise EnvelopeError(error.message, reason=error.reason) from None


def _signature(value: JsonValue) -> tuple[str, bytes]:
    fields = Fields(value, "signature", {"keyid", "sig"})
    data = decode_base64(fields.string("sig", decode_base64))
    if len(data) != 64:
        raise fields.error("sig", "must be 64 bytes of Ed25519")
    return fields.string("keyid", check_key_id), data


def _refuse_type(envelope: Envelope, expected: DocumentType) -> None:
    try:
        found = document_type(check_text(envelope.payload_type, max_length=100))
    except DocumentError as error:
        raise EnvelopeError(error.message, reason=error.reason) from None
    raise EnvelopeError(
        f"this is a {found.name}, where a {expected.name} is expected", reason="MALFORMED_MESSAGE"
    )
