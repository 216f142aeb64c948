"""One computation from SQL to released rows, over three single-use workers.

Stage 1 holds the protected file, verifies the query and computes cells; the
release worker, which has no SQL engine, decides on cells; stage 2 holds no
protected data and shapes the released ones. All three start at once, before
they know anything; this module only carries checked messages between them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

from luoshu.sandbox import wire
from luoshu.sandbox.errors import (
    GuardRefusalError,
    QueryError,
    SandboxFailureError,
    SandboxUnavailableError,
)
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import (
    Finding,
    Isolation,
    IsolationConfig,
    Mount,
    Worker,
    WorkerError,
    WorkerSpec,
)
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.schema import CellSchema, SchemaError, ValueType, checked_name, exact_fields

MAX_SQL_BYTES = 64 << 10
_MAX_MESSAGE = 4096
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class ReleaseRules:
    """A contract's release section.

    Attributes:
        mode: `aggregate`.
        min_units: Fewest distinct units behind anything released; the product's
            floor holds as well.
    """

    mode: str = "aggregate"
    min_units: int = 1


@dataclass(frozen=True, slots=True)
class VerifiedPlan:
    """What the guard proved that stage 1 will yield.

    Attributes:
        cells: Schema of the cells.
        tables: Names of the tables they come from.
        min_units: The threshold that will be applied.
    """

    cells: CellSchema
    tables: tuple[str, ...]
    min_units: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a computation releases.

    Attributes:
        columns: Name and DuckDB type of each column.
        rows: The released rows.
        withheld_groups: Groups of which nothing was released. For the holder's eyes.
        withheld_values: Values withheld beside released ones. For the holder's eyes.
        timings: Seconds by phase (`start`, `verify`, `compute`, `release`, `stage2`). For the
            holder's eyes.
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[wire.Row, ...]
    withheld_groups: int
    withheld_values: int
    timings: dict[str, float]


class Sandbox:
    """Where computations run on this machine."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation

    @classmethod
    def start(cls, config: IsolationConfig | None = None) -> Self:
        """Starts the launcher process; call it before gRPC is imported.

        A machine that can't isolate is no error here: `check` says what is
        missing, and every computation raises `SandboxUnavailableError`.
        """
        return cls(BwrapIsolation(config or IsolationConfig()))

    @property
    def isolation(self) -> Isolation:
        """The wall, for `prepare_product`."""
        return self._isolation

    @property
    def measurement(self) -> str:
        """`sha256:<hex>` of the workers' code, interpreter, engine and libraries.

        Raises:
            SandboxUnavailableError: This machine can't isolate a worker.
        """
        return self._isolation.measurement

    def check(self) -> list[Finding]:
        """Tries to isolate a trivial process; blocks for about 50 ms. Empty if all is well."""
        return self._isolation.check()

    def close(self) -> None:
        """Ends the launcher and all workers; again is harmless."""
        self._isolation.close()

    def computation(
        self, products: Sequence[PreparedProduct], rules: ReleaseRules, sql: str
    ) -> Computation:
        """A computation over some products; use it as an async context manager.

        Args:
            products: Whose tables the SQL may name.
            rules: The contract's.
            sql: One SELECT statement, at most 64 KiB.

        Raises:
            ValueError: Two products have the same table name.
        """
        names = [product.table_name for product in products]
        if len(set(names)) != len(names):
            raise ValueError("two products have the same table name; give each once")
        return Computation(self._isolation, products, rules, sql)


@dataclass(slots=True)
class Computation(AbstractAsyncContextManager["Computation"]):
    """One query's run. Leaving the context, also by cancellation, kills its workers."""

    isolation: Isolation
    products: Sequence[PreparedProduct]
    rules: ReleaseRules
    sql: str
    timings: dict[str, float] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)
    _plan: VerifiedPlan | None = None
    _stage2_sql: str = ""
    _deadline: float = 0.0
    _logs: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        """Starts the workers, without a job.

        Raises:
            SandboxUnavailableError: This machine can't isolate them.
        """
        config = self.isolation.config
        self._deadline = asyncio.get_running_loop().time() + config.wall_seconds
        data = tuple(
            Mount(product.path.resolve(), f"/product/{number}.duckdb")
            for number, product in enumerate(self.products)
        )
        try:
            for entry, mounts in (("stage1", data), ("release", ()), ("stage2", ())):
                spec = WorkerSpec(entry, mounts, config.limits)
                self._workers[entry] = await self.isolation.start(spec)
            for worker, products in (("stage1", len(data)), ("stage2", 0)):
                await self._workers[worker].send(self._setup(products))
        except WorkerError:
            await self._stop()
            raise SandboxUnavailableError(await self._why()) from None
        except BaseException:
            await self._stop()
            raise
        return self

    def _setup(self, products: int) -> dict[str, object]:
        config = self.isolation.config
        return {
            "type": "setup",
            "catalogs": [f"p{number}" for number in range(products)],
            "memory_bytes": config.limits.memory_bytes // 2,
            "threads": config.threads,
            "max_rows": config.max_rows,
        }

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kills the workers and waits until they are gone."""
        await self._stop()

    async def _stop(self) -> None:
        workers, self._workers = self._workers, {}
        ends = await asyncio.gather(*(worker.stop() for worker in workers.values()))
        self._logs += [
            f"{name}: {end.status}: {end.log.strip()}"
            for name, end in zip(workers, ends, strict=True)
            if end.log
        ]

    async def _why(self) -> str:
        finding = next(iter(await asyncio.to_thread(self.isolation.check)), None)
        if finding:
            return f"{finding.message} {finding.remedy}"
        return "An isolated worker did not start; `luoshu doctor` says more."

    async def verify(self) -> VerifiedPlan:
        """Parses, binds and verifies the query. Nothing of the data is read.

        Raises:
            QueryError: It doesn't parse, or names what doesn't exist.
            GuardRefusalError: The guard refuses it.
            SandboxUnavailableError: A worker could not be started.
            SandboxFailureError: A worker died.
        """
        stage1 = self._workers["stage1"]
        self._check_modes()
        try:
            await self._timed("start", self._ready(stage1))
        except SandboxFailureError:
            await self._stop()
            raise SandboxUnavailableError(await self._why()) from None
        if len(self.sql.encode("utf-8", "surrogatepass")) > MAX_SQL_BYTES:
            raise QueryError(f"The SQL is longer than {MAX_SQL_BYTES >> 10} KiB; shorten it.")
        tables = [product.schema(f"p{n}").to_json() for n, product in enumerate(self.products)]
        job: dict[str, object] = {"type": "verify", "sql": self.sql, "tables": tables}
        answer = await self._timed("verify", self._ask(stage1, job))
        if answer.get("type") == "refused":
            raise self._refusal(answer)
        try:
            fields = exact_fields(answer, "type", "cells", "stage2")
            if fields["type"] != "verified" or not isinstance(fields["stage2"], str):
                raise SchemaError("not a verified plan")
            cells = CellSchema.from_json(fields["cells"])
            floors = {product.table_name: product.release for product in self.products}
            if not cells.tables or any(table not in floors for table in cells.tables):
                raise SchemaError("cells of unknown tables")
        except SchemaError as error:
            raise SandboxFailureError(f"stage1 answered wrongly: {error}") from None
        self._stage2_sql = fields["stage2"]
        floor = max(floors[table].min_units for table in cells.tables)
        self._plan = VerifiedPlan(cells, cells.tables, max(floor, self.rules.min_units))
        return self._plan

    def _check_modes(self) -> None:
        modes = {self.rules.mode, *(product.release.mode for product in self.products)}
        if unknown := sorted(modes - {"aggregate"}):
            raise refuse(
                Refusal.MODE,
                f"The release mode {shown(unknown[0])} is not there yet; agree on `aggregate`.",
            )

    def _refusal(self, answer: dict[str, object]) -> Exception:
        code, message = answer.get("code"), answer.get("message")
        if not isinstance(code, str) or not isinstance(message, str):
            return SandboxFailureError("stage1 answered wrongly: a refusal without words")
        message = message[:_MAX_MESSAGE]
        if code == QueryError.code:
            return QueryError(message)
        if code.startswith("GUARD_") and code.isascii() and len(code) <= 64:
            return GuardRefusalError(code, message)
        return SandboxFailureError("stage1 answered wrongly: an unknown refusal")

    async def compute(self) -> Outcome:
        """Computes cells, releases them and shapes the result.

        Raises:
            SandboxFailureError: It failed while it ran, whatever the cause.
        """
        if self._plan is None:
            raise RuntimeError("compute() comes after verify()")
        plan, limit = self._plan, self.isolation.config.max_rows
        stage1, release, stage2 = (self._workers[n] for n in ("stage1", "release", "stage2"))
        answer = await self._timed("compute", self._ask(stage1, {"type": "compute"}))
        cells = _rows(answer, plan.cells.row_types, limit, "rows")
        if not plan.cells.keys and len(cells) != 1:
            raise SandboxFailureError("stage1 answered wrongly: not one cell")
        job = {
            "type": "release",
            "cells": plan.cells.to_json(),
            "rules": {"mode": self.rules.mode, "min_units": plan.min_units},
            "rows": wire.encode_rows(cells),
        }
        answer = await self._timed("release", self._release(release, job))
        released = _rows(answer, plan.cells.released_types, limit, "released")
        withheld = [answer.get("withheld_groups"), answer.get("withheld_values")]
        job = {
            "type": "shape",
            "keys": len(plan.cells.keys),
            "types": [str(kind) for kind in plan.cells.released_types],
            "rows": wire.encode_rows(released),
            "sql": self._stage2_sql,
        }
        answer = await self._timed("stage2", self._release(stage2, job))
        columns = _columns(answer)
        rows = _rows(answer, [kind for _, kind in columns], limit, "result")
        if not all(isinstance(count, int) and count >= 0 for count in withheld):
            raise SandboxFailureError("release answered wrongly: no counts")
        return Outcome(
            columns=tuple((name, str(kind)) for name, kind in columns),
            rows=tuple(rows),
            withheld_groups=int(str(withheld[0])),
            withheld_values=int(str(withheld[1])),
            timings=dict(self.timings),
        )

    async def _release(self, worker: Worker, job: dict[str, object]) -> dict[str, object]:
        await self._ready(worker)
        return await self._ask(worker, job)

    async def _ready(self, worker: Worker) -> None:
        if await self._within_deadline(worker.receive()) != {"type": "ready"}:
            raise SandboxFailureError("a worker answered wrongly: not ready")

    async def _ask(self, worker: Worker, job: dict[str, object]) -> dict[str, object]:
        await self._within_deadline(worker.send(job))
        return await self._within_deadline(worker.receive())

    async def _timed(self, phase: str, work: Awaitable[_Answer]) -> _Answer:
        began = time.perf_counter()
        try:
            return await work
        finally:
            self.timings[phase] = time.perf_counter() - began

    async def _within_deadline(self, work: Awaitable[_Answer]) -> _Answer:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await work
        except TimeoutError:
            reason = "the wall-time limit was reached"
        except WorkerError as error:
            reason = str(error)
        await self._stop()
        raise SandboxFailureError("; ".join([reason, *self._logs]))


def _rows(
    answer: dict[str, object], types: Sequence[ValueType], limit: int, kind: str
) -> list[wire.Row]:
    try:
        if answer.get("type") != kind:
            raise wire.WireError(f"not {kind}")
        return wire.decode_rows(answer.get("rows"), types, limit)
    except wire.WireError as error:
        raise SandboxFailureError(f"a worker answered wrongly: {error}") from None


def _columns(answer: dict[str, object]) -> list[tuple[str, ValueType]]:
    try:
        columns = answer.get("columns")
        if not isinstance(columns, list) or len(columns) > 4096:
            raise SchemaError("no columns")
        pairs = [exact_fields(column, "name", "type") for column in columns]
        return [(checked_name(pair["name"]), ValueType.parse(pair["type"])) for pair in pairs]
    except SchemaError as error:
        raise SandboxFailureError(f"stage2 answered wrongly: {error}") from None
