"""Directories that isolated workers write to, and removing them, whatever was made there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ATTEMPTS = 3


@contextmanager
def held_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory that is locked while it is used, and removed afterwards.

    Those of processes that were killed are removed first: they may hold protected data.

    Args:
        parent: Where it is made.
        prefix: Of its name; nothing else there has it.

    Raises:
        OSError: It can't be made.
    """
    for abandoned in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # somebody holds it, or it is another user's, or has just gone
            lock = _locked(abandoned)
            try:
                remove_left(abandoned)
            finally:
                os.close(lock)
    made, lock = _made(parent, prefix)
    try:
        yield made
    finally:
        remove_left(made)
        os.close(lock)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(BlockingIOError, FileNotFoundError):  # another takes it for an abandoned one
            return path, _locked(path)
    raise OSError(errno.EAGAIN, f"no directory can be made in {parent}")


def _locked(path: Path) -> int:
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.stat()  # it may have been removed before it was locked
    except BaseException:
        os.close(held)
        raise
    return held


def remove_left(directory: Path) -> None:
    """Removes a directory and all below it; what can't be removed stays.

    However deep it is: recursion, and paths, end after a thousand directories. So what lies two
    levels down is moved up first. And whoever may enter: a worker can make directories for nobody.
    """
    with suppress(OSError):
        names = (f".left-{number}" for number in iter(lambda: os.urandom(8).hex(), ""))
        while found := list(_entries(directory)):
            for path in found:
                _remove_one(path, directory, names)
        directory.rmdir()


def _remove_one(path: Path, top: Path, names: Iterator[str]) -> None:
    if not _is_directory(path):
        path.unlink()
        return
    for child in _entries(path):
        if _is_directory(child):
            child.chmod(0o700)
            child.rename(top / next(names))
        else:
            child.unlink()
    path.rmdir()


def _entries(directory: Path) -> Iterator[Path]:
    directory.chmod(0o700)
    yield from list(directory.iterdir())


def _is_directory(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)
