"""Joins below the cells, as FROM, WHERE and EXISTS."""

from __future__ import annotations

from dataclasses import replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.columns import Pair, compared, mapped, maybe_missing, names_unit, pairs
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.sources import (
    Atom,
    Boundary,
    Cross,
    ExistsLeaf,
    LeftJoin,
    Names,
    Relation,
    Role,
    TableSource,
    Through,
)
from luoshu.sandbox.schema import BOOLEAN

_EQUALITIES = frozenset({"COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"})
_OF_NO_NULL = frozenset(
    {
        "COMPARE_EQUAL",
        "COMPARE_NOTEQUAL",
        "COMPARE_LESSTHAN",
        "COMPARE_GREATERTHAN",
        "COMPARE_LESSTHANOREQUALTO",
        "COMPARE_GREATERTHANOREQUALTO",
        "OPERATOR_IS_NOT_NULL",
    }
)


def meet(operator: plan.Join, left: Relation, right: Relation, names: Names) -> Relation:
    """The rows that a join puts out.

    Raises:
        GuardRefusalError: It could put out several rows for a scalar subquery, or is of several
            columns.
    """
    conditions = pairs(operator, left, right)
    conditions = (*conditions, *_of_one_unit(conditions, left, right))
    match operator.kind:
        case "INNER":
            return _inner(operator, left, right, conditions)
        case "LEFT" | "SINGLE":
            return _left(operator, left, right, conditions, names)
        case "FULL":
            raise refuse(
                Refusal.CLAUSE,
                "FULL JOIN is not accepted over rows of protected tables; use LEFT JOIN, or "
                "aggregate first and join the results.",
            )
        case _:
            return _exists(operator, left, right, conditions)


def _of_one_unit(conditions: tuple[Pair, ...], left: Relation, right: Relation) -> tuple[Pair, ...]:
    """That both rows are one unit's, beside a key that determines the unit unless it is NULL.

    DuckDB meets the values that a correlated subquery depends on with themselves, NULLs too.
    """
    by_key = [
        names_unit([one], left) and names_unit([other], right)
        for one, how, other in conditions
        if how == "COMPARE_NOT_DISTINCT_FROM" and not _is_unit(one)
    ]
    if not any(by_key) or left.unit is None or right.unit is None:
        return ()
    return ((left.unit, "COMPARE_NOT_DISTINCT_FROM", right.unit),)


def _is_unit(expression: Expression) -> bool:
    return isinstance(expression, Atom) and expression.role is Role.UNIT


def _inner(
    operator: plan.Join, left: Relation, right: Relation, conditions: tuple[Pair, ...]
) -> Relation:
    return Relation(
        Cross(left.source, right.source),
        (*mapped(left, operator.left_map), *mapped(right, operator.right_map)),
        (*left.where, *right.where, *map(compared, conditions)),
        left.unit or right.unit,
    )


def _left(
    operator: plan.Join,
    left: Relation,
    right: Relation,
    conditions: tuple[Pair, ...],
    names: Names,
) -> Relation:
    if operator.kind == "SINGLE":
        equated = {id(pair[2]) for pair in conditions if pair[1] in _EQUALITIES}
        if right.unique is None or not {id(key) for key in right.unique} <= equated:
            raise refuse(
                Refusal.CLAUSE,
                "A scalar subquery must be an aggregate: whether it has several rows would "
                "depend on data.",
            )
    is_plain = isinstance(right.source, TableSource | Boundary) and not right.where
    if not is_plain or not all(isinstance(column, Atom) for column in right.columns):
        boundary = names.boundary(right)
        out = Through(boundary)
        # Where no row meets, a column is NULL whatever it is computed from.
        columns = tuple(out.whole(column) for column in right.columns)
        places = {id(old): new for old, new in zip(right.columns, columns, strict=True)}
        right = Relation(boundary, columns, (), right.unit)
        conditions = tuple(
            (one, comparison, places.get(id(other)) or out.through(other))
            for one, comparison, other in conditions
        )
    source = right.source
    assert isinstance(source, TableSource | Boundary)  # noqa: S101 - made so above
    right = replace(right, columns=tuple(map(maybe_missing, right.columns)))
    return Relation(
        LeftJoin(left.source, source, tuple(map(compared, conditions))),
        (*mapped(left, operator.left_map), *mapped(right, operator.right_map)),
        left.where,
        left.unit,
        left.unique,
    )


def _exists(
    operator: plan.Join, left: Relation, right: Relation, conditions: tuple[Pair, ...]
) -> Relation:
    is_mark = operator.kind == "MARK"
    is_in = is_mark and any(pair[1] == "COMPARE_EQUAL" for pair in conditions)
    if not is_in:
        found = tuple(_plain(pair, right) for pair in pairs(operator, left, right))
        conditions = (*found, *_of_one_unit(found, left, right))
    leaf: Expression = ExistsLeaf(BOOLEAN, right, conditions, is_in)
    columns = mapped(left, operator.left_map)
    if is_mark:
        return replace(left, columns=(*columns, leaf))
    if operator.kind == "ANTI":
        leaf = plan.Call("OPERATOR_NOT", "OPERATOR_NOT", (leaf,), BOOLEAN)
    return replace(left, columns=columns, where=(*left.where, leaf))


def _plain(pair: Pair, right: Relation) -> Pair:
    """A condition of EXISTS by `=`, where it means the same.

    DuckDB compares what a subquery depends on so that NULL meets NULL. Where the subquery has no
    row with a NULL there, `=` is faster, and by a key it says by itself that the unit is one.
    """
    one, how, other = pair
    is_never_null = any(
        isinstance(part, plan.Call)
        and part.kind in _OF_NO_NULL
        and any(child == other for child in part.children)
        for part in right.where
    )
    if how == "COMPARE_NOT_DISTINCT_FROM" and is_never_null:
        return one, "COMPARE_EQUAL", other
    return pair
