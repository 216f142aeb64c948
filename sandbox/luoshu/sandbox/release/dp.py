"""Release mode `dp`: noisy cells, with a proof.

The mechanism, for data sets that differ by one privacy unit with all its rows:

1. each unit keeps contributions to at most `cells_per_unit` cells of a cell query, and each is
   clamped (`dp_bounding`); rows whose keys are outside a declared domain, and contributions that
   are 0 throughout, are dropped first. All of this depends on the unit's own rows alone;
2. exact integer sums by cell; a unit changes them by at most what `dp_plan` says;
3. discrete noise by OpenDP (`dp_noise`): Laplace if δ = 0, else Gaussian. Where all keys have
   declared domains every cell of their product comes out, also empty ones. Otherwise a cell comes
   out if OpenDP's thresholding keeps it; the cells that it keeps are public then, and the other
   components of those get plain noise;
4. the composition of all mechanisms, by their own privacy maps, must be within what was debited,
   else nothing comes out at all.

Outside the proof: failures, how long it takes, and how often others ask.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from decimal import Context, Decimal
from itertools import product
from typing import TYPE_CHECKING, Final

from luoshu.sandbox import wire
from luoshu.sandbox.arrays import np
from luoshu.sandbox.contributions import Contributed, check
from luoshu.sandbox.release import dp_bounding, dp_noise
from luoshu.sandbox.release.dp_plan import CellPlan, DpRules, NoisyComponent, plan_release
from luoshu.sandbox.release.results import CellQueryResult, is_nonzero
from luoshu.sandbox.schema import SchemaError

if TYPE_CHECKING:
    from luoshu.sandbox.release.dp_bounding import Indices

_MOST: Final = 10**38 - 1
_EXACT: Final = Context(prec=60)


def release(results: Sequence[CellQueryResult], rules: DpRules) -> list[list[wire.Row]]:
    """Releases all cell queries of one computation.

    Args:
        results: In the order of the cell queries.
        rules: With the cost that was debited.

    Returns:
        For each cell query its rows: keys, then noisy values. Cells of declared domains are in the
        domains' order, others in the order of their keys.

    Raises:
        PlanError: Something can't be released with differential privacy.
        PrivacyCostError: It would cost more than was debited.
        SchemaError: Contributions that don't fit their schema.
    """
    plans = plan_release([result.schema for result in results], rules)
    dp_noise.require_paid([one for plan in plans for one in plan.components], rules.cost)
    key = secrets.token_bytes(dp_bounding.KEY_BYTES)
    return [
        _release_one(result, plan, hashlib.blake2b(key, salt=number.to_bytes(16, "big")).digest())
        for number, (result, plan) in enumerate(zip(results, plans, strict=True))
    ]


def _release_one(result: CellQueryResult, plan: CellPlan, key: bytes) -> list[wire.Row]:
    if not plan.components:
        return list(result.keys)  # rows of public tables
    _check(result)
    keys: Sequence[wire.Row] = result.keys
    cells = result.found.cell.astype(np.int64)
    if plan.domains is not None:
        # Cell numbers become places in the product of the domains; -1 is outside of it.
        keys = list(product(*plan.domains))
        places = {row: place for place, row in enumerate(keys)}
        known = np.array([places.get(tuple(row), -1) for row in result.keys], dtype=np.int64)
        cells = known[cells] if len(known) else cells
    columns = [
        dp_bounding.clamp(_column(result, component), component.low, component.high)
        for component in plan.components
    ]
    present = cells >= 0
    contributes = np.zeros(len(cells), dtype=np.bool_)
    for column in columns:
        contributes |= is_nonzero(column)
    rows = np.flatnonzero(present & contributes)
    kept = rows[
        dp_bounding.keep_cells(
            cells[rows],
            result.found.unit[rows],
            lambda cell: _name(keys[cell]),
            plan.components[0].cells,
            key[:32],
        )
    ]
    cells = cells[kept]
    sums = [
        [total >> component.shift for total in dp_bounding.exact_sums(cells, part, len(keys))]
        for component, part in (
            (component, _rows(column, kept))
            for component, column in zip(plan.components, columns, strict=True)
        )
    ]
    return _noisy_rows(plan, keys, sums)


def _noisy_rows(
    plan: CellPlan, keys: Sequence[wire.Row], sums: Sequence[list[int]]
) -> list[wire.Row]:
    shown = list(range(len(keys)))
    decided: dict[int, int] = {}
    if plan.deciding is not None:
        counts = {cell: count for cell, count in enumerate(sums[plan.deciding]) if count > 0}
        decided = dp_noise.keep_large(plan.components[plan.deciding], counts)
        shown = sorted(decided, key=lambda cell: _ordered(keys[cell]))
    values: list[list[wire.Value]] = []
    for place, (component, totals) in enumerate(zip(plan.components, sums, strict=True)):
        if component.index is None:
            continue
        if place == plan.deciding:
            noisy = [decided[cell] for cell in shown]
        else:
            noisy = dp_noise.add_noise(component, [totals[cell] for cell in shown])
        values.append([_value(plan, component, total) for total in noisy])
    return [
        (*keys[cell], *(column[place] for column in values)) for place, cell in enumerate(shown)
    ]


def _check(result: CellQueryResult) -> None:
    found = result.found
    if found.cells != len(result.keys) or len(found.values) != len(result.schema.components):
        raise SchemaError("contributions to other cells than there are")
    check(found)


def _column(result: CellQueryResult, component: NoisyComponent) -> Contributed:
    if component.index is not None:
        return result.found.values[component.index]
    # Units that contribute anything: counted for the decision alone.
    present = np.zeros(len(result.found.cell), dtype=np.bool_)
    for one, column in zip(result.schema.components, result.found.values, strict=True):
        if one.kind.is_released:
            present |= is_nonzero(column)
    return Contributed(present.astype(np.int64))


def _rows(column: Contributed, rows: Indices) -> Contributed:
    return Contributed(column.hi[rows], None if column.lo is None else column.lo[rows])


def _name(keys: wire.Row) -> bytes:
    return json.dumps(wire.encode_rows([keys]), ensure_ascii=False).encode()


def _ordered(keys: wire.Row) -> list[tuple[bool, object]]:
    # Keys of one place are of one type; a NULL comes last.
    return [(key is None, 0 if key is None else key) for key in keys]


def _value(plan: CellPlan, component: NoisyComponent, steps: int) -> wire.Value:
    total = max(-_MOST, min(_MOST, steps << component.shift))
    if component.index is None:
        raise SchemaError("a count that only decides has no value")
    scale = plan.schema.components[component.index].type.scale
    return Decimal(total).scaleb(-scale, _EXACT) if scale else total
