"""The process that starts workers: `python -I -m luoshu.sandbox.isolation.launcher FD`.

A process that has imported gRPC, or that has threads, must not fork; this one
has neither. It reads datagrams from the socket FD: `start` with an argument
vector, resource limits and four descriptors (standard input, output and error
of the worker, and where its status is written), or `stop`. It answers nothing
else. When the socket closes, because the connector closed it or died, it kills
every worker and ends.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys

MAX_REQUEST_BYTES = 128 << 10
LIMITS = {
    "memory": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "core": resource.RLIMIT_CORE,
}
_DESCRIPTORS = 4


class Launcher:
    """Starts, stops and reaps workers for one connector."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}  # worker id -> pid
        self._status: dict[int, int] = {}  # worker id -> descriptor

    def serve(self) -> None:
        """Serves until the control socket closes."""
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
                        os.read(wake_read, 4096)
                self._reap()
        finally:
            for pid in self._pids.values():
                os.kill(pid, signal.SIGKILL)

    def _serve_one(self) -> bool:
        data, descriptors, flags, _ = socket.recv_fds(
            self._control, MAX_REQUEST_BYTES, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("a request is too large")
            request = json.loads(data)
            if request["op"] == "start" and len(descriptors) == _DESCRIPTORS:
                self._start(request, descriptors)
            elif request["op"] == "stop" and (pid := self._pids.get(request["id"])):
                os.kill(pid, signal.SIGKILL)
        finally:
            for descriptor in descriptors:
                if descriptor not in self._status.values():
                    os.close(descriptor)
        return True

    def _start(self, request: dict[str, object], descriptors: list[int]) -> None:
        worker, argv, limits = request["id"], request["argv"], request["limits"]
        assert isinstance(worker, int) and isinstance(argv, list) and isinstance(limits, dict)  # noqa: S101
        try:
            pid = os.fork()
        except OSError:
            return  # the worker's pipes close, which tells the connector
        if pid == 0:
            _become_worker(argv, limits, descriptors)
        self._pids[worker] = pid
        self._status[worker] = descriptors[3]

    def _reap(self) -> None:
        for worker, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[worker]
                descriptor = self._status.pop(worker)
                try:
                    os.write(descriptor, _describe(status).encode())
                except BrokenPipeError:
                    pass  # nobody waits for it any more
                finally:
                    os.close(descriptor)


def _become_worker(argv: list[str], limits: dict[str, int], descriptors: list[int]) -> None:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for target, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, target)
        os.closerange(3, 4096)
        for name, value in limits.items():
            _, hard = resource.getrlimit(LIMITS[name])
            # Where the host allows less, its limit holds: a plain user can't raise it.
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(LIMITS[name], (least, least))
        os.chdir("/")
        os.execve(argv[0], argv, {})  # noqa: S606 - no shell is wanted
    except BaseException as error:  # noqa: BLE001 - nothing may return into the launcher's loop
        os.write(2, f"not started: {error}\n".encode())
        os._exit(127)


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known = number in set(signal.Signals)  # most real-time signals have no name
        return f"signal {signal.Signals(number).name if known else number}"
    return f"exit {os.waitstatus_to_exitcode(status)}"


def main() -> None:
    """Runs the launcher on the socket whose number is the first argument."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Launcher(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
