"""A control group for each worker, with a limit on all the memory that it makes the kernel use.

What is counted is what RLIMIT_AS doesn't see: pages of /tmp, of files in memory that a worker was
handed, and of the kernel on its behalf. Groups are made here, outside the wall; a worker enters its
own through a descriptor as the first thing it does, and sees nothing of it from then on.

Both versions of the interface are used (cgroups(7)). In version 2 only a group without processes
can pass the memory controller on, so the node must stand in a group of its own below the one that
was delegated to it, as systemd's `DelegateSubgroup=` makes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from luoshu.sandbox.errors import SandboxUnavailableError
from luoshu.sandbox.isolation.launcher_client import linker_environment
from luoshu.sandbox.isolation.lending import NOBODY

_PREFIX = "luoshu."
_SAID = "its memory limit ended it\n"
_CLOSING_SECONDS = 1.0
_LOOK_SECONDS = 0.002
_TRIAL_SECONDS = 20
_ATTEMPTS = 3
_MARKS = ("user.delegate", "trusted.delegate")  # which systemd sets, cgroup delegation
# Enters as the workers of such a node do: as another user than opened the descriptor.
_TRIAL = f"import os; os.getuid() or os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); os.write(0, b'0')"


@dataclass(frozen=True, slots=True)
class _Version:
    """The names that one version of the interface has.

    Attributes:
        name: For people.
        limit: File with the limit, in bytes.
        swap: File with the limit of swapping, absent where nothing is swapped.
        swaps_too: Whether the latter is of memory and swap together.
        events: File that counts processes killed.
    """

    name: str
    limit: str
    swap: str
    swaps_too: bool
    events: str


_V1 = _Version(
    "cgroup v1",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    swaps_too=True,
    events="memory.oom_control",
)
_V2 = _Version(
    "cgroup v2", "memory.max", "memory.swap.max", swaps_too=False, events="memory.events"
)


class Group:
    """The group of one worker."""

    def __init__(self, groups: Groups, path: Path) -> None:
        self._groups = groups
        self._path = path

    def open(self) -> int:
        """A descriptor through which a process enters, by writing `0`; the caller's to close.

        Raises:
            SandboxUnavailableError: It is gone.
        """
        try:
            return os.open(self._path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unavailable(error) from None

    def close(self) -> str:
        """Removes it, now or once the worker is gone; again is harmless.

        Returns:
            Words for the operational log if a process in it was killed for want of memory.
        """
        return self._groups.remove(self._path)


class Groups:
    """All groups of one node, below a group of its own.

    The node holds a lock on that as long as it lives, whatever ends it. One whose lock is free
    belongs to nobody any more, and is removed by who starts next.

    Attributes:
        path: The node's own group.
    """

    def __init__(self, base: Path, version: _Version) -> None:
        """Makes the node's group, and removes what nodes that were killed left there.

        Raises:
            OSError: It can't be made here, or a worker couldn't enter.
        """
        self._version = version
        self._lock = threading.Lock()
        self._number = 0
        self._left: list[Path] = []
        _remove_abandoned(base)
        if version is _V2:
            _pass_on(base)
        self.path, self._held = _made(base)
        try:
            if version is _V2:
                _pass_on(self.path)
            self._try_once()
        except BaseException:
            self.close()
            raise

    @classmethod
    def find(cls) -> Self | None:
        """Groups where this process may make them, or None; takes 20 ms."""
        for base, version in _places():
            with suppress(OSError, SandboxUnavailableError, subprocess.SubprocessError):
                return cls(base, version)
        return None

    @property
    def name(self) -> str:
        """Which version of the interface it is."""
        return self._version.name

    def make(self, memory_bytes: int) -> Group:
        """Makes a group for a worker; takes a tenth of a millisecond.

        Raises:
            SandboxUnavailableError: It can't be made any more.
        """
        with self._lock:
            left, self._left = self._left, []
            self._number += 1
            path = self.path / str(self._number)
        for one in left:
            self.remove(one)
        try:
            path.mkdir()
            (path / self._version.limit).write_text(str(memory_bytes))
            swap = path / self._version.swap
            if swap.exists():
                swap.write_text(str(memory_bytes if self._version.swaps_too else 0))
        except OSError as error:
            self.remove(path)
            raise _unavailable(error) from None
        return Group(self, path)

    def remove(self, path: Path) -> str:
        """See `Group.close`."""
        try:
            events = (path / self._version.events).read_text()
            path.rmdir()
        except FileNotFoundError:
            return ""
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            with self._lock:
                self._left.append(path)
        return _SAID if re.search(r"^oom_kill [1-9]", events, re.MULTILINE) else ""

    def _try_once(self) -> None:
        group = self.make(1 << 30)
        try:
            entrance = group.open()
            try:
                subprocess.run(  # noqa: S603 - our own interpreter
                    [sys.executable, "-I", "-S", "-c", _TRIAL],
                    stdin=entrance,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    check=True,
                    timeout=_TRIAL_SECONDS,
                    env=linker_environment(),
                )
            finally:
                os.close(entrance)
        finally:
            group.close()

    def close(self) -> None:
        """Removes all, once the workers are gone, for which it waits a second; again is harmless.

        What is still there then is left to who starts next.
        """
        if self._held < 0:
            return
        deadline = time.monotonic() + _CLOSING_SECONDS
        while not _removed(self.path) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        os.close(self._held)
        self._held = -1


def _places() -> Iterator[tuple[Path, _Version]]:
    """Where this process may have groups below: its own, or the delegated one above."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        root, point = mount.split()[3:5]
        kind, _, options = system.split()[:3]
        if kind == "cgroup" and "memory" in options.split(","):
            version = _V1
            found = [path for names, path in own.items() if "memory" in names.split(",")]
        elif kind == "cgroup2":
            version, found = _V2, [path for names, path in own.items() if not names]
        else:
            continue
        path = found[0] if found else ""
        if not Path(path).is_relative_to(root):
            continue  # what this process is in can't be seen from here
        place = Path(point) / Path(path).relative_to(root)
        yield place, version
        if version is _V2 and place != Path(point) and _is_delegated(place.parent):
            yield place.parent, version


def _is_delegated(place: Path) -> bool:
    for mark in _MARKS:
        with suppress(OSError):
            if os.getxattr(place, mark) == b"1":
                return True
    return False


def _pass_on(place: Path) -> None:
    """Has the groups below one limit memory."""
    control = place / "cgroup.subtree_control"
    if "memory" not in control.read_text().split():
        control.write_text("+memory")


def _made(base: Path) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}.", dir=base))
        with suppress(OSError):  # another node takes it for an abandoned one
            return path, _locked(path)
        with suppress(OSError):
            path.rmdir()
    raise OSError(errno.EAGAIN, f"no group can be made in {base}")


def _locked(path: Path) -> int:
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.stat()  # it may have been removed before it was locked
    except BaseException:
        os.close(held)
        raise
    return held


def _remove_abandoned(base: Path) -> None:
    for path in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody holds it, or it is another user's, or has just gone
            held = _locked(path)
            try:
                _removed(path)
            finally:
                os.close(held)


def _removed(path: Path) -> bool:
    """Removes a node's group and those in it; whether it is gone."""
    for child in path.glob("*/"):
        with suppress(OSError):
            child.rmdir()
    with suppress(FileNotFoundError):
        try:
            path.rmdir()
        except OSError:
            return False
    return True


def _unavailable(error: OSError) -> SandboxUnavailableError:
    return SandboxUnavailableError(
        "No control group can be made for a worker any more; restart the node.", str(error)
    )
