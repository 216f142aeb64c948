"""Every disk call fails once, and a real process is killed after every step.

Afterwards the log is opened again: it verifies, no acknowledged entry is missing, nothing was
applied twice, and the tables are what a rebuild gives.
"""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import log_world
import pytest
from log_world import (
    FailingFiles,
    build,
    copy,
    numbers,
    open_ledger,
    recording,
    totals,
    totals_of,
    verify,
)

from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger

QUIET = 3600.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("template") / "node")


def contents(ledger: Ledger) -> list[object]:
    return numbers(ledger.entries(0, ledger.size))


def check_reopened(root: Path, acknowledged: list[int]) -> list[object]:
    """Opens the log again and returns its numbers."""
    with open_ledger(root) as ledger:
        entries = ledger.entries(0, ledger.size)
        found = numbers(entries)
        assert [n for n in acknowledged if n not in found] == []
        assert len(set(found)) == len(found)
        assert ledger.submit_read(totals).result() == totals_of(entries)
        assert ledger.wait_published()
    report = verify(root)
    assert report.ok, report.problems
    assert report.size == len(found)
    return found


CASES = [
    ("write", errno.ENOSPC, False),
    ("write", errno.ENOSPC, True),
    ("write", errno.EIO, True),
    ("short write", 0, False),
    ("fsync", errno.EIO, False),
    ("fsync", errno.EIO, True),
    ("fsync", errno.ENOSPC, False),
]


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize(("operation", "code", "effect"), CASES)
def test_journal_call_fails_once(
    template: Path, tmp_path: Path, operation: str, code: int, effect: bool, at: int
) -> None:
    root = copy(template, tmp_path / "node")
    files = FailingFiles(operation, at, code, effect=effect)
    files.armed = False
    acknowledged, refused = [0, 1, 2], 0
    with open_ledger(root, files=files, publish_interval=QUIET) as ledger:
        assert ledger.wait_published()
        files.armed = True
        for n in range(3, 8):
            try:
                ledger.submit(recording(n, n + 100)).result()
                acknowledged += [n, n + 100]
            except NodeError as error:
                assert error.reason == "LOG_UNAVAILABLE"
                refused += 1
        files.armed = False
        assert files.failed == 1
        assert contents(ledger) == acknowledged
        assert ledger.submit_read(totals).result()["decision"][1] == len(acknowledged)
    match operation:
        case "write":
            assert refused == 1
        case "short write":
            assert refused == 0
        case "fsync":
            # Nothing more is taken until the journal was read again.
            assert refused == 5 - (at - 1)
    assert check_reopened(root, acknowledged) == acknowledged


def test_write_and_truncate_fail(template: Path, tmp_path: Path) -> None:
    class Files(FailingFiles):
        def truncate(self, descriptor: int, length: int) -> None:
            if self.armed and self.failed:
                raise OSError(errno.EIO, "no truncate either")
            super().truncate(descriptor, length)

    root = copy(template, tmp_path / "node")
    files = Files("write", 1, errno.EIO, effect=True)
    files.armed = False
    with open_ledger(root, files=files, publish_interval=QUIET) as ledger:
        assert ledger.wait_published()
        files.armed = True
        for _ in range(2):
            with pytest.raises(NodeError) as caught:
                ledger.submit(recording(3)).result()
            assert caught.value.reason == "LOG_UNAVAILABLE"
        assert ledger.unavailable
        files.armed = False
    # Half a line is left behind, beyond everything acknowledged: it is cut off.
    assert not (root / "log" / "journal").read_bytes().endswith(b"\n")
    assert check_reopened(root, [0, 1, 2]) == [0, 1, 2]


def test_full_disk_loses_nothing_and_heals(template: Path, tmp_path: Path) -> None:
    root = copy(template, tmp_path / "node")
    files = FailingFiles("write", 1, errno.ENOSPC, times=0, effect=True)
    files.armed = False
    with open_ledger(root, files=files) as ledger:
        assert ledger.wait_published()
        checkpoint = ledger.checkpoint()
        files.armed = True
        for _ in range(3):
            with pytest.raises(NodeError, match="disk is full"):
                ledger.submit(recording(3)).result()
        assert ledger.checkpoint() == checkpoint
        files.armed = False
        assert ledger.submit(recording(3)).result() == [3]
    assert check_reopened(root, [0, 1, 2, 3]) == [0, 1, 2, 3]


@pytest.mark.parametrize("operation", ["open", "fsync", "truncate", "make_directory"])
@pytest.mark.parametrize("at", [1, 2])
def test_opening_fails(tmp_path: Path, operation: str, at: int) -> None:
    root = build(tmp_path / "node", 1)
    with (root / "log" / "journal").open("ab") as file:
        file.write(b'{"entries":[{"body"')
    files = FailingFiles(operation, at, errno.EIO)
    try:
        with open_ledger(root, files=files) as ledger:
            ledger.wait_published()
    except NodeError as error:
        assert error.reason == "LOG_UNAVAILABLE"
    assert check_reopened(root, [0]) == [0]


@pytest.mark.parametrize(
    "operation", ["open", "write", "fsync", "rename", "make_directory", "fsync_directory"]
)
def test_publishing_fails_and_is_made_up_for(tmp_path: Path, operation: str) -> None:
    root = tmp_path / "node"
    for at in (1, 2, 4):
        files = FailingFiles(operation, at, errno.ENOSPC)
        files.armed = False
        with open_ledger(root, files=files) as ledger:
            ledger.wait_published()
            # The publisher is idle now; what fails next is what it is asked for here.
            files.armed = True
            publisher = ledger._publisher
            size, note = ledger.size, ledger.checkpoint()
            publisher._checked = False
            for path in sorted((root / "log" / "public" / "tile").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (root / "log" / "public" / "checkpoint").unlink()
            for _ in range(2):
                try:
                    publisher.publish(size, note)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
            files.armed = False
            ledger.submit(recording(at)).result()
            assert ledger.wait_published()
        assert verify(root).ok


def test_sql_commit_fails_under_a_durable_line(template: Path, tmp_path: Path) -> None:
    """The line is durable, so the command has happened; the tables are caught up at once."""
    from sqlalchemy import event

    root = copy(template, tmp_path / "node")
    armed = []

    def listen(store) -> None:
        @event.listens_for(store.writer, "commit")
        def fail(_connection) -> None:
            if armed:
                armed.pop()
                raise OSError(errno.EIO, "no commit")

    with open_ledger(root, on_store=listen) as ledger:
        armed.append(True)
        assert ledger.submit(recording(3, 4)).result() == [3, 4]
        assert not armed
        assert ledger.submit_read(totals).result()["decision"] == (10, 5)
        assert ledger.submit(recording(5)).result() == [5]
    assert check_reopened(root, [0, 1, 2, 3, 4, 5]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("heals", [False, True])
def test_sql_fails_for_longer_under_a_durable_line(
    template: Path, tmp_path: Path, heals: bool
) -> None:
    from sqlalchemy import event

    root = copy(template, tmp_path / "node")
    armed = []

    def listen(store) -> None:
        @event.listens_for(store.writer, "commit")
        def fail(_connection) -> None:
            if armed:
                raise OSError(errno.EIO, "no commit")

    with open_ledger(root, on_store=listen) as ledger:
        armed.append(True)
        for _ in range(2):
            with pytest.raises(NodeError) as caught:
                ledger.submit(recording(3)).result()
            assert caught.value.reason == "LOG_UNAVAILABLE"
        assert ledger.unavailable
        assert ledger.size == 3
        if heals:
            armed.clear()
            assert ledger.submit(recording(4)).result() == [4]
            assert not ledger.unavailable
            assert ledger.submit_read(totals).result() == {"decision": (10, 5)}
    # It was never acknowledged, but it is in the log: once, not twice.
    assert check_reopened(root, [0, 1, 2]) == [0, 1, 2, 3, 4][: 5 if heals else 4]


@pytest.fixture(scope="module")
def victims() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, log_world.__file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def kill_at(
    victims: subprocess.Popen[str], template: Path, root: Path, at: int, interval: float
) -> bool:
    """Runs a victim on a copy of the template; returns whether it was killed."""
    copy(template, root)
    assert victims.stdin is not None
    assert victims.stdout is not None
    victims.stdin.write(f"{at} {interval} {root}\n")
    victims.stdin.flush()
    code = int(victims.stdout.readline())
    assert code in {0, -signal.SIGKILL}
    acknowledged = [int(n) for n in (root / "acknowledged").read_text().split()]
    found = check_reopened(root, [0, 1, 2, *acknowledged])
    # A command is there completely or not at all.
    commands = [0, 1, 2, 100, 200, 201, 300, 301, 302]
    assert found in [commands[:n] for n in (3, 4, 6, 9)]
    return code != 0


def test_killed_after_each_step_of_a_commit(
    victims: subprocess.Popen[str], template: Path, tmp_path: Path
) -> None:
    at, killed = 1, True
    while killed:
        killed = kill_at(victims, template, tmp_path / str(at), at, QUIET)
        at += 1
    steps = (tmp_path / str(at - 1) / "steps").read_text().split("\n")
    assert {"half write", "after fsync", "before SQL commit", "after acknowledgement"} <= set(steps)
    assert at - 2 <= len(steps)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_after_each_step_while_publishing(
    victims: subprocess.Popen[str], template: Path, tmp_path: Path
) -> None:
    at, killed = 1, True
    while killed:
        killed = kill_at(victims, template, tmp_path / str(at), at, 0.0)
        at += 1
    assert at > 50
