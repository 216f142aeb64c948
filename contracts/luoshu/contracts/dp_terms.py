"""Terms of the release mode ``dp``: what one computation may cost, and all of a contract.

ε and δ are decimals in text, in one spelling each, so that equal terms have equal bytes and
nobody's arithmetic rounds what was agreed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields

EPSILON_DECIMALS: Final = 6
DELTA_DECIMALS: Final = 15
MAX_EPSILON: Final = 100
MIN_DELTA: Final = Decimal("1e-12")
MAX_CONTRIBUTION: Final = 1_000_000
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,3})(?:\.[0-9]{0,14}[1-9])?")


@dataclass(frozen=True, slots=True)
class PrivacyBound:
    """(ε, δ)-differential privacy for adding or removing one unit.

    Attributes:
        epsilon: Greater than 0 and at most 100, of at most 6 decimals.
        delta: 0, or at least 10^-12 and less than 1, of at most 15 decimals.
    """

    epsilon: Decimal
    delta: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if not _has_decimals(self.epsilon, EPSILON_DECIMALS) or not (
            0 < self.epsilon <= MAX_EPSILON
        ):
            raise DocumentError(
                f"epsilon must be greater than 0 and at most {MAX_EPSILON}, of at most "
                f"{EPSILON_DECIMALS} decimals"
            )
        if not _has_decimals(self.delta, DELTA_DECIMALS) or not (
            self.delta == 0 or MIN_DELTA <= self.delta < 1
        ):
            raise DocumentError(
                f"delta must be 0, or at least {MIN_DELTA} and less than 1, of at most "
                f"{DELTA_DECIMALS} decimals"
            )

    def stricter_or_equal(self, other: PrivacyBound) -> bool:
        """Whether it gives at least the other's protection, compared part by part."""
        return self.epsilon <= other.epsilon and self.delta <= other.delta

    def __str__(self) -> str:
        """For people."""
        return f"epsilon {_text(self.epsilon)}, delta {_text(self.delta)}"

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"epsilon": _text(self.epsilon), "delta": _text(self.delta)}

    @classmethod
    def from_payload(cls, value: JsonValue) -> PrivacyBound:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "release.dp.quota", {"epsilon", "delta"})
        return cls(_decimal(fields, "epsilon"), _decimal(fields, "delta"))


@dataclass(frozen=True, slots=True)
class DpTerms:
    """What a contract under mode ``dp`` allows.

    Attributes:
        computation: The guarantee of one computation; it is what each one costs, whatever it
            asks. With δ = 0 costs add up as ε, otherwise as ρ (zero-concentrated).
        quota: The guarantee of all computations under the contract together; None leaves the
            budget of the privacy domain as the only limit.
        cells_per_unit: In how many cells of a result a unit may count.
        rows_per_cell: How many of its rows may count in each.
    """

    computation: PrivacyBound
    quota: PrivacyBound | None = None
    cells_per_unit: int = 1
    rows_per_cell: int = 1

    def __post_init__(self) -> None:
        for limit in (self.cells_per_unit, self.rows_per_cell):
            if isinstance(limit, bool) or not 1 <= limit <= MAX_CONTRIBUTION:
                raise DocumentError(
                    "release.dp.cells_per_unit and rows_per_cell must be between 1 and "
                    f"{MAX_CONTRIBUTION}"
                )

    def stricter_or_equal(self, floor: DpTerms) -> bool:
        """Whether each part is at least as strict as the floor's."""
        within_quota = floor.quota is None or (
            self.quota is not None and self.quota.stricter_or_equal(floor.quota)
        )
        return (
            within_quota
            and self.computation.stricter_or_equal(floor.computation)
            and self.cells_per_unit <= floor.cells_per_unit
            and self.rows_per_cell <= floor.rows_per_cell
        )

    def strictest(self, floor: DpTerms) -> DpTerms:
        """Of each part of a computation the stricter one; the quota stays."""
        ours, theirs = self.computation, floor.computation
        return DpTerms(
            PrivacyBound(min(ours.epsilon, theirs.epsilon), min(ours.delta, theirs.delta)),
            self.quota,
            min(self.cells_per_unit, floor.cells_per_unit),
            min(self.rows_per_cell, floor.rows_per_cell),
        )

    def __str__(self) -> str:
        """For people."""
        quota = "no quota" if self.quota is None else f"{self.quota} in all"
        return (
            f"{self.computation} a computation, {quota}, {self.cells_per_unit} cells per unit, "
            f"{self.rows_per_cell} rows per cell"
        )

    def to_payload(self) -> JsonObject:
        """The JSON form; a quota that isn't there stays out of it."""
        payload: JsonObject = {
            **self.computation.to_payload(),
            "cells_per_unit": self.cells_per_unit,
            "rows_per_cell": self.rows_per_cell,
        }
        if self.quota is not None:
            payload["quota"] = self.quota.to_payload()
        return payload

    @classmethod
    def from_payload(cls, value: JsonValue) -> DpTerms:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(
            value,
            "release.dp",
            {"epsilon", "delta", "cells_per_unit", "rows_per_cell"},
            {"quota"},
        )
        return cls(
            PrivacyBound(_decimal(fields, "epsilon"), _decimal(fields, "delta")),
            PrivacyBound.from_payload(fields.raw("quota")) if "quota" in fields else None,
            fields.integer("cells_per_unit", minimum=1, maximum=MAX_CONTRIBUTION),
            fields.integer("rows_per_cell", minimum=1, maximum=MAX_CONTRIBUTION),
        )


def _has_decimals(number: Decimal, most: int) -> bool:
    if not number.is_finite():
        return False
    exponent = number.normalize().as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= most


def _text(number: Decimal) -> str:
    return format(number.normalize(), "f") if number else "0"


def _decimal(fields: Fields, name: str) -> Decimal:
    text = fields.string(name)
    if _DECIMAL.fullmatch(text) is None:
        raise fields.error(name, "must be a decimal number as text, such as 0.5, without an end 0")
    return Decimal(text)
