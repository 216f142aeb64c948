"""Closing the wall from inside: the last thing a worker does before it reads what others wrote."""

from __future__ import annotations

import platform

from luoshu.sandbox.worker.enclosure import kernel, landlock, seccomp

CODE = ("/app", "/python", "/lib")
"""What a worker may read for as long as it lives."""


def rehearse() -> None:
    """Composes what `seal` hands to the kernel, once for all forks."""
    seccomp.program(platform.machine(), opens=landlock.version() > 0)


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

    Raises:
        OSError: The kernel refused any of it: the worker must end.
    """
    kernel.drop_privileges()
    kernel.set_dumpable(dumpable=False)
    seccomp.restrict(writes=True)
