"""Percentiles from counts of rows at or below public values.

A percentile is the value of a row. What comes out instead is a value of a grid, which the column's
declared bounds fix, chosen by counts that every release rule was applied to:

    quantile_disc(age, 0.5) of ages from 0 to 120 counts rows by age <= 0, age <= 4, …, age <= 116

and in stage 2 is the smallest grid value whose released count is at least half of all rows. So at
least `min_units` units are at or below it, by the threshold; and at least as many are above the
released grid value before it, by the differencing guard, which compares each count with the others
and with all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import Atom
from luoshu.sandbox.guard.text import constant_sql
from luoshu.sandbox.guard.uses import require
from luoshu.sandbox.schema import BOOLEAN, Use

NAMES = frozenset({"median", "quantile_cont", "quantile_disc"})
STEPS = 32
"""Most steps of a grid."""
_COARSEST = 8
"""A percentile comes out if it is known to one of that many parts of the bounds."""


def percentile(
    name: str,
    column: Expression,
    fraction: Fraction | None,
    count: Callable[[Expression | None], str],
    min_units: int,
) -> str:
    """A percentile as SQL over released counts.

    Args:
        name: DuckDB's.
        column: What it is of.
        fraction: Between 0 and 1.
        count: Gives the number of rows that have a value and for which a condition holds.
        min_units: Fewest rows that the percentile leaves on each side.

    Raises:
        GuardRefusalError: It isn't of a column with declared bounds, or is an extreme.
    """
    while isinstance(column, plan.Call) and column.kind == "OPERATOR_CAST" and not column.is_try:
        (column,) = column.children
    bounds = column.column.bounds if isinstance(column, Atom) and column.column else None
    if not isinstance(column, Atom) or column.column is None or bounds is None:
        raise refuse(
            Refusal.FUNCTION,
            f"{shown(name)} takes a column of a protected table with declared `bounds` alone.",
        )
    if fraction is None or not 0 < fraction < 1:
        raise refuse(
            Refusal.FUNCTION,
            f"{shown(name)} takes one fraction between 0 and 1, without these: they are the MIN "
            "and MAX, values of single rows.",
        )
    require(column.column, Use.AGGREGATE, "a percentile")
    require(column.column, Use.FILTER, "a percentile, which counts rows by ranges,")
    low, high = bounds
    if low >= high:
        raise refuse(Refusal.FUNCTION, f"{shown(name)} takes a column of several values.")
    everyone = count(None)
    counts = [(value, count(_at_most(column, value))) for value in grid(low, high)]

    def text(value: int) -> str:
        return constant_sql(plan.Constant(value, column.type))

    parts, whole = fraction.numerator, fraction.denominator
    reached = _times(everyone, parts)
    found = [(text(value), _times(rows, whole)) for value, rows in counts]
    # The bounds themselves: nobody is above the one or below the other.
    upper = [*(f"CASE WHEN {n} >= {reached} THEN {v} END" for v, n in found), text(high)]
    lower = [*(f"CASE WHEN {n} < {reached} THEN {v} END" for v, n in found), text(low)]
    chosen, before = f"least({', '.join(upper)})", f"greatest({', '.join(lower)})"
    widest = text(max(step_of(low, high), (high - low) // _COARSEST))
    fewer = _times(everyone, min(parts, whole - parts))
    return (
        f"CASE WHEN {fewer} >= {_number(min_units * whole)} AND {chosen} - {before} <= {widest} "
        f"THEN {chosen} END"
    )


def step_of(low: int, high: int) -> int:
    """The width of a step, in units of the last decimal place."""
    return max(1, -((low - high) // STEPS))


def grid(low: int, high: int) -> Sequence[int]:
    """The grid's values below the upper bound, at the column's scale."""
    return range(low, high, step_of(low, high))


def _at_most(column: Atom, value: int) -> Expression:
    bound = plan.Constant(value, column.type)
    return plan.Call("<=", "COMPARE_LESSTHANOREQUALTO", (column, bound), BOOLEAN)


def _times(count: str, factor: int) -> str:
    return f"CAST({count} AS HUGEINT) * {_number(factor)}"


def _number(value: int) -> str:
    return f"CAST('{value}' AS HUGEINT)"
