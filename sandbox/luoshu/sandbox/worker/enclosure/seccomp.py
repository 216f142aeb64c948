"""The system calls that a sealed worker may still make; every other fails, most with EPERM.

How the list came about: workers ran the tests' queries under strace(1), and what they called
after sealing is here, less what could be taken from them, plus what glibc may call instead on
another kernel or machine. What is *not* here: sockets, processes (fork, vfork, execve), threads
beside those that the engine has by then, signals to others, ptrace and its kin, mounts and
namespaces, new limits, opening for writing, changing a file's mode, owner, times, length or links,
ioctl, io_uring, bpf, keyrings, executable memory. `clone3` answers ENOSYS, for its flags lie in
memory where no filter sees them; glibc then calls `clone`.

A worker that waits has a longer list already: what set-up takes, and nothing else.

The filter is classic BPF as seccomp(2) reads it: for each call a comparison and a return, linear,
which the kernel turns into a bitmap for those without conditions on arguments.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import itertools
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from luoshu.sandbox.worker.enclosure import kernel

_X86_64, _AARCH64 = "x86_64", "aarch64"
_AUDIT_ARCH = {_X86_64: 0xC000_003E, _AARCH64: 0xC000_00B7}
_X32_BIT = 0x4000_0000  # the x32 calls of x86-64, under the same architecture number

# Numbers: (x86-64, aarch64); None where the machine has no such call.
_FREELY: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "poll": (7, None),
    "lseek": (8, 62),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "getdents64": (217, 61),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "newfstatat": (262, 79),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "getcpu": (309, 168),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "statx": (332, 291),
    "rseq": (334, 293),
}
# What preparation makes a database with, in the directories that it is given.
_WRITING: dict[str, tuple[int | None, int | None]] = {
    "open": (2, None),
    "openat": (257, 56),
    "pwrite64": (18, 68),
    "pwritev": (296, 70),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "fcntl": (72, 25),
    "flock": (73, 32),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "getcwd": (79, 17),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
}
# What a worker that waits needs beside all that, to get ready for a job and to be sealed.
_SETTING_UP: dict[str, tuple[int | None, int | None]] = {
    "dup2": (33, None),
    "dup3": (292, 24),
    "getsockname": (51, 204),
    "getsockopt": (55, 209),
    "memfd_create": (319, 279),
    "capset": (126, 91),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
_CLONE3 = 435

CLONE_THREAD = 0x0001_0000
CLONE_NAMESPACES = 0x7E02_0080  # every CLONE_NEW… flag
_PROT_EXEC = 4
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_TMPFILE = 0x0040_0000
_FIRST_PROCESS = 1
_OPEN, _CLONE = "openat", "clone"
_WORD = 0xFFFF_FFFF
_FCNTL_COMMANDS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)


@dataclass(frozen=True, slots=True)
class _Condition:
    """A call that is allowed if an argument's low 32 bits, masked, have a value.

    Attributes:
        number: Of the call: (x86-64, aarch64).
        argument: Its place.
        mask: Bits that are looked at.
        value: What they must be.
        high: Whether the argument's high 32 bits must be 0 as well.
    """

    number: tuple[int, int]
    argument: int
    mask: int
    value: int
    high: bool = False


_IF = (
    ("mmap", _Condition((9, 222), 2, _PROT_EXEC, 0)),
    ("mprotect", _Condition((10, 226), 2, _PROT_EXEC, 0)),
    (_CLONE, _Condition((56, 220), 0, CLONE_THREAD | CLONE_NAMESPACES, CLONE_THREAD)),
    (_OPEN, _Condition((257, 56), 2, _WRITES | _TMPFILE, 0)),
    ("tgkill", _Condition((234, 131), 0, _WORD, _FIRST_PROCESS)),
    # Reading its own limits, never setting them: the pointer to new ones must be null.
    ("prlimit64", _Condition((302, 261), 2, _WORD, 0, high=True)),
    *(("fcntl", _Condition((72, 25), 1, _WORD, command)) for command in _FCNTL_COMMANDS),
)
# Filtering itself further, while it may start threads, and giving privileges up, while it sets up.
_IF_THREADS = (("seccomp", _Condition((317, 277), 1, _WORD, kernel.SECCOMP_FILTER_FLAG_TSYNC)),)
_IF_SETTING_UP = tuple(
    ("prctl", _Condition((157, 167), 0, _WORD, option)) for option in kernel.PRIVILEGE_OPTIONS
)

# struct seccomp_data: nr, arch, instruction pointer (64 bits), arguments (64 bits each).
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


@functools.cache
def program(
    machine: str,
    *,
    writes: bool = False,
    opens: bool = True,
    threads: bool = False,
    sets_up: bool = False,
) -> bytes:
    """The filter as `struct sock_filter`s.

    Args:
        machine: `x86_64` or `aarch64`, as uname(2) says.
        writes: Whether files may be made and written, as preparation does.
        opens: Whether files may be opened, to read.
        threads: Whether threads may be started.
        sets_up: Whether it may set itself up and be sealed yet, which takes `writes` and `threads`
            as well.

    Raises:
        ValueError: Another machine.
    """
    if machine not in _AUDIT_ARCH:
        raise ValueError(f"no list of system calls for {machine}")
    place = 0 if machine == _X86_64 else 1
    parts = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER),
    ]
    if machine == _X86_64:
        parts += [
            _instruction(_JUMP_GREATER_EQUAL, _X32_BIT, 0, 1),
            _instruction(_RETURN, _KILL_PROCESS),
        ]
    lists = [_FREELY, *([_WRITING] if writes or sets_up else []), *([_SETTING_UP] * sets_up)]
    for numbers in itertools.chain.from_iterable(calls.values() for calls in lists):
        number = numbers[place]
        if number is not None:
            parts += [_instruction(_JUMP_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    threads = threads or sets_up
    left_out = {name for name, is_in in ((_OPEN, opens), (_CLONE, threads)) if not is_in}
    conditions = (*_IF, *(_IF_THREADS if threads else ()), *(_IF_SETTING_UP if sets_up else ()))
    for name, condition in conditions:
        if name not in left_out:
            parts += _if(condition, place)
    parts += [
        _instruction(_JUMP_EQUAL, _CLONE3, 0, 1),
        _instruction(_RETURN, _ERRNO | errno.ENOSYS),
        _instruction(_RETURN, _ERRNO | errno.EPERM),
    ]
    return b"".join(parts)


def _if(condition: _Condition, place: int) -> Sequence[bytes]:
    low = _ARGUMENTS + 8 * condition.argument  # both machines are little-endian
    checks = [
        _instruction(_LOAD, low),
        _instruction(_AND, condition.mask),
        _instruction(_JUMP_EQUAL, condition.value, 0, 2 if condition.high else 1),
    ]
    if condition.high:
        checks += [_instruction(_LOAD, low + 4), _instruction(_JUMP_EQUAL, 0, 0, 1)]
        checks[2] = _instruction(_JUMP_EQUAL, condition.value, 0, 3)
    body = [
        *checks,
        _instruction(_RETURN, _ALLOW),
        _instruction(_LOAD, _NUMBER),  # another condition may allow it
    ]
    return [_instruction(_JUMP_EQUAL, condition.number[place], 0, len(body)), *body]


def restrict(
    *, writes: bool = False, opens: bool = True, threads: bool = False, sets_up: bool = False
) -> None:
    """Filters the calls of every thread of this process, for good; again allows only less.

    Args:
        writes: See `program`.
        opens: See `program`.
        threads: See `program`.
        sets_up: See `program`.

    Raises:
        OSError: The kernel has no seccomp filters.
        ValueError: There is no list for this machine.
    """
    machine = platform.machine()
    kernel.filter_calls(
        program(machine, writes=writes, opens=opens, threads=threads, sets_up=sets_up)
    )


def names() -> frozenset[str]:
    """Every call that a sealed worker may make, of any kind and under whatever condition."""
    return frozenset([*_FREELY, *_WRITING, *(name for name, _ in _IF)])
