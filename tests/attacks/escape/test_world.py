"""Other processes: a taken-over worker is alone, nobody, and gone when it should be."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from escape_world import Prison, descendants

from luoshu.sandbox.isolation.pool import Pool
from luoshu.sandbox.isolation.port import WorkerError
from luoshu.sandbox.isolation.worker_process import WorkerProcess

pytestmark = pytest.mark.system


async def test_worker_is_the_first_of_its_process_namespace(prison: Prison) -> None:
    assert await prison.run("tell(os.getpid())") == 1


async def test_worker_is_nobody_here_and_on_the_host(prison: Prison) -> None:
    worker = await prison.hold("tell(1)\ntime.sleep(60)")
    await worker.receive()
    try:
        uids = set()
        for pid in descendants(prison.wall.launcher):
            status = Path(f"/proc/{pid}/status").read_text()  # noqa: ASYNC240
            text = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            if len(text["NSpid"].split()) > 2:
                uids |= set(text["Uid"].split())
                assert int(text["CapEff"], 16) == int(text["CapPrm"], 16) == 0
                assert int(text["CapBnd"], 16) == 0
                assert text["NoNewPrivs"] == "1"
                assert text["Seccomp"] == "2"
        assert uids == {"65534" if os.geteuid() == 0 else str(os.geteuid())}
    finally:
        await worker.stop()


async def test_two_workers_share_no_random_numbers(prison: Prison) -> None:
    payload = """
        connection = setup._opened.pop()
        engine.seed(connection, os.urandom(4))
        row = connection.execute("SELECT random(), gen_random_uuid()::VARCHAR").fetchone()
        tell([os.urandom(8).hex(), str(random.random()), *map(str, row)])
    """
    one, other = [await prison.run(payload) for _ in range(2)]
    assert not set(one) & set(other)
    careless = payload.replace("engine.seed", "(lambda *_: None)")
    one, other = [await prison.run(careless) for _ in range(2)]
    assert one[2:] == other[2:]  # what seeding is for


async def test_two_workers_share_no_temporary_directory_nor_names(prison: Prison) -> None:
    payload = """
        tell([os.stat("/tmp").st_dev, os.stat("/proc").st_dev])
        time.sleep(60)
    """
    workers = [await prison.hold(payload) for _ in range(2)]
    try:
        one, other = [(await worker.receive())["said"] for worker in workers]
        assert not set(one) & set(other)
    finally:
        for worker in workers:
            await worker.stop()


async def test_stop_kills_what_ignores_every_signal(prison: Prison) -> None:
    payload = """
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        tell("ready")
        while True:
            pass
    """
    worker = await prison.hold(payload)
    await worker.receive()
    began = time.monotonic()
    end = await worker.stop()
    assert time.monotonic() - began < 1
    assert end.status == "signal SIGKILL"


async def test_fork_bomb_does_not_start(prison: Prison) -> None:
    payload = """
        tell([attempt(os.fork) for _ in range(100)].count(["failed", "EPERM"]))
    """
    assert await prison.run(payload) == 100


async def test_thread_bomb_is_bounded_by_memory(prison: Prison) -> None:
    payload = """
        def bomb():
            for count in range(100_000):
                try:
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                except (RuntimeError, MemoryError):
                    return count
            return count
        tell(bomb() < 99_999)
    """
    limits = replace(prison.wall.config.limits, memory_bytes=512 << 20)
    assert await prison.run(payload, limits=limits) is True


async def test_memory_is_limited(prison: Prison) -> None:
    payload = """
        try:
            bytearray(1 << 30)
        except MemoryError:
            tell("refused")
    """
    limits = replace(prison.wall.config.limits, memory_bytes=512 << 20)
    assert await prison.run(payload, limits=limits) == "refused"


async def test_processor_time_is_limited(prison: Prison) -> None:
    limits = replace(prison.wall.config.limits, cpu_seconds=1)
    worker = await prison.hold("while True: pass", limits=limits)
    with pytest.raises(WorkerError):
        await worker.receive()
    assert (await worker.stop()).status in {"signal SIGXCPU", "signal SIGKILL"}


async def test_size_of_what_it_writes_is_limited(prison: Prison) -> None:
    limits = replace(prison.wall.config.limits, file_bytes=4096)
    payload = """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        tell(attempt(lambda: [os.write(files[0], bytes(4096)) for _ in range(4)]))
    """
    scratch = os.memfd_create("attempt")
    try:
        assert await prison.run(payload, files=[scratch], limits=limits) == ["failed", "EFBIG"]
        assert os.fstat(scratch).st_size <= 4096
    finally:
        os.close(scratch)


async def test_descriptors_are_limited(prison: Prison) -> None:
    payload = """
        tell(attempt(lambda: [os.open("/app", os.O_RDONLY) for _ in range(1000)]))
    """
    assert await prison.run(payload) == ["failed", "EMFILE"]


async def test_crash_leaves_no_core(prison: Prison) -> None:
    worker = await prison.hold("ctypes.string_at(0)")
    assert (await worker.wait()).status == "signal SIGSEGV"


SET_UP: dict[str, object] = {
    "type": "setup",
    "catalogs": [],
    "memory_bytes": 1 << 28,
    "threads": 1,
    "max_rows": 9,
}


@pytest.fixture
def pool(prison: Prison) -> Iterator[Pool]:
    made = prison.wall.pool_of(
        "stage2", prison.wall.runtime.zygote_command("stage2"), prison.wall.config.limits
    )
    yield made
    made.close()


async def works(prison: Prison, pool: Pool) -> WorkerProcess:
    worker = await prison.wall.take(pool, prison.wall.config.limits)
    await worker.send(SET_UP)
    assert await worker.receive() == {"type": "ready"}
    return worker


async def test_pool_passes_over_workers_that_died_while_they_waited(
    prison: Prison, pool: Pool
) -> None:
    pool._least = pool._most = 2
    pool.fill()
    for zygote, number, pipes in pool._ready:
        zygote.stop(number)
        await asyncio.to_thread(os.read, os.dup(pipes.status), 1)
    await (await works(prison, pool)).stop()


async def test_pool_survives_its_zygote(prison: Prison, pool: Pool) -> None:
    before = descendants(prison.wall.launcher)
    worker = await works(prison, pool)
    bubblewrap = min(descendants(prison.wall.launcher) - before)
    os.kill(bubblewrap, signal.SIGKILL)
    with pytest.raises(WorkerError):
        await worker.receive()
    await worker.stop()
    await (await works(prison, pool)).stop()


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


async def test_all_die_with_the_connector(prison: Prison) -> None:
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
