"""Where contributions lie between two workers: in memory if there is room, else on disk.

A directory of this process's user alone, removed with the computation. Only workers look into it.
Its name holds the number of the process, so that what a killed one left behind is found.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it, mode 0700
_PREFIX = "luoshu-cells-"
_NAME = re.compile(rf"{_PREFIX}([0-9]+)-\w+")


@dataclass(frozen=True, slots=True)
class Scratch:
    """Two directories for one computation.

    Attributes:
        cells: Written by stage 1, read by the release worker.
        delta: Written by the release worker.
    """

    cells: Path
    delta: Path

    @classmethod
    def make(cls, room: int, memory: Path = _MEMORY) -> Self:
        """Makes the directories.

        Args:
            room: Bytes that must be free in memory to use it; twice, for others are at it too.
            memory: A file system in memory, or a path that isn't there.

        Raises:
            OSError: They can't be made.
        """
        parent = None
        if memory.is_dir() and os.access(memory, os.W_OK | os.X_OK):
            parent = memory if shutil.disk_usage(memory).free > 2 * room else None
        directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        scratch = cls(directory / "cells", directory / "delta")
        scratch.cells.mkdir(mode=0o700)
        scratch.delta.mkdir(mode=0o700)
        return scratch

    def remove(self) -> None:
        """Removes them with all they hold; again is harmless."""
        shutil.rmtree(self.cells.parent, ignore_errors=True)


def remove_abandoned(memory: Path = _MEMORY) -> None:
    """Removes what processes of this user that were killed left behind."""
    for parent in (memory, Path(tempfile.gettempdir())):
        if not parent.is_dir():
            continue
        for path in parent.iterdir():
            name = _NAME.fullmatch(path.name)
            if name and _is_ours(path) and not _is_running(int(name[1])):
                shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False  # somebody else removed it just now
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
