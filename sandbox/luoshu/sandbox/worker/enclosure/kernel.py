"""Linux calls that Python has no name for, by ctypes; each raises OSError with the kernel's reason.

Sources: unshare(2), mount(2), prctl(2), capset(2), seccomp(2), landlock(7), and the kernel's
uapi headers for the constants.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import TypeAlias

_LIBC = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
PRIVILEGE_OPTIONS = (
    _PR_SET_DUMPABLE,
    _PR_CAPBSET_READ,
    _PR_CAPBSET_DROP,
    _PR_SET_NO_NEW_PRIVS,
    _PR_CAP_AMBIENT,
)
"""Options of prctl(2) by which a process gives privileges up."""
_CAPABILITY_VERSION = 0x2008_0522

_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1

# The same on every architecture, as all system calls since 5.0 are.
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unshare(flags: int) -> None:
    """Leaves namespaces for new ones."""
    _checked(_LIBC.unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mounts a file system, or changes a mount."""
    _checked(
        _LIBC.mount(
            source.encode(),
            target.encode(),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            data.encode() if data else None,
        )
    )


def _prctl(option: int, *arguments: int) -> int:
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _checked(_LIBC.prctl(option, *(ctypes.c_ulong(value) for value in padded)))


def die_with_parent(signal: int) -> None:
    """Has the kernel send a signal to this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Has this process be the parent of what those below it leave when they die."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(*, dumpable: bool) -> None:
    """Whether others of this user may look into this process; and who owns its /proc entry."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def drop_privileges() -> None:
    """Gives up every capability, for good: held, inheritable, bounding and ambient."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    try:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # gVisor's kernel has no ambient capabilities to clear
            raise
    for capability in range(_last_capability() + 1):
        if _prctl(_PR_CAPBSET_READ, capability):
            _prctl(_PR_CAPBSET_DROP, capability)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_LIBC.capset(ctypes.byref(header), ctypes.byref(nothing)))


def _last_capability() -> int:
    capability = -1
    while True:
        try:
            _prctl(_PR_CAPBSET_READ, capability + 1)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the kernel knows no more
                return capability
            raise
        capability += 1


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def filter_calls(program: bytes) -> None:
    """Installs a seccomp filter on every thread of this process.

    Args:
        program: `struct sock_filter`s, 8 bytes each.
    """
    memory = buffer(program)
    described = _Program(len(program) // 8, ctypes.addressof(memory))
    failed = _checked(
        _LIBC.syscall(
            ctypes.c_long(_SYS_SECCOMP[platform.machine()]),
            ctypes.c_ulong(SECCOMP_SET_MODE_FILTER),
            ctypes.c_ulong(SECCOMP_FILTER_FLAG_TSYNC),
            ctypes.byref(described),
        )
    )
    if failed:  # the number of a thread that has another filter
        raise OSError("seccomp: a thread could not be filtered")


Buffer: TypeAlias = "ctypes.Array[ctypes.c_char]"


def buffer(data: bytes) -> Buffer:
    """Memory that the kernel reads."""
    return ctypes.create_string_buffer(data, len(data))


def landlock(call: int, *arguments: int | Buffer | None) -> int:
    """One of Landlock's three calls."""
    return _checked(
        _LIBC.syscall(
            ctypes.c_long(call),
            *(ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments),
        )
    )
