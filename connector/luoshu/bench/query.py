"""What a released aggregate over a million rows costs, beside plain DuckDB on the same data."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb

from luoshu.bench.figures import Figures, Report, percentile
from luoshu.connector.products import NodeProducts
from luoshu.contracts.canonical import JsonValue
from luoshu.contracts.membership import Role, UserRole
from luoshu.examples.local_space import LocalSpace, NodePlan, preparation, prepare
from luoshu.examples.lung.offers import PURPOSE
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import ReleaseRules, Sandbox
from luoshu.sdk import connect

ROWS: Final = 1_000_000
PRODUCT_FILE: Final = """\
id: visits
title: {en: Visits, zh: 就诊记录}
source: {parquet: visits.parquet}
classification: {level: general, personal_information: sensitive, subjects: 100000}
privacy_unit: patient
columns:
  region: {use: [group, filter]}
  year:   {use: [group, filter]}
  cost:   {use: [aggregate], bounds: [0, 100000], decimals: 2}
release: {mode: aggregate, min_units: 10}
"""
SQL: Final = (
    "SELECT region, count(*) AS n, sum(cost) AS s, avg(cost) AS a FROM visits GROUP BY region"
)
PLAIN: Final = SQL.replace("FROM visits", "FROM prepared.visits")


def run(*, quick: bool) -> Report:
    """Measures submit to verified result at the analyst, 100 runs (10 if `quick`)."""
    runs = 10 if quick else 100
    figures = Figures("query")
    with tempfile.TemporaryDirectory(prefix="luoshu-bench-") as directory:
        root = Path(directory)
        _write_data(root / "visits.parquet")
        (root / "visits.yaml").write_text(PRODUCT_FILE, encoding="utf-8")
        with LocalSpace(root, "bench") as space:
            space.create(
                [
                    NodePlan.of("operator", Role.OPERATOR),
                    NodePlan.of("holder", Role.HOLDER),
                    NodePlan.of("analyst", Role.ANALYST, users={"analyst": (UserRole.ANALYST,)}),
                ]
            )
            for name in space.nodes:
                space.enrol(name)
            holder = space.nodes["holder"]
            with preparation() as sandbox:
                prepare(holder, root / "visits.yaml", sandbox)
            prepared = NodeProducts(holder.directory).load("visits").prepared
            plain = _plain(prepared, runs)
            phases = asyncio.run(_phases(prepared, max(5, runs // 5)))
            space.start()
            whole = _whole(space, runs)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        base = percentile(plain, share)
        value = percentile(whole, share)
        figures.add(f"query {name}", value, "ms", baseline=base, baseline_of="plain DuckDB")
        figures.add(
            f"added {name}",
            value - base,
            "ms",
            at_most=500 if name == "p50" else None,
        )
    sandboxed = 0.0
    for name, values in phases.items():
        middle = percentile(values, 0.5)
        if name == "whole":
            sandboxed = middle
        else:
            figures.add(f"sandbox, phase {name}, p50", middle, "ms")
    figures.add(
        "sandbox alone p50",
        sandboxed,
        "ms",
        baseline=percentile(plain, 0.5),
        baseline_of="plain DuckDB",
    )
    figures.add("network, policy, log, proof p50", percentile(whole, 0.5) - sandboxed, "ms")
    return figures.report()


def _write_data(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            COPY (
                SELECT (i * 7919) % 100000 AS patient,
                       'region-' || (hash(i) % 20) AS region,
                       2016 + (hash(i + 1) % 10) AS year,
                       ((hash(i + 2) % 10000000) / 100.0)::DECIMAL(18, 2) AS cost
                FROM range({ROWS}) AS t(i)
            ) TO '{path}' (FORMAT parquet)
            """  # noqa: S608 - a constant and our own path
        )


def _plain(prepared: PreparedProduct, runs: int) -> list[float]:
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"ATTACH '{prepared.path}' AS prepared (READ_ONLY)")
        connection.execute(PLAIN).fetchall()
        return [_milliseconds(lambda: connection.execute(PLAIN).fetchall()) for _ in range(runs)]


async def _phases(prepared: PreparedProduct, runs: int) -> dict[str, list[float]]:
    from luoshu.sandbox.isolation.port import IsolationConfig  # noqa: PLC0415

    sandbox = Sandbox.start(IsolationConfig())
    sandbox.warm_up()
    phases: dict[str, list[float]] = {}
    try:
        for _ in range(runs):
            started = time.perf_counter()
            async with sandbox.computation([prepared], ReleaseRules(min_units=10), SQL) as one:
                await one.verify()
                outcome = await one.compute()
            phases.setdefault("whole", []).append((time.perf_counter() - started) * 1000)
            for name, seconds in outcome.timings.items():
                phases.setdefault(name, []).append(seconds * 1000)
    finally:
        sandbox.close()
    return phases


def _whole(space: LocalSpace, runs: int) -> list[float]:
    with connect(space.nodes["holder"].profile()) as holder:
        published = holder.publish("visits", [_offer()])
    with connect(space.nodes["analyst"].profile("analyst")) as analyst:
        contract = analyst.negotiate(published.product_id, purpose=PURPOSE)
        contract.query(SQL)
        return [_milliseconds(lambda: contract.query(SQL)) for _ in range(runs)]


def _offer() -> JsonValue:
    from luoshu.examples.lung.offers import offers_of  # noqa: PLC0415

    return offers_of("bench")[0]


def _milliseconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000
