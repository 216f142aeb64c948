"""The verifier: proves from DuckDB's bound plan that stage 1 yields cells and nothing else.

It knows nothing of who wrote the SQL. What it proves, and from which facts of
the plan (read by `guard.plan`, where unknown means refused):

1. **Source.** The only scan is of one prepared table of this computation: the
   scan's full path, column names and column types equal the product's schema.
   Prepared tables hold declared columns only and a unit id that is never NULL.
2. **Filters.** Below the first aggregate, rows are dropped only by comparisons,
   IN and IS [NOT] NULL between a column declared `filter` and constants. Each
   constant is of the column's own type, and each cast is of a constant text
   that the type surely takes: nothing can raise, whatever the data.
3. **Unit-local.** The first aggregate groups by the unit id, once, and columns
   declared `group`. So each of its rows holds what one unit contributes to one
   cell: its number of rows, of non-null values, or the sum of its values, of
   columns declared `aggregate`.
4. **Cells.** The second aggregate groups by exactly those `group` columns. So
   the rows in one of its groups belong to distinct units, COUNT(*) over them
   counts distinct units, and COUNT(*) FILTER (contribution <> 0) counts the
   distinct units with a non-null and non-zero contribution.
5. **Complete.** The result is those keys, then pairs: a value and the number of
   units behind this very value. No value comes without its count.
6. **No overflow, nothing raises.** Sums are of BIGINT into HUGEINT and of
   DECIMAL(18, s) into DECIMAL(38, s); `guard.arithmetic` shows why both are
   exact for any table that fits a DuckDB file.

Projections only pick columns. Functions are matched by full qualified name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.guard import arithmetic, plan
from luoshu.sandbox.guard.constants import cast_succeeds
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    CellSchema,
    ColumnSchema,
    Component,
    ComponentKind,
    TableSchema,
    Use,
    ValueType,
)

_COMPARISONS = {
    ("COMPARE_EQUAL", "="),
    ("COMPARE_NOTEQUAL", "!="),
    ("COMPARE_LESSTHAN", "<"),
    ("COMPARE_GREATERTHAN", ">"),
    ("COMPARE_LESSTHANOREQUALTO", "<="),
    ("COMPARE_GREATERTHANOREQUALTO", ">="),
}
_COUNT_ROWS = "system.main.count_star"
_COUNT = "system.main.count"
_SUM = "system.main.sum"
_CAST = ("OPERATOR_CAST", "__cast")


@dataclass(frozen=True, slots=True)
class _Unit:
    """The unit id."""

    type: ValueType = BIGINT


@dataclass(frozen=True, slots=True)
class _Key:
    """A group key."""

    column: ColumnSchema

    @property
    def type(self) -> ValueType:
        return self.column.type


@dataclass(frozen=True, slots=True)
class _Contribution:
    """What one unit contributes to one cell."""

    kind: ComponentKind
    column: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class _Value:
    """A cell's total of a contribution; COUNT(*) over units is the value of UNITS."""

    kind: ComponentKind
    column: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class _Units:
    """How many distinct units have a contribution to a cell."""

    kind: ComponentKind
    column: str
    type: ValueType = BIGINT


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a protected table: each belongs to one unit."""

    table: TableSchema
    layout: tuple[_Unit | ColumnSchema, ...]


@dataclass(frozen=True, slots=True)
class _PerUnit:
    """One row per unit and cell."""

    table: TableSchema
    keys: frozenset[_Key]
    layout: tuple[_Unit | _Key | _Contribution, ...]


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row per cell."""

    table: TableSchema
    keys: frozenset[_Key]
    layout: tuple[_Key | _Value | _Units, ...]


_Relation: TypeAlias = "_Rows | _PerUnit | _Cells"
_Item: TypeAlias = "_Unit | _Key | _Contribution | _Value | _Units | ColumnSchema"
_Picked = TypeVar("_Picked", bound=_Item)


def verify(document: object, tables: Sequence[TableSchema]) -> CellSchema:
    """Proves that a bound plan yields cells, and says of what form.

    Args:
        document: What `json_serialize_plan(sql, optimize := false)` returned.
        tables: The prepared tables that the computation may read.

    Raises:
        GuardRefusalError: `GUARD_UNPROVEN`, naming what has no proof.
    """
    try:
        relation = _relation(plan.read_plan(document), tables)
    except plan.PlanError as error:
        raise _unproven(str(error)) from None
    if not isinstance(relation, _Cells):
        raise _unproven("a result that is not aggregated per unit and then per cell")
    return _cell_schema(relation)


def _unproven(what: str) -> GuardRefusalError:
    return refuse(
        Refusal.UNPROVEN,
        f"The guard has no proof for {what}. Ask with COUNT, SUM or AVG over one table, conditions "
        "joined by AND, and GROUP BY columns.",
    )


def _relation(operator: plan.Operator, tables: Sequence[TableSchema]) -> _Relation:
    if isinstance(operator, plan.Get):
        return _scan(operator, tables)
    child = _relation(operator.child, tables)
    if isinstance(operator, plan.Filter):
        if not isinstance(child, _Rows):
            raise _unproven("a filter above an aggregate")
        for condition in operator.conditions:
            _prove_condition(condition, child)
        return child
    if isinstance(operator, plan.Projection):
        return _project(operator, child)
    if isinstance(child, _Rows):
        return _aggregate_per_unit(operator, child)
    if isinstance(child, _PerUnit):
        return _aggregate_cells(operator, child)
    raise _unproven("an aggregate over cells")


def _scan(scan: plan.Get, tables: Sequence[TableSchema]) -> _Rows:
    for table in tables:
        columns = (
            (table.unit, BIGINT),
            *((column.name, column.type) for column in table.columns),
        )
        if scan.path == (table.catalog, "main", table.table) and scan.columns == columns:
            known: tuple[_Unit | ColumnSchema, ...] = (_Unit(), *table.columns)
            return _Rows(table, tuple(known[index] for index in scan.output))
    raise _unproven("a scan of anything but a prepared table")


def _pick(reference: plan.Expression, layout: Sequence[_Picked]) -> _Picked:
    if not isinstance(reference, plan.Reference):
        raise _unproven("an expression where a column is expected")
    if reference.index >= len(layout) or layout[reference.index].type != reference.type:
        raise _unproven("a reference that its input doesn't have")
    return layout[reference.index]


def _project(operator: plan.Projection, child: _Relation) -> _Relation:
    if isinstance(child, _Rows):
        return _Rows(child.table, tuple(_pick(e, child.layout) for e in operator.expressions))
    if isinstance(child, _PerUnit):
        picked = tuple(_pick(e, child.layout) for e in operator.expressions)
        return _PerUnit(child.table, child.keys, picked)
    return _Cells(
        child.table, child.keys, tuple(_pick(e, child.layout) for e in operator.expressions)
    )


def _prove_condition(condition: plan.Expression, rows: _Rows) -> None:
    if not isinstance(condition, plan.Call) or condition.type != BOOLEAN or not condition.children:
        raise _unproven("a condition that is not a comparison")
    column = _pick(condition.children[0], rows.layout)
    if not isinstance(column, ColumnSchema) or Use.FILTER not in column.uses:
        raise _unproven("a condition on a column not declared `filter`")
    constants = condition.children[1:]
    form = (condition.kind, condition.name)
    if form in _COMPARISONS:
        expected = len(constants) == 1
    elif form == ("COMPARE_IN", "COMPARE_IN"):
        expected = bool(constants)
    else:
        known = {"OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}
        expected = condition.kind == condition.name and condition.kind in known and not constants
    if not expected or not all(_is_safe_constant(item, column.type) for item in constants):
        raise _unproven("a condition that is not a comparison with constants")


def _is_safe_constant(item: plan.Expression, kind: ValueType) -> bool:
    if isinstance(item, plan.Constant):
        return item.type == kind and kind.name == "VARCHAR" and isinstance(item.value, str)
    return (
        isinstance(item, plan.Call)
        and (item.kind, item.name) == _CAST
        and item.type == kind
        and len(item.children) == 1
        and isinstance(text := item.children[0], plan.Constant)
        and text.type.name == "VARCHAR"
        and isinstance(text.value, str)
        and cast_succeeds(text.value, kind)
    )


def _aggregate_per_unit(operator: plan.GroupBy, rows: _Rows) -> _PerUnit:
    groups: list[_Unit | _Key] = []
    for item in operator.groups:
        column = _pick(item, rows.layout)
        if isinstance(column, ColumnSchema) and Use.GROUP not in column.uses:
            raise _unproven("a group key that is not declared `group`")
        groups.append(column if isinstance(column, _Unit) else _Key(column))
    keys = [group for group in groups if isinstance(group, _Key)]
    if len(groups) - len(keys) != 1 or len(set(keys)) != len(keys):
        raise _unproven("an aggregate that does not group by unit, once, and distinct keys")
    contributions = tuple(_contribution(item, rows) for item in operator.aggregates)
    return _PerUnit(rows.table, frozenset(keys), (*groups, *contributions))


def _contribution(call: plan.Aggregate, rows: _Rows) -> _Contribution:
    if call.filter is not None:
        raise _unproven("a FILTER on a contribution")
    if call.name == _COUNT_ROWS and not call.children and call.type == BIGINT:
        return _Contribution(ComponentKind.ROWS, "", BIGINT)
    if call.name in {_COUNT, _SUM} and len(call.children) == 1:
        column = _pick(call.children[0], rows.layout)
        if not isinstance(column, ColumnSchema) or Use.AGGREGATE not in column.uses:
            raise _unproven("an aggregate of a column not declared `aggregate`")
        if call.name == _COUNT and call.type == BIGINT:
            return _Contribution(ComponentKind.COUNT, column.name, BIGINT)
        if call.name == _SUM and call.type == arithmetic.sum_of_values(column.type):
            return _Contribution(ComponentKind.SUM, column.name, call.type)
    raise _unproven(f"the aggregate {call.name}")


def _aggregate_cells(operator: plan.GroupBy, units: _PerUnit) -> _Cells:
    keys = [_pick(item, units.layout) for item in operator.groups]
    if len(keys) != len(units.keys) or set(keys) != units.keys:
        raise _unproven("cells that are not grouped by exactly the keys of their contributions")
    values = tuple(_cell_value(item, units) for item in operator.aggregates)
    return _Cells(units.table, units.keys, (*(k for k in keys if isinstance(k, _Key)), *values))


def _cell_value(call: plan.Aggregate, units: _PerUnit) -> _Value | _Units:
    if call.name == _COUNT_ROWS and not call.children and call.type == BIGINT:
        if call.filter is None:
            return _Units(ComponentKind.UNITS, "")
        contribution = _non_zero(call.filter, units)
        return _Units(contribution.kind, contribution.column)
    if call.name == _SUM and len(call.children) == 1 and call.filter is None:
        contribution_or_key = _pick(call.children[0], units.layout)
        if isinstance(contribution_or_key, _Contribution):
            contribution = contribution_or_key
            if call.type == arithmetic.sum_of_contributions(contribution.type):
                return _Value(contribution.kind, contribution.column, call.type)
    raise _unproven(f"the aggregate {call.name} over contributions")


def _non_zero(condition: plan.Expression, units: _PerUnit) -> _Contribution:
    if (
        isinstance(condition, plan.Call)
        and (condition.kind, condition.name) == ("COMPARE_NOTEQUAL", "!=")
        and condition.type == BOOLEAN
        and len(condition.children) == 2
    ):
        left = _pick(condition.children[0], units.layout)
        if isinstance(left, _Contribution) and _is_zero(condition.children[1], left.type):
            return left
    raise _unproven("a count of units other than of those that contribute")


def _is_zero(item: plan.Expression, kind: ValueType) -> bool:
    if (
        isinstance(item, plan.Call)
        and (item.kind, item.name) == _CAST
        and item.type == kind
        and len(item.children) == 1
    ):
        item = item.children[0]
        return isinstance(item, plan.Constant) and item.value == 0 and _is_whole(item)
    return isinstance(item, plan.Constant) and item.value == 0 and item.type == kind


def _is_whole(item: plan.Constant) -> bool:
    return item.type.name in {"INTEGER", "BIGINT"} and not isinstance(item.value, bool)


def _cell_schema(cells: _Cells) -> CellSchema:
    count = len(cells.keys)
    keys = [item for item in cells.layout[:count] if isinstance(item, _Key)]
    if len(keys) != count or set(keys) != cells.keys:
        raise _unproven("cells whose keys do not come first, each once")
    rest = cells.layout[count:]
    if not rest or len(rest) % 2:
        raise _unproven("a value without the number of units behind it")
    components = tuple(
        _component(cells.table.table, value, units)
        for value, units in zip(rest[::2], rest[1::2], strict=True)
    )
    return CellSchema((cells.table.table,), tuple(key.type for key in keys), components)


def _component(table: str, value: _Item, units: _Item) -> Component:
    if value == units == _Units(ComponentKind.UNITS, ""):
        return Component(ComponentKind.UNITS, table, "", BIGINT)
    if isinstance(value, _Value) and isinstance(units, _Units):
        everyone = _Units(ComponentKind.UNITS, "")
        # Each row of a unit counts: whoever has a contribution row has one to ROWS.
        due = everyone if value.kind is ComponentKind.ROWS else _Units(value.kind, value.column)
        if units == due:
            return Component(value.kind, table, value.column, value.type)
    raise _unproven("a value without the number of units behind it")
