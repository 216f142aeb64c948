"""What differentially private releases cost, and the budgets that they are debited from.

Pure functions over integers, without data and without a privacy library, so that a cost is known
before anything runs. Adjacency is adding or removing one privacy unit with all its rows.

Two accountants, chosen by the δ that a budget allows:

- δ = 0: pure ε, added up;
- δ > 0: zero-concentrated differential privacy. ρ is added up (Bun and Steinke 2016, Lemma 1.7;
  costs may be chosen after seeing earlier results: Whitehouse et al. 2023, Theorem 1), and beside
  it the δ that thresholding of unknown keys spends.

An agreed (ε, δ) means the same for one computation, for a contract's quota and for the budget of
a domain: nine tenths of δ pay for converting ρ into ε (Canonne, Kamath and Steinke 2020,
Corollary 13), one tenth is for thresholding. So a budget of (ε, δ) affords exactly one
computation of (ε, δ), with declared keys or without; the split costs 0.5 % more noise.

A pure computation in a budget with δ > 0 is debited by ρ = ε²/2 (Bun and Steinke, Proposition
1.4). A computation with δ > 0 has no pure guarantee: a budget without δ can't pay for it.

Nothing is ever given back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from luoshu.sandbox.schema import checked_count, exact_fields

EPSILON_UNITS: Final = 10**12
"""ε and ρ are kept as whole numbers of 10^-12."""

DELTA_UNITS: Final = 10**15
"""δ is kept as a whole number of 10^-15."""

MAX_EPSILON: Final = 100
MIN_DELTA: Final = Decimal("1e-12")
_THRESHOLD_PARTS: Final = 10
_FLOAT_MARGIN: Final = 1e-9
"""By how much a computed ρ is lowered, relatively: far more than the logarithms' error."""


class BudgetError(ValueError):
    """A guarantee that can't be given, or not by the rules in force."""


class BudgetExhaustedError(Exception):
    """A debit that the budget, or the quota within it, can't pay for."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """(ε, δ)-differential privacy for adding or removing one unit.

    Attributes:
        epsilon: In units of 10^-12.
        delta: In units of 10^-15; 0 is pure differential privacy.
    """

    epsilon: int
    delta: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= MAX_EPSILON * EPSILON_UNITS:
            raise BudgetError(f"epsilon must be greater than 0 and at most {MAX_EPSILON}")
        if self.delta and not MIN_DELTA * DELTA_UNITS <= self.delta < DELTA_UNITS:
            raise BudgetError(f"delta must be 0, or at least {MIN_DELTA} and less than 1")

    @classmethod
    def of(cls, epsilon: Decimal, delta: Decimal = Decimal(0)) -> Guarantee:
        """Reads decimals; what has more digits than the units hold is rounded down.

        Raises:
            BudgetError: Out of range.
        """
        if not epsilon.is_finite() or not delta.is_finite():
            raise BudgetError("epsilon and delta must be numbers")
        return cls(int(epsilon * EPSILON_UNITS), int(delta * DELTA_UNITS))

    @property
    def is_pure(self) -> bool:
        """Whether it is accounted by adding up ε."""
        return self.delta == 0

    @property
    def threshold_delta(self) -> int:
        """The part of δ that is for thresholding."""
        return self.delta // _THRESHOLD_PARTS

    @property
    def rho(self) -> int:
        """The largest ρ for which ρ-zCDP implies (ε, δ without its part for thresholding).

        Raises:
            BudgetError: δ is 0, or (ε, δ) leaves no ρ.
        """
        if self.is_pure:
            raise BudgetError("a pure guarantee has no rho")
        delta = (self.delta - self.threshold_delta) / DELTA_UNITS
        rho = largest_rho(self.epsilon / EPSILON_UNITS, delta)
        units = math.floor(rho * (1 - _FLOAT_MARGIN) * EPSILON_UNITS)
        if units <= 0:
            raise BudgetError("epsilon is too small for this delta")
        return units


@dataclass(frozen=True, slots=True)
class PrivacyCost:
    """What one computation, or several together, spend.

    Attributes:
        epsilon: The pure ε, in 10^-12; None if there is no pure guarantee.
        rho: ρ of the zero-concentrated guarantee, in 10^-12.
        delta: What thresholding spends, in 10^-15.
    """

    epsilon: int | None = 0
    rho: int = 0
    delta: int = 0

    def __add__(self, other: PrivacyCost) -> PrivacyCost:
        """Composition, also of computations chosen after seeing earlier results."""
        pure = None if None in (self.epsilon, other.epsilon) else _sum(self.epsilon, other.epsilon)
        return PrivacyCost(pure, self.rho + other.rho, self.delta + other.delta)

    def to_json(self) -> dict[str, object]:
        """The JSON form."""
        return {"epsilon": self.epsilon, "rho": self.rho, "delta": self.delta}

    @classmethod
    def from_json(cls, value: object) -> PrivacyCost:
        """Reads the JSON form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        fields = exact_fields(value, "epsilon", "rho", "delta")
        pure = fields["epsilon"]
        return cls(
            None if pure is None else checked_count(pure),
            checked_count(fields["rho"]),
            checked_count(fields["delta"]),
        )


def cost_of(agreed: Guarantee, *, unknown_keys: bool) -> PrivacyCost:
    """What a computation under these terms costs, whatever it asks and whatever the data.

    Args:
        agreed: (ε, δ) of one computation.
        unknown_keys: Whether any of its group keys has no declared domain.

    Raises:
        BudgetError: Unknown keys need δ > 0, and it is 0.
    """
    if not agreed.is_pure:
        return PrivacyCost(None, agreed.rho, agreed.threshold_delta if unknown_keys else 0)
    if unknown_keys:
        raise BudgetError("group keys without declared values need a contract with delta > 0")
    # ε²/2 in units, rounded up.
    rho = -(-(agreed.epsilon**2) // (2 * EPSILON_UNITS))
    return PrivacyCost(agreed.epsilon, rho, 0)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent about the same people, and what has been.

    Used for the domain of privacy units that the holder protects, over all products, versions,
    joins and contracts; and as a contract's quota within it.

    Attributes:
        limit: The guarantee that everything together keeps.
        spent: Debits so far.
    """

    limit: Guarantee
    spent: PrivacyCost = PrivacyCost()

    def debit(self, cost: PrivacyCost) -> Budget:
        """The budget after a debit.

        Raises:
            BudgetExhaustedError: It can't be paid; nothing is spent then.
        """
        after = Budget(self.limit, self.spent + cost)
        if not after.holds:
            raise BudgetExhaustedError
        return after

    @property
    def holds(self) -> bool:
        """Whether what was spent is within the limit."""
        if self.limit.is_pure:
            return self.spent.epsilon is not None and self.spent.epsilon <= self.limit.epsilon
        return self.spent.rho <= self.limit.rho and self.spent.delta <= self.limit.threshold_delta

    @property
    def remaining(self) -> PrivacyCost:
        """What may still be spent; nothing once the limit is passed or can't be told.

        Of a limit without δ only `epsilon` counts, of another only `rho` and `delta`.
        """
        if self.limit.is_pure:
            pure = self.spent.epsilon
            return PrivacyCost(0 if pure is None else max(0, self.limit.epsilon - pure), 0, 0)
        return PrivacyCost(
            None,
            max(0, self.limit.rho - self.spent.rho),
            max(0, self.limit.threshold_delta - self.spent.delta),
        )

    def affords(self, cost: PrivacyCost) -> int:
        """How many more computations of this cost can be paid for."""
        left = self.remaining
        if not self.holds or (self.limit.is_pure and cost.epsilon is None):
            return 0
        if self.limit.is_pure:
            return (left.epsilon or 0) // max(1, cost.epsilon or 0)
        times = left.rho // max(1, cost.rho)
        return min(times, left.delta // cost.delta) if cost.delta else times


def largest_rho(epsilon: float, delta: float) -> float:
    """The ρ for which ρ-zCDP implies (ε, δ), by Canonne, Kamath and Steinke 2020, Corollary 13.

    Their bound holds for every order α > 1; the best one is searched for, so that an inexact
    search makes ρ smaller and never wrong.
    """
    log_delta = math.log(delta)

    def rho(log_order: float) -> float:
        excess = math.exp(log_order)  # α - 1
        order = 1 + excess
        tail = (log_delta + math.log(order)) / excess - math.log1p(-1 / order)
        return (epsilon + tail) / order

    low, high = math.log(1e-4), math.log(1e9)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(100):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if rho(left) < rho(right):
            low = left
        else:
            high = right
    return rho((low + high) / 2)


def _sum(first: int | None, second: int | None) -> int:
    return (first or 0) + (second or 0)
