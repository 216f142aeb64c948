"""How a container gets its streams: a socket in a directory of its own, once.

Docker passes no open files on, but a container can see a directory of the host, and a unix socket
in it carries descriptors across every namespace, under gVisor too. So nothing is copied, and no
directory that a worker could write to is needed.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from luoshu.sandbox.worker.contained import SOCKET

_SECONDS = 30.0
_LOOK_SECONDS = 0.25


class NobodyCameError(Exception):
    """A container ended, or took too long, before it took its streams."""


class Door:
    """A socket that one container connects to; leaving the context removes it."""

    def __init__(self, directory: Path) -> None:
        """Opens it.

        Args:
            directory: The container's own; its parent is for nobody but this user.

        Raises:
            OSError: It can't be made.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = directory / SOCKET
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            # By a short name: the path of a socket has 107 characters at most.
            self._socket.bind(f"/proc/self/fd/{place}/{SOCKET}")
            self._path.chmod(0o666)  # the container may be another user
            self._socket.listen(1)
            self._socket.settimeout(_LOOK_SECONDS)
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.close(place)

    def hand_over(
        self,
        streams: Sequence[int],
        limits: Mapping[str, int],
        is_awaited: Callable[[], bool],
    ) -> None:
        """Waits for the container, and gives it its streams and limits.

        Args:
            streams: Standard input, output and error; stay the caller's.
            limits: As `luoshu.sandbox.spawner.limit` reads them.
            is_awaited: Whether it may still come; asked a few times a second.

        Raises:
            NobodyCameError: It didn't.
        """
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                if not is_awaited():
                    break
                continue
            with connection:
                socket.send_fds(connection, [json.dumps(limits).encode()], list(streams))
                return
        raise NobodyCameError

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes it, whoever waits there."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
