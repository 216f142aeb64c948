"""Release rules of mode ``dp`` as users write them: numbers by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from luoshu.contracts.dp_terms import DpTerms, PrivacyBound
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.release_terms import ReleaseTerms

DP_KEYS = (
    "epsilon",
    "delta",
    "quota_epsilon",
    "quota_delta",
    "cells_per_unit",
    "rows_per_cell",
)


def with_dp_rules(release: ReleaseTerms, rules: Mapping[str, object]) -> ReleaseTerms:
    """A release section with some of its rules of mode ``dp`` replaced.

    Args:
        release: Of mode ``dp``.
        rules: By name, of `DP_KEYS`: what one computation may cost (`epsilon`, `delta`), all of
            them together (`quota_epsilon`, `quota_delta`), and how much of a person counts.

    Raises:
        DocumentError: A value that isn't fit for its rule, or no `epsilon` at all.
    """
    if not rules:
        return release
    base = release.dp
    computation = _bound(None if base is None else base.computation, rules, "")
    if computation is None:
        raise DocumentError("epsilon is missing: what one computation may cost")
    quota = _bound(None if base is None else base.quota, rules, "quota_")
    return replace(
        release,
        dp=DpTerms(
            computation,
            quota,
            _count(rules, "cells_per_unit", 1 if base is None else base.cells_per_unit),
            _count(rules, "rows_per_cell", 1 if base is None else base.rows_per_cell),
        ),
    )


def _bound(
    base: PrivacyBound | None, rules: Mapping[str, object], prefix: str
) -> PrivacyBound | None:
    epsilon, delta = f"{prefix}epsilon", f"{prefix}delta"
    if epsilon not in rules and delta not in rules:
        return base
    if base is None and epsilon not in rules:
        raise DocumentError(f"{delta} goes with {epsilon}")
    return PrivacyBound(
        _number(rules[epsilon], epsilon) if epsilon in rules or base is None else base.epsilon,
        _number(rules[delta], delta)
        if delta in rules
        else (Decimal(0) if base is None else base.delta),
    )


def _number(value: object, name: str) -> Decimal:
    # YAML reads 1e-6 as a float or a text; its shortest text is what was written.
    try:
        return Decimal(str(value))  # of True it is none
    except InvalidOperation:
        raise DocumentError(f"{name} must be a number such as 0.5 or 1e-6") from None


def _count(rules: Mapping[str, object], name: str, default: int) -> int:
    if name not in rules:
        return default
    value, text = rules[name], str(rules[name])
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal()):
        raise DocumentError(f"{name} must be a whole number")
    return int(text[:10])
