"""The process outside the wall that executes bubblewrap for one connector.

`python -I -m luoshu.sandbox.isolation.launcher FD`: a process that has imported gRPC must not
fork, so this one does, which has imported nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from luoshu.sandbox.spawner import Request, Spawner, enter, limit, stand_on


def _execute(request: Request, descriptors: list[int]) -> None:
    stand_on(descriptors)
    enter()
    limit(request["limits"])
    os.chdir("/")
    os.execve(request["argv"][0], request["argv"], {})  # noqa: S606 - no shell is wanted


def main() -> None:
    """Runs the launcher on the socket whose number is the first argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    Spawner(control, _execute, signal.SIGKILL).serve()


if __name__ == "__main__":
    main()
