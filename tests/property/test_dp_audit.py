"""The ε audit: no claim of release mode dp is broken by what comes out of it.

Each scenario runs the whole mechanism path (bounding, clamping, exact sums, noise, thresholds) on
two data sets that differ by one unit, built so that a broken step shows. The quick tests see that
an audit catches mechanisms with too little noise, so that passing means something.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest
from dp_audit import audited_epsilon, is_plausible, log_tail, lower_bound, upper_bound
from dp_world import AGE, ROWS, UNITS, agreed, people, result, rules, schema

from luoshu.sandbox.release.dp import release
from luoshu.sandbox.release.dp_budget import DELTA_UNITS
from luoshu.sandbox.release.dp_noise import add_noise
from luoshu.sandbox.release.dp_plan import plan_release
from luoshu.sandbox.wire import Row

RUNS = 100_000
QUICK = 2500
CELLS = tuple("abc")


def number(value: object) -> float:
    assert isinstance(value, int | Decimal)
    return float(value)


def counting(epsilon: str, delta: str = "0") -> Callable[[bool], float]:
    """COUNT(*); the unit has many rows."""
    query, under = schema(ROWS), rules(agreed(epsilon, delta))
    sides = {
        more: result(query, [()], *people(20, 1), *([(0, 99, 7)] if more else []))
        for more in (True, False)
    }
    return lambda more: number(release([sides[more]], under)[0][0][0])


def averaging() -> Callable[[bool], float]:
    """The components of an average; the unit's value is far out of bounds."""
    query, under = schema(ROWS, AGE), rules(agreed("1"))
    sides = {
        more: result(query, [()], *people(20, 1, 40), *([(0, 99, 1, 10**9)] if more else []))
        for more in (True, False)
    }

    def run(more: bool) -> float:
        ((count, total),) = release([sides[more]], under)[0]
        return number(count) + number(total) / 120

    return run


def grouping() -> Callable[[bool], float]:
    """Counts by declared keys; the unit is in every cell, and its cells are numbered first."""
    query = schema(ROWS, keys=1)
    under = rules(agreed("1"), (CELLS,), cells_per_unit=2)
    fewer = result(query, [("c",)], *people(5, 1))
    keys: list[Row] = [(letter,) for letter in CELLS]
    more = result(
        query,
        keys,
        *[(2, unit, 1) for unit in range(5)],
        *[(cell, 99, 3) for cell in range(3)],
    )

    def run(larger: bool) -> float:
        return sum(number(row[1]) for row in release([more if larger else fewer], under)[0])

    return run


def thresholding() -> Callable[[bool], float]:
    """Whether a cell exists that the unit alone is in."""
    query, under = schema(UNITS, keys=1), rules(agreed("1", "0.1"), (None,))
    rows = [(0, unit, 1) for unit in range(200)]
    keys: list[Row] = [("common",), ("rare",)]
    sides = {
        True: result(query, keys, *rows, (1, 999, 1)),
        False: result(query, keys[:1], *rows),
    }
    return lambda more: float(any(row[0] == "rare" for row in release([sides[more]], under)[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mechanism", "delta", "least"),
    [
        (counting("1"), 0.0, 0.85),
        # What its worst events show needs more runs than there are: each has a chance of 10^-6.
        (counting("1", "1e-6"), 1e-6, 0.15),
        (averaging(), 0.0, 0.4),
        (grouping(), 0.0, 0.2),
    ],
    ids=["count", "gaussian-count", "average", "groups"],
)
def test_audit_finds_no_more_than_the_claim(
    mechanism: Callable[[bool], float], delta: float, least: float
) -> None:
    found = audited_epsilon(mechanism, RUNS, delta)
    logging.getLogger(__name__).info("epsilon is at least %.3f, of 1 that is claimed", found)
    assert found <= 1
    # An audit that finds nothing proves nothing.
    assert found >= least


@pytest.mark.slow
def test_a_lone_unit_shows_itself_no_more_often_than_delta() -> None:
    mechanism = thresholding()
    shown = sum(mechanism(True) for _ in range(RUNS))
    claimed = agreed("1", "0.1").threshold_delta / DELTA_UNITS
    assert lower_bound(int(shown), RUNS) <= claimed
    assert shown > 0
    assert not any(mechanism(False) for _ in range(1000))


def test_an_audit_catches_a_mechanism_with_too_little_noise() -> None:
    """It claims ε = 1 and adds the noise of ε = 2."""
    assert audited_epsilon(counting("2"), QUICK) > 1


def test_an_audit_catches_a_count_that_isnt_clamped() -> None:
    """Noise for one row, and a unit with seven."""
    (plan,) = plan_release([schema(ROWS)], rules(agreed("1")))
    (component,) = plan.components
    assert audited_epsilon(lambda more: add_noise(component, [27 if more else 20])[0], QUICK) > 1


def test_an_audit_catches_rounding_that_isnt_noise() -> None:
    rng = np.random.default_rng(5)
    floor = [math.floor(20.5 + rng.uniform(0, 0.4)) for _ in range(2 * QUICK)]
    assert audited_epsilon(lambda more: floor.pop() + more, QUICK) > 1


def test_an_audit_accepts_a_mechanism_that_keeps_its_claim() -> None:
    assert 0.5 < audited_epsilon(counting("1"), QUICK) <= 1


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    # 0 of n: the upper bound is 1 - failure^(1/n), exactly.
    assert upper_bound(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-9)
    assert lower_bound(100, 100, 0.05) == pytest.approx(0.05 ** (1 / 100), rel=1e-9)
    assert (lower_bound(0, 9), upper_bound(9, 9)) == (0.0, 1.0)
    # P(X >= 2) for three fair coins is one half.
    assert log_tail(2, 3, 0.5) == pytest.approx(math.log(0.5))
    assert lower_bound(2, 3, 0.5) == pytest.approx(0.5)
    assert not is_plausible(700, 1000, 0.5)
    assert is_plausible(520, 1000, 0.5)
