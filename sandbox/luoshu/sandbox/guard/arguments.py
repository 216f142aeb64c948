"""What the verifier accepts as the argument of an aggregate: products of columns, and columns."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.constants import INTEGERS, widens
from luoshu.sandbox.guard.facts import (
    Column,
    Inner,
    Missing,
    MissingUnit,
    PublicValue,
    Unit,
    UnprovenError,
    is_zero,
    magnitude_of,
    name_of,
    names_unit,
)
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.schema import DOUBLE, ColumnSchema, Use


@dataclass(frozen=True, slots=True)
class Monomial:
    """A product that is added up.

    Attributes:
        names: Of its factors, sorted.
        scale: Of its value.
        magnitude: Largest absolute value of one row, as an integer at `scale`.
        column: The one factor, if it is a declared column.
        leaves: Its factors.
    """

    names: tuple[str, ...]
    scale: int
    magnitude: int
    column: ColumnSchema | None
    leaves: tuple[plan.Leaf, ...]


def monomial(expression: Expression) -> Monomial:
    """Reads the argument of a SUM.

    Raises:
        UnprovenError: It is no product of columns declared `aggregate`.
    """
    scale = expression.type.scale
    match expression:
        case Column(column=column):
            if Use.AGGREGATE not in column.uses or not column.type.is_summable:
                raise UnprovenError(
                    f"an aggregate of the column {column.name}, which is not declared `aggregate`"
                )
            own = (column.name.lower(),)
            return Monomial(own, scale, column.magnitude, column, (expression,))
        case PublicValue() | Inner():
            number = expression.type.name == "DECIMAL" or expression.type.name in INTEGERS
            magnitude = magnitude_of(expression)
            if not number or magnitude is None:
                raise UnprovenError("an aggregate of what is no exact number")
            if isinstance(expression, PublicValue):
                if not expression.name:  # weights of one's own could tell persons apart
                    raise UnprovenError("an aggregate of a computed public value")
                names: tuple[str, ...] = (expression.name,)
            else:
                if expression.function in {"bit_or", "bit_and"}:
                    raise UnprovenError("an aggregate of digits")
                names = expression.names
                for each in expression.columns:
                    if Use.AGGREGATE not in each.column.uses and expression.function != "count":
                        raise UnprovenError("an aggregate of a column not declared `aggregate`")
            return Monomial(names, scale, magnitude, None, (expression,))
        case plan.Call(children=(child,)) if (expression.kind, expression.name) == (
            "OPERATOR_CAST",
            "__cast",
        ):
            inner = monomial(child)
            kind = expression.type
            if kind.name != "DECIMAL" or kind.scale != inner.scale:
                raise UnprovenError("a cast of what is added up")
            if expression.is_try:  # what doesn't fit counts as NULL
                return replace(inner, magnitude=min(inner.magnitude, 10**kind.width - 1))
            if inner.magnitude >= 10**kind.width and not widens(child.type, kind):
                raise UnprovenError("a cast that may fail of what is added up")
            return inner
        case plan.Call(kind="OPERATOR_COALESCE", children=(child, zero)) if (
            is_zero(zero) and child.type == zero.type == expression.type
        ):
            return monomial(child)  # a NULL adds nothing either
        case plan.Call(kind="BOUND_FUNCTION", name="system.main.*", children=(left, right)):
            one, other = monomial(left), monomial(right)
            is_exact = expression.type.name == "DECIMAL" and not expression.may_overflow
            if not is_exact or scale != one.scale + other.scale:
                raise UnprovenError("a product that may overflow")
            return Monomial(
                tuple(sorted((*one.names, *other.names))),
                scale,
                one.magnitude * other.magnitude,
                None,
                (*one.leaves, *other.leaves),
            )
    raise UnprovenError(f"an aggregate of {name_of(expression)}")


def count_argument(expression: Expression) -> frozenset[Column]:
    """Reads the argument of a COUNT inside one unit.

    Raises:
        UnprovenError: It is no column.
    """
    if isinstance(expression, Column):
        # Of a key to the unit it only says whether there is such a row.
        return frozenset() if names_unit(expression) else frozenset({expression})
    if (
        isinstance(expression, PublicValue | Unit | Inner | Missing | MissingUnit)
        and expression.type != DOUBLE
    ):
        return frozenset()
    raise UnprovenError("COUNT of an expression")
