"""What every worker does: announce itself, take messages, answer, never explain itself.

A worker's standard error goes to the holder's operational log and must hold no
value, so an exception is reported by its type alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeAlias

from luoshu.sandbox import wire

Message: TypeAlias = "dict[str, object]"
MAX_JOB_BYTES = 256 << 20
MAX_CELLS = 1_000_000


class Channel:
    """A worker's standard input and output as frames."""

    def __init__(self) -> None:
        # What prints by accident must not end up between frames.
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._in = os.fdopen(os.dup(0), "rb")

    def send(self, message: Message) -> None:
        """Sends a message."""
        wire.write_frame(self._out, message)

    def receive(self) -> Message:
        """Awaits a message; ends the worker when the connector has gone.

        Raises:
            WireError: The connector sent what is no frame.
        """
        message = wire.read_frame(self._in, MAX_JOB_BYTES)
        if message is None:
            sys.exit(0)
        return message


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
