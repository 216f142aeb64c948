"""The release history as a computation uses it: read it, decide, make the delta durable.

The differencing guard compares what is about to be released with all that was
released before in the same *scope* (a contract, a participant or a product). A
scope's history is a set of append-only files in the format of
`luoshu.sandbox.release.history`; only the release worker reads them, and only it
makes new ones. From reading the names to the delta's durability is one
transaction, serialised per privacy domain: two computations that don't see each
other could release two halves of a difference.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

SECRET_BYTES = 32
_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,127}/){0,3}[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ENTRY = re.compile(r"([0-9]{12})\.history")
_LOCK = ".lock"
_POLL_SECONDS = 0.01
_CHUNK = 1 << 20


class HistoryUnavailableError(Exception):
    """The history can't be read or written, so nothing may be released; for the holder's log."""


def is_entry_name(name: str) -> bool:
    """Whether a name may be given to the release worker: relative, plain, at most four deep."""
    return _NAME.fullmatch(name) is not None


class HistoryTransaction(Protocol):
    """One serialised look at a scope's history, and at most one addition to it."""

    @property
    def names(self) -> Sequence[str]:
        """The scope's files, relative to the port's directory, oldest first."""

    @property
    def own(self) -> Sequence[str]:
        """Those of `names` that every later result for the same asker is compared with.

        A result that one of them holds already needs no addition. One that only another's file
        holds does: a later result of a narrower scope isn't compared with that file.
        """

    @property
    def secret(self) -> bytes:
        """The 32 bytes of the privacy domain: key of jitter and fingerprints; never changes."""

    async def commit(self, path: Path, digest: str) -> None:
        """Makes a delta durable; when it returns, later transactions of the scope see it.

        Called at most once. Raise if it can't be made durable: then nothing is released.

        Args:
            path: The file that the release worker wrote; belongs to the computation, which
                removes it afterwards: copy it, or link it.
            digest: `sha256:<hex>` of its bytes as the worker said; to be compared.
        """


class HistoryPort(Protocol):
    """Where one computation's history is kept; made by who knows contract and scope."""

    @property
    def directory(self) -> Path | None:
        """What the release worker sees read-only as /history; None if there is no history.

        Asked when the computation starts, before its tables are known; what is added to the
        directory later is seen as well.
        """

    def transaction(self, tables: Sequence[str]) -> AbstractAsyncContextManager[HistoryTransaction]:
        """Enters the transaction of the scope that a query over these tables belongs to.

        Args:
            tables: The protected tables of the verified plan, as `catalog.table`.
        """


class NoHistory:
    """No history: each computation is decided on alone. For tests and single dry runs."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.secret = os.urandom(SECRET_BYTES) if secret is None else secret
        self.names: tuple[str, ...] = ()
        self.own: tuple[str, ...] = ()
        self.directory: Path | None = None

    @asynccontextmanager
    async def transaction(self, tables: Sequence[str]) -> AsyncIterator[NoHistory]:
        """See the port."""
        del tables
        yield self

    async def commit(self, path: Path, digest: str) -> None:
        """Forgets the delta."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a query's history lies, and the secret of its privacy domain.

    Attributes:
        name: Of the scope's directory.
        secret: 32 bytes.
    """

    name: str
    secret: bytes = field(repr=False)


class DirectoryHistory:
    """Scopes as directories of numbered files, for the dry run.

    A lock on a file serialises transactions of all processes and threads that use the directory.
    """

    def __init__(self, directory: Path, scope_of: Callable[[Sequence[str]], Scope]) -> None:
        """Makes the directory if it isn't there.

        Args:
            directory: Of all scopes.
            scope_of: Which scope a query over some tables belongs to.

        Raises:
            HistoryUnavailableError: It can't be used.
        """
        self._directory = directory.resolve()
        self._scope_of = scope_of
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HistoryUnavailableError(
                f"the history directory {directory} can't be used: {error.strerror}"
            ) from None

    @property
    def directory(self) -> Path | None:
        """See the port."""
        return self._directory

    @asynccontextmanager
    async def transaction(self, tables: Sequence[str]) -> AsyncIterator[_DirectoryTransaction]:
        """See the port."""
        scope = self._scope_of(tables)
        try:
            path = self._directory / _LOCK
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HistoryUnavailableError(f"it can't be locked: {error.strerror}") from None
        try:
            while not _is_locked(descriptor):  # noqa: ASYNC110 - other processes tell no event
                await asyncio.sleep(_POLL_SECONDS)
            yield _DirectoryTransaction(self._directory, scope)
        finally:
            os.close(descriptor)


class _DirectoryTransaction:
    def __init__(self, directory: Path, scope: Scope) -> None:
        self._directory = directory / scope.name
        self.secret = scope.secret
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            found = sorted(p.name for p in self._directory.iterdir() if _ENTRY.fullmatch(p.name))
        except OSError as error:
            raise HistoryUnavailableError(f"it can't be read: {error.strerror}") from None
        self.names = [f"{scope.name}/{name}" for name in found]
        self._next = int(found[-1].partition(".")[0]) + 1 if found else 1
        self.own = self.names  # there is one scope

    async def commit(self, path: Path, digest: str) -> None:
        target = self._directory / f"{self._next:012}.history"
        await asyncio.to_thread(copy_durably, path, target, digest)


def _is_locked(descriptor: int) -> bool:
    """Tries to take the lock; waiting for it in a thread could not be cancelled."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def copy_durably(source: Path, target: Path, digest: str) -> None:
    """Copies a delta to its place: file synced, renamed, directory synced.

    Raises:
        HistoryUnavailableError: Its bytes aren't those of the digest, or it can't be written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with source.open("rb") as reading, part.open("wb") as writing:
            shutil.copyfileobj(reading, writing, _CHUNK)
            writing.flush()
            os.fsync(writing.fileno())
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if f"sha256:{found}" != digest:
            raise HistoryUnavailableError("a history delta isn't what its digest says")
        part.rename(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise HistoryUnavailableError(
            f"a history delta can't be made durable: {error.strerror}"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
