"""Aggregates below the cells of each unit's own rows."""

from __future__ import annotations

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.monomials import all_of, monomial_sum, times
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.polynomials import expand, may_be_null, present
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import AggregateLeaf, Atom, Names, Relation, Through, over
from luoshu.sandbox.guard.text import short_name
from luoshu.sandbox.schema import BOOLEAN, ValueType

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
    return _sum(arguments[0], where, call.type, out, fold)


def _sum(
    argument: Expression, where: Expression | None, kind: ValueType, out: Through, fold: Constants
) -> Expression:
    """A sum as the sum of its monomials' sums, so that what adds it up sees monomials.

    It is NULL if no row of the group is in any branch; a branch without rows adds nothing.
    """
    branches = expand(argument, fold.value)
    total: Expression | None = None
    rows: list[Expression] = []
    is_never_null = where is None and not may_be_null(argument, fold.value)
    factors = {factor for branch in branches for term in branch.terms for factor in term.factors}
    # Then the sum of any monomial is NULL where the whole is.
    is_one = len(branches) == 1 and bool(factors) and factors <= set(branches[0].atoms)
    for branch in branches:
        conditions = [*branch.conditions, *present(branch.atoms)]
        conditions += [where] if where is not None else []
        rows.append(_monomial((), conditions, out))
        for term in branch.terms:
            part: Expression = _monomial(term.factors, conditions, out)
            if term.factors and not is_one:
                zero = plan.Constant(0, part.type)
                part = plan.Call("OPERATOR_COALESCE", "OPERATOR_COALESCE", (part, zero), part.type)
            part = times(part, term.coefficient)
            total = part if total is None else plan.Call(
                "system.main.+", "BOUND_FUNCTION", (total, part), kind
            )  # fmt: skip
    if not branches:
        return plan.Constant(None, kind)
    total = plan.Constant(0, kind) if total is None else total
    if is_one or is_never_null:
        return total
    some = [
        plan.Call(">", "COMPARE_GREATERTHAN", (each, plan.Constant(0, each.type)), BOOLEAN)
        for each in rows
    ]
    is_there = some[0] if len(some) == 1 else plan.Call(
        "CONJUNCTION_OR", "CONJUNCTION_OR", tuple(some), BOOLEAN
    )  # fmt: skip
    return plan.Case(((is_there, total),), plan.Constant(None, total.type), total.type)


def _monomial(factors: tuple[Atom, ...], conditions: list[Expression], out: Through) -> Atom:
    inner = monomial_sum(factors, all_of(conditions))
    return out.whole(AggregateLeaf(inner.type, inner))
