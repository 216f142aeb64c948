"""The doctor's checks of a node's directory: from its configuration to its release history.

They change nothing and open the database for reading only, so they may run beside the node.
"""

import fcntl
import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from luoshu.connector.config import FILE_NAME, NodeSettings, load_settings
from luoshu.connector.doctor_history import check_history
from luoshu.connector.errors import NodeError
from luoshu.connector.findings import Check, Finding, Level

_LOW_DISK: Final = 1 << 30
_FULL_DISK: Final = 100 << 20
_EXPIRES_SOON: Final = timedelta(days=30)
_OTHERS: Final = 0o077
_DATABASE: Final = Path("state") / "luoshu.db"


def node_checks(directory: Path, now: datetime) -> dict[str, Check]:
    """Returns the checks of a node's directory by name."""
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
        "history": lambda: _history(directory),
    }


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
    with closing(sqlite3.connect(_address(path), uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'")
        if tables.fetchone() is None:
            return set()
        return {row[0] for row in database.execute("SELECT version_num FROM alembic_version")}


def _history(directory: Path) -> Iterator[Finding]:
    path = directory / _DATABASE
    return check_history(directory, _address(path) if path.exists() else None)


def _address(path: Path) -> str:
    """URI of a database to be read."""
    # A reader of a database in WAL mode leaves files beside it, unless it may take the file as
    # unchanging: true of one that nobody has open.
    in_use = path.with_name(f"{path.name}-wal").exists()
    return f"{path.absolute().as_uri()}?mode=ro{'' if in_use else '&immutable=1'}"


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
