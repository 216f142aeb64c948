"""Fields of DuckDB's plan JSON, read strictly: a field that isn't expected is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luoshu.sandbox.schema import ValueType

MAX_DEPTH = 100
NO_TYPE = {"id": "INVALID", "type_info": None}
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


class PlanError(Exception):
    """Something in the plan that the reader doesn't know; names it."""


def fields_of(
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
        raise PlanError(f"{shown_name(what)} that is no object")
    if other := set(node) - set(wanted) - set(fixed) - set(optional) - _IGNORED:
        raise PlanError(f"the field {shown_name(min(map(str, other)))} of {shown_name(what)}")
    for name, value in fixed.items():
        if name not in node or not is_same(node[name], value):
            raise PlanError(f"the field {name} of {shown_name(what)}")
    for name, value in optional.items():
        if value is not None and name in node and not is_same(node[name], value):
            raise PlanError(f"the field {name} of {shown_name(what)}")
    if missing := [name for name in wanted if name not in node and name not in defaults]:
        raise PlanError(f"{shown_name(what)} without {missing[0]}")
    return [node.get(name, defaults.get(name)) for name in wanted]


def is_same(one: object, other: object) -> bool:
    """Whether two values are the same JSON."""
    # JSON tells 1 from true; Python's == does not.
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def several(value: object, what: str, count: int | None = None) -> list[Any]:
    """A list, of `count` items if that is given.

    Raises:
        PlanError: It is none.
    """
    if not isinstance(value, list) or (count is not None and len(value) != count):
        raise PlanError(f"{shown_name(what)} of unexpected number")
    return value


def path_of(node: object) -> str:
    """A qualified name, joined by dots.

    Raises:
        PlanError: It is none.
    """
    (path,) = fields_of(node, "qname", "path")
    return ".".join(text_of(part) for part in several(path, "qname"))


def text_of(value: object) -> str:
    """A text.

    Raises:
        PlanError: It is none.
    """
    if not isinstance(value, str):
        raise PlanError("a name that is no text")
    return value


def is_count(value: object) -> bool:
    """Whether it is a whole number that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shown_name(value: object) -> str:
    """A name of the plan, short and printable."""
    return "".join(char for char in str(value)[:60] if char.isprintable())


def type_of(node: object) -> ValueType:
    """A type.

    Raises:
        PlanError: It isn't known.
    """
    name, info = fields_of(node, "type", "id", "type_info")
    name = text_of(name)
    if name in _SIMPLE_TYPES and info is None:
        return ValueType(name)
    if name == "DECIMAL" and info is not None:
        width, scale = fields_of(
            info,
            "type",
            "width",
            "scale",
            fixed={"type": "DECIMAL_TYPE_INFO", "alias": "", "extension_info": None},
        )
        if is_count(width) and is_count(scale):
            return ValueType("DECIMAL", int(width), int(scale))
    raise PlanError(f"the type {shown_name(name)}")


def types_of(value: object) -> tuple[ValueType, ...]:
    """A list of types.

    Raises:
        PlanError: One isn't known.
    """
    return tuple(type_of(kind) for kind in several(value, "types"))
