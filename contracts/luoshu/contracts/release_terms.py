"""The release section of terms: what may leave a sandbox at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields

_MAX_UNITS = 1_000_000


class ReleaseMode(StrEnum):
    """How results are protected."""

    AGGREGATE = "aggregate"
    ROWS = "rows"
    DP = "dp"


@dataclass(frozen=True, slots=True)
class ReleaseTerms:
    """A release mode and its threshold.

    Attributes:
        mode: How results are protected.
        min_units: Smallest number of distinct privacy units that a released cell
            may rest on; 0 only for ``rows``.
    """

    mode: ReleaseMode
    min_units: int

    def __post_init__(self) -> None:
        minimum = 0 if self.mode is ReleaseMode.ROWS else 1
        if isinstance(self.min_units, bool) or not minimum <= self.min_units <= _MAX_UNITS:
            raise DocumentError(f"release.min_units must be between {minimum} and {_MAX_UNITS}")

    def stricter_or_equal(self, floor: ReleaseTerms) -> bool:
        """Whether everything these terms release, ``floor`` releases too.

        Modes with different guarantees don't compare; ``rows`` is weaker than any.
        """
        comparable = self.mode is floor.mode or floor.mode is ReleaseMode.ROWS
        return comparable and self.min_units >= floor.min_units

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"mode": self.mode.value, "min_units": self.min_units}

    @classmethod
    def from_payload(cls, value: JsonValue) -> ReleaseTerms:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "release", {"mode", "min_units"})
        return cls(
            fields.choice("mode", ReleaseMode), fields.integer("min_units", maximum=_MAX_UNITS)
        )
