"""The thin port through which the journal and its publisher touch the disk.

Every call that can fail on a full or broken disk goes through `Files`, so that a test can fail
the n-th one. `OsFiles` is the real adapter; its calls are the system's, one to one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """System calls on files; each raises ``OSError`` as the system does."""

    def open(self, path: Path) -> int:
        """Opens for reading and writing, creates with mode 0600, returns a descriptor."""

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Reads up to ``length`` bytes at ``offset``."""

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        """Writes at ``offset`` and returns how many bytes were written, maybe not all."""

    def truncate(self, descriptor: int, length: int) -> None:
        """Cuts the file to ``length`` bytes."""

    def fsync(self, descriptor: int) -> None:
        """Returns once the file's bytes and length are durable."""

    def close(self, descriptor: int) -> None:
        """Closes the descriptor."""

    def rename(self, source: Path, target: Path) -> None:
        """Puts ``source`` in the place of ``target``, at once."""

    def make_directory(self, path: Path) -> None:
        """Creates a directory, and does nothing if it is there."""

    def fsync_directory(self, path: Path) -> None:
        """Returns once the directory's names are durable."""

    def unlink(self, path: Path) -> None:
        """Removes a name, if it is there."""

    def remove_directory(self, path: Path) -> None:
        """Removes an empty directory."""


class OsFiles:
    """The operating system's files."""

    def open(self, path: Path) -> int:
        """See `Files.open`."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """See `Files.read`."""
        return os.pread(descriptor, length, offset)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        """See `Files.write`."""
        return os.pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, length: int) -> None:
        """See `Files.truncate`."""
        os.ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        """See `Files.fsync`."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """See `Files.close`."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """See `Files.rename`."""
        source.replace(target)

    def make_directory(self, path: Path) -> None:
        """See `Files.make_directory`."""
        path.mkdir(exist_ok=True)

    def fsync_directory(self, path: Path) -> None:
        """See `Files.fsync_directory`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """See `Files.unlink`."""
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> None:
        """See `Files.remove_directory`."""
        path.rmdir()


def write_fully(files: Files, descriptor: int, data: bytes, offset: int) -> None:
    """Writes all of ``data`` at ``offset``, however many calls that takes.

    Raises:
        OSError: A call failed, or wrote nothing.
    """
    view = memoryview(data)
    while view:
        written = files.write(descriptor, bytes(view), offset)
        if written <= 0:
            raise OSError("the file system wrote nothing")
        view, offset = view[written:], offset + written
