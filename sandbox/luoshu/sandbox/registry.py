"""The unit registry: whom a holder protects, by numbers that never change.

One directory a privacy domain: `units.duckdb` holds a salted hash and an id for
each unit ever seen, and only grows; `domain.json` holds the domain's secrets.
So a unit has one id across products, versions of their data and republication,
which is what lets results be compared that were released at different times.

The table is opened by isolated workers only; here are its secrets, its lock and
its replacement, which is atomic and durable before any product uses a new id.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from luoshu.contracts.canonical import canonicalize, parse_object
from luoshu.contracts.errors import CanonicalError
from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.leftovers import remove_left
from luoshu.sandbox.schema import SchemaError, checked_name, exact_fields

UNITS = "units.duckdb"
DOMAIN = "domain.json"
SCHEMA = "luoshu/unit-registry/v1"
_MAX_DOCUMENT = 1 << 16
_PLAIN = re.compile(r"[a-z0-9_]{1,64}")
_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class UnitDomain:
    """One privacy domain of one holder.

    Attributes:
        name: As products name it; lower case.
        id: Of the registry: another one means other ids.
        secret: 32 bytes, keys fingerprints and jitter. Never leaves the holder's node and its
            release workers.
        salt: 32 bytes, of the hashes. Only preparation workers get it.
        directory: Where it lies.
    """

    name: str
    id: str
    secret: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    directory: Path

    @classmethod
    def load(cls, root: Path, name: str) -> Self:
        """Loads a domain from the directory of all domains.

        Raises:
            PreparationError: It isn't there or is damaged.
        """
        directory = domain_directory(root, name)
        if not (directory / UNITS).is_file():
            raise _damaged(directory, f"{UNITS} is missing")
        try:
            fields = exact_fields(
                parse_object((directory / DOMAIN).read_bytes(), max_bytes=_MAX_DOCUMENT),
                *("schema", "registry", "domain", "secret", "salt"),
            )
            _check_names(fields, name)
            return cls(
                name,
                checked_name(fields["registry"]),
                _secret(fields["secret"]),
                _secret(fields["salt"]),
                directory,
            )
        except OSError as error:
            raise _damaged(directory, f"{DOMAIN}: {error.strerror}") from None
        except (CanonicalError, SchemaError) as error:
            raise _damaged(directory, f"{DOMAIN}: {error}") from None


@dataclass(slots=True)
class GrowingRegistry:
    """A domain whose lock is held, with a copy of its table for a worker to add units to.

    Attributes:
        domain: Whose ids these are.
        work_dir: Holds the copy, `units.duckdb`; a worker writes there, and nothing else of it is
            used.
    """

    domain: UnitDomain
    work_dir: Path
    _is_new: bool

    def commit(self, new_units: int) -> None:
        """Makes the grown table the domain's, durably.

        Raises:
            PreparationError: There are new units, but no such file.
        """
        grown = self.work_dir / UNITS
        if not self._is_new and not new_units:
            return
        require_regular(grown)
        grown.chmod(0o600)
        _sync(grown)
        directory = self.domain.directory
        if self._is_new:
            # All at once: a directory is there with both files, or not at all.
            made = self.work_dir.with_name("domain")
            made.mkdir(mode=0o700)
            grown.rename(made / UNITS)
            _write_domain(made / DOMAIN, self.domain)
            _sync(made)
            made.rename(directory)
            _sync(directory.parent)
        else:
            grown.replace(directory / UNITS)
            _sync(directory)


@contextmanager
def growing_registry(root: Path, name: str) -> Iterator[GrowingRegistry]:
    """Locks a domain, making it if it is new, until its table has grown by one preparation.

    Args:
        root: The directory of all domains; made if missing.
        name: Of the domain.

    Raises:
        PreparationError: Another preparation of the domain runs, or its registry is damaged.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Absolute: what starts the workers has another working directory.
    root = root.resolve()
    directory = domain_directory(root, name)
    with _locked(root / f".{directory.name}.lock", name):
        is_new = not directory.exists()
        if is_new:
            secret, salt = secrets.token_bytes(32), secrets.token_bytes(32)
            domain = UnitDomain(name, secrets.token_hex(16), secret, salt, directory)
        else:
            domain = UnitDomain.load(root, name)
        prefix = f".growing-{directory.name}."
        for abandoned in root.glob(f"{prefix}*"):  # by a process that was killed
            remove_left(abandoned)
        held = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        work_dir = held / "worker"
        try:
            work_dir.mkdir(mode=0o700)
            if not is_new:
                shutil.copyfile(directory / UNITS, work_dir / UNITS)
            yield GrowingRegistry(domain, work_dir, is_new)
        finally:
            remove_left(held)


def domain_directory(root: Path, name: str) -> Path:
    """Where a domain lies: a directory of its name, or of its name's hash if that has others."""
    if _PLAIN.fullmatch(name):
        return root / name
    return root / f"sha256-{hashlib.sha256(name.encode()).hexdigest()}"


def require_regular(path: Path) -> None:
    """Checks that a worker left a file there, and no link to one of the host's.

    Raises:
        PreparationError: It didn't.
    """
    try:
        is_file = stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        is_file = False
    if not is_file:
        raise PreparationError(f"The preparation left no file {path.name}; prepare again.")


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PreparationError(
                f"Another product of the privacy domain {name} is being prepared; prepare this one "
                "when that has ended."
            ) from None
        yield
    finally:
        os.close(descriptor)


def _write_domain(path: Path, domain: UnitDomain) -> None:
    document = canonicalize(
        {
            "schema": SCHEMA,
            "registry": domain.id,
            "domain": domain.name,
            "secret": domain.secret.hex(),
            "salt": domain.salt.hex(),
        }
    )
    path.touch(mode=0o600)
    path.write_bytes(document)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_names(fields: dict[str, object], name: str) -> None:
    if fields["schema"] != SCHEMA or fields["domain"] != name:
        raise SchemaError(f"not {SCHEMA} of this domain")


def _secret(value: object) -> bytes:
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        raise SchemaError("a secret of 32 bytes was expected")
    return bytes.fromhex(value)


def _damaged(directory: Path, problem: str) -> PreparationError:
    return PreparationError(
        f"The unit registry {directory} can't be used ({problem}). Restore it from a backup: a new "
        "one would number the same people anew, and results could no longer be compared with those "
        "released before."
    )
