"""Random sessions of random queries over random data, against an oracle that knows no guard.

Queries are drawn from a grammar and run raw, by plain DuckDB, and guarded. Then
everything is recomputed in Python from rows: who is behind each released cell,
whether it is the raw one, and by how many people it differs from every other
released cell and from every union of cells of one result.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from guard_session import GuardSession, Row
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.schema import (
    BIGINT,
    VARCHAR,
    ColumnSchema,
    TableSchema,
    UnitKey,
    Use,
    ValueType,
)

G, F, A = Use.GROUP, Use.FILTER, Use.AGGREGATE
PERSON = TableSchema(
    "p0",
    "person",
    "pid",
    (
        ColumnSchema("g", VARCHAR, frozenset({G, F})),
        ColumnSchema("h", BIGINT, frozenset({G, F}), (0, 2), 2),
        ColumnSchema("n", BIGINT, frozenset({A, F}), (-100, 100), 100),
        ColumnSchema("x", ValueType("DECIMAL", 9, 2), frozenset({A, F}), (-9900, 9900), 9900),
    ),
    domain="people",
    keys=(UnitKey("people", ("pid",)),),
)
VISIT = TableSchema(
    "p0",
    "visit",
    "vid",
    (
        ColumnSchema("w", VARCHAR, frozenset({G, F})),
        ColumnSchema("y", BIGINT, frozenset({A, F}), (-50, 50), 50),
    ),
    domain="people",
    keys=(UnitKey("people", ("vid",)),),
)
CODE = TableSchema(
    "p0",
    "code",
    None,
    (
        ColumnSchema("k", BIGINT, frozenset({G, F, A}), None, 2**63),
        ColumnSchema("label", VARCHAR, frozenset({G, F, A})),
    ),
    unique=(("k",),),
)
UNITS = 14
PEOPLE = st.lists(
    st.tuples(
        st.integers(0, UNITS - 1),
        st.sampled_from(["a", "b", "心", None]),
        st.integers(0, 2),
        st.integers(-3, 3) | st.none(),
        st.integers(-400, 400).map(lambda v: Decimal(v).scaleb(-2)) | st.none(),
    ),
    min_size=10,
    max_size=25,
)
VISITS = st.lists(
    st.tuples(
        st.integers(0, UNITS - 1),
        st.sampled_from(["u", "v"]),
        st.integers(-2, 4) | st.none(),
    ),
    min_size=5,
    max_size=20,
)
CODES = [(0, "even"), (1, "odd"), (2, "even")]


@dataclass(frozen=True)
class Source:
    """A FROM clause: its text, the unit's column, keys, summands and conditions on it.

    Of UNION ALL also: the text with the number of each row's arm and row, and what each arm calls
    the summand `v`.
    """

    text: str
    unit: str
    keys: tuple[str, ...]
    numbers: tuple[tuple[str, tuple[str, ...]], ...]
    conditions: tuple[str, ...]
    numbered: str = ""
    arms: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return self.text


_ON_PERSON = ("g = 'a'", "g IN ('a', 'b')", "h >= 1", "h <> 2", "n > 0", "x < 1.5", "g IS NULL")
_ON_VISIT = ("w = 'u'", "y >= 0", "y BETWEEN 0 AND 2", "w <> 'v'")
_OF_PERSON = (("n", ("n",)), ("x", ("x",)), ("n + x", ("n", "x")), ("2 * n", ("n",)))
_OF_VISIT = (("y", ("y",)), ("y - 1", ("y", "1")))
SOURCES = (
    Source(
        "person",
        "pid",
        ("g", "h"),
        (*_OF_PERSON, ("n * x", ("n * x",))),
        (
            *_ON_PERSON,
            "EXISTS (SELECT 1 FROM visit WHERE vid = pid AND w = 'u')",
            "pid IN (SELECT vid FROM visit WHERE y > 1)",
            "NOT EXISTS (SELECT 1 FROM visit WHERE vid = pid)",
            "(SELECT count(*) FROM visit WHERE vid = pid AND w = 'u') > 0",
            "(SELECT count(*) FROM visit WHERE vid = pid) IN (0, 1)",
            "EXISTS (SELECT 1 FROM visit WHERE vid = pid AND y > n)",
            "(pid, n) IN (SELECT vid, y FROM visit)",
            "CASE WHEN g = 'a' THEN n > 0 ELSE h = 1 END",
        ),
    ),
    Source("visit", "vid", ("w",), _OF_VISIT, _ON_VISIT),
    Source(
        "person JOIN visit ON pid = vid",
        "pid",
        ("g", "h", "w"),
        (*_OF_PERSON, *_OF_VISIT),
        (*_ON_PERSON, *_ON_VISIT),
    ),
    Source(
        "person JOIN code ON h = k",
        "pid",
        ("g", "label"),
        _OF_PERSON,
        (*_ON_PERSON, "label = 'even'", "label <> 'one'"),
    ),
)


def united(*arms: tuple[str, str]) -> Source:
    """UNION ALL of arms: columns u, k, v of a table with conditions, and the summand's name."""
    plain = " UNION ALL ".join(f"SELECT {arm}" for arm, _ in arms)
    numbered = " UNION ALL ".join(
        f"SELECT {n} AS arm, {10_000 * n} + rowid AS row, {arm}" for n, (arm, _) in enumerate(arms)
    )
    return Source(
        f"({plain}) e",
        "u",
        ("k",),
        (("v", ("v",)), ("3 * v", ("v",))),
        ("v > 0", "k = 'a'", "k <> 'b'", "u IN (SELECT vid FROM visit)"),
        f"({numbered}) e",
        tuple(name for _, name in arms),
    )


SOURCES += (
    united(
        ("pid AS u, g AS k, n AS v FROM person WHERE h >= 1", "n"),
        ("vid, CASE WHEN w = 'u' THEN 'a' ELSE 'b' END, y FROM visit", "y"),
    ),
    united(("pid AS u, g AS k, n AS v FROM person", "n"), ("pid, g, n FROM person", "n")),
    united(
        ("pid AS u, g AS k, n AS v FROM person WHERE h = 0 OR n > 0", "n"),
        ("pid, g, n FROM person WHERE g = 'b'", "n"),
        ("vid, w, y FROM visit WHERE y >= 0", "y"),
    ),
)


@dataclass(frozen=True)
class Aggregate:
    """An aggregate: its SQL, and what it adds up, as (monomial, SQL for one unit's rows)."""

    sql: str
    measures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Query:
    """A query of the grammar."""

    source: Source
    sets: tuple[tuple[str, ...], ...]
    aggregates: tuple[Aggregate, ...]
    where: str
    is_rollup: bool

    @property
    def keys(self) -> tuple[str, ...]:
        return self.sets[0]

    @property
    def sql(self) -> str:
        listed = ", ".join([*self.keys, *(a.sql for a in self.aggregates)])
        group = ", ".join(self.keys)
        group = f" GROUP BY ROLLUP ({group})" if self.is_rollup else group and f" GROUP BY {group}"
        return f"SELECT {listed} FROM {self.source.text}{self.where}{group}"


def _of_arms(source: Source, measures: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The measures of each arm by itself."""
    if not source.arms:
        return tuple(measures)
    return tuple(
        (
            name and source.arms[arm],
            sql.replace("WHERE ", f"WHERE arm = {arm} AND ")
            if "WHERE" in sql
            else f"{sql} FILTER (WHERE arm = {arm})",
        )
        for name, sql in measures
        for arm in range(len(source.arms))
    )


def _measures(factors: Sequence[str], condition: str) -> Iterator[tuple[str, str]]:
    """Each monomial of a sum of `factors`; a constant adds up rows."""
    for factor in factors:
        others = " AND ".join(f"{other} IS NOT NULL" for other in factors)
        where = f"{others} AND ({condition})" if condition else others
        if factor == "1":
            yield "", f"count(*) FILTER (WHERE {where})"
        else:
            yield factor, f"sum({factor}) FILTER (WHERE {where})"


@st.composite
def aggregates(draw: st.DrawFn, source: Source) -> Aggregate:
    kind = draw(st.sampled_from(["rows", "units", "count", "sum", "avg", "case", "filter"]))
    number, factors = draw(st.sampled_from(source.numbers))
    condition = draw(st.sampled_from([c for c in source.conditions if "SELECT" not in c]))

    def measured(*measures: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        return _of_arms(source, measures)

    if kind == "rows":
        return Aggregate("count(*)", measured(("", "count(*)")))
    if kind == "units":
        return Aggregate(f"count(DISTINCT {source.unit})", (("", "1"),))
    if kind == "count":
        return Aggregate(f"count({factors[0]})", measured(("", f"count({factors[0]})")))
    if kind == "sum":
        return Aggregate(f"sum({number})", measured(*_measures(factors, "")))
    if kind == "avg":
        counted = ("", f"count(*) FILTER (WHERE ({number}) IS NOT NULL)")
        return Aggregate(f"avg({number})", measured(*_measures(factors, ""), counted))
    if kind == "case":
        return Aggregate(
            f"sum(CASE WHEN {condition} THEN {number} ELSE 0 END)",
            measured(*_measures(factors, condition)),
        )
    return Aggregate(
        f"count(*) FILTER (WHERE {condition})",
        measured(("", f"count(*) FILTER (WHERE {condition})")),
    )


@st.composite
def queries(draw: st.DrawFn) -> Query:
    source = draw(st.sampled_from(SOURCES))
    keys = tuple(draw(st.lists(st.sampled_from(source.keys), unique=True, max_size=2)))
    is_rollup = bool(keys) and "g" not in keys and draw(st.booleans())
    sets = tuple(keys[:n] for n in range(len(keys), -1 if is_rollup else len(keys) - 1, -1))
    chosen = draw(st.lists(st.sampled_from(source.conditions), max_size=2, unique=True))
    joined = draw(st.sampled_from([" AND ", " AND ", " OR "]))
    negated = [f"NOT ({c})" if draw(st.integers(0, 5)) == 0 else c for c in chosen]
    where = f" WHERE {joined.join(negated)}" if chosen else ""
    found = draw(st.lists(aggregates(source), min_size=1, max_size=3, unique=True))
    return Query(source, sets, tuple(found), where, is_rollup)


Contributions = dict[int, Any]


@dataclass(frozen=True)
class Cell:
    """One measure of one cell: what each unit contributes, nobody with nothing."""

    result: int
    place: tuple[int, int, int]  # aggregate, measure, grouping set: cells of one place are disjoint
    key: Row
    monomial: str
    behind: Contributions
    rows: frozenset[tuple[str, int]]

    def lies_in(self, target: Cell) -> bool:
        """Whether more than half of its rows are the target's too."""
        return 2 * len(self.rows & target.rows) > len(self.rows)


def cells_of(
    session: GuardSession, number: int, query: Query
) -> dict[tuple[int, Row], list[list[Cell]]]:
    """By grouping set and key, for each aggregate its measures, counted row by row."""
    found: dict[tuple[int, Row], list[list[Cell]]] = {}
    for at, keys in enumerate(query.sets):
        listed = ", ".join([*keys, query.source.unit])
        measured = [sql for aggregate in query.aggregates for _, sql in aggregate.measures]
        table = "visit" if "visit" in query.source.text else "person"
        measured.append("list(row)" if query.source.arms else f"list({table}.rowid)")
        text = query.source.numbered or query.source.text
        rows = session.plain.execute(
            f"SELECT {listed}, {', '.join(measured)} FROM {text}{query.where} GROUP BY {listed}"
        ).fetchall()
        by_key: dict[Row, list[Row]] = defaultdict(list)
        for row in rows:
            by_key[row[: len(keys)]].append(row[len(keys) :])
        if not keys:
            by_key.setdefault((), [])
        for key, units in by_key.items():
            place, cells = itertools.count(1), []
            numbers = frozenset((table, n) for unit in units for n in unit[-1])
            for a, aggregate in enumerate(query.aggregates):
                cells.append(
                    [
                        Cell(
                            number, (a, m, at), key, monomial, _nonzero(units, next(place)), numbers
                        )
                        for m, (monomial, _) in enumerate(aggregate.measures)
                    ]
                )
            found[at, key] = cells
    return found


def _nonzero(units: Sequence[Row], place: int) -> Contributions:
    return {row[0]: row[place] for row in units if row[place] is not None and row[place] != 0}


def same(value: Any, raw: Any) -> bool:
    if value is None or raw is None:
        return value is raw
    if isinstance(value, float):
        return math.isclose(value, float(raw), rel_tol=1e-11, abs_tol=1e-9)
    return bool(value == raw)


def released_cells(
    session: GuardSession, number: int, query: Query, told: Sequence[Row]
) -> Iterator[Cell]:
    """The released measures of an answer; asserts that each is true, and rests on enough units."""
    raw = session.plain.execute(query.sql).fetchall()
    width = len(query.keys)
    cells = cells_of(session, number, query)
    for row in told:
        # A key of ROLLUP is never NULL in the data: NULL marks a total.
        at = row[:width].count(None) if query.is_rollup else 0
        measured = cells[at, row[: len(query.sets[at])]]
        truths = [r for r in raw if r[:width] == row[:width]]
        assert any(_agrees(row[width:], truth[width:]) for truth in truths), (row, truths)
        for value, measures in zip(row[width:], measured, strict=True):
            for cell in measures if value is not None else ():
                assert len(cell.behind) >= session.min_units, (row, cell)
                yield cell


def _agrees(values: Row, raw: Row) -> bool:
    return all(
        value is None or same(value, truth) for value, truth in zip(values, raw, strict=True)
    )


def differing(one: Contributions, other: Contributions) -> int:
    return sum(one.get(u) != other.get(u) for u in one.keys() | other.keys())


def union(cells: Sequence[Cell]) -> Contributions:
    total: Contributions = defaultdict(int)
    for cell in cells:
        for unit, value in cell.behind.items():
            total[unit] += value
    return {unit: value for unit, value in total.items() if value != 0}


def assert_apart(cells: Sequence[Cell], min_units: int) -> None:
    """No cell differs by too few units from another, or from a union of cells of one result."""
    unions: list[tuple[Sequence[Cell], Contributions]] = []
    places: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        places[cell.result, cell.place].append(cell)
    for disjoint in places.values():
        for size in range(1, min(len(disjoint), 8) + 1):
            for chosen in itertools.combinations(disjoint[:8], size):
                unions.append((chosen, union(chosen)))
    for cell in cells:
        for chosen, contributions in unions:
            # Others are near by chance only, as small numbers often are.
            is_candidate = len(chosen) == 1 or all(each.lies_in(cell) for each in chosen)
            if is_candidate and chosen[0].monomial == cell.monomial and chosen[0] is not cell:
                count = differing(cell.behind, contributions)
                assert count == 0 or count >= min_units, (count, cell, chosen)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardSession]:
    opened = GuardSession(tmp_path_factory.mktemp("session"), (PERSON, VISIT, CODE))
    yield opened
    opened.close()


def ask_all(
    session: GuardSession, data: tuple[list[Row], list[Row]], asked: Sequence[Query]
) -> list[Cell]:
    """Asks all queries in a new session; the released cells, each checked by itself."""
    session.forget()
    session.fill({"person": data[0], "visit": data[1], "code": CODES})
    released: list[Cell] = []
    for number, query in enumerate(asked):
        try:
            told = session.ask(query.sql)
        except GuardRefusalError as refused:
            event(f"refused: {refused.code}")
            continue
        found = list(released_cells(session, number, query, told.rows))
        event("released" if found else "nothing released")
        released += found
    return released


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.tuples(PEOPLE, VISITS), query=queries(), min_units=st.integers(1, 5))
def test_released_cells_are_true_and_of_enough_units(
    session: GuardSession, data: tuple[list[Row], list[Row]], query: Query, min_units: int
) -> None:
    session.min_units = min_units
    ask_all(session, data, [query])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.tuples(PEOPLE, VISITS),
    asked=st.lists(queries(), min_size=1, max_size=4),
    min_units=st.integers(2, 4),
)
def test_released_cells_of_a_session_are_apart(
    session: GuardSession,
    data: tuple[list[Row], list[Row]],
    asked: list[Query],
    min_units: int,
) -> None:
    session.min_units = min_units
    assert_apart(ask_all(session, data, asked), min_units)
