"""The last step of the proof: what a row of contributions holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.claims import Claim
from luoshu.sandbox.guard.constants import is_constant
from luoshu.sandbox.guard.facts import (
    Column,
    Inner,
    Unit,
    UnprovenError,
    check_key,
    monomial,
)
from luoshu.sandbox.guard.obligations import branches_owed, check_partition
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.weights import DIGITS, digits_of
from luoshu.sandbox.schema import (
    BIGINT,
    CellSchema,
    Component,
    ComponentKind,
    SchemaError,
    ValueType,
)

_WIDE = 2**36
"""Monomials below this: a unit's sum over 2^26 rows fits 63 bits; beyond, the export fails."""


@dataclass(frozen=True, slots=True)
class Contributions:
    """What the last aggregate yields.

    Attributes:
        columns: Of the statement's result.
        grouped: What the aggregate grouped by; None if it didn't group by unit.
        conditions: What every aggregated row fulfils.
    """

    columns: Sequence[Expression]
    grouped: Collection[Expression] | None
    conditions: Sequence[Expression]


def cell_schema(found: Contributions, tables: Sequence[str], claim: Claim, mode: str) -> CellSchema:
    """Proves that rows are contributions: keys, the unit, then one value a component.

    Args:
        found: What the statement yields.
        tables: Every protected table that it reads.
        claim: Of the rewriter.
        mode: Release mode; in `dp` there are no thresholds, so no guard sets.

    Raises:
        UnprovenError: They are anything else.
    """
    columns, grouped, conditions = found.columns, found.grouped, found.conditions
    count = len(columns) - 1 - len(claim.kinds)
    if grouped is None or count < 0 or not claim.kinds:
        raise UnprovenError("a result that is not aggregated per unit")
    keys, unit = tuple(columns[:count]), columns[count]
    if not isinstance(unit, Unit) or set(grouped) != {*keys, unit}:
        raise UnprovenError("contributions that are not grouped by their keys and the unit")
    for key in keys:
        check_key(key)
        check_partition(key)
        check_stored(key.type)
    values = [_inner(column) for column in columns[count + 1 :]]
    components = []
    for value, kind in zip(values, claim.kinds, strict=True):
        components.append(_component(value, kind, values, claim.kinds, mode))
    sets = [v for v, kind in zip(values, claim.kinds, strict=True) if kind is ComponentKind.SET]
    if mode == "aggregate":
        for value, kind in zip(values, claim.kinds, strict=True):
            if kind is not ComponentKind.SET:
                _require_sets(value.filter, conditions, sets, keys)
    if claim.prefix is not None and not 0 <= claim.prefix <= count:
        raise UnprovenError("a prefix of keys that are not there")
    return CellSchema(
        tuple(tables),
        tuple(key.type for key in keys),
        tuple(components),
        claim.prefix,
        tuple(_column_name(key) for key in keys),
    )


def check_stored(kind: ValueType) -> None:
    """Requires that a type is one of those that prepared tables and cells have.

    Raises:
        UnprovenError: It is another.
    """
    try:
        ValueType.parse(str(kind))
    except SchemaError:
        raise UnprovenError(f"a result of the type {kind.name}") from None


def _column_name(key: Expression) -> str:
    if isinstance(key, Column):
        return f"{key.table.catalog}.{key.table.table}.{key.column.name}"
    return ""


def _inner(column: Expression) -> Inner:
    if isinstance(column, plan.Call) and column.kind == "OPERATOR_COALESCE":
        value, *rest = column.children
        is_same = all(child.type == column.type for child in column.children)
        if isinstance(value, Inner) and is_same and len(rest) == 1:
            # No digit is missing in all of no rows.
            nothing = "-1" if value.function == "bit_and" else "0"
            if _is_number(rest[0], nothing):
                return value
    if isinstance(column, Inner) and column.function in {"count", "count_star"}:
        return column
    raise UnprovenError("a contribution that is not the sum of one component")


def _is_number(expression: Expression, text: str) -> bool:
    if not is_constant(expression):
        return False
    if isinstance(expression, plan.Call):
        expression = expression.children[0]
    return isinstance(expression, plan.Constant) and str(expression.value) == text


def _component(
    value: Inner,
    kind: ComponentKind,
    values: Sequence[Inner],
    kinds: Sequence[ComponentKind],
    mode: str,
) -> Component:
    if value.function in DIGITS or kind in DIGITS.values():
        if DIGITS.get(value.function) is not kind:
            raise UnprovenError("digits that are none, or that are released")
        return Component(kind)
    if value.function in {"count", "count_star"}:
        if value.function == "count" or value.type != BIGINT:
            raise UnprovenError("a count of anything but rows")
        return Component(kind, (), 0, None, False, None)
    if kind is not ComponentKind.SUM or value.function != "sum" or value.argument is None:
        raise UnprovenError("a contribution that is neither a count nor a sum")
    read = monomial(value.argument)
    bounds = rows = None
    if read.column is not None and read.column.bounds is not None:
        bounds = read.column.bounds
        (leaf,) = read.leaves
        if read.column.is_nullable and not any(_says_present(each, leaf) for each in value.filter):
            raise UnprovenError("a sum with declared bounds, over rows that may be NULL")
        rows = next(
            (
                place
                for place, other in enumerate(values)
                if other.function == "count_star"
                and kinds[place] is ComponentKind.SUM
                and set(other.filter) == set(value.filter)
            ),
            None,
        )
        if rows is None:
            raise UnprovenError("a sum with declared bounds, without the number of its rows")
    digits = digits_of(read, value, values, kinds) if mode == "aggregate" else None
    return Component(
        ComponentKind.SUM, read.names, read.scale, bounds, read.magnitude >= _WIDE, rows, digits
    )


def _says_present(condition: Expression, leaf: plan.Leaf) -> bool:
    return (
        isinstance(condition, plan.Call)
        and condition.kind == "OPERATOR_IS_NOT_NULL"
        and condition.children == (leaf,)
    )


def _require_sets(
    chosen: Sequence[Expression],
    conditions: Sequence[Expression],
    sets: Sequence[Inner],
    keys: Sequence[Expression],
) -> None:
    """Requires a guard set for every branch of what chooses the rows of a component.

    The branches are of FILTER and WHERE together: a FILTER that leaves one person of a large
    branch of WHERE, and nine of the other, is a choice between small sets.

    A set's filter may repeat what holds for all rows, or all of the component's, anyway.
    """
    for branch in branches_owed((*conditions, *chosen), keys):
        needed, allowed = branch - set(conditions), branch | set(conditions) | set(chosen)
        if not any(needed <= set(each.filter) <= allowed for each in sets):
            raise UnprovenError("a branch of OR that is not a set of its own")
