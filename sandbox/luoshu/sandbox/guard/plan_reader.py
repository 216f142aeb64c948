"""The strict reader under rewriter and verifier: DuckDB's plan JSON to `guard.plan`.

Reads `json_serialize_plan(…, optimize := false)` of DuckDB 2.0.0. Default-deny: an
operator, an expression class, a type, a field or a field's value that isn't listed
here raises `PlanError`. So a plan that reads has no sampling, time travel,
pushed-down filter, ordinality, ordered or exported aggregate, lateral column, or
anything that a later DuckDB may add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.expression_reader import (
    aggregate_of,
    expression_of,
    expressions_of,
    sort_keys_of,
    window_of,
)
from luoshu.sandbox.guard.plan import Operator
from luoshu.sandbox.guard.plan_fields import (
    MAX_DEPTH,
    NO_TYPE,
    PlanError,
    fields_of,
    is_count,
    is_same,
    several,
    shown_name,
    text_of,
    type_of,
    types_of,
)

_NONE = 2**64 - 1  # how DuckDB writes "no index"
_JOINS = frozenset({"INNER", "LEFT", "FULL", "SEMI", "ANTI", "MARK", "SINGLE"})


def read_plan(document: object) -> Operator:
    """Reads the one plan of a document.

    Raises:
        PlanError: Anything unknown in it.
    """
    error, plans = fields_of(document, "document", "error", "plans")
    if error is not False:
        raise PlanError("the statement did not bind")
    (root,) = several(plans, "plans", 1)
    return _operator(root, 0)


def _operator(node: object, depth: int) -> Operator:
    if depth > MAX_DEPTH:
        raise PlanError("a plan that is nested too deeply")
    kind = node.get("type") if isinstance(node, dict) else None
    read = _OPERATORS.get(str(kind))
    if read is None:
        raise PlanError(f"the operator {shown_name(kind)}")
    return read(node, depth + 1)


def _child(children: object, what: str, depth: int) -> Operator:
    (child,) = several(children, what, 1)
    return _operator(child, depth)


def _filter(node: object, depth: int) -> Operator:
    children, conditions, places = fields_of(
        node, "LOGICAL_FILTER", "children", "expressions", "projection_map",
        fixed={"type": "LOGICAL_FILTER"},
    )  # fmt: skip
    rows = plan.Filter(_child(children, "filter", depth), expressions_of(conditions))
    chosen = _map(places)
    if chosen is None:
        return rows
    types = plan.output_types(rows)
    if any(place >= len(types) for place in chosen):
        raise PlanError("a projection map of unknown form")
    return plan.Projection(rows, tuple(plan.Reference(n, types[n]) for n in chosen))


def _projection(node: object, depth: int) -> Operator:
    children, expressions, _ = fields_of(
        node, "LOGICAL_PROJECTION", "children", "expressions", "table_index",
        fixed={"type": "LOGICAL_PROJECTION"},
    )  # fmt: skip
    items = several(expressions, "projection")
    names = tuple(str(item.get("alias") or "") for item in items if isinstance(item, dict))
    return plan.Projection(
        _child(children, "projection", depth), expressions_of(expressions), names
    )


def _group_by(node: object, depth: int) -> Operator:
    kind = "LOGICAL_AGGREGATE_AND_GROUP_BY"
    children, aggregates, groups, sets, functions, *_ = fields_of(
        node, kind, "children", "expressions", "groups", "grouping_sets", "grouping_functions",
        "group_index", "aggregate_index", "groupings_index",
        fixed={"type": kind, "distinct_validity": "CAN_HAVE_NULL_VALUES"},
    )  # fmt: skip
    keys = expressions_of(groups)
    chosen = tuple(
        tuple(_indexes(item, len(keys), "grouping set")) for item in several(sets, "grouping sets")
    )
    return plan.GroupBy(
        _child(children, "aggregate", depth),
        keys,
        tuple(aggregate_of(item) for item in several(aggregates, kind)),
        chosen or (tuple(range(len(keys))),),
        tuple(
            tuple(_indexes(item, len(keys), "grouping"))
            for item in several(functions, "grouping functions")
        ),
    )


def _indexes(value: object, count: int, what: str) -> list[int]:
    items = several(value, what)
    if any(not is_count(item) or item >= count for item in items):
        raise PlanError(f"a {what} of unknown form")
    return items


def _join(node: object, depth: int) -> Operator:
    kind, children, left_map, right_map, conditions, _, marks = fields_of(
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
        raise PlanError(f"the join {shown_name(kind)}")
    types_of(marks)
    left, right = several(children, "join", 2)
    pairs = []
    for condition in several(conditions, "join"):
        one, other, comparison = fields_of(
            condition, "join condition", "left", "right", "comparison"
        )
        pairs.append((expression_of(one, 0), text_of(comparison), expression_of(other, 0)))
    return plan.Join(
        str(kind),
        _operator(left, depth),
        _operator(right, depth),
        tuple(pairs),
        _map(left_map),
        _map(right_map),
    )


def _map(value: object) -> tuple[int, ...] | None:
    indexes = several(value, "projection map")
    if any(not is_count(index) for index in indexes):
        raise PlanError("a projection map of unknown form")
    return tuple(indexes) or None


def _any_join(node: object, depth: int) -> Operator:
    kind, children, condition, left_map, right_map, _ = fields_of(
        node, "join", "join_type", "children", "condition", "left_projection_map",
        "right_projection_map", "mark_index",
        fixed={"type": "LOGICAL_ANY_JOIN"}, optional={"expressions": []},
    )  # fmt: skip
    if kind not in {"INNER", "LEFT"} or _map(left_map) or _map(right_map):
        raise PlanError(f"the join {shown_name(kind)}")
    left, right = several(children, "join", 2)
    one, other = _operator(left, depth), _operator(right, depth)
    on = expression_of(condition, 0)
    if kind == "INNER":
        return plan.Filter(plan.Join("INNER", one, other, (), None, None), (on,))
    if isinstance(on, plan.Constant) and on.value is True:
        return plan.Join("LEFT", one, other, (), None, None)
    raise PlanError("an outer join on a condition that is no comparison of both sides")


def _cross(node: object, depth: int) -> Operator:
    (children,) = fields_of(
        node, "cross product", "children",
        fixed={"type": "LOGICAL_CROSS_PRODUCT"}, optional={"expressions": []},
    )  # fmt: skip
    left, right = several(children, "cross product", 2)
    return plan.Join("INNER", _operator(left, depth), _operator(right, depth), (), None, None)


def _cte(node: object, depth: int) -> Operator:
    children, index, name, *_ = fields_of(
        node, "CTE", "children", "table_index", "ctename", "column_count", "materialize",
        fixed={"type": "LOGICAL_MATERIALIZED_CTE"}, optional={"expressions": []},
    )  # fmt: skip
    if not is_count(index):
        raise PlanError("a CTE of unknown form")
    definition, child = several(children, "CTE", 2)
    return plan.Cte(
        int(index), text_of(name), _operator(definition, depth), _operator(child, depth)
    )


def _cte_ref(node: object, _depth: int) -> Operator:
    index, types, _, bound = fields_of(
        node, "CTE reference", "cte_index", "chunk_types", "table_index", "bound_columns",
        fixed={"type": "LOGICAL_CTE_REF", "children": [], "is_recurring": False},
        optional={"expressions": []},
    )  # fmt: skip
    if not is_count(index):
        raise PlanError("a CTE reference of unknown form")
    for name in several(bound, "CTE"):
        text_of(name)
    return plan.CteRef(int(index), tuple(type_of(kind) for kind in several(types, "CTE")))


def _order(node: object, depth: int) -> Operator:
    children, orders = fields_of(
        node, "ORDER BY", "children", "orders",
        fixed={"type": "LOGICAL_ORDER_BY", "projections": []}, optional={"expressions": []},
    )  # fmt: skip
    return plan.Order(_child(children, "ORDER BY", depth), sort_keys_of(orders))


def _limit(node: object, depth: int) -> Operator:
    children, limit, offset, _ = fields_of(
        node, "LIMIT", "children", "limit_val", "offset_val", "unpruned_offset",
        fixed={"type": "LOGICAL_LIMIT"}, optional={"expressions": []},
    )  # fmt: skip
    return plan.Limit(_child(children, "LIMIT", depth), _limit_value(limit), _limit_value(offset))


def _limit_value(node: object) -> int | None:
    kind, value, _, expression = fields_of(
        node, "LIMIT", "type", "constant_integer", "constant_percentage", "expression"
    )
    if kind == "UNSET":
        return None
    if kind != "CONSTANT_VALUE" or expression is not None or not is_count(value):
        raise PlanError("a LIMIT or OFFSET that is not a constant number")
    return int(value)


def _distinct(node: object, depth: int) -> Operator:
    children, targets = fields_of(
        node, "DISTINCT", "children", "distinct_targets",
        fixed={"type": "LOGICAL_DISTINCT", "distinct_type": "DISTINCT"},
        optional={"order_by": None, "expressions": []},
    )  # fmt: skip
    wanted = [item.index for item in expressions_of(targets) if isinstance(item, plan.Reference)]
    if wanted != list(range(len(several(targets, "DISTINCT")))):
        raise PlanError("DISTINCT ON")
    return plan.Distinct(_child(children, "DISTINCT", depth))


def _window_step(node: object, depth: int) -> Operator:
    children, windows, _ = fields_of(
        node, "window", "children", "expressions", "window_index", fixed={"type": "LOGICAL_WINDOW"}
    )
    return plan.WindowStep(
        _child(children, "window", depth),
        tuple(window_of(item) for item in several(windows, "window")),
    )


def _set_operation(node: object, depth: int) -> Operator:
    kind = str(node.get("type")) if isinstance(node, dict) else ""
    children, is_all, *_ = fields_of(
        node, kind, "children", "setop_all", "table_index", "column_count",
        fixed={"type": kind}, optional={"allow_out_of_order": None, "expressions": []},
    )  # fmt: skip
    if not isinstance(is_all, bool):
        raise PlanError("a set operation of unknown form")
    arms = tuple(_operator(child, depth) for child in several(children, kind))
    return plan.SetOperation(kind.removeprefix("LOGICAL_"), is_all, arms)


def _dummy(node: object, _depth: int) -> Operator:
    fields_of(
        node, "SELECT without FROM", "table_index",
        fixed={"type": "LOGICAL_DUMMY_SCAN", "children": []}, optional={"expressions": []},
    )  # fmt: skip
    return plan.DummyScan()


def _empty(node: object, _depth: int) -> Operator:
    types, _ = fields_of(
        node, "empty result", "return_types", "bindings",
        fixed={"type": "LOGICAL_EMPTY_RESULT", "children": []}, optional={"expressions": []},
    )  # fmt: skip
    return plan.Empty(tuple(type_of(kind) for kind in several(types, "empty result")))


def _values(node: object, depth: int) -> Operator:
    children, types, rows, _ = fields_of(
        node, "VALUES", "children", "expr_types", "expressions", "table_index",
        fixed={"type": "LOGICAL_EXPRESSION_GET"},
    )  # fmt: skip
    if not isinstance(_child(children, "VALUES", depth), plan.DummyScan):
        raise PlanError("VALUES over rows")
    return plan.Values(
        tuple(type_of(kind) for kind in several(types, "VALUES")),
        tuple(expressions_of(row) for row in several(rows, "VALUES")),
    )


def _get(node: object, _depth: int) -> Operator:
    if isinstance(node, dict) and not is_same(node.get("qname"), {"path": ["seq_scan"]}):
        raise PlanError("a table function")
    types, names, data, indexes, _ = fields_of(
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
    catalog, schema, table, qualified = fields_of(
        data,
        "scan",
        "catalog",
        "schema",
        "table",
        "qualified_name",
        fixed={"is_index_scan": False, "is_create_index": False, "result_ids": []},
    )
    path = [text_of(part) for part in (catalog, schema, table)]
    if not is_same(qualified, {"path": path}):
        raise PlanError("a scan of two names")
    kinds = several(types, "returned_types")
    columns = [
        (text_of(name), type_of(kind))
        for name, kind in zip(several(names, "names", len(kinds)), kinds, strict=True)
    ]
    output = tuple(_column_index(index, len(columns)) for index in several(indexes, "scan"))
    return plan.Get(tuple(path), tuple(columns), output)


ROW_ID = -1
"""In `Get.output`: a placeholder of a scan that needs no column; it is never referred to."""


def _column_index(node: object, count: int) -> int:
    (index,) = fields_of(
        node,
        "column index",
        "index",
        fixed={
            "child_indexes": [],
            "index_type": "FULL_READ",
            "type": NO_TYPE,
            "field": "",
            "has_index": True,
        },
    )
    if index == _NONE:
        return ROW_ID
    if not is_count(index) or index >= count:
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
