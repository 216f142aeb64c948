"""SQL that is accepted and wants too much: a limit ends it, in the one text, and all is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from escape_world import Prison

from luoshu.sandbox.errors import GuardRefusalError, SandboxFailureError
from luoshu.sandbox.isolation.port import Limits
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import ReleaseRules, Sandbox

pytestmark = [pytest.mark.system, pytest.mark.host_kernel]

OUT_OF_MEMORY = "failed with _duckdb.OutOfMemoryException"

CELLS = "WITH c AS (SELECT sex, day, count(*) AS n FROM visits GROUP BY sex, day) "
WIDE = ", ".join(f"c AS c{number}" for number in range(12))  # six groups always come out
HUNGRY = {
    "cross_join_of_results": (
        f"{CELLS} SELECT count(*) FROM {WIDE} "
        "WHERE c0.n + c1.n + c2.n + c3.n + c4.n + c5.n + c6.n + c7.n + c8.n + c9.n > 7"
    ),
    "sort_that_would_spill": (
        f"{CELLS} SELECT c0.sex || c1.sex || c2.sex || c3.sex AS w FROM {WIDE} "
        "ORDER BY w LIMIT 1 OFFSET 100000"
    ),
    "distinct_of_a_cross_join": f"{CELLS} SELECT count(DISTINCT c0.n + c1.n * c2.n) FROM {WIDE}",
    "window_over_a_cross_join": (
        f"{CELLS} SELECT max(r) FROM (SELECT row_number() OVER (ORDER BY c0.n * c1.n) AS r "
        f"FROM {WIDE}) AS t"
    ),
    "too_many_rows": f"{CELLS} SELECT c0.n FROM {WIDE}",
}


@pytest.fixture(scope="session")
def narrow(prison: Prison) -> Iterator[Sandbox]:
    limits = replace(Limits(), cpu_seconds=2, memory_bytes=1536 << 20)
    opened = Sandbox.start(replace(prison.wall.config, limits=limits, max_rows=1000))
    yield opened
    opened.close()


@pytest.mark.parametrize("name", HUNGRY)
async def test_hungry_query_is_ended(name: str, narrow: Sandbox, visits: PreparedProduct) -> None:
    failed: list[SandboxFailureError] = []
    try:
        async with narrow.computation([visits], ReleaseRules(), HUNGRY[name]) as computation:
            await computation.verify()
            await computation.compute()
    except SandboxFailureError as error:
        failed.append(error)
    (failure,) = failed
    assert failure.message == SandboxFailureError("").message
    # By a limit, and not because it can't be done at all.
    assert "failed with" not in failure.detail.replace(OUT_OF_MEMORY, "")


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
