"""Removing a directory that an isolated worker wrote to, whatever it made there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


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
