"""Three workers and a history: what lies where while a computation runs, and after it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sandbox_world import write_product

from luoshu.sandbox.dry_run import dry_run
from luoshu.sandbox.errors import SandboxFailureError
from luoshu.sandbox.history_port import HistoryUnavailableError, NoHistory
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.run import Outcome, ReleaseRules, Sandbox
from luoshu.sandbox.scratch import Scratch, remove_abandoned

pytestmark = pytest.mark.system

BY_WARD = "SELECT ward, count(*) AS n FROM visits GROUP BY ward"
ALL = "SELECT count(*) FROM visits WHERE ward <> 'lone' AND ward <> 'rare'"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox.start(IsolationConfig())
    yield started
    started.close()


@pytest.fixture(scope="module")
def visits(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> PreparedProduct:
    directory = tmp_path_factory.mktemp("visits")
    path = write_product(directory)
    product = load_product_file(path)
    return prepare_product(
        product, directory, directory / "out", sandbox.isolation, directory / "units"
    )


async def ask(sandbox: Sandbox, product: PreparedProduct, sql: str, history: NoHistory) -> Outcome:
    async with sandbox.computation([product], ReleaseRules(), sql, history) as computation:
        await computation.verify()
        return await computation.compute()


class Watched(NoHistory):
    """Looks at what is there when the release stage begins and ends."""

    def __init__(self) -> None:
        super().__init__(bytes(32))
        self.seen: list[list[str]] = []
        self.deltas: list[bytes] = []
        self.fails = False

    @asynccontextmanager
    async def transaction(self, tables: Sequence[str]) -> AsyncIterator[Watched]:
        assert tables == ("visits.visits",)
        self.seen.append(scratch())
        yield self

    async def commit(self, path: Path, digest: str) -> None:
        if self.fails:
            raise HistoryUnavailableError("the disk is full")
        assert digest.startswith("sha256:")
        self.deltas.append(await asyncio.to_thread(path.read_bytes))


def scratch() -> list[str]:
    found = Path("/dev/shm").glob(f"luoshu-cells-{os.getpid()}-*/*/*")
    return sorted(f"{path.parent.name}/{path.name}" for path in found)


async def test_contributions_are_there_for_the_release_stage_and_no_longer(
    sandbox: Sandbox, visits: PreparedProduct
) -> None:
    history = Watched()
    outcome = await ask(sandbox, visits, BY_WARD, history)
    assert [row[0] for row in outcome.rows] == ["free", "w0", "w1", "w2", "w3"]
    assert outcome.withheld_groups == 2  # `rare` and `lone`, which stage 1 dropped
    if shutil.disk_usage("/dev/shm").free > 2 * IsolationConfig().limits.export_bytes:
        assert history.seen == [["cells/0"]]
    assert scratch() == []
    assert len(history.deltas) == 1
    assert history.deltas[0].startswith(b"LUOSHUH1")


async def test_without_a_durable_history_nothing_comes_out(
    sandbox: Sandbox, visits: PreparedProduct
) -> None:
    history = Watched()
    history.fails = True
    with pytest.raises(SandboxFailureError) as failure:
        await ask(sandbox, visits, BY_WARD, history)
    assert "the disk is full" in failure.value.detail
    assert "disk" not in failure.value.message
    assert scratch() == []


async def test_what_stage_1_wrote_is_not_believed(
    sandbox: Sandbox, visits: PreparedProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meddling(Watched):
        @asynccontextmanager
        async def transaction(self, tables: Sequence[str]) -> AsyncIterator[Watched]:
            own = f"luoshu-cells-{os.getpid()}-*/cells/0"
            for path in Path("/dev/shm").glob(own):  # noqa: ASYNC240
                data = bytearray(await asyncio.to_thread(path.read_bytes))
                data[:4] = b"\xff\xff\xff\x7f"
                await asyncio.to_thread(path.write_bytes, data)
            yield self

    if shutil.disk_usage("/dev/shm").free <= 2 * IsolationConfig().limits.export_bytes:
        pytest.fail("this test needs room in /dev/shm")
    history = Meddling()
    with pytest.raises(SandboxFailureError):
        await ask(sandbox, visits, BY_WARD, history)
    assert not history.deltas


def test_scratch_is_on_disk_where_memory_is_short(tmp_path: Path) -> None:
    made = Scratch.make(1 << 60)
    assert not made.cells.is_relative_to("/dev/shm")
    assert made.cells.parent.stat().st_mode & 0o777 == 0o700
    made.remove()
    made.remove()
    assert not made.cells.exists()
    elsewhere = Scratch.make(1, tmp_path / "missing")
    elsewhere.remove()
    here = Scratch.make(1, tmp_path)
    assert here.cells.is_relative_to(tmp_path)
    here.remove()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    names = [f"luoshu-cells-{ended}-abc", f"luoshu-cells-{os.getpid()}-abc", "luoshu-cells-x-abc"]
    for name in names:
        (tmp_path / name / "cells").mkdir(parents=True)
    (tmp_path / f"luoshu-cells-{ended}-link").symlink_to(tmp_path / names[1])
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*names[1:], f"luoshu-cells-{ended}-link"]
    )


def test_a_dry_run_remembers_and_explains(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    history = tmp_path / "history"
    (total,) = dry_run([product], [ALL], history=history)
    assert total["rows"] == [[585]]
    (groups,) = dry_run([product], [BY_WARD], history=history, explain=True)
    (fewer,) = dry_run([product], [f"{ALL} AND note <> 'secret-12'"], history=history, explain=True)
    rows = groups["rows"]
    assert isinstance(rows, list)
    assert len(rows) == 5  # the groups add up to the total: it differs in no unit
    assert fewer["rows"] == [[None]]
    assert fewer["conflicts"] == 1
    assert fewer["withheld"] == [
        {
            "cells": 0,
            "keys": [],
            "component": "count(*)",
            "units": 194,
            "rule": "difference-to-history",
        }
    ]
    (alone,) = dry_run([product], [f"{ALL} AND note <> 'secret-12'"])
    assert alone["rows"] == [[582]]
