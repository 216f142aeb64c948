"""One computation from SQL to released rows, over three single-use workers.

Stage 1 holds the protected file, verifies the query and writes each unit's contributions into a
directory; it is killed before the release worker reads them, which has no SQL engine and decides
on cells; stage 2 holds no protected data and shapes the released ones. All three start at once,
before they know anything; this module only carries checked messages between them, and makes what
is released now part of the history before anything of it leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from luoshu.sandbox import answers, dp_agreement, wire
from luoshu.sandbox.answers import ReleasedAnswer, Stage1Result, Withholding
from luoshu.sandbox.dp_agreement import PrivacyPlan
from luoshu.sandbox.errors import SandboxFailureError, SandboxUnavailableError
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.history_port import (
    HistoryPort,
    HistoryTransaction,
    HistoryUnavailableError,
    NoHistory,
    is_entry_name,
)
from luoshu.sandbox.isolation.port import (
    Isolation,
    Worker,
    WorkerError,
    WorkerSpec,
)
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.release_floor import AGGREGATE, DP
from luoshu.sandbox.rules import MAX_CONFLICTS, ReleaseRules, strictest
from luoshu.sandbox.schema import CellSchema, SchemaError, TableSchema
from luoshu.sandbox.scratch import Scratch, path_of
from luoshu.sandbox.templates import BoundParameter

_FILES_AT_ONCE = 200

_Message: TypeAlias = "dict[str, object]"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class VerifiedPlan:
    """What the guard proved that stage 1 will yield.

    Attributes:
        cells: Schema of each cell query.
        tables: The protected tables they come from, as `catalog.table`.
        rules: In force: the strictest of the contract's and the floors of the products used.
        privacy: What it costs, and how it will be released; of mode `dp` only.
    """

    cells: tuple[CellSchema, ...]
    tables: tuple[str, ...]
    rules: ReleaseRules
    privacy: PrivacyPlan | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a computation releases.

    Attributes:
        columns: Name and DuckDB type of each column.
        rows: The released rows.
        withheld_groups: Groups of which nothing was released. For the holder's eyes.
        withheld_values: Values withheld beside released ones. For the holder's eyes.
        timings: Seconds by phase (`start`, `verify`, `compute`, `release`, `history`, `stage2`).
            For the holder's eyes.
        conflicts: Cells withheld because they differ too little from what was released before;
            cells of the same query on other data don't count. For the holder's eyes.
        withheld: What was withheld, and by which rule; at most the first 10,000. For the holder's
            eyes.
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[wire.Row, ...]
    withheld_groups: int
    withheld_values: int
    timings: dict[str, float]
    conflicts: int = 0
    withheld: tuple[Withholding, ...] = ()


@dataclass(slots=True)
class Computation(AbstractAsyncContextManager["Computation"]):
    """One query's run. Leaving the context, also by cancellation, kills its workers.

    Attributes:
        history: What the result is compared with, and joins; None for none.
        parameters: Values of a template, if the SQL is one.
        explains: Whether groups of too few units are explained too, each by itself.
        timings: Seconds by phase, so far.
    """

    isolation: Isolation
    products: Sequence[PreparedProduct]
    rules: ReleaseRules
    sql: str
    history: HistoryPort | None = None
    parameters: Sequence[BoundParameter] = ()
    explains: bool = False
    timings: dict[str, float] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)
    _plan: VerifiedPlan | None = None
    _stage2: str = ""
    _deadline: float = 0.0
    _scratch: Scratch | None = None
    _contributions: list[int] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        """Starts the workers, without a job.

        Raises:
            SandboxUnavailableError: This machine can't isolate them.
        """
        config = self.isolation.config
        self._deadline = asyncio.get_running_loop().time() + config.wall_seconds
        self._scratch = Scratch(config.limits.export_bytes)
        try:
            for entry in ("stage1", self._releasing, "stage2"):
                spec = WorkerSpec(entry, (), config.limits_of(entry))
                self._workers[entry] = await self.isolation.start(spec)
            await self._hand_over_data()
            await self._workers["stage2"].send(self._setup([]))
        except WorkerError:
            said = await self._stop()
            raise SandboxUnavailableError(await self._why(), said) from None
        except BaseException:
            await self._stop()
            raise
        return self

    @property
    def _releasing(self) -> str:
        """The worker that releases: only one of mode `dp` has what adds noise in its root."""
        return "release_dp" if self.rules.mode == DP else "release"

    async def _hand_over_data(self) -> None:
        with ExitStack() as closing:
            try:
                files = [self._lent(product.path, closing) for product in self.products]
            except OSError as error:
                raise SandboxFailureError(f"a prepared file: {error.strerror}") from None
            names = [product.table_name for product in self.products]
            await self._workers["stage1"].send(self._setup(names), files)

    def _lent(self, path: Path, closing: ExitStack) -> int:
        lent = self.isolation.lend(path)
        closing.callback(os.close, lent)
        return lent

    def _setup(self, catalogs: Sequence[str]) -> _Message:
        config = self.isolation.config
        return {
            "type": "setup",
            "catalogs": list(catalogs),
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
        """Kills the workers, waits until they are gone and removes what they wrote."""
        await self._stop()

    async def _stop(self) -> str:
        """Kills the workers and returns what the operational log may know of their ends."""
        workers, self._workers = self._workers, {}
        scratch, self._scratch = self._scratch, None
        for worker in workers.values():  # at once: what follows may be cancelled
            worker.kill()
        stops = asyncio.gather(*(worker.stop() for worker in workers.values()))
        try:
            ends = await asyncio.shield(stops)
        finally:
            if scratch is not None:
                scratch.close()
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
        """Parses, binds and verifies the query. Nothing of protected data is read.

        Raises:
            QueryError: It doesn't parse, or names what doesn't exist.
            GuardRefusalError: The guard refuses it.
            SandboxUnavailableError: A worker could not be started.
            SandboxFailureError: A worker died.
        """
        self._check_mode()
        stage1 = self._workers["stage1"]
        try:
            await self._timed("start", self._in_time(stage1.receive()))
        except WorkerError:
            said = await self._stop()
            raise SandboxUnavailableError(await self._why(), said) from None
        tables = [schema for product in self.products for schema in product.schemas()]
        strict = strictest(self.rules, self.products)
        job: _Message = {
            "type": "verify",
            "sql": self.sql.encode("utf-8", "replace").decode(),  # a lone surrogate is no text
            "parameters": [parameter.to_json() for parameter in self.parameters],
            "tables": [schema.to_json() for schema in tables],
            "mode": self.rules.mode,
            "min_units": strict.min_units,
            "dominance_ppm": strict.dominance_ppm,
        }
        answer = await self._timed("verify", self._ask(stage1, job))
        try:
            named = {f"{table.catalog}.{table.table}": table for table in tables}
            verified = await asyncio.to_thread(answers.read_verified, answer, named)
        except SchemaError as error:
            raise SandboxFailureError(f"stage1 answered wrongly: {error}") from None
        cells, self._stage2 = verified.cells, verified.stage2
        names = tuple(sorted({name for schema in cells for name in schema.tables}))
        used = self._used(names)
        rules = strictest(self.rules, used)
        privacy = await asyncio.to_thread(self._privacy, rules, verified, used, tables)
        self._plan = VerifiedPlan(cells, names, rules, privacy)
        return self._plan

    def _check_mode(self) -> None:
        """Requires one mode, of the rules and of all products that protect anybody.

        Raises:
            GuardRefusalError: There are several, or one that isn't there.
        """
        floors = {product.release.mode for product in self.products if product.domain}
        if unknown := sorted({self.rules.mode, *floors} - {AGGREGATE, DP}):
            raise refuse(
                Refusal.MODE,
                f"The release mode {shown(unknown[0])} is not there yet; agree on `aggregate`.",
            )
        if other := sorted(floors - {self.rules.mode}):
            raise refuse(
                Refusal.MODE,
                f"A product here is released by {shown(other[0])}, not by "
                f"{shown(self.rules.mode)}: ask under a contract of that mode.",
            )

    def _privacy(
        self,
        rules: ReleaseRules,
        verified: answers.VerifiedAnswer,
        used: Sequence[PreparedProduct],
        tables: Sequence[TableSchema],
    ) -> PrivacyPlan | None:
        """What the computation costs, and how it is released; None of another mode than `dp`.

        Raises:
            GuardRefusalError: It can't be released with differential privacy.
        """
        if rules.mode != DP:
            return None
        floors = [product.release.limits for product in used]
        limits = dp_agreement.strictest(rules.dp, floors)
        if limits is None:
            raise refuse(
                Refusal.MODE, "Neither contract nor product say what a computation may cost."
            )
        return dp_agreement.plan_computation(limits, verified.cells, tables, verified.public)

    def _used(self, tables: Sequence[str]) -> list[PreparedProduct]:
        """The products whose protected tables a plan reads.

        Raises:
            GuardRefusalError: They protect different people: what is released can be compared
                with one history only.
        """
        catalogs = {name.partition(".")[0] for name in tables}
        used = [product for product in self.products if product.table_name in catalogs]
        domains = sorted({product.domain for product in used})
        if len(domains) > 1 or len({product.registry for product in used}) > 1:
            listed = " and ".join(shown(domain) for domain in domains)
            raise refuse(
                Refusal.TABLE,
                f"The tables protect different people ({listed}): ask for each in a query of its "
                "own.",
            )
        return used

    async def compute(self) -> Outcome:
        """Computes cells, releases them and shapes the result.

        Raises:
            SandboxFailureError: It failed while it ran, whatever the cause.
        """
        if self._plan is None:
            raise RuntimeError("compute() comes after verify()")
        limit = self.isolation.config.max_rows
        try:
            results = await self._timed("compute", self._cells(self._plan))
            if self._plan.tables:
                released = await self._release(self._plan, results)
            else:
                released = answers.released_as_they_are(results)
            job = await asyncio.to_thread(_shape_job, self._plan.cells, released, self._stage2)
            answer = await self._timed("stage2", self._ready_and_ask("stage2", job))
            columns, rows = await asyncio.to_thread(answers.read_result, answer, limit)
        except (wire.WireError, SchemaError) as error:
            raise SandboxFailureError(f"a worker answered wrongly: {error}") from None
        return Outcome(
            columns,
            rows,
            released.withheld_groups + sum(result.dropped for result in results),
            released.withheld_values,
            dict(self.timings),
            released.conflicts,
            released.withheld,
        )

    async def _cells(self, plan: VerifiedPlan) -> list[Stage1Result]:
        stage1, limit = self._workers["stage1"], self.isolation.config.max_rows
        job: _Message = {
            "type": "compute",
            "min_units": plan.rules.min_units,
            "drop": plan.privacy is None and not self.explains,
        }
        self._contributions = [self._made() for _ in plan.cells]
        answer = await self._ask(stage1, job, self._contributions)
        stage1.kill()
        return await asyncio.to_thread(answers.read_cells, answer, plan.cells, limit)

    async def _release(self, plan: VerifiedPlan, results: Sequence[Stage1Result]) -> ReleasedAnswer:
        """Has the cells decided on, and what is released joins the history for good."""
        # Noise is what protects in mode `dp`: there is nothing to compare.
        history = self.history if self.history and plan.privacy is None else NoHistory()
        async with AsyncExitStack() as stack:
            try:
                transaction = await self._timed(
                    "history",
                    self._in_time(stack.enter_async_context(history.transaction(plan.tables))),
                )
                began = time.perf_counter()
                answer, delta = await self._released(plan, results, transaction)
                self.timings["release"] = time.perf_counter() - began
                released = await asyncio.to_thread(
                    answers.read_released, answer, plan.cells, self.isolation.config.max_rows
                )
                if released.delta_digest:
                    began = time.perf_counter()
                    await transaction.commit(path_of(delta), released.delta_digest)
                    self.timings["history"] += time.perf_counter() - began
            except HistoryUnavailableError as error:
                raise SandboxFailureError(f"the release history: {error}") from None
        return released

    async def _released(
        self, plan: VerifiedPlan, results: Sequence[Stage1Result], transaction: HistoryTransaction
    ) -> tuple[_Message, int]:
        """Hands the release worker all that it decides on; its answer, and the file it wrote."""
        worker, delta = self._workers[self._releasing], self._made()
        await self._within_deadline(worker.receive())  # ready
        await self._hand_over_history(worker, transaction)
        job = await asyncio.to_thread(self._release_job, plan, results, transaction)
        await self._see_end(self._workers["stage1"])
        files = [*(self._to_read(written) for written in self._contributions), delta]
        return await self._ask(worker, job, files), delta

    async def _see_end(self, worker: Worker) -> None:
        """Waits until a worker is gone: from then on nobody can change what it wrote.

        Raises:
            SandboxFailureError: Nobody saw it end.
        """
        end = await worker.stop()
        if not end.is_seen:
            raise SandboxFailureError(f"nobody saw a worker end that wrote ({end.status})")

    async def _hand_over_history(self, worker: Worker, transaction: HistoryTransaction) -> None:
        names, own = list(transaction.names), set(transaction.own)
        if not all(is_entry_name(name) for name in names):
            raise HistoryUnavailableError("a file name that is none of the history's")
        directory = self.history.directory if self.history else None
        if directory is None:
            return
        for start in range(0, len(names), _FILES_AT_ONCE):
            some = names[start : start + _FILES_AT_ONCE]
            with ExitStack() as closing:
                try:
                    files = [self._lent(directory / name, closing) for name in some]
                except OSError as error:
                    raise HistoryUnavailableError(f"it can't be read: {error.strerror}") from None
                message: _Message = {"type": "history", "own": [name in own for name in some]}
                if await self._ask(worker, message, files) != {"type": "taken"}:
                    raise SchemaError("the history was not taken")

    def _release_job(
        self, plan: VerifiedPlan, results: Sequence[Stage1Result], transaction: HistoryTransaction
    ) -> _Message:
        aggregate: _Message = {
            "mode": plan.rules.mode,
            "min_units": plan.rules.min_units,
            "jitter": plan.rules.jitter,
            "dominance_ppm": plan.rules.dominance_ppm,
            "max_conflicts": MAX_CONFLICTS,
        }
        planned = None if plan.privacy is None else [one.schema for one in plan.privacy.cells]
        return {
            "type": "release",
            "results": [
                {
                    "schema": schema.to_json(),
                    "keys": wire.encode_rows(result.keys),
                    "rows": result.rows,
                    "query": result.query,
                }
                for schema, result in zip(planned or plan.cells, results, strict=True)
            ],
            "rules": aggregate if plan.privacy is None else plan.privacy.rules.to_json(),
            "secret": transaction.secret.hex(),
            "data": _data_version(self.products),
        }

    def _made(self) -> int:
        if self._scratch is None:
            raise SandboxFailureError("the computation has ended")
        return self._scratch.make()

    def _to_read(self, made: int) -> int:
        if self._scratch is None:
            raise SandboxFailureError("the computation has ended")
        return self._scratch.to_read(made)

    async def _ask(
        self, worker: Worker, job: Mapping[str, object], files: Sequence[int] = ()
    ) -> _Message:
        await self._within_deadline(worker.send(dict(job), files))
        return await self._within_deadline(worker.receive())

    async def _ready_and_ask(self, name: str, job: _Message) -> _Message:
        worker = self._workers[name]
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


def _shape_job(cells: Sequence[CellSchema], released: ReleasedAnswer, sql: str) -> _Message:
    return {
        "type": "shape",
        "cells": [
            {
                "keys": len(schema.keys),
                "types": [str(kind) for kind in schema.released_types],
                "rows": wire.encode_rows(rows),
            }
            for schema, rows in zip(cells, released.rows, strict=True)
        ],
        "sql": sql,
    }


def _data_version(products: Sequence[PreparedProduct]) -> str:
    listed = "\n".join(sorted(product.digest for product in products))
    return hashlib.sha256(listed.encode()).hexdigest()
