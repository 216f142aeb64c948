"""Refusals of columns that are used in a way not declared for them, in the analyst's words.

The verifier would refuse the same later, by what DuckDB made of it; here it is known what was
asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.sources import AggregateLeaf, Atom, Role
from luoshu.sandbox.guard.text import short_name
from luoshu.sandbox.schema import ColumnSchema, Use

_COMPARISONS = frozenset({"COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"})
_ARITHMETIC = frozenset({"system.main.+", "system.main.-", "system.main.*"})
_NULL_CHECKS = frozenset({"OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"})


def unit_refusal(name: str) -> Exception:
    """The refusal of the privacy unit anywhere but in its places."""
    return refuse(
        Refusal.UNIT,
        f"{name} is the privacy unit; it is accepted in COUNT(DISTINCT {name}), in equality joins, "
        "and as a key of an inner GROUP BY that is aggregated once more.",
    )


def require(column: ColumnSchema, use: Use, how: str) -> None:
    """Requires that a column is declared for a use.

    Raises:
        GuardRefusalError: `GUARD_COLUMN_USE`, it is not.
    """
    if use in column.uses:
        return
    declared = ", ".join(sorted(column.uses)) or "joins alone"
    raise refuse(
        Refusal.COLUMN_USE,
        f"The column {column.name} is not declared `{use}`, which {how} needs; it is declared "
        f"for: {declared}.",
    )


def check_condition(condition: Expression) -> None:
    """Requires that a condition's columns are declared `filter`; joins by equality are free.

    Raises:
        GuardRefusalError: `GUARD_COLUMN_USE` or `GUARD_UNIT`.
    """
    if isinstance(condition, plan.Call):
        children = condition.children
        if condition.kind in _COMPARISONS and all(isinstance(c, Atom) for c in children):
            return
        if condition.kind in _NULL_CHECKS and all(
            isinstance(child, Atom) and _names_unit(child) for child in children
        ):
            return  # it always has a value
    if isinstance(condition, Atom):
        if condition.role is Role.UNIT:
            raise unit_refusal(str(condition.table.unit) if condition.table else "the column")
        if condition.role is Role.COLUMN and condition.column is not None:
            require(condition.column, Use.FILTER, "a condition")
        return
    if (
        isinstance(condition, plan.Call)
        and condition.name in _ARITHMETIC
        and any(isinstance(e, Atom) and e.role is Role.COLUMN for e in plan.leaves_of(condition))
    ):
        raise refuse(
            Refusal.FILTER,
            "Arithmetic on columns of protected tables is not accepted in a condition; compare a "
            "column itself with a constant or another column.",
        )
    for child in plan.children_of(condition):
        check_condition(child)


def _names_unit(atom: Atom) -> bool:
    if atom.role is Role.UNIT:
        return True
    keys = atom.table.keys if atom.table else ()
    return atom.column is not None and any(atom.column.name in key.columns for key in keys)


def check_key(key: Expression) -> None:
    """Requires that a group key's columns are declared `group`.

    Raises:
        GuardRefusalError: `GUARD_COLUMN_USE` or `GUARD_UNIT`.
    """
    if isinstance(key, plan.Case):
        for when, then in key.checks:
            check_condition(when)
            check_key(then)
        check_key(key.otherwise)
        return
    if isinstance(key, Atom):
        if key.role is Role.UNIT:
            raise unit_refusal(str(key.table.unit) if key.table else "the column")
        if key.role is Role.COLUMN and key.column is not None:
            require(key.column, Use.GROUP, "GROUP BY")
        return
    for child in plan.children_of(key):
        check_key(child)


def check_factors(factors: Sequence[Atom]) -> None:
    """Requires that what is added up is declared `aggregate`.

    Raises:
        GuardRefusalError: `GUARD_COLUMN_USE` or `GUARD_UNIT`.
    """
    for factor in factors:
        if factor.role is Role.UNIT:
            raise unit_refusal(str(factor.table.unit) if factor.table else "the column")
        if factor.role is Role.COLUMN and factor.column is not None:
            require(factor.column, Use.AGGREGATE, "an aggregate")
    weights = [factor for factor in factors if factor.role is Role.PUBLIC]
    is_computed = any(factor.column is None for factor in weights)
    if len(weights) > 1 or is_computed or any(_adds_up_public(factor) for factor in factors):
        raise refuse(
            Refusal.WEIGHT,
            "An aggregate over protected rows multiplies by one column of a public table at most, "
            "and by nothing computed from it. Group by what you would multiply by, and multiply "
            "the released sums in an outer query.",
        )


def _adds_up_public(atom: Atom) -> bool:
    """Whether a value inside one unit is a sum, mean or extreme of numbers of public tables."""
    inside = atom.inside
    if isinstance(inside, AggregateLeaf):
        if short_name(inside.call.name) in {"count", "count_star"}:
            return False
        leaves = [leaf for each in inside.call.children for leaf in plan.leaves_of(each)]
        return any(
            isinstance(leaf, Atom) and (leaf.role is Role.PUBLIC or _adds_up_public(leaf))
            for leaf in leaves
        )
    if isinstance(inside, str) or atom.role is Role.PUBLIC:
        return False
    return any(isinstance(e, Atom) and _adds_up_public(e) for e in plan.leaves_of(inside))
