"""The connector's end of the launcher."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from luoshu.sandbox.isolation.spawner_client import SpawnerClient

_SECONDS = 10


def linker_environment() -> dict[str, str]:
    """What our own processes keep of the environment: where their libraries are, if said there.

    Workers get none of it.
    """
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


class LauncherClient(SpawnerClient):
    """A running launcher."""

    def __init__(self) -> None:
        """Starts the launcher process.

        Raises:
            OSError: It can't be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    sys.executable,
                    "-I",
                    "-m",
                    "luoshu.sandbox.isolation.launcher",
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C on the terminal is the connector's to handle
                env=linker_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        super().__init__(ours)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def close(self) -> None:
        """Ends the launcher, and with it every worker."""
        super().close()
        try:
            self._process.wait(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
