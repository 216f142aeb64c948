"""Where released results wait to be fetched.

A result is a file named by its request's digest. It is durable before the release
entry that commits to its own digest, so a node that was killed in between holds
either both or an entry-less file, which is removed at start.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import digest


class ResultStore:
    """Files of Arrow IPC bytes in one private directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, request_digest: str, result: bytes) -> None:
        """Writes a result durably; the release entry may be written after it.

        Raises:
            NodeError: ``LOG_UNAVAILABLE``, the disk didn't take it.
        """
        path = self._path(request_digest)
        temporary = path.with_suffix(".part")
        try:
            with temporary.open("wb") as file:
                file.write(result)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            with suppress(OSError):  # what is left over goes at the next start
                temporary.unlink()
            raise NodeError("LOG_UNAVAILABLE", private=f"result not stored: {error}") from error

    def load(self, request_digest: str, expected_digest: str) -> bytes:
        """The result's bytes, which are what the release entry committed to.

        Raises:
            NodeError: ``RESULT_GONE``, removed after its retention or damaged.
        """
        try:
            result = self._path(request_digest).read_bytes()
        except OSError as error:
            raise NodeError("RESULT_GONE", private=f"stored result: {error.strerror}") from error
        if digest(result) != expected_digest:
            raise NodeError("RESULT_GONE", private="stored result doesn't match its digest")
        return result

    def discard(self, request_digest: str) -> None:
        """Removes a result that no release entry commits to; harmless if there is none."""
        self._path(request_digest).unlink(missing_ok=True)

    def sweep(self, released: Iterable[str]) -> int:
        """Removes files that no release entry commits to; returns how many.

        Args:
            released: Digests of the requests that were released.
        """
        kept = {self._path(request_digest) for request_digest in released}
        removed = 0
        for path in list(self._directory.iterdir()):
            if path not in kept:
                path.unlink()
                removed += 1
        return removed

    def _path(self, request_digest: str) -> Path:
        # Computed by this node from what was signed, never a text that a caller chose.
        return self._directory / f"{request_digest.removeprefix('sha256:')}.arrow"
