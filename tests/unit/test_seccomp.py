"""The filter of system calls, run instruction by instruction as the kernel does."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoshu.sandbox.worker.enclosure import seccomp

ALLOWED, KILLED = 0x7FFF_0000, 0x8000_0000
REFUSED, ABSENT = 0x0005_0000 | errno.EPERM, 0x0005_0000 | errno.ENOSYS
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = pytest.mark.parametrize("machine", ARCHITECTURES)


def verdict(
    machine: str,
    number: int,
    *arguments: int,
    architecture: int | None = None,
    opens: bool = True,
    threads: bool = False,
    sets_up: bool = False,
) -> int:
    """What the kernel would answer; see `seccomp(2)` and the kernel's net/core/filter.c."""
    stated = ARCHITECTURES[machine] if architecture is None else architecture
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, stated, 0, *(value & (1 << 64) - 1 for value in padded))
    program = seccomp.program(machine, opens=opens, threads=threads, sets_up=sets_up)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += if_true if accumulator == value else if_false
        elif code == 0x35:
            at += if_true if accumulator >= value else if_false
        else:
            assert code == 0x06
            return int(value)


@MACHINES
@given(number=st.integers(0, 0x3FFF_FFFF), arguments=st.lists(st.integers(0, 2**64 - 1)))
def test_what_is_not_listed_is_refused(machine: str, number: int, arguments: list[int]) -> None:
    place = list(ARCHITECTURES).index(machine)
    listed = {numbers[place] for numbers in seccomp._FREELY.values()}
    listed |= {condition.number[place] for _, condition in seccomp._IF}
    answer = verdict(machine, number, *arguments)
    if number == 435:
        assert answer == ABSENT
    elif number not in listed:
        assert answer == REFUSED


@MACHINES
def test_every_number_below_a_thousand(machine: str) -> None:
    place = list(ARCHITECTURES).index(machine)
    free = {numbers[place] for numbers in seccomp._FREELY.values()} - {None}
    allowed = {number for number in range(1000) if verdict(machine, number) == ALLOWED}
    # Without arguments these ask for nothing that is refused.
    harmless = {"mmap", "mprotect", "openat", "prlimit64"}
    conditional = {c.number[place] for name, c in seccomp._IF if name in harmless}
    assert allowed == free | conditional


@MACHINES
def test_another_architecture_kills(machine: str) -> None:
    for architecture in (0, 0x40000003, 0x40000028, *ARCHITECTURES.values()):
        if architecture != ARCHITECTURES[machine]:
            assert verdict(machine, 0, architecture=architecture) == KILLED


def test_the_x32_interface_kills() -> None:
    assert verdict("x86_64", 0x4000_0000) == verdict("x86_64", 0xFFFF_FFFF) == KILLED


def number_of(machine: str, name: str) -> int:
    place = list(ARCHITECTURES).index(machine)
    return next(condition.number[place] for wanted, condition in seccomp._IF if wanted == name)


@MACHINES
@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("mmap", [0, 0, 3], [0, 0, 4]),
        ("mmap", [0, 0, 0], [0, 0, 7]),
        ("mprotect", [0, 0, 1], [0, 0, 5]),
        ("clone", [0x0001_0F00], [17]),
        ("clone", [0x003D_0F00], [0x003D_0F00 | 0x1000_0000]),
        ("clone", [0x0001_0000], [0x0001_0000 | 0x80]),
        ("openat", [0, 0, os.O_RDONLY | os.O_CLOEXEC], [0, 0, os.O_WRONLY]),
        ("openat", [0, 0, 0], [0, 0, os.O_RDWR]),
        ("openat", [0, 0, 0], [0, 0, os.O_CREAT]),
        ("openat", [0, 0, 0], [0, 0, os.O_TRUNC]),
        ("openat", [0, 0, 0], [0, 0, os.O_APPEND]),
        ("openat", [0, 0, 0], [0, 0, os.O_TMPFILE]),
        ("tgkill", [1, 5, 6], [2, 5, 6]),
        ("prlimit64", [0, 7, 0, 1], [0, 7, 1, 1]),
        ("prlimit64", [0, 7, 0], [0, 7, 1 << 32]),
        ("fcntl", [3, fcntl.F_GETFL], [3, fcntl.F_SETFL]),
        ("fcntl", [3, fcntl.F_DUPFD_CLOEXEC, 0], [3, fcntl.F_SETLK]),
        ("fcntl", [3, fcntl.F_GETFD], [3, fcntl.F_NOTIFY]),
    ],
)
def test_conditions(machine: str, name: str, allowed: list[int], refused: list[int]) -> None:
    number = number_of(machine, name)
    assert verdict(machine, number, *allowed, threads=True) == ALLOWED
    assert verdict(machine, number, *refused, threads=True) == REFUSED


def test_a_machine_without_a_list_is_an_error() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.program("riscv64")


@MACHINES
def test_without_landlock_nothing_is_opened(machine: str) -> None:
    number = (257, 56)[list(ARCHITECTURES).index(machine)]
    assert verdict(machine, number, 0, 0, os.O_RDONLY) == ALLOWED
    assert verdict(machine, number, 0, 0, os.O_RDONLY, opens=False) == REFUSED


@MACHINES
def test_who_waits_may_do_what_set_up_takes_and_nothing_else(machine: str) -> None:
    place = list(ARCHITECTURES).index(machine)
    listed = (seccomp._FREELY, seccomp._WRITING, seccomp._SETTING_UP)
    free = {numbers[place] for calls in listed for numbers in calls.values()} - {None}
    allowed = {
        number for number in range(1000) if verdict(machine, number, sets_up=True) == ALLOWED
    }
    harmless = {"mmap", "mprotect", "openat", "prlimit64"}  # without arguments
    conditional = {c.number[place] for name, c in seccomp._IF if name in harmless}
    assert allowed == free | conditional


@MACHINES
def test_who_waits_may_give_privileges_up_and_still_dies_with_its_parent(machine: str) -> None:
    prctl = (157, 167)[list(ARCHITECTURES).index(machine)]
    no_new_privileges, parent_death_signal = 38, 1
    assert verdict(machine, prctl, no_new_privileges, 1, sets_up=True) == ALLOWED
    assert verdict(machine, prctl, parent_death_signal, 0, sets_up=True) == REFUSED
    assert verdict(machine, prctl, no_new_privileges, 1) == REFUSED


@MACHINES
def test_filters_are_added_until_threads_end_and_none_has_a_listener(machine: str) -> None:
    call = (317, 277)[list(ARCHITECTURES).index(machine)]
    filtering, for_all_threads, listening = 1, 1, 8
    assert verdict(machine, call, filtering, for_all_threads, threads=True) == ALLOWED
    assert verdict(machine, call, filtering, for_all_threads, sets_up=True) == ALLOWED
    assert verdict(machine, call, filtering, listening, sets_up=True) == REFUSED
    assert verdict(machine, call, filtering, for_all_threads) == REFUSED


@MACHINES
def test_threads_are_started_before_a_worker_is_sealed_only(machine: str) -> None:
    clone, thread = number_of(machine, "clone"), 0x003D_0F00
    assert verdict(machine, clone, thread, sets_up=True) == ALLOWED
    assert verdict(machine, clone, thread) == REFUSED
