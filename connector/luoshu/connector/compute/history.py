"""What was released before, per privacy domain: the files that new results are compared with.

`<node>/history/<domain>/NNNNNNNN.<consumer>.<contract>.hist`, one file a release, append-only;
the two tags are digests that say to whom and under which contract it was released. One
directory for all scopes, so that a contract whose scope is wider than another's is compared
with what the other released too; a scope only chooses among the files.

The rules:

* From reading the history until the delta is durable (file synced, renamed into place, the
  directory synced), a domain belongs to one computation: two that would each pass alone can't
  both pass.
* A file without a journal entry counts as released: the node may have died in between. The
  next entry of the domain adopts it.
* A file that the journal knows and that is missing or altered stops the domain: what can't be
  compared must not be released. Each computation looks again, so putting the file back is
  enough.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from luoshu.connector.compute.tables import history
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger
from luoshu.connector.observability import get_logger
from luoshu.contracts.release_notes import ReleaseNote
from luoshu.contracts.release_terms import ReleaseMode, ReleaseScope
from luoshu.sandbox.history_port import HistoryUnavailableError, copy_durably

__all__ = [
    "MAX_DELTA_BYTES",
    "Audience",
    "KeptFile",
    "ReleaseHistory",
    "ScopedHistory",
    "domain_directory",
    "notes_of",
]

MAX_DELTA_BYTES: Final = 4 << 30
"""Largest delta that is taken from a release worker."""

_NAME = re.compile(r"([0-9]{8})\.([0-9a-f]{16})\.([0-9a-f]{16})\.hist")
_STALE: Final = ".*.part"
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose results are compared with each other.

    Attributes:
        domain: Privacy domain of the product.
        consumer: Participant that gets the result.
        contract_id: Contract that it is computed under.
        scope: How far to compare.
    """

    domain: str
    consumer: str
    contract_id: str
    scope: ReleaseScope

    def compares(self, name: str) -> bool:
        """Whether a file of the domain counts for this audience."""
        parts = _NAME.fullmatch(name)
        if parts is None:
            return False
        match self.scope:
            case ReleaseScope.PRODUCT:
                return True
            case ReleaseScope.PARTICIPANT:
                return parts[2] == _tag(self.consumer)
            case ReleaseScope.CONTRACT:
                return parts[3] == _tag(self.contract_id)

    def file_name(self, number: int) -> str:
        """Name of the domain's file of a number."""
        return f"{number:08}.{_tag(self.consumer)}.{_tag(self.contract_id)}.hist"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of the history, by name and `sha256:<hex>` of its bytes."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class DomainFiles:
    """The files of a domain, oldest first: all of them, and those that no entry names."""

    all: tuple[KeptFile, ...] = ()
    unjournaled: tuple[KeptFile, ...] = ()


def domain_directory(root: Path, domain: str) -> Path:
    """Where a domain's files lie; named so that people find it, and no name leads elsewhere."""
    slug = re.sub(r"[^a-z0-9_]+", "-", domain.lower())[:40].strip("-") or "domain"
    return root / f"{slug}.{_tag(domain)}"


class ReleaseHistory:
    """All histories of a node. One instance a node; used from one event loop."""

    def __init__(self, directory: Path, ledger: Ledger, secret: Callable[[str], bytes]) -> None:
        """Builds it.

        Args:
            directory: `<node>/history`.
            ledger: Its tables say which files the journal knows.
            secret: Reads a domain's 32 bytes; may block.
        """
        self._root = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(directory.parent)
        self._ledger = ledger
        self.secret = secret
        self._locks: dict[str, asyncio.Lock] = {}
        self._seen: dict[str, tuple[_Signature, str]] = {}

    def of(self, audience: Audience) -> ScopedHistory:
        """The history that one computation for an audience is compared with."""
        return ScopedHistory(self, audience)

    async def check(self) -> tuple[str, ...]:
        """Checks every domain, at start; says in the operational log what is wrong.

        Returns:
            Those over which nothing is computed until their files are back.
        """
        damaged = []
        for domain in await self._ledger.read(_domains):
            try:
                await self.require_intact(domain)
            except NodeError as error:
                get_logger().error("history_corrupt", reason=error.reason, detail=error.private)
                damaged.append(domain)
        return tuple(damaged)

    async def require_intact(self, domain: str) -> DomainFiles:
        """Checks that every file that the journal knows is there, unaltered.

        Raises:
            NodeError: ``HISTORY_CORRUPT``.
        """
        known = await self._ledger.read(lambda connection: _files(connection, domain))
        found = await asyncio.to_thread(self._compare, domain, known)
        return DomainFiles(found, tuple(each for each in found if each.name not in known))

    def path(self, domain: str) -> Path:
        """The domain's directory."""
        return domain_directory(self._root, domain)

    def lock(self, domain: str) -> asyncio.Lock:
        """Held from reading a domain's history until the delta is durable; first come first."""
        return self._locks.setdefault(domain, asyncio.Lock())

    def _compare(self, domain: str, known: Mapping[str, str]) -> tuple[KeptFile, ...]:
        directory = self.path(domain)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.scandir(directory) as listing:
                entries = sorted(
                    (each for each in listing if _NAME.fullmatch(each.name)), key=lambda e: e.name
                )
            found = {each.name: self._digest(each) for each in entries}
        except OSError as error:
            raise _corrupt(directory, error.strerror or "can't be read") from error
        for name, digest in known.items():
            if name not in found:
                raise _corrupt(directory / name, "is missing")
            if found[name] != digest:
                raise _corrupt(directory / name, "was altered")
        return tuple(KeptFile(name, digest) for name, digest in found.items())

    def _digest(self, entry: os.DirEntry[str]) -> str:
        """The file's digest; read again only if the file isn't the one that was read before."""
        signature = _Signature.of(entry.stat(follow_symlinks=False))
        seen = self._seen.get(entry.path)
        if seen is not None and seen[0] == signature:
            return seen[1]
        with Path(entry.path).open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        self._seen[entry.path] = signature, digest
        return digest


@dataclass(slots=True)
class ScopedHistory:
    """The history for one computation: `luoshu.sandbox.history_port.HistoryPort`.

    Attributes:
        files: The domain's files when the transaction began.
        kept: The computation's own file, once it is durable.
    """

    of: ReleaseHistory
    audience: Audience
    files: DomainFiles = field(default_factory=DomainFiles)
    kept: KeptFile | None = None

    @property
    def directory(self) -> Path:
        """See `HistoryPort.directory`."""
        directory = self.of.path(self.audience.domain)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    @property
    def unjournaled(self) -> tuple[KeptFile, ...]:
        """Files that no entry named when the transaction began."""
        return self.files.unjournaled

    async def require_intact(self) -> None:
        """See `ReleaseHistory.require_intact`; before anything is decided."""
        await self.of.require_intact(self.audience.domain)

    @asynccontextmanager
    async def transaction(self, tables: Sequence[str]) -> AsyncIterator[ScopedTransaction]:
        """See `HistoryPort.transaction`: all tables of one product are of one domain.

        Raises:
            NodeError: ``HISTORY_CORRUPT``.
        """
        del tables
        domain = self.audience.domain
        async with self.of.lock(domain):
            self.files = await self.of.require_intact(domain)
            yield ScopedTransaction(self, await asyncio.to_thread(self.of.secret, domain))


@dataclass(slots=True)
class ScopedTransaction:
    """`luoshu.sandbox.history_port.HistoryTransaction`."""

    scoped: ScopedHistory
    secret: bytes = field(repr=False)
    names: tuple[str, ...] = field(init=False)
    own: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        audience, files = self.scoped.audience, self.scoped.files.all
        self.names = tuple(each.name for each in files if audience.compares(each.name))
        # Whatever scope a later result has, it is compared with its own contract's files.
        narrowest = replace(audience, scope=ReleaseScope.CONTRACT)
        self.own = tuple(name for name in self.names if narrowest.compares(name))

    async def commit(self, path: Path, digest: str) -> None:
        """See `HistoryTransaction.commit`.

        Raises:
            NodeError: ``LOG_UNAVAILABLE``: the disk didn't take it, or it isn't what the release
                worker said that it wrote.
        """
        # A cancelled computation must not give the domain up while the file is being written.
        self.scoped.kept = await _to_the_end(asyncio.to_thread(self._write, path, digest))

    def _write(self, delta: Path, digest: str) -> KeptFile:
        directory = self.scoped.directory
        number = 1 + max((int(each.name[:8]) for each in self.scoped.files.all), default=-1)
        target = directory / self.scoped.audience.file_name(number)
        try:
            for stale in directory.glob(_STALE):  # of a node that was killed
                stale.unlink()
            _require_plain(delta)
            copy_durably(delta, target, digest)
            target.chmod(0o600)
            _sync(directory.parent)  # the directory itself may be new
        except (OSError, HistoryUnavailableError) as error:
            raise NodeError("LOG_UNAVAILABLE", private=f"history not stored: {error}") from error
        return KeptFile(target.name, digest)


@dataclass(frozen=True, slots=True)
class _Signature:
    """What changes when a file is replaced or written to."""

    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> _Signature:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


async def _to_the_end(work: Awaitable[_Result]) -> _Result:
    """Awaits work that can't be interrupted; a cancellation is raised once it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _require_plain(delta: Path) -> None:
    """Refuses what is no file, or more than one result can need."""
    found = delta.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_DELTA_BYTES:
        raise HistoryUnavailableError("a history delta is no file, or too large")


def _files(connection: Connection, domain: str) -> dict[str, str]:
    """Digest of each file of a domain that the log knows, by name."""
    rows = connection.execute(
        sa.select(history.c.name, history.c.digest).where(history.c.domain == domain)
    )
    return {row.name: row.digest for row in rows}


def notes_of(connection: Connection, mode: str, domain: str) -> tuple[ReleaseNote, ...]:
    """What is said with a result of a mode about a domain's people."""
    exactly = sa.select(history.c.name).where(history.c.domain == domain).limit(1)
    if not domain or (mode == ReleaseMode.DP and connection.scalar(exactly) is None):
        return (ReleaseNote.RELEASED_GROUPS,)
    return (ReleaseNote.RELEASED_GROUPS, ReleaseNote.NO_PRIVACY_CLAIM)


def _domains(connection: Connection) -> tuple[str, ...]:
    return tuple(connection.scalars(sa.select(history.c.domain).distinct().order_by("domain")))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _corrupt(path: Path, what: str) -> NodeError:
    return NodeError("HISTORY_CORRUPT", private=f"{path} {what}")
