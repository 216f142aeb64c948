"""A usage log with a fixed key, a table that follows it, and a disk that fails on demand."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    event,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from luoshu.connector.clock import Clock, ManualClock
from luoshu.connector.journal.files import Files, OsFiles
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.store.engine import Store
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.log.entry import Entry, EntryBody
from luoshu.contracts.log.journal_line import JournalEntry
from luoshu.contracts.log.verify import LogKeys, LogReport, verify_log_directory

ORIGIN = "urn:luoshu:test:north"
LOG_KEY = SigningKey.from_seed(b"log-key-of-the-tests-32-bytes---", KeyUse.LOG)
OTHER_KEY = SigningKey.from_seed(b"another-key-of-the-tests-32-byte", KeyUse.LOG)
KEYS = LogKeys(ORIGIN, (LOG_KEY.public,), "the tests' key")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def salt(index: int) -> bytes:
    return hashlib.sha256(b"salt %d" % index).digest()


def journal_entry(index: int, text: str = "") -> JournalEntry:
    body = EntryBody(
        "decision",
        START + timedelta(seconds=index),
        (ORIGIN, "urn:luoshu:test:analyst"),
        None,
        {"n": index, "text": text or f"第 {index} 条"},
    )
    return JournalEntry.of(Entry(index, body, salt(index)))


_METADATA = MetaData()
TOTALS = Table(
    "test_totals",
    _METADATA,
    Column("name", String, primary_key=True),
    Column("total", Integer, nullable=False),
    Column("applied", Integer, nullable=False),
)


class Totals:
    """A projection that is wrong as soon as an entry is applied twice or left out."""

    name = "test_totals"

    def __init__(self, version: int = 1) -> None:
        self.version = version

    def apply(self, connection: Connection, entry: Entry) -> None:
        n = entry.body.data["n"]
        if not isinstance(n, int):
            raise ValueError("an entry without a number")
        values = {"name": entry.body.kind, "total": n * self.version, "applied": 1}
        statement = insert(TOTALS).values(values)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"],
                set_={
                    "total": TOTALS.c.total + values["total"],
                    "applied": TOTALS.c.applied + 1,
                },
            )
        )

    def clear(self, connection: Connection) -> None:
        _METADATA.create_all(connection)
        connection.execute(delete(TOTALS))


def totals(connection: Connection) -> dict[str, tuple[int, int]]:
    rows = connection.execute(select(TOTALS))
    return {row.name: (row.total, row.applied) for row in rows}


def totals_of(entries: Sequence[Entry], version: int = 1) -> dict[str, tuple[int, int]]:
    """The same by plain arithmetic: what a rebuild must give."""
    result: dict[str, tuple[int, int]] = {}
    for entry in entries:
        total, applied = result.get(entry.body.kind, (0, 0))
        result[entry.body.kind] = (total + entry.body.data["n"] * version, applied + 1)
    return result


def spoil_totals(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(update(TOTALS).values(total=-1))


@contextmanager
def open_ledger(
    root: Path,
    *,
    clock: Clock | None = None,
    files: Files | None = None,
    version: int = 1,
    publish_interval: float = 0.0,
    on_store: Callable[[Store], None] = lambda _store: None,
    origin: str = ORIGIN,
    key: SigningKey = LOG_KEY,
) -> Iterator[Ledger]:
    """Opens the node's ledger under ``root`` and closes it again."""
    with Store.open(root / "state" / "luoshu.db") as store:
        on_store(store)
        ledger = Ledger.open(
            root / "log",
            origin=origin,
            key=key,
            clock=clock if clock is not None else ManualClock(START),
            store=store,
            projections=[Totals(version)],
            files=files,
            publish_interval=publish_interval,
        )
        try:
            yield ledger
        finally:
            ledger.close()


def recording(
    *numbers: int, kind: str = "decision", contract_id: str | None = None
) -> Callable[[Transaction], list[int]]:
    """A command that records one entry for each number."""

    def command(tx: Transaction) -> list[int]:
        return [
            tx.record(kind, {"n": n}, parties=[ORIGIN], contract_id=contract_id) for n in numbers
        ]

    return command


def numbers(entries: Sequence[Entry]) -> list[object]:
    return [entry.body.data["n"] for entry in entries]


def verify(root: Path) -> LogReport:
    return verify_log_directory(root / "log", KEYS)


def build(root: Path, count: int = 3) -> Path:
    """Makes a log of ``count`` entries, one a commit, numbered from 0."""
    with open_ledger(root) as ledger:
        for n in range(count):
            ledger.submit(recording(n)).result()
    return root


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


class Steps:
    """Counts the steps at which something can go wrong, and acts at one of them."""

    def __init__(self, at: int, act: Callable[[str], None]) -> None:
        self.names: list[str] = []
        self._at = at
        self._act = act
        self._mutex = threading.Lock()

    def step(self, name: str) -> None:
        with self._mutex:
            self.names.append(name)
            mine = len(self.names) == self._at
        if mine:
            self._act(name)


class SteppingFiles(OsFiles):
    """Real files that report a step before and after each call that changes something."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        self._steps.step("before write")
        half = len(data) // 2
        if half:
            # A crash can come in the middle of a write, too.
            super().write(descriptor, data[:half], offset)
            self._steps.step("half write")
        written = half + super().write(descriptor, data[half:], offset + half)
        self._steps.step("after write")
        return written

    def truncate(self, descriptor: int, length: int) -> None:
        self._steps.step("before truncate")
        super().truncate(descriptor, length)
        self._steps.step("after truncate")

    def fsync(self, descriptor: int) -> None:
        self._steps.step("before fsync")
        super().fsync(descriptor)
        self._steps.step("after fsync")

    def rename(self, source: Path, target: Path) -> None:
        self._steps.step("before rename")
        super().rename(source, target)
        self._steps.step("after rename")

    def fsync_directory(self, path: Path) -> None:
        self._steps.step("before fsync_directory")
        super().fsync_directory(path)
        self._steps.step("after fsync_directory")


class FailingFiles(OsFiles):
    """Real files of which chosen calls fail.

    Args:
        operation: The call that fails, such as ``fsync``.
        at: Which of them, from 1.
        code: The errno.
        times: How many in a row; 0 for all from then on.
        effect: Whether the call does its work before it fails; for a write, half of it.
    """

    def __init__(
        self, operation: str, at: int, code: int = errno.EIO, times: int = 1, effect: bool = False
    ) -> None:
        self.armed = True
        self.failed = 0
        self._operation = operation
        self._at = at
        self._code = code
        self._times = times
        self._effect = effect
        self._seen = 0
        self._mutex = threading.Lock()

    def _fails(self, operation: str) -> bool:
        with self._mutex:
            if not self.armed or operation != self._operation:
                return False
            self._seen += 1
            last = self._at + self._times if self._times else self._seen + 1
            fails = self._at <= self._seen < last
            self.failed += fails
            return fails

    def _error(self) -> OSError:
        return OSError(self._code, os.strerror(self._code))

    def open(self, path: Path) -> int:
        if self._fails("open"):
            raise self._error()
        return super().open(path)

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        if self._fails("short write"):
            return super().write(descriptor, data[: max(1, len(data) // 3)], offset)
        if self._fails("write"):
            if self._effect:
                super().write(descriptor, data[: len(data) // 2], offset)
            raise self._error()
        return super().write(descriptor, data, offset)

    def truncate(self, descriptor: int, length: int) -> None:
        if self._fails("truncate"):
            raise self._error()
        super().truncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        fails = self._fails("fsync")
        if not fails or self._effect:
            super().fsync(descriptor)
        if fails:
            raise self._error()

    def rename(self, source: Path, target: Path) -> None:
        fails = self._fails("rename")
        if not fails or self._effect:
            super().rename(source, target)
        if fails:
            raise self._error()

    def make_directory(self, path: Path) -> None:
        if self._fails("make_directory"):
            raise self._error()
        super().make_directory(path)

    def fsync_directory(self, path: Path) -> None:
        if self._fails("fsync_directory"):
            raise self._error()
        super().fsync_directory(path)


def _die(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(root: Path, at: int, publish_interval: float) -> None:
    """The victim: commits to the log under ``root`` and is killed at step ``at``.

    What was acknowledged is written to ``root/acknowledged``, one number a line; the names of the
    steps to ``root/steps`` if it lives.
    """
    steps = Steps(at, _die)

    def listen(store: Store) -> None:
        @event.listens_for(store.writer, "commit")
        def before_commit(_connection: Connection) -> None:
            steps.step("before SQL commit")

    acknowledged = os.open(root / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with open_ledger(
        root, files=SteppingFiles(steps), publish_interval=publish_interval, on_store=listen
    ) as ledger:
        for first in range(100, 400, 100):
            group = [first + i for i in range(first // 100)]
            ledger.submit(recording(*group)).result()
            steps.step("before acknowledgement")
            os.write(acknowledged, b"".join(b"%d\n" % n for n in group))
            steps.step("after acknowledgement")
    (root / "steps").write_text("\n".join(steps.names))


def serve_victims() -> None:
    """Reads ``step interval root`` lines; forks a victim for each and answers its exit code.

    Forking from a process that has imported everything and has no threads makes a victim cost
    milliseconds.
    """
    for line in sys.stdin:
        at, interval, root = line.rstrip("\n").split(" ", 2)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run_until_killed(Path(root), int(at), float(interval))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve_victims()
