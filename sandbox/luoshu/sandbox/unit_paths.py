"""How the rows of a product's tables come to their units, from what the product file says.

A table names its unit in a column, refers to a row of another table that has
one, or is public. Pure rules, without files and data: what is declared becomes
an order to prepare the tables in, and the keys that determine a unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from luoshu.sandbox.schema import UnitKey

Path: TypeAlias = "tuple[str, Mapping[str, str]]"
"""The table referred to, and own columns by the columns there that they equal."""
Declared: TypeAlias = "Mapping[str, str | Path | None]"
"""By table: its unit column, its path to a unit, or None if it is public."""

_PLAIN = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class UnitSource:
    """Where one table's units come from.

    Attributes:
        table: The table.
        column: Its column that names the unit, or None.
        within: Table whose units these must be too, as `column` refers to its unit column.
        via: Table whose rows its rows refer to otherwise, or None.
        on: Pairs of an own column and the column of `via` that it equals.
        keys: Columns that determine the unit beside the unit itself.
    """

    table: str
    column: str | None
    within: str | None
    via: str | None
    on: tuple[tuple[str, str], ...]
    keys: tuple[UnitKey, ...]

    @property
    def is_public(self) -> bool:
        """Whether its rows belong to nobody."""
        return self.column is None and self.via is None

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that units and keys need, each once."""
        own = () if self.column is None else (self.column,)
        return tuple(dict.fromkeys([*own, *(name for key in self.keys for name in key.columns)]))


def resolve_units(declared: Declared) -> tuple[UnitSource, ...]:
    """Orders tables so that each comes after the one it refers to.

    Raises:
        ValueError: A path that leads nowhere, to a public table or in a circle; says which.
    """
    resolved: dict[str, UnitSource] = {}
    for table in declared:
        _resolve(declared, table, resolved, ())
    return tuple(resolved.values())


def _resolve(
    declared: Declared, table: str, resolved: dict[str, UnitSource], behind: tuple[str, ...]
) -> None:
    if table in behind:
        circle = " → ".join((*behind[behind.index(table) :], table))
        raise ValueError(f"units can't be found in a circle: {circle}")
    if table in resolved:
        return
    unit = declared[table]
    if unit is None or isinstance(unit, str):
        resolved[table] = UnitSource(table, unit, None, None, (), ())
        return
    via, on = unit
    if via not in declared:
        raise ValueError(f"{table}: there is no table {via}")
    if declared[via] is None:
        raise ValueError(f"{table}: {via} is public, so its rows belong to no unit")
    _resolve(declared, via, resolved, (*behind, table))
    resolved[table] = _through(table, resolved[via], on, resolved)


def _through(
    table: str, target: UnitSource, on: Mapping[str, str], resolved: dict[str, UnitSource]
) -> UnitSource:
    theirs = tuple(on.values())
    if len(set(theirs)) != len(theirs):
        raise ValueError(f"{table}: `on` names a column of {target.table} twice")
    if target.column in theirs:
        if len(on) > 1:
            raise ValueError(
                f"{table}: {target.column} is the unit of {target.table} itself; name it alone"
            )
        return UnitSource(table, next(iter(on)), target.table, None, (), ())
    key = next((key for key in target.keys if set(key.columns) == set(theirs)), None)
    if key is None:
        columns = tuple(sorted(theirs))
        key = UnitKey(_domain(target.table, columns), columns)
        resolved[target.table] = UnitSource(
            *(target.table, target.column, target.within, target.via, target.on),
            (*target.keys, key),
        )
    own = {their: mine for mine, their in on.items()}
    own_key = UnitKey(key.domain, tuple(own[name] for name in key.columns))
    pairs = tuple(zip(own_key.columns, key.columns, strict=True))
    return UnitSource(table, None, None, target.table, pairs, (own_key,))


def _domain(table: str, columns: tuple[str, ...]) -> str:
    return f"{_shown(table)}({', '.join(_shown(column) for column in columns)})"


def _shown(name: str) -> str:
    quoted = name.replace('"', '""')
    return name if _PLAIN.fullmatch(name) else f'"{quoted}"'
