"""Conditions in a form in which each branch can be seen: without CASE, and IN of several columns.

    CASE WHEN a THEN x ELSE y END = 1

is `(a AND x = 1) OR (a IS DISTINCT FROM true AND y = 1)`: true for the same rows. Where `a` is NULL
it may be NULL instead of false, so NOT is moved inside first: it is asked of x and y.
"""

from __future__ import annotations

from dataclasses import replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.monomials import all_of
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.polynomials import is_not_true
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.sources import ExistsLeaf
from luoshu.sandbox.schema import BOOLEAN

MAX_BRANCHES = 64
_NEGATED = {
    "CONJUNCTION_AND": ("CONJUNCTION_OR", "CONJUNCTION_OR"),
    "CONJUNCTION_OR": ("CONJUNCTION_AND", "CONJUNCTION_AND"),
}
"""What AND and OR become inside NOT: name and kind."""
_TRUTH = frozenset({"COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM"})


def chosen_by(condition: Expression) -> Expression:
    """What is true of the same rows as a condition of WHERE, FILTER or WHEN.

    Raises:
        GuardRefusalError: It would have too many branches.
    """
    return _as_exists(_without_case(condition))


def decided_by(condition: Expression, fold: Constants) -> Expression:
    """The same, without what constants decide."""
    return fold.pruned(chosen_by(fold.pruned(condition)))


def _without_case(node: Expression) -> Expression:
    case = _first_case(node)
    if case is None:
        return node
    if isinstance(node, plan.Call) and node.kind in _NEGATED:
        return replace(node, children=tuple(map(_without_case, node.children)))
    if isinstance(node, plan.Call) and node.kind == "OPERATOR_NOT":
        (child,) = node.children
        if isinstance(child, plan.Call) and child.kind == "OPERATOR_NOT":
            return _without_case(child.children[0])
        if isinstance(child, plan.Call) and child.kind in _NEGATED:
            parts = tuple(replace(node, children=(part,)) for part in child.children)
            return _without_case(plan.Call(*_NEGATED[child.kind], parts, BOOLEAN))
    if any(_is_unknown(then) for then in (*(then for _, then in case.checks), case.otherwise)):
        raise refuse(
            Refusal.EXPRESSION,
            "A comparison of protected rows with ANY or ALL of a subquery is not accepted, but for "
            "= ANY and <> ALL; compare with the subquery's MIN or MAX.",
        )
    branches: list[Expression] = []
    passed: list[Expression] = []
    for when, then in case.checks:
        branches.append(_branch([*passed, when], node, case, then))
        passed.append(is_not_true(when))
    branches.append(_branch(passed, node, case, case.otherwise))
    if sum(1 for each in branches for _ in plan.leaves_of(each)) > 16 * MAX_BRANCHES:
        raise refuse(
            Refusal.SIZE, "The conditions have too many branches of CASE; ask in several queries."
        )
    return plan.Call("CONJUNCTION_OR", "CONJUNCTION_OR", tuple(branches), BOOLEAN)


def _is_unknown(value: Expression) -> bool:
    return isinstance(value, plan.Constant) and value.value is None and value.type == BOOLEAN


def _branch(
    when: list[Expression], node: Expression, case: plan.Case, then: Expression
) -> Expression:
    found = all_of([_without_case(each) for each in (*when, _put(node, case, then))])
    assert found is not None  # noqa: S101 - there is the node itself
    return found


def _first_case(node: Expression) -> plan.Case | None:
    if isinstance(node, plan.Case):
        return node
    found = (_first_case(child) for child in plan.children_of(node))
    return next((case for case in found if case is not None), None)


def _put(node: Expression, case: plan.Case, value: Expression) -> Expression:
    """The expression with a value in place of a CASE in it."""
    if node is case:
        return value
    if isinstance(node, plan.Call):
        return replace(node, children=tuple(_put(each, case, value) for each in node.children))
    return node


def _as_exists(node: Expression) -> Expression:
    """With EXISTS in place of IN of several columns, and false of NULL, which count alike here."""
    if isinstance(node, plan.Constant) and node.value is None:
        return plan.Constant(False, BOOLEAN)
    if isinstance(node, ExistsLeaf) and node.is_in and node.is_of_several:
        return replace(node, is_in=False)
    if isinstance(node, plan.Call) and (
        node.kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"} or _compares_with_true(node)
    ):
        return replace(node, children=tuple(map(_as_exists, node.children)))
    return node


def _compares_with_true(node: plan.Call) -> bool:
    return node.kind in _TRUTH and isinstance(node.children[1], plan.Constant)
