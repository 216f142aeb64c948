"""What the guard costs: TPC-H through the whole sandbox, beside plain DuckDB on the same tables.

Each query runs as an analyst's would, at the product's own floor, with the differencing guard and
its history on. Workers are new for each query and were made ready before; what taking them costs is
a figure of its own (`start`), and what is compared is the work: verify, compute, release, stage 2.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import duckdb

from luoshu.bench.figures import Figures, Report
from luoshu.bench.tpch_data import TABLES, queries, write_tpch
from luoshu.sandbox import engine
from luoshu.sandbox.dry_run import Answer, dry_run
from luoshu.sandbox.errors import GuardRefusalError, QueryError
from luoshu.sandbox.guard.check import check_query
from luoshu.sandbox.guard.verify import verify
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.run import Sandbox
from luoshu.sandbox.schema import CellSchema

SINGLE_SCANS: Final = ("q01", "q06")
_THREADS: Final = 2
_SAMPLE_SECONDS: Final = 0.02
_LITTLE: Final = 0.01
_PAUSE: Final = 0.5
"""Seconds in which other workers are made ready and warm up, as between an analyst's queries."""
_VERIFIER_RUNS: Final = 5
_WORKER: Final = b"luoshu.sandbox.worker"
_MIB: Final = 1024
_PLAIN_PEAK: Final = """
import duckdb, resource, sys
connection = duckdb.connect(sys.argv[1], read_only=True, config={"threads": int(sys.argv[2])})
connection.execute(sys.stdin.read()).fetchall()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(slots=True)
class _Measured:
    """What was measured of one query; times in milliseconds, memory in KiB."""

    plain: float
    plain_peak: float
    guarded: list[dict[str, float]] = field(default_factory=list)
    guarded_peak: float = 0.0
    values: int = 0

    @property
    def work(self) -> float:
        """Median of a run without the start of its workers."""
        return statistics.median(
            sum(spent for phase, spent in run.items() if phase != "start") for run in self.guarded
        )


def run(*, quick: bool) -> Report:
    """Measures at scale factor 1, warm, the median of 3 runs each (one at 0.05 if `quick`).

    Raises:
        MissingGeneratorError: `tpchgen-cli`, which makes the data, isn't installed.
    """
    figures, runs = Figures("guard"), 1 if quick else 3
    with tempfile.TemporaryDirectory(prefix="luoshu-bench-") as directory:
        root = Path(directory)
        product = write_tpch(root / "data", 0.05 if quick else 1)
        measured = _plain(root, queries(), runs)
        _guarded(product, root / "history", measured, runs)
        history = sum(f.stat().st_size for f in (root / "history").rglob("*") if f.is_file())
        verifier = _verifier(root)
    _report(figures, measured)
    slowest = max(verifier, key=lambda name: verifier[name])
    figures.add("verifier alone, median query", statistics.median(verifier.values()), "ms")
    figures.add(f"verifier alone, slowest query ({slowest})", verifier[slowest], "ms", at_most=10)
    figures.add("history of all queries", history / _MIB**2, "MiB")
    return figures.report()


def _plain(root: Path, sqls: Mapping[str, str], runs: int) -> dict[str, _Measured]:
    """Plain DuckDB over native tables, with as many threads as a worker has."""
    database = root / "plain.duckdb"
    with duckdb.connect(str(database), config={"threads": _THREADS}) as connection:
        for table in TABLES:
            source = root / "data" / f"{table}.parquet"
            connection.execute(f"CREATE TABLE {table} AS FROM '{source}'")
    measured = {}
    with duckdb.connect(str(database), True, config={"threads": _THREADS}) as connection:
        for name, sql in sqls.items():
            connection.execute(sql).fetchall()
            times = []
            for _ in range(runs):
                began = time.perf_counter()
                connection.execute(sql).fetchall()
                times.append((time.perf_counter() - began) * 1000)
            measured[name] = _Measured(statistics.median(times), 0.0)
    for name, sql in sqls.items():
        # A process for each query, as the sandbox has: nothing is cached from another one.
        told = subprocess.run(  # noqa: S603 - this interpreter, a constant and our own path
            [sys.executable, "-c", _PLAIN_PEAK, str(database), str(_THREADS)],
            input=sql,
            capture_output=True,
            text=True,
            check=True,
        )
        measured[name].plain_peak = float(told.stdout)
    return measured


def _guarded(product: Path, history: Path, measured: Mapping[str, _Measured], runs: int) -> None:
    """One run to warm up and to see memory, then the timed ones, over one history."""
    sqls = [queries()[name] for name in measured]
    first = "SELECT count(*) FROM orders"  # is preceded by the preparation, a worker too
    answers = dry_run([product], [first, *sqls * (1 + runs)], history=history)
    next(answers)
    with _PeakMemory() as memory:
        for one in measured.values():
            memory.reset()
            answer = next(answers)
            one.guarded_peak = memory.peak()
            one.values = _values(answer)
    for _ in range(runs):
        for one in measured.values():
            time.sleep(_PAUSE)
            answer = next(answers)
            timings = answer.get("timings_ms")
            if isinstance(timings, dict):
                one.guarded.append({str(phase): float(ms) for phase, ms in timings.items()})


def _values(answer: Answer) -> int:
    rows = answer["rows"]
    return sum(cell is not None for row in rows for cell in row) if isinstance(rows, list) else 0


def _verifier(root: Path) -> dict[str, float]:
    """What the verifier alone takes of each accepted query, in this process.

    It reads the engine's plan and no data, so a little data does.
    """
    path = write_tpch(root / "little", _LITTLE)
    with closing(Sandbox.start()) as sandbox:
        product = prepare_product(
            load_product_file(path), path.parent, root / "prepared", sandbox.isolation, root / "ids"
        )
    spent: list[float] = []

    def timed(*args: Any, **options: Any) -> CellSchema:
        began = time.perf_counter()
        try:
            return verify(*args, **options)
        finally:
            spent.append((time.perf_counter() - began) * 1000)

    found = {}
    with (
        closing(engine.open_engine()) as connection,
        patch("luoshu.sandbox.guard.check.verify", timed),
    ):
        engine.attach(connection, product.table_name, str(product.path))
        engine.search(connection, [product.table_name])
        engine.lock(connection)
        for name, sql in queries().items():
            runs = []
            for _ in range(_VERIFIER_RUNS):
                spent.clear()
                try:
                    check_query(
                        connection,
                        product.schemas(),
                        sql,
                        min_units=product.release.min_units,
                        dominance_ppm=product.release.dominance_ppm,
                    )
                except (GuardRefusalError, QueryError):
                    break
                runs.append(sum(spent))
            if runs:
                found[name] = statistics.median(runs)
    return found


class _PeakMemory:
    """Watches how much memory the workers below this process take together, in KiB."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def reset(self) -> None:
        """Forgets what was seen."""
        self._peak = 0.0

    def peak(self) -> float:
        """The most since the last reset."""
        return self._peak

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, _resident())


def _resident() -> float:
    total = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes()
            # The wall's own process has the worker's command in its arguments too.
            if _WORKER not in command or b"bwrap" in command.split(b"\0")[0]:
                continue
            status = (process / "smaps_rollup").read_text()
        except OSError:  # it ended while we looked
            continue
        for line in status.splitlines():
            if line.startswith("Pss:"):  # what several have in common counts once
                total += int(line.split()[1])
    return float(total)


def _report(figures: Figures, measured: Mapping[str, _Measured]) -> None:
    answered = {name: one for name, one in measured.items() if one.guarded}
    releasing = {name: one for name, one in answered.items() if one.values}
    figures.add("queries that release values", len(releasing), "of 22", at_least=18)
    for name, one in answered.items():
        figures.add(
            name if one.values else f"{name}, releases nothing",
            one.work,
            "ms",
            baseline=one.plain,
            baseline_of="plain DuckDB",
        )
    if not releasing:
        return
    ratios = {name: one.work / one.plain for name, one in releasing.items()}
    figures.add(
        "guarded over plain, geometric mean", _geometric_mean(ratios.values()), "×", at_most=2.0
    )
    for name in SINGLE_SCANS:
        if name in ratios:
            figures.add(f"guarded over plain, single scan {name}", ratios[name], "×", at_most=4.0)
    for phase in sorted(
        {phase for one in answered.values() for run in one.guarded for phase in run}
    ):
        spent = [run.get(phase, 0.0) for one in answered.values() for run in one.guarded]
        figures.add(f"phase {phase}, median", statistics.median(spent), "ms")
    checking = {
        name: statistics.median(run.get("verify", 0.0) for run in one.guarded)
        for name, one in answered.items()
    }
    slowest = max(checking, key=lambda name: checking[name])
    figures.add(f"phase verify, slowest query ({slowest})", checking[slowest], "ms")
    largest = max(one.plain_peak for one in releasing.values())
    figures.add(
        "peak memory, largest query",
        max(one.guarded_peak for one in releasing.values()) / _MIB,
        "MiB",
        baseline=largest / _MIB,
        baseline_of="plain DuckDB",
        at_most=round(2 * largest / _MIB),
    )
    shares = {name: one.guarded_peak / one.plain_peak for name, one in releasing.items()}
    worst = max(shares, key=lambda name: shares[name])
    figures.add(f"peak memory over plain, worst query ({worst})", shares[worst], "×", at_most=2.0)


def _geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(math.log(value) for value in values))
