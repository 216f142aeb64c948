"""Release mode dp: what is kept of a unit, which cells come out, and the noise itself."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from dp_audit import is_plausible
from dp_world import AGE, AMOUNT, ROWS, UNITS, agreed, people, result, rules, schema

from luoshu.sandbox.contributions import Contributed, Contributions, ContributionsError
from luoshu.sandbox.release import dp_noise
from luoshu.sandbox.release.dp import release
from luoshu.sandbox.release.dp_bounding import clamp, exact_sums, keep_cells
from luoshu.sandbox.release.dp_budget import PrivacyCost
from luoshu.sandbox.release.dp_noise import PrivacyCostError, add_noise, mechanism_for
from luoshu.sandbox.release.dp_plan import DpRules, NoisyComponent, plan_release
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.schema import (
    BOOLEAN,
    VARCHAR,
    CellSchema,
    Component,
    ComponentKind,
)

LOUD = agreed("100")
"""So little noise that a value is off by one with a chance of e^-100."""
SAMPLES = 20_000


def laplace_chance(value: int, scale: float) -> float:
    return math.tanh(1 / (2 * scale)) * math.exp(-abs(value) / scale)


def gaussian_chance(value: int, scale: float) -> float:
    weights = [math.exp(-(x * x) / (2 * scale * scale)) for x in range(-200, 201)]
    return math.exp(-(value * value) / (2 * scale * scale)) / sum(weights)


@pytest.mark.parametrize(
    ("guarantee", "chance"),
    [(agreed("1"), laplace_chance), (agreed("1", "1e-6"), gaussian_chance)],
)
def test_noise_has_the_distribution_it_should(guarantee, chance) -> None:  # type: ignore[no-untyped-def]
    (plan,) = plan_release([schema(ROWS)], rules(guarantee))
    (component,) = plan.components
    noise = np.array(add_noise(component, [0] * SAMPLES))
    for value in range(-25, 26):
        expected = chance(value, component.scale)
        assert is_plausible(int(np.sum(noise == value)), SAMPLES, expected)
    # Without bias: the sign of noise that isn't 0 is a fair coin.
    assert is_plausible(int(np.sum(noise > 0)), int(np.sum(noise != 0)), 0.5)


def test_a_wrong_scale_would_be_noticed() -> None:
    (plan,) = plan_release([schema(ROWS)], rules(agreed("1.2")))
    noise = np.array(add_noise(plan.components[0], [0] * SAMPLES))
    assert not all(
        is_plausible(int(np.sum(noise == value)), SAMPLES, laplace_chance(value, 1.0))
        for value in range(-25, 26)
    )


def test_counts_sums_and_units_are_exact_before_noise() -> None:
    query = schema(ROWS, AMOUNT, UNITS)
    rows = [(0, 1, 2, 1050, 2), (0, 2, 1, -70, 1), (0, 3, 5, 99_999_999, 5)]
    under = rules(LOUD, rows_per_cell=2)
    # AMOUNT's noise is wide: its reach is 20000.
    ((row,),) = release([result(query, [()], *rows)], under)
    count, amount, units = row
    assert abs(count - 5) <= 3
    assert isinstance(amount, Decimal)
    assert amount.as_tuple().exponent == -2
    assert abs(amount - Decimal("209.80")) < 600
    assert units == 3


def test_clamping_is_per_unit_and_cell() -> None:
    assert clamp(Contributed(np.array([-9, 3, 2**62])), 0, 4).hi.tolist() == [0, 3, 4]
    least_and_greatest = Contributed(np.array([-(2**63), 2**63 - 1]))
    assert clamp(least_and_greatest, -(2**90), 2**90).hi.tolist() == [
        -(2**63),
        2**63 - 1,
    ]


@pytest.mark.parametrize("low", [0, -1, -(2**70), -(2**62), -(2**125)])
@pytest.mark.parametrize("high", [0, 1, 2**62, 2**70 + 3, 2**125])
def test_wide_integers_are_clamped_and_summed_exactly(low: int, high: int) -> None:
    values = [
        0,
        1,
        -1,
        2**62,
        2**62 - 1,
        -(2**62),
        2**70,
        -(2**70),
        2**124 + 5,
        -(2**124),
        2**70 + 4,
    ]
    wide = Contributed(
        np.array([value >> 62 for value in values]),
        np.array([value & (2**62 - 1) for value in values]),
    )
    bounded = clamp(wide, low, high)
    cells = np.arange(len(values)) % 2
    expected = [max(low, min(high, value)) for value in values]
    assert exact_sums(cells, bounded, 2) == [sum(expected[::2]), sum(expected[1::2])]


def test_sums_beyond_64_bits_are_exact() -> None:
    most = 2**63 - 1
    column = np.full(1000, most)
    cells = np.zeros(1000, dtype=np.int32)
    assert exact_sums(cells, Contributed(column), 2) == [1000 * most, 0]
    assert exact_sums(cells, Contributed(-column - 1), 1) == [-1000 * 2**63]


def name(cell: int) -> bytes:
    return f"name {cell}".encode()


def test_each_unit_keeps_as_many_cells_as_allowed() -> None:
    units = np.repeat(np.arange(200), 7)
    cells = np.tile(np.arange(7), 200)
    for limit in (1, 3, 7, 9):
        kept = keep_cells(cells, units, name, limit, bytes(32))
        per_unit = np.bincount(units[kept], minlength=200)
        assert set(per_unit.tolist()) == {min(limit, 7)}
    first = keep_cells(cells, units, name, 1, bytes(32))
    # Every cell is somebody's choice, and another key chooses otherwise.
    assert set(cells[first].tolist()) == set(range(7))
    assert (keep_cells(cells, units, name, 1, b"k" * 32) != first).any()


def test_what_is_kept_of_a_unit_depends_on_no_other_unit() -> None:
    rng = np.random.default_rng(3)
    units = np.repeat(np.arange(50), 6)
    cells = np.concatenate([rng.permutation(9)[:6] for _ in range(50)])
    kept = keep_cells(cells, units, name, 2, bytes(32))
    for gone in range(50):
        others = units != gone
        # Without the unit, cells are numbered anew, in another order.
        renumbered = {cell: place for place, cell in enumerate(sorted(set(cells[others]))[::-1])}
        back = {place: cell for cell, place in renumbered.items()}
        again = keep_cells(
            np.array([renumbered[cell] for cell in cells[others]]),
            units[others],
            lambda cell, back=back: name(back[cell]),
            2,
            bytes(32),
        )
        assert (again == kept[others]).all()


def test_a_unit_in_many_cells_counts_in_few() -> None:
    query, keys = schema(ROWS, keys=1), [(letter,) for letter in "abcdefgh"]
    rows = [(cell, 1, 5) for cell in range(8)]
    for limit in (1, 3):
        under = rules(LOUD, (tuple("abcdefgh"),), cells_per_unit=limit, rows_per_cell=1)
        (found,) = release([result(query, keys, *rows)], under)
        assert sum(row[1] for row in found) == limit
        assert {row[1] for row in found} == {0, 1}


def test_contributions_of_nothing_use_up_no_cell() -> None:
    query, keys = schema(ROWS, keys=1), [("a",), ("b",)]
    under = rules(LOUD, (("a", "b"),))
    for _ in range(20):
        (found,) = release([result(query, keys, (0, 1, 0), (1, 1, 1))], under)
        assert found == [("a", 0), ("b", 1)]


def test_keys_outside_the_domain_are_dropped_before_a_unit_is_bounded() -> None:
    query, keys = schema(ROWS, keys=1), [("x",), ("b",), (None,)]
    under = rules(LOUD, (("a", "b"),))
    for _ in range(20):
        (found,) = release([result(query, keys, (0, 1, 1), (1, 1, 1), (2, 1, 1))], under)
        assert found == [("a", 0), ("b", 1)]


def test_every_cell_of_declared_domains_comes_out_in_their_order() -> None:
    query = CellSchema(("p.t",), (VARCHAR, BOOLEAN), (ROWS,), None, ("a", "b"))
    under = rules(LOUD, (("z", "a"), (True, False)))
    (found,) = release([result(query, [("a", False)], (0, 4, 1))], under)
    assert found == [("z", True, 0), ("z", False, 0), ("a", True, 0), ("a", False, 1)]
    (empty,) = release([result(query, [])], under)
    assert [row[:2] for row in empty] == [row[:2] for row in found]


def test_empty_cells_are_as_noisy_as_full_ones() -> None:
    query = schema(ROWS, keys=1)
    domain = tuple(str(number) for number in range(2000))
    (found,) = release([result(query, [])], rules(agreed("1"), (domain,)))
    zeros = sum(row[1] == 0 for row in found)
    assert is_plausible(zeros, 2000, laplace_chance(0, 1.0))


def test_no_rows_at_all_is_a_noisy_nothing() -> None:
    ((row,),) = release([result(schema(ROWS, AGE), [()])], rules(LOUD))
    assert row[0] == 0
    assert abs(row[1]) < 400


def test_unknown_keys_come_out_only_if_many_units_have_them() -> None:
    query, keys = schema(UNITS, AGE, keys=1), [("rare",), (None,), ("common",)]
    rows = [(0, 0, 1, 50)]
    rows += [(1, unit, 1, 50) for unit in range(1, 400)]
    rows += [(2, unit, 1, 50) for unit in range(400, 800)]
    under = rules(agreed("1", "1e-6"), (None,))
    (found,) = release([result(query, keys, *rows)], under)
    assert [row[0] for row in found] == ["common", None]
    for row in found:
        assert abs(row[1] - 400) < 12 * 6.5
        assert abs(row[2] - 20_000) < 12 * 120 * 6.5


def test_sums_by_unknown_keys_are_decided_by_units_and_show_no_count() -> None:
    query, keys = schema(AMOUNT, keys=1), [("a",), ("b",)]
    rows = [(0, unit, 100) for unit in range(600)] + [(1, 700, 100)]
    (found,) = release([result(query, keys, *rows)], rules(agreed("1", "1e-6"), (None,)))
    assert [row[0] for row in found] == ["a"]
    assert len(found[0]) == 2


def test_a_cell_without_any_kept_unit_never_comes_out() -> None:
    """Also not with a low threshold: it isn't among what is thresholded at all."""
    query, keys = schema(ROWS, keys=1), [("a",), ("nobody's",)]
    under = rules(agreed("100", "0.5"), (None,))
    for _ in range(200):
        (found,) = release([result(query, keys, *people(50, 1))], under)
        assert [row[0] for row in found] == ["a"]


def test_large_values_fit_their_type() -> None:
    greatest = 10**37
    huge = Component(ComponentKind.SUM, ("x",), 10, (-greatest, greatest), True, 0)
    query = schema(huge)
    column = Contributed(np.full(90, greatest >> 62), np.full(90, greatest & (2**62 - 1)))
    found = Contributions(1, np.zeros(90, np.int32), np.arange(90, dtype=np.int32), (column,))
    ((row,),) = release([CellQueryResult(query, [()], found)], rules(agreed("1")))
    assert isinstance(row[0], Decimal)
    assert len(row[0].as_tuple().digits) <= 38


def test_several_cell_queries_are_each_released() -> None:
    first, second = schema(ROWS), schema(UNITS, keys=1)
    under = rules(LOUD, (), (("a", "b"),))
    found = release(
        [result(first, [()], *people(5, 1)), result(second, [("b",)], *people(3, 1))], under
    )
    assert found == [[(5,)], [("a", 0), ("b", 3)]]


def test_nothing_comes_out_when_the_mechanism_costs_more_than_was_debited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contributions = result(schema(ROWS), [()], *people(5, 1))
    real = NoisyComponent.scale.fget  # type: ignore[attr-defined]
    for guarantee in (agreed("0.777"), agreed("0.777", "1e-6")):
        under = rules(guarantee)
        release([contributions], under)
        with monkeypatch.context() as patch:
            patch.setattr(NoisyComponent, "scale", property(lambda self: real(self) * 0.999))
            dp_noise.mechanism_for.cache_clear()
            with pytest.raises(PrivacyCostError):
                release([contributions], under)
        dp_noise.mechanism_for.cache_clear()


def test_nothing_comes_out_when_no_threshold_is_within_what_was_debited() -> None:
    rho = agreed("1", "1e-6").rho
    under = DpRules(PrivacyCost(None, rho, 1), 1000, 1, ((None,),))
    with pytest.raises(PrivacyCostError):
        release([result(schema(ROWS, keys=1), [("a",)], *people(5, 1))], under)


def test_thresholds_rise_as_delta_falls() -> None:
    found = []
    for delta in ("0.1", "1e-3", "1e-6", "1e-9", "1e-12"):
        under = rules(agreed("1", delta), (None,))
        (plan,) = plan_release([schema(UNITS, keys=1)], under)
        threshold = mechanism_for(plan.components[0]).threshold
        assert threshold is not None
        found.append(threshold)
    assert all(lower < higher for lower, higher in pairwise(found))


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 1, 1), (0, 1, 2)],  # one unit twice in a cell: not bounded then
        [(1, 1, 1)],  # no such cell
        [(-1, 1, 1)],
        [(0, -1, 1)],
    ],
)
def test_contributions_that_break_their_promise_are_refused(rows: list[tuple[int, ...]]) -> None:
    with pytest.raises(ContributionsError):
        release([result(schema(ROWS), [()], *rows)], rules(LOUD))
