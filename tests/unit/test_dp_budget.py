"""What differentially private computations cost, and that budgets hold."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from dp_world import agreed
from opendp import combinators, domains, measurements, metrics

from luoshu.sandbox.release.dp_budget import (
    DELTA_UNITS,
    EPSILON_UNITS,
    Budget,
    BudgetError,
    BudgetExhaustedError,
    Guarantee,
    PrivacyCost,
    cost_of,
    largest_rho,
)
from luoshu.sandbox.schema import SchemaError

AGREED = [("1", "1e-6"), ("0.1", "1e-9"), ("0.001", "1e-12"), ("10", "1e-6"), ("100", "0.01")]


def opendp_epsilon(rho: Fraction, delta: float) -> float:
    """What OpenDP says of a Gaussian mechanism of this ρ."""
    space = domains.atom_domain(T="f64", nan=False), metrics.absolute_distance(T="f64")
    gaussian = measurements.make_gaussian(*space, scale=1 / math.sqrt(2 * float(rho)))
    return float(combinators.make_zCDP_to_approxDP(gaussian).map(1.0).epsilon(delta))


@pytest.mark.parametrize(("epsilon", "delta"), AGREED)
def test_opendp_agrees_that_rho_keeps_the_guarantee(epsilon: str, delta: str) -> None:
    guarantee = agreed(epsilon, delta)
    cost = cost_of(guarantee, unknown_keys=True)
    converting = (guarantee.delta - guarantee.threshold_delta) / DELTA_UNITS
    reached = opendp_epsilon(Fraction(cost.rho, EPSILON_UNITS), converting)
    assert float(epsilon) * 0.999 <= reached <= float(epsilon)
    assert guarantee.threshold_delta + (guarantee.delta - guarantee.threshold_delta) == (
        guarantee.delta
    )


@pytest.mark.parametrize(("epsilon", "delta"), AGREED)
def test_no_order_gives_a_larger_rho(epsilon: str, delta: str) -> None:
    found = largest_rho(float(epsilon), float(delta))
    for step in range(-900, 2000):
        excess = math.exp(step / 100)
        order = 1 + excess
        tail = (math.log(float(delta)) + math.log(order)) / excess - math.log1p(-1 / order)
        assert (float(epsilon) + tail) / order <= found * (1 + 1e-9)


def test_a_thousandth_of_noise_pays_for_thresholding() -> None:
    whole = largest_rho(1, 1e-6)
    assert math.sqrt(whole / (agreed("1", "1e-6").rho / EPSILON_UNITS)) < 1.005


def test_pure_costs_add_up_exactly() -> None:
    budget = Budget(agreed("1"))
    cost = cost_of(agreed("0.1"), unknown_keys=False)
    assert budget.affords(cost) == 10
    for left in range(9, -1, -1):
        budget = budget.debit(cost)
        assert budget.affords(cost) == left
    with pytest.raises(BudgetExhaustedError):
        budget.debit(PrivacyCost(1, 0, 0))
    assert budget.spent.epsilon == EPSILON_UNITS
    assert budget.remaining == PrivacyCost(0, 0, 0)


@pytest.mark.parametrize("unknown_keys", [False, True])
@pytest.mark.parametrize(("epsilon", "delta"), AGREED)
def test_a_budget_affords_one_computation_of_its_own_guarantee(
    epsilon: str, delta: str, unknown_keys: bool
) -> None:
    cost = cost_of(agreed(epsilon, delta), unknown_keys=unknown_keys)
    budget = Budget(agreed(epsilon, delta)).debit(cost)
    assert budget.affords(cost) == 0
    with pytest.raises(BudgetExhaustedError):
        budget.debit(cost)


def test_zcdp_composes_better_than_epsilon() -> None:
    cost = cost_of(agreed("0.1", "1e-6"), unknown_keys=False)
    assert Budget(agreed("1", "1e-6")).affords(cost) == 76


def test_thresholding_spends_delta_of_its_own() -> None:
    budget = Budget(agreed("1", "1e-6"))
    cost = cost_of(agreed("0.01", "5e-7"), unknown_keys=True)
    assert budget.affords(cost) == 2
    after = budget.debit(cost).debit(cost)
    assert after.remaining.delta == 0
    assert after.affords(cost_of(agreed("0.01", "5e-7"), unknown_keys=False)) > 0
    with pytest.raises(BudgetExhaustedError):
        after.debit(cost)


def test_a_pure_budget_pays_for_nothing_gaussian() -> None:
    cost = cost_of(agreed("0.01", "1e-9"), unknown_keys=False)
    budget = Budget(agreed("50"))
    assert budget.affords(cost) == 0
    with pytest.raises(BudgetExhaustedError):
        budget.debit(cost)


def test_what_was_spent_otherwise_before_counts_against_a_pure_budget() -> None:
    spent = cost_of(agreed("0.01", "1e-9"), unknown_keys=False)
    budget = Budget(agreed("50"), spent)
    assert not budget.holds
    assert budget.remaining == PrivacyCost(0, 0, 0)
    assert budget.affords(cost_of(agreed("0.01"), unknown_keys=False)) == 0


def test_a_pure_computation_costs_half_its_epsilon_squared_in_rho() -> None:
    cost = cost_of(agreed("0.1"), unknown_keys=False)
    assert Fraction(cost.rho, EPSILON_UNITS) == Fraction(1, 200)
    odd = cost_of(Guarantee(3), unknown_keys=False)
    assert odd.rho == 1  # 4.5e-24, rounded up
    assert Budget(agreed("1", "1e-6")).affords(cost) == 4


def test_unknown_keys_need_delta() -> None:
    with pytest.raises(BudgetError, match="delta > 0"):
        cost_of(agreed("1"), unknown_keys=True)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [("0", "0"), ("-1", "0"), ("101", "0"), ("1", "1"), ("1", "-1e-6"), ("1", "1e-13"),
     ("NaN", "0"), ("Infinity", "0"), ("1", "NaN"), ("1e-13", "0")],
)  # fmt: skip
def test_guarantees_out_of_range_are_refused(epsilon: str, delta: str) -> None:
    with pytest.raises(BudgetError):
        Guarantee.of(Decimal(epsilon), Decimal(delta))


def test_a_guarantee_without_any_rho_is_refused() -> None:
    with pytest.raises(BudgetError, match="too small"):
        cost_of(agreed("1e-12", "1e-12"), unknown_keys=False)


def test_costs_survive_their_json_form() -> None:
    for cost in (
        cost_of(agreed("100"), unknown_keys=False),
        cost_of(agreed("100", "0.9"), unknown_keys=True),
    ):
        text = json.dumps(cost.to_json())
        assert PrivacyCost.from_json(json.loads(text)) == cost
        assert all(number is None or number < 2**53 for number in json.loads(text).values())
    for wrong in ({"epsilon": 1, "rho": 1}, {"epsilon": 1.5, "rho": 1, "delta": 0}, None):
        with pytest.raises(SchemaError):
            PrivacyCost.from_json(wrong)
