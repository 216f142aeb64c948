"""What a correlated subquery depends on: the values that the outer query has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.sources import (
    Atom,
    Cross,
    Names,
    Relation,
    Role,
    Source,
    TableSource,
    Through,
)


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """DuckDB's list of the outer query's values that a correlated subquery depends on."""

    source: Relation
    keys: tuple[Expression, ...]


def public_superset(distinct: Distinct, names: Names) -> Relation | None:
    """More values than the list has, from public tables alone; None if there are none.

    The result meets the outer query again, by equality of these values, so more of them
    change nothing; and which values protected rows have would be a secret.
    """
    keys = [key for key in distinct.keys if isinstance(key, Atom)]
    tables = {
        source.alias: TableSource(source.path, names.alias("t"))
        for source in distinct.source.source.parts()
        if isinstance(source, TableSource) and any(key.source is source for key in keys)
    }
    is_public = all(key.role is Role.PUBLIC and key.instance in tables for key in keys)
    if len(keys) < len(distinct.keys) or not is_public or not keys:
        return None
    copies: dict[int, Atom] = {}

    def copy(leaf: plan.Reference | plan.Leaf) -> Expression:
        assert isinstance(leaf, Atom)  # noqa: S101 - chosen so below
        if id(leaf) not in copies:
            source = tables[leaf.instance]
            copies[id(leaf)] = replace(leaf, source=source, instance=source.alias)
        return copies[id(leaf)]

    where = tuple(
        plan.rebuild(condition, copy)
        for condition in distinct.source.where
        if all(
            isinstance(leaf, Atom)
            and isinstance(leaf.source, TableSource)
            and leaf.instance in tables
            for leaf in plan.leaves_of(condition)
        )
    )
    source: Source | None = None
    for each in tables.values():
        source = each if source is None else Cross(source, each)
    assert source is not None  # noqa: S101 - there are keys
    copied = tuple(plan.rebuild(key, copy) for key in keys)
    boundary = names.boundary(Relation(source, copied, where), copied)
    out = Through(boundary)
    columns = tuple(out.whole(key) for key in copied)
    return Relation(boundary, columns, (), None, columns)
