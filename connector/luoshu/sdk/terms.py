"""From what a user asks for to terms: a base, and what differs from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from luoshu.contracts.constraint import Constraint, LeftOperand, Operator
from luoshu.contracts.errors import ContractsError, DocumentError
from luoshu.contracts.release_terms import (
    ReleaseMode,
    ReleaseScope,
    ReleaseTerms,
    parts_per_million,
)
from luoshu.contracts.terms import Rule, Terms
from luoshu.contracts.times import format_time, to_milliseconds
from luoshu.sdk.dp_rules import DP_KEYS, with_dp_rules
from luoshu.sdk.errors import InvalidRequestError

_BEGINS = frozenset({Operator.GT, Operator.GTEQ})
_ENDS = frozenset({Operator.LT, Operator.LTEQ})
RELEASE_KEYS = ("jitter", "dominance", "scope", "debits", *DP_KEYS)
"""Rules of the release section, as users write them beside `min_units`."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Terms that a user names; None leaves what the base says.

    Attributes:
        purposes: What the results are for.
        uses: Number of computations.
        not_before: Aware UTC, inclusive.
        not_after: Aware UTC, inclusive.
        regions: Jurisdictions, ISO 3166.
        min_units: Distinct units that a released group needs.
        release: Other rules of the release section by name: jitter, dominance (a share such
            as 0.85), scope (contract, participant or product), debits; under mode dp those of
            `luoshu.sdk.dp_rules`.
    """

    purposes: Sequence[str] | None = None
    uses: int | None = None
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None
    regions: Sequence[str] | None = None
    min_units: int | None = None
    release: Mapping[str, object] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the base is taken as it is."""
        return self == Wish()

    def over(self, base: Terms) -> Terms:
        """The base with what this names: in each permission, the bounds it names are replaced.

        Exclusions by name and prohibitions stay: a wish widens or narrows bounds, it
        never lifts a ban.

        Raises:
            InvalidRequestError: The result would not be valid terms.
        """
        try:
            wished = self._constraints()
            permissions = tuple(
                Rule(
                    rule.action,
                    (*(c for c in rule.constraints if not self._replaces(c)), *wished),
                )
                for rule in base.permissions
            )
            release = with_rules(base.release, self.release or {})
            if self.min_units is not None:
                release = replace(release, min_units=self.min_units)
            return replace(base, permissions=permissions, release=release)
        except (ContractsError, ValueError) as error:
            raise InvalidRequestError(f"These terms can't be asked for: {error}.") from error

    def _constraints(self) -> tuple[Constraint, ...]:
        wished: list[Constraint] = []
        if self.purposes is not None:
            wished.append(Constraint(LeftOperand.PURPOSE, Operator.IS_ANY_OF, tuple(self.purposes)))
        if self.not_before is not None:
            wished.append(_time(Operator.GTEQ, self.not_before))
        if self.not_after is not None:
            wished.append(_time(Operator.LTEQ, self.not_after))
        if self.uses is not None:
            wished.append(Constraint(LeftOperand.COUNT, Operator.LTEQ, self.uses))
        if self.regions is not None:
            wished.append(Constraint(LeftOperand.REGION, Operator.IS_PART_OF, tuple(self.regions)))
        return tuple(wished)

    def _replaces(self, constraint: Constraint) -> bool:
        match constraint.left_operand:
            case LeftOperand.PURPOSE:
                return self.purposes is not None and not constraint.is_negative
            case LeftOperand.REGION:
                return self.regions is not None and not constraint.is_negative
            case LeftOperand.COUNT:
                return self.uses is not None
            case LeftOperand.DATE_TIME:
                return (self.not_before is not None and constraint.operator in _BEGINS) or (
                    self.not_after is not None and constraint.operator in _ENDS
                )


def with_rules(release: ReleaseTerms, rules: Mapping[str, object]) -> ReleaseTerms:
    """A release section with some of its rules replaced, given as users write them.

    Raises:
        DocumentError: An unknown rule, or a value that isn't fit for it.
    """
    dp = {name: value for name, value in rules.items() if name in DP_KEYS}
    if dp and release.mode is not ReleaseMode.DP:
        raise DocumentError(f"{next(iter(dp))} is a rule of the mode dp")
    release = with_dp_rules(release, dp)
    for name, value in rules.items():
        match name:
            case _ if name in DP_KEYS:
                continue
            case "jitter":
                release = replace(release, jitter=_whole(name, value))
            case "debits":
                release = replace(release, debits=_whole(name, value))
            case "dominance":
                release = replace(release, dominance_ppm=parts_per_million(value))
            case "scope":
                if value not in set(ReleaseScope):
                    raise DocumentError(f"scope must be one of {', '.join(ReleaseScope)}")
                release = replace(release, scope=ReleaseScope(str(value)))
            case _:
                raise DocumentError(f"a release rule must be one of {', '.join(RELEASE_KEYS)}")
    return release


def _whole(name: str, value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal()):
        raise DocumentError(f"{name} must be a whole number")
    return int(text[:10])


def as_list(value: str | Sequence[str] | None) -> Sequence[str] | None:
    """One name or several, as several."""
    return [value] if isinstance(value, str) else value


def _time(operator: Operator, moment: dt.datetime) -> Constraint:
    return Constraint(LeftOperand.DATE_TIME, operator, format_time(to_milliseconds(moment)))
