"""A loop that starts processes for one client over a datagram socket, and never explains itself.

Two processes run it: the launcher outside the wall, which executes bubblewrap, and each zygote
behind it, which forks workers. Both have one thread, for a process with threads must not fork.
Requests are `start` with a number, what to start, and descriptors (standard input, output and
error, where the status is written, and the entrance of a control group if there is one), or `stop`.
Nothing is answered: the end of a process shows in its pipes. When the socket closes, because the
client closed it or died, all are ended.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

from luoshu.sandbox.worker.enclosure import kernel

MAX_REQUEST_BYTES = 128 << 10
_LIMITS = {
    "memory": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "core": resource.RLIMIT_CORE,
    "threads": resource.RLIMIT_NPROC,
}
_DESCRIPTORS = (4, 5)
_STATUS = 3
_ENTRANCE = 3  # where `stand_on` puts it
_CHUNK = 4096

Request: TypeAlias = "dict[str, Any]"
Become: TypeAlias = "Callable[[Request, list[int]], None]"


class Spawner:
    """Starts, stops and reaps processes for one client."""

    def __init__(self, control: socket.socket, become: Become, stop_signal: int) -> None:
        """Takes over SIGCHLD and SIGPIPE of this process.

        Args:
            control: SOCK_SEQPACKET.
            become: What a forked process does with a request, its three standard descriptors and
                the entrance of its control group, if it has one; it needs not return.
            stop_signal: What ends a process that `become` made.
        """
        self._control = control
        self._become = become
        self._stop_signal = stop_signal
        self._pids: dict[int, int] = {}  # number -> pid
        self._status: dict[int, int] = {}  # number -> descriptor

    def serve(self) -> None:
        """Serves until the control socket closes."""
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        try:
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._control:
                        if not self._serve_one():
                            return
                    else:
                        os.read(wake_read, _CHUNK)
                self._reap()
        finally:
            for pid in self._pids.values():
                os.kill(pid, self._stop_signal)

    def _serve_one(self) -> bool:
        data, descriptors, flags, _ = socket.recv_fds(
            self._control, MAX_REQUEST_BYTES, max(_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("a request is too large")
            request = json.loads(data)
            if request["op"] == "start" and len(descriptors) in _DESCRIPTORS:
                self._start(request, descriptors)
            elif request["op"] == "stop" and (pid := self._pids.get(request["id"])):
                os.kill(pid, self._stop_signal)
        finally:
            for descriptor in descriptors:
                if descriptor not in self._status.values():
                    os.close(descriptor)
        return True

    def _start(self, request: Request, descriptors: list[int]) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            return  # the process's pipes close, which tells the client
        if pid == 0:
            del descriptors[_STATUS]
            self._be_started(parent, request, descriptors)
        self._pids[int(request["id"])] = pid
        self._status[int(request["id"])] = descriptors[_STATUS]

    def _be_started(self, parent: int, request: Request, descriptors: list[int]) -> NoReturn:
        try:
            kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() != parent:  # it died before that
                os._exit(127)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            self._become(request, descriptors)
        except BaseException as error:  # noqa: BLE001 - nothing may return into the loop
            os.write(2, f"not started: {error}\n".encode())
        finally:
            os._exit(127)

    def _reap(self) -> None:
        for number, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[number]
                descriptor = self._status.pop(number)
                try:
                    os.write(descriptor, describe(status).encode())
                except BrokenPipeError:
                    pass  # nobody waits for it any more
                finally:
                    os.close(descriptor)


def stand_on(descriptors: list[int]) -> None:
    """Makes descriptors this process's first ones, in their order, and closes all others."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    os.closerange(len(descriptors), _CHUNK)


def enter() -> None:
    """Enters the control group that this process was handed the entrance of, if it was.

    Raises:
        OSError: It can't: the process must end.
    """
    try:
        os.fstat(_ENTRANCE)
    except OSError:
        return
    os.write(_ENTRANCE, b"0")
    os.close(_ENTRANCE)


def limit(limits: Mapping[str, int]) -> None:
    """Sets this process's limits, soft and hard alike, so that it can't raise them."""
    for name, value in limits.items():
        _, hard = resource.getrlimit(_LIMITS[name])
        # Where the host allows less, its limit holds: a plain user can't raise it.
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(_LIMITS[name], (least, least))


def describe(status: int) -> str:
    """A status of waitpid(2) in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known = number in set(signal.Signals)  # most real-time signals have no name
        return f"signal {signal.Signals(number).name if known else number}"
    return f"exit {os.waitstatus_to_exitcode(status)}"
