"""Where contributions lie between two workers: files without a name, gone when they are closed.

In memory if there is room, else on disk. Only the workers that are handed one can reach it. All of
them together take no more memory than that file system may have, whatever a worker writes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing in it has a name


@dataclass(slots=True)
class Scratch:
    """The files of one computation.

    Attributes:
        room: Bytes that one may take.
        memory: A file system in memory, or a path that isn't there.
    """

    room: int
    memory: Path = _MEMORY
    _files: list[int] = field(default_factory=list)

    def make(self) -> int:
        """Makes a file; returns its descriptor, which is closed with the others.

        Raises:
            OSError: It can't be made.
        """
        # Twice, for other computations are at it too.
        if _is_usable(self.memory) and shutil.disk_usage(self.memory).free > 2 * self.room:
            made = os.open(self.memory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        else:
            with tempfile.TemporaryFile() as file:
                made = os.dup(file.fileno())
        self._files.append(made)
        return made

    def to_read(self, made: int) -> int:
        """Opens a file again, to read only and from its start; closed with the others.

        Raises:
            OSError: It can't be opened.
        """
        opened = os.open(path_of(made), os.O_RDONLY | os.O_CLOEXEC)
        self._files.append(opened)
        return opened

    def close(self) -> None:
        """Closes all files, which removes them; again is harmless."""
        while self._files:
            os.close(self._files.pop())


def _is_usable(memory: Path) -> bool:
    return memory.is_dir() and os.access(memory, os.W_OK | os.X_OK)


def path_of(descriptor: int) -> Path:
    """A path by which this process finds an open file of its own."""
    return Path(f"/proc/self/fd/{descriptor}")
