"""Queries that pass the guard and aim at few people: nothing of them may come out.

They run over the three isolated workers, as an analyst's would. In the data,
patient 7 alone is 120 years old and alone in the ward `lone`; `rare` has four
patients; everyone in `free` costs nothing (see `sandbox_world`).
"""

from __future__ import annotations

import asyncio
import time

import pytest

from luoshu.sandbox.errors import (
    FAILURE_TEXT,
    GuardRefusalError,
    SandboxFailureError,
)
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import Outcome, ReleaseRules, Sandbox

pytestmark = pytest.mark.system


async def ask(
    sandbox: Sandbox, product: PreparedProduct, sql: str, rules: ReleaseRules | None = None
) -> Outcome:
    async with sandbox.computation([product], rules or ReleaseRules(), sql) as computation:
        await computation.verify()
        return await computation.compute()


@pytest.mark.parametrize(
    "where",
    [
        "age = 120",
        "ward = 'lone'",
        "ward = 'rare'",
        "note = 'secret-7'",
        "note IN ('secret-7', 'secret-8')",
        "seen_at = TIMESTAMP '2024-01-01 15:00:00'",
        "age > 119",
        "age BETWEEN 120 AND 120",
        "ward = 'nowhere'",
        "sex IS NULL",
        "age >= 30 AND age <= 30 AND sex = 'f'",
    ],
)
async def test_ungrouped_small_set_is_nulls(
    sandbox: Sandbox, visits: PreparedProduct, where: str
) -> None:
    outcome = await ask(
        sandbox,
        visits,
        "SELECT count(*), count(age), sum(age), avg(cost), count(DISTINCT patient_id) "
        f"FROM visits WHERE {where}",
    )
    assert outcome.rows == ((None,) * 5,)


async def test_rows_do_not_stand_for_units(sandbox: Sandbox, visits: PreparedProduct) -> None:
    # Four patients with three visits each are twelve rows.
    outcome = await ask(sandbox, visits, "SELECT count(*) FROM visits WHERE ward = 'rare'")
    assert outcome.rows == ((None,),)


async def test_small_groups_are_absent(sandbox: Sandbox, visits: PreparedProduct) -> None:
    outcome = await ask(sandbox, visits, "SELECT ward, count(*) FROM visits GROUP BY ward")
    wards = [row[0] for row in outcome.rows]
    assert wards == ["free", "w0", "w1", "w2", "w3"]
    assert outcome.withheld_groups == 2


async def test_keys_alone_obey_the_threshold(sandbox: Sandbox, visits: PreparedProduct) -> None:
    outcome = await ask(sandbox, visits, "SELECT ward FROM visits GROUP BY ward")
    assert ("lone",) not in outcome.rows
    assert ("rare",) not in outcome.rows


async def test_sum_of_zeros_has_no_contributors(sandbox: Sandbox, visits: PreparedProduct) -> None:
    outcome = await ask(
        sandbox, visits, "SELECT ward, sum(cost), count(cost) FROM visits GROUP BY ward"
    )
    row = next(row for row in outcome.rows if row[0] == "free")
    assert row == ("free", None, 25 * 3)
    assert outcome.withheld_values == 1


async def test_values_of_one_cell_have_their_own_thresholds(
    sandbox: Sandbox, visits: PreparedProduct
) -> None:
    # 19 patients have no age: enough to count their visits, with nothing to add up.
    outcome = await ask(
        sandbox,
        visits,
        "SELECT count(*), count(age), sum(age), avg(age) FROM visits WHERE age IS NULL",
    )
    assert outcome.rows == ((19 * 3, None, None, None),)


async def test_contract_may_be_stricter(sandbox: Sandbox, visits: PreparedProduct) -> None:
    sql = "SELECT count(*) FROM visits WHERE ward = 'free'"
    assert (await ask(sandbox, visits, sql)).rows == ((75,),)
    stricter = ReleaseRules(min_units=26)
    assert (await ask(sandbox, visits, sql, stricter)).rows == ((None,),)


async def test_contract_cannot_be_weaker(sandbox: Sandbox, visits: PreparedProduct) -> None:
    sql = "SELECT count(*) FROM visits WHERE ward = 'rare'"
    assert (await ask(sandbox, visits, sql, ReleaseRules(min_units=1))).rows == ((None,),)


async def test_unknown_release_mode_is_refused(sandbox: Sandbox, visits: PreparedProduct) -> None:
    with pytest.raises(GuardRefusalError) as refused:
        await ask(sandbox, visits, "SELECT count(*) FROM visits", ReleaseRules(mode="rows"))
    assert refused.value.code == "GUARD_MODE"


async def test_withheld_looks_like_absent(sandbox: Sandbox, visits: PreparedProduct) -> None:
    there = await ask(sandbox, visits, "SELECT sum(age) FROM visits WHERE ward = 'lone'")
    absent = await ask(sandbox, visits, "SELECT sum(age) FROM visits WHERE ward = 'nobody'")
    assert (there.columns, there.rows) == (absent.columns, absent.rows)


async def test_order_of_groups_is_by_key(sandbox: Sandbox, visits: PreparedProduct) -> None:
    outcome = await ask(sandbox, visits, "SELECT count(*), day, sex FROM visits GROUP BY day, sex")
    keys = [row[1:] for row in outcome.rows]
    assert keys == sorted(keys)


async def test_unit_ids_are_dense_and_shuffled(visits: PreparedProduct) -> None:
    import duckdb

    with duckdb.connect(str(visits.path), read_only=True) as connection:
        ids = connection.execute(
            "SELECT DISTINCT patient_id, note FROM visits ORDER BY 1"
        ).fetchall()
        names = [row[0] for row in connection.execute("DESCRIBE visits").fetchall()]
    assert [row[0] for row in ids] == list(range(200))
    order = [int(str(row[1]).removeprefix("secret-")) for row in ids]
    assert order != sorted(order)
    assert names == ["patient_id", "ward", "sex", "age", "cost", "day", "seen_at", "urgent", "note"]


async def test_failure_is_one_text(visits: PreparedProduct) -> None:
    starved = Sandbox(BwrapIsolation(IsolationConfig(max_rows=1)))
    try:
        with pytest.raises(SandboxFailureError) as failed:
            await ask(starved, visits, "SELECT ward, count(*) FROM visits GROUP BY ward")
        assert failed.value.message == FAILURE_TEXT
        assert failed.value.code == "QUERY_FAILED"
        assert "out of memory" in failed.value.detail  # more rows than allowed
        assert "ward" not in failed.value.detail
    finally:
        starved.close()


async def test_wall_time_is_limited(visits: PreparedProduct) -> None:
    hurried = Sandbox(BwrapIsolation(IsolationConfig(wall_seconds=0.0)))
    try:
        with pytest.raises(SandboxFailureError, match="failed while it ran"):
            await ask(hurried, visits, "SELECT count(*) FROM visits")
    finally:
        hurried.close()


async def test_cancelling_kills_the_workers(sandbox: Sandbox, visits: PreparedProduct) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        sql = "SELECT count(*) FROM visits"
        async with sandbox.computation([visits], ReleaseRules(), sql) as computation:
            await computation.verify()
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1


async def test_concurrent_computations_do_not_mix(
    sandbox: Sandbox, visits: PreparedProduct
) -> None:
    sqls = [f"SELECT count(*) FROM visits WHERE age >= {age}" for age in (30, 40, 50, 60)]
    alone = [(await ask(sandbox, visits, sql)).rows for sql in sqls]
    together = await asyncio.gather(*(ask(sandbox, visits, sql) for sql in sqls))
    assert [outcome.rows for outcome in together] == alone
