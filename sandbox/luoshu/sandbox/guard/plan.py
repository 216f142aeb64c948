"""DuckDB's bound plan as typed values: the strict reader under the verifier.

Reads the JSON of `json_serialize_plan(…, optimize := false)` of DuckDB 2.0.0.
Default-deny: an operator, an expression class, a type, a field or a field's
value that isn't listed here raises `PlanError`. So a plan that reads has no
sampling, time travel, pushed-down filter, ordinality, DISTINCT or ordered
aggregate, exported state, correlated or lateral column, or anything that a
later DuckDB may add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from luoshu.sandbox.schema import ValueType

_NONE = 2**64 - 1  # how DuckDB writes "no index"
_MAX_DEPTH = 48
_IGNORED = frozenset({"alias", "query_location", "query_location_length"})
_SIMPLE_TYPES = frozenset(
    {"BOOLEAN", "INTEGER", "BIGINT", "HUGEINT", "VARCHAR", "DATE", "TIMESTAMP", "ANY"}
)


class PlanError(Exception):
    """Something in the plan that the reader doesn't know; names it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Column `index` of the child operator's output."""

    index: int
    type: ValueType


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; `value` is None for NULL."""

    value: bool | int | str | None
    type: ValueType


@dataclass(frozen=True, slots=True)
class Call:
    """A scalar function, operator or cast.

    Attributes:
        name: Its full path, joined by dots (`=`, `__cast`, `system.main.lower`).
        kind: DuckDB's expression type (`COMPARE_EQUAL`, `OPERATOR_CAST`, `COMPARE_IN`, …).
    """

    name: str
    kind: str
    children: tuple[Expression, ...]
    type: ValueType


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate function, neither DISTINCT nor ordered.

    Attributes:
        name: Its full path, joined by dots (`system.main.sum`).
        filter: Of its FILTER clause.
    """

    name: str
    children: tuple[Expression, ...]
    filter: Expression | None
    type: ValueType


Expression: TypeAlias = "Reference | Constant | Call"


@dataclass(frozen=True, slots=True)
class Get:
    """A sequential scan of a native table.

    Attributes:
        path: Catalog, schema, table.
        columns: Name and type of every column of the table.
        output: Which of them come out, in order.
    """

    path: tuple[str, ...]
    columns: tuple[tuple[str, ValueType], ...]
    output: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows for which all conditions hold; the layout is the child's."""

    child: Operator
    conditions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """One output column per expression."""

    child: Operator
    expressions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class GroupBy:
    """One grouping set over `groups`; output is groups, then aggregates."""

    child: Operator
    groups: tuple[Expression, ...]
    aggregates: tuple[Aggregate, ...]


Operator: TypeAlias = "Get | Filter | Projection | GroupBy"


def read_plan(document: object) -> Operator:
    """Reads the one plan of a document.

    Raises:
        PlanError: Anything unknown in it.
    """
    error, plans = _fields(document, "document", "error", "plans")
    if error is not False:
        raise PlanError("the statement did not bind")
    (plan,) = _several(plans, "plans", 1)
    return _operator(plan, 0)


def _operator(node: object, depth: int) -> Operator:
    if depth > _MAX_DEPTH:
        raise PlanError("a plan that is nested too deeply")
    kind = node.get("type") if isinstance(node, dict) else None
    if kind == "LOGICAL_GET":
        return _get(node)
    if kind == "LOGICAL_FILTER":
        children, conditions = _fields(
            node, kind, "children", "expressions", fixed={"type": kind, "projection_map": []}
        )
        (child,) = _several(children, kind, 1)
        return Filter(_operator(child, depth + 1), _expressions(conditions))
    if kind == "LOGICAL_PROJECTION":
        children, _, expressions = _fields(
            node, kind, "children", "table_index", "expressions", fixed={"type": kind}
        )
        (child,) = _several(children, kind, 1)
        return Projection(_operator(child, depth + 1), _expressions(expressions))
    if kind == "LOGICAL_AGGREGATE_AND_GROUP_BY":
        return _group_by(node, kind, depth)
    raise PlanError(f"the operator {_name(kind)}")


def _group_by(node: object, kind: str, depth: int) -> GroupBy:
    children, aggregates, groups, sets, *_ = _fields(
        node,
        kind,
        "children",
        "expressions",
        "groups",
        "grouping_sets",
        "group_index",
        "aggregate_index",
        "groupings_index",
        fixed={
            "type": kind,
            "grouping_functions": [],
            "distinct_validity": "CAN_HAVE_NULL_VALUES",
        },
    )
    (child,) = _several(children, kind, 1)
    keys = _expressions(groups)
    if not _same(sets, [list(range(len(keys)))] if keys else []):
        raise PlanError("several grouping sets")
    return GroupBy(
        _operator(child, depth + 1),
        keys,
        tuple(_aggregate(item) for item in _several(aggregates, kind)),
    )


def _get(node: object) -> Get:
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
    return Get(tuple(path), tuple(columns), output)


def _column_index(node: object, count: int) -> int:
    (index,) = _fields(
        node,
        "column index",
        "index",
        fixed={
            "child_indexes": [],
            "index_type": "FULL_READ",
            "type": {"id": "INVALID", "type_info": None},
            "field": "",
            "has_index": True,
        },
    )
    if not _is_count(index) or index >= count:
        raise PlanError("a virtual column such as a row id")
    return int(index)


def _expressions(value: object) -> tuple[Expression, ...]:
    return tuple(_expression(item, 0) for item in _several(value, "expressions"))


def _expression(node: object, depth: int) -> Expression:
    if depth > _MAX_DEPTH:
        raise PlanError("an expression that is nested too deeply")
    name = node.get("expression_class") if isinstance(node, dict) else None
    fixed = {"expression_class": name}
    if name == "BOUND_REF":
        index, kind = _fields(
            node, name, "index", "return_type", fixed={**fixed, "type": "BOUND_REF"}
        )
        if not _is_count(index):
            raise PlanError("a reference without index")
        return Reference(int(index), _type(kind))
    if name == "BOUND_CONSTANT":
        (value,) = _fields(node, name, "value", fixed={**fixed, "type": "VALUE_CONSTANT"})
        return _constant(value)
    if name == "BOUND_FUNCTION":
        return _function(node, name, depth)
    if name == "BOUND_OPERATOR":
        kind, children, returned = _fields(
            node, name, "type", "children", "return_type", fixed=fixed
        )
        inner = tuple(_expression(child, depth + 1) for child in _several(children, name))
        return Call(_text(kind), _text(kind), inner, _type(returned))
    raise PlanError(f"the expression {_name(name)}")


def _function(node: object, name: str, depth: int) -> Call:
    assert isinstance(node, dict)  # noqa: S101 - the caller looked at its class
    fixed: dict[str, object] = {"expression_class": name, "is_operator": True}
    if node.get("has_serialize") is True:  # only casts carry data
        plain = {"try_cast": False, "is_default_cast": False}
        fixed |= {"has_serialize": True, "function_data": plain, "type": "OPERATOR_CAST"}
    else:
        fixed |= {"has_serialize": False}
    wanted = ["children", "return_type", "arguments", "qname"]
    if "type" not in fixed:
        wanted.append("type")
    children, returned, arguments, qname, *kind = _fields(node, name, *wanted, fixed=fixed)
    inner = tuple(_expression(child, depth + 1) for child in _several(children, name))
    _several([_type(argument) for argument in _several(arguments, name)], name, len(inner))
    return Call(_path(qname), _text(kind[0]) if kind else "OPERATOR_CAST", inner, _type(returned))


def _aggregate(node: object) -> Aggregate:
    children, arguments, qname, returned, where = _fields(
        node,
        "BOUND_AGGREGATE",
        "children",
        "arguments",
        "qname",
        "return_type",
        "filter",
        fixed={
            "expression_class": "BOUND_AGGREGATE",
            "type": "BOUND_AGGREGATE",
            "has_serialize": False,
            "aggregate_type": "NON_DISTINCT",
            "order_bys": None,
            "state_export": "NONE",
        },
    )
    inner = _expressions(children)
    _several([_type(item) for item in _several(arguments, "arguments")], "arguments", len(inner))
    condition = None if where is None else _expression(where, 0)
    return Aggregate(_path(qname), inner, condition, _type(returned))


def _constant(node: object) -> Constant:
    kind, is_null, value = (
        _fields(node, "constant", "type", "is_null", "value")
        if isinstance(node, dict) and "value" in node
        else (*_fields(node, "constant", "type", "is_null"), None)
    )
    if is_null is True and value is None:
        return Constant(None, _type(kind))
    if is_null is not False or not isinstance(value, bool | int | str):
        raise PlanError("a constant of unknown form")
    return Constant(value, _type(kind))


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


def _fields(
    node: object, what: str, *wanted: str, fixed: Mapping[str, object] | None = None
) -> Sequence[Any]:
    """Returns the wanted fields of an object that has these, the fixed ones, and no others."""
    fixed = fixed or {}
    if not isinstance(node, dict):
        raise PlanError(f"{_name(what)} that is no object")
    if other := set(node) - set(wanted) - set(fixed) - _IGNORED:
        raise PlanError(f"the field {_name(min(map(str, other)))} of {_name(what)}")
    for name, value in fixed.items():
        if name not in node or not _same(node[name], value):
            raise PlanError(f"the field {name} of {_name(what)}")
    if missing := [name for name in wanted if name not in node]:
        raise PlanError(f"{_name(what)} without {missing[0]}")
    return [node[name] for name in wanted]


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
