"""A process behind the wall that has a worker's code loaded, and forks workers.

It holds no data, no query and no thread. Each worker is forked twice: the first process leaves
every namespace and watches, the second is the first of its new process namespace and works. What
forks share is code, which is the same in every worker anyway; random numbers come from the kernel,
and engines are opened after the fork. (They share the addresses of that code as well: a worker that
was taken over knows where others have theirs.)
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from luoshu.sandbox.spawner import Request, Spawner, enter, limit, stand_on
from luoshu.sandbox.worker.enclosure import kernel, namespaces
from luoshu.sandbox.worker.enclosure.seal import fence, seal
from luoshu.sandbox.worker.loading import load

_SPARE_UID = 65534
_QUIET_MS = 250
_WATCHED = frozenset({signal.SIGTERM, signal.SIGCHLD})


def serve(work: Callable[[], None], warm_up: Callable[[], None] = lambda: None) -> None:
    """Forks a worker for each request on standard input, until that closes.

    Args:
        work: What a worker does; all it needs is loaded.
        warm_up: What one does first that is forked while there is time.

    Raises:
        RuntimeError: There is more than one thread.
    """
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
        raise RuntimeError("a zygote with threads must not fork")
    gc.disable()  # a worker lives for one job; what is not written to stays shared
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=os.dup(0))
    os.set_inheritable(control.fileno(), False)

    def become(request: Request, descriptors: list[int]) -> None:
        _become_worker(request, descriptors)
        if request.get("warm") and _is_quiet():
            warm_up()
        work()

    Spawner(control, become, signal.SIGTERM).serve()


def _is_quiet() -> bool:
    """Whether nobody asks for a while: a next query that comes at once needs the processors."""
    asked = select.poll()
    asked.register(0, select.POLLIN)
    return not asked.poll(_QUIET_MS)


def _become_worker(request: Request, descriptors: list[int]) -> None:
    stand_on(descriptors)
    namespaces.leave()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    worker = os.fork()
    if worker:
        _watch(worker)
    kernel.die_with_parent(signal.SIGKILL)
    os.setsid()  # a signal to its process group would reach its zygote and other workers
    enter()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    namespaces.furnish(int(request["tmp_bytes"]))
    limit(request["limits"])
    fence()


def _watch(worker: int) -> NoReturn:
    """Ends as the worker ends; asked to stop, it kills the worker, and ends when it is gone."""
    os.closerange(0, 4)  # so that the worker's pipes close with it
    is_gone, status = False, 0
    while not is_gone:
        if signal.sigwait(_WATCHED) == signal.SIGTERM:
            os.kill(worker, signal.SIGKILL)  # not waited for yet: the number is still its own
        found, status = os.waitpid(worker, os.WNOHANG)
        # A worker that has itself traced is found when it is merely stopped.
        is_gone = found == worker and (os.WIFEXITED(status) or os.WIFSIGNALED(status))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def leave_root() -> None:
    """Gives up the user that a node run as root has, for one that owns nothing."""
    if os.getuid():
        return
    os.setgroups([])
    os.setresgid(_SPARE_UID, _SPARE_UID, _SPARE_UID)
    os.setresuid(_SPARE_UID, _SPARE_UID, _SPARE_UID)
    kernel.set_dumpable(dumpable=True)  # else /proc/self belongs to root, and a fork needs it


def try_once() -> None:
    """Closes the wall around one fork, to see whether this machine can; for `luoshu doctor`.

    Raises:
        OSError: It can't.
    """
    leave_root()
    namespaces.leave()
    worker = os.fork()
    if worker == 0:
        namespaces.furnish(1 << 20)
        fence()
        seal()
        os._exit(0)
    _, status = os.waitpid(worker, 0)
    os._exit(0 if status == 0 else 1)


def main(entry: str) -> None:
    """Loads a worker's code, runs it once on nothing, and forks."""
    module = load(entry)
    leave_root()  # the code may be readable for root only
    serve(module.main, module.warm_up)
    sys.exit(0)
