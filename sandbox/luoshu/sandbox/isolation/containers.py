"""Containers as workers: each is started ahead, used once, and removed, whatever happens to it.

Nothing here knows which engine runs them.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from luoshu.sandbox.errors import SandboxUnavailableError
from luoshu.sandbox.isolation.door import Door, NobodyCameError
from luoshu.sandbox.isolation.port import Limits, Mount
from luoshu.sandbox.isolation.spawner_client import Pipes
from luoshu.sandbox.spawner import describe

_SIGNALLED = 128  # a process that a signal ended has this exit code and the signal's number
_END_SECONDS = 10


class EngineError(Exception):
    """An engine of containers did not do what it was asked; says what it said."""


@dataclass(frozen=True, slots=True)
class Order:
    """A container to make.

    Attributes:
        image: What it is made of: an id, not a name.
        home: What it is labelled with, to be found again.
        command: What it runs.
        limits: Of the worker.
        cpus: Most processors at once.
        mounts: What it sees of the host beside its door.
        as_node: Whether it runs as this process's user, to read and write that one's files.
    """

    image: str
    home: str
    command: tuple[str, ...]
    limits: Limits
    cpus: int
    mounts: tuple[Mount, ...] = ()
    as_node: bool = False


class Engine(Protocol):
    """What runs containers; each method blocks, may come from any thread, raises EngineError."""

    def create(self, order: Order, door: Path) -> str:
        """Makes a container that sees a directory as its door; returns its id."""

    def start(self, container: str) -> None:
        """Starts it."""

    def is_running(self, container: str) -> bool:
        """Whether it runs."""

    def wait(self, container: str) -> int:
        """Waits until it ends; returns its exit code."""

    def kill(self, container: str) -> None:
        """Kills it; one that doesn't run is no error."""

    def remove(self, container: str) -> None:
        """Removes it, also while it runs; one that isn't there is no error."""


class Container:
    """One container, from before it exists until nothing of it is left.

    Attributes:
        pipes: Our ends of its streams; they are there at once, and close as it ends.
    """

    def __init__(self, engine: Engine, order: Order, home: Path) -> None:
        """Has it started, without waiting.

        Args:
            engine: Who runs it.
            order: What is run.
            home: Where its door is made.
        """
        self._engine, self._order, self._home = engine, order, home
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        output, log, status = os.pipe(), os.pipe(), os.pipe()
        self.pipes = Pipes(ours.detach(), output[0], log[0], status[0])
        self._streams = [theirs.detach(), output[1], log[1]]
        self._status = status[1]
        self._lock = threading.Lock()
        self._container = ""
        self._is_stopped = False
        self._life = threading.Thread(target=self._live, name="container", daemon=True)
        self._life.start()

    def stop(self) -> None:
        """Has it killed, without waiting; again is harmless."""
        threading.Thread(target=self._kill, name="container-kill", daemon=True).start()

    def join(self) -> None:
        """Waits until nothing of it is left, or some seconds have passed."""
        self._life.join(_END_SECONDS)

    def _kill(self) -> None:
        with self._lock:  # not between making and starting it
            self._is_stopped = True
            if self._container:
                with suppress(EngineError):  # then it is removed as its life ends
                    self._engine.kill(self._container)

    def _live(self) -> None:
        status = "not started"
        door = Path(tempfile.mkdtemp(dir=self._home))
        try:
            door.chmod(0o755)  # the container may be another user; the home is closed to others
            status = self._run(door)
        except NobodyCameError:
            self._say("the container ended before it took its streams")
        except (EngineError, OSError) as error:
            self._say(str(error))
        finally:
            self._close_streams()
            with suppress(BrokenPipeError):  # nobody waits for it any more
                os.write(self._status, status.encode())
            os.close(self._status)
            if self._container:
                with suppress(EngineError):  # who cleans up after this node tries again
                    self._engine.remove(self._container)
            shutil.rmtree(door, ignore_errors=True)

    def _run(self, directory: Path) -> str:
        with Door(directory) as door:
            with self._lock:
                if self._is_stopped:
                    return "not started"
                self._container = self._engine.create(self._order, directory)
                self._engine.start(self._container)
            door.hand_over(
                self._streams,
                self._order.limits.resources(),
                lambda: self._engine.is_running(self._container),
            )
        self._close_streams()
        try:
            code = self._engine.wait(self._container)
        except EngineError:
            return "lost with its engine"
        return describe(code - _SIGNALLED if code > _SIGNALLED else code << 8)

    def _say(self, text: str) -> None:
        if self._streams:
            with suppress(OSError):
                os.set_blocking(self._streams[2], False)
                os.write(self._streams[2], f"{text}\n".encode())

    def _close_streams(self) -> None:
        while self._streams:
            os.close(self._streams.pop())


class ContainerPool:
    """Containers of one kind, kept ready before any data or query is known."""

    def __init__(self, make: Callable[[], Container], least: int, most: int) -> None:
        """Starts nothing yet.

        Args:
            make: Makes one.
            least: How many are kept ready, whatever the load.
            most: How many are kept ready at most; between the two it is as many as are in use.
        """
        self._make, self._least, self._most = make, least, most
        self._lock = threading.Lock()
        self._ready: deque[Container] = deque()
        self._taken = 0

    def fill(self) -> None:
        """Has containers made ready, without waiting."""
        with self._lock:
            wanted = min(self._most, max(self._least, self._taken))
            while len(self._ready) < wanted:
                self._ready.append(self._make())

    def take(self) -> Container:
        """Takes one, to be given back by `ended`; one that ended meanwhile is passed over.

        Raises:
            SandboxUnavailableError: None can be made.
        """
        with self._lock:
            while self._ready:
                container = self._ready.popleft()
                if not container.pipes.has_ended():
                    break
                container.pipes.close()
            else:
                container = self._make()
            self._taken += 1
            return container

    def ended(self) -> str:
        """Says that one that was taken has ended; another takes its place.

        Returns:
            Nothing, which is what there is to add to its log.
        """
        with self._lock:
            self._taken -= 1
        with suppress(SandboxUnavailableError):  # who takes the next one is told
            self.fill()
        return ""

    def close(self) -> None:
        """Ends those that are ready, and makes no more; again is harmless."""
        with self._lock:
            self._least = self._most = 0
            ready = list(self._ready)
            self._ready.clear()
        for container in ready:
            container.stop()
        for container in ready:
            container.join()
            container.pipes.close()
