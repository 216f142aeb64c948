"""Memory that address space doesn't count, and what is left of the groups that limit it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from escape_world import BwrapPrison, descendants

from luoshu.sandbox.errors import SandboxFailureError
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.cgroups import Groups
from luoshu.sandbox.isolation.port import MIB, IsolationConfig, Limits, WorkerError, WorkerSpec
from luoshu.sandbox.isolation.worker_process import WorkerProcess
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import ReleaseRules, Sandbox

pytestmark = pytest.mark.system

SAID = "its memory limit ended it"
NARROW = replace(Limits(), memory_bytes=512 * MIB, tmp_bytes=400 * MIB, file_bytes=400 * MIB)


@pytest.fixture
def groups() -> Iterator[Groups]:
    made = Groups.find()
    if made is None:
        pytest.skip("this process may make no control groups with a memory limit")
    yield made
    made.close()


async def ended_by_memory(worker: WorkerProcess) -> bool:
    with pytest.raises(WorkerError):
        await worker.receive()
    end = await worker.wait()
    return end.status == "signal SIGKILL" and SAID in end.log


async def held(prison: BwrapPrison, payload: str, files: int) -> WorkerProcess:
    handed = [os.memfd_create("attempt") for _ in range(files)]
    try:
        return await prison.hold(payload, handed, NARROW)
    finally:
        for file in handed:
            os.close(file)


FILLED = "for file in files: [os.write(file, bytes(1 << 20)) for _ in range({})]\n"


@pytest.mark.usefixtures("groups")
async def test_files_in_memory_and_heap_are_limited_together(bwrap_prison: BwrapPrison) -> None:
    within = "heap = bytearray(b'x') * (100 << 20)\ntell(len(heap))"
    worker = await held(bwrap_prison, FILLED.format(300) + within, 1)
    assert await worker.receive() == {"said": 100 * MIB}
    await worker.stop()
    beyond = "heap = bytearray(b'x') * (250 << 20)\ntell(len(heap))"
    worker = await held(bwrap_prison, beyond, 0)  # alone it is within the limit
    assert await worker.receive() == {"said": 250 * MIB}
    await worker.stop()
    worker = await held(bwrap_prison, FILLED.format(300) + beyond, 1)
    assert await ended_by_memory(worker)


@pytest.mark.usefixtures("groups")
async def test_many_files_in_memory_are_limited_together(bwrap_prison: BwrapPrison) -> None:
    worker = await held(bwrap_prison, FILLED.format(300) + "tell('filled')", 8)
    assert await ended_by_memory(worker)


@pytest.mark.usefixtures("groups")
async def test_preparation_fills_tmp_and_heap_and_is_gone(bwrap_prison: BwrapPrison) -> None:
    wall = bwrap_prison.wall
    code = """
with open("/tmp/filled", "wb") as file:
    for _ in range(300):
        file.write(bytes(1 << 20))
heap = bytearray(b"x") * (300 << 20)
"""
    spec = WorkerSpec("prepare", (), NARROW)
    worker = await wall.start_command(spec, wall.runtime.code_command(code))
    with pytest.raises(WorkerError):
        await worker.receive()
    assert SAID in (await worker.wait()).log


@pytest.mark.usefixtures("groups")
async def test_entrance_of_the_group_is_not_left_open(bwrap_prison: BwrapPrison) -> None:
    worker = await bwrap_prison.hold("tell(1)\ntime.sleep(60)")
    await worker.receive()
    try:
        for pid in bwrap_prison.workers():
            links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: ASYNC240
            assert not any("cgroup" in link for link in links)
    finally:
        await worker.stop()


@pytest.mark.usefixtures("groups")
async def test_analyst_is_told_nothing_and_the_holder_is(visits: PreparedProduct) -> None:
    wall = BwrapIsolation(IsolationConfig(ready=0, ready_most=0))
    assert wall._groups is not None
    with closing(Sandbox(wall)) as sandbox:
        async with sandbox.computation(
            [visits], ReleaseRules(), "SELECT sex, count(*) FROM visits GROUP BY sex"
        ) as computation:
            await computation.verify()
            for group in wall._groups.path.glob("*/"):
                narrow(group)
            with pytest.raises(SandboxFailureError) as raised:
                await computation.compute()
    assert raised.value.message == SandboxFailureError("").message
    assert SAID in raised.value.detail


def narrow(group: Path) -> None:
    """Leaves a group no more than it has."""
    if (group / "memory.max").exists():
        (group / "memory.max").write_text((group / "memory.current").read_text())
    else:
        used = (group / "memory.usage_in_bytes").read_text()
        (group / "memory.limit_in_bytes").write_text(used)


async def test_no_group_outlives_its_worker_nor_its_node(bwrap_prison: BwrapPrison) -> None:
    with closing(BwrapIsolation(IsolationConfig(ready=2))) as wall:
        if wall._groups is None:
            pytest.skip("this process may make no control groups with a memory limit")
        path = wall._groups.path
        wall.warm_up()
        limits = wall.config.limits_of("release")
        first = await wall.start(WorkerSpec("release", (), limits))
        groups = set(path.glob("*/"))
        await first.stop()
        for _ in range(3):
            await (await wall.start(WorkerSpec("release", (), limits))).stop()
        left = set(path.glob("*/"))
        assert len(left) == 6  # two ready of each kind
        assert not groups <= left
    assert not path.exists()


KILLED = """
import asyncio, sys
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig, WorkerSpec
async def main():
    wall = BwrapIsolation(IsolationConfig(ready=2))
    wall.warm_up()
    worker = await wall.start(WorkerSpec("release", (), wall.config.limits_of("release")))
    await worker.receive()
    print(wall.launcher, wall._groups.path, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_groups_of_a_killed_node_are_removed_by_the_next(groups: Groups) -> None:
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, stdout=subprocess.PIPE
    )
    assert node.stdout is not None
    launcher, _, path = (await node.stdout.readline()).decode().strip().partition(" ")
    everyone = [os.pidfd_open(pid) for pid in {int(launcher), *descendants(int(launcher))}]
    with closing(BwrapIsolation(IsolationConfig())):
        assert len(list(Path(path).glob("*/"))) > 2  # it lives: they are not touched  # noqa: ASYNC240
    node.send_signal(signal.SIGKILL)
    await node.wait()
    loop = asyncio.get_running_loop()
    for descriptor in everyone:
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        await asyncio.wait_for(gone.wait(), 5)
        loop.remove_reader(descriptor)
        os.close(descriptor)
    assert Path(path).exists()  # noqa: ASYNC240
    with closing(BwrapIsolation(IsolationConfig())):
        assert not Path(path).exists()  # noqa: ASYNC240
    assert groups.path.exists()
