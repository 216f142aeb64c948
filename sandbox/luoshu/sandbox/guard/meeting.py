"""When rows meet: protected ones of one unit, or with rows that are nobody's."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.facts import Column, Guarded, PublicValue, Unit, UnprovenError
from luoshu.sandbox.guard.functions import COMPARISONS, EQUALITIES
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.schema import BOOLEAN, TableSchema, Use

MEETING = frozenset({Use.FILTER, Use.GROUP})
"""A column declared for one of these may meet public rows, and groups."""


def merged(
    owners: frozenset[frozenset[int]],
    parts: Sequence[Expression],
    known: Sequence[Expression],
) -> tuple[frozenset[frozenset[int]], list[Expression]]:
    """Classes of readings with equal units after conditions that all hold.

    Args:
        owners: The classes before.
        parts: The conditions.
        known: What holds already.

    Returns:
        The classes, and those of the conditions that prove them.

    Raises:
        UnprovenError: A condition equates a unit that is not there.
    """
    classes = set(owners)
    proven: list[Expression] = []
    pairs: dict[tuple[int, int], dict[tuple[str, str], Expression]] = {}
    null_safe: list[tuple[Expression, Column, Column]] = []
    for part in parts:
        if not (
            isinstance(part, plan.Call)
            and part.kind in EQUALITIES
            and (part.kind, part.name) in COMPARISONS
            and len(part.children) == 2
            and part.type == BOOLEAN
        ):
            continue
        one, other = part.children
        if isinstance(one, Unit) and isinstance(other, Unit) and one.domain == other.domain:
            _join_classes(classes, one.scan, other.scan)
            proven.append(part)
        elif not isinstance(one, Column) or not isinstance(other, Column) or one.type != other.type:
            continue
        elif part.kind != "COMPARE_EQUAL" and not _is_not_null({one, other}, known):
            null_safe.append((part, one, other))
        else:
            found = pairs.setdefault((one.scan, other.scan), {})
            found[one.column.name, other.column.name] = part
            found = pairs.setdefault((other.scan, one.scan), {})
            found[other.column.name, one.column.name] = part
    for (one_scan, other_scan), equal in pairs.items():
        left, right = _table_of(one_scan, parts), _table_of(other_scan, parts)
        for key, other_key in itertools.product(left.keys, right.keys):
            matched = [
                equal.get(names) for names in zip(key.columns, other_key.columns, strict=False)
            ]
            same = key.domain == other_key.domain and len(key.columns) == len(other_key.columns)
            same = same and left.catalog == right.catalog
            if same and all(part is not None for part in matched):
                _join_classes(classes, one_scan, other_scan)
                proven += [part for part in matched if part is not None]
    # That two NULLs meet joins nobody: rows are one unit's by something else, or refused.
    proven += [part for part, one, other in null_safe if _is_key(one, other)]
    return frozenset(classes), proven


def _is_key(one: Column, other: Column) -> bool:
    """Whether two columns stand at one place of a key that determines the unit."""
    return any(
        key.domain == other_key.domain
        and (one.column.name, other.column.name)
        in zip(key.columns, other_key.columns, strict=False)
        and one.table.catalog == other.table.catalog
        for key, other_key in itertools.product(one.table.keys, other.table.keys)
    )


def _table_of(scan: int, parts: Sequence[Expression]) -> TableSchema:
    for part in parts:
        for leaf in plan.leaves_of(part):
            if isinstance(leaf, Column) and leaf.scan == scan:
                return leaf.table
    raise UnprovenError("a reading of no table")


def is_meeting_of_public(part: Expression) -> bool:
    """Whether a condition is how protected rows meet public or guarded ones: by equality."""
    if not isinstance(part, plan.Call) or part.kind not in EQUALITIES:
        return False
    one, other = part.children
    if isinstance(other, Column):
        one, other = other, one
    return (
        isinstance(one, Column)
        and isinstance(other, PublicValue | Guarded)
        and bool(one.column.uses & MEETING)
    )


def _join_classes(classes: set[frozenset[int]], one: int, other: int) -> None:
    mine = next((c for c in classes if one in c), None)
    theirs = next((c for c in classes if other in c), None)
    if mine is None or theirs is None:
        raise UnprovenError("the unit of a row that is not there")
    if mine != theirs:
        classes -= {mine, theirs}
        classes.add(mine | theirs)


def _is_not_null(columns: Collection[Expression], known: Sequence[Expression]) -> bool:
    """Whether one of two columns that don't differ surely has a value."""
    return any(
        isinstance(each, plan.Call)
        and each.kind == "OPERATOR_IS_NOT_NULL"
        and each.children[0] in columns
        for each in known
    )
