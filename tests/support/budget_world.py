"""The compute world under release mode dp, with a stand-in for the sandbox's workers.

A query is one word: ``known`` counts rows by a declared key, ``unknown`` by one without declared
values, ``fail`` fails once it runs. Costs, plans and noise are real, as is the holder's node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from compute_world import ComputeWorld
from contract_world import ANALYST, HOLDER, OPERATOR, PRODUCT, offer, terms
from dp_world import ROWS, people, result
from history_world import _policy
from trading_world import PRODUCT_YAML, offers_json, shelved

from luoshu.connector.catalog.entry_building import ShelvedProduct
from luoshu.connector.compute.budget import find_spent
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.contract import ContractState
from luoshu.contracts.dp_terms import DpTerms
from luoshu.contracts.release_terms import ReleaseMode, ReleaseTerms
from luoshu.contracts.terms import Terms
from luoshu.sandbox.dp_agreement import DpLimits, PrivacyPlan, plan_computation
from luoshu.sandbox.errors import SandboxFailureError
from luoshu.sandbox.product_file import DifferentialPrivacyRelease, parse_product
from luoshu.sandbox.release.dp import release
from luoshu.sandbox.release.dp_budget import PrivacyCost
from luoshu.sandbox.release_floor import ReleaseFloor
from luoshu.sandbox.run import ReleaseRules
from luoshu.sandbox.schema import VARCHAR, CellSchema, ColumnSchema, TableSchema, Use

DOMAIN = "patient_id"
TABLE = TableSchema(
    "lung",
    "lung",
    DOMAIN,
    (
        ColumnSchema("sex", VARCHAR, frozenset({Use.GROUP}), values=("1", "2")),
        ColumnSchema("inst", VARCHAR, frozenset({Use.GROUP})),
    ),
    DOMAIN,
)


def cells(key: str) -> CellSchema:
    return CellSchema(("lung.lung",), (VARCHAR,), (ROWS,), None, (f"lung.lung.{key}",))


@dataclass
class NoisySandbox:
    """Plans and releases in this process.

    Attributes:
        hold: Wait before computing until `go` is set.
        computed: How many computations have begun to compute.
    """

    hold: bool = False
    computed: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    measurement: str = f"sha256:{'0' * 64}"

    def computation(
        self,
        products: Sequence[Any],
        rules: ReleaseRules,
        sql: str,
        history: object,
        parameters: Sequence[object] = (),
    ) -> _NoisyComputation:
        del products, parameters
        assert rules.mode != "dp" or history is None
        return _NoisyComputation(self, rules, sql)


@dataclass
class _NoisyComputation:
    sandbox: NoisySandbox
    rules: ReleaseRules
    sql: str
    plan: PrivacyPlan | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        pass

    async def verify(self) -> Any:
        if self.rules.mode == "dp" and self.sql != "unplanned":
            limits = self.rules.dp
            assert isinstance(limits, DpLimits)
            key = "inst" if self.sql == "unknown" else "sex"
            self.plan = plan_computation(limits, [cells(key)], [TABLE])
        return SimpleNamespace(privacy=self.plan)

    async def compute(self) -> Any:
        self.sandbox.computed += 1
        if self.sandbox.hold:
            await self.sandbox.go.wait()
        if self.sql == "fail":
            raise SandboxFailureError("as told")
        assert self.plan is not None
        found = result(self.plan.cells[0].schema, [("1",)], *people(500, 1))
        (rows,) = release([found], self.plan.rules)
        return SimpleNamespace(
            columns=(("sex", "VARCHAR"), ("n", "BIGINT")),
            rows=tuple(rows),
            conflicts=0,
            timings={},
        )


def dp_product(local_id: str, release_section: str) -> ShelvedProduct:
    """A product under mode dp; its file of data isn't needed here."""
    text = PRODUCT_YAML.format(id=local_id, min_units=10).replace(
        "{mode: aggregate, min_units: 10}", f"{{mode: dp, {release_section}}}"
    )
    file, like = parse_product(text), shelved(local_id)
    assert isinstance(file.release, DifferentialPrivacyRelease)
    floor = ReleaseFloor.of(file.release)
    return ShelvedProduct(file, replace(like.prepared, release=floor))


def dp_terms(bound: DpTerms | None = None, **changes: Any) -> Terms:
    """Terms of many uses; without a bound they leave the cost to the product."""
    made = terms(**{"uses": 100, "regions": ("CN", "DE"), "min_units": 1, **changes})
    return replace(made, release=ReleaseTerms(ReleaseMode.DP, 1, dp=bound))


class BudgetWorld(ComputeWorld):
    """A holder whose products are released with differential privacy."""

    def __init__(self, root: Path, release_section: str) -> None:
        product = dp_product("lung", release_section)
        self.noisy = NoisySandbox()
        workshop = SimpleNamespace(
            sandbox=self.noisy, product=product.file, prepared=product.prepared, policy=_policy()
        )
        super().__init__(root, workshop)  # type: ignore[arg-type]

    async def begin(self) -> None:
        for member in (OPERATOR, HOLDER, ANALYST):
            self.start(member)
        self.holder.shelf.products = self.shelf.products
        await self.publish(dp_terms())
        await self.serve()

    async def agree(self, bound: DpTerms | None = None) -> ContractState:
        """An active contract; without a bound on the offer's own terms."""
        wanted = b"" if bound is None else canonicalize(dp_terms(bound).to_payload())
        return await self.analyst.contracts.request(PRODUCT, "", wanted)

    async def publish(self, offered: Terms) -> None:
        """Publishes the product anew, with an offer of these terms."""
        await self.holder.products.publish("lung", offers_json(offer(offered)))

    async def spent(self, contract_id: str | None = None) -> PrivacyCost:
        return await self.holder.ledger.read(lambda c: find_spent(c, DOMAIN, contract_id))


@asynccontextmanager
async def budget_world(root: Path, release_section: str) -> AsyncIterator[BudgetWorld]:
    """The world, ready for contracts and computations."""
    world = BudgetWorld(root, release_section)
    try:
        await world.begin()
        yield world
    finally:
        world.noisy.go.set()
        await world.end()
