"""The connector's end of the launcher: starts it, asks for workers, talks to them.

Requests are one datagram each and may come from any thread; a worker's pipes
belong to the event loop that started it. Nothing is ever awaited from the
launcher itself: a worker's end shows in its pipes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from luoshu.sandbox import wire
from luoshu.sandbox.errors import SandboxUnavailableError
from luoshu.sandbox.isolation.port import Limits, WorkerEnd, WorkerError

_READ_AHEAD = 1 << 16
_LARGE = 1 << 18


def linker_environment() -> dict[str, str]:
    """What our own processes keep of the environment: where their libraries are, if said there.

    Workers get none of it.
    """
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


class LauncherClient:
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
        self._socket = ours
        self._lock = threading.Lock()
        self._ids = itertools.count(1)

    async def start(
        self, argv: Sequence[str], resources: Mapping[str, int], limits: Limits
    ) -> WorkerProcess:
        """Starts a worker process with pipes to it.

        Raises:
            SandboxUnavailableError: The launcher has ended.
        """
        worker_id = next(self._ids)
        pipes = [os.pipe() for _ in range(4)]
        (stdin_read, stdin_write), (stdout_read, stdout_write) = pipes[:2]
        (log_read, log_write), (status_read, status_write) = pipes[2:]
        theirs = [stdin_read, stdout_write, log_write, status_write]
        ours = [stdin_write, stdout_read, log_read, status_read]
        try:
            self._request(
                {"op": "start", "id": worker_id, "argv": list(argv), "limits": dict(resources)},
                theirs,
            )
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        worker = WorkerProcess(self, worker_id, limits)
        await worker.open(*ours)
        return worker

    def stop(self, worker_id: int) -> None:
        """Kills a worker if it still runs."""
        self._request({"op": "stop", "id": worker_id}, [])

    def _request(self, request: dict[str, object], descriptors: list[int]) -> None:
        data = json.dumps(request).encode()
        try:
            with self._lock:
                socket.send_fds(self._socket, [data], descriptors)
        except OSError:
            raise SandboxUnavailableError(
                "The process that starts isolated workers has ended; restart the node."
            ) from None

    def close(self) -> None:
        """Ends the launcher, and with it every worker."""
        self._socket.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class WorkerProcess:
    """A worker behind pipes; implements the port's `Worker`."""

    def __init__(self, launcher: LauncherClient, worker_id: int, limits: Limits) -> None:
        self._launcher = launcher
        self._id = worker_id
        self._limits = limits
        self._log = bytearray()
        self._end: WorkerEnd | None = None

    async def open(self, stdin: int, stdout: int, log: int, status: int) -> None:
        """Attaches the pipes to the running event loop.

        If that fails or is cancelled, the worker is killed and the pipes are closed: nobody
        else knows of them yet.
        """
        loop = asyncio.get_running_loop()
        waiting: list[IO[bytes]] = [os.fdopen(stdin, "wb", 0)]
        waiting += [os.fdopen(descriptor, "rb", 0) for descriptor in (stdout, log, status)]
        opened: list[asyncio.BaseTransport] = []
        try:
            self._writer = _PipeWriter(loop)
            self._input, _ = await loop.connect_write_pipe(lambda: self._writer, waiting.pop(0))
            opened.append(self._input)
            self._output, self._output_transport = await _reader(waiting.pop(0))
            opened.append(self._output_transport)
            log_reader, self._log_transport = await _reader(waiting.pop(0))
            opened.append(self._log_transport)
            status_reader, self._status_transport = await _reader(waiting.pop(0))
        except BaseException:
            self.kill()
            for transport in opened:
                transport.close()
            for file in waiting:
                file.close()
            raise
        self._log_task = loop.create_task(self._keep_log(log_reader))
        self._status_task = loop.create_task(status_reader.read())

    async def send(self, message: dict[str, object]) -> None:
        """See the port."""
        self._input.write(wire.encode(message))
        if not await self._writer.drained():
            raise WorkerError("the worker ended before it read its job")

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
            self._launcher.stop(self._id)
        except SandboxUnavailableError:
            return  # the launcher has ended, and its workers with it

    async def stop(self) -> WorkerEnd:
        """See the port."""
        if self._end is None:
            self.kill()
            status = (await self._status_task).decode()
            if not self._input.is_closing():
                self._input.abort()
            for transport in (self._output_transport, self._log_transport, self._status_transport):
                transport.close()
            self._log_task.cancel()
            await asyncio.sleep(0)  # transports close their descriptors on the loop's next turn
            text = self._log.decode("utf-8", "backslashreplace")
            self._end = WorkerEnd(status or "not started", text)
        return self._end

    async def _keep_log(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_AHEAD):
            # What exceeds the limit is read and dropped, so that the worker doesn't block on it.
            self._log += data[: max(0, self._limits.log_bytes - len(self._log))]


async def _reader(file: IO[bytes]) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=_READ_AHEAD)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    return reader, transport


class _PipeWriter(asyncio.BaseProtocol):
    """Flow control of a write pipe."""

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
        """Waits until the buffer has room; False if the reader is gone."""
        await self._writable.wait()
        return not self._lost.done()
