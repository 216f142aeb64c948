"""The client's end of a spawner: asks it for processes, each with pipes to it.

Requests are one datagram each and may come from any thread. Nothing is ever awaited from the
spawner itself: a process's end shows in its pipes.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luoshu.sandbox.errors import SandboxUnavailableError

if TYPE_CHECKING:
    from luoshu.sandbox.isolation.cgroups import Group


@dataclass(frozen=True, slots=True)
class Pipes:
    """Our ends of a process's pipes, as descriptors.

    Attributes:
        input: Its standard input: a socket, so that open files can be handed over; -1 if it is
            not ours.
        output: Its standard output.
        log: Its standard error.
        status: Where its end is written by who started it.
    """

    input: int
    output: int
    log: int
    status: int

    def has_ended(self) -> bool:
        """Whether the process has ended, or was never started."""
        poll = select.poll()
        poll.register(self.status, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Closes them."""
        for descriptor in (self.input, self.output, self.log, self.status):
            if descriptor >= 0:
                os.close(descriptor)


class SpawnerClient:
    """Asks one spawner."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def start(
        self, request: Mapping[str, object], stdin: socket.socket, group: Group | None = None
    ) -> tuple[int, Pipes]:
        """Asks for a process.

        Args:
            request: What the spawner's `become` is told.
            stdin: What the process gets as standard input; closed here.
            group: What it enters.

        Returns:
            The process's number, and our ends of its pipes but for the input (-1).

        Raises:
            SandboxUnavailableError: The spawner has ended, or the group is gone.
        """
        number = next(self._numbers)
        output, log, status = os.pipe(), os.pipe(), os.pipe()
        try:
            theirs = [stdin.fileno(), output[1], log[1], status[1]]
            with _entrance(group) as entrance:
                self._request({**request, "op": "start", "id": number}, [*theirs, *entrance])
        except BaseException:
            for descriptor, _ in (output, log, status):
                os.close(descriptor)
            raise
        finally:
            stdin.close()
            for _, descriptor in (output, log, status):
                os.close(descriptor)
        return number, Pipes(-1, output[0], log[0], status[0])

    def start_with_input(
        self, request: Mapping[str, object], group: Group | None = None
    ) -> tuple[int, Pipes]:
        """Asks for a process that reads from us.

        Raises:
            SandboxUnavailableError: The spawner has ended, or the group is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            number, pipes = self.start(request, theirs, group)
        except BaseException:
            ours.close()
            raise
        return number, Pipes(ours.detach(), pipes.output, pipes.log, pipes.status)

    def stop(self, number: int) -> None:
        """Has a process ended, if it still runs.

        Raises:
            SandboxUnavailableError: The spawner has ended, and its processes with it.
        """
        self._request({"op": "stop", "id": number}, [])

    def _request(self, request: Mapping[str, object], descriptors: list[int]) -> None:
        data = json.dumps(request).encode()
        try:
            with self._lock:
                socket.send_fds(self._control, [data], descriptors)
        except OSError:
            raise SandboxUnavailableError(
                "The process that starts isolated workers has ended; restart the node."
            ) from None

    def close(self) -> None:
        """Ends the spawner, and with it all its processes; again is harmless."""
        self._control.close()


@contextmanager
def _entrance(group: Group | None) -> Iterator[list[int]]:
    if group is None:
        yield []
        return
    opened = group.open()
    try:
        yield [opened]
    finally:
        os.close(opened)
