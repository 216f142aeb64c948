"""What vouches for the code that computes: evidence in, verdict out.

A contract may name the measurements under which alone may be computed (``measurements`` of its
terms). Evidence says what runs; a verifier says what of it is proven, and by what. The one there is
takes the node's own word: the hash that the node makes of everything its workers can see. It finds
a change of the code by mistake or by others; a holder that lies can claim any hash. Hardware that
signs what it runs is another verifier of the same port.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from luoshu.contracts.errors import DocumentError
from luoshu.contracts.ids import check_digest

MAX_MEASUREMENTS = 16


class EvidenceKind(StrEnum):
    """Kinds of evidence."""

    SOFTWARE_MEASUREMENT = "software-measurement"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a node presents about the code that it runs.

    Attributes:
        kind: How to read it.
        document: As that kind says; of a software measurement the measurement itself, ASCII.
    """

    kind: EvidenceKind
    document: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What evidence proves.

    Attributes:
        measurement: ``sha256:<hex>`` of the code; None if it proves nothing.
        vouched_by: Who must be believed for it: ``node``, or the maker of some hardware.
    """

    measurement: str | None
    vouched_by: str


class Verifier(Protocol):
    """Judges one kind of evidence."""

    def judge(self, evidence: Evidence) -> Verdict:
        """What the evidence proves; of another kind, nothing."""


class SoftwareMeasurement:
    """The node's own word; see the module."""

    def judge(self, evidence: Evidence) -> Verdict:
        """See `Verifier`."""
        try:
            measurement = evidence.document.decode("ascii")
            check_digest(measurement)
        except (UnicodeDecodeError, DocumentError):
            return Verdict(None, "node")
        is_ours = evidence.kind is EvidenceKind.SOFTWARE_MEASUREMENT
        return Verdict(measurement if is_ours else None, "node")


def check_measurements(measurements: Sequence[str]) -> None:
    """Checks the measurements of some terms.

    Raises:
        DocumentError: One that is none, too many, or one twice.
    """
    if len(measurements) > MAX_MEASUREMENTS:
        raise DocumentError(f"terms have at most {MAX_MEASUREMENTS} measurements")
    if len(set(measurements)) != len(measurements):
        raise DocumentError("terms name a measurement twice")
    for measurement in measurements:
        check_digest(measurement)
