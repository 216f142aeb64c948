"""Noise: OpenDP's discrete mechanisms on integers, and what they say they cost.

The only module that knows OpenDP, and the only source of randomness of a noisy value. Each
mechanism is asked for its own privacy map; it is OpenDP's arithmetic, rounded against us, that
decides whether what was debited pays for it, not ours that chose the scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from opendp import domains, measurements, metrics
from opendp.mod import Measurement, enable_features

from luoshu.sandbox.release.dp_budget import DELTA_UNITS, EPSILON_UNITS, PrivacyCost
from luoshu.sandbox.release.dp_plan import NoisyComponent

# Discrete noise and thresholds are "contrib": reviewed, with proof documents, but not by OpenDP's
# formal process. Floating-point mechanisms stay off.
enable_features("contrib")

_INTEGERS: Final = domains.vector_domain(domains.atom_domain(T="i64"))
_MOST_THRESHOLD: Final = 1 << 60
_COUNTS: Final = domains.map_domain(domains.atom_domain(T="u32"), domains.atom_domain(T="i64"))
_WIDER: Final = 1 + 2.0**-40
"""A scale is this much larger than needed, so that rounding in the privacy map stays within."""


class PrivacyCostError(Exception):
    """The mechanisms would cost more than was debited: nothing may come out."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """An OpenDP measurement for one component, and its own word on what it costs.

    Attributes:
        measurement: Takes a list of integers, or, where it thresholds, a mapping by cell.
        loss: ε, or ρ where the noise is Gaussian.
        delta: Of thresholding.
        threshold: The least noisy count that keeps a cell; None where it decides on none.
    """

    measurement: Measurement
    loss: Fraction
    delta: Fraction
    threshold: int | None


@lru_cache(maxsize=256)
def mechanism_for(component: NoisyComponent) -> Mechanism:
    """The mechanism with the noise that the component's share pays for.

    Raises:
        PrivacyCostError: No threshold is within its share of δ.
    """
    scale = component.scale * _WIDER
    if component.delta:
        return _thresholding(component, scale)
    if component.epsilon is not None:
        laplace = measurements.make_laplace(_INTEGERS, metrics.l1_distance(T="i64"), scale)
        loss = _map(laplace, component.cells * component.reach)
        return Mechanism(laplace, _exact(loss), Fraction(0), None)
    gaussian = measurements.make_gaussian(_INTEGERS, metrics.l2_distance(T="f64"), scale)
    return Mechanism(gaussian, _exact(_map(gaussian, _euclidean(component))), Fraction(0), None)


def _thresholding(component: NoisyComponent, scale: float) -> Mechanism:
    distance = metrics.l02inf_distance(metrics.absolute_distance(T="f64"))
    change = (component.cells, _euclidean(component), float(component.reach))
    share = Fraction(component.delta, DELTA_UNITS)

    def at(threshold: int) -> Mechanism:
        measurement = measurements.make_gaussian_threshold(_COUNTS, distance, scale, threshold)
        loss, delta = _map(measurement, change)
        return Mechanism(measurement, _exact(loss), _exact(delta), threshold)

    # δ falls as the threshold grows; at `reach` a unit alone would pass half the time.
    low, high = component.reach, max(component.reach + 1, math.ceil(component.threshold_estimate))
    found = at(high)
    while found.delta > share:
        if high > _MOST_THRESHOLD:
            raise PrivacyCostError
        low, high = high, 2 * high
        found = at(high)
    while high - low > 1:
        middle = (low + high) // 2
        candidate = at(middle)
        if candidate.delta <= share:
            high, found = middle, candidate
        else:
            low = middle
    return found


def add_noise(component: NoisyComponent, sums: list[int]) -> list[int]:
    """Each sum with its noise, all in multiples of 2^shift."""
    return [int(value) for value in mechanism_for(component).measurement(sums)] if sums else []


def keep_large(component: NoisyComponent, sums: dict[int, int]) -> dict[int, int]:
    """Noisy counts of the cells that exist: those whose noisy count reaches the threshold.

    Args:
        component: One with a share of the δ of thresholding.
        sums: Exact counts, greater than 0, of the cells that have any.
    """
    noisy = mechanism_for(component).measurement(sums)
    return {int(cell): int(count) for cell, count in noisy.items()}


def require_paid(components: Sequence[NoisyComponent], cost: PrivacyCost) -> None:
    """Checks the composition of all mechanisms against what was debited, before any runs.

    Raises:
        PrivacyCostError: By their own privacy maps they would cost more.
    """
    mechanisms = [mechanism_for(component) for component in components]
    paid = cost.rho if cost.epsilon is None else cost.epsilon
    if sum(one.loss for one in mechanisms) > Fraction(paid, EPSILON_UNITS):
        raise PrivacyCostError
    if sum(one.delta for one in mechanisms) > Fraction(cost.delta, DELTA_UNITS):
        raise PrivacyCostError


def _euclidean(component: NoisyComponent) -> float:
    """L2 sensitivity: the same change in each of the cells."""
    return math.nextafter(math.sqrt(component.cells) * component.reach, math.inf)


def _map(measurement: Measurement, change: object) -> Any:
    return measurement.map(change)  # type: ignore[no-untyped-call]


def _exact(value: float) -> Fraction:
    if not math.isfinite(value):
        raise PrivacyCostError
    return Fraction(value)
