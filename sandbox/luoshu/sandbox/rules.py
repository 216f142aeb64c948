"""The rules by which a computation releases: a contract's, and the products' floors below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from luoshu.sandbox.dp_agreement import DpLimits
from luoshu.sandbox.prepared import PreparedProduct

MAX_CONFLICTS = 4
"""Cells in conflict with the history beyond which a computation releases nothing."""


@dataclass(frozen=True, slots=True)
class ReleaseRules:
    """A contract's release section; the defaults ask for nothing beyond the products' floors.

    Attributes:
        mode: `aggregate` or `dp`.
        min_units: Fewest distinct units behind anything released; the product's
            floor holds as well.
        jitter: Most that the threshold of a cell is raised by; the greater one holds.
        dominance_ppm: Most that one unit may contribute to a value, in parts per million of the
            sum of absolute contributions; the lesser one holds.
        scope: `contract`, `participant` or `product`: what results are compared with; who makes
            the history port acts on it.
        debits: Computations withheld against history, or failed, until the contract is suspended;
            who counts them acts on it.
        dp: What one computation may cost under mode `dp`; None leaves it to the products.
    """

    mode: str = "aggregate"
    min_units: int = 1
    jitter: int = 0
    dominance_ppm: int = 1_000_000
    scope: str = "contract"
    debits: int = 16
    dp: DpLimits | None = None


def strictest(rules: ReleaseRules, products: Sequence[PreparedProduct]) -> ReleaseRules:
    """The strictest of some rules and the floors of some products, part by part."""
    floors = [product.release for product in products if product.domain]
    return replace(
        rules,
        min_units=max([rules.min_units, *(floor.min_units for floor in floors)]),
        jitter=max([rules.jitter, *(floor.jitter for floor in floors)]),
        dominance_ppm=min([rules.dominance_ppm, *(floor.dominance_ppm for floor in floors)]),
    )
