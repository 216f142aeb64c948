"""Guard sets: the branches of a condition that must reach the threshold by themselves.

`nine_known OR the_target` selects ten units, and one of them is learned about. So each
branch of an OR is a set of its own. A list of values of one expression is one set, as a
range is; and a branch that only depends on group keys holds for a whole cell or for none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse

MAX_SETS = 64
_TRUTH = {"COMPARE_DISTINCT_FROM": True, "COMPARE_NOT_DISTINCT_FROM": False}
_RANGE = frozenset(
    {
        "COMPARE_LESSTHAN",
        "COMPARE_GREATERTHAN",
        "COMPARE_LESSTHANOREQUALTO",
        "COMPARE_GREATERTHANOREQUALTO",
    }
)

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
    return _split(condition, False, lambda atom: atom, is_exempt)


def _split(
    node: Expression,
    is_negated: bool,
    wrap: Callable[[Expression], Expression],
    is_exempt: Callable[[Expression], bool],
) -> Branches:
    """Splits below NOT and IS [NOT] DISTINCT FROM true, which `wrap` puts around each branch."""
    if isinstance(node, plan.Call):
        if node.kind == "OPERATOR_NOT" or (node.kind in _TRUTH and is_true(node.children[1])):
            flips = _TRUTH.get(node.kind, True)

            def inside(atom: Expression) -> Expression:
                return wrap(replace(node, children=(atom, *node.children[1:])))

            return _split(node.children[0], is_negated is not flips, inside, is_exempt)
        if node.kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
            is_choice = (node.kind == "CONJUNCTION_OR") != is_negated
            if is_choice and (is_exempt(node) or is_one_list(node) or is_one_range(node)):
                return [(wrap(node),)]
            children = _ranges(node) if is_choice else node.children
            parts = [_split(child, is_negated, wrap, is_exempt) for child in children]
            return _either(parts) if is_choice else product(parts)
    return [(wrap(node),)]


def is_true(expression: Expression) -> bool:
    """Whether it is the constant true."""
    while isinstance(expression, plan.Call) and expression.kind == "OPERATOR_CAST":
        expression = expression.children[0]
    return isinstance(expression, plan.Constant) and expression.value in (True, "true")


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


def is_one_list(node: plan.Call) -> bool:
    """Whether it is about the values of one expression: an OR of them, or the OR's complement."""
    return _compares_one(node, {"COMPARE_EQUAL", "COMPARE_IN"})


def is_one_range(node: plan.Call) -> bool:
    """Whether it is a range of one expression, such as BETWEEN."""
    return node.kind == "CONJUNCTION_AND" and _compares_one(node, _RANGE)


def _ranges(node: plan.Call) -> Sequence[Expression]:
    """The parts of an AND or OR; of an AND, those that are a range of one expression together."""
    if node.kind != "CONJUNCTION_AND":
        return node.children
    found: dict[tuple[bool, Expression], list[Expression]] = {}
    for part in _flat(node):
        is_range = _compares_one(replace(node, children=(part,)), _RANGE)
        subject = part.children[0] if isinstance(part, plan.Call) and is_range else part
        parts = found.setdefault((is_range, subject), [])
        if part not in parts:
            parts.append(part)
    return [
        parts[0] if len(parts) == 1 else replace(node, children=tuple(parts))
        for parts in found.values()
    ]


def _flat(node: Expression) -> list[Expression]:
    if isinstance(node, plan.Call) and node.kind == "CONJUNCTION_AND":
        return [part for child in node.children for part in _flat(child)]
    return [node]


def _compares_one(node: plan.Call, kinds: Collection[str]) -> bool:
    subjects = []
    for child in node.children:
        if not isinstance(child, plan.Call) or child.kind not in kinds:
            return False
        if any(True for value in child.children[1:] for _ in plan.leaves_of(value)):
            return False
        subjects.append(child.children[0])
    return all(subject == subjects[0] for subject in subjects)
