"""How a cost is shared among components, and what can't be released."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import pytest
from dp_world import AGE, AMOUNT, ROWS, UNITS, agreed, rules, schema
from opendp import domains, measurements, metrics
from opendp.mod import binary_search

from luoshu.sandbox.release.dp_budget import EPSILON_UNITS, BudgetError
from luoshu.sandbox.release.dp_noise import mechanism_for, require_paid
from luoshu.sandbox.release.dp_plan import DpRules, NoisyComponent, PlanError, plan_release
from luoshu.sandbox.schema import CellSchema, Component, ComponentKind, SchemaError

SET = Component(ComponentKind.SET)
SEXES = ("f", "m")
ONE = agreed("1")
APPROXIMATE = agreed("1", "1e-6")


def components_of(*schemas: CellSchema, under: DpRules) -> list[NoisyComponent]:
    return [one for plan in plan_release(schemas, under) for one in plan.components]


def test_a_count_has_the_noise_that_was_promised() -> None:
    (pure,) = components_of(schema(ROWS), under=rules(ONE))
    assert 1.3 < pure.deviation <= 1.5
    (gaussian,) = components_of(schema(ROWS), under=rules(APPROXIMATE))
    assert 4 < gaussian.deviation <= 5.5


def needed_laplace(sensitivity: int, epsilon: float) -> float:
    space = domains.vector_domain(domains.atom_domain(T="i64")), metrics.l1_distance(T="i64")
    return float(
        binary_search(
            lambda s: measurements.make_laplace(*space, s).map(sensitivity) <= epsilon,
            bounds=(1e-6, 1e18),
        )
    )


def needed_gaussian(sensitivity: float, rho: float) -> float:
    space = domains.vector_domain(domains.atom_domain(T="i64")), metrics.l2_distance(T="f64")
    return float(
        binary_search(
            lambda s: measurements.make_gaussian(*space, s).map(sensitivity) <= rho,
            bounds=(1e-6, 1e18),
        )
    )


@pytest.mark.parametrize("epsilon", ["0.001", "0.3", "1", "7"])
@pytest.mark.parametrize(("cells", "rows"), [(1, 1), (3, 5)])
def test_noise_is_within_one_percent_of_what_the_mechanism_needs(
    epsilon: str, cells: int, rows: int
) -> None:
    query = schema(ROWS, AMOUNT, UNITS, keys=1)
    domain = ((tuple("abcdef"),),)
    under = rules(agreed(epsilon), *domain, cells_per_unit=cells, rows_per_cell=rows)
    for one, reach in zip(components_of(query, under=under), (rows, 10_000 * rows, 1), strict=True):
        need = needed_laplace(cells * reach, float(epsilon) / 3)
        assert need <= one.scale * (1 + 1e-9) <= need * 1.01
    under = rules(agreed(epsilon, "1e-7"), *domain, cells_per_unit=cells, rows_per_cell=rows)
    for one, reach in zip(components_of(query, under=under), (rows, 10_000 * rows, 1), strict=True):
        rho = agreed(epsilon, "1e-7").rho / EPSILON_UNITS / 3
        need = needed_gaussian(math.sqrt(cells) * reach, rho)
        assert need <= one.scale * (1 + 1e-9) <= need * 1.01


def test_all_components_of_all_cell_queries_share_evenly() -> None:
    under = rules(ONE, (), ((*SEXES,),))
    found = components_of(schema(ROWS, AGE), schema(UNITS, keys=1), under=under)
    assert [one.epsilon for one in found] == [EPSILON_UNITS // 3] * 3
    spent = sum((mechanism_for(one).loss for one in found), Fraction(0))
    assert Fraction(999, 1000) < spent <= 1
    require_paid(found, under.cost)


def test_sets_take_no_share() -> None:
    (count,) = components_of(schema(ROWS, SET), under=rules(ONE))
    assert (count.index, count.epsilon) == (0, EPSILON_UNITS)


def test_without_keys_a_unit_is_in_one_cell() -> None:
    (count,) = components_of(schema(ROWS), under=rules(ONE, cells_per_unit=8))
    assert count.cells == 1
    (count,) = components_of(schema(ROWS, keys=1), under=rules(ONE, (SEXES,), cells_per_unit=8))
    assert count.cells == 2


def test_bounds_and_rows_limit_a_units_reach() -> None:
    under = rules(ONE, rows_per_cell=4)
    rows, amount, units = components_of(schema(ROWS, AMOUNT, UNITS), under=under)
    assert (rows.low, rows.high, rows.reach) == (0, 4, 4)
    assert (amount.low, amount.high, amount.reach) == (-200_00, 400_00, 400_00)
    assert (units.low, units.high, units.reach) == (0, 1, 1)


@pytest.mark.parametrize(("bounds", "clamp"), [((5, 9), (0, 9)), ((-9, -5), (-9, 0))])
def test_zero_is_always_within(bounds: tuple[int, int], clamp: tuple[int, int]) -> None:
    one = Component(ComponentKind.SUM, ("x",), 0, bounds, False, 0)
    (found,) = components_of(schema(one), under=rules(ONE))
    assert (found.low, found.high, found.reach) == (*clamp, 9)


def test_large_sums_are_released_in_steps_far_below_the_noise() -> None:
    greatest = 10**20 + 7
    wide = Component(ComponentKind.SUM, ("x", "y"), 6, (0, greatest), True, 0)
    (found,) = components_of(schema(wide), under=rules(ONE))
    assert found.reach <= 2**31
    assert (found.reach - 1) << found.shift < greatest <= found.reach << found.shift
    assert 2**found.shift < found.deviation * 1e-9
    assert found.deviation == pytest.approx(math.sqrt(2) * greatest, rel=1e-6)


def test_unknown_keys_are_decided_by_units_else_rows_else_a_count_of_their_own() -> None:
    under = rules(APPROXIMATE, (None,))
    for components, place, index in (
        ((ROWS, UNITS), 1, 1),
        ((AMOUNT, ROWS), 1, 1),
        ((AMOUNT,), 1, None),
    ):
        (plan,) = plan_release([schema(*components, keys=1)], under)
        assert plan.deciding == place
        assert plan.components[place].index == index
        assert [one.delta > 0 for one in plan.components].index(True) == place
        assert {one.rho for one in plan.components} == {under.cost.rho // len(plan.components)}


def test_thresholds_share_delta() -> None:
    under = rules(APPROXIMATE, (None,), (None,))
    found = components_of(schema(ROWS, keys=1), schema(UNITS, keys=1), under=under)
    assert [one.delta for one in found] == [under.cost.delta // 2] * 2
    for one in found:
        mechanism = mechanism_for(one)
        assert mechanism.delta <= Fraction(one.delta, 10**15)
        assert mechanism.threshold == pytest.approx(one.threshold_estimate, abs=1.5)
    require_paid(found, under.cost)


def test_one_key_without_domain_makes_all_unknown() -> None:
    query = CellSchema(("p.t",), schema(keys=2).keys, (ROWS,), None, ("a", "b"))
    (plan,) = plan_release([query], rules(APPROXIMATE, (SEXES, None)))
    assert plan.domains is None
    with pytest.raises(BudgetError):
        rules(ONE, (SEXES, None))


def test_delta_isnt_spent_that_wasnt_debited() -> None:
    free = rules(APPROXIMATE, (SEXES,))
    unknown = DpRules(free.cost, 1, 1, ((None,),))
    with pytest.raises(BudgetError, match="delta > 0"):
        plan_release([schema(ROWS, keys=1)], unknown)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (schema(Component(ComponentKind.SUM, ("x",), 0, None, False, 0)), "bounds"),
        (CellSchema(("p.t",), (), (ROWS,), 0, ()), "COUNT"),
        (schema(SET), "nothing"),
        (schema(ROWS, keys=1), "each key needs"),
    ],
)
def test_what_has_no_proof_is_refused(query: CellSchema, reason: str) -> None:
    with pytest.raises(PlanError, match=reason):
        plan_release([query], rules(ONE))


def test_more_cells_than_can_be_noised_are_refused() -> None:
    many = tuple(str(number) for number in range(500))
    query = CellSchema(("p.t",), schema(keys=2).keys, (ROWS,), None, ("a", "b"))
    with pytest.raises(PlanError, match="fewer columns"):
        plan_release([query], rules(ONE, (many, many)))


def test_an_epsilon_too_small_to_share_is_refused() -> None:
    with pytest.raises(PlanError, match="too small"):
        plan_release([schema(ROWS, AGE)], rules(agreed("1e-12")))


def test_rules_survive_their_json_form_and_no_other_is_read() -> None:
    under = rules(APPROXIMATE, (SEXES, None), (), cells_per_unit=3, rows_per_cell=2)
    text = json.loads(json.dumps(under.to_json()))
    assert DpRules.from_json(text) == under
    for wrong in (
        {"mode": "aggregate"},
        {"cells_per_unit": 0},
        {"cells_per_unit": True},
        {"rows_per_cell": 10**7},
        {"domains": None},
        {"domains": [[["a", "a"]]]},
        {"domains": [[[]]]},
        {"domains": [[[1]]]},
        {"surplus": 1},
    ):
        with pytest.raises(SchemaError):
            DpRules.from_json({**text, **wrong})


def test_the_documented_noise_is_what_there_is() -> None:
    text = (Path(__file__).parents[2] / "docs" / "differential-privacy.md").read_text("utf-8")
    rows = re.findall(r"^\| ([0-9.]+) \| ([0-9.]+) \| ([0-9.]+) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    for epsilon, *deviations in rows:
        for delta, deviation in zip(("0", "1e-6"), deviations, strict=True):
            (count,) = components_of(schema(ROWS), under=rules(agreed(epsilon, delta)))
            assert f"{count.deviation:.2f}" == deviation
