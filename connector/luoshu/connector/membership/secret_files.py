"""Writing and reading the files that hold keys and credentials.

Each file is written whole or not at all: to a new file beside it, flushed to the disk,
then renamed over it, and the directory flushed (rename(2), fsync(2)). Private files are
created with mode 0600, so that no moment exists in which another user could open them.
"""

import os
import secrets
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644
_OTHERS = 0o077


class UnsafeFileError(Exception):
    """A file can't be trusted as it lies there; the text says what to do."""


def write_atomically(path: Path, data: bytes, *, mode: int, replace: bool = True) -> None:
    """Writes a file so that a crash leaves the old one or the new one.

    Args:
        path: Where to.
        data: Its content.
        mode: Permission bits, `PRIVATE` or `PUBLIC`.
        replace: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If there is one and it may not be replaced.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
    _flush_directory(path.parent)


def read_private(path: Path) -> bytes:
    """Reads a key file.

    Raises:
        FileNotFoundError: If there is none.
        UnsafeFileError: If others than its owner may read or write it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise UnsafeFileError(
                f"{path.name} holds a private key but others may open it: chmod 600 it, and "
                "replace the key if somebody might have read it"
            )
        return file.read()


def private_directory(path: Path) -> Path:
    """Makes a directory that only its owner may enter, and returns it.

    Raises:
        FileExistsError: If there is something else by that name.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
