"""Which guard sets a condition owes.

Each way to choose one branch of every OR is a set of rows that must reach the threshold by
itself. An OR is no choice if it lists constants for one value, if it reads public rows or
constants alone and … depends only on group keys, which are the same for a whole cell.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.facts import UnprovenError, is_constant
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.schema import BOOLEAN

_MAX = 64

Branch = frozenset[Expression]


def branches_owed(conditions: Sequence[Expression], keys: Collection[Expression]) -> list[Branch]:
    """The branches of conditions that all hold; none if there is nothing to choose.

    Args:
        conditions: Over leaves.
        keys: The group keys.

    Raises:
        UnprovenError: There are too many.
    """
    ways: list[Branch] = [frozenset()]
    for condition in conditions:
        found = _ways(condition, False, keys)
        ways = [one | other for one in ways for other in found]
        if len(ways) > _MAX:
            raise UnprovenError("so many branches of OR")
    return ways if len(ways) > 1 else []


def _ways(node: Expression, negated: bool, keys: Collection[Expression]) -> list[Branch]:
    if isinstance(node, plan.Call) and node.kind == "OPERATOR_NOT":
        return _ways(node.children[0], not negated, keys)
    if isinstance(node, plan.Call) and node.kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
        chooses = (node.kind == "CONJUNCTION_OR") is not negated
        if not chooses:
            ways: list[Branch] = [frozenset()]
            for child in node.children:
                ways = [one | two for one in ways for two in _ways(child, negated, keys)]
                if len(ways) > _MAX:
                    raise UnprovenError("so many branches of OR")
            return ways
        if not _is_whole(node, negated, keys):
            return [way for child in node.children for way in _ways(child, negated, keys)]
    return [frozenset({_as_it_is(node, negated)})]


def _is_whole(node: plan.Call, negated: bool, keys: Collection[Expression]) -> bool:
    leaves = list(plan.leaves_of(node))
    if leaves and all(leaf in keys for leaf in leaves):
        return True
    return not negated and _lists_values(node)


def _lists_values(node: plan.Call) -> bool:
    subjects = set()
    for child in node.children:
        if not isinstance(child, plan.Call) or child.kind not in {"COMPARE_EQUAL", "COMPARE_IN"}:
            return False
        if not all(is_constant(value) for value in child.children[1:]):
            return False
        subjects.add(child.children[0])
    return len(subjects) == 1


def _as_it_is(node: Expression, negated: bool) -> Expression:
    return plan.Call("OPERATOR_NOT", "OPERATOR_NOT", (node,), BOOLEAN) if negated else node
