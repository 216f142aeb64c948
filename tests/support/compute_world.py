"""The trading world, with a holder that computes: real ledger, real policy, real isolation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import duckdb
import pyarrow as pa
from contract_world import (
    ANALYST,
    HOLDER,
    OPERATOR,
    PRODUCT,
    REQUEST_KEY,
    Member,
    offer,
    request,
    terms,
    user_credential,
)
from trading_world import Shelf, World, offers_json

from luoshu.connector.catalog.entry_building import ShelvedProduct
from luoshu.connector.catalog.projection import CatalogProjection
from luoshu.connector.compute.budget import BudgetProjection, domain_limits
from luoshu.connector.compute.entries import Pseudonyms
from luoshu.connector.compute.gatekeeping import Gatekeeper
from luoshu.connector.compute.history import ReleaseHistory
from luoshu.connector.compute.outcome import Phase
from luoshu.connector.compute.ports import SandboxPort
from luoshu.connector.compute.projection import ComputeProjection
from luoshu.connector.compute.results import ResultStore
from luoshu.connector.compute.service import ComputeService
from luoshu.connector.contract.projection import ContractProjection
from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import JsonObject, canonicalize
from luoshu.contracts.contract import ContractState
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.ids import parse_product_id, request_id
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.log.entry import EntryBody
from luoshu.contracts.log.receipt import Receipt, verify_receipt
from luoshu.policies import PolicyEngine, load_default_engine
from luoshu.sandbox.history_port import HistoryPort
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import ProductFile, parse_product
from luoshu.sandbox.release.dp_budget import Guarantee
from luoshu.sandbox.run import Computation, Outcome, ReleaseRules, Sandbox
from luoshu.sandbox.templates import BoundParameter

BY_SEX = "SELECT sex, count(*) AS n, sum(time) AS days FROM lung GROUP BY sex"
RAW_ROWS = "SELECT * FROM lung"
OFFERED = terms(uses=100, regions=("CN", "DE"))
USER = user_credential().sign(ANALYST.events)

# 120 patients: 80 of sex 1, 36 of sex 2 and 4 of sex 3, who are too few to be released.
PATIENTS = """
SELECT p AS patient_id, CASE WHEN p < 80 THEN 1 WHEN p < 116 THEN 2 ELSE 3 END AS sex,
    10 + p AS time
FROM range(120) r(p)
"""
PRODUCT_YAML = """
id: lung
title: {en: Lung cancer survival, zh: 肺癌生存数据}
classification: {level: general, personal_information: sensitive, subjects: 120}
source: {parquet: lung.parquet}
privacy_unit: patient_id
columns:
  sex:  {use: [group, filter]}
  time: {use: [aggregate]}
release: {mode: aggregate, min_units: 10}
"""
RELEASED = [{"sex": 1, "n": 80, "days": 3960}, {"sex": 2, "n": 36, "days": 3870}]


@dataclass
class Workshop:
    """What is made once for many tests: the sandbox, the prepared product, the policy engine."""

    sandbox: Sandbox
    product: ProductFile
    prepared: PreparedProduct
    policy: PolicyEngine

    @classmethod
    def make(cls, directory: Path) -> Self:
        duckdb.execute(f"COPY ({PATIENTS}) TO '{directory / 'lung.parquet'}'")
        sandbox = Sandbox.start()
        product = parse_product(PRODUCT_YAML)
        prepared = prepare_product(
            product, directory, directory / "out", sandbox.isolation, directory / "units"
        )
        return cls(sandbox, product, prepared, load_default_engine())

    def narrow(self) -> Sandbox:
        """A sandbox in which a query that yields two cells fails at run time."""
        return Sandbox.start(IsolationConfig(max_rows=1))


@dataclass
class PreparedShelf(Shelf):
    """Prepared products, as computations ask for them."""

    def prepared(self, product_id: str) -> PreparedProduct:
        return self.load(parse_product_id(product_id).local_id).prepared

    def domain_limits(self, domain: str) -> tuple[Guarantee, ...]:
        return domain_limits([shelved.file for shelved in self.products.values()], domain)


@dataclass
class HeldSandbox:
    """The real sandbox, in which every computation waits before it computes."""

    sandbox: Sandbox
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    before_decision: bool = False

    @property
    def measurement(self) -> str:
        return self.sandbox.measurement

    def computation(
        self,
        products: list[PreparedProduct],
        rules: ReleaseRules,
        sql: str,
        history: HistoryPort | None,
        parameters: Sequence[BoundParameter],
    ) -> Computation:
        inner = self.sandbox.computation(products, rules, sql, history, parameters)
        return _Held(self, inner)  # type: ignore[return-value]

    async def hold(self) -> None:
        self.reached.set()
        await self.go.wait()


@dataclass
class _Held:
    held: HeldSandbox
    inner: Computation

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *args: Any) -> None:
        await self.inner.__aexit__(*args)

    async def verify(self) -> object:
        plan = await self.inner.verify()
        if self.held.before_decision:
            await self.held.hold()
        return plan

    async def compute(self) -> Outcome:
        if not self.held.before_decision:
            await self.held.hold()
        return await self.inner.compute()


class ComputeWorld(World):
    """A holder with one product, an analyst, a third member."""

    projections = (
        CatalogProjection,
        ContractProjection,
        ComputeProjection,
        BudgetProjection,
    )

    def __init__(self, root: Path, workshop: Workshop) -> None:
        super().__init__(root)
        self.workshop = workshop
        self.checking = workshop.sandbox
        self.shelf = PreparedShelf({"lung": ShelvedProduct(workshop.product, workshop.prepared)})
        self._service: ComputeService | None = None

    @property
    def service(self) -> ComputeService:
        assert self._service is not None
        return self._service

    @property
    def results(self) -> Path:
        return self.root / HOLDER.name / "results"

    async def begin(self) -> None:
        for member in (OPERATOR, HOLDER, ANALYST):
            self.start(member)
        self.holder.shelf.products = self.shelf.products
        await self.holder.products.publish("lung", offers_json(offer(OFFERED)))
        await self.serve()

    async def serve(self, sandbox: SandboxPort | None = None, *, concurrency: int = 2) -> None:
        """Starts the computations of the holder, or starts them anew with another sandbox."""
        if self._service is not None:
            await self._service.close()
        self._service = ComputeService(
            node_id=HOLDER.id,
            ledger=self.holder.ledger,
            gatekeeper=self.gatekeeper(),
            products=self.shelf,
            sandbox=sandbox or self.workshop.sandbox,
            results=ResultStore(self.results),
            history=ReleaseHistory(
                self.root / HOLDER.name / "history", self.holder.ledger, lambda _: bytes(32)
            ),
            pseudonyms=Pseudonyms(bytes(32)),
            clock=self.clock,
            concurrency=concurrency,
        )
        await self._service.recover()

    def gatekeeper(self) -> Gatekeeper:
        return Gatekeeper(
            own=HOLDER.credential(),
            members=self.holder.directory,
            contracts=self.holder.book,
            policy=self.workshop.policy,
        )

    async def crash(self, *, files: Any = None) -> None:
        """What is left after SIGKILL: whatever is on disk. The service isn't closed."""
        self._service = None
        self.files = {} if files is None else {HOLDER.id: files}
        self.restart(HOLDER)

    async def contract(self, member: Member = ANALYST, **changes: Any) -> ContractState:
        """An active contract between the holder and a member."""
        node = self.nodes.get(member.id) or self.start(member)
        wanted = canonicalize(terms(**changes).to_payload())
        return await node.contracts.request(PRODUCT, "", wanted)

    def ask(self, state: ContractState, sql: str | None = BY_SEX, **changes: Any) -> Envelope:
        """A new signed request of the analyst's user."""
        fields: dict[str, Any] = {
            "id": request_id(uuid4()),
            "contract_id": state.contract_id,
            "sql": sql,
            "issued_at": self.clock.now(),
        }
        return request(**{**fields, **changes}).sign(REQUEST_KEY)

    async def submit(
        self, envelope: Envelope, caller: Member = ANALYST, user: Envelope = USER
    ) -> str:
        return await self.service.submit(caller.id, envelope.to_bytes(), user.to_bytes())

    async def outcome(self, envelope: Envelope) -> tuple[Receipt, list[dict[str, Any]]]:
        """Submits, and fetches what comes of it."""
        request_id = await self.submit(envelope)
        return await self.fetched(request_id)

    async def fetched(self, request_id: str) -> tuple[Receipt, list[dict[str, Any]]]:
        receipt, result = await self.service.fetch(ANALYST.id, request_id)
        rows = pa.ipc.open_stream(result).read_all().to_pylist()
        return Receipt.from_bytes(receipt), sorted(rows, key=str)

    def verified(self, receipt: Receipt) -> EntryBody:
        return verify_receipt(receipt, [HOLDER.key(KeyUse.LOG).public], HOLDER.id)

    def log(self, *kinds: str) -> list[JsonObject]:
        """Data of the holder's entries about computations, in order."""
        ledger = self.holder.ledger
        wanted = kinds or ("decision", "release", "failure")
        return [
            {"kind": entry.body.kind, **entry.body.data}
            for entry in ledger.entries(0, ledger.size)
            if entry.body.kind in wanted
        ]

    async def uses(self, state: ContractState) -> int:
        held = await self.holder.ledger.read(lambda c: self.holder.book.find(c, state.contract_id))
        assert held is not None
        return held.uses

    async def reach(self, request_id: str, phase: Phase) -> None:
        """Waits until a computation is in a phase."""
        phases = self.service.progress(ANALYST.id, request_id)
        async for seen in phases:
            if seen >= phase:
                break
        await phases.aclose()

    async def end(self) -> None:
        if self._service is not None:
            await self._service.close()
        self.close()


@asynccontextmanager
async def compute_world(root: Path, workshop: Workshop) -> AsyncIterator[ComputeWorld]:
    """The world, ready for contracts and computations."""
    world = ComputeWorld(root, workshop)
    try:
        await world.begin()
        yield world
    finally:
        await world.end()


def refusal_of(outcome: object) -> str:
    """The reason of a refusal that was gathered; empty for a result."""
    return outcome.reason if isinstance(outcome, NodeError) else ""
