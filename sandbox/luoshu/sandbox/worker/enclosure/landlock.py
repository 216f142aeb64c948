"""A second fence around files: a sealed worker may read its own code, and open nothing else.

Landlock needs no privilege and holds even where a mount was forgotten. It is there from Linux 5.13
on; without it the wall is namespaces and seccomp alone.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence

from luoshu.sandbox.worker.enclosure import kernel

_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# How many file-system rights each version of the ABI knows (landlock(7)).
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_ABI, _NET_RIGHTS = 4, 0b11  # bind and connect TCP
_SCOPE_ABI, _SCOPES = 6, 0b11  # abstract unix sockets, signals


def version() -> int:
    """Version of the kernel's Landlock ABI; 0 if it has none, or it is switched off."""
    try:
        return kernel.landlock(kernel.SYS_LANDLOCK_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP}:
            return 0
        raise


def restrict(directories: Sequence[str], files: Sequence[int] = ()) -> None:
    """Forbids this thread, and those that it starts from now on, all files but some to read.

    Args:
        directories: Below which files may be read; those that aren't there are skipped.
        files: Open ones that may be opened again, to read.

    Raises:
        OSError: The kernel has Landlock, and refused.
    """
    abi = version()
    if not abi:
        return
    handled = (1 << _RIGHTS.get(abi, _RIGHTS[5])) - 1
    network = _NET_RIGHTS if abi >= _NET_ABI else 0
    scopes = _SCOPES if abi >= _SCOPE_ABI else 0
    attribute = struct.pack("=QQQ", handled, network, scopes)
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _NET_ABI else 8
    ruleset = kernel.landlock(kernel.SYS_LANDLOCK_CREATE_RULESET, kernel.buffer(attribute), size, 0)
    try:
        for directory in directories:
            _allow_below(ruleset, directory)
        for file in files:
            _allow(ruleset, file, _READ_FILE)
        kernel.landlock(kernel.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_below(ruleset: int, directory: str) -> None:
    try:
        beneath = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _allow(ruleset, beneath, _READ_FILE | _READ_DIR)
    finally:
        os.close(beneath)


def _allow(ruleset: int, place: int, rights: int) -> None:
    rule = kernel.buffer(struct.pack("=Qi", rights, place))
    kernel.landlock(kernel.SYS_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
