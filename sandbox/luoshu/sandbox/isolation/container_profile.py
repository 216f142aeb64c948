"""The seccomp profile of a container: what a worker may call at its most, and what starting takes.

It is the outer of two fences. From its first instruction a container can make no process, no
namespace and no socket but a unix one; once it works, `luoshu.sandbox.worker.enclosure.seccomp`
takes from it all that starting took. How the list came about: containers prepared and computed
under a profile that logs what it doesn't list (SCMP_ACT_LOG), with runc, until the log held
nothing but mbind(2), which a library tries and does without.
"""

from __future__ import annotations

import errno
import json
import socket

from luoshu.sandbox.worker.enclosure.seccomp import CLONE_NAMESPACES, CLONE_THREAD, names

_STARTING = frozenset(
    {
        # runc, between the filter and the program
        "close_range",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "eventfd2",
        "execve",
        "getppid",
        "pipe2",
        "umask",
        # the dynamic linker and Python
        "arch_prctl",
        "dup",
        "dup2",
        "dup3",
        "getegid",
        "geteuid",
        "getgid",
        "getuid",
        "ioctl",
        "set_tid_address",
        "uname",
        # the worker, until it is sealed
        "capget",
        "capset",
        "connect",
        "landlock_add_rule",
        "landlock_create_ruleset",
        "landlock_restrict_self",
        "memfd_create",
        "getsockname",
        "getsockopt",
        "prctl",
        "seccomp",
    }
)
_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_CONDITIONAL = {"clone"}


def profile() -> str:
    """The profile as Docker reads it: JSON."""
    thread = {
        "index": 0,
        "value": CLONE_THREAD | CLONE_NAMESPACES,
        "valueTwo": CLONE_THREAD,
        "op": "SCMP_CMP_MASKED_EQ",
    }
    unix = {"index": 0, "value": int(socket.AF_UNIX), "op": "SCMP_CMP_EQ"}
    return json.dumps(
        {
            "defaultAction": _ERRNO,
            "defaultErrnoRet": errno.EPERM,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [
                {"names": sorted(names() - _CONDITIONAL | _STARTING), "action": _ALLOW},
                {"names": ["clone"], "action": _ALLOW, "args": [thread]},
                {"names": ["socket"], "action": _ALLOW, "args": [unix]},
                {"names": ["clone3"], "action": _ERRNO, "errnoRet": errno.ENOSYS},
            ],
        }
    )
