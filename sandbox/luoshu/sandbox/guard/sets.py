"""Guard sets: the branches of a condition that must reach the threshold by themselves.

`nine_known OR the_target` selects ten units, and one of them is learned about. So each
branch of an OR is a set of its own. A list of values of one expression is one set, as a
range is; and a branch that only depends on group keys holds for a whole cell or for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.schema import BOOLEAN

MAX_SETS = 64

Branches = list[tuple[Expression, ...]]


def branches_of(condition: Expression, is_exempt: Callable[[Expression], bool]) -> Branches:
    """Splits a condition into its branches.

    Args:
        condition: Of type BOOLEAN.
        is_exempt: Whether an OR is no choice between sets.

    Returns:
        The conditions of each branch, which hold together; one branch for no choice.

    Raises:
        GuardRefusalError: There are too many.
    """
    return _split(condition, False, is_exempt)


def _split(node: Expression, is_negated: bool, is_exempt: Callable[[Expression], bool]) -> Branches:
    if isinstance(node, plan.Call):
        if node.kind == "OPERATOR_NOT":
            return _split(node.children[0], not is_negated, is_exempt)
        if node.kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
            is_choice = (node.kind == "CONJUNCTION_OR") != is_negated
            if is_choice and (is_exempt(node) or (not is_negated and is_one_list(node))):
                return [(_negated(node, is_negated),)]
            parts = [_split(child, is_negated, is_exempt) for child in node.children]
            return _either(parts) if is_choice else product(parts)
    return [(_negated(node, is_negated),)]


def _either(parts: Sequence[Branches]) -> Branches:
    found = [branch for part in parts for branch in part]
    _check(len(found))
    return found


def product(parts: Sequence[Branches]) -> Branches:
    """The branches of conditions that hold together."""
    found: Branches = [()]
    for part in parts:
        _check(len(found) * len(part))
        found = [(*one, *other) for one in found for other in part]
    return found


def _check(count: int) -> None:
    if count > MAX_SETS:
        raise refuse(
            Refusal.SIZE, "The conditions have too many branches of OR; ask in several queries."
        )


def _negated(node: Expression, is_negated: bool) -> Expression:
    return plan.Call("OPERATOR_NOT", "OPERATOR_NOT", (node,), BOOLEAN) if is_negated else node


def is_one_list(node: plan.Call) -> bool:
    """Whether an OR is a list of values of one expression."""
    subjects = []
    for child in node.children:
        if not isinstance(child, plan.Call) or child.kind not in {"COMPARE_EQUAL", "COMPARE_IN"}:
            return False
        if any(True for value in child.children[1:] for _ in plan.leaves_of(value)):
            return False
        subjects.append(child.children[0])
    return all(subject == subjects[0] for subject in subjects)
