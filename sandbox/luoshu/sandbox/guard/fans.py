"""Whether rows of nobody may multiply the rows of units that they meet.

Two copies of each row double what every unit contributes: then no contribution equals an earlier
one, and the differencing guard compares in vain. So public rows, and groups of several units,
meet protected rows by equality with all columns of something that has one row per value.

Of a table it isn't known what is unique: there any column is taken for it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.facts import (
    Guarded,
    PublicValue,
    UnprovenError,
    constant_value,
    is_constant,
)
from luoshu.sandbox.guard.functions import EQUALITIES
from luoshu.sandbox.guard.plan import Expression, Operator

Unique: TypeAlias = tuple[frozenset[int], ...]
"""Sets of places of an output of which no two rows have all values in common."""

_MAX_ROWS = 1000


def unique_of(operator: Operator, ctes: Mapping[int, Unique]) -> Unique:
    """What is unique in the rows of a public operator.

    Args:
        operator: It, with everything below.
        ctes: The same of the CTEs around it.
    """
    match operator:
        case plan.DummyScan():
            return (frozenset(),)
        case plan.Get():
            return tuple(frozenset({place}) for place in range(len(operator.output)))
        case plan.GroupBy():
            is_plain = operator.sets == (tuple(range(len(operator.groups))),)
            return (frozenset(range(len(operator.groups))),) if is_plain else ()
        case plan.Distinct():
            return (frozenset(range(len(plan.output_types(operator)))),)
        case plan.Projection():
            return _projected(operator, unique_of(operator.child, ctes))
        case plan.Filter() | plan.Order() | plan.Limit() | plan.WindowStep():
            return unique_of(operator.child, ctes)
        case plan.Join(kind="SEMI" | "ANTI" | "MARK", left_map=None):
            return unique_of(operator.left, ctes)
        case plan.Cte():
            found = unique_of(operator.definition, ctes)
            return unique_of(operator.child, {**ctes, operator.index: found})
        case plan.CteRef():
            return ctes.get(operator.index, ())
        case plan.Values() | plan.SetOperation():
            return _listed(_rows(operator))
    return ()


def _projected(operator: plan.Projection, below: Unique) -> Unique:
    places: dict[int, int] = {}
    for place, expression in enumerate(operator.expressions):
        if isinstance(expression, plan.Reference):
            places.setdefault(expression.index, place)
    return tuple(frozenset(places[index] for index in key) for key in below if key <= places.keys())


def _rows(operator: Operator) -> list[tuple[Expression, ...]] | None:
    """The rows of a list of constants; None for anything else."""
    match operator:
        case plan.Values():
            return list(operator.rows)
        case plan.SetOperation(kind="UNION"):
            found = [_rows(child) for child in operator.children]
            if any(rows is None for rows in found) or len(found) > _MAX_ROWS:
                return None
            return [row for rows in found if rows is not None for row in rows]
        case plan.Projection() if _is_one_row(operator.child) and not any(
            True for each in operator.expressions for _ in plan.leaves_of(each)
        ):
            return [operator.expressions]
        case plan.Projection():
            rows = _rows(operator.child)
            places = [e.index for e in operator.expressions if isinstance(e, plan.Reference)]
            if rows is None or len(places) < len(operator.expressions):
                return None
            return [tuple(row[place] for place in places) for row in rows]
    return None


def _is_one_row(operator: Operator) -> bool:
    while isinstance(operator, plan.Projection):
        operator = operator.child
    return isinstance(operator, plan.DummyScan)


def _listed(rows: list[tuple[Expression, ...]] | None) -> Unique:
    if not rows or len(rows) > _MAX_ROWS:
        return ()
    found = []
    for place, column in enumerate(zip(*rows, strict=True)):
        # In one spelling, different texts are different values.
        is_plain = all(is_constant(value) and value.type.name in _TEXTS for value in column)
        if is_plain and len({str(constant_value(value)) for value in column}) == len(rows):
            found.append(frozenset({place}))
    return tuple(found)


_TEXTS = frozenset({"VARCHAR", "DATE", "INTEGER", "BIGINT"})


def check_no_fan(readings: Mapping[int, Unique], conditions: Sequence[Expression]) -> None:
    """Requires that each reading has at most one row for each row of the others.

    Args:
        readings: What is unique in each, by the number of its reading.
        conditions: What holds for rows that meet.

    Raises:
        UnprovenError: Some may have several.
    """
    waiting = dict(readings)
    while waiting:
        met = [scan for scan in waiting if _is_met(scan, waiting, conditions)]
        if not met:
            raise UnprovenError("public rows that may multiply protected ones")
        for scan in met:
            del waiting[scan]


def _is_met(scan: int, waiting: Mapping[int, Unique], conditions: Sequence[Expression]) -> bool:
    places: set[int] = set()
    for each in conditions:
        places |= _equated(each, scan, waiting)
    return any(key <= places for key in waiting[scan])


def _equated(condition: Expression, scan: int, waiting: Collection[int]) -> set[int]:
    """Places of a reading that a condition makes equal to something already met."""
    if not isinstance(condition, plan.Call):
        return set()
    if condition.kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
        found = [_equated(child, scan, waiting) for child in condition.children]
        is_and = condition.kind == "CONJUNCTION_AND"
        return set.union(*found) if is_and else set.intersection(*found)
    if condition.kind not in EQUALITIES:
        return set()
    one, other = condition.children
    places = set()
    for mine, theirs in ((one, other), (other, one)):
        leaf = _uncast(mine)
        if not isinstance(leaf, PublicValue | Guarded) or leaf.scan != scan:
            continue
        if not _reads(theirs, waiting):
            places.add(leaf.place)
    return places


def _uncast(expression: Expression) -> Expression:
    while (
        isinstance(expression, plan.Call)
        and expression.kind == "OPERATOR_CAST"
        and expression.type.name != "DOUBLE"
        and not expression.is_try
    ):
        expression = expression.children[0]
    return expression


def _reads(expression: Expression, scans: Collection[int]) -> bool:
    return any(getattr(leaf, "scan", None) in scans for leaf in plan.leaves_of(expression))
