"""Workers in threads of this process: the same code and messages, without the wall.

For tests that ask hundreds of queries: a walled worker takes 0.1 s to start.
What only the wall gives (no network, no files, limits, killing) is tested
elsewhere. Preparation stays behind the wall.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from luoshu.sandbox import dry_run as dry_run_module
from luoshu.sandbox import engine
from luoshu.sandbox.isolation.port import (
    Finding,
    Isolation,
    IsolationConfig,
    Worker,
    WorkerEnd,
    WorkerError,
    WorkerSpec,
)
from luoshu.sandbox.run import Sandbox
from luoshu.sandbox.scratch import path_of
from luoshu.sandbox.worker import release, stage1, stage2
from luoshu.sandbox.worker.stage import Message


class UnwalledIsolation:
    """Starts what computes in threads, and everything else behind the wall given."""

    def __init__(self, wall: Isolation) -> None:
        self._wall = wall

    @property
    def config(self) -> IsolationConfig:
        """See the port."""
        return self._wall.config

    @property
    def measurement(self) -> str:
        """See the port."""
        return self._wall.measurement

    @property
    def memory_limit(self) -> str:
        """See the port."""
        return self._wall.memory_limit

    async def start(self, spec: WorkerSpec) -> Worker:
        """See the port."""
        if spec.entry not in _WORK:
            return await self._wall.start(spec)
        return _Thread(spec)

    def warm_up(self) -> None:
        """See the port."""

    def lend(self, path: Path) -> int:
        """See the port."""
        return self._wall.lend(path)

    def check(self) -> list[Finding]:
        """See the port."""
        return []

    def close(self) -> None:
        """See the port."""
        self._wall.close()


@contextmanager
def unwalled_dry_runs() -> Iterator[None]:
    """Within, in this thread, `dry_run` computes without the wall."""
    _current.is_unwalled = True
    try:
        yield
    finally:
        _current.is_unwalled = False


class _EndedError(Exception):
    """The connector has gone."""


class _Channel:
    """A worker's side."""

    def __init__(self, send: Callable[[Message | None], None]) -> None:
        self.inbox: queue.SimpleQueue[tuple[Message, list[int]] | None] = queue.SimpleQueue()
        self.send: Callable[[Message], None] = send
        self.files: list[int] = []

    def receive(self) -> Message:
        received = self.inbox.get()
        if received is None:
            raise _EndedError
        message, self.files = received
        return message


class _Thread:
    """A worker in a thread; see the port."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._channel = _Channel(self._put)
        self._spec = spec
        self._status = "signal SIGKILL"
        self._lent: list[engine.Connection] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _put(self, message: Message | None) -> None:
        self._loop.call_soon_threadsafe(self._outbox.put_nowait, message)

    def _run(self) -> None:
        try:
            _WORK[self._spec.entry](self._channel, self._lent)
        except _EndedError:
            return
        except Exception as error:  # noqa: BLE001 - as a worker's process ends
            self._status = f"exit 1 {type(error).__name__}: {error}"
        self._put(None)

    async def send(self, message: Message, files: Sequence[int] = ()) -> None:
        # Once more, as passing them to another process does.
        self._channel.inbox.put((message, [os.dup(file) for file in files]))

    async def receive(self) -> Message:
        message = await self._outbox.get()
        if message is None:
            raise WorkerError("the worker ended")
        return message

    def kill(self) -> None:
        self._channel.inbox.put(None)
        _ENGINES.interrupt(self._lent)

    async def stop(self) -> WorkerEnd:
        self.kill()
        await asyncio.to_thread(self._thread.join)
        while not self._channel.inbox.empty():
            for file in (self._channel.inbox.get() or ({}, []))[1]:
                os.close(file)
        return WorkerEnd(self._status, "")


class _Engines:
    """Locked engines by the files attached to them, used again: opening one takes 30 ms."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, ...], list[engine.Connection]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, lent: list[engine.Connection]) -> Iterator[None]:
        """Within, the set-up of a worker in this thread yields an engine as the worker has it.

        Args:
            lent: Gets the engine, for who may have to interrupt it.
        """
        keys: list[tuple[str, ...]] = []

        def set_up(channel: _Channel) -> tuple[engine.Connection, int]:
            message, files = channel.receive(), channel.files
            catalogs, paths = list(message["catalogs"]), [str(path_of(file)) for file in files]  # type: ignore[call-overload]
            key = tuple(f"{n} {Path(p).readlink()}" for n, p in zip(catalogs, paths, strict=True))
            keys.append(key)
            with self._lock:
                idle = self._idle.setdefault(key, [])
                opened = idle.pop() if idle else None
            if opened is None:
                opened = _open(int(str(message["memory_bytes"])), catalogs, paths)
            for file in files:
                os.close(file)
            lent.append(opened)
            return opened, int(str(message["max_rows"]))

        _current.set_up = set_up
        try:
            yield
        finally:
            while lent:
                with self._lock:
                    connection = lent.pop()
                self._return(keys.pop(), connection)

    def interrupt(self, lent: list[engine.Connection]) -> None:
        """Interrupts what a worker runs, if it hasn't given its engine back."""
        with self._lock:
            for connection in lent:
                connection.interrupt()

    def _return(self, key: tuple[str, ...], connection: engine.Connection) -> None:
        tables = connection.execute(
            "SELECT database_name, table_name FROM duckdb_tables() "
            "WHERE database_name IN ('memory', 'temp')"
        )
        for database, name in tables.fetchall():
            connection.execute(f"DROP TABLE {database}.main.{engine.identifier(name)}")
        with self._lock:
            self._idle[key].append(connection)


_ENGINES = _Engines()
_current: threading.local = threading.local()


def _open(memory_bytes: int, catalogs: list[str], paths: list[str]) -> engine.Connection:
    opened = engine.open_engine(memory_bytes)
    for catalog, path in zip(catalogs, paths, strict=True):
        engine.attach(opened, catalog, path)
    if catalogs:
        engine.search(opened, catalogs)
    engine.lock(opened)
    return opened


def _set_up(channel: _Channel) -> tuple[engine.Connection, int]:
    set_up: Callable[[_Channel], tuple[engine.Connection, int]] = _current.set_up
    return set_up(channel)


def _stage1(channel: _Channel, lent: list[engine.Connection]) -> None:
    with _ENGINES.lend(lent):
        stage1.work(channel)  # type: ignore[arg-type]


def _stage2(channel: _Channel, lent: list[engine.Connection]) -> None:
    with _ENGINES.lend(lent):
        stage2.work(channel)  # type: ignore[arg-type]


def _release(channel: _Channel, _lent: list[engine.Connection]) -> None:
    channel.send({"type": "ready"})
    try:
        channel.send(release.Release(channel).answer())  # type: ignore[arg-type]
    finally:
        if channel.files:
            os.close(channel.files[-1])  # the delta, which its worker would close by ending


_WORK: dict[str, Callable[[_Channel, list[engine.Connection]], None]] = {
    "stage1": _stage1,
    "release": _release,
    "stage2": _stage2,
}
# What is put in here serves only threads that asked for it.
stage1.set_up = stage2.set_up = _set_up  # type: ignore[assignment]


class _DryRunSandbox(Sandbox):
    @classmethod
    def start(cls, config: IsolationConfig | None = None) -> Sandbox:  # type: ignore[override]
        sandbox = Sandbox.start(config)
        if not getattr(_current, "is_unwalled", False):
            return sandbox
        return Sandbox(UnwalledIsolation(sandbox.isolation))


dry_run_module.Sandbox = _DryRunSandbox  # type: ignore[misc]
