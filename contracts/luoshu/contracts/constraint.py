"""Constraints of contract terms, and the bounds that a set of them sets.

The vocabulary is ODRL 2.2's (https://www.w3.org/TR/odrl-vocab/), cut down to the
operands that policies decide today. A pair of operand and operator that nobody
could decide is refused when it is read, not when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from luoshu.contracts.canonical import MAX_INTEGER, JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields, check_region, check_token
from luoshu.contracts.times import parse_time, to_milliseconds

_MAX_VALUES = 64
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)
_LAST_MOMENT = to_milliseconds(datetime.max.replace(tzinfo=UTC))


class LeftOperand(StrEnum):
    """What a constraint is about."""

    PURPOSE = "purpose"
    DATE_TIME = "dateTime"
    COUNT = "count"
    REGION = "region"


class Operator(StrEnum):
    """ODRL operators (TC609-6-2025-14 names the same)."""

    EQ = "eq"
    NEQ = "neq"
    GT = "gt"
    GTEQ = "gteq"
    LT = "lt"
    LTEQ = "lteq"
    IS_ANY_OF = "isAnyOf"
    IS_NONE_OF = "isNoneOf"
    IS_ALL_OF = "isAllOf"
    IS_PART_OF = "isPartOf"
    HAS_PART = "hasPart"
    IS_A = "isA"


_LISTS = frozenset({Operator.IS_ANY_OF, Operator.IS_NONE_OF})
_NEGATIVE = frozenset({Operator.NEQ, Operator.IS_NONE_OF})
_ALLOWED: dict[LeftOperand, frozenset[Operator]] = {
    LeftOperand.PURPOSE: frozenset({Operator.EQ, Operator.NEQ}) | _LISTS,
    LeftOperand.REGION: frozenset({Operator.EQ, Operator.NEQ, Operator.IS_PART_OF}) | _LISTS,
    LeftOperand.DATE_TIME: frozenset({Operator.GT, Operator.GTEQ, Operator.LT, Operator.LTEQ}),
    LeftOperand.COUNT: frozenset({Operator.LT, Operator.LTEQ}),
}
# Beyond these no time can be written.
_NEVER = frozenset({(Operator.GT, _LAST_MOMENT), (Operator.LT, _FIRST_MOMENT)})


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition, as ODRL writes it.

    Attributes:
        left_operand: What it is about. ``count`` is the ordinal of the use decided.
        operator: One that this operand has.
        right_operand: A positive integer for ``count``; the signed text of a time for
            ``dateTime``; otherwise a text, or a tuple of distinct texts for
            ``isAnyOf``, ``isNoneOf`` and (either) ``isPartOf``.

    Raises:
        DocumentError: The operand doesn't have this operator or this kind of value.
    """

    left_operand: LeftOperand
    operator: Operator
    right_operand: int | str | tuple[str, ...]

    def __post_init__(self) -> None:
        if self.operator not in _ALLOWED[self.left_operand]:
            raise DocumentError(
                f"a constraint on {self.left_operand} can't use {self.operator}; it can use "
                f"{', '.join(sorted(_ALLOWED[self.left_operand]))}"
            )
        right = self.right_operand
        if self.left_operand is LeftOperand.COUNT:
            if isinstance(right, bool) or not isinstance(right, int):
                raise DocumentError("a constraint on count needs an integer")
            # Uses count from 1: `lt 1` would permit none.
            minimum = 2 if self.operator is Operator.LT else 1
            if not minimum <= right <= MAX_INTEGER:
                raise DocumentError("a constraint on count must permit at least one use")
        elif self.left_operand is LeftOperand.DATE_TIME:
            if not isinstance(right, str):
                raise DocumentError("a constraint on dateTime needs a time")
            if (self.operator, parse_time(right)) in _NEVER:
                raise DocumentError("a constraint on dateTime must permit at least one moment")
        else:
            self._check_names()

    def _check_names(self) -> None:
        right = self.right_operand
        if isinstance(right, tuple):
            allowed = self.operator in _LISTS or self.operator is Operator.IS_PART_OF
            distinct = len(set(right)) == len(right)
            if not (allowed and distinct and 1 <= len(right) <= _MAX_VALUES):
                raise DocumentError(
                    f"a constraint with {self.operator} has a list that is empty, repeats "
                    f"itself, exceeds {_MAX_VALUES} or isn't taken"
                )
        elif self.operator in _LISTS:
            raise DocumentError(f"a constraint with {self.operator} needs a list")
        check = check_region if self.left_operand is LeftOperand.REGION else check_token
        for name in self.names:
            if not isinstance(name, str):
                raise DocumentError(f"a constraint on {self.left_operand} needs text")
            check(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The texts on the right of a purpose or region constraint."""
        right = self.right_operand
        return right if isinstance(right, tuple) else (right,)  # type: ignore[return-value]

    @property
    def is_negative(self) -> bool:
        """Whether it excludes named values rather than admitting them."""
        return self.operator in _NEGATIVE

    def to_payload(self) -> JsonObject:
        """The ODRL JSON form."""
        right = self.right_operand
        return {
            "leftOperand": self.left_operand.value,
            "operator": self.operator.value,
            "rightOperand": list(right) if isinstance(right, tuple) else right,
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> Constraint:
        """Reads the ODRL JSON form strictly.

        Raises:
            DocumentError: Ill-formed, or an operand or operator that isn't known here.
        """
        fields = Fields(value, "constraint", {"leftOperand", "operator", "rightOperand"})
        right = fields.raw("rightOperand")
        if isinstance(right, list):
            operand: int | str | tuple[str, ...] = fields.strings(
                "rightOperand", len, minimum=1, maximum=_MAX_VALUES
            )
        elif isinstance(right, str):
            operand = right
        else:
            operand = fields.integer("rightOperand")
        return cls(
            fields.choice("leftOperand", LeftOperand), fields.choice("operator", Operator), operand
        )


class RegionPattern(NamedTuple):
    """A region admitted by name, with the regions inside it or without."""

    code: str
    nested: bool

    def within(self, others: Iterable[RegionPattern]) -> bool:
        """Whether whatever this admits, one of ``others`` admits too."""
        return any(
            (self.code == other.code and (other.nested or not self.nested))
            or (other.nested and self.code.startswith(f"{other.code}-"))
            for other in others
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a conjunction of constraints reaches; None where it sets no bound.

    Attributes:
        purposes: Purposes admitted by name.
        uses: Highest ordinal of a use.
        not_before: First moment, inclusive.
        not_after: Last moment, inclusive.
        regions: Regions admitted by name.
    """

    purposes: frozenset[str] | None = None
    uses: int | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    regions: frozenset[RegionPattern] | None = None


def bounds_of(constraints: Iterable[Constraint]) -> Bounds:
    """The bounds that constraints set together; exclusions by name are left out."""
    purposes: frozenset[str] | None = None
    regions: frozenset[RegionPattern] | None = None
    uses: int | None = None
    begin: datetime | None = None
    end: datetime | None = None
    for constraint in constraints:
        right = constraint.right_operand
        if constraint.is_negative:
            continue
        if constraint.left_operand is LeftOperand.PURPOSE:
            named = frozenset(constraint.names)
            purposes = named if purposes is None else purposes & named
        elif constraint.left_operand is LeftOperand.REGION:
            nested = constraint.operator is Operator.IS_PART_OF
            patterns = frozenset(RegionPattern(name, nested) for name in constraint.names)
            regions = patterns if regions is None else _both(regions, patterns)
        elif isinstance(right, int):
            limit = right - 1 if constraint.operator is Operator.LT else right
            uses = limit if uses is None else min(uses, limit)
        elif isinstance(right, str):
            moment = parse_time(right)
            if constraint.operator is Operator.GT:
                moment += _MILLISECOND
            elif constraint.operator is Operator.LT:
                moment -= _MILLISECOND
            if constraint.operator in {Operator.GT, Operator.GTEQ}:
                begin = moment if begin is None else max(begin, moment)
            else:
                end = moment if end is None else min(end, moment)
    return Bounds(purposes, uses, begin, end, regions)


def _both(
    first: frozenset[RegionPattern], second: frozenset[RegionPattern]
) -> frozenset[RegionPattern]:
    return frozenset(
        {p for p in first if p.within(second)} | {p for p in second if p.within(first)}
    )
