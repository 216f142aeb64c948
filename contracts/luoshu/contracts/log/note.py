"""Signed notes: text with Ed25519 signatures under it, as C2SP signed-note defines them.

The text ends in a newline; an empty line follows, then one line per signature:
``— <name> <base64(4-byte key hash || signature)>``. Signatures by unknown keys are ignored; one
by a known key that doesn't verify makes the whole note invalid.
Source: https://c2sp.org/signed-note
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from luoshu.contracts.errors import DocumentError, SignatureError
from luoshu.contracts.keys import (
    KeyUse,
    PublicKey,
    SigningKey,
    decode_base64,
    encode_base64,
)
from luoshu.contracts.log.errors import LogFormatError, NoteSignatureError

MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 100

_ED25519 = b"\x01"
_PREFIX = "— "


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A name and the key that signs under it.

    Attributes:
        name: For a log its origin: the participant id.
        key: An Ed25519 public key.
    """

    name: str
    key: PublicKey

    def __post_init__(self) -> None:
        _demand_name(self.name)
        if self.key.use not in {KeyUse.LOG, KeyUse.WITNESS}:
            raise LogFormatError("a note is verified with a log's or a witness's key")

    @property
    def key_hash(self) -> bytes:
        """The 4 bytes that a signature line begins with."""
        return key_hash(self.name, self.key.public_bytes)

    @property
    def vkey(self) -> str:
        """The verifier key as standard tools write it: ``name+hash+base64``."""
        encoded = encode_base64(_ED25519 + self.key.public_bytes)
        return f"{self.name}+{self.key_hash.hex()}+{encoded}"

    @classmethod
    def parse(cls, vkey: str, use: KeyUse = KeyUse.LOG) -> NoteVerifier:
        """Read a verifier key ``name+hash+base64``.

        Raises:
            LogFormatError: It isn't one, isn't Ed25519, or its hash doesn't belong to it.
        """
        # The name holds no "+", but the base64 may.
        name, _, rest = vkey.strip().partition("+")
        hash_hex, _, encoded = rest.partition("+")
        raw = _decode(encoded, "the verifier key")
        if raw[:1] != _ED25519 or len(raw) != 33:
            raise LogFormatError("the verifier key is not an Ed25519 key")
        _demand_name(name)
        if key_hash(name, raw[1:]).hex() != hash_hex:
            raise LogFormatError("the verifier key's hash doesn't belong to its name and key")
        return cls(name, PublicKey.from_raw(raw[1:], use))


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose signatures were checked.

    Attributes:
        text: The signed text, with its last newline.
        verified: The verifiers that signed it; at least one.
    """

    text: str
    verified: tuple[NoteVerifier, ...]


def key_hash(name: str, public_bytes: bytes) -> bytes:
    """Compute the 4-byte key hash of an Ed25519 key (C2SP signed-note, "Signatures")."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_bytes).digest()[:4]


def sign_note(text: str, signers: Sequence[tuple[str, SigningKey]]) -> str:
    """Sign a text.

    Args:
        text: What to sign; ends in a newline and has no other control characters.
        signers: Name and key of each signer.

    Raises:
        LogFormatError: The text or a name can't be part of a note.
    """
    _demand_text(text)
    lines = []
    for name, key in signers:
        _demand_name(name)
        blob = key_hash(name, key.public.public_bytes) + key.sign(text.encode())
        lines.append(f"{_PREFIX}{name} {encode_base64(blob)}\n")
    if not lines:
        raise LogFormatError("a note has at least one signature")
    return f"{text}\n{''.join(lines)}"


def open_note(note: str, verifiers: Iterable[NoteVerifier]) -> Note:
    """Check a note's signatures.

    Args:
        note: The whole note.
        verifiers: Keys to accept; one valid signature by one of them is enough.

    Raises:
        LogFormatError: It is no note.
        NoteSignatureError: A known key's signature is wrong, or no known key signed.
    """
    text, lines = _split_note(note)
    known: dict[tuple[str, bytes], list[NoteVerifier]] = {}
    for verifier in verifiers:
        known.setdefault((verifier.name, verifier.key_hash), []).append(verifier)
    verified: list[NoteVerifier] = []
    for name, hash_, signature in lines:
        candidates = known.get((name, hash_))
        if not candidates:
            continue
        if len(candidates) > 1:
            raise NoteSignatureError(f"two keys for {name} have the same key hash")
        try:
            candidates[0].key.verify(signature, text.encode())
        except SignatureError as error:
            raise NoteSignatureError(f"the signature of {name} is not valid") from error
        if candidates[0] not in verified:
            verified.append(candidates[0])
    if not verified:
        raise NoteSignatureError("no signature by an expected key")
    return Note(text, tuple(verified))


def unverified_text(note: str) -> str:
    """Return a note's text without checking any signature: to learn whose key to look up.

    Raises:
        LogFormatError: It is no note.
    """
    return _split_note(note)[0]


def _split_note(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    if len(note.encode("utf-8", "surrogatepass")) > MAX_NOTE_BYTES:
        raise LogFormatError(f"a note has at most {MAX_NOTE_BYTES} bytes")
    head, separator, tail = note.rpartition("\n\n")
    text = head + "\n"
    if not separator or not tail.endswith("\n"):
        raise LogFormatError("not a signed note: no signature block")
    _demand_text(text)
    lines = []
    for line in tail[:-1].split("\n"):
        name, space, encoded = line.removeprefix(_PREFIX).partition(" ")
        if not line.startswith(_PREFIX) or not space:
            raise LogFormatError("not a signed note: malformed signature line")
        _demand_name(name)
        blob = _decode(encoded, "a signature")
        if len(blob) < 5:
            raise LogFormatError("not a signed note: a signature is too short")
        lines.append((name, blob[:4], blob[4:]))
    if len(lines) > MAX_SIGNATURES:
        raise LogFormatError(f"a note has at most {MAX_SIGNATURES} signatures")
    return text, lines


def _demand_text(text: str) -> None:
    if not text.endswith("\n"):
        raise LogFormatError("a note's text ends in a newline")
    if any((each < " " and each != "\n") or "\ud800" <= each <= "\udfff" for each in text):
        raise LogFormatError("a note's text has no control characters")


def _demand_name(name: str) -> None:
    if not name or "+" in name or any(each.isspace() or each < " " for each in name):
        raise LogFormatError("a note's key name is not empty and has no spaces and no plus sign")


def _decode(text: str, what: str) -> bytes:
    try:
        return decode_base64(text)
    except DocumentError as error:
        raise LogFormatError(f"{what} is {error.message}") from error
