"""The release section of terms: what may leave a sandbox at all.

What a section doesn't say has the value that `AGGREGATE_DEFAULTS` gives, today and for every
document ever signed: absent keys stay absent, so that equal terms have equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.dp_terms import DpTerms
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields

_MAX_UNITS = 1_000_000
WHOLE_PPM: Final = 1_000_000
"""A dominance of this much doesn't bound: a unit may contribute all of a cell."""


class ReleaseMode(StrEnum):
    """How results are protected."""

    AGGREGATE = "aggregate"
    ROWS = "rows"
    DP = "dp"


class ReleaseScope(StrEnum):
    """What a new result is compared with, so that no two differ by too few units."""

    CONTRACT = "contract"
    """What was released under the same contract."""
    PARTICIPANT = "participant"
    """What was released to the same organisation."""
    PRODUCT = "product"
    """What was released to anybody about the same people."""

    @property
    def strictness(self) -> int:
        """Greater is stricter: it compares with more."""
        return list(ReleaseScope).index(self)


@dataclass(frozen=True, slots=True)
class AggregateRule:
    """Everything that mode ``aggregate`` needs beside the threshold, with nothing left open.

    Attributes:
        jitter: Most that the threshold of a cell is raised by, keyed by its units.
        dominance_ppm: Most that one unit may contribute to a sum of absolute contributions,
            in parts per million.
        scope: What a result is compared with.
        debits: Computations with something withheld against the history, or that failed while
            they ran, after which the contract is suspended until the holder looks.
    """

    jitter: int
    dominance_ppm: int
    scope: ReleaseScope
    debits: int

    def stricter_or_equal(self, floor: AggregateRule) -> bool:
        """Whether each part is at least as strict as the floor's."""
        return (
            self.jitter >= floor.jitter
            and self.dominance_ppm <= floor.dominance_ppm
            and self.scope.strictness >= floor.scope.strictness
            and self.debits <= floor.debits
        )

    def strictest(self, other: AggregateRule) -> AggregateRule:
        """Of each part the stricter one."""
        return AggregateRule(
            max(self.jitter, other.jitter),
            min(self.dominance_ppm, other.dominance_ppm),
            max(self.scope, other.scope, key=lambda scope: scope.strictness),
            min(self.debits, other.debits),
        )


AGGREGATE_DEFAULTS: Final = AggregateRule(4, 850_000, ReleaseScope.PARTICIPANT, 16)
_AGGREGATE_KEYS: Final = ("jitter", "dominance_ppm", "scope", "debits")
_AGGREGATE_BOUNDS: Final = MappingProxyType(
    {"jitter": (0, 1000), "dominance_ppm": (1, WHOLE_PPM), "debits": (1, 10_000)}
)


@dataclass(frozen=True, slots=True)
class ReleaseTerms:
    """A release mode and its rules.

    Attributes:
        mode: How results are protected.
        min_units: Smallest number of distinct privacy units that a released cell
            may rest on; 0 only for ``rows``.
        jitter, dominance_ppm, scope, debits: See `AggregateRule`; None leaves the default.
            Of mode ``aggregate`` only.
        dp: Of mode ``dp`` only; None leaves it to the product, and where that says nothing
            either, nothing can be computed.
    """

    mode: ReleaseMode
    min_units: int
    jitter: int | None = None
    dominance_ppm: int | None = None
    scope: ReleaseScope | None = None
    debits: int | None = None
    dp: DpTerms | None = None

    def __post_init__(self) -> None:
        minimum = 0 if self.mode is ReleaseMode.ROWS else 1
        _check("min_units", self.min_units, minimum, _MAX_UNITS)
        given = [name for name in _AGGREGATE_KEYS if getattr(self, name) is not None]
        if given and self.mode is not ReleaseMode.AGGREGATE:
            raise DocumentError(f"release.{given[0]} is of the mode aggregate only")
        if self.dp is not None and self.mode is not ReleaseMode.DP:
            raise DocumentError("release.dp is of the mode dp only")
        for name, (low, high) in _AGGREGATE_BOUNDS.items():
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), low, high)

    @property
    def aggregate(self) -> AggregateRule:
        """The rules of mode ``aggregate``, defaults filled in."""
        default = AGGREGATE_DEFAULTS
        return AggregateRule(
            default.jitter if self.jitter is None else self.jitter,
            default.dominance_ppm if self.dominance_ppm is None else self.dominance_ppm,
            self.scope or default.scope,
            default.debits if self.debits is None else self.debits,
        )

    def stricter_or_equal(self, floor: ReleaseTerms) -> bool:
        """Whether everything these terms release, ``floor`` releases too.

        Modes with different guarantees don't compare; ``rows`` is weaker than any.
        """
        if self.mode is not floor.mode and floor.mode is not ReleaseMode.ROWS:
            return False
        if self.mode is floor.mode is ReleaseMode.AGGREGATE and not (
            self.aggregate.stricter_or_equal(floor.aggregate)
        ):
            return False
        if (
            self.mode is floor.mode
            and floor.dp is not None
            and not (self.dp is not None and self.dp.stricter_or_equal(floor.dp))
        ):
            return False
        return self.min_units >= floor.min_units

    def completed_by(self, floor: ReleaseTerms) -> ReleaseTerms:
        """These terms, with what they leave open as a product's floor has it."""
        if self.mode is not floor.mode:
            return self
        open_keys = [name for name in (*_AGGREGATE_KEYS, "dp") if getattr(self, name) is None]
        return replace(self, **{name: getattr(floor, name) for name in open_keys})

    def __str__(self) -> str:
        """For people: the mode and every rule that holds, defaults included."""
        text = f"{self.mode.value} with at least {self.min_units} units"
        if self.dp is not None:
            return f"dp with {self.dp}"
        if self.mode is not ReleaseMode.AGGREGATE:
            return text
        rule = self.aggregate
        share = (Decimal(rule.dominance_ppm) / WHOLE_PPM).normalize()
        return (
            f"{text}, jitter {rule.jitter}, dominance {share:f}, scope {rule.scope.value}, "
            f"{rule.debits} debits"
        )

    def to_payload(self) -> JsonObject:
        """The JSON form; what is left open stays out of it."""
        payload: JsonObject = {"mode": self.mode.value, "min_units": self.min_units}
        for name in _AGGREGATE_KEYS:
            value = getattr(self, name)
            if value is not None:
                payload[name] = value.value if isinstance(value, ReleaseScope) else value
        if self.dp is not None:
            payload["dp"] = self.dp.to_payload()
        return payload

    @classmethod
    def from_payload(cls, value: JsonValue) -> ReleaseTerms:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "release", {"mode", "min_units"}, (*_AGGREGATE_KEYS, "dp"))
        numbers = {
            name: fields.integer(name) if name in fields else None for name in _AGGREGATE_BOUNDS
        }
        return cls(
            fields.choice("mode", ReleaseMode),
            fields.integer("min_units", maximum=_MAX_UNITS),
            scope=fields.choice("scope", ReleaseScope) if "scope" in fields else None,
            dp=DpTerms.from_payload(fields.raw("dp")) if "dp" in fields else None,
            **numbers,
        )


def parts_per_million(share: object) -> int:
    """A share of at most 1, as people write it (0.85, or the text of it), in whole ppm.

    Raises:
        DocumentError: No number, not within (0, 1], or of more than six decimals.
    """
    # YAML reads 0.85 as a float; its shortest text is what was written.
    try:
        exact = Decimal(str(share)) * WHOLE_PPM if not isinstance(share, bool) else Decimal("nan")
        parts = int(exact)
    except (ArithmeticError, ValueError):
        raise DocumentError("a share must be a number such as 0.85") from None
    if parts != exact or not 0 < parts <= WHOLE_PPM:
        raise DocumentError("a share must be greater than 0, at most 1 and of at most 6 decimals")
    return parts


def _check(name: str, value: int, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not minimum <= value <= maximum:
        raise DocumentError(f"release.{name} must be between {minimum} and {maximum}")
