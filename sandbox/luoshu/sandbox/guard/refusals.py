"""Every code that the guard refuses with, and how it says so."""

from __future__ import annotations

from enum import StrEnum

from luoshu.sandbox.errors import GuardRefusalError

_SHOWN = 80


class Refusal(StrEnum):
    """Why a query is refused; stable."""

    STATEMENT = "GUARD_STATEMENT"
    """Not exactly one SELECT statement."""
    PARAMETER = "GUARD_PARAMETER"
    """A parameter placeholder."""
    SIZE = "GUARD_SIZE"
    """Too long, too deep, or too many constants."""
    TABLE = "GUARD_TABLE"
    """FROM anything but one table of a product."""
    CLAUSE = "GUARD_CLAUSE"
    """A clause that isn't accepted."""
    RAW_ROWS = "GUARD_RAW_ROWS"
    """Columns that are neither grouped nor aggregated."""
    UNIT = "GUARD_UNIT"
    """The privacy unit anywhere but in COUNT(DISTINCT unit)."""
    COLUMN_USE = "GUARD_COLUMN_USE"
    """A column used in a way that isn't declared for it."""
    FUNCTION = "GUARD_FUNCTION"
    """A function that isn't accepted."""
    FILTER = "GUARD_FILTER"
    """A condition that isn't accepted."""
    EXPRESSION = "GUARD_EXPRESSION"
    """Any other expression that isn't accepted."""
    FAN_OUT = "GUARD_FAN_OUT"
    """A join in which a protected row may meet several public ones."""
    WEIGHT = "GUARD_WEIGHT"
    """An aggregate of numbers of public tables that could tell protected values apart."""
    MODE = "GUARD_MODE"
    """A release mode that can't be executed."""
    UNPROVEN = "GUARD_UNPROVEN"
    """The verifier found no proof in the bound plan."""


def refuse(code: Refusal, message: str) -> GuardRefusalError:
    """The error to raise."""
    return GuardRefusalError(code.value, message)


def shown(text: object) -> str:
    """A name or type from the analyst's own SQL, short and printable."""
    cut = str(text)[:_SHOWN]
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
