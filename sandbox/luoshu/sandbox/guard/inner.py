"""Aggregates of one unit's rows: COUNT, SUM, AVG, MIN and MAX of monomials."""

from __future__ import annotations

from collections.abc import Callable

from luoshu.sandbox.guard import facts, plan
from luoshu.sandbox.guard.arguments import count_argument, monomial
from luoshu.sandbox.guard.facts import (
    Column,
    Inner,
    Never,
    PublicValue,
    UnprovenError,
    conjuncts,
)
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.weights import DIGITS, read_digits
from luoshu.sandbox.schema import BIGINT, HUGEINT, ValueType

MAX_ROWS = 2**40
_MAX_VALUE = 2**86

Used = Callable[[Expression], Expression]


def inner_aggregate(call: plan.Aggregate, used: Used, scan: int, place: int) -> Inner | Never:
    """An aggregate of one unit's rows, as a value of the unit's; `Never` if it is of no row.

    Args:
        call: The aggregate.
        used: Resolves what is aggregated or decides on rows.
        scan: Which aggregate operator it is of.
        place: Which of its outputs it is.

    Raises:
        UnprovenError: Its value isn't known, or may overflow.
    """
    function = call.name.removeprefix("system.main.")
    arguments = tuple(used(argument) for argument in call.children)
    where = _filter_of(call, used)
    if any(facts.decided(condition) is False for condition in where):
        for argument in arguments:
            facts.check_total(argument)
        return Never(call.type, scan, place)
    if function == "count_star" and not arguments and call.type == BIGINT:
        return Inner(BIGINT, scan, place, (), frozenset(), function, None, where, MAX_ROWS)
    if len(arguments) != 1:
        raise UnprovenError(f"the aggregate {function}")
    (argument,) = arguments
    if function == "count" and call.type == BIGINT:
        facts.check_total(argument)
        columns = count_argument(argument)
        return Inner(BIGINT, scan, place, (), columns, function, argument, where, MAX_ROWS)
    if function in DIGITS and call.type == BIGINT and not call.is_distinct:
        _, factors = read_digits(argument)
        columns = facts.columns_of([leaf for each in factors for leaf in plan.leaves_of(each)])
        return Inner(BIGINT, scan, place, (), columns, function, argument, where, 2**63)
    if call.is_distinct or function not in {"sum", "avg", "min", "max"}:
        raise UnprovenError(f"the aggregate {function}")
    facts.check_total(argument)
    read = monomial(argument)
    columns = facts.columns_of(read.leaves)
    if read.magnitude >= _MAX_VALUE:
        raise UnprovenError("a sum that may overflow")
    if function == "sum":
        if call.type not in {HUGEINT, ValueType("DECIMAL", 38, read.scale)}:
            raise UnprovenError("a sum of another type than expected")
        magnitude = read.magnitude * MAX_ROWS
    else:
        magnitude = read.magnitude
        if function in {"min", "max"} and call.type != argument.type:
            raise UnprovenError("an extreme of another type than expected")
    return Inner(call.type, scan, place, read.names, columns, function, argument, where, magnitude)


def _filter_of(call: plan.Aggregate, used: Used) -> tuple[Expression, ...]:
    if call.filter is None:
        return ()
    where = conjuncts(used(call.filter))
    for condition in where:
        _check_filter(condition)
    return tuple(condition for condition in where if facts.decided(condition) is not True)


def _check_filter(condition: Expression) -> None:
    """A condition of FILTER; that a column is not NULL is what COUNT(column) counts by."""
    if (
        isinstance(condition, plan.Call)
        and condition.kind == "OPERATOR_IS_NOT_NULL"
        and isinstance(condition.children[0], Column | Inner | PublicValue)
    ):
        return
    facts.check_condition(condition)
