"""The release floor of a product: what every release of it obeys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from luoshu.contracts.canonical import JsonObject
from luoshu.sandbox.dp_agreement import DpLimits
from luoshu.sandbox.product_file import AggregateRelease, DifferentialPrivacyRelease
from luoshu.sandbox.release.dp_budget import Guarantee
from luoshu.sandbox.schema import SchemaError, checked_count, checked_name, exact_fields

AGGREGATE = "aggregate"
DP = "dp"
SCOPES = ("contract", "participant", "product")
"""What a result is compared with, the strictest last."""
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,40})?")
_AGGREGATE_FIELDS = ("mode", "min_units", "jitter", "dominance_ppm", "scope", "debits")
_DP_FIELDS = (
    "mode",
    "epsilon",
    "delta",
    "cells_per_unit",
    "rows_per_cell",
    "budget_epsilon",
    "budget_delta",
)


@dataclass(frozen=True, slots=True)
class ReleaseFloor:
    """What every release of the product obeys; contracts may only be stricter.

    Attributes:
        mode: `aggregate` or `dp`; what follows is of one of them.
        min_units: Fewest distinct units behind anything released (aggregate).
        jitter: Most that the threshold of a cell is raised by (aggregate).
        dominance_ppm: Most that one unit may contribute to a cell, in parts per million
            (aggregate).
        scope: `contract`, `participant` or `product`: what a result is compared with (aggregate).
        debits: Computations withheld against history, or failed, until a contract is suspended
            (aggregate).
        epsilon: As a decimal number in text, so that it stays exact (dp).
        delta: As a decimal number in text (dp).
        cells_per_unit: In how many cells of a result a unit may count (dp).
        rows_per_cell: How many of its rows may count in each (dp).
        budget_epsilon, budget_delta: What everything about the same people may cost together, as
            decimal numbers in text; None if the product declares no budget of its own (dp).
    """

    mode: str
    min_units: int = 1
    jitter: int = 4
    dominance_ppm: int = 850_000
    scope: str = "participant"
    debits: int = 16
    epsilon: str = "0"
    delta: str = "0"
    cells_per_unit: int = 1
    rows_per_cell: int = 1
    budget_epsilon: str | None = None
    budget_delta: str | None = None

    @property
    def computation(self) -> Guarantee:
        """What one computation may cost at most (dp)."""
        return Guarantee.of(Decimal(self.epsilon), Decimal(self.delta))

    @property
    def limits(self) -> DpLimits:
        """What holds for one computation (dp)."""
        return DpLimits(self.computation, self.cells_per_unit, self.rows_per_cell)

    @property
    def budget(self) -> Guarantee | None:
        """What everything about the same people may cost; None if it isn't declared (dp)."""
        if self.budget_epsilon is None or self.budget_delta is None:
            return None
        return Guarantee.of(Decimal(self.budget_epsilon), Decimal(self.budget_delta))

    @classmethod
    def of(cls, release: AggregateRelease | DifferentialPrivacyRelease) -> Self:
        """The floor that a product file declares, its defaults filled in."""
        if isinstance(release, DifferentialPrivacyRelease):
            budget = release.declared_budget
            return cls(
                DP,
                epsilon=_exact(release.epsilon),
                delta=_exact(release.delta),
                cells_per_unit=release.cells_per_unit,
                rows_per_cell=release.rows_per_cell,
                budget_epsilon=None if budget is None else _exact(budget[0]),
                budget_delta=None if budget is None else _exact(budget[1]),
            )
        given = {
            name: getattr(release, name)
            for name in ("jitter", "dominance_ppm", "scope", "debits")
            if getattr(release, name) is not None
        }
        return cls(AGGREGATE, release.min_units, **given)

    def to_json(self) -> JsonObject:
        """The manifest's form."""
        names = _DP_FIELDS if self.mode == DP else _AGGREGATE_FIELDS
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Reads the manifest's form.

        Raises:
            SchemaError: It doesn't have exactly this form.
        """
        mode = value.get("mode") if isinstance(value, dict) else None
        if mode == DP:
            fields = exact_fields(value, *_DP_FIELDS)
            return cls(
                DP,
                epsilon=_number(fields["epsilon"]),
                delta=_number(fields["delta"]),
                cells_per_unit=checked_count(fields["cells_per_unit"]),
                rows_per_cell=checked_count(fields["rows_per_cell"]),
                budget_epsilon=_number_or_none(fields["budget_epsilon"]),
                budget_delta=_number_or_none(fields["budget_delta"]),
            )
        fields = exact_fields(value, *_AGGREGATE_FIELDS)
        scope = checked_name(fields["scope"])
        if mode != AGGREGATE or scope not in SCOPES:
            raise SchemaError("an unknown release floor")
        return cls(
            AGGREGATE,
            checked_count(fields["min_units"]),
            checked_count(fields["jitter"]),
            checked_count(fields["dominance_ppm"]),
            scope,
            checked_count(fields["debits"]),
        )


def _exact(number: float) -> str:
    # Its shortest text is what the holder wrote; in full, since 1e-06 is no canonical number.
    return format(Decimal(str(number)), "f")


def _number(value: object) -> str:
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise SchemaError("a decimal number as text was expected")
    return value


def _number_or_none(value: object) -> str | None:
    return None if value is None else _number(value)
