"""Aggregates below the cells of each unit's own rows."""

from __future__ import annotations

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.monomials import all_of, monomial_sum, times
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.polynomials import expand, present
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import AggregateLeaf, Names, Relation, Through, over
from luoshu.sandbox.guard.text import short_name

_INNER_AGGREGATES = frozenset({"count", "count_star", "sum", "avg", "min", "max"})


def per_unit(
    operator: plan.GroupBy,
    child: Relation,
    keys: tuple[Expression, ...],
    names: Names,
    fold: Constants,
) -> Relation:
    """An aggregate whose keys determine the unit."""
    unit = child.unit
    assert unit is not None  # noqa: S101 - `names_unit` found one
    groups = keys if any(key is unit for key in keys) else (*keys, unit)
    boundary = names.boundary(child, groups)
    out = Through(boundary)
    columns: list[Expression] = [out.whole(key) for key in keys]
    for call in operator.aggregates:
        columns.append(_inner_aggregate(call, child, out, fold))
    return Relation(boundary, tuple(columns), (), out.whole(unit), tuple(columns[: len(keys)]))


def _inner_aggregate(
    call: plan.Aggregate, child: Relation, out: Through, fold: Constants
) -> Expression:
    name = short_name(call.name)
    where = None if call.filter is None else over(call.filter, child)
    arguments = tuple(over(argument, child) for argument in call.children)
    if name not in _INNER_AGGREGATES:
        raise refuse(
            Refusal.FUNCTION,
            f"Inside one unit, {shown(name)} is not accepted; there are COUNT, SUM, AVG, MIN "
            "and MAX.",
        )
    if name != "sum" or call.is_distinct:
        leaf = AggregateLeaf(
            call.type,
            plan.Aggregate(call.name, arguments, where, call.is_distinct, call.type),
        )
        return out.whole(leaf)
    # A sum is the sum of its monomials' sums, so that what adds it up sees monomials.
    total: Expression | None = None
    for branch in expand(arguments[0], fold.value):
        conditions = [*branch.conditions, *present(branch.atoms)]
        conditions += [where] if where is not None else []
        for term in branch.terms:
            inner = monomial_sum(term.factors, all_of(conditions))
            part = times(out.whole(AggregateLeaf(inner.type, inner)), term.coefficient)
            total = part if total is None else plan.Call(
                "system.main.+", "BOUND_FUNCTION", (total, part), call.type
            )  # fmt: skip
    return total if total is not None else plan.Constant(None, call.type)
