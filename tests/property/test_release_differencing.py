"""Random computations after one another, against an oracle in plain Python.

The oracle knows nothing of arrays, fingerprints, samples or hashes: it looks at every pair of
released numbers and at every union.
"""

from __future__ import annotations

import hashlib
import hmac
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings
from release_world import ROWS, SECRET, UNITS, Holder, result, total

from luoshu.sandbox.release.aggregate import AggregateRules, Released
from luoshu.sandbox.schema import Component, ComponentKind

Amounts = dict[int, int]
COMPONENTS = (ROWS, total("a"), UNITS, ROWS, total("a"), total("a", "a", wide=True))
"""Count, sum, units; count and sum of rows with a = 1; sum of squares."""


@dataclass(frozen=True)
class Number:
    """One released number, or one that passes the thresholds."""

    computation: int
    result: int
    monomial: tuple[str, ...]
    amounts: tuple[tuple[int, int], ...]

    @property
    def units(self) -> int:
        return len(self.amounts)


@dataclass(frozen=True)
class Query:
    """Rows of some units without some others, grouped by one of two attributes or not at all."""

    left_out: frozenset[int]
    grouping: tuple[str, ...]
    components: tuple[int, ...]


Rows = list[tuple[int, int, int, int]]  # unit, two attributes, a


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    units = draw(st.integers(6, 24))
    one = st.tuples(
        st.integers(0, units - 1), st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)
    )
    return draw(st.lists(one, min_size=units, max_size=3 * units))


@st.composite
def queries(draw: st.DrawFn) -> Query:
    return Query(
        frozenset(draw(st.lists(st.integers(0, 23), max_size=4))),
        draw(st.sampled_from([("-",), ("g",), ("h",), ("-", "g"), ("g", "h")])),
        tuple(
            draw(st.lists(st.integers(0, len(COMPONENTS) - 1), min_size=1, max_size=3, unique=True))
        ),
    )


def contributions(rows: Rows, query: Query, grouping: str) -> dict[tuple[str, ...], dict]:
    cells: dict[tuple[str, ...], dict[int, list[int]]] = {}
    for unit, g, h, a in rows:
        if unit in query.left_out:
            continue
        key = {"-": (), "g": (f"g{g}",), "h": (f"h{h}",)}[grouping]
        amounts = cells.setdefault(key, {}).setdefault(unit, [0] * len(COMPONENTS))
        one = int(a == 1)
        for place, amount in enumerate((1, a, 1, one, a * one, a * a)):
            amounts[place] += amount
    if grouping == "-":
        cells.setdefault((), {})
    return {
        key: {
            unit: tuple(amounts[place] for place in query.components)
            for unit, amounts in units.items()
        }
        for key, units in cells.items()
    }


def amounts_of(component: Component, place: int, units: dict[int, tuple[int, ...]]) -> Amounts:
    found = {unit: values[place] for unit, values in units.items() if values[place]}
    return dict.fromkeys(found, 1) if component.kind is ComponentKind.UNITS else found


def differing(first: Amounts, second: Amounts) -> int:
    return sum(first.get(unit, 0) != second.get(unit, 0) for unit in first.keys() | second.keys())


def added(numbers: tuple[Number, ...]) -> Amounts:
    union: Amounts = {}
    for number in numbers:
        for unit, amount in number.amounts:
            union[unit] = union.get(unit, 0) + amount
    return union


def unions(numbers: list[Number]) -> Iterator[tuple[Number, ...]]:
    for size in range(1, len(numbers) + 1):
        yield from combinations(numbers, size)


def needed(units: dict[int, tuple[int, ...]], rules: AggregateRules) -> int:
    key = hmac.digest(SECRET, b"luoshu/jitter/v1", hashlib.sha256)
    data = b"".join(unit.to_bytes(4, "little") for unit in sorted(units))
    draw = int.from_bytes(hmac.digest(key, data, hashlib.sha256)[:8], "big")
    return rules.min_units + draw % (rules.jitter + 1)


def passes(amounts: Amounts, least: int, rules: AggregateRules) -> bool:
    sizes = [abs(amount) for amount in amounts.values()]
    return len(sizes) >= least and max(sizes) * 1_000_000 <= sum(sizes) * rules.dominance_ppm


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tables(),
    st.lists(queries(), min_size=1, max_size=4),
    st.integers(2, 5),
    st.sampled_from([0, 2]),
)
def test_no_two_released_numbers_and_no_union_differ_by_too_few(
    rows: Rows, asked: list[Query], min_units: int, jitter: int
) -> None:
    rules = AggregateRules(min_units, jitter, 850_000, max_conflicts=1000)
    everything: list[Number] = []
    with tempfile.TemporaryDirectory() as directory:
        holder = Holder(Path(directory), rules)
        for turn, query in enumerate(asked):
            components = [COMPONENTS[place] for place in query.components]
            cells = [contributions(rows, query, grouping) for grouping in query.grouping]
            found = [
                result(cell, components, query=f"{turn}", keys=None if cell else ())
                for cell in cells
                if cell
            ]
            cells = [cell for cell in cells if cell]
            if not found:
                continue
            released = holder.release(*found)
            out, candidates = [], []
            for number, cell in enumerate(cells):
                rows_out = {
                    row[: len(next(iter(cell)))]: row[len(next(iter(cell))) :]
                    for row in released.rows[number]
                }
                for key, units in cell.items():
                    least = needed(units, rules)
                    for place, component in enumerate(components):
                        amounts = amounts_of(component, place, units)
                        item = Number(
                            turn, number, component.monomial, tuple(sorted(amounts.items()))
                        )
                        value = rows_out.get(key, (None,) * len(components))[place]
                        if value is not None:
                            assert value == sum(amounts.values())
                            assert passes(amounts, least, rules)
                            out.append(item)
                        if passes(amounts, least, rules):
                            candidates.append(item)
            everything += out
            check_not_too_strict(released, candidates, everything, out, min_units)
    check_everything(everything, min_units)


def check_everything(everything: list[Number], min_units: int) -> None:
    results = sorted({(number.computation, number.result) for number in everything})
    for target in everything:
        for place in results:
            others = [
                number
                for number in everything
                if (number.computation, number.result) == place
                and number.monomial == target.monomial
                and number is not target
            ]
            for union in unions(others[:9]):
                few = differing(dict(target.amounts), added(union))
                assert few == 0 or few >= min_units, (target, union)


def check_not_too_strict(
    released: Released,
    candidates: list[Number],
    everything: list[Number],
    out: list[Number],
    min_units: int,
) -> None:
    """What is withheld is in conflict with something; and without a conflict all comes out."""
    if len(out) == len(candidates):
        return
    withheld = [number for number in candidates if number not in out]
    pool = [number for number in everything if number not in out] + candidates
    places = sorted({(number.computation, number.result) for number in pool})

    def in_conflict(target: Number) -> bool:
        for place in places:
            others = [
                number
                for number in pool
                if (number.computation, number.result) == place
                and number.monomial == target.monomial
                and number is not target
            ]
            for union in unions(others[:9]):
                if 0 < differing(dict(target.amounts), added(union)) < min_units:
                    return True
        return False

    if withheld:
        assert any(in_conflict(number) for number in pool), released.explained
