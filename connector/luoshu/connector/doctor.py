"""What a node or a sandbox lacks on this machine, with the exact remedy.

`examine` runs every check by itself: one that fails, even in a way nobody thought of, is a
finding and stops no other. It changes nothing, starts no node and opens no database for writing,
so it can be run beside a node that serves.
"""

import fcntl
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from luoshu.connector.config import FILE_NAME, NodeSettings, load_settings
from luoshu.connector.errors import NodeError

_MIN_PYTHON: Final = (3, 11)
_MIN_GLIBC: Final = (2, 28)
_MACHINES: Final = frozenset({"x86_64", "aarch64"})
_RELEASED: Final = datetime(2026, 1, 1, tzinfo=UTC)  # no clock that is right shows less
_LOW_DISK: Final = 1 << 30
_FULL_DISK: Final = 100 << 20
_EXPIRES_SOON: Final = timedelta(days=30)
_OTHERS: Final = 0o077
_DATABASE: Final = Path("state") / "luoshu.db"
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)")


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Its name, stable.
        level: ``missing`` means that something doesn't work until it is remedied.
        detail: What was found.
        remedy: What exactly to do; empty when all is well.
    """

    check: str
    level: Level
    detail: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done before the node can work."""
        return self.level is not Level.MISSING


_Check = Callable[[], Iterator[Finding]]


def examine(
    node: Path | None = None,
    *,
    now: datetime | None = None,
    only: Collection[str] | None = None,
) -> list[Finding]:
    """Examines this machine and, if it is named, a node's directory.

    Args:
        node: The node's directory.
        now: Aware UTC; the machine's clock by default.
        only: Names of the checks to run; all of them by default.

    Returns:
        One finding or more for each check, in the order of the checks.
    """
    moment = datetime.now(UTC) if now is None else now
    checks: dict[str, _Check] = {
        "python": _python,
        "packages": _packages,
        "policy": _policy,
        "isolation": _isolation,
        "clock": lambda: _clock(moment),
    }
    if node is not None:
        checks |= _node_checks(node, moment)
    return [
        finding
        for name, check in checks.items()
        if only is None or name in only
        for finding in _run(name, check)
    ]


def _node_checks(directory: Path, now: datetime) -> dict[str, _Check]:
    if not directory.is_dir():
        return {"directory": lambda: _no_directory(directory)}
    return {
        "configuration": lambda: _configuration(directory),
        "key-files": lambda: _key_files(directory),
        "credential": lambda: _credential(directory, now),
        "ports": lambda: _ports(directory),
        "disk": lambda: _disk(directory),
        "database": lambda: _database(directory),
        "log": lambda: _log(directory, now),
    }


def _run(name: str, check: _Check) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - a check that breaks is itself a finding
        yield Finding(
            name,
            Level.MISSING,
            f"The check itself failed ({type(error).__name__}).",
            "Report it with the output of `luoshu doctor --json`.",
        )


# ---- the machine


def _python() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    system, machine = platform.system(), platform.machine()
    library, library_version = platform.libc_ver()
    number = tuple(int(part) for part in library_version.split(".") if part.isdigit())
    detail = f"Python {version} on {system} {machine}, {library or 'libc'} {library_version}"
    if sys.version_info < _MIN_PYTHON:
        yield Finding("python", Level.MISSING, detail, "Install Python 3.11 or newer.")
    elif system != "Linux" or machine not in _MACHINES or library != "glibc" or number < _MIN_GLIBC:
        yield Finding(
            "python",
            Level.MISSING,
            detail,
            "Run the node on Linux x86-64 or aarch64 with glibc 2.28 or newer.",
        )
    else:
        yield Finding("python", Level.OK, detail)


def _packages() -> Iterator[Finding]:
    try:
        wanted = importlib.metadata.requires("luoshu") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", Level.MISSING, "luoshu isn't installed.", "pip install luoshu")
        return
    absent = []
    present = 0
    for requirement in wanted:
        match = _REQUIREMENT.match(requirement)
        if match is None or "extra ==" in requirement:
            continue
        try:
            importlib.metadata.version(match[1])
            present += 1
        except importlib.metadata.PackageNotFoundError:
            absent.append(match[1])
    if absent:
        yield Finding(
            "packages",
            Level.MISSING,
            f"Packages are missing: {', '.join(sorted(absent))}.",
            f"{sys.executable} -m pip install {' '.join(sorted(absent))}",
        )
    else:
        yield Finding("packages", Level.OK, f"all {present} required packages are installed")


def _policy() -> Iterator[Finding]:
    from luoshu.policies import PoliciesError, load_default_engine  # noqa: PLC0415 - slow to import

    try:
        engine = load_default_engine()
        engine.decide({})
    except PoliciesError as error:
        remedy = "Install luoshu again: pip install --force-reinstall luoshu"
        yield Finding("policy", Level.MISSING, error.private or error.public, remedy)
    else:
        yield Finding("policy", Level.OK, f"the shipped policy decides ({engine.policy_digest})")


def _isolation() -> Iterator[Finding]:
    # Imported here: the sandbox's launcher is started by it, and only this check needs it.
    from luoshu.sandbox.isolation.bwrap import BwrapIsolation  # noqa: PLC0415
    from luoshu.sandbox.isolation.port import IsolationConfig  # noqa: PLC0415

    with closing(BwrapIsolation(IsolationConfig())) as isolation:
        findings = isolation.check()
    if not findings:
        yield Finding("isolation", Level.OK, "bubblewrap isolates a process here")
    for finding in findings:
        yield Finding(
            "isolation", Level.MISSING, f"{finding.message} [{finding.code}]", finding.remedy
        )


def _clock(now: datetime) -> Iterator[Finding]:
    shown = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    if now < _RELEASED:
        yield Finding(
            "clock",
            Level.MISSING,
            f"The clock shows {shown}, which is in the past.",
            "Set the clock: timedatectl set-ntp true",
        )
    else:
        yield Finding("clock", Level.OK, shown)


# ---- a node's directory


def _no_directory(directory: Path) -> Iterator[Finding]:
    yield Finding(
        "directory",
        Level.MISSING,
        f"{directory} is no directory.",
        "Name a node's directory, or make one with `luoshu node init`.",
    )


def _configuration(directory: Path) -> Iterator[Finding]:
    try:
        settings = load_settings(directory)
    except NodeError as error:
        yield Finding("configuration", Level.MISSING, error.public, f"Edit {directory / FILE_NAME}")
    else:
        roles = ", ".join(settings.node.roles)
        yield Finding("configuration", Level.OK, f"{settings.node.participant} ({roles})")


def _key_files(directory: Path) -> Iterator[Finding]:
    keys = sorted((directory / "keys").glob("*.pem"))
    if not keys:
        yield Finding(
            "key-files",
            Level.MISSING,
            f"{directory / 'keys'} holds no keys.",
            "Make the node with `luoshu node init`.",
        )
        return
    exposed = [path for path in keys if path.stat().st_mode & _OTHERS]
    foreign = [path for path in keys if path.stat().st_uid != os.geteuid()]
    if exposed:
        yield Finding(
            "key-files",
            Level.MISSING,
            f"Others may open {', '.join(path.name for path in exposed)}.",
            f"chmod 600 {' '.join(str(path) for path in exposed)}; replace a key that somebody "
            "might have read.",
        )
    elif foreign:
        yield Finding(
            "key-files",
            Level.WARN,
            f"{', '.join(path.name for path in foreign)} belong to another user than this one.",
            "Run the node as the user who owns its directory.",
        )
    else:
        yield Finding("key-files", Level.OK, f"{len(keys)} keys, readable by their owner only")


def _credential(directory: Path, now: datetime) -> Iterator[Finding]:
    from luoshu.connector.membership.node_files import load_node  # noqa: PLC0415
    from luoshu.connector.membership.secret_files import UnsafeFileError  # noqa: PLC0415
    from luoshu.contracts.errors import ContractsError  # noqa: PLC0415

    try:
        files = load_node(directory, now=now)
    except (NodeError, ContractsError) as error:
        carried = NodeError.from_reason(error)
        yield Finding(
            "credential",
            Level.MISSING,
            carried.public,
            "Check the clock; then ask the operator for a new grant and run `luoshu node enrol`.",
        )
        return
    except (UnsafeFileError, OSError) as error:
        yield Finding(
            "credential",
            Level.MISSING,
            f"The node's keys and credentials can't be read: {error}.",
            "Make the files readable by the node's user, and by nobody else where they are keys.",
        )
        return
    ends = {"membership credential": files.credential.not_after}
    for name, pem in (
        ("TLS certificate", files.tls_certificate),
        ("users' API certificate", files.user_api_certificate),
        ("users' CA", files.user_ca),
    ):
        ends[name] = _certificate_end(pem)
    first = min(ends, key=lambda name: ends[name])
    detail = f"{first} is the first to end, on {ends[first]:%Y-%m-%d}"
    if ends[first] <= now:
        yield Finding(
            "credential",
            Level.MISSING,
            f"The {first} ended on {ends[first]:%Y-%m-%d}.",
            "Ask the operator for a new grant and run `luoshu node enrol`.",
        )
    elif ends[first] - now < _EXPIRES_SOON:
        yield Finding(
            "credential",
            Level.WARN,
            detail,
            "Ask the operator for a new grant and run `luoshu node enrol` before then.",
        )
    else:
        yield Finding("credential", Level.OK, detail)


def _certificate_end(pem: bytes) -> datetime:
    from cryptography import x509  # noqa: PLC0415

    return x509.load_pem_x509_certificate(pem).not_valid_after_utc


def _ports(directory: Path) -> Iterator[Finding]:
    try:
        settings = load_settings(directory)
    except NodeError:
        return  # said by the check of the configuration
    if _is_running(directory):
        yield Finding("ports", Level.OK, "the node is running, so it has its ports")
        return
    for name, address in _listened(settings):
        problem = _try_to_bind(address)
        if problem:
            yield Finding(
                "ports",
                Level.MISSING,
                f"{name} {address} can't be listened on: {problem}.",
                f"Stop what uses it (`ss -ltnp`), or change {name} in {directory / FILE_NAME}.",
            )
        else:
            yield Finding("ports", Level.OK, f"{name} {address} is free")


def _listened(settings: NodeSettings) -> Iterator[tuple[str, str]]:
    if settings.peer.listen is not None:
        yield "peer.listen", settings.peer.listen
    yield "user.listen", settings.user.listen


def _try_to_bind(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # A port that only waits for old connections to time out is free for a server.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _disk(directory: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(directory).free
    detail = f"{free / (1 << 30):.1f} GiB free"
    remedy = f"Free space on the file system of {directory}; a node that can't log does nothing."
    if not os.access(directory, os.W_OK):
        yield Finding(
            "disk",
            Level.MISSING,
            f"{directory} can't be written to.",
            "Run the node as the user who owns its directory, on a file system mounted writable.",
        )
    elif free < _FULL_DISK:
        yield Finding("disk", Level.MISSING, detail, remedy)
    elif free < _LOW_DISK:
        yield Finding("disk", Level.WARN, detail, remedy)
    else:
        yield Finding("disk", Level.OK, detail)


def _database(directory: Path) -> Iterator[Finding]:
    path = directory / _DATABASE
    if not path.exists():
        yield Finding("database", Level.OK, "none yet; the node makes it when it starts")
        return
    current = _revisions(path)
    known, newest = _known_revisions()
    unknown = sorted(current - known)
    if unknown:
        yield Finding(
            "database",
            Level.MISSING,
            f"The database has schema {', '.join(unknown)}, which this luoshu doesn't know.",
            "Install the newer luoshu that wrote it, or restore the backup beside the database.",
        )
    elif current != newest:
        yield Finding(
            "database",
            Level.OK,
            "an older schema; the node backs it up and upgrades when it starts",
        )
    else:
        yield Finding("database", Level.OK, "the schema is the newest")


def _revisions(path: Path) -> set[str]:
    # A reader of a database in WAL mode leaves files beside it, unless it may take the file as
    # unchanging: true of one that nobody has open.
    in_use = path.with_name(f"{path.name}-wal").exists()
    address = f"{path.absolute().as_uri()}?mode=ro{'' if in_use else '&immutable=1'}"
    with closing(sqlite3.connect(address, uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")
        if tables.fetchone() is None:
            return set()
        return {row[0] for row in database.execute("SELECT version_num FROM alembic_version")}


def _known_revisions() -> tuple[set[str], set[str]]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    from luoshu.connector.store.features import (  # noqa: PLC0415
        MIGRATIONS,
        migration_directories,
    )

    scripts = ScriptDirectory(
        str(MIGRATIONS), version_locations=[str(each) for each in migration_directories()]
    )
    return {script.revision for script in scripts.walk_revisions()}, set(scripts.get_heads())


def _log(directory: Path, now: datetime) -> Iterator[Finding]:
    from luoshu.contracts.log.journal_line import JOURNAL_NAME  # noqa: PLC0415

    path = directory / "log" / JOURNAL_NAME
    running = "in use by the running node" if _is_running(directory) else "not in use"
    if not path.exists() or path.stat().st_size == 0:
        yield Finding("log", Level.OK, f"empty, {running}")
        return
    last = _last_entry_time(path)
    if last is None:
        yield Finding(
            "log",
            Level.WARN,
            "The log ends with a line that isn't complete, as a crash leaves it.",
            f"The node cuts it off when it starts; to look first: luoshu log verify {path.parent}",
        )
    elif last > now:
        yield Finding(
            "log",
            Level.MISSING,
            f"The clock is behind the last log entry by {(last - now).total_seconds():.0f} s.",
            "Set the clock: timedatectl set-ntp true. Until then the node decides nothing.",
        )
    else:
        yield Finding("log", Level.OK, f"last entry {last:%Y-%m-%dT%H:%M:%SZ}, {running}")


def _last_entry_time(path: Path) -> datetime | None:
    """Returns the time of the last entry, or None if the last line isn't whole."""
    from luoshu.contracts.errors import ContractsError  # noqa: PLC0415
    from luoshu.contracts.log.journal_line import MAX_LINE_BYTES, decode_line  # noqa: PLC0415

    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - MAX_LINE_BYTES - 1))
        tail = file.read()
    if not tail.endswith(b"\n"):
        return None
    line = tail[tail.rfind(b"\n", 0, -1) + 1 :]
    try:
        return decode_line(line)[-1].entry.body.time
    except ContractsError:
        return None


def _is_running(directory: Path) -> bool:
    """Tells whether a node holds the log's lock; takes a shared one for a moment itself."""
    try:
        descriptor = os.open(directory / "log" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
