"""Checkpoints: a log's origin, size and root in a signed note (C2SP tlog-checkpoint).

Source: https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from luoshu.contracts.errors import DocumentError
from luoshu.contracts.keys import KeyUse, SigningKey, decode_base64, encode_base64
from luoshu.contracts.log.errors import LogFormatError
from luoshu.contracts.log.merkle import EMPTY_ROOT, HASH_SIZE
from luoshu.contracts.log.note import NoteVerifier, open_note, sign_note, unverified_text

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log.

    Attributes:
        origin: Name of the log: its participant's id.
        size: Number of entries.
        root: Merkle root over them, 32 bytes.
        extensions: Further lines, kept as they are.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise LogFormatError("a checkpoint's origin is one line and not empty")
        if self.size < 0 or len(self.root) != HASH_SIZE:
            raise LogFormatError("a checkpoint has a size and a root of 32 bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise LogFormatError("a log without entries has the empty root")
        if any(not line or "\n" in line for line in self.extensions):
            raise LogFormatError("a checkpoint's extension lines are not empty")

    def to_text(self) -> str:
        """Return the text to sign."""
        root = encode_base64(self.root)
        return "".join(
            f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions)
        )

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Read a checkpoint's text.

        Raises:
            LogFormatError: It is none.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:
            raise LogFormatError("a checkpoint has an origin, a size and a root, one a line")
        origin, size, encoded, *extensions = lines[:-1]
        if not _SIZE.fullmatch(size):
            raise LogFormatError("a checkpoint's size is a decimal number")
        try:
            root = decode_base64(encoded)
        except DocumentError as error:
            raise LogFormatError(f"a checkpoint's root is {error.message}") from error
        return cls(origin, int(size), root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Sign a checkpoint as its log: under the origin's name."""
    return sign_note(checkpoint.to_text(), [(checkpoint.origin, key)])


def open_checkpoint(
    note: str, verifiers: Iterable[NoteVerifier], origin: str | None = None
) -> Checkpoint:
    """Check and read a signed checkpoint.

    The signature that counts is the log's own, so a verifier whose name isn't the checkpoint's
    origin is not considered.

    Args:
        note: The signed note.
        verifiers: Keys to accept.
        origin: The log that it must be of; any log of the verifiers by default.

    Raises:
        LogFormatError: It is no checkpoint, or that of another log.
        NoteSignatureError: The log's signature is missing or wrong.
    """
    claimed = unverified_checkpoint(note)
    if origin is not None and claimed.origin != origin:
        raise LogFormatError(f"the checkpoint is of the log {claimed.origin!r}, not {origin!r}")
    own = [
        verifier
        for verifier in verifiers
        if verifier.name == claimed.origin and verifier.key.use is KeyUse.LOG
    ]
    return Checkpoint.from_text(open_note(note, own).text)


def unverified_checkpoint(note: str) -> Checkpoint:
    """Read a checkpoint without checking its signature: to learn whose key to look up.

    Raises:
        LogFormatError: It is no checkpoint.
    """
    return Checkpoint.from_text(unverified_text(note))
