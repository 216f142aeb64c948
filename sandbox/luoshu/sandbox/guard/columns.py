"""Columns of relations: expressions moved from operator to operator, and through subqueries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.conditions import chosen_by
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.sources import AggregateLeaf, Atom, Relation, Role, over
from luoshu.sandbox.guard.uses import check_condition
from luoshu.sandbox.schema import BOOLEAN


def maybe_missing(column: Expression) -> Expression:
    """A column of a row that may not be there: it can be NULL, whatever its table says."""
    if not isinstance(column, Atom):
        return column
    declared = column.column and replace(column.column, is_nullable=True)
    return replace(column, column=declared, is_optional=True)


def filtered(relation: Relation, conditions: Sequence[Expression]) -> Relation:
    """The rows for which further conditions hold."""
    found = [
        part for condition in conditions for part in conjuncts(chosen_by(over(condition, relation)))
    ]
    if not relation.is_public:
        for part in found:
            check_condition(part)
    return replace(relation, where=(*relation.where, *found))


def conjuncts(condition: Expression) -> list[Expression]:
    """The conditions that a condition is the AND of."""
    if isinstance(condition, plan.Call) and condition.kind == "CONJUNCTION_AND":
        return [part for child in condition.children for part in conjuncts(child)]
    return [condition]


def projected(relation: Relation, expressions: Sequence[Expression]) -> Relation:
    """The rows with other columns."""
    columns = tuple(_or_zero(over(each, relation)) for each in expressions)
    return replace(relation, columns=columns)


def _or_zero(expression: Expression) -> Expression:
    """COALESCE, where DuckDB writes the count of a correlated subquery as a CASE.

    The CASE asks whether the subquery has a row, by another count beside it.
    """
    match expression:
        case plan.Case(
            checks=((plan.Call(kind="OPERATOR_IS_NULL", children=(Atom() as row,)), then),),
            otherwise=Atom() as value,
        ) if isinstance(then, plan.Constant):
            is_counted = [_count_of(row), _count_of(value)]
            if row.alias == value.alias and None not in is_counted and len(set(is_counted)) == 1:
                coalesce = "OPERATOR_COALESCE"
                return plan.Call(coalesce, coalesce, (value, then), expression.type)
    return expression


def _count_of(atom: Atom) -> int | None:
    """Which subquery counts it: a count is never NULL where the subquery has a row."""
    while isinstance(atom.inside, Atom):
        atom = atom.inside
    is_count = isinstance(atom.inside, AggregateLeaf) and atom.inside.call.name in _COUNTS
    return id(atom.source) if is_count else None


_COUNTS = frozenset({"system.main.count", "system.main.count_star"})


Pair: TypeAlias = tuple[Expression, str, Expression]
"""A condition of a join: left side, DuckDB's name of the comparison, right side."""


def pairs(operator: plan.Join, left: Relation, right: Relation) -> tuple[Pair, ...]:
    """The conditions of a join, each over the atoms of its side."""
    return tuple(
        (over(one, left), comparison, over(other, right))
        for one, comparison, other in operator.conditions
    )


def compared(pair: Pair) -> Expression:
    """A condition of a join as one expression."""
    return plan.Call(pair[1], pair[1], (pair[0], pair[2]), BOOLEAN)


def mapped(relation: Relation, places: tuple[int, ...] | None) -> tuple[Expression, ...]:
    """The columns of a side that a join puts out."""
    if places is None:
        return relation.columns
    return tuple(relation.columns[place] for place in places)


def names_unit(keys: Sequence[Expression], relation: Relation) -> bool:
    """Whether group keys determine the unit: the unit itself, or all columns of a unit key."""
    if relation.unit is None:
        return False
    atoms = [key for key in keys if isinstance(key, Atom)]
    if any(atom.role is Role.UNIT for atom in atoms):
        return True
    for atom in atoms:
        names = {
            other.column.name for other in atoms if other.instance == atom.instance and other.column
        }
        if atom.table and any(set(key.columns) <= names for key in atom.table.keys):
            return True
    return False
