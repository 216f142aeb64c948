"""How many signed entries a second the operator's catalog takes: verified, durable, indexed."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from luoshu.bench.catalog_world import CatalogWorld, catalog_world
from luoshu.bench.figures import Figures, Report, percentile


def run(*, quick: bool) -> Report:
    """Measures one publisher and 64 at once."""
    alone, together = (100, 500) if quick else (500, 5000)
    figures = Figures("publish")
    with tempfile.TemporaryDirectory(prefix="luoshu-bench-") as directory:
        root = Path(directory)
        with catalog_world(root) as world:
            latencies, rate = asyncio.run(_publish(world, alone, together))
        floor = _appends(root / "plain", world.signed_entries(alone))
    figures.add(
        "publish, one at a time, p50",
        percentile(latencies, 0.5),
        "ms",
        baseline=percentile(floor, 0.5),
        baseline_of="appending the same bytes to a file, with fsync",
    )
    figures.add("publish, one at a time, p99", percentile(latencies, 0.99), "ms")
    figures.add(
        "publish, 64 at once",
        rate,
        "1/s",
        baseline=len(floor) / (sum(floor) / 1000),
        baseline_of="appending the same bytes to a file, with fsync, one at a time",
    )
    return figures.report()


async def _publish(world: CatalogWorld, alone: int, together: int) -> tuple[list[float], float]:
    latencies = []
    for entry in world.signed_entries(alone):
        started = time.perf_counter()
        await world.service.publish(world.holder, entry)
        latencies.append((time.perf_counter() - started) * 1000)
    entries = world.signed_entries(together)
    started = time.perf_counter()
    for first in range(0, together, 64):
        await asyncio.gather(
            *(world.service.publish(world.holder, e) for e in entries[first : first + 64])
        )
    return latencies, together / (time.perf_counter() - started)


def _appends(path: Path, entries: list[bytes]) -> list[float]:
    durations = []
    with path.open("wb", buffering=0) as file:
        for entry in entries:
            started = time.perf_counter()
            file.write(entry)
            os.fsync(file.fileno())
            durations.append((time.perf_counter() - started) * 1000)
    return durations
