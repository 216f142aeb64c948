"""The doctor's check of the release history: every file that the log names is there, unaltered."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from luoshu.connector.findings import Finding, Level

_CHECK: Final = "history"
_SHOWN: Final = 3


def check_history(directory: Path, address: str | None) -> Iterator[Finding]:
    """Compares the files with the node's tables, which follow the log.

    Args:
        directory: The node's.
        address: URI of its database, to be opened for reading; None if there is none yet.
    """
    from luoshu.connector.compute.history import domain_directory  # noqa: PLC0415
    from luoshu.connector.node import HISTORY  # noqa: PLC0415
    from luoshu.sandbox.prepared import file_digest  # noqa: PLC0415

    known = [] if address is None else _known(address)
    damaged: list[str] = []
    size = 0
    for domain, name, digest in known:
        path = domain_directory(directory / HISTORY, domain) / name
        try:
            if file_digest(path) != digest:
                damaged.append(f"{path} was altered")
            size += path.stat().st_size
        except OSError as error:
            damaged.append(f"{path}: {error.strerror}")
    if damaged:
        rest = len(damaged) - _SHOWN
        yield Finding(
            _CHECK,
            Level.MISSING,
            f"{'; '.join(damaged[:_SHOWN])}{f'; and {rest} more' if rest > 0 else ''}. Nothing is "
            "computed over the people it is about.",
            "Put the files back from a backup; docs/usage-log.md says what to do without one.",
        )
    else:
        count = "nothing was released yet"
        if known:
            count = f"{len(known)} files of {-(-size // 1_000_000)} MB, as the log says"
        yield Finding(_CHECK, Level.OK, count)


def _known(address: str) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(address, uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'compute_history'")
        if tables.fetchone() is None:
            return []
        rows = database.execute("SELECT domain, name, digest FROM compute_history ORDER BY 1, 2")
        return [(str(domain), str(name), str(digest)) for domain, name, digest in rows]
