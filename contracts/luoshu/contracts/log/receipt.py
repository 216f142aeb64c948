"""Receipts: one entry with the proof that a log holds it.

A receipt verifies offline, with nothing but the log's public key. Cosignatures may stand under
its checkpoint beside the log's own; they don't change what is proved here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from luoshu.contracts.canonical import JsonObject, JsonValue, canonicalize, parse_object
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.keys import PublicKey, decode_base64, encode_base64
from luoshu.contracts.log.checkpoint import Checkpoint, open_checkpoint, unverified_checkpoint
from luoshu.contracts.log.entry import MAX_BODY_BYTES, Entry, EntryBody, entry_leaf_hash
from luoshu.contracts.log.errors import LogFormatError
from luoshu.contracts.log.merkle import HASH_SIZE, verify_inclusion
from luoshu.contracts.log.note import NoteVerifier

RECEIPT_SCHEMA = "luoshu/receipt/v1"
MAX_RECEIPT_BYTES = MAX_BODY_BYTES + 128 * 1024
MAX_PROOF_HASHES = 64

_KEYS = {"schema", "index", "body", "salt", "proof", "checkpoint"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry, its inclusion proof and the checkpoint that the proof leads to.

    Attributes:
        index: Position of the entry in the log.
        body: What the entry says.
        salt: The 32 bytes of its commitment.
        proof: Inclusion proof, hashes of 32 bytes (RFC 9162 §2.1.3).
        checkpoint: The signed note.
    """

    index: int
    body: EntryBody
    salt: bytes
    proof: tuple[bytes, ...]
    checkpoint: str

    @property
    def entry(self) -> Entry:
        """The entry in its place."""
        return Entry(self.index, self.body, self.salt)

    @property
    def unverified_checkpoint(self) -> Checkpoint:
        """The checkpoint as it claims to be: to learn whose key to look up."""
        return unverified_checkpoint(self.checkpoint)

    def to_payload(self) -> JsonObject:
        """Return the receipt as JSON."""
        proof: list[JsonValue] = [encode_base64(each) for each in self.proof]
        return {
            "schema": RECEIPT_SCHEMA,
            "index": self.index,
            "body": self.body.to_payload(),
            "salt": encode_base64(self.salt),
            "proof": proof,
            "checkpoint": self.checkpoint,
        }

    def to_bytes(self) -> bytes:
        """Return the receipt as canonical JSON."""
        return canonicalize(self.to_payload())

    @classmethod
    def from_payload(cls, payload: JsonObject) -> Receipt:
        """Read a receipt; nothing is verified yet.

        Raises:
            LogFormatError: Unknown schema, unknown or missing key, or a value of another type.
        """
        if payload.get("schema") != RECEIPT_SCHEMA:
            raise LogFormatError(f"unknown receipt schema; this version knows {RECEIPT_SCHEMA}")
        if set(payload) != _KEYS:
            raise LogFormatError("the receipt has other keys than its schema says")
        index, body, proof = payload["index"], payload["body"], payload["proof"]
        checkpoint = payload["checkpoint"]
        if not (
            isinstance(index, int)
            and not isinstance(index, bool)
            and isinstance(body, dict)
            and isinstance(proof, list)
            and isinstance(checkpoint, str)
        ):
            raise LogFormatError("the receipt has a value of the wrong type")
        if len(proof) > MAX_PROOF_HASHES:
            raise LogFormatError(f"a proof has at most {MAX_PROOF_HASHES} hashes")
        return cls(
            index=index,
            body=EntryBody.from_payload(body),
            salt=_decode(payload["salt"], "salt"),
            proof=tuple(_decode(each, "hash") for each in proof),
            checkpoint=checkpoint,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Receipt:
        """Read a receipt from JSON; nothing is verified yet.

        Raises:
            LogFormatError: It is none.
            CanonicalError: It is no strict JSON object.
        """
        return cls.from_payload(parse_object(data, max_bytes=MAX_RECEIPT_BYTES))


def verify_receipt(
    receipt: Receipt, log_keys: PublicKey | Iterable[PublicKey], origin: str
) -> EntryBody:
    """Check that the log ``origin`` holds the receipt's entry.

    Args:
        receipt: What the node handed out.
        log_keys: The log's key, or all keys that its membership credential lists for it.
        origin: The log: its participant's id.

    Returns:
        The entry's body, now proved.

    Raises:
        LogError: The checkpoint's signature, its origin or the proof doesn't hold.
    """
    keys = (log_keys,) if isinstance(log_keys, PublicKey) else tuple(log_keys)
    verifiers = [NoteVerifier(origin, key) for key in keys]
    checkpoint = open_checkpoint(receipt.checkpoint, verifiers, origin)
    leaf_hash = entry_leaf_hash(receipt.body.to_bytes(), receipt.salt)
    verify_inclusion(leaf_hash, receipt.index, checkpoint.size, receipt.proof, checkpoint.root)
    return receipt.body


def _decode(value: JsonValue, what: str) -> bytes:
    if not isinstance(value, str):
        raise LogFormatError(f"the receipt's {what} is base64")
    try:
        data = decode_base64(value)
    except DocumentError as error:
        raise LogFormatError(f"the receipt's {what} is {error.message}") from error
    if len(data) != HASH_SIZE:
        raise LogFormatError(f"the receipt's {what} has {HASH_SIZE} bytes")
    return data
