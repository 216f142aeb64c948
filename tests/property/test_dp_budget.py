"""Budgets under debits in any order: never above the limit, never given back, exact."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from luoshu.sandbox.release.dp_budget import (
    EPSILON_UNITS,
    Budget,
    BudgetExhaustedError,
    Guarantee,
    PrivacyCost,
    cost_of,
)

PURE = st.builds(Guarantee, st.integers(1, 2 * EPSILON_UNITS))
APPROXIMATE = st.builds(
    Guarantee, st.integers(EPSILON_UNITS // 1000, 2 * EPSILON_UNITS), st.integers(1000, 10**10)
)
COSTS = st.one_of(
    st.builds(lambda agreed: cost_of(agreed, unknown_keys=False), PURE),
    st.builds(
        lambda agreed, unknown: cost_of(agreed, unknown_keys=unknown), APPROXIMATE, st.booleans()
    ),
)


@given(st.one_of(PURE, APPROXIMATE), st.lists(COSTS, max_size=30))
def test_debits_never_pass_the_limit(limit: Guarantee, costs: list[PrivacyCost]) -> None:
    budget, paid = Budget(limit), []
    for cost in costs:
        affordable = budget.affords(cost)
        try:
            after = budget.debit(cost)
        except BudgetExhaustedError:
            assert affordable == 0
            continue
        assert affordable >= 1
        assert after.spent.rho >= budget.spent.rho
        assert after.spent.delta >= budget.spent.delta
        budget = after
        paid.append(cost)
    assert budget.holds
    # Exact, whatever the order.
    assert budget.spent == sum(reversed(paid), PrivacyCost())
    if limit.is_pure:
        spent = sum((Fraction(cost.epsilon or 0, EPSILON_UNITS) for cost in paid), Fraction(0))
        assert all(cost.epsilon is not None for cost in paid)
        assert spent <= Fraction(limit.epsilon, EPSILON_UNITS)


@given(st.one_of(PURE, APPROXIMATE), COSTS)
def test_affords_counts_what_debit_takes(limit: Guarantee, cost: PrivacyCost) -> None:
    budget = Budget(limit)
    times = min(budget.affords(cost), 50)
    for _ in range(times):
        budget = budget.debit(cost)
    if times < 50:
        assert budget.affords(cost) == 0
