"""A worker taken over before it is sealed: while it waits, or by the file that it sets up with.

Behind bubblewrap, where zygote, watchers and workers are one user in nested process namespaces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from escape_world import BwrapPrison, workers_below

from luoshu.sandbox.isolation.pool import Pool

pytestmark = pytest.mark.system

# name: number on x86-64, arguments
CALLS: dict[str, tuple[int, ...]] = {
    "socket_inet": (41, 2, 1, 0),
    "socket_netfilter": (41, 16, 3, 12),
    "socketpair": (53, 1, 1, 0, 0),
    "sendmsg_with_descriptors": (46, 0, 0, 0),
    "shmget": (29, 0, 4096, 0o1600),
    "pipe2": (293, 0, 0),
    "fork": (57,),
    "clone_a_process": (56, 17, 0, 0, 0, 0),
    "clone_into_a_user_namespace": (56, 0x1000_0011, 0, 0, 0, 0),
    "execve": (59, 0, 0, 0),
    "kill_its_group": (62, 0, 15),
    "kill_all": (62, (1 << 64) - 1, 9),
    "tgkill_another_process": (234, 2, 2, 9),
    "pidfd_open": (434, 1, 0),
    "ptrace_traceme": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "outlive_its_watcher": (157, 1, 0, 0, 0, 0),
    "setpriority_of_its_user": (141, 2, 0, 10),
    "unshare_user": (272, 0x1000_0000),
    "unshare_mounts": (272, 0x0002_0000),
    "setns": (308, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount2": (166, 0, 2),
    "fsopen": (430, 0, 0),
    "open_tree": (428, 0, 0, 1),
    "setuid_root": (105, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "keyctl_of_the_session": (250, 0, 0xFFFF_FFFD, 0),
    "add_key": (248, 0, 0, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "seccomp_listener": (317, 1, 8, 0),
    "userfaultfd": (323, 0),
    "ioctl_tiocsti": (16, 0, 0x5412, 0),
    "setrlimit": (160, 7, 0),
    "name_to_handle_at": (303, 0, 0, 0, 0, 0),
    "mknod_disk": (133, 0, 0o60600, 0x800),
    "splice": (275, 0, 0, 1, 0, 1, 0),
}


async def test_what_set_up_does_not_need_is_refused(bwrap_prison: BwrapPrison) -> None:
    payload = f"""
        tell({{name: attempt(lambda: call(*numbers)) for name, numbers in {CALLS}.items()}})
    """
    said = await bwrap_prison.run(payload, is_sealed=False)
    assert said == {name: ["failed", "EPERM"] for name in CALLS}


async def test_no_capability_is_left_while_it_waits(bwrap_prison: BwrapPrison) -> None:
    payload = """
        held = (ctypes.c_uint32 * 6)()
        header = (ctypes.c_uint32 * 2)(0x20080522)
        tell([LIBC.prctl(23, 21), attempt(lambda: call(126, ctypes.addressof(header),
             ctypes.addressof((ctypes.c_uint32 * 6)(1 << 21, 1 << 21))))])
    """
    assert await bwrap_prison.run(payload, is_sealed=False) == [0, ["failed", "EPERM"]]


@pytest.fixture
def unfenced(bwrap_prison: BwrapPrison) -> Iterator[Pool]:
    """Workers without a filter: what else there is must hold by itself."""
    *command, code = bwrap_prison.command()
    code = code.replace("zygote.serve", "zygote.fence = lambda: None\nzygote.serve")
    wall = bwrap_prison.wall
    pool = wall.pool_of("stage1", [*command, code], wall.config.limits_of("stage1"))
    yield pool
    pool.close()


async def test_signal_to_its_group_reaches_nobody_else(
    bwrap_prison: BwrapPrison, unfenced: Pool
) -> None:
    wall, limits = bwrap_prison.wall, bwrap_prison.wall.config.limits_of("stage1")
    other = await wall.take(unfenced, limits)
    worker = await wall.take(unfenced, limits)
    # Groups know no namespaces: the zygote, its watchers and all that it forked were in one.
    await worker.send({"code": "call(62, 0, 15)\ntell(1)", "is_sealed": False})
    assert (await worker.receive())["said"] == 1
    await worker.stop()
    await other.send({"code": "tell(2)"})
    assert (await other.receive())["said"] == 2
    await other.stop()
    assert unfenced._zygote is not None
    assert not unfenced._zygote.has_ended()


async def test_worker_that_has_itself_traced_is_ended_all_the_same(
    bwrap_prison: BwrapPrison, unfenced: Pool
) -> None:
    # Its watcher was told of a stop, took it for the end, and left it behind for good.
    wall, limits = bwrap_prison.wall, bwrap_prison.wall.config.limits_of("stage1")
    worker = await wall.take(unfenced, limits)
    code = """
call(157, 1, 0, 0, 0, 0)
call(101, 0, 0, 0, 0)
tell("traced")
call(62, 1, 10)
time.sleep(60)
"""
    await worker.send({"code": code, "is_sealed": False})
    assert (await worker.receive())["said"] == "traced"
    for _ in range(500):
        if worker._status_task.done() or any(map(is_traced, workers_below(wall.launcher))):
            break
        await asyncio.sleep(0.01)
    end = await worker.stop()
    assert end.status == "signal SIGKILL"
    assert not workers_below(wall.launcher)


def is_traced(pid: int) -> bool:
    try:
        return "State:\tt" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # it ended meanwhile
