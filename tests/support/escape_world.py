"""A worker taken over: the attacker's code runs where a worker would read its first query.

The wall is the real one, closed as a stage-1 worker closes it; only the work is another. Payloads
are Python, which calls what it likes by number: what machine code could ask the kernel for, they
can. They tell what happened; what the kernel refused they tell by its error's name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.pool import Pool
from luoshu.sandbox.isolation.port import Limits
from luoshu.sandbox.isolation.worker_process import WorkerProcess

_BOOT = """
import ctypes, errno, fcntl, json, mmap, os, random, resource, select, signal, socket, struct, sys
import threading, time
sys.path.append("/app")
from luoshu.sandbox import engine
from luoshu.sandbox.worker import setup, zygote
from luoshu.sandbox.worker.enclosure import landlock, seal
from luoshu.sandbox.worker.stage import Channel

LIBC = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    result = LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result

def attempt(action):
    try:
        return ["did", repr(action())]
    except OSError as error:
        return ["failed", errno.errorcode.get(error.errno, type(error).__name__)]

def work():
    channel = Channel()
    job, files = channel.receive(), channel.files
    # What is not in a file system can't be opened again anyway.
    landlock.restrict(seal.CODE, [file for file in files if os.fstat(file).st_nlink])
    seal.seal()
    tell = lambda said: channel.send({"said": json.loads(json.dumps(said))})
    exec(job["code"], {**globals(), "tell": tell, "files": files})
    os._exit(0)

setup.open_ahead()
zygote.leave_root()
zygote.serve(work)
"""


class Prison:
    """Workers that run payloads."""

    def __init__(self, wall: BwrapIsolation) -> None:
        self.wall = wall
        self._pools: dict[tuple[str, Limits], Pool] = {}

    async def hold(
        self,
        payload: str,
        files: Sequence[int] = (),
        limits: Limits | None = None,
        entry: str = "stage1",
    ) -> WorkerProcess:
        """Starts a worker that runs a payload.

        Args:
            payload: Sees `tell`, `attempt`, `call` (a system call by number) and `files`.
            files: Handed over.
            limits: Its limits, instead of the usual.
            entry: Whose root it sees.
        """
        key = (entry, limits or self.wall.config.limits_of(entry))
        if key not in self._pools:
            command = self.wall.runtime.code_command(_BOOT)
            self._pools[key] = self.wall.pool_of(entry, command, key[1])
        worker = await self.wall.take(self._pools[key], key[1])
        await worker.send({"code": textwrap.dedent(payload)}, files)
        return worker

    async def run(self, payload: str, **options: Any) -> Any:
        """What a payload tells."""
        worker = await self.hold(payload, **options)
        try:
            return (await worker.receive())["said"]
        finally:
            self.log = (await worker.stop()).log

    def close(self) -> None:
        """Ends all."""
        for pool in self._pools.values():
            pool.close()


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        except OSError:
            continue  # it ended meanwhile
        waiting += [int(child) for child in children]
        found.update(int(child) for child in children)
    return found


def workers_below(launcher: int) -> set[int]:
    """Workers of a launcher: what is in a process namespace below a zygote's."""
    return {pid for pid in descendants(launcher) if _is_worker(pid)}


def _is_worker(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # it ended meanwhile
    (line,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
    # Its name, then its number for the host, the zygote and itself; a corpse has no namespace left.
    return len(line.split()) > 3
