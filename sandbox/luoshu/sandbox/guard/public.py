"""Public rows: computed from public tables and known functions alone.

By themselves they may be computed freely. Beside protected rows nothing in them may raise: DuckDB
computes a public row only if a protected one could meet it, so an error would tell of that one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.facts import PublicValue, UnprovenError, check_total
from luoshu.sandbox.guard.functions import (
    COMPARISONS,
    OPERATORS,
    PUBLIC,
    PUBLIC_AGGREGATES,
    PUBLIC_WINDOWS,
)
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.schema import BIGINT, TableSchema, ValueType


def is_public(
    operator: Operator, tables: Sequence[TableSchema], ctes: Collection[int] = ()
) -> bool:
    """Whether an operator reads public tables and constants alone.

    Args:
        operator: With everything below.
        tables: The prepared tables.
        ctes: CTEs around it that are known to be public.
    """
    own = {each.index for each in _below(operator) if isinstance(each, plan.Cte)}
    for each in _below(operator):
        if isinstance(each, plan.Get) and not _is_public_table(each, tables):
            return False
        if isinstance(each, plan.CteRef) and each.index not in own and each.index not in ctes:
            return False
    return True


def _is_public_table(scan: plan.Get, tables: Sequence[TableSchema]) -> bool:
    return any(
        table.unit is None
        and scan.path == (table.catalog, "main", table.table)
        and scan.columns == tuple((column.name, column.type) for column in table.columns)
        for table in tables
    )


def check_beside(operator: Operator) -> tuple[ValueType, ...]:
    """Requires that a public operator can't raise, whichever of its rows are computed.

    Returns:
        The types of its columns.

    Raises:
        UnprovenError: It may.
    """
    for each in _below(operator):
        for expression in _expressions(each):
            check_total(plan.rebuild(expression, _as_value))
        if isinstance(each, plan.GroupBy):
            for call in each.aggregates:
                _check_aggregate(call.name, call.children)
        if isinstance(each, plan.Join) and each.kind == "SINGLE":
            raise UnprovenError("a scalar subquery of several rows")
        if isinstance(each, plan.WindowStep):
            for window in each.windows:
                if window.kind not in _TOTAL_WINDOWS or window.start_offset or window.end_offset:
                    raise UnprovenError(f"the window function {window.kind} beside protected rows")
                if window.name:
                    _check_aggregate(window.name, window.children)
    return plan.output_types(operator) or (BIGINT,)


_TOTAL_AGGREGATES = frozenset(
    f"system.main.{name}" for name in ("count", "count_star", "min", "max", "any_value", "first")
)
_TOTAL_WINDOWS = frozenset(
    {"WINDOW_AGGREGATE", "WINDOW_ROW_NUMBER", "WINDOW_RANK", "WINDOW_RANK_DENSE"}
)
_SUMMABLE = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT"})
_SUM_WIDTH = 25  # 2^40 rows of 25 digits fit 38


def _check_aggregate(name: str, arguments: Sequence[Expression]) -> None:
    if name in _TOTAL_AGGREGATES:
        return
    kinds = [argument.type for argument in arguments]
    is_sum = name in {"system.main.sum", "system.main.avg"} and len(kinds) == 1
    if is_sum and (
        kinds[0].name in _SUMMABLE or (kinds[0].name == "DECIMAL" and kinds[0].width <= _SUM_WIDTH)
    ):
        return
    raise UnprovenError(f"the aggregate {name} beside protected rows")


def _as_value(found: plan.Reference | plan.Leaf) -> Expression:
    return PublicValue(found.type, 0, getattr(found, "index", 0), "", 2**127)


def check_public(operator: Operator) -> tuple[ValueType, ...]:
    """Requires that a public operator computes with known functions; returns its types.

    Raises:
        UnprovenError: It doesn't.
    """
    for each in _below(operator):
        for expression in _expressions(each):
            _check(expression)
        if isinstance(each, plan.GroupBy):
            for call in each.aggregates:
                if call.name not in PUBLIC_AGGREGATES:
                    raise UnprovenError(f"the aggregate {call.name}")
        if isinstance(each, plan.WindowStep):
            for window in each.windows:
                if window.kind not in PUBLIC_WINDOWS:
                    raise UnprovenError(f"the window function {window.kind}")
                if window.name and window.name not in PUBLIC_AGGREGATES:
                    raise UnprovenError(f"the aggregate {window.name}")
    return plan.output_types(operator) or (BIGINT,)


def _check(expression: Expression) -> None:
    if isinstance(expression, plan.Call):
        form = (expression.kind, expression.name)
        is_known = (
            form in COMPARISONS
            or form == ("OPERATOR_CAST", "__cast")
            or (expression.kind in OPERATORS and expression.name == expression.kind)
            or (expression.kind == "BOUND_FUNCTION" and expression.name in PUBLIC)
        )
        if not is_known:
            raise UnprovenError(f"the function {expression.name.removeprefix('system.main.')}")
    for child in plan.children_of(expression):
        _check(child)


def _below(operator: Operator) -> Iterator[Operator]:
    yield operator
    for child in plan.inputs_of(operator):
        yield from _below(child)


def _expressions(operator: Operator) -> Iterator[Expression]:
    match operator:
        case plan.Filter():
            yield from operator.conditions
        case plan.Projection():
            yield from operator.expressions
        case plan.GroupBy():
            yield from operator.groups
            for call in operator.aggregates:
                yield from call.children
                if call.filter is not None:
                    yield call.filter
        case plan.Join():
            for one, _, other in operator.conditions:
                yield from (one, other)
        case plan.Order():
            yield from (key.expression for key in operator.keys)
        case plan.Values():
            for row in operator.rows:
                yield from row
        case plan.WindowStep():
            for window in operator.windows:
                yield from window.children
                yield from window.partitions
                yield from (key.expression for key in window.orders)
                others = (window.start_offset, window.end_offset, window.offset, window.default)
                yield from (each for each in (*others, window.filter) if each is not None)
        case _:
            return
