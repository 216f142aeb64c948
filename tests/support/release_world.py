"""Cells as plain dictionaries, and the release stage over them, without isolation.

A result is `{keys: {unit: (contribution to each component, …)}}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from luoshu.sandbox.arrays import np
from luoshu.sandbox.contributions import LOW_MASK, Contributed, Contributions, narrowed
from luoshu.sandbox.release.aggregate import AggregateRules, Released, release
from luoshu.sandbox.release.blocks import Block
from luoshu.sandbox.release.history import read_entry, write_entry
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.schema import VARCHAR, CellSchema, Component, ComponentKind, ValueType
from luoshu.sandbox.wire import Row

Cells = Mapping[Row, Mapping[int, tuple[int, ...]]]
ROWS = Component(ComponentKind.SUM)
UNITS = Component(ComponentKind.UNITS)
SET = Component(ComponentKind.SET)
SECRET = bytes(range(32))


def total(*monomial: str, wide: bool = False, scale: int = 0) -> Component:
    """The sum of a product of columns."""
    return Component(ComponentKind.SUM, monomial, scale, is_wide=wide)


def result(
    cells: Cells,
    components: Sequence[Component],
    *,
    keys: Sequence[ValueType] | None = None,
    prefix: int | None = None,
    query: str = "query",
) -> CellQueryResult:
    """What stage 1 would have yielded for these cells."""
    names = list(cells)
    kinds = tuple(keys) if keys is not None else tuple(VARCHAR for _ in names[0])
    rows = [
        (cell, unit, values)
        for cell, name in enumerate(names)
        for unit, values in sorted(cells[name].items())
    ]
    columns = []
    for place, component in enumerate(components):
        numbers = [values[place] for _, _, values in rows]
        if component.is_wide:
            high = np.array([n >> 62 for n in numbers], np.int64)
            low = np.array([n & LOW_MASK for n in numbers], np.int64)
            columns.append(narrowed(Contributed(high, low)))
        else:
            columns.append(Contributed(np.array(numbers, np.int64)))
    found = Contributions(
        len(names),
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int32),
        tuple(columns),
    )
    schema = CellSchema(("p.t",), kinds, tuple(components), prefix)
    return CellQueryResult(schema, names, found, query)


@dataclass
class Holder:
    """Releases one computation after the other, with a history in files."""

    directory: Path
    rules: AggregateRules
    files: list[Path] = field(default_factory=list)

    def history(self) -> list[Block]:
        """All that came out so far."""
        return [block for path in self.files for block in read_entry(path)]

    def release(self, *results: CellQueryResult, data: str = "v1") -> Released:
        """Releases one computation."""
        released = release(results, self.rules, SECRET, history=self.history(), data=data)
        if released.additions:
            path = self.directory / f"{len(self.files):04}"
            write_entry(path, released.additions)
            self.files.append(path)
        return released


def values(released: Released, number: int = 0) -> dict[Row, Row]:
    """Released rows by their one key."""
    return {row[:1]: row[1:] for row in released.rows[number]}
