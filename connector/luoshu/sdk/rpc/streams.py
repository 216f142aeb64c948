"""Streams that Ctrl-C can interrupt at any moment.

A KeyboardInterrupt that strikes inside gRPC while a streaming call is being made
leaves a call that no thread attends to; closing the channel then waits for ever
(seen with grpcio 1.85.1 in 4 of 19 runs that interrupted right after the call's
start). So gRPC's own code runs in a thread of its own, where Python raises no
interrupts, and the caller's thread only waits on a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, Protocol, TypeVar

Message_co = TypeVar("Message_co", covariant=True)
Message = TypeVar("Message")

_BUFFERED = 8
_TURN_SECONDS = 0.2


class StreamCall(Protocol[Message_co]):
    """A streaming call of a stub."""

    def __iter__(self) -> Iterator[Message_co]:
        """The messages."""
        ...

    def cancel(self) -> bool:
        """Ends the call."""
        ...


class _Pump(Generic[Message]):
    def __init__(self, start: Callable[[], StreamCall[Message]]) -> None:
        self._start = start
        self._call: StreamCall[Message] | None = None
        self._stopped = Event()
        # A message, the error that ended the stream, or None at its end.
        self._queue: Queue[tuple[Message] | BaseException | None] = Queue(_BUFFERED)
        self._thread = Thread(target=self._run, name="luoshu-stream", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            call = self._start()
            self._call = call
            if self._stopped.is_set():
                call.cancel()
            for message in call:
                self._put((message,))
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            end = error
        self._put(end)

    def _put(self, item: tuple[Message] | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_TURN_SECONDS)
            except Full:
                continue
            return

    def messages(self) -> Iterator[Message]:
        while True:
            try:
                item = self._queue.get(timeout=_TURN_SECONDS)
            except Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    def stop(self) -> None:
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()


@contextmanager
def stream(start: Callable[[], StreamCall[Message]]) -> Iterator[Iterator[Message]]:
    """Starts a streaming call, yields its messages, and ends it with the block.

    Args:
        start: Makes the call; run in another thread.

    Raises:
        grpc.RpcError: While iterating, as the call raised it.
    """
    pump = _Pump(start)
    try:
        yield pump.messages()
    finally:
        pump.stop()
