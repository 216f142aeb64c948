"""What the verifier demands of sums in which a number of a public table is a factor.

Such numbers are weights, and who meets which is often known: a sum with weights 1, 10, 100, … tells
each value by a digit, and one whose weights are all round but one tells a value by its remainder.
The release stage judges a sum with weights w by their binary digits, as it is nothing but the sum
over the digits i of 2^i times the plain sum over those rows whose w has the digit i. So beside such
a sum there is the plain one, of the same rows without w, and for each unit which digits are 1 in
any, and in all, of the rows that contribute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.arguments import Monomial, monomial
from luoshu.sandbox.guard.constants import constant_value, is_constant, widens
from luoshu.sandbox.guard.facts import (
    Inner,
    PublicValue,
    UnprovenError,
    conjuncts,
)
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.schema import BIGINT, ComponentKind, Digits

DIGITS = {"bit_or": ComponentKind.ANY_DIGITS, "bit_and": ComponentKind.ALL_DIGITS}
"""The aggregates that collect digits, and what they yield."""
_NARROW = 18  # digits of a decimal that a BIGINT holds


def read_digits(argument: Expression) -> tuple[PublicValue, frozenset[Expression]]:
    """Reads what digits are collected of.

    Returns:
        The weight, as an integer at its own scale; and the factors that are not 0 in those rows.

    Raises:
        UnprovenError: It is anything else.
    """
    if not isinstance(argument, plan.Case):
        return _whole(argument), frozenset()
    if len(argument.checks) != 1 or not _is_null(argument.otherwise):
        raise UnprovenError("digits of anything but a weight")
    ((when, then),) = argument.checks
    return _whole(then), frozenset(_nonzero(each) for each in conjuncts(when))


def _whole(value: Expression) -> PublicValue:
    leaf, scale = value, 0
    if isinstance(value, plan.Call) and _is_cast(value) and value.type == BIGINT:
        (leaf,) = value.children
        if isinstance(leaf, plan.Call) and leaf.name == "system.main.*" and not leaf.may_overflow:
            leaf, power = map(_unwidened, leaf.children)
            scale = leaf.type.scale
            if power.type.scale or not is_constant(power) or constant_value(power) != 10**scale:
                raise UnprovenError("digits of anything but a weight")
        leaf = _unwidened(leaf)
    is_whole = leaf.type == BIGINT or (leaf.type.name == "DECIMAL" and leaf.type.width <= _NARROW)
    if isinstance(leaf, PublicValue) and leaf.name and is_whole and leaf.type.scale == scale:
        return leaf
    raise UnprovenError("digits of anything but a weight")


def _unwidened(value: Expression) -> Expression:
    if isinstance(value, plan.Call) and _is_cast(value):
        (inner,) = value.children
        if inner.type.name == value.type.name == "DECIMAL" and widens(inner.type, value.type):
            return inner if inner.type.scale == value.type.scale else value
    return value


def _is_cast(call: plan.Call) -> bool:
    return call.kind == "OPERATOR_CAST" and not call.is_try and len(call.children) == 1


def _is_null(value: Expression) -> bool:
    return is_constant(value) and constant_value(value) is None


def _nonzero(condition: Expression) -> Expression:
    if isinstance(condition, plan.Call) and condition.kind == "COMPARE_NOTEQUAL":
        factor, zero = condition.children
        if factor.type == zero.type and is_constant(zero):
            text = constant_value(zero)
            if text is not None and Decimal(text) == 0:
                return factor
    raise UnprovenError("digits under a condition")


def digits_of(
    read: Monomial, value: Inner, values: Sequence[Inner | None], kinds: Sequence[ComponentKind]
) -> Digits | None:
    """Finds what is known of a sum's weights; None if it has none.

    Args:
        read: The sum's argument.
        value: The sum.
        values: All components of its arm, of the given kinds.
        kinds: As claimed.

    Raises:
        UnprovenError: It has several weights, or something beside it is missing.
    """
    weights = [leaf for leaf in read.leaves if isinstance(leaf, PublicValue)]
    if any(isinstance(leaf, Inner) and has_weights(leaf) for leaf in read.leaves):
        raise UnprovenError("a sum of numbers of a public table inside one unit")
    if not weights:
        return None
    if len(weights) > 1:
        raise UnprovenError("a product of several numbers of public tables")
    if not any(_says_present(each, weights[0]) for each in value.filter):
        # The plain sum would have rows that this one lacks.
        raise UnprovenError("a sum with weights that may be missing")
    others = Counter(leaf for leaf in read.leaves if leaf not in weights)
    same = {
        n: each
        for n, each in enumerate(values)
        if each is not None and set(each.filter) == set(value.filter)
    }
    plain = [
        n for n, each in same.items() if kinds[n] is ComponentKind.SUM and _factors(each) == others
    ]
    digits = {
        kind: [
            n
            for n, each in same.items()
            if kinds[n] is kind
            and each.function == function
            and _digits(each) == (weights[0], frozenset(others))
        ]
        for function, kind in DIGITS.items()
    }
    places = (plain, digits[ComponentKind.ANY_DIGITS], digits[ComponentKind.ALL_DIGITS])
    if not all(places):
        raise UnprovenError("a sum with weights, without what they are judged by")
    return Digits(*(found[0] for found in places))


def _says_present(condition: Expression, leaf: PublicValue) -> bool:
    return (
        isinstance(condition, plan.Call)
        and condition.kind == "OPERATOR_IS_NOT_NULL"
        and condition.children == (leaf,)
    )


def _digits(value: Inner) -> tuple[PublicValue, frozenset[Expression]] | None:
    return None if value.argument is None else read_digits(value.argument)


def _factors(value: Inner) -> Counter[plan.Leaf] | None:
    if value.function == "count_star":
        return Counter()
    if value.function == "sum" and value.argument is not None:
        return Counter(monomial(value.argument).leaves)
    return None


def has_weights(value: Inner) -> bool:
    """Whether a value inside one unit depends on numbers of public tables, not only on rows."""
    if value.function in {"count", "count_star"} or value.argument is None:
        return False
    return any(
        isinstance(leaf, PublicValue) or (isinstance(leaf, Inner) and has_weights(leaf))
        for leaf in plan.leaves_of(value.argument)
    )
