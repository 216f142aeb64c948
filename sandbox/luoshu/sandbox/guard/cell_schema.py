"""The last step of the proof: what a row of contributions holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.arguments import monomial
from luoshu.sandbox.guard.claims import Claim
from luoshu.sandbox.guard.constants import constant_value, is_constant
from luoshu.sandbox.guard.facts import (
    Column,
    Inner,
    Never,
    PublicValue,
    Unit,
    UnprovenError,
    check_key,
    is_zero,
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
    """What the last aggregate yields; of one arm, if it is over UNION ALL.

    Attributes:
        columns: Of the statement's result.
        grouped: What the aggregate grouped by; None if it didn't group by unit.
        conditions: What every aggregated row fulfils.
    """

    columns: Sequence[Expression]
    grouped: Collection[Expression] | None
    conditions: Sequence[Expression]


def cell_schema(
    found: Sequence[Contributions], tables: Sequence[str], claim: Claim, mode: str
) -> CellSchema:
    """Proves that rows are contributions: keys, the unit, then one value a component.

    Args:
        found: What the statement yields, of each arm; the arms' are added up by cell and unit.
        tables: Every protected table that it reads.
        claim: Of the rewriter.
        mode: Release mode; in `dp` there are no thresholds, so no guard sets.

    Raises:
        UnprovenError: They are anything else.
    """
    arms = [_arm(each, claim) for each in found]
    types = {(arm.unit.domain, *(key.type for key in arm.keys)) for arm in arms}
    if len(types) != 1:
        raise UnprovenError("arms of UNION ALL of different units or keys")
    for place in range(len(claim.kinds)):
        if not any(arm.values[place] for arm in arms):
            raise UnprovenError("a component that no row is in")
    components = [
        _of_arms(
            [_component(arm.values, place, claim.kinds, mode) for arm in arms if arm.values[place]]
        )
        for place in range(len(claim.kinds))
    ]
    if mode == "aggregate":
        for arm in arms:
            _require_sets(arm, arms, claim.kinds)
    keys = arms[0].keys
    if claim.prefix is not None and not 0 <= claim.prefix <= len(keys):
        raise UnprovenError("a prefix of keys that are not there")
    columns = zip(*(map(_column_name, arm.keys) for arm in arms), strict=True)
    return CellSchema(
        tuple(tables),
        tuple(key.type for key in keys),
        tuple(components),
        claim.prefix,
        tuple(names[0] if len(set(names)) == 1 else "" for names in columns),
    )


@dataclass(frozen=True, slots=True)
class _Arm:
    """Contributions that were looked at by themselves.

    Attributes:
        keys: The group keys.
        unit: The unit.
        values: Of each component; None if no row of this arm is in it.
        conditions: What every aggregated row fulfils.
    """

    keys: tuple[Expression, ...]
    unit: Unit
    values: tuple[Inner | None, ...]
    conditions: Sequence[Expression]


def _arm(found: Contributions, claim: Claim) -> _Arm:
    columns, grouped = found.columns, found.grouped
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
    return _Arm(keys, unit, tuple(map(_inner, columns[count + 1 :])), found.conditions)


def _of_arms(components: Sequence[Component]) -> Component:
    """One component over its arms.

    Counted are units; a sum over two arms could add up somebody twice, and then differ from every
    other sum in all units but one.
    """
    if len(components) > 1 and any(each.kind is not ComponentKind.UNITS for each in components):
        raise UnprovenError("a sum, or a set, of several arms of UNION ALL")
    return components[0]


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
    return key.source if isinstance(key, PublicValue) else ""


def _inner(column: Expression) -> Inner | None:
    if isinstance(column, plan.Call) and column.kind == "OPERATOR_COALESCE":
        value, *rest = column.children
        is_same = all(child.type == column.type for child in column.children)
        if isinstance(value, Inner | Never) and is_same and len(rest) == 1:
            # No digit is missing in all of no rows.
            is_all = isinstance(value, Inner) and value.function == "bit_and"
            if _is_minus_one(rest[0]) if is_all else is_zero(rest[0]):
                return value if isinstance(value, Inner) else None
    if isinstance(column, Never) and column.type == BIGINT:
        return None  # a count: of sums it would be NULL
    if isinstance(column, Inner) and column.function in {"count", "count_star"}:
        return column
    raise UnprovenError("a contribution that is not the sum of one component")


def _is_minus_one(expression: Expression) -> bool:
    return is_constant(expression) and str(constant_value(expression)) == "-1"


def _component(
    values: Sequence[Inner | None], place: int, kinds: Sequence[ComponentKind], mode: str
) -> Component:
    value, kind = values[place], kinds[place]
    assert value is not None  # noqa: S101 - of arms that are in it
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
                number
                for number, other in enumerate(values)
                if other is not None
                and other.function == "count_star"
                and kinds[number] is ComponentKind.SUM
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


def _require_sets(arm: _Arm, arms: Sequence[_Arm], kinds: Sequence[ComponentKind]) -> None:
    """Requires a guard set for every branch of what chooses the rows of a component.

    The branches are of FILTER and WHERE together: a FILTER that leaves one person of a large
    branch of WHERE, and nine of the other, is a choice between small sets. Rows of several arms
    are such a choice as well, so each arm is a branch.

    A set's filter may repeat what holds for all rows, or all of the component's, anyway. A set
    is of one arm: others' rows would pad it.
    """
    sets = [
        value
        for place, value in enumerate(arm.values)
        if value is not None and kinds[place] is ComponentKind.SET
    ]
    known = set(arm.conditions)
    for place, value in enumerate(arm.values):
        if value is None or kinds[place] is ComponentKind.SET:
            continue
        owed = branches_owed((*arm.conditions, *value.filter), arm.keys)
        if not owed and sum(each.values[place] is not None for each in arms) > 1:
            owed = [frozenset(value.filter)]
        for branch in owed:
            needed, allowed = branch - known, branch | known | set(value.filter)
            if not any(needed <= set(each.filter) <= allowed for each in sets):
                raise UnprovenError("a branch of OR, or an arm of UNION ALL, that is not a set")
