"""Sums of monomials as SQL that can't overflow.

A product of decimals has the digits of its factors together, so as long as these fit 38
digits no product overflows. A cell adds up fewer than 2^40 rows (a worker's processor time
allows no more), and a HUGEINT or DECIMAL(38) holds 2^40 values below 2^86. What may be
larger is cut off: a row whose product is beyond that counts as NULL. Columns with declared
`bounds` never come near.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.sources import Atom
from luoshu.sandbox.schema import BIGINT, BOOLEAN, DOUBLE, HUGEINT, ValueType

MAX_ROWS = 2**40
MAX_VALUE = 2**86
_MAX_WIDTH = 38
_NARROW = 18
_SUM_WIDTH = 25  # 10^25 < 2^86


def magnitude_of(atom: Atom) -> int:
    """Largest absolute value of a factor, as an integer at its type's scale."""
    if atom.column is not None:
        return atom.column.magnitude
    if atom.type == BIGINT:  # a unit's count of rows
        return MAX_ROWS
    if atom.type.name == "DECIMAL":
        return int(10**atom.type.width) - 1
    return 2**127


def all_of(conditions: Sequence[Expression]) -> Expression | None:
    """AND of conditions; None of none."""
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    return plan.Call("CONJUNCTION_AND", "CONJUNCTION_AND", tuple(conditions), BOOLEAN)


def monomial_sum(factors: Sequence[Atom], where: Expression | None) -> plan.Aggregate:
    """The aggregate that adds up a product; without factors it counts rows.

    Raises:
        GuardRefusalError: No way is known to add it up exactly.
    """
    if not factors:
        return plan.Aggregate("system.main.count_star", (), where, False, BIGINT)
    product = _product(factors)
    kind = product.type
    total = ValueType("DECIMAL", 38, kind.scale) if kind.name == "DECIMAL" else HUGEINT
    return plan.Aggregate("system.main.sum", (product,), where, False, total)


def _product(factors: Sequence[Atom]) -> Expression:
    if len(factors) == 1:
        return factors[0]
    ordered = sorted(factors, key=_place)
    result, *parts = [_as_decimal(factor) for factor in ordered]
    largest = magnitude_of(ordered[0])
    for factor, part in zip(ordered[1:], parts, strict=True):
        if result.type.width <= _NARROW < result.type.width + part.type.width:
            # DuckDB would multiply in 64 bits and check for overflow at run time.
            result = _cast(result, _NARROW + 1)
        room = _MAX_WIDTH - part.type.width
        if result.type.width > room:
            if room <= result.type.scale:
                names = " × ".join(f.column.name if f.column else "…" for f in ordered)
                raise refuse(
                    Refusal.EXPRESSION,
                    f"The product {names} could be too large to be added up exactly. The data "
                    "holder can declare `bounds` for these columns; until then, ask without it.",
                )
            result = _cut(result, room)
            largest = min(largest, 10**room - 1)
        kind = ValueType(
            "DECIMAL", result.type.width + part.type.width, result.type.scale + part.type.scale
        )
        result = plan.Call("system.main.*", "BOUND_FUNCTION", (result, part), kind)
        largest *= magnitude_of(factor)
    return result if largest < MAX_VALUE else _cut(result, _SUM_WIDTH)


def _cut(value: Expression, width: int) -> Expression:
    return replace(_cast(value, width), is_try=True)


def _cast(value: Expression, width: int) -> plan.Call:
    kind = ValueType("DECIMAL", width, value.type.scale)
    return plan.Call("__cast", "OPERATOR_CAST", (value,), kind)


def _place(atom: Atom) -> tuple[str, str]:
    return (atom.column.name if atom.column else "", atom.instance)


def _as_decimal(atom: Atom) -> Expression:
    if atom.type.name == "DECIMAL":
        return atom
    digits = len(str(magnitude_of(atom)))
    kind = ValueType("DECIMAL", min(digits, _MAX_WIDTH), 0)
    return plan.Call("__cast", "OPERATOR_CAST", (atom,), kind)


def digits(
    name: str, weight: Atom, others: Sequence[Atom], where: Expression | None
) -> plan.Aggregate:
    """The aggregate of a weight's binary digits over those rows where no other factor is 0.

    Args:
        name: bit_or or bit_and.
        weight: A column of a public table.
        others: What it is multiplied by.
        where: Of the sum.
    """
    value: Expression = weight
    if weight.type.name == "DECIMAL":
        scale = weight.type.scale
        power = plan.Constant(10**scale, ValueType("DECIMAL", scale + 1, 0))
        wide = _cast(weight, _MAX_WIDTH - scale - 1)
        kind = ValueType("DECIMAL", _MAX_WIDTH, scale)
        value = plan.Call("system.main.*", "BOUND_FUNCTION", (wide, power), kind)
        value = plan.Call("__cast", "OPERATOR_CAST", (value,), BIGINT)
    nonzero = [
        plan.Call("!=", "COMPARE_NOTEQUAL", (factor, plan.Constant(0, factor.type)), BOOLEAN)
        for factor in dict.fromkeys(others)
    ]
    if (condition := all_of(nonzero)) is not None:
        value = plan.Case(((condition, value),), plan.Constant(None, BIGINT), BIGINT)
    return plan.Aggregate(f"system.main.{name}", (value,), where, False, BIGINT)


def times(value: Expression, coefficient: Fraction) -> Expression:
    """A value times a constant: exactly where the constant is a short decimal."""
    if coefficient == 1:
        return value
    digits = _decimal(coefficient)
    if digits is None:
        factor = plan.Constant(float(coefficient), DOUBLE)
        value = plan.Call("__cast", "OPERATOR_CAST", (value,), DOUBLE)
        return plan.Call("system.main.*", "BOUND_FUNCTION", (value, factor), DOUBLE)
    number, scale = digits
    width = max(len(str(abs(number))), scale)
    factor = plan.Constant(number, ValueType("DECIMAL", width, scale))
    kind = ValueType("DECIMAL", 38, value.type.scale + scale)
    return plan.Call("system.main.*", "BOUND_FUNCTION", (value, factor), kind)


def _decimal(number: Fraction) -> tuple[int, int] | None:
    for scale in range(13):
        scaled = number * 10**scale
        if scaled.denominator == 1 and abs(scaled) < 10**18:
            return int(scaled), scale
    return None
