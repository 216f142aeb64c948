"""SQL that is accepted and wants too much: a limit ends it, in the one text, and all is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from escape_world import workers_below

from luoshu.sandbox.errors import GuardRefusalError, SandboxFailureError
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig, Limits
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import ReleaseRules, Sandbox

pytestmark = pytest.mark.system

CELLS = "WITH c AS (SELECT ward, sex, count(*) AS n FROM visits GROUP BY ward, sex) "
WIDE = ", ".join(f"c AS c{number}" for number in range(12))
HUNGRY = {
    "cross_join_of_results": (
        f"{CELLS} SELECT count(*) FROM {WIDE} "
        "WHERE c0.n + c1.n + c2.n + c3.n + c4.n + c5.n + c6.n + c7.n + c8.n + c9.n > 7"
    ),
    "sort_that_would_spill": (
        f"{CELLS} SELECT c0.ward || c1.ward || c2.ward || c3.ward AS w FROM {WIDE} "
        "ORDER BY w LIMIT 1 OFFSET 100000"
    ),
    "distinct_of_a_cross_join": f"{CELLS} SELECT count(DISTINCT c0.n + c1.n * c2.n) FROM {WIDE}",
    "window_over_a_cross_join": (
        f"{CELLS} SELECT max(r) FROM (SELECT row_number() OVER (ORDER BY c0.n * c1.n) AS r "
        f"FROM {WIDE}) AS t"
    ),
    "too_many_rows": f"{CELLS} SELECT c0.n FROM {WIDE}",
}


@pytest.fixture(scope="module")
def narrow() -> Iterator[Sandbox]:
    limits = replace(Limits(), cpu_seconds=2, memory_bytes=1536 << 20)
    opened = Sandbox(BwrapIsolation(IsolationConfig(limits=limits, max_rows=1000, ready=0)))
    yield opened
    opened.close()


@pytest.mark.parametrize("name", HUNGRY)
async def test_hungry_query_is_ended(name: str, narrow: Sandbox, visits: PreparedProduct) -> None:
    failed: list[str] = []
    try:
        async with narrow.computation([visits], ReleaseRules(), HUNGRY[name]) as computation:
            await computation.verify()
            await computation.compute()
    except SandboxFailureError as error:
        failed.append(error.message)
    assert failed == [SandboxFailureError("").message]


REFUSED = {
    "recursion": "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) "
    "SELECT count(*) FROM r",
    "repeat": "SELECT count(*), repeat('x', 3000000000) FROM visits",
    "regex": "SELECT count(*) FROM visits WHERE regexp_matches(note, '((a+)+)+$')",
    "range": "SELECT count(*) FROM range(1000000000000)",
}


@pytest.mark.parametrize("name", REFUSED)
async def test_bomb_is_refused(name: str, narrow: Sandbox, visits: PreparedProduct) -> None:
    async with narrow.computation([visits], ReleaseRules(), REFUSED[name]) as computation:
        with pytest.raises(GuardRefusalError):
            await computation.verify()
    assert not workers_below(narrow.isolation.launcher)  # type: ignore[attr-defined]
