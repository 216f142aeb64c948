"""From what was agreed on to the rules of one differentially private computation.

Pure: what a computation costs, which cells it will release and how noisy they will be follow from
the schemas of its cell queries and of its tables, before any protected row is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from luoshu.sandbox import wire
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.release.dp_budget import BudgetError, Guarantee, PrivacyCost, cost_of
from luoshu.sandbox.release.dp_plan import (
    CellPlan,
    DpRules,
    KeyDomain,
    PlanError,
    has_unknown_keys,
    plan_release,
)
from luoshu.sandbox.schema import (
    CellSchema,
    ColumnSchema,
    Component,
    ComponentKind,
    TableSchema,
    ValueType,
)

__all__ = ["DpLimits", "ExpectedNoise", "PrivacyPlan", "plan_computation", "strictest"]


@dataclass(frozen=True, slots=True)
class DpLimits:
    """What holds for each computation: the stricter of contract and product.

    Attributes:
        computation: The guarantee of one computation.
        cells_per_unit: In how many cells of a result a unit counts at most.
        rows_per_cell: How many of its rows count in a cell at most.
    """

    computation: Guarantee
    cells_per_unit: int = 1
    rows_per_cell: int = 1


@dataclass(frozen=True, slots=True)
class ExpectedNoise:
    """How far a released value will be from the exact one of the bounded contributions.

    Attributes:
        query: Number of the cell query.
        what: `rows`, `units`, or the summed columns, as `sum(price * discount)`.
        deviation: Standard deviation of the noise, in the value's own unit.
        threshold: About the noisy count that a group needs to come out; 0 where all groups do.
    """

    query: int
    what: str
    deviation: float
    threshold: float

    def to_json(self) -> dict[str, object]:
        """The JSON form; numbers as text."""
        return {
            "query": self.query,
            "what": self.what,
            "deviation": f"{self.deviation:.6g}",
            "threshold": f"{self.threshold:.6g}",
        }


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """What a computation costs and yields, before it runs.

    Attributes:
        rules: For the release worker, with the cost to debit.
        cells: How each cell query is released.
        protected: Catalogs of the tables with protected rows that it reads.
    """

    rules: DpRules
    cells: tuple[CellPlan, ...]
    protected: frozenset[str] = field(default=frozenset())

    @property
    def cost(self) -> PrivacyCost:
        """What is debited before it runs."""
        return self.rules.cost

    @property
    def noise(self) -> tuple[ExpectedNoise, ...]:
        """What to expect of each released component."""
        return tuple(
            ExpectedNoise(
                number,
                _name(plan.schema, one.index),
                one.deviation / 10.0 ** plan.schema.components[one.index].scale,
                0.0 if decider is None else decider.threshold_estimate,
            )
            for number, plan in enumerate(self.cells)
            for decider in (None if plan.deciding is None else plan.components[plan.deciding],)
            for one in plan.components
            if one.index is not None
        )


def plan_computation(
    limits: DpLimits,
    schemas: Sequence[CellSchema],
    tables: Sequence[TableSchema],
    public: Mapping[str, KeyDomain] | None = None,
) -> PrivacyPlan:
    """Plans a computation: its cost, its cells and its noise.

    Args:
        limits: In force.
        schemas: Of its verified cell queries.
        tables: All that the query could name.
        public: Values of key columns of public tables in wire form, by `catalog.table.column`;
            NULL included if it occurs. Columns that aren't in it have unknown values.

    Raises:
        GuardRefusalError: It can't be released with differential privacy; says why, from the
            schemas alone.
    """
    columns = {
        f"{table.catalog}.{table.table}.{column.name}": column.values
        for table in tables
        for column in table.columns
    }
    known = public or {}
    schemas = [with_bounds(schema, tables) for schema in schemas]
    domains = tuple(
        tuple(
            known.get(name) or _declared(columns.get(name), kind)
            for name, kind in zip(
                schema.key_columns or ("",) * len(schema.keys), schema.keys, strict=True
            )
        )
        if schema.components
        else ()
        for schema in schemas
    )
    try:
        cost = cost_of(limits.computation, unknown_keys=has_unknown_keys(domains))
        rules = DpRules(cost, limits.cells_per_unit, limits.rows_per_cell, domains)
        plans = plan_release(schemas, rules)
    except (PlanError, BudgetError) as error:
        raise refuse(Refusal.MODE, f"With differential privacy, {error}.") from None
    named = {name for schema in schemas for name in schema.tables}
    catalogs = {
        table.catalog
        for table in tables
        if table.unit and f"{table.catalog}.{table.table}" in named
    }
    return PrivacyPlan(rules, plans, frozenset(catalogs))


def strictest(limits: DpLimits | None, floors: Sequence[DpLimits]) -> DpLimits | None:
    """Of each part the strictest; None if there is nothing at all."""
    every = [*([] if limits is None else [limits]), *floors]
    if not every:
        return None
    return DpLimits(
        Guarantee(
            min(one.computation.epsilon for one in every),
            min(one.computation.delta for one in every),
        ),
        min(one.cells_per_unit for one in every),
        min(one.rows_per_cell for one in every),
    )


def with_bounds(schema: CellSchema, tables: Sequence[TableSchema]) -> CellSchema:
    """The schema with bounds for products of columns, as far as the columns have them.

    Bounds decide what contributions are clamped to, so that a wrong one can only bias a result:
    where two tables have columns of one name, the wider bounds are taken.
    """
    columns: dict[str, list[ColumnSchema]] = {}
    for table in tables:
        for column in table.columns:
            columns.setdefault(column.name.lower(), []).append(column)
    return replace(
        schema,
        components=tuple(
            component
            if component.bounds is not None or not component.monomial
            else replace(component, bounds=_product_bounds(component, columns))
            for component in schema.components
        ),
    )


def _product_bounds(
    component: Component, columns: Mapping[str, Sequence[ColumnSchema]]
) -> tuple[int, int] | None:
    low, high, scale = 1, 1, 0
    for name, times in Counter(component.monomial).items():
        found = columns.get(name.rpartition(".")[2].lower(), ())
        bounds = [column.bounds for column in found if column.bounds is not None]
        scales = {column.type.scale for column in found}
        if not found or len(bounds) < len(found) or len(scales) > 1:
            return None
        least, greatest = min(b[0] for b in bounds), max(b[1] for b in bounds)
        powers = {least**times, greatest**times, *([0] if least < 0 < greatest else [])}
        corners = {edge * power for edge in (low, high) for power in (min(powers), max(powers))}
        low, high, scale = min(corners), max(corners), scale + times * scales.pop()
    return (low, high) if scale == component.scale else None


def _declared(values: tuple[str, ...] | None, kind: ValueType) -> KeyDomain | None:
    """A declared domain in wire form; None if there is none, or it isn't all of the key's type.

    The two values of a BOOLEAN are known without being declared.
    """
    if values is None:
        return (False, True) if kind.name == "BOOLEAN" else None
    if kind.name == "BOOLEAN":
        domain: KeyDomain = tuple(value == "true" for value in values)
    elif kind.name == "TIMESTAMP":
        domain = tuple(value.replace(" ", "T") for value in values)
    else:
        domain = values
    try:
        decoded = wire.decode_rows([[value] for value in domain], [kind], len(domain))
    except wire.WireError:
        return None
    # 1.5 and 1.50 are one key.
    unique = dict(zip((row[0] for row in decoded), domain, strict=True))
    return tuple(unique.values())


def _name(schema: CellSchema, index: int) -> str:
    component = schema.components[index]
    if component.kind is ComponentKind.UNITS:
        return "units"
    if not component.monomial:
        return "rows"
    return f"sum({' * '.join(name.rpartition('.')[2] for name in component.monomial)})"
