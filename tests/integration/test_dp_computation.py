"""Computations under mode dp, from SQL to noisy rows: real guard, real isolation, OpenDP inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from sandbox_world import PRODUCT, VISITS, write_product

from luoshu.sandbox.dry_run import dry_run
from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.release.dp_budget import PrivacyCost
from luoshu.sandbox.run import Outcome, ReleaseRules, Sandbox, VerifiedPlan

pytestmark = pytest.mark.system

DP = ReleaseRules(mode="dp")


def product_text(release: str) -> str:
    return PRODUCT.replace("{mode: aggregate, min_units: 10}", f"{{mode: dp, {release}}}").replace(
        "decimals: 2}", "decimals: 2, bounds: [0, 300]}"
    )


@dataclass
class Bench:
    """Two ways to release the same visits: almost without noise, and with delta."""

    sandbox: Sandbox
    loud: PreparedProduct
    approximate: PreparedProduct

    async def run(
        self, sql: str, product: PreparedProduct | None = None, rules: ReleaseRules = DP
    ) -> tuple[VerifiedPlan, Outcome]:
        async with self.sandbox.computation([product or self.loud], rules, sql) as computation:
            plan = await computation.verify()
            return plan, await computation.compute()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("dp")
    write_product(directory)
    sandbox = Sandbox.start()
    prepared = [
        prepare_product(
            parse_product(product_text(release)),
            directory,
            directory / name,
            sandbox.isolation,
            directory / "units",
        )
        for name, release in (
            ("loud", "epsilon: 100, rows_per_cell: 3"),
            ("approximate", "epsilon: 2, delta: 1e-9, rows_per_cell: 3"),
        )
    ]
    yield Bench(sandbox, *prepared)
    sandbox.close()


@pytest.fixture
def exact() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE visits AS {VISITS}")
    return connection


async def test_noisy_counts_and_sums_are_near_the_exact_ones(
    bench: Bench, exact: duckdb.DuckDBPyConnection
) -> None:
    sql = "SELECT sex, count(*) AS n, sum(age) AS a, avg(cost) AS c FROM visits GROUP BY sex"
    plan, outcome = await bench.run(sql)
    expected = exact.execute(f"{sql} ORDER BY sex").fetchall()
    assert plan.privacy is not None
    assert plan.privacy.cost.epsilon == 100 * 10**12
    for row, true in zip(outcome.rows, expected, strict=True):
        assert row[0] == true[0]
        assert abs(row[1] - true[1]) < 10  # type: ignore[operator]
        assert abs(row[2] - true[2]) < 700  # type: ignore[operator]
        assert abs(row[3] - true[3]) < 15  # type: ignore[operator]


async def test_units_are_counted_once_and_rows_as_far_as_allowed(bench: Bench) -> None:
    _, outcome = await bench.run("SELECT count(DISTINCT patient_id), count(*) FROM visits")
    ((units, rows),) = outcome.rows
    assert units == 200
    assert abs(rows - 600) < 5  # type: ignore[operator]


async def test_every_declared_value_comes_out_whatever_the_filter(bench: Bench) -> None:
    _, outcome = await bench.run(
        "SELECT sex, urgent, count(*) AS n FROM visits WHERE age > 119 AND age < 0 "
        "GROUP BY sex, urgent"
    )
    assert {row[:2] for row in outcome.rows} == {
        (sex, urgent) for sex in ("f", "m") for urgent in (False, True)
    }
    assert all(abs(row[2]) < 5 for row in outcome.rows)  # type: ignore[arg-type]


async def test_variances_come_from_noisy_moments(bench: Bench) -> None:
    plan, outcome = await bench.run("SELECT var_pop(age) AS v FROM visits")
    assert plan.privacy is not None
    assert [one.what for one in plan.privacy.noise] == ["rows", "sum(age * age)", "sum(age)"]
    assert abs(outcome.rows[0][0] - 223) < 40  # type: ignore[operator]


async def test_having_order_and_limit_act_on_noisy_values(bench: Bench) -> None:
    _, outcome = await bench.run(
        "SELECT sex, count(*) AS n FROM visits GROUP BY sex HAVING count(*) > 100 "
        "ORDER BY n LIMIT 1"
    )
    assert len(outcome.rows) == 1


async def test_averages_of_what_each_person_spends_are_clamped_per_person(bench: Bench) -> None:
    _, outcome = await bench.run(
        "SELECT avg(s) FROM (SELECT patient_id, sum(age) AS s FROM visits GROUP BY patient_id)"
    )
    assert abs(outcome.rows[0][0] - 163) < 5  # type: ignore[operator]


async def test_unknown_keys_of_few_never_come_out(bench: Bench) -> None:
    plan, outcome = await bench.run(
        "SELECT ward, count(DISTINCT patient_id) AS n FROM visits GROUP BY ward ORDER BY ward",
        bench.approximate,
    )
    wards = {row[0] for row in outcome.rows}
    # One and four patients against more than forty, at a threshold of about twenty.
    assert not wards & {"lone", "rare"}
    assert wards >= {"w0", "w1", "w2", "w3"}
    assert plan.privacy is not None
    assert plan.privacy.cost == PrivacyCost(None, bench.approximate.release.computation.rho, 10**5)
    assert outcome.withheld_groups == 0


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT ward, count(*) FROM visits GROUP BY ward", "delta > 0"),
        ("SELECT count(DISTINCT sex) FROM visits", "privacy unit"),
        (
            "SELECT count(*) FROM visits WHERE ward IN (SELECT ward FROM visits GROUP BY ward "
            "HAVING count(DISTINCT patient_id) >= 10)",
            "`dp`",
        ),
        ("SELECT min(age) FROM visits", "min"),
        ("SELECT * FROM visits", "aggregate"),
    ],
)
async def test_what_is_not_local_to_a_person_is_refused(bench: Bench, sql: str, told: str) -> None:
    with pytest.raises(GuardRefusalError, match=told):
        await bench.run(sql)


async def test_contract_and_product_must_be_of_one_mode(bench: Bench) -> None:
    with pytest.raises(GuardRefusalError, match="mode"):
        await bench.run("SELECT count(*) FROM visits", rules=ReleaseRules())


def test_groups_by_public_keys_come_out_in_full_without_delta(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE visits AS {VISITS}")
        connection.execute(f"COPY visits TO '{tmp_path / 'visits.parquet'}'")
        wards = "SELECT unnest(['free', 'lone', 'w0', 'w9', NULL]) AS ward, 'north' AS wing"
        connection.execute(f"COPY ({wards}) TO '{tmp_path / 'wards.parquet'}'")
    (tmp_path / "clinic.yaml").write_text(
        """
id: clinic
title: {en: A clinic, zh: 诊所}
classification: {level: general, personal_information: sensitive, subjects: 200}
tables:
  visits:
    parquet: visits.parquet
    unit: patient_id
    columns:
      ward: {use: [group, filter]}
  wards: {parquet: wards.parquet, public: true}
release: {mode: dp, epsilon: 100, rows_per_cell: 3}
""",
        encoding="utf-8",
    )
    sql = "SELECT w.ward, count(*) AS n FROM visits v JOIN wards w ON v.ward = w.ward GROUP BY 1"
    (answer,) = dry_run([tmp_path / "clinic.yaml"], [sql], as_analyst=True)
    assert answer["status"] == "released", answer
    rows = answer["rows"]
    assert isinstance(rows, list)
    assert [row[0] for row in rows] == ["free", "lone", "w0", "w9", None]
    assert [abs(row[1] - true) < 2 for row, true in zip(rows, (75, 3, 129, 0, 0), strict=True)]


def test_the_dry_run_says_what_it_costs(tmp_path: Path) -> None:
    write_product(tmp_path)
    (tmp_path / "visits.yaml").write_text(product_text("epsilon: 1"), encoding="utf-8")
    (answer,) = dry_run(
        [tmp_path / "visits.yaml"], ["SELECT count(*) AS n FROM visits"], as_analyst=True
    )
    assert answer["status"] == "released"
    assert answer["privacy"] == {
        "cost": {"epsilon": 10**12, "rho": 5 * 10**11, "delta": 0},
        "noise": [{"query": 0, "what": "rows", "deviation": "1.35696", "threshold": "0"}],
    }
