"""Whether rows of nobody may multiply the rows of units that they meet.

Two copies of each row double what every unit contributes: then no contribution equals an earlier
one, and the differencing guard compares in vain. Copies by choice, ten of one row and a hundred of
another, are digits of a number: one sum would tell each of them. So public rows, and groups of
several units, meet protected rows by equality with all columns of something that has one row per
value: of a public table what the preparation found to be unique.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.constants import constant_value, is_constant
from luoshu.sandbox.guard.facts import Guarded, PublicValue, UnprovenError
from luoshu.sandbox.guard.functions import EQUALITIES
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.schema import TableSchema

Unique: TypeAlias = tuple[frozenset[int], ...]
"""Sets of places of an output of which no two rows have all values in common."""

_MAX_ROWS = 1000


class FanOutError(UnprovenError):
    """Rows of nobody that may multiply the rows of units."""


def unique_columns(table: TableSchema) -> Unique:
    """What is unique in a public table, by the places of its columns."""
    places = {column.name: place for place, column in enumerate(table.columns)}
    return tuple(frozenset(places[name] for name in names) for names in table.unique)


def unique_of(
    operator: Operator, tables: Sequence[TableSchema], ctes: Mapping[int, Unique]
) -> Unique:
    """What is unique in the rows of a public operator.

    Args:
        operator: It, with everything below.
        tables: The prepared tables.
        ctes: The same of the CTEs around it.
    """
    match operator:
        case plan.DummyScan():
            return (frozenset(),)
        case plan.Get():
            return _scanned(operator, tables)
        case plan.GroupBy():
            is_plain = operator.sets == (tuple(range(len(operator.groups))),)
            return (frozenset(range(len(operator.groups))),) if is_plain else ()
        case plan.Distinct():
            return (frozenset(range(len(plan.output_types(operator)))),)
        case plan.Projection():
            places = [
                each.index if isinstance(each, plan.Reference) else None
                for each in operator.expressions
            ]
            return _placed(places, unique_of(operator.child, tables, ctes))
        case plan.Filter() | plan.Order() | plan.Limit() | plan.WindowStep():
            return unique_of(operator.child, tables, ctes)
        case plan.Join(kind="SEMI" | "ANTI" | "MARK", left_map=None):
            return unique_of(operator.left, tables, ctes)
        case plan.Cte():
            found = unique_of(operator.definition, tables, ctes)
            return unique_of(operator.child, tables, {**ctes, operator.index: found})
        case plan.CteRef():
            return ctes.get(operator.index, ())
        case plan.Values() | plan.SetOperation():
            return _listed(_rows(operator))
    return ()


def _scanned(scan: plan.Get, tables: Sequence[TableSchema]) -> Unique:
    for table in tables:
        if table.unit is None and scan.path == (table.catalog, "main", table.table):
            return _placed(scan.output, unique_columns(table))
    return ()


def _placed(output: Sequence[int | None], below: Unique) -> Unique:
    """What is unique in an output, by which places of its input come out where."""
    places: dict[int, int] = {}
    for place, index in enumerate(output):
        if index is not None:
            places.setdefault(index, place)
    return tuple(frozenset(places[index] for index in key) for key in below if key <= places.keys())


def _rows(operator: Operator) -> list[tuple[Expression, ...]] | None:
    """The rows of a list of constants; None for anything else."""
    match operator:
        case plan.Values():
            return list(operator.rows)
        case plan.SetOperation(kind="UNION"):
            found = [_rows(child) for child in operator.children]
            if any(rows is None for rows in found) or len(found) > _MAX_ROWS:
                return None
            return [row for rows in found if rows is not None for row in rows]
        case plan.Projection() if _is_one_row(operator.child) and not any(
            True for each in operator.expressions for _ in plan.leaves_of(each)
        ):
            return [operator.expressions]
        case plan.Projection():
            rows = _rows(operator.child)
            places = [e.index for e in operator.expressions if isinstance(e, plan.Reference)]
            if rows is None or len(places) < len(operator.expressions):
                return None
            return [tuple(row[place] for place in places) for row in rows]
    return None


def _is_one_row(operator: Operator) -> bool:
    while isinstance(operator, plan.Projection):
        operator = operator.child
    return isinstance(operator, plan.DummyScan)


def _listed(rows: list[tuple[Expression, ...]] | None) -> Unique:
    if not rows or len(rows) > _MAX_ROWS:
        return ()
    found = []
    for place, column in enumerate(zip(*rows, strict=True)):
        # In one spelling, different texts are different values.
        is_plain = all(is_constant(value) and value.type.name in _TEXTS for value in column)
        if is_plain and len({str(constant_value(value)) for value in column}) == len(rows):
            found.append(frozenset({place}))
    return tuple(found)


_TEXTS = frozenset({"VARCHAR", "DATE", "INTEGER", "BIGINT"})


def check_no_fan(readings: Mapping[int, Unique], conditions: Sequence[Expression]) -> None:
    """Requires that each reading has at most one row for each row of the others.

    Args:
        readings: What is unique in each, by the number of its reading.
        conditions: What holds for rows that meet.

    Raises:
        FanOutError: Some may have several.
    """
    waiting = dict(readings)
    while waiting:
        met = [scan for scan in waiting if _is_met(scan, waiting, conditions)]
        if not met:
            raise FanOutError("public rows that may multiply protected ones")
        for scan in met:
            del waiting[scan]


def _is_met(scan: int, waiting: Mapping[int, Unique], conditions: Sequence[Expression]) -> bool:
    places = {place for each in conditions for place, _ in _equated(each, scan, waiting)}
    return any(key <= places for key in waiting[scan])


def _equated(
    condition: Expression, scan: int, waiting: Collection[int]
) -> set[tuple[int, Expression]]:
    """Places of a reading that a condition makes equal to something already met, and to what.

    What holds in each branch of an OR holds: `k = 1 OR k = 2` makes `k` equal to nothing.
    """
    if not isinstance(condition, plan.Call):
        return set()
    if condition.kind in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
        found = [_equated(child, scan, waiting) for child in condition.children]
        is_and = condition.kind == "CONJUNCTION_AND"
        return set.union(*found) if is_and else set.intersection(*found)
    if condition.kind not in EQUALITIES:
        return set()
    one, other = condition.children
    equated = set()
    for mine, theirs in ((one, other), (other, one)):
        leaf = _uncast(mine)
        if not isinstance(leaf, PublicValue | Guarded) or leaf.scan != scan:
            continue
        if not _reads(theirs, waiting):
            equated.add((leaf.place, theirs))
    return equated


def _uncast(expression: Expression) -> Expression:
    while (
        isinstance(expression, plan.Call)
        and expression.kind == "OPERATOR_CAST"
        and expression.type.name != "DOUBLE"
        and not expression.is_try
    ):
        expression = expression.children[0]
    return expression


def _reads(expression: Expression, scans: Collection[int]) -> bool:
    return any(getattr(leaf, "scan", None) in scans for leaf in plan.leaves_of(expression))


def fan_out_refusal(root: Operator, tables: Sequence[TableSchema]) -> Exception:
    """The refusal of a query with a fan-out; names the keys of the public tables that it reads."""
    paths = {each.path for each in _below(root) if isinstance(each, plan.Get)}
    keys = [
        f"{shown(table.table)} by {' or '.join(_named(key) for key in table.unique[:_SHOWN_KEYS])}"
        if table.unique
        else f"{shown(table.table)} by nothing: no column of it is unique"
        for table in tables
        if table.unit is None and (table.catalog, "main", table.table) in paths
    ]
    shown_keys = f" ({'; '.join(keys)})" if keys else ""
    return refuse(
        Refusal.FAN_OUT,
        "A protected row may meet several public rows here, which would multiply what it "
        f"contributes. Join public tables by = on all columns of a key{shown_keys}; or choose "
        "rows by IN or EXISTS, which multiply nothing; or aggregate the public rows first, by what "
        "they are joined on.",
    )


_SHOWN_KEYS = 3


def _named(columns: Sequence[str]) -> str:
    return " and ".join(map(shown, columns))


def _below(operator: Operator) -> Iterator[Operator]:
    yield operator
    for child in plan.inputs_of(operator):
        yield from _below(child)
