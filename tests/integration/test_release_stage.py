"""Three workers and a history: what lies where while a computation runs, and after it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
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
from luoshu.sandbox.scratch import Scratch

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
        self.before = scratch()  # of tests before this one, which share the process
        self.seen: list[set[int]] = []
        self.deltas: list[bytes] = []
        self.fails = False

    @asynccontextmanager
    async def transaction(self, tables: Sequence[str]) -> AsyncIterator[Watched]:
        assert tables == ("visits.visits",)
        self.seen.append(self.left())
        yield self

    def left(self) -> set[int]:
        """Scratch files that are open now and weren't before."""
        return scratch() - self.before

    async def commit(self, path: Path, digest: str) -> None:
        if self.fails:
            raise HistoryUnavailableError("the disk is full")
        assert digest.startswith("sha256:")
        self.deltas.append(await asyncio.to_thread(path.read_bytes))


def scratch() -> set[int]:
    """Scratch files that this process has open, by their numbers in memory."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the directory's own
            if str(path.readlink()).startswith("/dev/shm/#"):
                found.add(path.stat().st_ino)
    return found


async def test_contributions_are_there_for_the_release_stage_and_no_longer(
    sandbox: Sandbox, visits: PreparedProduct
) -> None:
    history = Watched()
    outcome = await ask(sandbox, visits, BY_WARD, history)
    assert [row[0] for row in outcome.rows] == ["free", "w0", "w1", "w2", "w3"]
    assert outcome.withheld_groups == 2  # `rare` and `lone`, which stage 1 dropped
    assert [len(files) for files in history.seen] == [1]
    assert not history.left()
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
    assert not history.left()


async def test_a_prepared_file_that_is_gone_is_a_failure_like_any_other(
    sandbox: Sandbox, visits: PreparedProduct, tmp_path: Path
) -> None:
    gone = replace(visits, path=tmp_path / "gone.duckdb")
    with pytest.raises(SandboxFailureError) as failure:
        await ask(sandbox, gone, BY_WARD, Watched())
    assert "gone" not in failure.value.message + failure.value.detail


async def test_what_stage_1_wrote_is_not_believed(
    sandbox: Sandbox, visits: PreparedProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_read = Scratch.to_read

    def meddle(scratch: Scratch, made: int) -> int:
        os.pwrite(made, b"\xff\xff\xff\x7f", 0)
        return to_read(scratch, made)

    monkeypatch.setattr(Scratch, "to_read", meddle)
    history = Watched()
    with pytest.raises(SandboxFailureError):
        await ask(sandbox, visits, BY_WARD, history)
    assert not history.deltas


@pytest.mark.parametrize("room", [1, 1 << 60])
def test_scratch_has_no_name_and_goes_with_its_descriptors(room: int) -> None:
    scratch = Scratch(room)
    made = scratch.make()
    os.write(made, b"contributions")
    in_memory = os.fstat(made).st_dev == Path("/dev/shm").stat().st_dev
    assert in_memory == (room == 1)
    assert os.fstat(made).st_nlink == 0
    read = scratch.to_read(made)
    assert os.read(read, 99) == b"contributions"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(read, b"x")
    scratch.close()
    scratch.close()
    for descriptor in (made, read):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


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
            "why": "it differs in fewer than 10 units from earlier results 1, 2",
        }
    ]
    (alone,) = dry_run([product], [f"{ALL} AND note <> 'secret-12'"])
    assert alone["rows"] == [[582]]
