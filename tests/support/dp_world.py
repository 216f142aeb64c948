"""Contributions of small, made-up cell queries for tests of release mode dp."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from luoshu.sandbox import wire
from luoshu.sandbox.contributions import LOW_BITS, LOW_MASK, Contributed, Contributions
from luoshu.sandbox.release.dp_budget import Guarantee, cost_of
from luoshu.sandbox.release.dp_plan import DpRules, has_unknown_keys
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.schema import VARCHAR, CellSchema, Component, ComponentKind

ROWS = Component(ComponentKind.SUM)
UNITS = Component(ComponentKind.UNITS)
AGE = Component(ComponentKind.SUM, ("age",), 0, (0, 120), False, 0)
AMOUNT = Component(ComponentKind.SUM, ("amount",), 2, (-50_00, 100_00), False, 0)


def agreed(epsilon: str, delta: str = "0") -> Guarantee:
    return Guarantee.of(Decimal(epsilon), Decimal(delta))


def schema(*components: Component, keys: int = 0) -> CellSchema:
    return CellSchema(("p.t",), (VARCHAR,) * keys, components, None, ("p.t.k",) * keys)


def rules(
    guarantee: Guarantee,
    *domains: tuple[tuple[str | bool, ...] | None, ...],
    cells_per_unit: int = 1,
    rows_per_cell: int = 1,
) -> DpRules:
    """Rules for cell queries with the domains given; without any, for one without keys."""
    domains = domains or ((),)
    cost = cost_of(guarantee, unknown_keys=has_unknown_keys(domains))
    return DpRules(cost, cells_per_unit, rows_per_cell, domains)


def result(of: CellSchema, keys: Sequence[wire.Row], *rows: tuple[int, ...]) -> CellQueryResult:
    """Rows of cell, unit, then one integer per component; in any order."""
    table = np.array(sorted(rows), dtype=np.int64).reshape(len(rows), 2 + len(of.components))
    values = [table[:, 2 + place].copy() for place in range(len(of.components))]
    found = Contributions(
        len(keys),
        table[:, 0].astype(np.int32),
        table[:, 1].astype(np.int32),
        tuple(
            Contributed(column >> LOW_BITS, column & LOW_MASK)
            if component.is_wide
            else Contributed(column)
            for component, column in zip(of.components, values, strict=True)
        ),
    )
    return CellQueryResult(of, keys, found)


def people(count: int, *values: int) -> list[tuple[int, ...]]:
    """One row of cell 0 for each of `count` units."""
    return [(0, unit, *values) for unit in range(count)]
