"""Closing the wall from inside: in part before a worker waits, wholly before it reads a query."""

from __future__ import annotations

import platform

from luoshu.sandbox.worker.enclosure import kernel, landlock, seccomp

CODE = ("/app", "/python", "/lib")
"""What a worker may read for as long as it lives."""


def rehearse() -> None:
    """Composes what `seal` hands to the kernel, once for all forks."""
    seccomp.program(platform.machine(), opens=landlock.version() > 0)
    seccomp.program(platform.machine(), sets_up=True)


def fence() -> None:
    """Drops all privileges, and every call but those that set-up and sealing take.

    For who waits for a job, and for what set-up reads: a prepared file is parsed before `seal`.

    Raises:
        OSError: The kernel refused any of it: the worker must end.
    """
    kernel.drop_privileges()
    seccomp.restrict(sets_up=True)


def seal() -> None:
    """Drops all privileges and filters system calls, in every thread.

    What is open stays open; what is opened by name is what Landlock left, and nothing on a kernel
    without Landlock.

    Raises:
        OSError: The kernel refused any of it: the worker must end.
    """
    kernel.drop_privileges()
    kernel.set_dumpable(dumpable=False)
    seccomp.restrict(opens=landlock.version() > 0)


def seal_for_writing() -> None:
    """The same for a worker whose own directories are in its root, to read and to write.

    It may start threads, until `seal_threads`.

    Raises:
        OSError: The kernel refused any of it: the worker must end.
    """
    kernel.drop_privileges()
    kernel.set_dumpable(dumpable=False)
    seccomp.restrict(writes=True, threads=True)


def seal_threads() -> None:
    """Has a worker that was sealed for writing start no thread any more.

    Raises:
        OSError: The kernel refused: the worker must end.
    """
    seccomp.restrict(writes=True)
