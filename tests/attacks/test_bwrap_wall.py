"""Bubblewrap's own: zygotes, their pool, and what the measurement covers."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from escape_world import BwrapPrison, descendants

from luoshu.sandbox.isolation.launcher_client import LauncherClient
from luoshu.sandbox.isolation.pool import Pool
from luoshu.sandbox.isolation.port import WorkerError
from luoshu.sandbox.isolation.worker_process import WorkerProcess

pytestmark = pytest.mark.system


async def test_measurement_covers_what_workers_see(bwrap_prison: BwrapPrison) -> None:
    payload = """
        places = ("/app", "/python", "/lib")
        files = [os.path.join(at, name) for p in places for at, _, names in os.walk(p)
                 for name in names]
        text = json.dumps([name for name in files if "__pycache__" not in name])
        tell(text)
    """
    measured = {inside for inside, _ in bwrap_prison.wall.runtime.files()}
    # The worker that adds noise sees all that there is; the others see less.
    assert set(json.loads(await bwrap_prison.run(payload, entry="release_dp"))) == {
        path for path in measured if path.startswith(("/app", "/python", "/lib"))
    }
    assert set(json.loads(await bwrap_prison.run(payload))) < measured


SET_UP: dict[str, object] = {
    "type": "setup",
    "catalogs": [],
    "memory_bytes": 1 << 28,
    "threads": 1,
    "max_rows": 9,
}


@pytest.fixture
def pool(bwrap_prison: BwrapPrison) -> Iterator[Pool]:
    made = bwrap_prison.wall.pool_of(
        "stage2",
        bwrap_prison.wall.runtime.zygote_command("stage2"),
        bwrap_prison.wall.config.limits,
    )
    yield made
    made.close()


async def works(bwrap_prison: BwrapPrison, pool: Pool) -> WorkerProcess:
    worker = await bwrap_prison.wall.take(pool, bwrap_prison.wall.config.limits)
    await worker.send(SET_UP)
    assert await worker.receive() == {"type": "ready"}
    return worker


async def test_pool_passes_over_workers_that_died_while_they_waited(
    bwrap_prison: BwrapPrison, pool: Pool
) -> None:
    pool._least = pool._most = 2
    pool.fill()
    for waiting in pool._ready:
        waiting.zygote.stop(waiting.number)
        await asyncio.to_thread(os.read, os.dup(waiting.pipes.status), 1)
    await (await works(bwrap_prison, pool)).stop()


async def test_pool_survives_its_zygote(bwrap_prison: BwrapPrison, pool: Pool) -> None:
    before = descendants(bwrap_prison.wall.launcher)
    worker = await works(bwrap_prison, pool)
    bubblewrap = min(descendants(bwrap_prison.wall.launcher) - before)
    os.kill(bubblewrap, signal.SIGKILL)
    with pytest.raises(WorkerError):
        await worker.receive()
    await worker.stop()
    await (await works(bwrap_prison, pool)).stop()


KILLED = """
import asyncio, sys
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig, WorkerSpec
async def main():
    wall = BwrapIsolation(IsolationConfig(ready=2))
    wall.warm_up()
    worker = await wall.start(WorkerSpec("release", (), wall.config.limits_of("release")))
    await worker.receive()
    print(wall.launcher, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_all_die_with_the_connector(bwrap_prison: BwrapPrison) -> None:
    connector = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, stdout=subprocess.PIPE
    )
    assert connector.stdout is not None
    launcher = int(await connector.stdout.readline())
    everyone = {launcher, *descendants(launcher)}
    assert len(everyone) > 6
    descriptors = [os.pidfd_open(pid) for pid in everyone]
    connector.send_signal(signal.SIGKILL)
    await connector.wait()
    loop = asyncio.get_running_loop()
    for descriptor in descriptors:
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        await asyncio.wait_for(gone.wait(), 5)
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_only_workers_that_wait_while_nothing_is_computed_warm_up(
    bwrap_prison: BwrapPrison,
) -> None:
    wall, limits = bwrap_prison.wall, bwrap_prison.wall.config.limits_of("stage1")
    command = bwrap_prison.command("lambda: os.write(2, b'warm')")
    pool = wall.pool_of("stage1", command, limits)
    pool._least = pool._most = 1

    async def warms_up(seconds: float) -> bool:
        said = pool._ready[0].pipes.log
        return bool((await asyncio.to_thread(select.select, [said], [], [], seconds))[0])

    with closing(pool):
        pool.fill()
        assert await warms_up(10)
        first = await wall.take(pool, limits)
        second = await wall.take(pool, limits)
        await second.stop()
        assert not await warms_up(0.6)  # made ready beside the first
        await first.stop()
        third = await wall.take(pool, limits)
        await third.stop()
        assert await warms_up(10)


async def test_who_waits_touches_memory_until_there_is_something_to_do(
    bwrap_prison: BwrapPrison,
) -> None:
    payload = """
        def held():
            of = setup._opened[-1].execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()")
            return of.fetchone()[0] >> 20
        setup.hold_memory()
        waiting = held()
        setup.engine.give_back(setup._opened[-1])
        tell("I wait")
        asked = select.poll()
        asked.register(0, select.POLLIN)
        asked.poll()
        setup.hold_memory()
        tell([waiting, held()])
    """
    worker = await bwrap_prison.hold(payload)
    assert (await worker.receive())["said"] == "I wait"
    await worker.send({"code": ""})
    waiting, asked = (await worker.receive())["said"]  # type: ignore[misc]
    await worker.stop()
    assert waiting >= 64
    assert asked < 4


ORPHANS = """
import os, time
child = os.fork()
if not child:
    os.setsid()
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("by", ["stop", "close"])
def test_what_a_killed_process_leaves_is_ended(by: str) -> None:
    """As bubblewrap leaves its second process, if it is killed before it has let that go on."""
    launcher = LauncherClient()
    argv = [sys.executable, "-I", "-S", "-c", ORPHANS]
    number, pipes = launcher.start_with_input({"argv": argv, "limits": {}})
    with os.fdopen(os.dup(pipes.output)) as said:
        both = [os.pidfd_open(int(said.readline())) for _ in range(2)]
    if by == "stop":
        launcher.stop(number)
    else:
        launcher.close()
    for descriptor in both:
        assert select.select([descriptor], [], [], 5)[0], "it has ended"
        os.close(descriptor)
    pipes.close()
    launcher.close()
