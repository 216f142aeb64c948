"""Writes subqueries over several units so that each group checks what it rests on.

`avg(x) … GROUP BY k` becomes two aggregates. The inner one groups by `k` and the unit: its rows are
what each unit contributes to each group. The outer one adds these up, and its HAVING drops groups
to which too few units contribute, or one of them too much. An average is a sum and a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import (
    AggregateLeaf,
    Atom,
    Boundary,
    Relation,
    Role,
    Through,
    over,
)
from luoshu.sandbox.guard.text import short_name
from luoshu.sandbox.schema import BIGINT, BOOLEAN, DOUBLE, HUGEINT, ValueType

NewBoundary = Callable[
    [Relation, tuple[Expression, ...], tuple[Expression, ...]],
    Boundary,
]
_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"})


@dataclass(frozen=True, slots=True)
class GroupRules:
    """What each group of a subquery over several units has to fulfil.

    Attributes:
        min_units: Fewest units that contribute.
        dominance_ppm: Most that one of them may contribute of the sum of absolute contributions,
            in parts per million.
    """

    min_units: int
    dominance_ppm: int


def guarded_groups(
    operator: plan.GroupBy, child: Relation, boundary: NewBoundary, rules: GroupRules
) -> Relation:
    """The groups of a subquery, with their checks.

    Args:
        operator: The aggregate.
        child: What it is over.
        boundary: Makes a subquery of rows, group keys and conditions of HAVING.
        rules: What a group has to fulfil.

    Raises:
        GuardRefusalError: It isn't accepted in a subquery.
    """
    unit = child.unit
    if len(operator.sets) != 1 or operator.groupings or unit is None:
        raise refuse(
            Refusal.CLAUSE, "GROUPING SETS, ROLLUP and CUBE are not accepted in a subquery."
        )
    keys = tuple(over(group, child) for group in operator.groups)
    inside = boundary(child, (*keys, unit), ())
    each = Through(inside)
    outer_keys = tuple(each.whole(key) for key in keys)
    writer = _Groups(child, each, rules)
    values = [writer.value(call) for call in operator.aggregates]
    rows = Relation(inside, outer_keys, (), each.whole(unit))
    outside = boundary(rows, outer_keys, tuple(writer.having or [writer.enough(_UNITS)]))
    out = Through(outside)
    found = tuple(out.whole(key) for key in outer_keys)
    columns = (*found, *(plan.rebuild(value, out.whole) for value in values))
    return Relation(outside, columns, (), None, found)


class _Groups:
    def __init__(self, child: Relation, each: Through, rules: GroupRules) -> None:
        self._child, self._each, self._rules = child, each, rules
        self._sums: list[tuple[plan.Aggregate, AggregateLeaf]] = []
        self.having: list[Expression] = []

    def value(self, call: plan.Aggregate) -> Expression:
        """An aggregate's value, over aggregates of contributions."""
        name = short_name(call.name)
        arguments = tuple(over(argument, self._child) for argument in call.children)
        where = None if call.filter is None else over(call.filter, self._child)
        if call.is_distinct:
            return self._distinct(name, arguments, where)
        match name:
            case "count" | "count_star":
                return self._number(plan.Aggregate(call.name, arguments, where, False, BIGINT))
            case "sum":
                return self._sum(plan.Aggregate(call.name, arguments, where, False, call.type))
            case "avg":
                (argument,) = arguments
                kind = argument.type
                if kind.name != "DECIMAL" and kind.name not in _INTEGERS:
                    break_up = f"an average of type {shown(str(kind))}"
                    raise _refused(break_up)
                exact = HUGEINT if kind.name in _INTEGERS else ValueType("DECIMAL", 38, kind.scale)
                total = plan.Aggregate("system.main.sum", arguments, where, False, exact)
                number = plan.Aggregate("system.main.count", arguments, where, False, BIGINT)
                parts = (_double(self._sum(total)), _double(self._sum(number)))
                return plan.Call("system.main./", "BOUND_FUNCTION", parts, DOUBLE)
        raise _refused(shown(name))

    def _distinct(
        self, name: str, arguments: tuple[Expression, ...], where: Expression | None
    ) -> Expression:
        (argument,) = arguments
        if name != "count" or not (isinstance(argument, Atom) and argument.role is Role.UNIT):
            raise _refused("DISTINCT of anything but the privacy unit")
        if where is None:
            self._require(self.enough(_UNITS))
            return _UNITS
        rows = plan.Aggregate("system.main.count_star", (), where, False, BIGINT)
        return self._contributing(self._inside(rows))

    def _number(self, call: plan.Aggregate) -> Expression:
        total = self._sum(call)
        return plan.Call("__cast", "OPERATOR_CAST", (total,), BIGINT, is_try=True)

    def _sum(self, call: plan.Aggregate) -> AggregateLeaf:
        """The sum of what each unit contributes; HAVING checks what it rests on."""
        for known, leaf in self._sums:
            if known == call:
                return leaf
        atom = self._inside(call)
        kind = ValueType("DECIMAL", 38, atom.type.scale) if _is_decimal(atom) else HUGEINT
        size = plan.Call("system.main.abs", "BOUND_FUNCTION", (atom,), atom.type)
        largest = AggregateLeaf(
            atom.type, plan.Aggregate("system.main.max", (size,), None, False, atom.type)
        )
        total = AggregateLeaf(kind, plan.Aggregate("system.main.sum", (size,), None, False, kind))
        share = Decimal(self._rules.dominance_ppm).scaleb(-6)
        limit = plan.Call(
            "system.main.*",
            "BOUND_FUNCTION",
            (plan.Constant(float(share), DOUBLE), _double(total)),
            DOUBLE,
        )
        self._contributing(atom)
        self._require(
            plan.Call("<=", "COMPARE_LESSTHANOREQUALTO", (_double(largest), limit), BOOLEAN)
        )
        leaf = AggregateLeaf(kind, plan.Aggregate("system.main.sum", (atom,), None, False, kind))
        self._sums.append((call, leaf))
        return leaf

    def _inside(self, call: plan.Aggregate) -> Atom:
        return self._each.whole(AggregateLeaf(call.type, call))

    def _contributing(self, atom: Atom) -> AggregateLeaf:
        """How many units contribute, which HAVING requires to be enough."""
        zero = plan.Constant(0, atom.type)
        some = plan.Call("!=", "COMPARE_NOTEQUAL", (atom, zero), BOOLEAN)
        units = plan.Aggregate("system.main.count_star", (), some, False, BIGINT)
        leaf = AggregateLeaf(BIGINT, units)
        self._require(self.enough(leaf))
        return leaf

    def _require(self, condition: Expression) -> None:
        self.having.append(condition)

    def enough(self, units: Expression) -> Expression:
        """That there are enough units."""
        least = plan.Constant(self._rules.min_units, BIGINT)
        return plan.Call(">=", "COMPARE_GREATERTHANOREQUALTO", (units, least), BOOLEAN)


_UNITS = AggregateLeaf(BIGINT, plan.Aggregate("system.main.count_star", (), None, False, BIGINT))


def _is_decimal(atom: Atom) -> bool:
    return atom.type.name == "DECIMAL"


def _double(value: Expression) -> Expression:
    return plan.Call("__cast", "OPERATOR_CAST", (value,), DOUBLE)


def _refused(what: str) -> Exception:
    return refuse(
        Refusal.FUNCTION,
        f"In a subquery that protected rows are compared with, {what} is not accepted; there are "
        "COUNT, SUM and AVG.",
    )
