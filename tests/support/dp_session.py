"""One analyst's queries under release mode dp in this process: guard, stage 1, noise, stage 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from guard_session import GuardSession, Told

from luoshu.sandbox import contributions, wire
from luoshu.sandbox.dp_agreement import DpLimits, PrivacyPlan, plan_computation
from luoshu.sandbox.export import export
from luoshu.sandbox.guard.check import CheckedQuery, check_query
from luoshu.sandbox.guard.public_keys import public_keys
from luoshu.sandbox.release.dp import release
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.worker.stage2 import load_cells


@dataclass(slots=True, kw_only=True)
class DpSession(GuardSession):
    """Like `GuardSession`, without a history: noise is what protects.

    Attributes:
        limits: What a computation may cost, and what of a unit counts.
        plans: Of each query that was answered.
    """

    limits: DpLimits
    plans: list[PrivacyPlan] = field(default_factory=list)

    def plan(self, sql: str) -> tuple[CheckedQuery, PrivacyPlan]:
        """What a query costs, and how it is released.

        Raises:
            GuardRefusalError: It isn't accepted, or can't be released with differential privacy.
        """
        query = check_query(
            self.plain, self.tables, sql, min_units=1, dominance_ppm=850_000, mode="dp"
        )
        schemas = [cell.schema for cell in query.cells]
        public = {
            name: tuple(values)
            for name, values in public_keys(self.plain, schemas, self.tables).items()
        }
        return query, plan_computation(self.limits, schemas, self.tables, public)

    def ask(self, sql: str) -> Told:
        """Answers a query."""
        query, plan = self.plan(sql)
        self.plans.append(plan)
        released = release(self._contributions(query, plan), plan.rules)
        for number, (cell, rows) in enumerate(zip(query.cells, released, strict=True)):
            types = cell.schema.released_types
            load_cells(self._shaping, f"cells{number}", len(cell.schema.keys), types, rows)
        told = self._shaping.execute(query.stage2).fetchall()
        self._drop(self._shaping, "memory")
        return Told(told, 0)

    def _contributions(self, query: CheckedQuery, plan: PrivacyPlan) -> Sequence[CellQueryResult]:
        found = []
        for number, cell in enumerate(query.cells):
            path = self.directory / "cells" / str(number)
            done = export(
                self.plain,
                cell.sql,
                cell.schema,
                path,
                min_units=1,
                drop=False,
                max_cells=10_000,
                number=number,
            )
            keys = wire.decode_rows(wire.encode_rows(done.keys), cell.schema.keys, 10_000)
            read = contributions.read(path, cell.schema, len(keys), done.rows)
            found.append(CellQueryResult(plan.cells[number].schema, keys, read))
        self._drop(self.plain, "temp")
        return found
