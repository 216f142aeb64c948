"""Other processes: a taken-over worker is alone, nobody, and gone when it should be."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from escape_world import BwrapPrison, Prison

from luoshu.sandbox.isolation.port import WorkerError

pytestmark = pytest.mark.system


async def test_worker_is_the_first_of_its_process_namespace(prison: Prison) -> None:
    assert await prison.run("tell(os.getpid())") == 1


@pytest.mark.host_kernel
async def test_worker_is_nobody_here_and_on_the_host(prison: Prison) -> None:
    worker = await prison.hold("tell(1)\ntime.sleep(60)")
    await worker.receive()
    try:
        uids = set()
        for pid in prison.workers():
            status = Path(f"/proc/{pid}/status").read_text()  # noqa: ASYNC240
            text = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
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
    if isinstance(prison, BwrapPrison):  # there they are forked from one process
        careless = payload.replace("engine.seed", "(lambda *_: None)")
        one, other = [await prison.run(careless) for _ in range(2)]
        assert one[2:] == other[2:]  # what seeding is for


@pytest.mark.host_kernel
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


async def test_thread_bomb_does_not_start(prison: Prison) -> None:
    payload = """
        def start():
            try:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            except RuntimeError:
                return "refused"
        tell([start() for _ in range(100)].count("refused"))
    """
    assert await prison.run(payload) == 100


@pytest.mark.host_kernel
async def test_thread_bomb_of_tiny_stacks_is_bounded_before_it_is_sealed(prison: Prison) -> None:
    """Tens of thousands fit into the address space: all the process numbers of a machine."""
    payload = """
        threading.stack_size(32 << 10)
        def bomb():
            for count in range(1000):
                try:
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                except (RuntimeError, MemoryError):
                    return count
            return count
        tell(bomb())
    """
    assert 2 < await prison.run(payload, is_sealed=False) <= 64


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


@pytest.mark.host_kernel
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
        tell(attempt(lambda: [fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 0) for _ in range(1000)]))
    """
    assert await prison.run(payload) == ["failed", "EMFILE"]


async def test_crash_leaves_no_core(prison: Prison) -> None:
    worker = await prison.hold("ctypes.string_at(0)")
    assert (await worker.wait()).status == "signal SIGSEGV"
