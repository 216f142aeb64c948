"""Which guard sets a condition owes.

Each way to choose one branch of every OR is a set of rows that must reach the threshold by
itself. An OR is no choice if it lists constants for one value, if it is the complement of a
range of one value, or if it depends on group keys alone, which are the same for a whole cell.
A choice can be written without OR: as a truth value that is compared or computed with, or as
COALESCE of two columns. `x IS [NOT] DISTINCT FROM true` is looked through; the rest is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.constants import constant_value, is_constant
from luoshu.sandbox.guard.facts import UnprovenError, conjuncts
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.schema import BOOLEAN

_MAX = 64
_TRUTH = {"COMPARE_DISTINCT_FROM": True, "COMPARE_NOT_DISTINCT_FROM": False}
_RANGE = frozenset(
    {
        "COMPARE_LESSTHAN",
        "COMPARE_GREATERTHAN",
        "COMPARE_LESSTHANOREQUALTO",
        "COMPARE_GREATERTHANOREQUALTO",
    }
)

Branch = frozenset[Expression]
Wrap = Callable[[Expression], Expression]


def branches_owed(conditions: Sequence[Expression], keys: Collection[Expression]) -> list[Branch]:
    """The branches of conditions that all hold; none if there is nothing to choose.

    Args:
        conditions: Over leaves.
        keys: The group keys.

    Raises:
        UnprovenError: There are too many, or a choice is hidden.
    """
    ways: list[Branch] = [frozenset()]
    for condition in conditions:
        found = _ways(condition, False, lambda atom: atom, keys)
        ways = [one | other for one in ways for other in found]
        if len(ways) > _MAX:
            raise UnprovenError("so many branches of OR")
    return ways if len(ways) > 1 else []


def _ways(
    node: Expression, is_negated: bool, wrap: Wrap, keys: Collection[Expression]
) -> list[Branch]:
    """The branches of a condition inside NOT and IS DISTINCT FROM true, which `wrap` puts back."""
    if isinstance(node, plan.Call):
        if node.kind == "OPERATOR_NOT":
            return _ways(node.children[0], not is_negated, _inside(node, wrap), keys)
        if (flips := _TRUTH.get(node.kind)) is not None and _is_true(node.children[1]):
            return _ways(node.children[0], is_negated is not flips, _inside(node, wrap), keys)
        if node.kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
            chooses = (node.kind == "CONJUNCTION_OR") is not is_negated
            if not chooses:
                ways: list[Branch] = [frozenset()]
                for child in node.children:
                    found = _ways(child, is_negated, wrap, keys)
                    ways = [one | two for one in ways for two in found]
                    if len(ways) > _MAX:
                        raise UnprovenError("so many branches of OR")
                return ways
            if _is_whole(node, keys):
                return [frozenset({wrap(node)})]
            return [way for each in _ranges(node) for way in _ways(each, is_negated, wrap, keys)]
    if not _is_of(node, keys):
        _require_no_hidden_choice(node)
    return [frozenset({wrap(node)})]


def _inside(node: plan.Call, wrap: Wrap) -> Wrap:
    def inside(atom: Expression) -> Expression:
        return wrap(plan.Call(node.name, node.kind, (atom, *node.children[1:]), BOOLEAN))

    return inside


def _is_true(expression: Expression) -> bool:
    return expression.type == BOOLEAN and str(constant_value(expression)).lower() == "true"


def _is_of(node: Expression, keys: Collection[Expression]) -> bool:
    return all(leaf in keys for leaf in plan.leaves_of(node))


def _is_whole(node: plan.Call, keys: Collection[Expression]) -> bool:
    if _is_of(node, keys) and any(True for _ in plan.leaves_of(node)):
        return True
    # An OR of values; or, as it is negated, the rows outside of a range.
    return _compares_one(node, {"COMPARE_EQUAL", "COMPARE_IN"}) or (
        node.kind == "CONJUNCTION_AND" and _compares_one(node, _RANGE)
    )


def _ranges(node: plan.Call) -> list[Expression]:
    """The parts of an AND or OR; of an AND, those that are a range of one value together."""
    if node.kind != "CONJUNCTION_AND":
        return list(node.children)
    found: dict[tuple[bool, Expression], list[Expression]] = {}
    for part in conjuncts(node):
        is_range = _compares_one(replace(node, children=(part,)), _RANGE)
        subject = part.children[0] if isinstance(part, plan.Call) and is_range else part
        parts = found.setdefault((is_range, subject), [])
        if part not in parts:
            parts.append(part)
    return [
        parts[0] if len(parts) == 1 else plan.Call(node.name, node.kind, tuple(parts), BOOLEAN)
        for parts in found.values()
    ]


def _compares_one(node: plan.Call, kinds: Collection[str]) -> bool:
    subjects = set()
    for child in node.children:
        if not isinstance(child, plan.Call) or child.kind not in kinds:
            return False
        if not all(is_constant(value) for value in child.children[1:]):
            return False
        _require_no_hidden_choice(child)
        subjects.add(child.children[0])
    return len(subjects) == 1


def _require_no_hidden_choice(atom: Expression) -> None:
    for child in plan.children_of(atom):
        for part in _parts(child):
            if not any(True for _ in plan.leaves_of(part)):
                continue
            if isinstance(part, plan.Call | plan.Case) and part.type == BOOLEAN:
                raise UnprovenError("a condition inside of another")
    for part in _parts(atom):
        is_coalesce = isinstance(part, plan.Call) and part.kind == "OPERATOR_COALESCE"
        if is_coalesce and len(set(plan.leaves_of(part))) > 1:
            raise UnprovenError("COALESCE of several columns in a condition")


def _parts(node: Expression) -> Iterator[Expression]:
    yield node
    for child in plan.children_of(node):
        yield from _parts(child)


def check_partition(key: Expression) -> None:
    """Requires that each value of a group key stands for one set of rows.

    What depends on one value alone may group its values in any way, as a list of values does.
    CASE over several has a constant of its own for each branch.

    Raises:
        UnprovenError: Rows of several branches may fall into one group.
    """
    if isinstance(key, plan.Leaf) or len(set(plan.leaves_of(key))) < 2:
        return
    if isinstance(key, plan.Call) and key.kind == "OPERATOR_CAST":
        check_partition(key.children[0])  # casts of keys widen: different values stay different
        return
    if isinstance(key, plan.Case):
        results = [*(then for _, then in key.checks), key.otherwise]
        if not all(is_constant(result) for result in results):
            raise UnprovenError("a group key by CASE that is no constant of its own")
        if len(set(map(_value, results))) < len(results):
            raise UnprovenError("a group key by CASE with one value for two branches")
        conditions = [when for when, _ in key.checks]
    elif key.type == BOOLEAN:
        conditions = [key]
    else:
        raise UnprovenError("a group key computed from several columns")
    if any(branches_owed([condition], ()) for condition in conditions):
        raise UnprovenError("OR in a group key")


def _value(constant: Expression) -> str | Decimal | None:
    """What tells constants apart: 1.0 is 1."""
    value = constant_value(constant)
    if value is None or constant.type.name == "VARCHAR":
        return None if value is None else str(value)
    if not isinstance(constant, plan.Call):
        raise UnprovenError("a constant that is not written as a text")
    return str(value) if constant.type.name in _TEXTS else Decimal(value)


_TEXTS = frozenset({"BOOLEAN", "DATE", "TIMESTAMP"})
