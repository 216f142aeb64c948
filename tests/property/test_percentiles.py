"""Percentiles against plain Python: which grid value comes out, and who stands beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
from guard_session import GuardSession
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from luoshu.sandbox.guard.percentiles import STEPS, grid, step_of
from luoshu.sandbox.schema import BIGINT, VARCHAR, ColumnSchema, TableSchema, UnitKey, Use

LOW, HIGH = -10, 190
TABLE = TableSchema(
    "p0",
    "person",
    "pid",
    (
        ColumnSchema("g", VARCHAR, frozenset({Use.GROUP, Use.FILTER})),
        ColumnSchema("n", BIGINT, frozenset({Use.AGGREGATE, Use.FILTER}), (LOW, HIGH), 190),
    ),
    domain="people",
    keys=(UnitKey("people", ("pid",)),),
)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from(["a", "b"]),
        st.none() | st.integers(LOW, HIGH) | st.integers(40, 60),
    ),
    min_size=5,
    max_size=120,
)
FRACTIONS = ("0.5", "0.25", "0.75", "0.9", "0.333")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardSession]:
    opened = GuardSession(tmp_path_factory.mktemp("session"), (TABLE,))
    yield opened
    opened.close()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=ROWS,
    fraction=st.sampled_from(FRACTIONS),
    name=st.sampled_from(["quantile_disc", "quantile_cont"]),
    min_units=st.integers(1, 5),
)
def test_percentile_is_a_grid_value_with_enough_units_on_each_side(
    session: GuardSession,
    rows: list[tuple[int, str, int | None]],
    fraction: str,
    name: str,
    min_units: int,
) -> None:
    session.min_units = min_units
    session.forget()
    session.fill({"person": rows})
    q, points = Fraction(fraction), [*grid(LOW, HIGH), HIGH]
    told = session.ask(f"SELECT g, {name}(n, {fraction}) FROM person GROUP BY g").rows
    for key, value in told:
        if value is None:
            event("withheld")
            continue
        event("released")
        mine = [(pid, n) for pid, g, n in rows if g == key and n is not None]
        values = sorted(n for _, n in mine)
        assert value in points
        # The true one lies in the step below, or in at most four: an eighth of the bounds.
        true = values[math.ceil(q * len(values)) - 1]
        assert true <= value <= true + (HIGH - LOW) // 8
        below = {pid for pid, n in mine if n <= value}
        above = {pid for pid, n in mine if n > value - (HIGH - LOW) // 8}
        assert len(below) >= min_units
        assert len(above) >= min_units


def test_many_units_give_one_step(session: GuardSession) -> None:
    session.min_units = 3
    session.forget()
    rows = [(unit, "a", LOW + unit * 7 % 200) for unit in range(1000)]
    session.fill({"person": rows})
    values = sorted(n for _, _, n in rows)
    step = step_of(LOW, HIGH)
    for fraction in FRACTIONS:
        ((value,),) = session.ask(f"SELECT quantile_disc(n, {fraction}) FROM person").rows
        true = values[math.ceil(Fraction(fraction) * 1000) - 1]
        assert true <= value < true + step


@pytest.mark.parametrize(
    ("low", "high", "step"), [(0, 4, 1), (0, 120, 4), (-5, 50, 2), (0, 32, 1), (0, 33, 2)]
)
def test_grid_covers_the_bounds(low: int, high: int, step: int) -> None:
    assert step_of(low, high) == step
    assert len(grid(low, high)) <= STEPS
    assert grid(low, high)[0] == low
    assert high - step <= grid(low, high)[-1] < high


def test_few_values_are_told_exactly(session: GuardSession) -> None:
    narrow = TableSchema(
        "p0",
        "person",
        "pid",
        (TABLE.columns[0], ColumnSchema("n", BIGINT, TABLE.columns[1].uses, (0, 4), 4)),
        domain="people",
        keys=TABLE.keys,
    )
    session.min_units = 3
    session.forget()
    tables, session.tables = session.tables, (narrow,)
    try:
        session.fill({"person": [(unit, "a", unit % 5) for unit in range(100)]})
        sql = "SELECT median(n), quantile_disc(n, 0.2), quantile_disc(n, 0.61) FROM person"
        assert session.ask(sql).rows == [(2.0, 0, 3)]
    finally:
        session.tables = tables
