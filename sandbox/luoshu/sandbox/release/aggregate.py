"""Release mode `aggregate`: a value comes out only if enough distinct units are behind it.

Each cell is judged by itself (`thresholds`), then against what comes out beside it and came out
before (`differencing`). A component that stays in is NULL; a group of which nothing comes out is
absent, key and all; without groups, the one cell stays as a row of NULLs. Withheld looks alike
whatever the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from luoshu.sandbox.arrays import np
from luoshu.sandbox.release.blocks import Block, is_known, new_block, without
from luoshu.sandbox.release.differencing import Differencing, Item, Verdict
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.release.thresholds import (
    Judged,
    Rule,
    Withheld,
    judge,
    withhold_prefixes,
    withhold_weighted,
)
from luoshu.sandbox.schema import SchemaError, checked_count, exact_fields
from luoshu.sandbox.wire import Row, Value

_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class AggregateRules:
    """The rules in force for one computation.

    Attributes:
        min_units: Fewest distinct units behind a component, and in any difference.
        jitter: Most that a cell's threshold is raised by.
        dominance_ppm: Most of a component's absolute contributions that one unit may have, in
            parts per million.
        max_conflicts: Cells in conflict with the history beyond which nothing comes out.
    """

    min_units: int
    jitter: int = 4
    dominance_ppm: int = 850_000
    max_conflicts: int = 4

    @classmethod
    def from_json(cls, value: object) -> AggregateRules:
        """Reads `{"mode": "aggregate", …}` with all four numbers.

        Raises:
            SchemaError: Any other form: rules that aren't understood are never skipped.
        """
        fields = exact_fields(
            value, "mode", "min_units", "jitter", "dominance_ppm", "max_conflicts"
        )
        if fields["mode"] != "aggregate":
            raise SchemaError("not the rules of mode aggregate")
        rules = cls(
            checked_count(fields["min_units"]),
            checked_count(fields["jitter"]),
            checked_count(fields["dominance_ppm"]),
            checked_count(fields["max_conflicts"]),
        )
        if rules.min_units < 1 or rules.dominance_ppm > _PPM:
            raise SchemaError("min_units must be at least 1, dominance at most 1")
        return rules

    def to_json(self) -> dict[str, object]:
        """The JSON form, as the release worker gets it."""
        return {
            "mode": "aggregate",
            "min_units": self.min_units,
            "jitter": self.jitter,
            "dominance_ppm": self.dominance_ppm,
            "max_conflicts": self.max_conflicts,
        }


@dataclass(frozen=True, slots=True)
class Explained:
    """Something that stayed in, for the holder's eyes.

    Attributes:
        result: Number of the cell query.
        keys: The cell's keys.
        component: Index of the component, or None if the whole cell stayed in.
        units: Distinct units behind it; of a whole cell those of the branch that is too small, or
            None.
        rule: What withheld it.
        needed: Fewest units that the rule asks for, if it is about that.
        beside: What it differs too little from in this computation: number of the cell query, keys
            and component of each.
        earlier: Places of the earlier results that it differs too little from, the oldest is 0.
    """

    result: int
    keys: Row
    component: int | None
    units: int | None
    rule: Rule
    needed: int | None = None
    beside: tuple[tuple[int, Row, int], ...] = ()
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """What comes out.

    Attributes:
        rows: For each cell query keys and values, in the order of the keys: the order in which
            the engine happened to find groups tells about rows.
        withheld_groups: Cells of which nothing came out. For the holder's eyes.
        withheld_values: Components withheld in cells of which something came out. For the
            holder's eyes.
        conflicts: Cells in conflict with the history, but those of the same query only.
            For the holder's eyes.
        additions: What joins the history, if anything new came out.
        explained: Each withheld component and cell. For the holder's eyes.
    """

    rows: list[list[Row]]
    withheld_groups: int
    withheld_values: int
    conflicts: int
    additions: list[Block]
    explained: list[Explained]


def release(
    results: Sequence[CellQueryResult],
    rules: AggregateRules,
    secret: bytes,
    *,
    history: Sequence[Block] = (),
    own: Sequence[Block] | None = None,
    data: str = "",
) -> Released:
    """Applies the rules to all cell queries of one computation.

    Args:
        results: As stage 1 yielded them.
        rules: In force.
        secret: Of the privacy domain, 32 bytes.
        history: What came out before, oldest first.
        own: What of it needs no addition when it comes out again; None for all of it.
        data: Digest of the data version.
    """
    judged = [
        judge(
            result,
            min_units=rules.min_units,
            jitter=rules.jitter,
            dominance_ppm=rules.dominance_ppm,
            secret=secret,
        )
        for result in results
    ]
    _keep_together(judged)
    orders = [_order(one.result.keys) for one in judged]
    protected = [n for n, one in enumerate(judged) if one.result.schema.components]
    blocks = [
        new_block(judged[n].result, judged[n].starts, judged[n].allowed, secret, data)
        for n in protected
    ]
    guard = Differencing(
        blocks,
        [judged[n].allowed for n in protected],
        [np.argsort(orders[n]) for n in protected],
        history,
        rules.min_units,
    )
    guard.compare_within()
    _keep_together(judged)
    guard.compare_with_history()
    _keep_together(judged)
    _note(judged, protected, guard.verdict, rules.min_units)
    if len(guard.verdict.cells) > rules.max_conflicts:
        for one in judged:
            cells = np.flatnonzero(one.allowed.any(axis=0))
            one.withheld.extend(Withheld(None, int(cell), Rule.CONFLICTS) for cell in cells)
            one.allowed[:] = False
    rows, groups, values = [], 0, 0
    for one, order in zip(judged, orders, strict=True):
        released, withheld_groups, withheld_values = _rows(one, order)
        rows.append(released)
        groups += withheld_groups
        values += withheld_values
    additions = [
        block
        for block in (
            without(block, judged[n].allowed, secret)
            for n, block in zip(protected, blocks, strict=True)
        )
        if block is not None and not is_known(block, history if own is None else own)
    ]
    conflicts = len(guard.verdict.counted)
    return Released(rows, groups, values, conflicts, additions, _explain(judged))


def _keep_together(judged: Sequence[Judged]) -> None:
    """Withholds what comes out only with something that is withheld."""
    for one in judged:
        one.withheld.extend(withhold_weighted(one.result, one.allowed))
        for cell in withhold_prefixes(one.result, one.allowed):
            one.withheld.append(Withheld(None, cell, Rule.PREFIX))


def _note(
    judged: Sequence[Judged], protected: Sequence[int], verdict: Verdict, needed: int
) -> None:
    """Notes what the differencing guard withheld."""

    def placed(item: Item) -> tuple[int, int, int]:
        number = protected[item[0]]
        component, cell = divmod(item[1], judged[number].result.found.cells)
        return number, cell, component

    for item, others in verdict.within:
        number, cell, component = placed(item)
        beside = tuple(map(placed, others))
        judged[number].withheld.append(
            Withheld(component, cell, Rule.RESULT, needed, beside=beside)
        )
    for item, places in verdict.history:
        number, cell, component = placed(item)
        judged[number].withheld.append(
            Withheld(component, cell, Rule.HISTORY, needed, earlier=places)
        )


def _order(keys: Sequence[Row]) -> list[int]:
    """The cells in the order of their keys: those of one place are of one type, NULL comes last."""
    return sorted(
        range(len(keys)),
        key=lambda cell: [(key is None, 0 if key is None else key) for key in keys[cell]],
    )


def _rows(judged: Judged, order: Sequence[int]) -> tuple[list[Row], int, int]:
    """Released rows; how many groups and how many values beside released ones were withheld."""
    schema, keys = judged.result.schema, judged.result.keys
    if not schema.components:  # of public tables
        return [keys[cell] for cell in order], 0, 0
    released = [
        number for number, component in enumerate(schema.components) if component.kind.is_released
    ]
    allowed = judged.allowed[released]
    counts = allowed.sum(axis=0)
    groups = int((counts == 0).sum())
    values = int((len(released) - counts[counts > 0]).sum())
    columns = [_values(judged, number) for number in released]
    rows = [
        (*keys[cell], *(column[cell] for column in columns))
        for cell in order
        if counts[cell] or not schema.keys
    ]
    return rows, groups, values


def _values(judged: Judged, number: int) -> list[Value]:
    component, figures = judged.result.schema.components[number], judged.figures[number]
    allowed = judged.allowed[number].tolist()
    return [
        (Decimal(f"{total}E-{component.scale}") if component.scale else total) if free else None
        for total, free in zip(figures.totals, allowed, strict=True)
    ]


def _explain(judged: Sequence[Judged]) -> list[Explained]:
    return [
        Explained(
            number,
            one.result.keys[item.cell],
            item.component,
            item.units
            if item.component is None
            else int(one.figures[item.component].units[item.cell]),
            item.rule,
            item.needed,
            tuple(
                (other, judged[other].result.keys[cell], component)
                for other, cell, component in item.beside
            ),
            item.earlier,
        )
        for number, one in enumerate(judged)
        for item in one.withheld
    ]
