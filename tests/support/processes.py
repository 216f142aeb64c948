"""Real processes: who descends from whom, and waiting until they are gone."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

DEADLINE = 60.0
LUOSHU = (sys.executable, "-c", "from luoshu.cli.main import main; main()")


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of nodes and terminals."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("LUOSHU_")}
    return {**plain, "NO_COLOR": "1", "COLUMNS": "200", **more}


def luoshu(*arguments: object, seconds: float = DEADLINE) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [*LUOSHU, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def descendants(pid: int) -> list[int]:
    """Processes under a process."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [c for task in tasks for c in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return found
    for child in children:
        found += [int(child), *descendants(int(child))]
    return found


class Watched:
    """Processes that must end; watched by descriptor, so that no pid is mistaken for another."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._open: dict[int, int] = {}
        for pid in pids:
            try:
                self._open[os.pidfd_open(pid)] = pid
            except ProcessLookupError:
                continue

    def __len__(self) -> int:
        return len(self._open)

    def wait_gone(self, seconds: float = DEADLINE) -> list[int]:
        """Waits until all are gone; returns those that are not."""
        poll = select.poll()
        for descriptor in self._open:
            poll.register(descriptor, select.POLLIN)
        end = time.monotonic() + seconds
        while self._open and (left := end - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                poll.unregister(descriptor)
                os.close(descriptor)
                del self._open[descriptor]
        stay = sorted(self._open.values())
        for descriptor in self._open:
            os.close(descriptor)
        self._open = {}
        return stay


def wait_until(holds: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Waits for what another process does and nothing here is told of."""
    end = time.monotonic() + seconds
    pause = select.poll()
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        pause.poll(10)


def lines_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> Sequence[str]:
    """Reads a process's lines up to the one that is wanted."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if wanted(line):
            return seen
    raise AssertionError("it ended before: " + "".join(seen))
