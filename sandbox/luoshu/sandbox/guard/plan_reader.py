"""The strict reader under rewriter and verifier: DuckDB's plan JSON to `guard.plan`.

Reads `json_serialize_plan(…, optimize := false)` of DuckDB 2.0.0. Default-deny: an
operator, an expression class, a type, a field or a field's value that isn't listed
here raises `PlanError`. So a plan that reads has no sampling, time travel,
pushed-down filter, ordinality, ordered or exported aggregate, lateral column, or
anything that a later DuckDB may add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.schema import BOOLEAN, ValueType

_NONE = 2**64 - 1  # how DuckDB writes "no index"
_MAX_DEPTH = 100
_IGNORED = frozenset({"alias", "query_location", "query_location_length"})
_SIMPLE_TYPES = frozenset(
    [
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "FLOAT",
        "DOUBLE",
        "VARCHAR",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "INTERVAL",
        "NULL",
        "ANY",
    ]
)
_JOINS = frozenset({"INNER", "LEFT", "SEMI", "ANTI", "MARK", "SINGLE"})
_ORDER_TYPES = {"ASCENDING": "ASC", "DESCENDING": "DESC"}
_DECIMAL_ARITHMETIC = frozenset({"system.main.+", "system.main.-", "system.main.*"})
_NO_TYPE = {"id": "INVALID", "type_info": None}


class PlanError(Exception):
    """Something in the plan that the reader doesn't know; names it."""


def read_plan(document: object) -> Operator:
    """Reads the one plan of a document.

    Raises:
        PlanError: Anything unknown in it.
    """
    error, plans = _fields(document, "document", "error", "plans")
    if error is not False:
        raise PlanError("the statement did not bind")
    (root,) = _several(plans, "plans", 1)
    return _operator(root, 0)


def _operator(node: object, depth: int) -> Operator:
    if depth > _MAX_DEPTH:
        raise PlanError("a plan that is nested too deeply")
    kind = node.get("type") if isinstance(node, dict) else None
    read = _OPERATORS.get(str(kind))
    if read is None:
        raise PlanError(f"the operator {_name(kind)}")
    return read(node, depth + 1)


def _child(children: object, what: str, depth: int) -> Operator:
    (child,) = _several(children, what, 1)
    return _operator(child, depth)


def _filter(node: object, depth: int) -> Operator:
    children, conditions = _fields(
        node, "LOGICAL_FILTER", "children", "expressions",
        fixed={"type": "LOGICAL_FILTER", "projection_map": []},
    )  # fmt: skip
    return plan.Filter(_child(children, "filter", depth), _expressions(conditions))


def _projection(node: object, depth: int) -> Operator:
    children, expressions, _ = _fields(
        node, "LOGICAL_PROJECTION", "children", "expressions", "table_index",
        fixed={"type": "LOGICAL_PROJECTION"},
    )  # fmt: skip
    items = _several(expressions, "projection")
    names = tuple(str(item.get("alias") or "") for item in items if isinstance(item, dict))
    return plan.Projection(_child(children, "projection", depth), _expressions(expressions), names)


def _group_by(node: object, depth: int) -> Operator:
    kind = "LOGICAL_AGGREGATE_AND_GROUP_BY"
    children, aggregates, groups, sets, functions, *_ = _fields(
        node, kind, "children", "expressions", "groups", "grouping_sets", "grouping_functions",
        "group_index", "aggregate_index", "groupings_index",
        fixed={"type": kind, "distinct_validity": "CAN_HAVE_NULL_VALUES"},
    )  # fmt: skip
    keys = _expressions(groups)
    chosen = tuple(
        tuple(_indexes(item, len(keys), "grouping set")) for item in _several(sets, "grouping sets")
    )
    return plan.GroupBy(
        _child(children, "aggregate", depth),
        keys,
        tuple(_aggregate(item) for item in _several(aggregates, kind)),
        chosen or (tuple(range(len(keys))),),
        tuple(
            tuple(_indexes(item, len(keys), "grouping"))
            for item in _several(functions, "grouping functions")
        ),
    )


def _indexes(value: object, count: int, what: str) -> list[int]:
    items = _several(value, what)
    if any(not _is_count(item) or item >= count for item in items):
        raise PlanError(f"a {what} of unknown form")
    return items


def _join(node: object, depth: int) -> Operator:
    kind, children, left_map, right_map, conditions, _, marks = _fields(
        node, "join", "join_type", "children", "left_projection_map", "right_projection_map",
        "conditions", "mark_index", "mark_types",
        fixed={
            "type": "LOGICAL_COMPARISON_JOIN",
            "duplicate_eliminated_columns": [],
            "delim_flipped": False,
        },
        optional={"expressions": [], "predicate": None},
    )  # fmt: skip
    if kind not in _JOINS:
        raise PlanError(f"the join {_name(kind)}")
    _types(marks)
    left, right = _several(children, "join", 2)
    pairs = []
    for condition in _several(conditions, "join"):
        one, other, comparison = _fields(condition, "join condition", "left", "right", "comparison")
        pairs.append((_expression(one, 0), _text(comparison), _expression(other, 0)))
    return plan.Join(
        str(kind),
        _operator(left, depth),
        _operator(right, depth),
        tuple(pairs),
        _map(left_map),
        _map(right_map),
    )


def _map(value: object) -> tuple[int, ...] | None:
    indexes = _several(value, "projection map")
    if any(not _is_count(index) for index in indexes):
        raise PlanError("a projection map of unknown form")
    return tuple(indexes) or None


def _any_join(node: object, depth: int) -> Operator:
    kind, children, condition, left_map, right_map, _ = _fields(
        node, "join", "join_type", "children", "condition", "left_projection_map",
        "right_projection_map", "mark_index",
        fixed={"type": "LOGICAL_ANY_JOIN"}, optional={"expressions": []},
    )  # fmt: skip
    if kind not in {"INNER", "LEFT"} or _map(left_map) or _map(right_map):
        raise PlanError(f"the join {_name(kind)}")
    left, right = _several(children, "join", 2)
    one, other = _operator(left, depth), _operator(right, depth)
    on = _expression(condition, 0)
    if kind == "INNER":
        return plan.Filter(plan.Join("INNER", one, other, (), None, None), (on,))
    if isinstance(on, plan.Constant) and on.value is True:
        return plan.Join("LEFT", one, other, (), None, None)
    raise PlanError("an outer join on a condition that is no comparison of both sides")


def _cross(node: object, depth: int) -> Operator:
    (children,) = _fields(
        node, "cross product", "children",
        fixed={"type": "LOGICAL_CROSS_PRODUCT"}, optional={"expressions": []},
    )  # fmt: skip
    left, right = _several(children, "cross product", 2)
    return plan.Join("INNER", _operator(left, depth), _operator(right, depth), (), None, None)


def _cte(node: object, depth: int) -> Operator:
    children, index, name, *_ = _fields(
        node, "CTE", "children", "table_index", "ctename", "column_count", "materialize",
        fixed={"type": "LOGICAL_MATERIALIZED_CTE"}, optional={"expressions": []},
    )  # fmt: skip
    if not _is_count(index):
        raise PlanError("a CTE of unknown form")
    definition, child = _several(children, "CTE", 2)
    return plan.Cte(int(index), _text(name), _operator(definition, depth), _operator(child, depth))


def _cte_ref(node: object, _depth: int) -> Operator:
    index, types, _, bound = _fields(
        node, "CTE reference", "cte_index", "chunk_types", "table_index", "bound_columns",
        fixed={"type": "LOGICAL_CTE_REF", "children": [], "is_recurring": False},
        optional={"expressions": []},
    )  # fmt: skip
    if not _is_count(index):
        raise PlanError("a CTE reference of unknown form")
    for name in _several(bound, "CTE"):
        _text(name)
    return plan.CteRef(int(index), tuple(_type(kind) for kind in _several(types, "CTE")))


def _order(node: object, depth: int) -> Operator:
    children, orders = _fields(
        node, "ORDER BY", "children", "orders",
        fixed={"type": "LOGICAL_ORDER_BY", "projections": []}, optional={"expressions": []},
    )  # fmt: skip
    return plan.Order(_child(children, "ORDER BY", depth), _sort_keys(orders))


def _sort_keys(value: object) -> tuple[plan.SortKey, ...]:
    keys = []
    for item in _several(value, "ORDER BY"):
        direction, nulls, expression = _fields(item, "order", "type", "null_order", "expression")
        if direction not in _ORDER_TYPES or nulls not in {"NULLS LAST", "NULLS FIRST"}:
            raise PlanError("an order of unknown form")
        keys.append(plan.SortKey(_expression(expression, 0), _ORDER_TYPES[direction], str(nulls)))
    return tuple(keys)


def _limit(node: object, depth: int) -> Operator:
    children, limit, offset, _ = _fields(
        node, "LIMIT", "children", "limit_val", "offset_val", "unpruned_offset",
        fixed={"type": "LOGICAL_LIMIT"}, optional={"expressions": []},
    )  # fmt: skip
    return plan.Limit(_child(children, "LIMIT", depth), _limit_value(limit), _limit_value(offset))


def _limit_value(node: object) -> int | None:
    kind, value, _, expression = _fields(
        node, "LIMIT", "type", "constant_integer", "constant_percentage", "expression"
    )
    if kind == "UNSET":
        return None
    if kind != "CONSTANT_VALUE" or expression is not None or not _is_count(value):
        raise PlanError("a LIMIT or OFFSET that is not a constant number")
    return int(value)


def _distinct(node: object, depth: int) -> Operator:
    children, targets = _fields(
        node, "DISTINCT", "children", "distinct_targets",
        fixed={"type": "LOGICAL_DISTINCT", "distinct_type": "DISTINCT"},
        optional={"order_by": None, "expressions": []},
    )  # fmt: skip
    wanted = [item.index for item in _expressions(targets) if isinstance(item, plan.Reference)]
    if wanted != list(range(len(_several(targets, "DISTINCT")))):
        raise PlanError("DISTINCT ON")
    return plan.Distinct(_child(children, "DISTINCT", depth))


def _window_step(node: object, depth: int) -> Operator:
    children, windows, _ = _fields(
        node, "window", "children", "expressions", "window_index", fixed={"type": "LOGICAL_WINDOW"}
    )
    return plan.WindowStep(
        _child(children, "window", depth),
        tuple(_window(item) for item in _several(windows, "window")),
    )


def _set_operation(node: object, depth: int) -> Operator:
    kind = str(node.get("type")) if isinstance(node, dict) else ""
    children, is_all, *_ = _fields(
        node, kind, "children", "setop_all", "table_index", "column_count",
        fixed={"type": kind}, optional={"allow_out_of_order": None, "expressions": []},
    )  # fmt: skip
    if not isinstance(is_all, bool):
        raise PlanError("a set operation of unknown form")
    arms = tuple(_operator(child, depth) for child in _several(children, kind))
    return plan.SetOperation(kind.removeprefix("LOGICAL_"), is_all, arms)


def _dummy(node: object, _depth: int) -> Operator:
    _fields(
        node, "SELECT without FROM", "table_index",
        fixed={"type": "LOGICAL_DUMMY_SCAN", "children": []}, optional={"expressions": []},
    )  # fmt: skip
    return plan.DummyScan()


def _empty(node: object, _depth: int) -> Operator:
    types, _ = _fields(
        node, "empty result", "return_types", "bindings",
        fixed={"type": "LOGICAL_EMPTY_RESULT", "children": []}, optional={"expressions": []},
    )  # fmt: skip
    return plan.Empty(tuple(_type(kind) for kind in _several(types, "empty result")))


def _values(node: object, depth: int) -> Operator:
    children, types, rows, _ = _fields(
        node, "VALUES", "children", "expr_types", "expressions", "table_index",
        fixed={"type": "LOGICAL_EXPRESSION_GET"},
    )  # fmt: skip
    if not isinstance(_child(children, "VALUES", depth), plan.DummyScan):
        raise PlanError("VALUES over rows")
    return plan.Values(
        tuple(_type(kind) for kind in _several(types, "VALUES")),
        tuple(_expressions(row) for row in _several(rows, "VALUES")),
    )


def _get(node: object, _depth: int) -> Operator:
    if isinstance(node, dict) and not _same(node.get("qname"), {"path": ["seq_scan"]}):
        raise PlanError("a table function")
    types, names, data, indexes, _ = _fields(
        node,
        "LOGICAL_GET",
        "returned_types",
        "names",
        "function_data",
        "column_indexes",
        "table_index",
        fixed={
            "type": "LOGICAL_GET",
            "children": [],
            "projection_ids": [],
            "table_filters": {"filters": [], "multi_column_filters": []},
            "arguments": [],
            "qname": {"path": ["seq_scan"]},
            "has_serialize": True,
            "parameters": [],
            "named_parameters": [],
            "input_table_types": [],
            "input_table_names": [],
            "projected_input": [],
            "extra_info": {
                "file_filters": "",
                "total_files": _NONE,
                "filtered_files": _NONE,
                "sample_options": None,
                "file_filter_expressions": None,
            },
            "ordinality_idx": _NONE,
            "row_group_order_options": None,
            "scan_partition_indices": [],
            "source_ordinality": "WITHOUT_ORDINALITY",
            "table_filters_by_projection": True,
            "has_pushed_projection": False,
            "at_clause": None,
        },
    )
    catalog, schema, table, qualified = _fields(
        data,
        "scan",
        "catalog",
        "schema",
        "table",
        "qualified_name",
        fixed={"is_index_scan": False, "is_create_index": False, "result_ids": []},
    )
    path = [_text(part) for part in (catalog, schema, table)]
    if not _same(qualified, {"path": path}):
        raise PlanError("a scan of two names")
    kinds = _several(types, "returned_types")
    columns = [
        (_text(name), _type(kind))
        for name, kind in zip(_several(names, "names", len(kinds)), kinds, strict=True)
    ]
    output = tuple(_column_index(index, len(columns)) for index in _several(indexes, "scan"))
    return plan.Get(tuple(path), tuple(columns), output)


ROW_ID = -1
"""In `Get.output`: a placeholder of a scan that needs no column; it is never referred to."""


def _column_index(node: object, count: int) -> int:
    (index,) = _fields(
        node,
        "column index",
        "index",
        fixed={
            "child_indexes": [],
            "index_type": "FULL_READ",
            "type": _NO_TYPE,
            "field": "",
            "has_index": True,
        },
    )
    if index == _NONE:
        return ROW_ID
    if not _is_count(index) or index >= count:
        raise PlanError("a virtual column such as a row id")
    return int(index)


_OPERATORS: Mapping[str, Callable[[object, int], Operator]] = {
    "LOGICAL_GET": _get,
    "LOGICAL_FILTER": _filter,
    "LOGICAL_PROJECTION": _projection,
    "LOGICAL_AGGREGATE_AND_GROUP_BY": _group_by,
    "LOGICAL_COMPARISON_JOIN": _join,
    "LOGICAL_ANY_JOIN": _any_join,
    "LOGICAL_CROSS_PRODUCT": _cross,
    "LOGICAL_MATERIALIZED_CTE": _cte,
    "LOGICAL_CTE_REF": _cte_ref,
    "LOGICAL_ORDER_BY": _order,
    "LOGICAL_LIMIT": _limit,
    "LOGICAL_DISTINCT": _distinct,
    "LOGICAL_WINDOW": _window_step,
    "LOGICAL_UNION": _set_operation,
    "LOGICAL_INTERSECT": _set_operation,
    "LOGICAL_EXCEPT": _set_operation,
    "LOGICAL_DUMMY_SCAN": _dummy,
    "LOGICAL_EMPTY_RESULT": _empty,
    "LOGICAL_EXPRESSION_GET": _values,
}


def _expressions(value: object) -> tuple[Expression, ...]:
    return tuple(_expression(item, 0) for item in _several(value, "expressions"))


def _optional(value: object) -> Expression | None:
    return None if value is None else _expression(value, 0)


def _expression(node: object, depth: int) -> Expression:
    if depth > _MAX_DEPTH:
        raise PlanError("an expression that is nested too deeply")
    name = node.get("expression_class") if isinstance(node, dict) else None
    if name == "BOUND_REF":
        index, kind = _fields(
            node, "reference", "index", "return_type",
            fixed={"expression_class": name, "type": "BOUND_REF"},
        )  # fmt: skip
        if not _is_count(index):
            raise PlanError("a reference of unknown form")
        return plan.Reference(int(index), _type(kind))
    if name == "BOUND_CONSTANT":
        (value,) = _fields(
            node, "constant", "value",
            fixed={"expression_class": name, "type": "VALUE_CONSTANT"},
        )  # fmt: skip
        return _constant(value)
    if name == "BOUND_FUNCTION":
        return _function(node, depth)
    if name == "BOUND_OPERATOR":
        kind, children, returned = _fields(
            node, "operator", "type", "children", "return_type",
            fixed={"expression_class": name},
        )  # fmt: skip
        inner = tuple(_expression(child, depth + 1) for child in _several(children, "operator"))
        return plan.Call(_text(kind), _text(kind), inner, _type(returned))
    if name == "BOUND_CONJUNCTION":
        kind, children = _fields(
            node, "conjunction", "type", "children", fixed={"expression_class": name}
        )
        inner = tuple(_expression(child, depth + 1) for child in _several(children, "conjunction"))
        return plan.Call(_text(kind), _text(kind), inner, BOOLEAN)
    if name == "BOUND_CASE":
        return _case(node, depth)
    raise PlanError(f"the expression {_name(name)}")


def _function(node: object, depth: int) -> Expression:
    kind, children, returned, arguments, qname, serialized, data, is_operator = _fields(
        node, "function", "type", "children", "return_type", "arguments", "qname",
        "has_serialize", "function_data", "is_operator",
        fixed={"expression_class": "BOUND_FUNCTION"},
        defaults={"function_data": None, "is_operator": False},
    )  # fmt: skip
    inner = tuple(_expression(child, depth + 1) for child in _several(children, "function"))
    _types(arguments)
    if not isinstance(serialized, bool) or not isinstance(is_operator, bool):
        raise PlanError("a function of unknown form")
    name = _path(qname)
    is_try = may_overflow = False
    if name == "__cast" and kind == "OPERATOR_CAST":
        (is_try,) = _fields(data, "cast", "try_cast", fixed={"is_default_cast": False})
    elif name in _DECIMAL_ARITHMETIC and data is not None:
        may_overflow, *_ = _fields(data, "function", "check_overflow", "return_type", "arguments")
    elif serialized is not False or data is not None:  # nothing else carries data
        raise PlanError(f"the function {_name(name)}")
    if not isinstance(is_try, bool) or not isinstance(may_overflow, bool):
        raise PlanError("a function of unknown form")
    return plan.Call(name, _text(kind), inner, _type(returned), is_try, may_overflow)


def _case(node: object, depth: int) -> Expression:
    checks, otherwise, returned = _fields(
        node, "CASE", "case_checks", "else_expr", "return_type",
        fixed={"expression_class": "BOUND_CASE", "type": "CASE_EXPR"},
    )  # fmt: skip
    pairs = []
    for check in _several(checks, "CASE"):
        when, then = _fields(check, "CASE", "when_expr", "then_expr")
        pairs.append((_expression(when, depth + 1), _expression(then, depth + 1)))
    return plan.Case(tuple(pairs), _expression(otherwise, depth + 1), _type(returned))


def _aggregate(node: object) -> plan.Aggregate:
    try:
        return _plain_aggregate(node)
    except PlanError as error:
        # Those with data of their own, an order, or a result of another kind return values.
        path = node.get("qname") if isinstance(node, dict) else None
        if isinstance(path, dict):
            raise PlanError(f"the aggregate {_name(_path(path))}") from None
        raise error from None


def _plain_aggregate(node: object) -> plan.Aggregate:
    children, arguments, qname, returned, kind, where = _fields(
        node, "aggregate", "children", "arguments", "qname", "return_type", "aggregate_type",
        "filter",
        fixed={
            "expression_class": "BOUND_AGGREGATE",
            "type": "BOUND_AGGREGATE",
            "has_serialize": False,
            "order_bys": None,
            "state_export": "NONE",
        },
    )  # fmt: skip
    _types(arguments)
    if kind not in {"DISTINCT", "NON_DISTINCT"}:
        raise PlanError("an aggregate of unknown form")
    return plan.Aggregate(
        _path(qname), _expressions(children), _optional(where), kind == "DISTINCT", _type(returned)
    )


def _window(node: object) -> plan.Window:
    found = _fields(
        node, "window function", "type", "children", "partitions", "orders", "return_type",
        "start", "end", "start_expr", "end_expr", "offset_expr", "default_expr", "filters",
        "distinct", "ignore_nulls", "qname",
        fixed={
            "expression_class": "BOUND_WINDOW",
            "exclude_clause": "NO_OTHER",
            "arg_orders": [],
            "sql_range_order_type": _NO_TYPE,
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
        _path(qname) if qname is not None else "",
        _text(kind),
        _expressions(children),
        _expressions(partitions),
        _sort_keys(orders),
        _text(start),
        _text(end),
        _optional(start_offset),
        _optional(end_offset),
        _optional(offset),
        _optional(default),
        _optional(where),
        is_distinct,
        ignores_nulls,
        _type(returned),
    )


def _constant(node: object) -> plan.Constant:
    kind, is_null, value = _fields(
        node, "constant", "type", "is_null", "value", defaults={"value": None}
    )
    if is_null is True and value is None:
        return plan.Constant(None, _type(kind))
    if is_null is not False:
        raise PlanError("a constant of unknown form")
    if isinstance(value, dict) and value.keys() == {"upper", "lower"}:
        upper, lower = value["upper"], value["lower"]
        if not isinstance(upper, int) or not _is_count(lower):
            raise PlanError("a constant of unknown form")
        return plan.Constant((upper << 64) + int(lower), _type(kind))
    if isinstance(value, dict):
        parts = _fields(value, "interval", "months", "days", "micros")
        if any(not isinstance(part, int) or isinstance(part, bool) for part in parts):
            raise PlanError("an interval of unknown form")
        return plan.Constant(plan.Interval(*parts), _type(kind))
    if not isinstance(value, bool | int | float | str):
        raise PlanError("a constant of unknown form")
    return plan.Constant(value, _type(kind))


def _type(node: object) -> ValueType:
    name, info = _fields(node, "type", "id", "type_info")
    name = _text(name)
    if name in _SIMPLE_TYPES and info is None:
        return ValueType(name)
    if name == "DECIMAL" and info is not None:
        width, scale = _fields(
            info,
            "type",
            "width",
            "scale",
            fixed={"type": "DECIMAL_TYPE_INFO", "alias": "", "extension_info": None},
        )
        if _is_count(width) and _is_count(scale):
            return ValueType("DECIMAL", int(width), int(scale))
    raise PlanError(f"the type {_name(name)}")


def _types(value: object) -> tuple[ValueType, ...]:
    return tuple(_type(kind) for kind in _several(value, "types"))


def _fields(
    node: object,
    what: str,
    *wanted: str,
    fixed: Mapping[str, object] | None = None,
    defaults: Mapping[str, object] | None = None,
    optional: Mapping[str, object] | None = None,
) -> Sequence[Any]:
    """Returns the wanted fields of an object that has these, the fixed ones, and no others.

    Args:
        node: Of the plan.
        what: How to call it.
        wanted: Names of fields to return.
        fixed: Fields that must be there with these values.
        defaults: Values of wanted fields that may be missing.
        optional: Fields that may be missing, and have these values otherwise; None: any.
    """
    fixed, defaults, optional = fixed or {}, defaults or {}, optional or {}
    if not isinstance(node, dict):
        raise PlanError(f"{_name(what)} that is no object")
    if other := set(node) - set(wanted) - set(fixed) - set(optional) - _IGNORED:
        raise PlanError(f"the field {_name(min(map(str, other)))} of {_name(what)}")
    for name, value in fixed.items():
        if name not in node or not _same(node[name], value):
            raise PlanError(f"the field {name} of {_name(what)}")
    for name, value in optional.items():
        if value is not None and name in node and not _same(node[name], value):
            raise PlanError(f"the field {name} of {_name(what)}")
    if missing := [name for name in wanted if name not in node and name not in defaults]:
        raise PlanError(f"{_name(what)} without {missing[0]}")
    return [node.get(name, defaults.get(name)) for name in wanted]


def _same(one: object, other: object) -> bool:
    # JSON tells 1 from true; Python's == does not.
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _several(value: object, what: str, count: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        raise PlanError(f"{_name(what)} of unexpected number")
    return value


def _path(node: object) -> str:
    (path,) = _fields(node, "qname", "path")
    return ".".join(_text(part) for part in _several(path, "qname"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise PlanError("a name that is no text")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _name(value: object) -> str:
    return "".join(char for char in str(value)[:60] if char.isprintable())
