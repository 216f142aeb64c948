"""The part of the release rules that is of mode ``dp``: from manifests and terms to limits."""

from __future__ import annotations

from decimal import Decimal

from luoshu.contracts.dp_terms import DpTerms, PrivacyBound
from luoshu.contracts.release_terms import ReleaseMode, ReleaseTerms
from luoshu.sandbox.dp_agreement import DpLimits
from luoshu.sandbox.release.dp_budget import Guarantee
from luoshu.sandbox.release_floor import ReleaseFloor

__all__ = ["dp_floor", "dp_limits", "guarantee_of"]


def dp_floor(floor: ReleaseFloor) -> ReleaseTerms:
    """A product's floor of mode ``dp`` as terms. Its budget stays with the holder."""
    computation = PrivacyBound(Decimal(floor.epsilon), Decimal(floor.delta))
    dp = DpTerms(computation, None, floor.cells_per_unit, floor.rows_per_cell)
    return ReleaseTerms(ReleaseMode.DP, 1, dp=dp)


def dp_limits(terms: ReleaseTerms, floor: ReleaseTerms) -> DpLimits | None:
    """What holds for each computation, the stricter of both; None if neither names a cost."""
    agreed = terms.completed_by(floor).dp
    if agreed is None:
        return None
    strict = agreed if floor.dp is None else agreed.strictest(floor.dp)
    return DpLimits(guarantee_of(strict.computation), strict.cells_per_unit, strict.rows_per_cell)


def guarantee_of(bound: PrivacyBound) -> Guarantee:
    """A bound of the terms, as it is accounted."""
    return Guarantee.of(bound.epsilon, bound.delta)
