"""Which release rules hold for a computation: the strictest of its contract and its product.

The contract was no weaker than the product's floor when it was concluded. The product may have
been prepared again since, with a stricter floor; what is stricter counts, part by part.
"""

from __future__ import annotations

from luoshu.contracts.release_terms import ReleaseMode, ReleaseTerms
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import ReleaseRules

__all__ = ["effective_rules", "floor_of"]


def floor_of(product: PreparedProduct) -> ReleaseTerms:
    """The release floor of a prepared product, as terms."""
    floor = product.release
    return ReleaseTerms(ReleaseMode(floor.mode), floor.min_units)


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
    )
