"""The Docker adapter: a container for each worker, started ahead, used once.

A container has no network, no device beyond Docker's least, no capability, a read-only root with
what workers import and nothing else, a seccomp profile of its own (`container_profile`), and limits
on memory, processes, processors, time, descriptors and files. It gets its streams through a socket
(`door`), so that open files are handed over as they are under bubblewrap, and the worker closes the
wall around itself by the same code. Docker's runtime may be gVisor's `runsc`.

A node run as root has its workers run as nobody, another one as its own user, as under bubblewrap;
preparation, which reads the holder's files and writes a database, runs as the node's user.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
import socket
import tempfile
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from luoshu.sandbox import wire
from luoshu.sandbox.errors import SandboxUnavailableError
from luoshu.sandbox.isolation.container_profile import profile
from luoshu.sandbox.isolation.containers import Container, ContainerPool, EngineError, Order
from luoshu.sandbox.isolation.docker_cleaner import Cleaner, clean
from luoshu.sandbox.isolation.docker_findings import MissingError, blocked, connect, socket_path
from luoshu.sandbox.isolation.homes import Home
from luoshu.sandbox.isolation.image import code_digest
from luoshu.sandbox.isolation.lending import lend
from luoshu.sandbox.isolation.port import Finding, IsolationConfig, Limits, WorkerSpec
from luoshu.sandbox.isolation.runtime import FIND_CODE, python_command
from luoshu.sandbox.isolation.worker_process import WorkerProcess

if TYPE_CHECKING:
    from luoshu.sandbox.isolation.docker_engine import DockerEngine

_INTERPRETER = "/python/python"  # a link to the one that the image was made with
_MAIN = FIND_CODE + "from luoshu.sandbox.worker.contained import main; main({!r})"
_TRIAL = FIND_CODE + "from luoshu.sandbox.worker.contained import try_once; try_once()"
_POOLED = ("stage1", "release", "release_dp", "stage2")
_TRIAL_SECONDS = 30
_SAID_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Connected:
    """What there is once the engine has answered."""

    engine: DockerEngine
    image: str
    home: Home
    cleaner: Cleaner
    measurement: str


class DockerIsolation:
    """Starts workers as containers; implements the port's `Isolation`."""

    def __init__(self, config: IsolationConfig) -> None:
        """Connects to the engine, and removes what a node that was killed left there.

        A machine without an engine isn't an error yet: `check` says what is missing, and `start`
        tries again, and refuses.
        """
        self._config = config
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, Limits], ContainerPool] = {}
        self._containers: weakref.WeakSet[Container] = weakref.WeakSet()
        self._connected: _Connected | None = None
        self._is_closed = False
        with suppress(SandboxUnavailableError):
            self._connect()

    @property
    def config(self) -> IsolationConfig:
        """See the port."""
        return self._config

    @property
    def measurement(self) -> str:
        """`sha256:<hex>` over the image's id, the workers' code and the seccomp profile.

        The id is a digest over the digests of the image's layers, so over every file that a worker
        sees, jobs apart; containers are made from it, whatever its name points to by then. The
        engine, its runtime and the kernel are not covered.

        Raises:
            SandboxUnavailableError: There is no engine, or no image.
        """
        return self._connect().measurement

    @property
    def memory_limit(self) -> str:
        """See the port."""
        return "the container's, address space"

    def _connect(self) -> _Connected:
        try:
            return self._required()
        except MissingError as missing:
            finding = missing.finding
            raise SandboxUnavailableError(f"{finding.message} {finding.remedy}") from None

    def _required(self) -> _Connected:
        with self._lock:
            if self._is_closed:
                raise SandboxUnavailableError("The sandbox has been closed; restart the node.")
            if self._connected is None:
                self._connected = self._anew()
            return self._connected

    def _anew(self) -> _Connected:
        code, path = code_digest(), socket_path()
        engine, image = connect(path, self._config, code)
        try:
            home = Home()
        except OSError as error:
            raise MissingError(
                "SANDBOX_HOME",
                f"No directory for the workers' sockets can be made: {error}.",
                "Remove it, or set TMPDIR to a directory of the node's user.",
            ) from None
        for abandoned in home.abandoned():
            with suppress(EngineError):  # who starts next tries again
                clean(path, abandoned)
        covered = f"{image.id}\n{code}\n{profile()}\n"
        measurement = f"sha256:{hashlib.sha256(covered.encode()).hexdigest()}"
        return _Connected(engine, image.id, home, Cleaner(path, home.path), measurement)

    def warm_up(self) -> None:
        """See the port."""
        self._connect()
        for entry in ("stage1", "release", "stage2"):
            self._pool(entry, self._config.limits_of(entry)).fill()

    async def start(self, spec: WorkerSpec) -> WorkerProcess:
        """See the port."""
        await asyncio.to_thread(self._connect)
        if spec.entry in _POOLED:
            return await self.take(self._pool(spec.entry, spec.limits), spec.limits)
        return await _opened(self._made(_MAIN.format(spec.entry), spec), spec.limits)

    async def take(self, pool: ContainerPool, limits: Limits) -> WorkerProcess:
        """A worker of a pool."""
        return await _opened(pool.take(), limits, pool)

    def _pool(self, entry: str, limits: Limits) -> ContainerPool:
        with self._lock:
            if (entry, limits) not in self._pools:
                self._pools[entry, limits] = self.pool_of(_MAIN.format(entry), limits)
            return self._pools[entry, limits]

    def pool_of(self, code: str, limits: Limits) -> ContainerPool:
        """A pool whose containers run some code, so that the wall itself can be tested."""

        def make() -> Container:
            return self._made(code, WorkerSpec("", (), limits))

        return ContainerPool(make, self._config.ready, self._config.ready_most)

    def _made(self, code: str, spec: WorkerSpec) -> Container:
        connected = self._connect()
        order = Order(
            image=connected.image,
            home=connected.home.name,
            command=tuple(python_command(_INTERPRETER, code)),
            limits=spec.limits,
            cpus=self._config.threads,
            mounts=spec.mounts,
            as_node=bool(spec.mounts),
        )
        container = Container(connected.engine, order, connected.home.path)
        self._containers.add(container)
        return container

    def lend(self, path: Path) -> int:
        """See the port."""
        return lend(path)

    def check(self) -> list[Finding]:
        """See the port; takes a second."""
        try:
            self._required()
            # Again: what was there when the node started may have gone.
            connect(socket_path(), self._config, code_digest())[0].close()
        except MissingError as missing:
            return [missing.finding]
        container = self._made(_TRIAL, WorkerSpec("", (), self._config.limits))
        try:
            said = _try(container)
        finally:
            container.stop()
            container.join()
            container.pipes.close()
        return [] if said is None else [blocked(said, self._config.runtime)]

    def close(self) -> None:
        """See the port."""
        with self._lock:
            self._is_closed = True
            pools, self._pools = self._pools, {}
            connected, self._connected = self._connected, None
        for pool in pools.values():
            pool.close()
        left = list(self._containers)
        for container in left:
            container.stop()
        for container in left:
            container.join()
        if connected is not None:
            connected.cleaner.clean()
            connected.home.close()
            connected.engine.close()


async def _opened(
    container: Container, limits: Limits, pool: ContainerPool | None = None
) -> WorkerProcess:
    worker = WorkerProcess(container.stop, limits, pool.ended if pool else None)
    await worker.open(container.pipes)
    return worker


def _try(container: Container) -> str | None:
    """Hands a container a file; returns what it says, or None if all is well."""
    frame, pipes = wire.encode({"type": "trial"}), container.pipes
    with (
        tempfile.NamedTemporaryFile() as file,
        socket.socket(fileno=os.dup(pipes.input)) as stream,
    ):
        lent = lend(Path(file.name))
        try:
            socket.send_fds(stream, [frame], [lent])
        finally:
            os.close(lent)
        poll = select.poll()
        poll.register(pipes.output, select.POLLIN)
        if not poll.poll(_TRIAL_SECONDS * 1000):
            return "it did not answer in time"
        if os.read(pipes.output, len(frame)):
            return None
        said = os.read(pipes.log, _SAID_BYTES).decode("utf-8", "backslashreplace").strip()
        return said.rpartition("\n")[2] or "it said nothing"
