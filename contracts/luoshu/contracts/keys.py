"""Keys, separate by use: a key made for one use never verifies for another.

All signing keys are Ed25519 (RFC 8032); TLS keys (ECDSA P-256) are only named, by
the SHA-256 of their SubjectPublicKeyInfo. A key id is the lower-case hexadecimal
SHA-256 of the DER SubjectPublicKeyInfo (RFC 5280 §4.1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError, KeyMaterialError, SignatureError
from luoshu.contracts.fields import Fields

_P = 2**255 - 19
# y coordinates of the eight points of small order (order 1, 2, 4 and 8).
_ORDER_8_Y = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})
_KEY_ID = re.compile(r"[0-9a-f]{64}")


class KeyUse(StrEnum):
    """What a key may sign, and nothing else."""

    AUTHORITY = "authority"  # membership credentials; kept off the serving process
    EVENTS = "events"  # contract events, catalog entries, user credentials
    LOG = "log"  # checkpoints of the usage log
    WITNESS = "witness"  # cosignatures of others' checkpoints
    STATUS = "status"  # the operator's status list
    TLS = "tls"  # transport; named here, never used to sign documents
    REQUEST = "request"  # a user's computation requests


def decode_base64(text: str) -> bytes:
    """Decodes standard, padded base64 (RFC 4648 §4) in its one canonical spelling.

    Raises:
        DocumentError: Another alphabet, missing padding, or non-zero trailing bits.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise DocumentError("not standard base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise DocumentError("not canonical base64")
    return data


def encode_base64(data: bytes) -> str:
    """Encodes bytes as standard, padded base64 (RFC 4648 §4)."""
    return base64.b64encode(data).decode("ascii")


def check_key_id(text: str) -> str:
    """Returns ``text`` if it has the form of a key id.

    Raises:
        DocumentError: It hasn't.
    """
    if _KEY_ID.fullmatch(text) is None:
        raise DocumentError("a key id must be 64 lower-case hexadecimal digits")
    return text


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key and its one use.

    Attributes:
        key_id: SHA-256 of the SubjectPublicKeyInfo, hexadecimal.
        use: What it may sign.
        public_bytes: The 32 raw bytes of an Ed25519 key (RFC 8032 §5.1.5), or, for
            ``tls``, the 32 bytes of SHA-256 of the SubjectPublicKeyInfo.

    Raises:
        KeyMaterialError: Wrong length, an id of other bytes, or an Ed25519 point of
            small order or in a non-canonical encoding (either would let one
            signature stand for many messages).
    """

    key_id: str
    use: KeyUse
    public_bytes: bytes

    def __post_init__(self) -> None:
        if len(self.public_bytes) != 32:
            raise KeyMaterialError("a public key must be 32 bytes")
        if self.use is KeyUse.TLS:
            expected = self.public_bytes.hex()
        else:
            y = int.from_bytes(self.public_bytes, "little") & (2**255 - 1)
            if y >= _P or y in _SMALL_ORDER_Y:
                raise KeyMaterialError("an Ed25519 public key is of small order or not canonical")
            expected = _ed25519_key_id(self.public_bytes)
        if self.key_id != expected:
            raise KeyMaterialError("a key id does not belong to its key")

    @classmethod
    def from_raw(cls, public_bytes: bytes, use: KeyUse) -> PublicKey:
        """A signing key's public half from its 32 raw bytes.

        Raises:
            KeyMaterialError: Not a usable key, or the use is ``tls``.
        """
        if use is KeyUse.TLS:
            raise KeyMaterialError("a TLS key is named by its SubjectPublicKeyInfo")
        if len(public_bytes) != 32:
            raise KeyMaterialError("a public key must be 32 bytes")
        return cls(_ed25519_key_id(public_bytes), use, public_bytes)

    @classmethod
    def tls(cls, subject_public_key_info: bytes) -> PublicKey:
        """Names a TLS key by its DER SubjectPublicKeyInfo (from a certificate or CSR)."""
        fingerprint = hashlib.sha256(subject_public_key_info).digest()
        return cls(fingerprint.hex(), KeyUse.TLS, fingerprint)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Checks an Ed25519 signature over ``data``.

        Raises:
            SignatureError: It doesn't verify, or this is a TLS key.
        """
        if self.use is KeyUse.TLS:
            raise SignatureError("a TLS key signs no documents")
        try:
            Ed25519PublicKey.from_public_bytes(self.public_bytes).verify(signature, data)
        except (InvalidSignature, ValueError):
            raise SignatureError("a signature does not verify with the key it names") from None

    def to_payload(self) -> JsonObject:
        """The JSON form: ``{"id", "use", "public"}`` with base64."""
        return {
            "id": self.key_id,
            "use": self.use.value,
            "public": encode_base64(self.public_bytes),
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> PublicKey:
        """Reads `to_payload`'s form.

        Raises:
            DocumentError: Ill-formed.
            KeyMaterialError: Not a usable key.
        """
        fields = Fields(value, "key", {"id", "use", "public"})
        return cls(
            key_id=fields.string("id", check_key_id),
            use=fields.choice("use", KeyUse),
            public_bytes=decode_base64(fields.string("public", decode_base64)),
        )


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """An Ed25519 private key and its one use. Never printed.

    Attributes:
        public: The public half.
    """

    public: PublicKey
    _private: Ed25519PrivateKey

    @classmethod
    def generate(cls, use: KeyUse) -> SigningKey:
        """Makes a key from the operating system's randomness."""
        return cls._of(Ed25519PrivateKey.generate(), use)

    @classmethod
    def from_seed(cls, seed: bytes, use: KeyUse) -> SigningKey:
        """Makes the key of a 32-byte seed (RFC 8032 §5.1.5): for tests and vectors."""
        return cls._of(Ed25519PrivateKey.from_private_bytes(seed), use)

    @classmethod
    def from_pem(cls, pem: bytes, use: KeyUse) -> SigningKey:
        """Reads an unencrypted PKCS #8 PEM.

        Raises:
            KeyMaterialError: Not such a PEM, or not an Ed25519 key.
        """
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise KeyMaterialError("not an unencrypted PKCS #8 private key in PEM") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyMaterialError(f"the {use} key must be an Ed25519 key")
        return cls._of(private, use)

    @classmethod
    def _of(cls, private: Ed25519PrivateKey, use: KeyUse) -> SigningKey:
        raw = private.public_key().public_bytes_raw()
        return cls(PublicKey.from_raw(raw, use), private)

    @property
    def use(self) -> KeyUse:
        """What this key may sign."""
        return self.public.use

    def sign(self, data: bytes) -> bytes:
        """Returns the 64-byte Ed25519 signature over ``data``."""
        return self._private.sign(data)

    def to_pem(self) -> bytes:
        """Writes an unencrypted PKCS #8 PEM; the caller keeps the file private (0600)."""
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def __repr__(self) -> str:
        return f"SigningKey(use={self.use.value!r}, key_id={self.public.key_id!r})"


def _ed25519_key_id(public_bytes: bytes) -> str:
    key = Ed25519PublicKey.from_public_bytes(public_bytes)
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()
