"""What every worker does: announce itself, take messages, answer, never explain itself.

A worker's standard error goes to the holder's operational log and must hold no
value, so an exception is reported by its type alone.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import TypeAlias

from luoshu.sandbox import wire

Message: TypeAlias = "dict[str, object]"
MAX_JOB_BYTES = 256 << 20
MAX_CELLS = 1_000_000
MAX_FILES = 250
"""Most files that come with one message; the kernel carries 253."""


class Channel:
    """A worker's standard input, a socket, and output, a pipe, as frames.

    Attributes:
        files: Descriptors that came with the last message, in its order.
    """

    def __init__(self) -> None:
        # What prints by accident must not end up between frames.
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._in = socket.socket(fileno=os.dup(0))
        self.files: list[int] = []

    def send(self, message: Message) -> None:
        """Sends a message."""
        wire.write_frame(self._out, message)

    def receive(self) -> Message:
        """Awaits a message; ends the worker when the connector has gone.

        Raises:
            WireError: The connector sent what is no frame.
        """
        header, self.files, _, _ = socket.recv_fds(self._in, wire.HEADER.size, MAX_FILES)
        if not header:
            sys.exit(0)
        return wire.decode(self._read(wire.frame_length(header, MAX_JOB_BYTES)))

    def _read(self, length: int) -> bytes:
        body = bytearray(length)
        rest = memoryview(body)
        while rest:
            read = self._in.recv_into(rest)
            if not read:
                raise wire.WireError("a frame is cut short")
            rest = rest[read:]
        return bytes(body)


def run(work: Callable[[Channel], None]) -> None:
    """Runs a worker and ends its process without any clean-up.

    The process is thrown away: interpreter and engine shutdown would cost
    20 ms, and could do nothing useful.
    """
    code = 1
    try:
        channel = Channel()
        work(channel)
        code = 0
    except MemoryError:
        _say("out of memory")
    except Exception as error:  # noqa: BLE001 - the last line of defence; nothing may be told
        _say(f"failed with {type(error).__module__}.{type(error).__name__}")
    os._exit(code)


def _say(text: str) -> None:
    os.write(2, f"worker {text}\n".encode())
