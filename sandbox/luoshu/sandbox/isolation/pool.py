"""Workers kept ready: forked by a zygote behind the wall before any data or query is known.

Forking is asked for, never awaited: a worker that is taken before it is ready is waited for by who
took it. A worker that died meanwhile is passed over; a zygote that died is started anew.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from luoshu.sandbox.errors import SandboxUnavailableError, legible
from luoshu.sandbox.isolation.cgroups import Group
from luoshu.sandbox.isolation.spawner_client import Pipes, SpawnerClient

_SAID_BYTES = 4096
_ATTEMPTS = 2

Launch: TypeAlias = "Callable[[socket.socket], Pipes]"
MakeGroup: TypeAlias = "Callable[[], Group | None]"


class Zygote(SpawnerClient):
    """A zygote behind the wall."""

    def __init__(self, launch: Launch) -> None:
        """Starts it.

        Args:
            launch: Starts its process with a standard input, which it closes.

        Raises:
            SandboxUnavailableError: It can't be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pipes = launch(theirs)
        except BaseException:
            ours.close()
            raise
        super().__init__(ours)

    def has_ended(self) -> bool:
        """Whether it has ended; its workers have ended with it."""
        return self._pipes.has_ended()

    def said(self) -> str:
        """The beginning of what it wrote to its standard error, once it has ended."""
        os.set_blocking(self._pipes.log, False)
        try:
            said = os.read(self._pipes.log, _SAID_BYTES)
            return legible(said.decode("utf-8", "backslashreplace"), _SAID_BYTES)
        except BlockingIOError:
            return ""  # a process that it started still lives

    def close(self) -> None:
        """See the base."""
        super().close()
        self._pipes.close()


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker of a pool.

    Attributes:
        zygote: Who forks it.
        number: Its number there.
        pipes: Our ends of its pipes.
        group: Its control group, if it has one.
    """

    zygote: Zygote
    number: int
    pipes: Pipes
    group: Group | None

    def close(self) -> None:
        """Forgets it."""
        self.pipes.close()
        _closed(self.group)


class Pool:
    """Single-use workers of one kind."""

    def __init__(
        self,
        launch: Launch,
        request: Mapping[str, object],
        least: int,
        most: int,
        make_group: MakeGroup = lambda: None,
    ) -> None:
        """Starts nothing yet.

        Args:
            launch: Starts a zygote's process.
            request: What each worker is forked with.
            least: How many are kept ready, whatever the load.
            most: How many are kept ready at most; between the two it is as many as are in use.
            make_group: Makes the control group of a worker, where there can be one.
        """
        self._launch = launch
        self._make_group = make_group
        self._request = request
        self._least, self._most = least, most
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None
        self._ready: deque[Forked] = deque()
        self._taken = 0

    def fill(self) -> None:
        """Has workers made ready, without waiting.

        Raises:
            SandboxUnavailableError: A zygote can't be started.
        """
        with self._lock:
            self._fill()

    def take(self) -> Forked:
        """Takes a worker, to be given back by `ended`.

        Raises:
            SandboxUnavailableError: None can be started.
        """
        with self._lock:
            self._living()  # what a zygote that ended had made ready is forgotten
            while self._ready:
                worker = self._ready.popleft()
                if not worker.pipes.has_ended():
                    break
                worker.close()
            else:
                worker = self._forked(warm=False)
            self._taken += 1
            return worker

    def ended(self, worker: Forked) -> str:
        """Says that a worker that was taken has ended; another takes its place.

        Returns:
            That its memory limit ended it, and what the zygote said, if it has ended: for the
            operational log.
        """
        with self._lock:
            self._taken -= 1
            zygote = self._zygote
            said = _closed(worker.group)
            if zygote is not None and zygote.has_ended():
                said += zygote.said()
            with suppress(SandboxUnavailableError):  # who takes the next one is told
                self._fill()
            return said

    def close(self) -> None:
        """Ends the zygote and all workers; again is harmless."""
        with self._lock:
            self._least = self._most = 0
            self._forget()

    def _fill(self) -> None:
        wanted = min(self._most, max(self._least, self._taken))
        while len(self._ready) < wanted:
            # One that starts while nothing is computed has the time to warm up.
            self._ready.append(self._forked(warm=not self._taken))

    def _forked(self, *, warm: bool) -> Forked:
        said = ""
        for _ in range(_ATTEMPTS):
            zygote, group = self._living(), self._make_group()
            try:
                number, pipes = zygote.start_with_input({**self._request, "warm": warm}, group)
                return Forked(zygote, number, pipes, group)
            except SandboxUnavailableError:  # it is ending, and its end isn't known yet
                _closed(group)
                said = zygote.said()
                self._forget()
        raise SandboxUnavailableError(
            "Isolated workers can't be made ready; `luoshu doctor` says more.", said
        )

    def _living(self) -> Zygote:
        if self._zygote is not None and self._zygote.has_ended():
            self._forget()
        if self._zygote is None:
            self._zygote = Zygote(self._launch)
        return self._zygote

    def _forget(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
        while self._ready:
            self._ready.popleft().close()


def _closed(group: Group | None) -> str:
    return group.close() if group is not None else ""
