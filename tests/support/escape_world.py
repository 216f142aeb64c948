"""A worker taken over: the attacker's code runs where a worker would read its first query.

The wall is the real one, closed as a stage-1 worker closes it; only the work is another. Payloads
are Python, which calls what it likes by number: what machine code could ask the kernel for, they
can. They tell what happened; what the kernel refused they tell by its error's name.
"""

from __future__ import annotations

import os
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import NotFound

from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.containers import ContainerPool
from luoshu.sandbox.isolation.docker import DockerIsolation
from luoshu.sandbox.isolation.docker_engine import HOME_LABEL
from luoshu.sandbox.isolation.pool import Pool
from luoshu.sandbox.isolation.port import IsolationConfig, Limits
from luoshu.sandbox.isolation.worker_process import WorkerProcess

_BOOT = """
import ctypes, errno, fcntl, json, mmap, os, random, resource, select, signal, socket, struct, sys
import threading, time
sys.path.append("/app")
from luoshu.sandbox import engine
from luoshu.sandbox.worker import contained, setup, zygote
from luoshu.sandbox.worker.enclosure import landlock, seal
from luoshu.sandbox.worker.stage import Channel

LIBC = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    result = LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result

def attempt(action):
    try:
        return ["did", repr(action())]
    except OSError as error:
        return ["failed", errno.errorcode.get(error.errno, type(error).__name__)]

def work():
    channel = Channel()
    job, files = channel.receive(), channel.files
    if job.get("is_sealed", True):
        # What is not in a file system can't be opened again anyway.
        landlock.restrict(seal.CODE, [file for file in files if os.fstat(file).st_nlink])
        seal.seal()
    tell = lambda said: channel.send({"said": json.loads(json.dumps(said))})
    exec(job["code"], {**globals(), "tell": tell, "files": files})
    os._exit(0)

warmed = []
setup.open_ahead()
"""


class Prison(ABC):
    """Workers that run payloads behind one kind of wall.

    Attributes:
        wall: The wall, which keeps no workers ready.
        has_landlock: Whether the kernel that workers see has it.
        environment: Names in the environment that the wall can't do without.
        answers: What calls of the kernel were answered.
    """

    wall: BwrapIsolation | DockerIsolation
    has_landlock = True
    environment: frozenset[str] = frozenset({"PWD", "LC_CTYPE"})

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}

    async def hold(
        self,
        payload: str,
        files: Sequence[int] = (),
        limits: Limits | None = None,
        entry: str = "stage1",
        *,
        is_sealed: bool = True,
    ) -> WorkerProcess:
        """Starts a worker that runs a payload.

        Args:
            payload: Sees `tell`, `attempt`, `call` (a system call by number) and `files`.
            files: Handed over.
            limits: Its limits, instead of the usual.
            entry: Whose root it sees.
            is_sealed: Whether it runs where a worker would read its query, or earlier, while it
                waits or sets itself up.
        """
        worker = await self._taken(entry, limits or self.wall.config.limits_of(entry))
        await worker.send({"code": textwrap.dedent(payload), "is_sealed": is_sealed}, files)
        return worker

    async def run(self, payload: str, **options: Any) -> Any:
        """What a payload tells."""
        worker = await self.hold(payload, **options)
        try:
            return (await worker.receive())["said"]
        finally:
            self.log = (await worker.stop()).log

    @abstractmethod
    async def _taken(self, entry: str, limits: Limits) -> WorkerProcess:
        """A worker that waits for its payload."""

    async def settle(self) -> None:  # noqa: B027 - only one kind has something to do
        """Has all made that stays between workers."""

    @abstractmethod
    def workers(self) -> set[int]:
        """Processes that workers are, as the host numbers them."""

    def traces(self) -> object:
        """What else a worker could leave behind."""
        mounts = Path("/proc/self/mountinfo").read_text()
        return mounts, Path("/proc/self/cgroup").read_text()

    def close(self) -> None:
        """Ends all."""
        self.wall.close()


class BwrapPrison(Prison):
    """Behind bubblewrap."""

    def __init__(self) -> None:
        super().__init__()
        self.wall: BwrapIsolation = BwrapIsolation(IsolationConfig(ready=0, ready_most=0))
        self._pools: dict[tuple[str, Limits], Pool] = {}

    async def _taken(self, entry: str, limits: Limits) -> WorkerProcess:
        if (entry, limits) not in self._pools:
            self._pools[entry, limits] = self.wall.pool_of(entry, self.command(), limits)
        return await self.wall.take(self._pools[entry, limits], limits)

    def command(self, warm_up: str = "lambda: None") -> list[str]:
        """The command of a zygote whose workers run payloads."""
        boot = f"{_BOOT}zygote.leave_root()\nzygote.serve(work, {warm_up})"
        return self.wall.runtime.code_command(boot)

    async def settle(self) -> None:
        await self.run("tell(1)")  # so that there is a zygote

    def workers(self) -> set[int]:
        return workers_below(self.wall.launcher)

    def traces(self) -> object:
        groups = self.wall._groups
        return super().traces(), groups and sorted(groups.path.glob("*/"))

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        super().close()


class DockerPrison(Prison):
    """In containers. Where there is no engine or no image, fails in CI, and else skips, and why."""

    environment = frozenset({"PATH", "HOSTNAME", "HOME", "LC_CTYPE"})

    def __init__(self, runtime: str | None = None) -> None:
        super().__init__()
        config = IsolationConfig(adapter="docker", runtime=runtime, ready=0, ready_most=0)
        self.wall: DockerIsolation = DockerIsolation(config)
        self.has_landlock = runtime is None
        self._pools: dict[Limits, ContainerPool] = {}
        for finding in self.wall.check():
            self.wall.close()
            said = f"{finding.code}: {finding.message} {finding.remedy}"
            if os.environ.get("CI") or finding.code == "DOCKER_BLOCKED":
                pytest.fail(said)
            pytest.skip(said)

    async def _taken(self, entry: str, limits: Limits) -> WorkerProcess:
        if limits not in self._pools:
            self._pools[limits] = self.wall.pool_of(_BOOT + "contained.serve(work)", limits)
        return await self.wall.take(self._pools[limits], limits)

    def containers(self) -> list[dict[str, Any]]:
        """What the engine knows of this node's containers."""
        connected = self.wall._connect()
        return containers_of(connected.engine._client, connected.home.name)

    def workers(self) -> set[int]:
        return {int(one["State"]["Pid"]) for one in self.containers()}

    def traces(self) -> object:
        home = self.wall._connect().home.path
        return super().traces(), sorted(path.name for path in home.iterdir())


def containers_of(client: APIClient, home: str) -> list[dict[str, Any]]:
    """What the engine knows of the containers of a node's home."""
    found = []
    for one in client.containers(all=True, filters={"label": f"{HOME_LABEL}={home}"}):
        with suppress(NotFound):  # it was removed meanwhile
            found.append(client.inspect_container(one["Id"]))
    return found


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue  # it ended meanwhile
        waiting += [int(child) for child in children]
        found.update(int(child) for child in children)
    return found


def workers_below(launcher: int) -> set[int]:
    """Workers of a launcher: what is in a process namespace below a zygote's."""
    return {pid for pid in descendants(launcher) if _is_worker(pid)}


def _is_worker(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # it ended meanwhile
    (line,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
    # Its name, then its number for the host, the zygote and itself; a corpse has no namespace left.
    return len(line.split()) > 3
