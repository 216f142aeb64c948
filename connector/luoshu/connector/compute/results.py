"""Where released results wait to be fetched.

A result is a file named by its request's id. It is durable before the release
entry that commits to its digest, so a node that was killed in between holds
either both or an entry-less file, which is removed at start.
"""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import digest


class ResultStore:
    """Files of Arrow IPC bytes in one private directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, request_id: str, result: bytes) -> None:
        """Writes a result durably; the release entry may be written after it.

        Raises:
            NodeError: ``LOG_UNAVAILABLE``, the disk didn't take it.
        """
        path = self._path(request_id)
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
            temporary.unlink(missing_ok=True)
            raise NodeError("LOG_UNAVAILABLE", private=f"result not stored: {error}") from error

    def load(self, request_id: str, expected_digest: str) -> bytes:
        """The result's bytes, which are what the release entry committed to.

        Raises:
            NodeError: ``RESULT_GONE``, removed after its retention or damaged.
        """
        try:
            result = self._path(request_id).read_bytes()
        except FileNotFoundError:
            raise NodeError("RESULT_GONE") from None
        if digest(result) != expected_digest:
            raise NodeError("RESULT_GONE", private="stored result doesn't match its digest")
        return result

    def sweep(self, released: Container[str]) -> int:
        """Removes files whose name no release entry knows; returns how many."""
        removed = 0
        for path in self._directory.iterdir():
            if path.suffix == ".part" or path.stem not in released:
                path.unlink()
                removed += 1
        return removed

    def _path(self, request_id: str) -> Path:
        # Request ids are urn:uuid:<uuid>, validated where they are parsed.
        return self._directory / f"{file_stem(request_id)}.arrow"


def file_stem(request_id: str) -> str:
    """The name under which a request's result is kept."""
    return request_id.rsplit(":", 1)[-1]
