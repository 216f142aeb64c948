"""The compute world with a stand-in for the sandbox, which compares unit sets by the history port.

A query is a range of units such as ``1-20``. It releases their number, unless it differs by fewer
than ten units from what was released before in its scope. Everything else is real.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from compute_world import ComputeWorld
from contract_world import HOLDER, offer, terms
from trading_world import offers_json, shelved

from luoshu.policies import PolicyEngine, load_default_engine
from luoshu.sandbox.errors import SandboxFailureError
from luoshu.sandbox.history_port import HistoryPort
from luoshu.sandbox.run import ReleaseRules
from luoshu.sandbox.templates import BoundParameter

TOO_FEW = 10


@dataclass
class RangeSandbox:
    """Computes at once; can be made to wait inside the history's transaction, or to fail.

    Attributes:
        hold: Wait in the transaction until `go` is set.
        hold_after: Wait after it, with the delta durable.
        fail: Where to fail: ``compute``, or ``shape`` once the delta is durable.
        rules: Of the newest computation.
        inside: How many are in a transaction, and the most that ever were.
    """

    directory: Path
    hold: bool = False
    hold_after: bool = False
    fail: str = ""
    rules: ReleaseRules | None = None
    inside: int = 0
    most_inside: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    measurement: str = f"sha256:{'0' * 64}"

    def computation(
        self,
        products: list[Any],
        rules: ReleaseRules,
        sql: str,
        history: HistoryPort | None,
        parameters: Sequence[BoundParameter],
    ) -> _RangeComputation:
        del products
        self.rules = rules
        for each in parameters:
            sql = sql.replace(f"${each.name}", each.text)
        return _RangeComputation(self, sql, history)


@dataclass
class _RangeComputation:
    sandbox: RangeSandbox
    sql: str
    history: HistoryPort | None

    async def __aenter__(self) -> Self:
        if self.history is not None:  # else it is only verified
            assert self.history.directory is not None
            assert self.history.directory.is_dir()
        return self

    async def __aexit__(self, *args: object) -> None:
        pass

    async def verify(self) -> Any:
        return SimpleNamespace(privacy=None)

    async def compute(self) -> Any:
        sandbox = self.sandbox
        assert self.history is not None
        if sandbox.fail == "compute":
            raise SandboxFailureError("as told")
        first, last = (int(bound) for bound in self.sql.split("-"))
        units = set(range(first, last + 1))
        async with self.history.transaction(("lung.lung",)) as transaction:
            sandbox.inside += 1
            sandbox.most_inside = max(sandbox.inside, sandbox.most_inside)
            try:
                conflicts = await self._decide(units, transaction)
            finally:
                sandbox.inside -= 1
        if sandbox.hold_after:
            sandbox.reached.set()
            await sandbox.go.wait()
        if sandbox.fail == "shape":
            raise SandboxFailureError("as told")
        rows = () if conflicts else ((len(units),),)
        return SimpleNamespace(
            columns=(("n", "BIGINT"),), rows=rows, conflicts=conflicts, timings={"release": 0.001}
        )

    async def _decide(self, units: set[int], transaction: Any) -> int:
        assert self.history is not None
        assert len(transaction.secret) == 32
        before = [
            set(map(int, (self.history.directory / name).read_text().split()))
            for name in transaction.names
        ]
        if self.sandbox.hold:
            self.sandbox.reached.set()
            await self.sandbox.go.wait()
        conflicts = sum(0 < len(units ^ earlier) < TOO_FEW for earlier in before)
        if not conflicts:
            data = " ".join(map(str, sorted(units))).encode()
            delta = self.sandbox.directory / f"delta-{hashlib.sha256(data).hexdigest()[:8]}"
            delta.write_bytes(data)
            await transaction.commit(delta, f"sha256:{hashlib.sha256(data).hexdigest()}")
        return conflicts


@cache
def _policy() -> PolicyEngine:
    return load_default_engine()


class HistoryWorld(ComputeWorld):
    """A holder whose computations are ranges of units."""

    def __init__(self, root: Path) -> None:
        product = shelved()
        deltas = root / "deltas"
        deltas.mkdir()
        self.ranges = RangeSandbox(deltas)
        workshop = SimpleNamespace(
            sandbox=self.ranges,
            product=product.file,
            prepared=product.prepared,
            policy=_policy(),
        )
        super().__init__(root, workshop)  # type: ignore[arg-type]

    @property
    def domain(self) -> Path:
        """Directory of the one privacy domain."""
        (directory,) = (self.root / HOLDER.name / "history").iterdir()
        return directory

    @property
    def kept(self) -> list[Path]:
        return sorted(self.domain.glob("*.hist"))

    async def offer_with(self, **changes: Any) -> None:
        """Publishes the product anew, with an offer of other terms."""
        if "scope" in changes:
            self.floor(scope=str(changes["scope"]))
        await self.holder.products.publish(
            "lung", offers_json(offer(terms(uses=100, regions=("CN", "DE"), **changes)))
        )

    def floor(self, **rules: Any) -> None:
        """Prepares the product anew, with another release floor."""
        product = self.shelf.products["lung"]
        release = replace(product.prepared.release, **rules)
        prepared = replace(product.prepared, release=release)
        self.shelf.products["lung"] = replace(product, prepared=prepared)

    async def counted(self, units: str, state: Any) -> list[int]:
        """What a computation over units releases: their number, or nothing."""
        _, rows = await self.outcome(self.ask(state, units))
        return [row["n"] for row in rows]

    async def debits(self, state: Any) -> int:
        details = await self.holder.contracts.get(state.contract_id)
        assert details.debits is not None
        return details.debits


@asynccontextmanager
async def history_world(root: Path) -> AsyncIterator[HistoryWorld]:
    """The world, ready for contracts and computations."""
    world = HistoryWorld(root)
    try:
        await world.begin()
        yield world
    finally:
        world.ranges.go.set()
        await world.end()
