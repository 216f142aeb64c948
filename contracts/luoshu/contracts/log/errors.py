"""Errors of the usage log's formats and proofs."""

from __future__ import annotations

from luoshu.contracts.errors import ContractsError


class LogError(ContractsError):
    """Something of a log is not what it should be."""

    default_reason = "PROOF_INVALID"


class LogFormatError(LogError):
    """A note, checkpoint, tile, entry or receipt is malformed.

    Attributes:
        offset: Byte offset in the file where that shows, when known.
    """

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class MerkleError(LogError):
    """A Merkle proof doesn't hold."""


class NoteSignatureError(LogError):
    """A note's signature is missing or wrong."""
