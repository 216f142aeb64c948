"""A worker behind pipes, as one event loop uses it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import IO

from luoshu.sandbox import wire
from luoshu.sandbox.errors import SandboxUnavailableError, legible
from luoshu.sandbox.isolation.port import Limits, WorkerEnd, WorkerError
from luoshu.sandbox.isolation.spawner_client import Pipes

_READ_AHEAD = 1 << 16
_LARGE = 1 << 18


class WorkerProcess:
    """Implements the port's `Worker`."""

    def __init__(
        self,
        stop: Callable[[], None],
        limits: Limits,
        ended: Callable[[], str] | None = None,
    ) -> None:
        """Has nothing open yet.

        Args:
            stop: Has it killed, without waiting; may raise SandboxUnavailableError.
            limits: Of what it answers.
            ended: Called once when it has ended; returns words for its log.
        """
        self._ended = ended
        self._stop = stop
        self._limits = limits
        self._log = bytearray()
        self._end: WorkerEnd | None = None

    async def open(self, pipes: Pipes) -> None:
        """Attaches the pipes to the running event loop.

        If that fails or is cancelled, the worker is killed and the pipes are closed: nobody
        else knows of them yet.
        """
        loop = asyncio.get_running_loop()
        self._socket = socket.socket(fileno=pipes.input)
        waiting: list[socket.socket | IO[bytes]] = [self._socket]
        waiting += [os.fdopen(fd, "rb", 0) for fd in (pipes.output, pipes.log, pipes.status)]
        opened: list[asyncio.BaseTransport] = []
        try:
            self._writer = _Writer(loop)
            self._input, _ = await loop.connect_write_pipe(lambda: self._writer, waiting.pop(0))
            self._input.set_write_buffer_limits(0)
            opened.append(self._input)
            self._output, self._output_transport = await _reader(waiting.pop(0))
            opened.append(self._output_transport)
            log_reader, self._log_transport = await _reader(waiting.pop(0))
            opened.append(self._log_transport)
            status_reader, self._status_transport = await _reader(waiting.pop(0))
        except BaseException:
            self.kill()
            self._say_ended()
            for transport in opened:
                transport.close()
            for file in waiting:
                file.close()
            raise
        self._log_task = loop.create_task(self._keep_log(log_reader))
        self._status_task = loop.create_task(status_reader.read())

    async def send(self, message: dict[str, object], files: Sequence[int] = ()) -> None:
        """See the port."""
        frame = wire.encode(message)
        if files:
            frame = self._hand_over(frame, files)
        self._input.write(frame)
        if not await self._writer.drained():
            raise WorkerError("the worker ended before it read its job")

    def _hand_over(self, frame: bytes, files: Sequence[int]) -> bytes:
        """Sends a frame's header with open files; returns the rest of it."""
        try:
            socket.send_fds(self._socket, [frame[: wire.HEADER.size]], list(files))
        except BlockingIOError:  # each message with files is answered before the next
            raise WorkerError("the worker did not read its messages") from None
        except OSError:
            raise WorkerError("the worker ended before it read its job") from None
        return frame[wire.HEADER.size :]

    async def receive(self) -> dict[str, object]:
        """See the port."""
        try:
            header = await self._output.readexactly(wire.HEADER.size)
            length = wire.frame_length(header, self._limits.frame_bytes)
            body = await self._output.readexactly(length)
            if length > _LARGE:  # parsing it would hold up the event loop
                return await asyncio.to_thread(wire.decode, body)
            return wire.decode(body)
        except asyncio.IncompleteReadError:
            raise WorkerError("the worker ended before it answered") from None
        except wire.WireError as error:
            raise WorkerError(f"the worker's answer was dropped: {error}") from None

    def kill(self) -> None:
        """See the port."""
        try:
            self._stop()
        except SandboxUnavailableError:
            return  # who started it has ended, and its workers with it

    async def stop(self) -> WorkerEnd:
        """See the port."""
        self.kill()
        return await self.wait()

    async def wait(self) -> WorkerEnd:
        """Waits until it ends by itself."""
        if self._end is None:
            status = (await self._status_task).decode()
            said = self._say_ended()
            if not self._input.is_closing():
                self._input.abort()
            for transport in (self._output_transport, self._log_transport, self._status_transport):
                transport.close()
            self._log_task.cancel()
            await asyncio.sleep(0)  # transports close their descriptors on the loop's next turn
            text = self._log.decode("utf-8", "backslashreplace")
            log = legible(text, self._limits.log_bytes) + said
            self._end = WorkerEnd(status or "not started", log)
        return self._end

    def _say_ended(self) -> str:
        ended, self._ended = self._ended, None
        return ended() if ended else ""

    async def _keep_log(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_AHEAD):
            # What exceeds the limit is read and dropped, so that the worker doesn't block on it.
            self._log += data[: max(0, self._limits.log_bytes - len(self._log))]


async def _reader(
    file: socket.socket | IO[bytes],
) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=_READ_AHEAD)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    return reader, transport


class _Writer(asyncio.BaseProtocol):
    """Flow control of what is written."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = loop.create_future()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        self._writable.set()

    async def drained(self) -> bool:
        """Waits until all is written; False if the reader is gone."""
        await self._writable.wait()
        return not self._lost.done()
