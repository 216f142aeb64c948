"""Auditing a privacy claim from outside: a lower bound of ε from outputs alone.

For any event E of an (ε, δ)-private mechanism, P(E | D) <= e^ε P(E | D') + δ. So a lower
confidence bound of P(E | D) and an upper one of P(E | D') give a lower bound of ε. The bounds are
Clopper and Pearson's, found by inverting the exact binomial tail; events are chosen on one half of
the runs and measured on the other, so that the choice can't fool the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

FAILURE = 1e-9
"""Chance that an audit calls a mechanism that keeps its claim a liar."""


def log_tail(successes: int, trials: int, chance: float) -> float:
    """ln P(X >= successes) for X ~ Binomial(trials, chance), from the exact probabilities."""
    if successes <= 0:
        return 0.0
    counts = np.arange(successes, trials + 1)
    terms = (
        math.lgamma(trials + 1)
        - _log_gamma(trials)[counts]
        - _log_gamma(trials)[trials - counts]
        + counts * math.log(chance)
        + (trials - counts) * math.log1p(-chance)
    )
    greatest = float(terms.max())
    return greatest + math.log(float(np.exp(terms - greatest).sum()))


_TABLES: dict[int, np.ndarray] = {}


def _log_gamma(trials: int) -> np.ndarray:
    """ln(k!) for k up to `trials`."""
    if trials not in _TABLES:
        _TABLES[trials] = np.r_[0.0, np.cumsum(np.log(np.arange(1, trials + 1)))]
    return _TABLES[trials]


def lower_bound(successes: int, trials: int, failure: float = FAILURE) -> float:
    """The chance p for which so many successes or more have probability `failure`."""
    if successes == 0:
        return 0.0
    low, high = 0.0, successes / trials
    for _ in range(60):
        middle = (low + high) / 2
        if middle > 0 and log_tail(successes, trials, middle) > math.log(failure):
            high = middle
        else:
            low = middle
    return low


def upper_bound(successes: int, trials: int, failure: float = FAILURE) -> float:
    """The chance p for which so few successes or fewer have probability `failure`."""
    return 1 - lower_bound(trials - successes, trials, failure)


def audited_epsilon(mechanism: Callable[[bool], float], runs: int, delta: float = 0.0) -> float:
    """A lower bound of ε, wrong with a chance of at most 4 * `FAILURE`.

    Args:
        mechanism: One run on one of two neighbouring data sets, True the larger one; a number.
        runs: On each.
        delta: The claimed δ.
    """
    outputs = {side: np.array([mechanism(side) for _ in range(runs)]) for side in (True, False)}
    half = runs // 2
    best = 0.0
    for first, second in ((True, False), (False, True)):
        for sign in (1, -1):
            seen, other = sign * outputs[first], sign * outputs[second]
            cut = _best_cut(seen[:half], other[:half], delta)
            often = lower_bound(int(np.sum(seen[half:] >= cut)), runs - half)
            seldom = upper_bound(int(np.sum(other[half:] >= cut)), runs - half)
            if often > delta:
                best = max(best, math.log((often - delta) / seldom))
    return best


def _best_cut(seen: np.ndarray, other: np.ndarray, delta: float) -> float:
    """The cut whose estimated ratio, lowered by what measuring it will cost, is largest."""
    cuts: Sequence[float] = np.unique(np.r_[seen, other]).tolist()
    if len(cuts) > 400:
        cuts = np.quantile(np.array(cuts), np.linspace(0, 1, 400)).tolist()
    trials = len(seen)

    def promise(cut: float) -> float:
        often, seldom = float(np.mean(seen >= cut)), float(np.mean(other >= cut))
        often -= 6 * math.sqrt(often / trials) + delta
        seldom += 6 * math.sqrt(seldom / trials) + 20 / trials
        return often / seldom

    return max(cuts, key=promise)


def is_plausible(successes: int, trials: int, chance: float, failure: float = 1e-12) -> bool:
    """Whether so many successes are what the chance lets expect: Chernoff's bound, both ways."""
    share = successes / trials
    if share == chance:
        return True
    divergence = sum(
        p * math.log(p / q) for p, q in ((share, chance), (1 - share, 1 - chance)) if p > 0
    )
    return trials * divergence <= math.log(2 / failure)
