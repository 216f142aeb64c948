"""Faults that an attack on the launching of workers found."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from escape_world import descendants, workers_below
from sandbox_world import write_product

from luoshu.sandbox.errors import SandboxFailureError
from luoshu.sandbox.history_port import NoHistory
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import ReleaseRules, Sandbox
from luoshu.sandbox.spawner import describe

pytestmark = pytest.mark.system


_KINDS = 3


@pytest.fixture
def own_sandbox() -> Iterator[Sandbox]:
    started = Sandbox(BwrapIsolation(IsolationConfig(ready=1, ready_most=1)))
    yield started
    started.close()


async def test_cancelling_while_workers_start_leaves_nothing(
    own_sandbox: Sandbox, visits: PreparedProduct
) -> None:
    # Whatever turn of the event loop it comes at: a worker whose pipes were not open yet was
    # left behind with them, waiting for a job for ever.
    launcher = own_sandbox.isolation.launcher  # type: ignore[attr-defined]

    def held() -> tuple[int, int, int]:
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            len(list(Path(f"/proc/{launcher}/fd").iterdir())),
            len(descendants(launcher)),
        )

    async def compute() -> None:
        sql = "SELECT count(*) FROM visits"
        async with own_sandbox.computation([visits], ReleaseRules(), sql) as computation:
            await computation.verify()

    async def settled() -> tuple[int, int, int]:
        for _ in range(100):
            if len(workers_below(launcher)) == _KINDS:  # one of each kind is kept ready
                break
            await asyncio.sleep(0.05)
        return held()

    await compute()
    before = await settled()
    for turns in range(24):
        task = asyncio.create_task(compute())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert await settled() == before


class Killing(NoHistory):
    """Kills a process before anything is decided."""

    zygote = 0

    @asynccontextmanager
    async def transaction(self, tables: Sequence[str]) -> AsyncIterator[NoHistory]:
        os.kill(self.zygote, signal.SIGKILL)
        yield self


def zygote_of(entry: str, launcher: int) -> int:
    (worker,) = [
        pid
        for pid in workers_below(launcher)
        if f"'{entry}'" in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    return parent_of(parent_of(worker))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


BY_SEX = "SELECT sex, count(*) FROM visits GROUP BY sex"


async def test_contributions_of_a_worker_whose_end_nobody_saw_are_not_used(
    visits: PreparedProduct,
) -> None:
    # Its status pipe closes with its zygote, whatever it does itself.
    with closing(BwrapIsolation(IsolationConfig(ready=0, ready_most=0))) as wall:
        history = Killing()
        computation = Sandbox(wall).computation([visits], ReleaseRules(), BY_SEX, history)
        async with computation:
            await computation.verify()
            history.zygote = zygote_of("stage1", wall.launcher)
            os.kill(history.zygote, signal.SIGSTOP)  # it can't say any more how its workers ended
            with pytest.raises(SandboxFailureError) as raised:
                await computation.compute()
    assert "nobody saw" in raised.value.detail


STARVED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (56, 56))
resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 20, 32 << 20))
from luoshu.sandbox.dry_run import dry_run
(answer,) = dry_run([sys.argv[1]], ["SELECT count(*) FROM visits"])
print(answer["status"], answer["rows"])
"""


def test_host_that_allows_less_than_a_worker_may_use(tmp_path: Path) -> None:
    # A plain user can't raise a hard limit: asking for more than it failed every worker.
    run = subprocess.run(
        [sys.executable, "-c", STARVED, str(write_product(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stdout == "released [[600]]\n", run.stderr


@pytest.mark.parametrize(
    ("status", "said"),
    [(9, "signal SIGKILL"), (signal.SIGRTMIN + 3, "signal 37"), (3 << 8, "exit 3")],
)
def test_end_of_a_worker_is_described_whatever_it_is(status: int, said: str) -> None:
    # An unnamed signal would have ended the launcher, and with it every worker.
    assert describe(status) == said
