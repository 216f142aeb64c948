"""How fast the operator's catalog answers, the word that is in every entry included."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Final

from luoshu.bench.catalog_world import COMMONEST, CatalogWorld, catalog_world
from luoshu.bench.figures import Figures, Report, percentile
from luoshu.connector.peer_port import CatalogQuery

QUERIES: Final = (
    ("commonest English word", COMMONEST),
    ("commonest Chinese word", "数据"),
    ("two characters", "肺癌"),
    ("two English words", "lung cancer"),
    ("nothing found", "量子"),
    ("everything", ""),
)


def run(*, quick: bool) -> Report:
    """Measures 5,000 entries, and 100,000 unless `quick`."""
    figures = Figures("search")
    runs = 30 if quick else 200
    for size in (5000,) if quick else (5000, 100_000):
        with tempfile.TemporaryDirectory(prefix="luoshu-bench-") as directory:
            root = Path(directory)
            with catalog_world(root) as world:
                measured = asyncio.run(_search(world, size, runs))
            scanned = _scan(root / "luoshu.db", runs=min(runs, 20))
        every = [value for values in measured.values() for value in values]
        figures.add(
            f"search p99, {size} entries, all queries",
            percentile(every, 0.99),
            "ms",
            baseline=scanned,
            baseline_of="LIKE over the same entries in SQLite, p50",
            at_most=20 if size == 5000 else None,
        )
        for name, values in measured.items():
            figures.add(f"search p99, {size} entries, {name}", percentile(values, 0.99), "ms")
    return figures.report()


async def _search(world: CatalogWorld, size: int, runs: int) -> dict[str, list[float]]:
    await world.fill(size)
    measured: dict[str, list[float]] = {}
    for name, text in QUERIES:
        found = await world.service.search(world.holder, CatalogQuery(text))
        if bool(found.entries) != (name != "nothing found"):
            raise RuntimeError(f"the search for {name} is not as expected")
        for _ in range(runs):
            started = time.perf_counter()
            await world.service.search(world.holder, CatalogQuery(text))
            measured.setdefault(name, []).append((time.perf_counter() - started) * 1000)
    return measured


def _scan(database: Path, *, runs: int) -> float:
    connection = sqlite3.connect(database)
    durations = []
    try:
        for _ in range(runs):
            started = time.perf_counter()
            connection.execute(
                "SELECT product_id FROM catalog_entries WHERE terms LIKE ? LIMIT 20", ("%量子%",)
            ).fetchall()
            durations.append((time.perf_counter() - started) * 1000)
    finally:
        connection.close()
    return percentile(durations, 0.5)
