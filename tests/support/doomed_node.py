"""The command `luoshu`, killed at a chosen step of the disk: `doomed_node.py PLAN node serve DIR`.

PLAN is a directory. Once it holds a file `armed`, steps are counted; the file names the step at
which the process is killed (SIGKILL), or is empty, and then the steps' names are written to
`steps` in their order. A step's name says what is about to happen or has happened, and how often.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import event

from luoshu.cli.main import main
from luoshu.connector import ledger
from luoshu.connector.compute.results import ResultStore
from luoshu.connector.journal.files import OsFiles
from luoshu.connector.store.engine import Store


class Plan:
    """Counts steps, and kills at one of them."""

    def __init__(self, directory: Path) -> None:
        self._armed = directory / "armed"
        self._steps = directory / "steps"
        self._seen: Counter[str] = Counter()
        self._mutex = threading.Lock()

    def step(self, what: str) -> None:
        """Notes a step; kills, if it is the one."""
        with self._mutex:
            if not self._armed.exists():
                return
            self._seen[what] += 1
            name = f"{what} {self._seen[what]}"
            if self._armed.read_text() == name:
                os.kill(os.getpid(), signal.SIGKILL)
            with self._steps.open("a") as file:
                file.write(f"{name}\n")


class DoomedFiles(OsFiles):
    """The real disk; writes to the journal come in two halves."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._journal = -1

    def open(self, path: Path) -> int:
        descriptor = super().open(path)
        if path.name == "journal":
            self._journal = descriptor
        return descriptor

    def write(self, descriptor: int, data: bytes, offset: int) -> int:
        if descriptor != self._journal:
            return super().write(descriptor, data, offset)
        half = len(data) // 2
        self._plan.step("before journal write")
        written = super().write(descriptor, data[:half], offset)
        self._plan.step("half journal write")
        written += super().write(descriptor, data[half:], offset + half)
        self._plan.step("after journal write")
        return written

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        if descriptor == self._journal:
            self._plan.step("after journal fsync")

    def rename(self, source: Path, target: Path) -> None:
        self._plan.step(f"before {target.name} rename")
        super().rename(source, target)


def doom(plan: Plan) -> None:
    """Puts the plan into the places that write."""
    ledger.OsFiles = lambda: DoomedFiles(plan)  # type: ignore[attr-defined,assignment]
    open_store, save = Store.open, ResultStore.save

    def open_and_listen(*arguments: Any, **more: Any) -> Store:
        store = open_store(*arguments, **more)
        event.listen(store.writer, "commit", lambda _: plan.step("before SQL commit"))
        return store

    def save_in_steps(self: ResultStore, request_digest: str, result: bytes) -> None:
        plan.step("before result")
        save(self, request_digest, result)
        plan.step("after result")

    Store.open = open_and_listen  # type: ignore[method-assign]
    ResultStore.save = save_in_steps  # type: ignore[method-assign]


if __name__ == "__main__":
    doom(Plan(Path(sys.argv.pop(1))))
    main()
