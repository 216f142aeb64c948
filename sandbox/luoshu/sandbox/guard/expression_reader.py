"""Expressions of DuckDB's plan JSON; see `guard.plan_reader`."""

from __future__ import annotations

from fractions import Fraction

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.plan_fields import (
    MAX_DEPTH,
    NO_TYPE,
    PlanError,
    fields_of,
    is_count,
    is_same,
    path_of,
    several,
    shown_name,
    text_of,
    type_of,
    types_of,
)
from luoshu.sandbox.schema import BOOLEAN

_ORDER_TYPES = {"ASCENDING": "ASC", "DESCENDING": "DESC"}
_DECIMAL_ARITHMETIC = frozenset({"system.main.+", "system.main.-", "system.main.*"})


def expressions_of(value: object) -> tuple[Expression, ...]:
    """A list of expressions.

    Raises:
        PlanError: Anything unknown in it.
    """
    return tuple(expression_of(item, 0) for item in several(value, "expressions"))


def _optional(value: object) -> Expression | None:
    return None if value is None else expression_of(value, 0)


def expression_of(node: object, depth: int) -> Expression:
    """One expression, `depth` levels below the operator's own.

    Raises:
        PlanError: Anything unknown in it.
    """
    if depth > MAX_DEPTH:
        raise PlanError("an expression that is nested too deeply")
    name = node.get("expression_class") if isinstance(node, dict) else None
    if name == "BOUND_REF":
        index, kind = fields_of(
            node, "reference", "index", "return_type",
            fixed={"expression_class": name, "type": "BOUND_REF"},
        )  # fmt: skip
        if not is_count(index):
            raise PlanError("a reference of unknown form")
        return plan.Reference(int(index), type_of(kind))
    if name == "BOUND_CONSTANT":
        (value,) = fields_of(
            node, "constant", "value",
            fixed={"expression_class": name, "type": "VALUE_CONSTANT"},
        )  # fmt: skip
        return _constant(value)
    if name == "BOUND_FUNCTION":
        return _function(node, depth)
    if name == "BOUND_OPERATOR":
        kind, children, returned = fields_of(
            node, "operator", "type", "children", "return_type",
            fixed={"expression_class": name},
        )  # fmt: skip
        inner = tuple(expression_of(child, depth + 1) for child in several(children, "operator"))
        return plan.Call(text_of(kind), text_of(kind), inner, type_of(returned))
    if name == "BOUND_CONJUNCTION":
        kind, children = fields_of(
            node, "conjunction", "type", "children", fixed={"expression_class": name}
        )
        inner = tuple(expression_of(child, depth + 1) for child in several(children, "conjunction"))
        return plan.Call(text_of(kind), text_of(kind), inner, BOOLEAN)
    if name == "BOUND_CASE":
        return _case(node, depth)
    raise PlanError(f"the expression {shown_name(name)}")


def _function(node: object, depth: int) -> Expression:
    kind, children, returned, arguments, qname, serialized, data, is_operator = fields_of(
        node, "function", "type", "children", "return_type", "arguments", "qname",
        "has_serialize", "function_data", "is_operator",
        fixed={"expression_class": "BOUND_FUNCTION"},
        defaults={"function_data": None, "is_operator": False},
    )  # fmt: skip
    inner = tuple(expression_of(child, depth + 1) for child in several(children, "function"))
    types_of(arguments)
    if not isinstance(serialized, bool) or not isinstance(is_operator, bool):
        raise PlanError("a function of unknown form")
    name = path_of(qname)
    is_try = may_overflow = False
    if (kind, name, len(inner)) == ("COMPARE_BETWEEN", "__between", 3):
        return _between(inner, data)
    if name == "__cast" and kind == "OPERATOR_CAST":
        (is_try,) = fields_of(data, "cast", "try_cast", fixed={"is_default_cast": False})
    elif name in _DECIMAL_ARITHMETIC and data is not None:
        may_overflow, *_ = fields_of(data, "function", "check_overflow", "return_type", "arguments")
    elif serialized is not False or data is not None:  # nothing else carries data
        raise PlanError(f"the function {shown_name(name)}")
    if not isinstance(is_try, bool) or not isinstance(may_overflow, bool):
        raise PlanError("a function of unknown form")
    return plan.Call(name, text_of(kind), inner, type_of(returned), is_try, may_overflow)


def _between(parts: tuple[Expression, ...], data: object) -> Expression:
    """As the comparisons that it stands for: the value depends on the row alone."""
    fields_of(data, "BETWEEN", fixed={"lower_inclusive": True, "upper_inclusive": True})
    value, low, high = parts
    at_least = plan.Call(">=", "COMPARE_GREATERTHANOREQUALTO", (value, low), BOOLEAN)
    at_most = plan.Call("<=", "COMPARE_LESSTHANOREQUALTO", (value, high), BOOLEAN)
    return plan.Call("CONJUNCTION_AND", "CONJUNCTION_AND", (at_least, at_most), BOOLEAN)


def _case(node: object, depth: int) -> Expression:
    checks, otherwise, returned = fields_of(
        node, "CASE", "case_checks", "else_expr", "return_type",
        fixed={"expression_class": "BOUND_CASE", "type": "CASE_EXPR"},
    )  # fmt: skip
    pairs = []
    for check in several(checks, "CASE"):
        when, then = fields_of(check, "CASE", "when_expr", "then_expr")
        pairs.append((expression_of(when, depth + 1), expression_of(then, depth + 1)))
    return plan.Case(tuple(pairs), expression_of(otherwise, depth + 1), type_of(returned))


def aggregate_of(node: object) -> plan.Aggregate:
    """An aggregate function of a LOGICAL_AGGREGATE_AND_GROUP_BY.

    Raises:
        PlanError: Anything unknown in it.
    """
    try:
        return _plain_aggregate(node)
    except PlanError as error:
        # Those with data of their own, an order, or a result of another kind return values.
        path = node.get("qname") if isinstance(node, dict) else None
        if isinstance(path, dict):
            raise PlanError(f"the aggregate {shown_name(path_of(path))}") from None
        raise error from None


def _plain_aggregate(node: object) -> plan.Aggregate:
    children, arguments, qname, returned, kind, where, serialized, data = fields_of(
        node, "aggregate", "children", "arguments", "qname", "return_type", "aggregate_type",
        "filter", "has_serialize", "function_data",
        fixed={
            "expression_class": "BOUND_AGGREGATE",
            "type": "BOUND_AGGREGATE",
            "order_bys": None,
            "state_export": "NONE",
        },
        defaults={"function_data": None},
    )  # fmt: skip
    types_of(arguments)
    if kind not in {"DISTINCT", "NON_DISTINCT"}:
        raise PlanError("an aggregate of unknown form")
    if path_of(qname) in _PERCENTILES and kind == "NON_DISTINCT":
        # The fraction stands beside the arguments once more, as one of them.
        values = expressions_of(children)[:1]
        where = _optional(where)
        fraction = _fraction(data)
        return plan.Aggregate(path_of(qname), values, where, False, type_of(returned), fraction)
    if serialized is not False or data is not None:
        raise PlanError("an aggregate with data of its own")
    return plan.Aggregate(
        path_of(qname),
        expressions_of(children),
        _optional(where),
        kind == "DISTINCT",
        type_of(returned),
    )


_PERCENTILES = frozenset(
    f"system.main.{name}" for name in ("median", "quantile_cont", "quantile_disc")
)


def _fraction(data: object) -> Fraction:
    """Which percentile, of ascending values."""
    (values,) = fields_of(data, "percentile", "quantiles", fixed={"order": [0], "desc": False})
    constant = _constant(several(values, "percentile", 1)[0])
    value = constant.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PlanError("a percentile of unknown form")
    return Fraction(str(value)) / int(10**constant.type.scale)


def window_of(node: object) -> plan.Window:
    """A window function of a LOGICAL_WINDOW.

    Raises:
        PlanError: Anything unknown in it.
    """
    found = fields_of(
        node, "window function", "type", "children", "partitions", "orders", "return_type",
        "start", "end", "start_expr", "end_expr", "offset_expr", "default_expr", "filters",
        "distinct", "ignore_nulls", "qname",
        fixed={
            "expression_class": "BOUND_WINDOW",
            "exclude_clause": "NO_OTHER",
            "arg_orders": [],
            "sql_range_order_type": NO_TYPE,
            "sql_range_start": None,
            "sql_range_end": None,
            "sql_range_start_boundary": None,
            "sql_range_end_boundary": None,
            "sql_range_order_casts": [],
        },
        defaults={"qname": None},
        optional={"arguments": None, "has_serialize": False},
    )  # fmt: skip
    kind, children, partitions, orders, returned, start, end, *rest = found
    start_offset, end_offset, offset, default, where, is_distinct, ignores_nulls, qname = rest
    if not isinstance(is_distinct, bool) or not isinstance(ignores_nulls, bool):
        raise PlanError("a window function of unknown form")
    return plan.Window(
        path_of(qname) if qname is not None else "",
        text_of(kind),
        expressions_of(children),
        expressions_of(partitions),
        sort_keys_of(orders),
        text_of(start),
        text_of(end),
        _frame_offset(start_offset),
        _frame_offset(end_offset),
        _optional(offset),
        _optional(default),
        _optional(where),
        is_distinct,
        ignores_nulls,
        type_of(returned),
    )


def _constant(node: object) -> plan.Constant:
    kind, is_null, value = fields_of(
        node, "constant", "type", "is_null", "value", defaults={"value": None}
    )
    if is_null is True and value is None:
        return plan.Constant(None, type_of(kind))
    if is_null is not False:
        raise PlanError("a constant of unknown form")
    if isinstance(value, dict) and value.keys() == {"upper", "lower"}:
        upper, lower = value["upper"], value["lower"]
        if not isinstance(upper, int) or not is_count(lower):
            raise PlanError("a constant of unknown form")
        return plan.Constant((upper << 64) + int(lower), type_of(kind))
    if isinstance(value, dict):
        parts = fields_of(value, "interval", "months", "days", "micros")
        if any(not isinstance(part, int) or isinstance(part, bool) for part in parts):
            raise PlanError("an interval of unknown form")
        return plan.Constant(plan.Interval(*parts), type_of(kind))
    if not isinstance(value, bool | int | float | str):
        raise PlanError("a constant of unknown form")
    return plan.Constant(value, type_of(kind))


def _frame_offset(node: object) -> Expression | None:
    """The offset of a frame; DuckDB casts it to BIGINT in a way of its own."""
    if isinstance(node, dict) and is_same(node.get("function_data"), _FRAME_CAST):
        node = {**node, "function_data": {**_FRAME_CAST, "is_default_cast": False}}
    return _optional(node)


_FRAME_CAST = {"try_cast": False, "is_default_cast": True}


def sort_keys_of(value: object) -> tuple[plan.SortKey, ...]:
    """The keys of an ORDER BY.

    Raises:
        PlanError: Anything unknown in it.
    """
    keys = []
    for item in several(value, "ORDER BY"):
        direction, nulls, expression = fields_of(item, "order", "type", "null_order", "expression")
        if direction not in _ORDER_TYPES or nulls not in {"NULLS LAST", "NULLS FIRST"}:
            raise PlanError("an order of unknown form")
        keys.append(plan.SortKey(expression_of(expression, 0), _ORDER_TYPES[direction], str(nulls)))
    return tuple(keys)
