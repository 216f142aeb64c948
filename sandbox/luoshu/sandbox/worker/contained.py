"""The first process of a container: takes its standard streams and limits, and becomes a worker.

An engine of containers hands over no open files. A socket does, so a container finds one in a
directory of its own, connects before it has read anything, and from then on is a worker like any
other: standard input is a socket over which open files come, output and error are pipes.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable

from luoshu.sandbox.spawner import limit, stand_on
from luoshu.sandbox.worker.enclosure import landlock
from luoshu.sandbox.worker.enclosure.namespaces import INPUTS
from luoshu.sandbox.worker.enclosure.seal import CODE, seal
from luoshu.sandbox.worker.loading import load
from luoshu.sandbox.worker.stage import Channel, run

DOOR = "/door"
SOCKET = "socket"
_STREAMS = 3
_MAX_BYTES = 4096


def take_streams() -> None:
    """Takes standard input, output and error, and the limits of this process.

    Raises:
        OSError: Nobody hands them over.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.connect(f"{DOOR}/{SOCKET}")
        limits, descriptors, _, _ = socket.recv_fds(door, _MAX_BYTES, _STREAMS)
    stand_on(descriptors)
    limit(json.loads(limits))


def serve(work: Callable[[], None]) -> None:
    """Does a worker's work on the streams that are handed over."""
    take_streams()
    work()


def main(entry: str) -> None:
    """Loads a worker's code, runs it once on nothing, and works."""
    take_streams()  # first: what goes wrong from here on is said to them
    load(entry).main()


def try_once() -> None:
    """Opens a file that is handed over, and closes the wall; for `luoshu doctor`."""
    take_streams()
    run(_try)


def _try(channel: Channel) -> None:
    channel.receive()
    (file,) = channel.files
    landlock.restrict(CODE, channel.files)
    os.close(os.open(f"{INPUTS}/{file}", os.O_RDONLY))
    seal()
    channel.send({"type": "ready"})
