"""Conditions next to what they are about.

DuckDB's unoptimised plan has all of WHERE above all of FROM and its subqueries. What is
public is taken as a whole, so conditions on public rows belong below the join with others:
else all pairs of suppliers and nations would be handed on, and not those that match.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression, Operator


def pushed_down(operator: Operator) -> Operator:
    """The same plan with conditions moved into the sides of joins that they read."""
    match operator:
        case plan.Join(kind="LEFT" | "INNER", conditions=(), left_map=None, right_map=None) if (
            constants := _of_nothing(operator.right)
        ) is not None:
            types = plan.output_types(operator.left)
            columns = tuple(plan.Reference(n, kind) for n, kind in enumerate(types))
            return plan.Projection(pushed_down(operator.left), (*columns, *constants))
        case plan.Filter():
            return _filtered(operator.child, _conjuncts(operator.conditions))
        case plan.Join():
            return replace(
                operator, left=pushed_down(operator.left), right=pushed_down(operator.right)
            )
        case plan.Cte():
            return replace(
                operator,
                definition=pushed_down(operator.definition),
                child=pushed_down(operator.child),
            )
        case plan.SetOperation():
            return replace(operator, children=tuple(map(pushed_down, operator.children)))
        case plan.Get() | plan.DummyScan() | plan.Values() | plan.Empty() | plan.CteRef():
            return operator
        case _:
            return replace(operator, child=pushed_down(operator.child))


def _of_nothing(operator: Operator) -> tuple[Expression, ...] | None:
    """The one row of aggregates of no rows, which DuckDB joins to correlated subqueries."""
    if not isinstance(operator, plan.GroupBy) or operator.groups or operator.groupings:
        return None
    if not isinstance(operator.child, plan.Empty):
        return None
    return tuple(
        plan.Constant(0 if call.name in _COUNTS else None, call.type)
        for call in operator.aggregates
    )


_COUNTS = frozenset({"system.main.count", "system.main.count_star"})


def _conjuncts(conditions: Sequence[Expression]) -> list[Expression]:
    found: list[Expression] = []
    for condition in conditions:
        if isinstance(condition, plan.Call) and condition.kind == "CONJUNCTION_AND":
            found += _conjuncts(condition.children)
        else:
            found.append(condition)
    return found


def _filtered(child: Operator, conditions: list[Expression]) -> Operator:
    if isinstance(child, plan.Filter):
        return _filtered(child.child, [*_conjuncts(child.conditions), *conditions])
    if (
        not isinstance(child, plan.Join)
        or child.kind == "FULL"  # conditions don't choose rows of one side alone
        or child.left_map is not None
        or child.right_map is not None
    ):
        return plan.Filter(pushed_down(child), tuple(conditions))
    width = len(plan.output_types(child.left))
    left: list[Expression] = []
    right: list[Expression] = []
    rest: list[Expression] = []
    for condition in conditions:
        places = {
            leaf.index for leaf in plan.leaves_of(condition) if isinstance(leaf, plan.Reference)
        }
        if places and max(places) < width:
            left.append(condition)
        elif child.kind == "INNER" and places and min(places) >= width:
            right.append(_shifted(condition, width))
        else:
            rest.append(condition)
    joined: Operator = replace(
        child,
        left=_filtered(child.left, left) if left else pushed_down(child.left),
        right=_filtered(child.right, right) if right else pushed_down(child.right),
    )
    return plan.Filter(joined, tuple(rest)) if rest else joined


def _shifted(condition: Expression, width: int) -> Expression:
    def moved(leaf: plan.Reference | plan.Leaf) -> Expression:
        assert isinstance(leaf, plan.Reference)  # noqa: S101 - as plans have them
        return plan.Reference(leaf.index - width, leaf.type)

    return plan.rebuild(condition, moved)
