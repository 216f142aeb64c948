"""Which release rules hold for a computation: the strictest of its contract and its product.

The contract was no weaker than the product's floor when it was concluded. The product may have
been prepared again since, with a stricter floor; what is stricter counts, part by part.
"""

from __future__ import annotations

from dataclasses import replace

from luoshu.connector.dp_rules import dp_floor, dp_limits
from luoshu.contracts.release_terms import (
    AGGREGATE_DEFAULTS,
    ReleaseMode,
    ReleaseScope,
    ReleaseTerms,
)
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import ReleaseRules

__all__ = ["effective_rules", "floor_of"]


def floor_of(product: PreparedProduct) -> ReleaseTerms:
    """The release floor of a prepared product, as terms that leave open what is the default."""
    floor, default = product.release, AGGREGATE_DEFAULTS
    if floor.mode == ReleaseMode.DP:
        return dp_floor(floor)
    terms = ReleaseTerms(ReleaseMode(floor.mode), floor.min_units)
    if terms.mode is not ReleaseMode.AGGREGATE:
        return terms
    scope = ReleaseScope(floor.scope)
    return replace(
        terms,
        jitter=None if floor.jitter == default.jitter else floor.jitter,
        dominance_ppm=None if floor.dominance_ppm == default.dominance_ppm else floor.dominance_ppm,
        scope=None if scope is default.scope else scope,
        debits=None if floor.debits == default.debits else floor.debits,
    )


def effective_rules(terms: ReleaseTerms, product: PreparedProduct) -> ReleaseRules:
    """The rules for a computation under terms over a product.

    Where the two have different modes the sandbox refuses, unless the product's is ``rows``.
    """
    floor = floor_of(product)
    rule = terms.aggregate
    if floor.mode is ReleaseMode.AGGREGATE:
        rule = rule.strictest(floor.aggregate)
    return ReleaseRules(
        mode=terms.mode.value,
        min_units=max(terms.min_units, floor.min_units),
        jitter=rule.jitter,
        dominance_ppm=rule.dominance_ppm,
        scope=rule.scope.value,
        debits=rule.debits,
        dp=dp_limits(terms, floor),
    )
