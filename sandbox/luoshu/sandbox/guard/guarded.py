"""Groups of several units, of which a value may be compared with protected rows.

What is proven of each such value, from the aggregate that makes it and the HAVING above it:

1. The aggregate is over rows that are each one unit's contribution to one group: the aggregate
   below groups by the same keys and the unit, and by nothing else.
2. The value is the sum of those contributions, or their number.
3. HAVING keeps a group only if at least `min_units` units contribute something other than 0, and
   no unit contributes more than the dominance allows of the sum of absolute contributions.
4. The largest contribution and that sum serve HAVING only: nothing above may refer to them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.constants import constant_value
from luoshu.sandbox.guard.facts import (
    Column,
    Guarded,
    Inner,
    Missing,
    PublicValue,
    Unit,
    UnprovenError,
)
from luoshu.sandbox.guard.meeting import MEETING
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.weights import has_weights
from luoshu.sandbox.schema import BIGINT, DOUBLE, HUGEINT, ValueType

_PPM = 1_000_000
_ADDITIVE = frozenset({"count", "count_star", "sum"})


@dataclass(frozen=True, slots=True)
class Owed:
    """What HAVING has to check of a value's group.

    Attributes:
        units: How many units contribute.
        largest: The largest absolute contribution; None if each contributes 1.
        total: The sum of absolute contributions; None likewise.
    """

    units: Expression
    largest: Expression | None = None
    total: Expression | None = None


@dataclass(slots=True)
class _Checks:
    """The aggregates over one contribution, as far as they are there."""

    value: Expression | None = None
    units: Expression | None = None
    largest: Expression | None = None
    total: Expression | None = None


@dataclass(slots=True)
class Groups:
    """Aggregates over contributions of units, while they are read.

    Attributes:
        scan: Which aggregate it is.
        columns: Its group keys, then its values; what may not be referred to is `Missing`.
    """

    scan: int
    columns: list[Expression]
    _checks: dict[Inner, _Checks] = field(default_factory=dict)
    _counted: list[Expression] = field(default_factory=list)

    def add(self, call: plan.Aggregate, over: Callable[[Expression], Expression]) -> None:
        """Reads one aggregate.

        Raises:
            UnprovenError: It is neither a value nor a check of one.
        """
        place = len(self.columns)
        value, check = Guarded(call.type, self.scan, place), Missing(call.type, self.scan, place)
        arguments = tuple(over(argument) for argument in call.children)
        if call.is_distinct:
            raise UnprovenError("DISTINCT over contributions of units")
        match (call.name.removeprefix("system.main."), arguments):
            case "count_star", () if call.type == BIGINT:
                if call.filter is not None:
                    self._of(_nonzero(over(call.filter))).units = value
                self._counted.append(value)
                self.columns.append(value)
                return
            case "sum", (Inner() as inner,) if call.filter is None and _adds_up(call, inner):
                self._of(inner).value = value
                self.columns.append(value)
                return
            case "sum" | "max" as name, (argument,) if call.filter is None:
                size = _absolute(argument)
                if size is not None and name == "max":
                    self._of(size).largest = check
                    self.columns.append(check)
                    return
                if size is not None and _adds_up(call, size):
                    self._of(size).total = check
                    self.columns.append(check)
                    return
        raise UnprovenError(f"the aggregate {call.name} over contributions of units")

    def _of(self, inner: Inner) -> _Checks:
        if inner.function not in _ADDITIVE:
            raise UnprovenError("a group's value that is no sum of contributions")
        if has_weights(inner):
            raise UnprovenError("numbers of a public table added up over several units")
        return self._checks.setdefault(inner, _Checks())

    def owed(self) -> frozenset[Owed]:
        """What HAVING has to check.

        Raises:
            UnprovenError: Something to check a value by isn't computed.
        """
        found = {Owed(units) for units in self._counted}
        for checks in self._checks.values():
            if checks.value is None:
                continue
            if checks.units is None or checks.largest is None or checks.total is None:
                raise UnprovenError("a value of several units, without what it is checked by")
            found.add(Owed(checks.units, checks.largest, checks.total))
        if not found:
            raise UnprovenError("a group of several units, without a check that it has enough")
        return frozenset(found)


def check_contributions(
    groups: Sequence[Expression],
    grouped: frozenset[Expression] | None,
    owner: Collection[int],
) -> None:
    """Requires that rows are contributions, each of one unit to one group.

    Args:
        groups: What they are grouped by now.
        grouped: What they were grouped by before; None if they weren't.
        owner: The readings whose unit they belong to.

    Raises:
        UnprovenError: A unit may have several rows in a group, or a key isn't declared.
    """
    units: set[Expression] = {
        each for each in grouped or () if isinstance(each, Unit) and each.scan in owner
    }
    if not units or set(grouped or ()) != units | set(groups):
        raise UnprovenError("a group of several units whose rows are not one unit's contribution")
    for group in groups:
        for leaf in plan.leaves_of(group):
            if isinstance(leaf, PublicValue) or (
                isinstance(leaf, Column) and leaf.column.uses & MEETING
            ):
                continue
            raise UnprovenError("a subquery's group key that is not declared for it")


def check_having(
    owed: frozenset[Owed], parts: Sequence[Expression], min_units: int, dominance_ppm: int
) -> None:
    """Requires that HAVING checks all that it owes, and nothing else.

    Args:
        owed: By the values of the groups.
        parts: Conditions that all hold.
        min_units: Fewest units.
        dominance_ppm: Most that one of them contributes, in parts per million.

    Raises:
        UnprovenError: It doesn't.
    """
    used = set()
    for each in owed:
        enough = [p for p in parts if _is_enough(p, each.units, min_units)]
        if not enough:
            raise UnprovenError(
                f"a group that is compared with, without a check that it has {min_units} units"
            )
        used.update(enough)
        if each.largest is None or each.total is None:
            continue
        spread = [p for p in parts if _is_spread(p, each.largest, each.total, dominance_ppm)]
        if not spread:
            raise UnprovenError(
                "a group that is compared with, without a check that no unit dominates it"
            )
        used.update(spread)
    if not used.issuperset(parts):
        raise UnprovenError("a condition on groups that are compared with")


def compared(columns: Sequence[Expression], scan: int) -> tuple[Expression, ...]:
    """The columns of the groups that are left, as values to compare with."""
    return tuple(
        Missing(column.type, scan, place)
        if isinstance(column, Missing)
        else Guarded(column.type, scan, place, not isinstance(column, Guarded))
        for place, column in enumerate(columns)
    )


def _adds_up(call: plan.Aggregate, inner: Inner) -> bool:
    """Whether a sum holds what it adds up: what all rows together may contribute."""
    scale = inner.type.scale if inner.type.name == "DECIMAL" else 0
    return call.type in {HUGEINT, ValueType("DECIMAL", 38, scale)}


def _absolute(argument: Expression) -> Inner | None:
    match argument:
        case plan.Call(kind="BOUND_FUNCTION", name="system.main.abs", children=(Inner() as inner,)):
            return inner if argument.type == inner.type else None
    return None


def _nonzero(condition: Expression) -> Inner:
    match condition:
        case plan.Call(kind="COMPARE_NOTEQUAL", name="!=", children=(Inner() as inner, zero)):
            if zero.type == inner.type and _number(zero) == 0:
                return inner
    raise UnprovenError("a number of units by another condition than that they contribute")


def _is_enough(part: Expression, units: Expression, min_units: int) -> bool:
    match part:
        case plan.Call(kind="COMPARE_GREATERTHANOREQUALTO", name=">=", children=(found, least)):
            text = str(constant_value(least))
            return found == units and text.isdigit() and int(text) >= min_units
    return False


def _is_spread(
    part: Expression, largest: Expression, total: Expression, dominance_ppm: int
) -> bool:
    match part:
        case plan.Call(
            kind="COMPARE_LESSTHANOREQUALTO",
            name="<=",
            children=(
                one,
                plan.Call(
                    kind="BOUND_FUNCTION", name="system.main.*", type=kind, children=(share, other)
                ),
            ),
        ) if kind == DOUBLE:
            number = _number(share)
            return (
                _uncast(one) == largest
                and _uncast(other) == total
                and number is not None
                and number * _PPM <= dominance_ppm
            )
    return False


def _number(expression: Expression) -> Decimal | None:
    """What a numeric literal says; None if it is none."""
    value: object = constant_value(expression)
    if isinstance(expression, plan.Constant) and isinstance(expression.value, float):
        value = expression.value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _uncast(expression: Expression) -> Expression | None:
    match expression:
        case plan.Call(
            kind="OPERATOR_CAST", name="__cast", type=kind, is_try=False, children=(child,)
        ) if kind == DOUBLE:
            return child
    return None
