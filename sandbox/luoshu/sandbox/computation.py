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
from typing import Self, TypeAlias, TypeVar

from luoshu.sandbox import wire
from luoshu.sandbox.dp_agreement import DpLimits, PrivacyPlan
from luoshu.sandbox.errors import (
    GuardRefusalError,
    QueryError,
    SandboxFailureError,
    SandboxUnavailableError,
)
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.history_port import HistoryPort
from luoshu.sandbox.isolation.port import (
    Isolation,
    Mount,
    Worker,
    WorkerError,
    WorkerSpec,
)
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.schema import CellSchema, SchemaError, ValueType, checked_name, exact_fields

_MAX_MESSAGE = 4096
_MAX_COLUMNS = 4096
_Message: TypeAlias = "dict[str, object]"
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
    jitter: int = 4
    dominance_ppm: int = 850_000
    scope: str = "participant"
    debits: int = 16
    dp: DpLimits | None = None


@dataclass(frozen=True, slots=True)
class VerifiedPlan:
    """What the guard proved that stage 1 will yield.

    Attributes:
        cells: Schema of the cells.
        tables: Names of the tables they come from.
        min_units: The threshold that will be applied.
        privacy: What it costs, and how it will be released; of mode `dp` only.
    """

    cells: CellSchema
    tables: tuple[str, ...]
    min_units: int
    privacy: PrivacyPlan | None = None


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
    conflicts: int = 0


@dataclass(slots=True)
class Computation(AbstractAsyncContextManager["Computation"]):
    """One query's run. Leaving the context, also by cancellation, kills its workers.

    Attributes:
        timings: Seconds by phase, so far.
    """

    isolation: Isolation
    products: Sequence[PreparedProduct]
    rules: ReleaseRules
    sql: str
    history: HistoryPort | None = None
    timings: dict[str, float] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)
    _plan: VerifiedPlan | None = None
    _stage2: str = ""
    _deadline: float = 0.0

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
            for entry, products in (("stage1", len(data)), ("stage2", 0)):
                await self._workers[entry].send(self._setup(products))
        except WorkerError:
            said = await self._stop()
            raise SandboxUnavailableError(await self._why(), said) from None
        except BaseException:
            await self._stop()
            raise
        return self

    def _setup(self, products: int) -> _Message:
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

    async def _stop(self) -> str:
        """Kills the workers and returns what the operational log may know of their ends."""
        workers, self._workers = self._workers, {}
        for worker in workers.values():  # at once: what follows may be cancelled
            worker.kill()
        stops = asyncio.gather(*(worker.stop() for worker in workers.values()))
        ends = await asyncio.shield(stops)
        said = [
            f"{entry}: {end.status} {end.log.strip()}".strip()
            for entry, end in zip(workers, ends, strict=True)
            if end.log or end.status != "signal SIGKILL"
        ]
        return "; ".join(said)

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
        modes = {self.rules.mode, *(product.release.mode for product in self.products)}
        if unknown := sorted(modes - {"aggregate"}):
            raise refuse(
                Refusal.MODE,
                f"The release mode {shown(unknown[0])} is not there yet; agree on `aggregate`.",
            )
        stage1 = self._workers["stage1"]
        try:
            await self._timed("start", self._in_time(stage1.receive()))
        except WorkerError:
            said = await self._stop()
            raise SandboxUnavailableError(await self._why(), said) from None
        tables = [product.schema(f"p{n}").to_json() for n, product in enumerate(self.products)]
        sql = self.sql.encode("utf-8", "replace").decode()  # a lone surrogate is no text
        job: _Message = {"type": "verify", "sql": sql, "tables": tables}
        answer = await self._timed("verify", self._ask(stage1, job))
        if answer.get("type") == "refused":
            raise _refusal(answer)
        try:
            cells, self._stage2 = _verified(answer, [p.table_name for p in self.products])
        except SchemaError as error:
            raise SandboxFailureError(f"stage1 answered wrongly: {error}") from None
        floors = [p.release.min_units for p in self.products if p.table_name in cells.tables]
        self._plan = VerifiedPlan(cells, cells.tables, max(self.rules.min_units, *floors))
        return self._plan

    async def compute(self) -> Outcome:
        """Computes cells, releases them and shapes the result.

        Raises:
            SandboxFailureError: It failed while it ran, whatever the cause.
        """
        if self._plan is None:
            raise RuntimeError("compute() comes after verify()")
        cells, limit = self._plan.cells, self.isolation.config.max_rows
        stage1, release, stage2 = (self._workers[n] for n in ("stage1", "release", "stage2"))
        try:
            answer = await self._timed("compute", self._ask(stage1, {"type": "compute"}))
            found = await asyncio.to_thread(_rows, answer, "rows", cells.row_types, limit)
            if not cells.keys and len(found) != 1:
                raise SandboxFailureError("stage1 answered wrongly: not one cell")
            job: _Message = {
                "type": "release",
                "cells": cells.to_json(),
                "rules": {"mode": self.rules.mode, "min_units": self._plan.min_units},
                "rows": wire.encode_rows(found),
            }
            answer = await self._timed("release", self._ready_and_ask(release, job))
            released = await asyncio.to_thread(
                _rows, answer, "released", cells.released_types, limit
            )
            groups, values = _count(answer, "withheld_groups"), _count(answer, "withheld_values")
            job = {
                "type": "shape",
                "keys": len(cells.keys),
                "types": [str(kind) for kind in cells.released_types],
                "rows": wire.encode_rows(released),
                "sql": self._stage2,
            }
            answer = await self._timed("stage2", self._ready_and_ask(stage2, job))
            columns = _columns(answer)
            kinds = [kind for _, kind in columns]
            rows = await asyncio.to_thread(_rows, answer, "result", kinds, limit)
        except (wire.WireError, SchemaError) as error:
            raise SandboxFailureError(f"a worker answered wrongly: {error}") from None
        return Outcome(
            tuple((name, str(kind)) for name, kind in columns),
            tuple(rows),
            groups,
            values,
            dict(self.timings),
        )

    async def _ask(self, worker: Worker, job: _Message) -> _Message:
        await self._within_deadline(worker.send(job))
        return await self._within_deadline(worker.receive())

    async def _ready_and_ask(self, worker: Worker, job: _Message) -> _Message:
        await self._within_deadline(worker.receive())  # ready
        return await self._ask(worker, job)

    async def _timed(self, phase: str, work: Awaitable[_Answer]) -> _Answer:
        began = time.perf_counter()
        try:
            return await work
        finally:
            self.timings[phase] = time.perf_counter() - began

    async def _within_deadline(self, work: Awaitable[_Answer]) -> _Answer:
        try:
            return await self._in_time(work)
        except WorkerError as error:
            said = await self._stop()
            raise SandboxFailureError(f"{error} ({said})" if said else str(error)) from None

    async def _in_time(self, work: Awaitable[_Answer]) -> _Answer:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await work
        except TimeoutError:
            await self._stop()
            raise SandboxFailureError("the wall-time limit was reached") from None


def _refusal(answer: _Message) -> Exception:
    code, message = answer.get("code"), answer.get("message")
    if not isinstance(code, str) or not isinstance(message, str):
        return SandboxFailureError("stage1 answered wrongly: a refusal without words")
    if code == QueryError.code:
        return QueryError(message[:_MAX_MESSAGE])
    if code in set(Refusal):
        return GuardRefusalError(code, message[:_MAX_MESSAGE])
    return SandboxFailureError("stage1 answered wrongly: an unknown refusal")


def _verified(answer: _Message, tables: Sequence[str]) -> tuple[CellSchema, str]:
    fields = exact_fields(answer, "type", "cells", "stage2")
    stage2 = fields["stage2"]
    if fields["type"] != "verified" or not isinstance(stage2, str):
        raise SchemaError("not a verified plan")
    cells = CellSchema.from_json(fields["cells"])
    if not cells.tables or not set(cells.tables) <= set(tables):
        raise SchemaError("cells of unknown tables")
    return cells, stage2


def _rows(answer: _Message, kind: str, types: Sequence[ValueType], limit: int) -> list[wire.Row]:
    if answer.get("type") != kind:
        raise SchemaError(f"not {kind}")
    return wire.decode_rows(answer.get("rows"), types, limit)


def _count(answer: _Message, name: str) -> int:
    count = answer.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise SchemaError(f"{name} must be a count")
    return count


def _columns(answer: _Message) -> list[tuple[str, ValueType]]:
    columns = answer.get("columns")
    if not isinstance(columns, list) or len(columns) > _MAX_COLUMNS:
        raise SchemaError("columns must be a list")
    pairs = [exact_fields(column, "name", "type") for column in columns]
    return [(checked_name(pair["name"]), ValueType.parse(pair["type"])) for pair in pairs]
