"""How a computation's privacy cost is spent on its cells: known from schema and rules alone.

Every released component of every cell query gets an equal share of the cost, since nobody but
the analyst knows which matters more; whoever wants less noise asks for less at once. AVG is two
components, a variance three. Cell queries whose keys have no declared domain release a cell only
if a noisy count of it passes a threshold: the first count of units, else the first count of rows,
else a count of units of its own, which then takes a share as well.

A unit changes at most `cells_per_unit` cells of a cell query (one where there are no keys), and
each component of a cell by at most its `reach`: rows_per_cell for counts of rows, 1 for counts of
units, rows_per_cell times the declared bounds for sums, with 0 always within.

Sums with a reach of 2^31 and more are released as multiples of a power of two, so that all sums
of up to 2^31 units fit into 64 bits: the step is below a billionth of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, TypeAlias

from luoshu.sandbox import wire
from luoshu.sandbox.release.dp_budget import (
    DELTA_UNITS,
    EPSILON_UNITS,
    BudgetError,
    PrivacyCost,
)
from luoshu.sandbox.schema import (
    CellSchema,
    Component,
    ComponentKind,
    SchemaError,
    checked_count,
    exact_fields,
)

MAX_VALUES: Final = 200_000
"""Noisy values that cells of declared domains may have: each takes 20 to 30 µs."""

MAX_CONTRIBUTION: Final = 1_000_000
"""Most cells, and most rows of a cell, that a unit may be allowed."""

_REACH_BITS: Final = 31

KeyDomain: TypeAlias = "tuple[str | bool | None, ...]"
"""All values of a key that come out, in wire form; rows with others are left out."""


class PlanError(ValueError):
    """What can't be released with differential privacy; says what to ask or declare instead."""


@dataclass(frozen=True, slots=True)
class DpRules:
    """The rules in force for one computation.

    Attributes:
        cost: What was debited for it.
        cells_per_unit: Most cells of a cell query that a unit may affect.
        rows_per_cell: Most rows of a unit that count in one cell.
        domains: For each cell query and each of its keys the declared values in wire form, or
            None for a key whose values aren't known.
    """

    cost: PrivacyCost
    cells_per_unit: int
    rows_per_cell: int
    domains: tuple[tuple[KeyDomain | None, ...], ...]

    def to_json(self) -> dict[str, object]:
        """The JSON form, as the release worker gets it."""
        return {
            "mode": "dp",
            "cost": self.cost.to_json(),
            "cells_per_unit": self.cells_per_unit,
            "rows_per_cell": self.rows_per_cell,
            "domains": [
                [None if values is None else list(values) for values in keys]
                for keys in self.domains
            ],
        }

    @classmethod
    def from_json(cls, value: object) -> DpRules:
        """Reads the JSON form.

        Raises:
            SchemaError: Any other form: rules that aren't understood are never skipped.
        """
        fields = exact_fields(value, "mode", "cost", "cells_per_unit", "rows_per_cell", "domains")
        if fields["mode"] != "dp" or not isinstance(fields["domains"], list):
            raise SchemaError("not the rules of mode dp")
        return cls(
            PrivacyCost.from_json(fields["cost"]),
            _limit(fields["cells_per_unit"]),
            _limit(fields["rows_per_cell"]),
            tuple(_key_domains(keys) for keys in fields["domains"]),
        )


def _limit(value: object) -> int:
    limit = checked_count(value)
    if not 1 <= limit <= MAX_CONTRIBUTION:
        raise SchemaError(f"a limit must be between 1 and {MAX_CONTRIBUTION}")
    return limit


def _key_domains(keys: object) -> tuple[KeyDomain | None, ...]:
    if not isinstance(keys, list):
        raise SchemaError("domains must be lists")
    return tuple(None if values is None else _domain(values) for values in keys)


def _domain(values: object) -> KeyDomain:
    if not isinstance(values, list) or not values:
        raise SchemaError("a domain must be a list of values")
    if not all(value is None or isinstance(value, str | bool) for value in values):
        raise SchemaError("a domain holds texts, true, false and null")
    if len(set(values)) != len(values):
        raise SchemaError("a domain names a value twice")
    return tuple(values)


@dataclass(frozen=True, slots=True)
class NoisyComponent:
    """One component of a cell query, and the noise that it gets.

    Attributes:
        index: Of the component in the schema; None for a count of units that only decides which
            cells exist.
        low, high: What a unit's contribution to a cell is clamped to, at the component's scale.
        shift: The sum is released as a multiple of 2^shift.
        reach: Most that a unit changes a cell's sum by, in multiples of 2^shift.
        cells: Most cells that a unit changes.
        epsilon: Its share, in 10^-12; None if the noise is Gaussian.
        rho: Its share of ρ, in 10^-12.
        delta: Its share of the δ of thresholding, in 10^-15; 0 if it decides on no cells.
    """

    index: int | None
    low: int
    high: int
    shift: int
    reach: int
    cells: int
    epsilon: int | None
    rho: int
    delta: int

    @property
    def scale(self) -> float:
        """Scale of the discrete Laplace, or of the discrete Gaussian, in multiples of 2^shift."""
        if self.epsilon is not None:
            return self.cells * self.reach * EPSILON_UNITS / self.epsilon
        return self.reach * math.sqrt(self.cells * EPSILON_UNITS / (2 * self.rho))

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise, at the component's scale (times 10^-scale)."""
        if self.epsilon is None:
            # A discrete Gaussian's is at most its scale's.
            return self.scale * 2.0**self.shift
        ratio = math.exp(-1 / self.scale)
        return math.sqrt(2 * ratio) / -math.expm1(-1 / self.scale) * 2.0**self.shift

    @property
    def threshold_estimate(self) -> float:
        """About the noisy count that a cell needs to exist; 0 if it decides on no cells."""
        if not self.delta:
            return 0.0
        share = min(0.5, self.delta / DELTA_UNITS / self.cells)
        return self.reach - NormalDist().inv_cdf(share) * self.scale


@dataclass(frozen=True, slots=True)
class CellPlan:
    """How one cell query is released.

    Attributes:
        schema: Of its cells.
        domains: For each key its values, decoded; None if any key has no declared domain.
        components: Those released, in the schema's order, and the deciding one if it isn't among
            them, last.
        deciding: Place in `components` of the one that decides which cells exist; None if all of
            the domain's do. Rows of public tables have neither components nor a domain: they come
            out as they are.
    """

    schema: CellSchema
    domains: tuple[tuple[wire.Value, ...], ...] | None
    components: tuple[NoisyComponent, ...]
    deciding: int | None

    @property
    def cells(self) -> int:
        """Number of cells that come out; 0 if it isn't known beforehand."""
        return 0 if self.domains is None else math.prod(len(values) for values in self.domains)


def has_unknown_keys(domains: Sequence[Sequence[object | None]]) -> bool:
    """Whether any key of any cell query has no declared domain: that costs δ."""
    return any(values is None for keys in domains for values in keys)


def plan_release(schemas: Sequence[CellSchema], rules: DpRules) -> tuple[CellPlan, ...]:
    """Shares a cost among all components of all cell queries.

    Raises:
        PlanError: Something can't be released with differential privacy.
    """
    if len(rules.domains) != len(schemas) or not schemas:
        raise PlanError("each cell query needs the domains of its keys")
    deciding = [
        _deciding(schema) if schema.components and None in keys else None
        for schema, keys in zip(schemas, rules.domains, strict=True)
    ]
    shares = sum(len(schema.released) for schema in schemas)
    shares += sum(
        place is not None and place == len(schema.released)
        for schema, place in zip(schemas, deciding, strict=True)
    )
    thresholds = sum(place is not None for place in deciding)
    if not all(schema.released for schema in schemas if schema.components):
        raise PlanError("the query releases nothing")
    if thresholds and not rules.cost.delta:
        raise BudgetError("group keys without declared values need a contract with delta > 0")
    pure = None if rules.cost.epsilon is None else rules.cost.epsilon // max(1, shares)
    share = PrivacyCost(pure, rules.cost.rho // max(1, shares))
    if shares and not (share.rho if pure is None else pure):
        raise PlanError("epsilon is too small for so many results; ask for fewer at once")
    delta = rules.cost.delta // thresholds if thresholds else 0
    plans = tuple(
        CellPlan(schema, None, (), None)
        if not schema.components
        else _cell_plan(schema, keys, place, rules=rules, share=share, delta=delta)
        for schema, keys, place in zip(schemas, rules.domains, deciding, strict=True)
    )
    if sum(plan.cells * len(plan.components) for plan in plans) > MAX_VALUES:
        raise PlanError(
            f"the declared domains give more than {MAX_VALUES} results; group by fewer columns"
        )
    return plans


def _deciding(schema: CellSchema) -> int:
    """Place among the released components of the one that decides; past the end for its own."""
    kinds = [component.kind for component in schema.released]
    if ComponentKind.UNITS in kinds:
        return kinds.index(ComponentKind.UNITS)
    rows = [place for place, one in enumerate(schema.released) if not one.monomial]
    return rows[0] if rows else len(kinds)


def _cell_plan(
    schema: CellSchema,
    keys: Sequence[KeyDomain | None],
    deciding: int | None,
    *,
    rules: DpRules,
    share: PrivacyCost,
    delta: int,
) -> CellPlan:
    if schema.prefix is not None:
        raise PlanError("COUNT(DISTINCT …) takes the privacy unit only")
    if len(keys) != len(schema.keys):
        raise PlanError("each key needs its domain")
    domains = None
    if deciding is None:
        domains = tuple(
            tuple(row[0] for row in _decoded(values or (), [kind]))
            for values, kind in zip(keys, schema.keys, strict=True)
        )
    cells = rules.cells_per_unit if schema.keys else 1
    if domains is not None:
        cells = min(cells, math.prod(len(values) for values in domains))
    indices: list[int | None] = [
        index for index, one in enumerate(schema.components) if one.kind.is_released
    ]
    if deciding == len(indices):
        indices.append(None)
    components = []
    for place, index in enumerate(indices):
        low, high = (
            (0, 1) if index is None else _clamp(schema.components[index], rules.rows_per_cell)
        )
        furthest = max(-low, high)
        shift = max(0, furthest.bit_length() - _REACH_BITS)
        # Sums that differ by d differ, both rounded down to steps, by at most d in whole steps.
        reach = -(-furthest >> shift)
        components.append(
            NoisyComponent(
                index,
                low,
                high,
                shift,
                max(1, reach),
                cells,
                share.epsilon,
                share.rho,
                delta if place == deciding else 0,
            )
        )
    return CellPlan(schema, domains, tuple(components), deciding)


def _decoded(values: KeyDomain, kinds: Sequence[object]) -> list[wire.Row]:
    return wire.decode_rows([[value] for value in values], kinds, MAX_VALUES)  # type: ignore[arg-type]


def _clamp(component: Component, rows: int) -> tuple[int, int]:
    if component.kind is ComponentKind.UNITS:
        return 0, 1
    if not component.monomial:
        return 0, rows
    if component.bounds is None:
        raise PlanError("sums and averages take columns with declared bounds")
    low, high = component.bounds
    return min(0, rows * low), max(0, rows * high)
