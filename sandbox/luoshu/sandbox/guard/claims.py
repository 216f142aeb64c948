"""What is claimed of a cell query beside its SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from luoshu.sandbox.schema import ComponentKind


class Claim(Protocol):
    """Which components are what; each claim can only withhold more than the plan would.

    Attributes:
        kinds: Of each component, in order.
        prefix: See `CellSchema.prefix`.
        is_public: Whether it yields rows of public tables.
    """

    @property
    def kinds(self) -> Sequence[ComponentKind]:
        """Of each component, in order."""

    @property
    def prefix(self) -> int | None:
        """See `CellSchema.prefix`."""

    @property
    def is_public(self) -> bool:
        """Whether it yields rows of public tables."""
