"""A forked worker's own world: every namespace new, a private /tmp, its files under /in, no /proc.

Runs in a process forked from a zygote (`luoshu.sandbox.worker.zygote`), which stands in the root
that bubblewrap made: read-only, without network, with a /proc that is covered here.
"""

from __future__ import annotations

import os

from luoshu.sandbox.worker.enclosure import kernel

INPUTS = "/in"
"""Where a worker finds the files that it was handed, each by the number of its descriptor."""

_QUIET = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
_ALL = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)


def leave() -> None:
    """Leaves every namespace; the next process forked is the first of a new process namespace.

    Raises:
        OSError: The kernel doesn't allow it.
    """
    user, group = os.getuid(), os.getgid()
    kernel.unshare(_ALL)
    for name, text in (
        ("uid_map", f"{user} {user} 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{group} {group} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def furnish(tmp_bytes: int) -> None:
    """Makes the mounts of this process, once it is the first of its process namespace.

    Args:
        tmp_bytes: Size of its /tmp.

    Raises:
        OSError: The kernel doesn't allow it.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", _QUIET, f"size={tmp_bytes},mode=0700")  # noqa: S108
    kernel.mount("/proc/self/fd", INPUTS, None, kernel.MS_BIND)
    hidden = "size=4k,nr_inodes=1,mode=0555"
    kernel.mount("tmpfs", "/proc", "tmpfs", _QUIET | kernel.MS_RDONLY, hidden)
