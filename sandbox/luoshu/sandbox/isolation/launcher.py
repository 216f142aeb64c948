"""The process outside the wall that executes bubblewrap for one connector.

`python -I -m luoshu.sandbox.isolation.launcher FD`: a process that has imported gRPC must not
fork, so this one does, which has imported nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from luoshu.sandbox.spawner import Request, Spawner, enter, limit, stand_on
from luoshu.sandbox.worker.enclosure import kernel


def _execute(request: Request, descriptors: list[int]) -> None:
    stand_on(descriptors)
    enter()
    limit(request["limits"])
    os.chdir("/")
    os.execve(request["argv"][0], request["argv"], {})  # noqa: S606 - no shell is wanted


class _Launcher(Spawner):
    """Ends what its processes leave as well.

    A bubblewrap that is killed while it starts leaves a process that waits for its word for ever.
    """

    def serve(self) -> None:
        kernel.adopt_orphans()
        try:
            super().serve()
        finally:
            self._end_all()

    def _reap(self) -> None:
        super()._reap()
        for pid in _children() - set(self._pids.values()):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)  # or when it has died, which wakes this process again

    def _end_all(self) -> None:
        while children := _children():  # each that dies may leave others
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> set[int]:
    me = os.getpid()
    return set(map(int, Path(f"/proc/{me}/task/{me}/children").read_text().split()))


def main() -> None:
    """Runs the launcher on the socket whose number is the first argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _Launcher(control, _execute, signal.SIGKILL).serve()


if __name__ == "__main__":
    main()
