"""What the wall costs: a stage-1 worker behind it, beside the same work in this process.

Both guard the same query over the same prepared file and export its contributions, by the same
code. This process does so on one connection that stays open and warm; what a worker adds is being
taken, attaching the file, sealing itself, messages, and the cold caches of a new process.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from luoshu.bench.figures import Figures, Report, percentile
from luoshu.bench.tpch_data import queries, write_tpch
from luoshu.sandbox import engine
from luoshu.sandbox.export import export
from luoshu.sandbox.guard.check import check_query
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.docker import DockerIsolation
from luoshu.sandbox.isolation.port import Isolation, IsolationConfig, Worker, WorkerSpec
from luoshu.sandbox.prepare import prepare
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.run import ReleaseRules, Sandbox

SHORT: Final = "SELECT n_name, count(*) FROM nation GROUP BY n_name"
SCANS: Final = ("q01", "q06")
_CLIENTS: Final = 8
_MIN_UNITS: Final = 10
_DOMINANCE_PPM: Final = 850_000
_MAX_CELLS: Final = 200_000
_MIB: Final = 1 << 10
_PAUSE: Final = 0.5
"""Seconds in which another worker is made ready and warms up: one that waited is measured."""
_CONTAINER_PAUSE: Final = 1.5
_DEPTH: Final = 2


@dataclass(frozen=True, slots=True)
class _Spent:
    """Milliseconds of one run of stage 1."""

    whole: float
    compute: float


def run(*, quick: bool) -> Report:
    """Measures 200 short runs, 20 seconds of load and 9 scans at scale factor 1.

    If `quick`: 20 runs, 3 seconds, and 3 scans at 0.05.

    Raises:
        MissingGeneratorError: `tpchgen-cli`, which makes the data, isn't installed.
    """
    figures = Figures("isolation")
    with tempfile.TemporaryDirectory(prefix="luoshu-bench-") as directory:
        root = Path(directory)
        path = write_tpch(root / "data", 0.05 if quick else 1)
        asyncio.run(_measure(figures, path, root, quick=quick))
    return figures.report()


async def _measure(figures: Figures, path: Path, root: Path, *, quick: bool) -> None:
    config = IsolationConfig()
    with closing(BwrapIsolation(config)) as wall:
        product = await prepare(
            load_product_file(path), path.parent, root / "prepared", wall, root / "units"
        )
    await _cold(figures, config, 3 if quick else 10)
    with closing(BwrapIsolation(config)) as wall:
        wall.warm_up()
        await _warm(figures, wall, product, 20 if quick else 200)
        await _memory(figures, wall)
        for name in SCANS:
            await _scan(figures, wall, product, name, 3 if quick else 9)
    await _throughput(figures, config, product, 3.0 if quick else 20.0)
    await _containers(figures, product, 3 if quick else 10)


async def _cold(figures: Figures, config: IsolationConfig, runs: int) -> None:
    """From nothing, no zygote either, until a worker is ready."""
    spent = []
    for _ in range(runs):
        with closing(BwrapIsolation(config)) as wall:
            began = time.perf_counter()
            worker = await _ready(wall, ())
            spent.append((time.perf_counter() - began) * 1000)
            await worker.stop()
    figures.add("cold worker ready p50", percentile(spent, 0.5), "ms", at_most=400)


async def _containers(figures: Figures, product: PreparedProduct, runs: int) -> None:
    """The same under Docker, where that can run; else there are no such figures."""
    config = IsolationConfig(adapter="docker")
    with closing(DockerIsolation(config)) as wall:
        if await asyncio.to_thread(wall.check):
            return
        spent = []
        for _ in range(runs):
            with closing(DockerIsolation(replace(config, ready=0, ready_most=0))) as cold:
                began = time.perf_counter()
                worker = await _ready(cold, ())
                spent.append((time.perf_counter() - began) * 1000)
                await worker.stop()
        figures.add(
            "cold worker ready under Docker p50", percentile(spent, 0.5), "ms", at_most=1000
        )
        wall.warm_up()
        spent.clear()
        for _ in range(runs):
            await asyncio.sleep(_CONTAINER_PAUSE)
            began = time.perf_counter()
            worker = await _ready(wall, [product])
            spent.append((time.perf_counter() - began) * 1000)
            await worker.stop()
        figures.add(
            "worker that waited, with data attached, Docker p50", percentile(spent, 0.5), "ms"
        )


async def _warm(
    figures: Figures, wall: BwrapIsolation, product: PreparedProduct, runs: int
) -> None:
    process = _Here(product, wall.config)
    here = [process.run(SHORT).whole for _ in range(1 + runs)][1:]
    behind = []
    for _ in range(runs):
        behind.append((await _isolated(wall, product, SHORT)).whole)
        await asyncio.sleep(_PAUSE)
    for name, share, target in (("p50", 0.5, 10), ("p99", 0.99, 40)):
        base, value = percentile(here, share), percentile(behind, share)
        figures.add(
            f"short query, stage 1 {name}",
            value,
            "ms",
            baseline=base,
            baseline_of="the same in this process",
        )
        figures.add(f"added by the wall {name}", value - base, "ms", at_most=target)


async def _scan(
    figures: Figures, wall: BwrapIsolation, product: PreparedProduct, name: str, runs: int
) -> None:
    sql = queries()[name]
    process = _Here(product, wall.config)
    process.run(sql)
    here, behind = [], []
    for _ in range(runs):
        here.append(process.run(sql).compute)
        behind.append((await _isolated(wall, product, sql)).compute)
        await asyncio.sleep(_PAUSE)
    base, value = percentile(here, 0.5), percentile(behind, 0.5)
    figures.add(
        f"scan {name}, compute p50",
        value,
        "ms",
        baseline=base,
        baseline_of="the same in this process",
    )
    figures.add(f"scan {name}, isolated over not", value / base, "×", at_most=1.05)


async def _memory(figures: Figures, wall: BwrapIsolation) -> None:
    """Memory that an idle worker shares with nobody: two processes, of which one only waits."""
    await asyncio.sleep(_PAUSE)
    unshared = [sum(map(_unshared, pair)) for pair in _idle_workers(wall.launcher)]
    figures.add("memory of an idle worker, unshared", max(unshared) / _MIB, "MiB", at_most=80)


async def _throughput(
    figures: Figures, config: IsolationConfig, product: PreparedProduct, seconds: float
) -> None:
    """Whole computations, release and stage 2 included, by clients that ask without a pause."""
    sandbox = Sandbox(BwrapIsolation(config))
    spent: list[float] = []

    async def ask(until: float) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            async with sandbox.computation([product], ReleaseRules(), SHORT) as computation:
                await computation.verify()
                await computation.compute()
            spent.append((time.perf_counter() - began) * 1000)

    with closing(sandbox):
        sandbox.warm_up()
        await ask(time.perf_counter())  # starts the zygotes
        await asyncio.gather(*(ask(time.perf_counter() + 1) for _ in range(_CLIENTS)))
        spent.clear()
        began = time.perf_counter()
        await asyncio.gather(*(ask(began + seconds) for _ in range(_CLIENTS)))
        rate = len(spent) / (time.perf_counter() - began)
    figures.add(f"whole computations a second, {_CLIENTS} clients", rate, "1/s", at_least=25)
    figures.add(f"one of them, {_CLIENTS} at a time, p50", percentile(spent, 0.5), "ms")


class _Here:
    """Stage 1 in this process, on one connection that stays open."""

    def __init__(self, product: PreparedProduct, config: IsolationConfig) -> None:
        self._schemas = product.schemas()
        self._connection = engine.open_engine()
        engine.attach(self._connection, product.table_name, str(product.path))
        engine.allot(self._connection, config.limits.memory_bytes // 2, config.threads)
        engine.search(self._connection, [product.table_name])
        engine.lock(self._connection)

    def run(self, sql: str) -> _Spent:
        """One run; what it leaves behind is removed afterwards."""
        began = time.perf_counter()
        query = check_query(
            self._connection,
            self._schemas,
            sql,
            min_units=_MIN_UNITS,
            dominance_ppm=_DOMINANCE_PPM,
            mode="aggregate",
        )
        computing = time.perf_counter()
        for number, cell in enumerate(query.cells):
            export(
                self._connection,
                cell.sql,
                cell.schema,
                os.memfd_create("luoshu-bench"),
                min_units=_MIN_UNITS,
                drop=True,
                max_cells=_MAX_CELLS,
                number=number,
            )
        ended = time.perf_counter()
        tables = self._connection.execute("SELECT table_name FROM duckdb_tables() WHERE temporary")
        for (name,) in tables.fetchall():
            self._connection.execute(f"DROP TABLE temp.main.{name}")
        return _Spent((ended - began) * 1000, (ended - computing) * 1000)


async def _isolated(wall: BwrapIsolation, product: PreparedProduct, sql: str) -> _Spent:
    began = time.perf_counter()
    worker = await _ready(wall, [product])
    try:
        await worker.send(
            {
                "type": "verify",
                "sql": sql,
                "parameters": [],
                "tables": [schema.to_json() for schema in product.schemas()],
                "mode": "aggregate",
                "min_units": _MIN_UNITS,
                "dominance_ppm": _DOMINANCE_PPM,
            }
        )
        cells = (await worker.receive())["cells"]
        assert isinstance(cells, list)  # noqa: S101 - our own worker
        computing = time.perf_counter()
        files = [os.memfd_create("luoshu-bench") for _ in cells]
        try:
            job: dict[str, object] = {"type": "compute", "min_units": _MIN_UNITS, "drop": True}
            await worker.send(job, files)
            await worker.receive()
        finally:
            for file in files:
                os.close(file)
        ended = time.perf_counter()
    finally:
        await worker.stop()
    return _Spent((ended - began) * 1000, (ended - computing) * 1000)


async def _ready(wall: Isolation, products: Sequence[PreparedProduct]) -> Worker:
    config = wall.config
    worker = await wall.start(WorkerSpec("stage1", (), config.limits_of("stage1")))
    files = [wall.lend(product.path) for product in products]
    try:
        await worker.send(
            {
                "type": "setup",
                "catalogs": [product.table_name for product in products],
                "memory_bytes": config.limits.memory_bytes // 2,
                "threads": config.threads,
                "max_rows": config.max_rows,
            },
            files,
        )
    finally:
        for file in files:
            os.close(file)
    await worker.receive()
    return worker


def _idle_workers(launcher: int) -> list[tuple[int, int]]:
    """Workers and who watches each: the only processes that are two process namespaces deeper."""
    found = []
    waiting = [launcher]
    while waiting:
        parent = waiting.pop()
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        waiting += map(int, children)
        found += [(int(child), parent) for child in children if _depth(int(child)) == _DEPTH]
    return found


def _depth(pid: int) -> int:
    """How many process namespaces a process is below this one's."""

    def numbers(of: int | str) -> int:
        lines = Path(f"/proc/{of}/status").read_text().splitlines()
        return next(len(line.split()) for line in lines if line.startswith("NSpid:"))

    return numbers(pid) - numbers("self")


def _unshared(pid: int) -> int:
    """Memory that a process alone has, in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
