"""Directories of running processes, which others can tell from those of dead ones.

A process holds a lock on a file in its home for as long as it lives, whatever ends it. What was
made in the name of a home whose lock is free belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"
_UNFINISHED = "."


class Home:
    """This process's home.

    Attributes:
        path: The directory; nobody but this user sees into it.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Makes it.

        Args:
            parent: Where homes are; by default a directory of this user in the temporary one.

        Raises:
            OSError: It can't be made, or the place for it is another user's.
        """
        self._parent = parent or Path(tempfile.gettempdir()) / f"luoshu-{os.geteuid()}"
        self._parent.mkdir(mode=0o700, exist_ok=True)
        found = self._parent.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(f"{self._parent} is not this user's alone; remove it")
        made = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._parent))
        self._lock = _locked(made)
        self.path = made.rename(made.with_name(made.name.removeprefix(_UNFINISHED)))

    @property
    def name(self) -> str:
        """Unlike any other's."""
        return self.path.name

    def abandoned(self) -> Iterator[Path]:
        """Homes whose processes have died."""
        for path in self._parent.iterdir():
            if path.name.startswith(_UNFINISHED) or path == self.path:
                continue
            try:
                os.close(_locked(path))
            except OSError:  # somebody lives there, or has just left
                continue
            yield path

    def close(self) -> None:
        """Removes it; again is harmless."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(home: Path) -> int:
    lock = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(lock)
        raise
    return lock
