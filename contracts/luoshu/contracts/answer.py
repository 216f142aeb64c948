"""How a provider's node answers a request for a contract by itself.

Pure: the same offer, limits, request and time give the same answer. What may be
narrowed is countered, what may not be given at all is refused: a purpose or region
outside, a release weaker than the offer's. An answer never goes beyond the offer's
terms as widened by its limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias, TypeVar

from luoshu.contracts.constraint import Constraint, LeftOperand, Operator, RegionPattern
from luoshu.contracts.offer import AnswerMode, Limits, Offer
from luoshu.contracts.terms import Rule, Terms
from luoshu.contracts.times import format_time

_Item = TypeVar("_Item")
_UPPER = frozenset({Operator.LT, Operator.LTEQ})


@dataclass(frozen=True, slots=True)
class Agree:
    """Sign what is asked."""

    terms: Terms


@dataclass(frozen=True, slots=True)
class Counter:
    """Offer these terms instead: what is asked, narrowed to what may be given."""

    terms: Terms


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the negotiation.

    Attributes:
        rule: Which bound it is about: ``purpose``, ``region``, ``validity``, ``release``,
            ``templates`` or ``measurements``.
        reason: Public text for the termination.
    """

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manual:
    """Leave it to a person."""


Answer: TypeAlias = Agree | Counter | Refuse | Manual


def answer_request(offer: Offer, limits: Limits, asked: Terms, now: datetime) -> Answer:
    """Answers a request under an offer.

    Args:
        offer: The offer, from the newest version of the entry.
        limits: How far to go beyond its terms; ``offer.limits`` unless the node
            narrows them.
        asked: The terms asked for.
        now: The provider's time.

    Returns:
        `Refuse` if it can't be given, also to a person; else `Manual` for an offer
        that is answered by hand; else `Agree` or `Counter`.
    """
    if not asked.stricter_or_equal(offer.terms.release):
        return Refuse(
            "release",
            f"the offer releases by {offer.terms.release}; ask for that or stricter",
        )
    if offer.answer is AnswerMode.MANUAL:
        return Manual()
    permissions: list[Rule] = []
    for permission in asked.permissions:
        fitted = _fit_any(permission, offer.terms.permissions, limits, now)
        if isinstance(fitted, Refuse):
            return fitted
        permissions.append(fitted)
    templates = _within(asked.templates, offer.terms.templates)
    if templates is None:
        return Refuse("templates", "the offer allows its own query templates only")
    measurements = _within(asked.measurements, offer.terms.measurements)
    if measurements is None:
        return Refuse("measurements", "the offer computes with code of its own measurements only")
    given = Terms(
        permissions=tuple(dict.fromkeys(permissions)),
        release=asked.release,
        prohibitions=_join(asked.prohibitions, offer.terms.prohibitions),
        templates=templates,
        measurements=measurements,
    )
    return Agree(asked) if given == asked else Counter(given)


def _within(asked: tuple[_Item, ...], offered: tuple[_Item, ...]) -> tuple[_Item, ...] | None:
    """What is asked for of a list, where an empty one allows anything; None if nothing is left."""
    if not offered:
        return asked
    return tuple(item for item in asked or offered if item in offered) or None


def _fit_any(asked: Rule, offered: Iterable[Rule], limits: Limits, now: datetime) -> Rule | Refuse:
    """The asked permission within one of the offered: unchanged if one allows it, else narrowed."""
    best: Rule | Refuse | None = None
    for permission in offered:
        if permission.action is not asked.action:
            continue
        fitted = _fit(asked, permission, limits, now)
        if fitted == asked:
            return asked
        if best is None or (isinstance(best, Refuse) and isinstance(fitted, Rule)):
            best = fitted
    return best or Refuse("action", "the offer doesn't permit this action")


def _fit(asked: Rule, offered: Rule, limits: Limits, now: datetime) -> Rule | Refuse:
    bounds, outer = asked.bounds, offered.bounds
    purposes = frozenset(limits.purposes) or outer.purposes
    if purposes is not None and (bounds.purposes is None or not bounds.purposes <= purposes):
        return Refuse(
            "purpose", f"the offer permits these purposes only: {', '.join(sorted(purposes))}"
        )
    narrowed = _narrow_uses(asked, limits.max_uses or outer.uses)
    narrowed = _narrow_begin(narrowed, outer.not_before)
    narrowed = _narrow_end(narrowed, limits.latest_end or outer.not_after)
    begin, end = narrowed.bounds.not_before, narrowed.bounds.not_after
    if end is not None and (end <= now or (begin is not None and end < begin)):
        return Refuse("validity", "no time is left within the offer's validity")
    regions = frozenset(RegionPattern(code, True) for code in limits.regions) or outer.regions
    if regions is not None:
        inside = [pattern for pattern in bounds.regions or regions if pattern.within(regions)]
        if not inside:
            return Refuse(
                "region",
                "the offer permits these regions only: "
                f"{', '.join(sorted({pattern.code for pattern in regions}))}",
            )
        if bounds.regions is None or len(inside) != len(bounds.regions):
            narrowed = _narrow_regions(narrowed, inside)
    exclusions = [item for item in offered.constraints if item.is_negative]
    return replace(narrowed, constraints=_join(narrowed.constraints, exclusions))


def _narrow_uses(rule: Rule, limit: int | None) -> Rule:
    uses = rule.bounds.uses
    if limit is None or (uses is not None and uses <= limit):
        return rule
    constraint = Constraint(LeftOperand.COUNT, Operator.LTEQ, limit)
    kept = [item for item in rule.constraints if item.left_operand is not LeftOperand.COUNT]
    return replace(rule, constraints=(*kept, constraint))


def _narrow_begin(rule: Rule, earliest: datetime | None) -> Rule:
    begin = rule.bounds.not_before
    if earliest is None or (begin is not None and begin >= earliest):
        return rule
    constraint = Constraint(LeftOperand.DATE_TIME, Operator.GTEQ, format_time(earliest))
    kept = [
        item
        for item in rule.constraints
        if item.left_operand is not LeftOperand.DATE_TIME or item.operator in _UPPER
    ]
    return replace(rule, constraints=(*kept, constraint))


def _narrow_end(rule: Rule, latest: datetime | None) -> Rule:
    end = rule.bounds.not_after
    if latest is None or (end is not None and end <= latest):
        return rule
    constraint = Constraint(LeftOperand.DATE_TIME, Operator.LTEQ, format_time(latest))
    kept = [
        item
        for item in rule.constraints
        if item.left_operand is not LeftOperand.DATE_TIME or item.operator not in _UPPER
    ]
    return replace(rule, constraints=(*kept, constraint))


def _narrow_regions(rule: Rule, inside: Iterable[RegionPattern]) -> Rule:
    """Replaces what the rule admits by name with ``inside``; its exclusions stay.

    Patterns admit exactly or with parts; one constraint can't say both, so whatever
    mixes them is admitted exactly: narrower, never wider.
    """
    patterns = sorted(set(inside))
    operator = Operator.IS_PART_OF if all(item.nested for item in patterns) else Operator.IS_ANY_OF
    codes = tuple(dict.fromkeys(item.code for item in patterns))
    kept = [
        item
        for item in rule.constraints
        if item.left_operand is not LeftOperand.REGION or item.is_negative
    ]
    constraint = Constraint(LeftOperand.REGION, operator, codes)
    return replace(rule, constraints=(*kept, constraint))


def _join(first: Iterable[_Item], second: Iterable[_Item]) -> tuple[_Item, ...]:
    """Both, in order, each once."""
    return tuple(dict.fromkeys((*first, *second)))
