"""Offers of a catalog entry: on which terms a product can be had, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.fields import Fields, check_region, check_token
from luoshu.contracts.terms import Terms
from luoshu.contracts.times import format_time, parse_time

EVERYONE = "*"


class AnswerMode(StrEnum):
    """Who answers a request for a contract."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a negotiated contract may go beyond the offer's own terms.

    What isn't given is bounded by the offer's terms.

    Attributes:
        max_uses: Most uses.
        purposes: Purposes that may be agreed.
        latest_end: Last moment that may be agreed, inclusive.
        regions: Regions that may be agreed, each with its parts.
    """

    max_uses: int | None = None
    purposes: tuple[str, ...] = ()
    latest_end: datetime | None = None
    regions: tuple[str, ...] = ()

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "max_uses": self.max_uses,
            "purposes": list(self.purposes),
            "latest_end": None if self.latest_end is None else format_time(self.latest_end),
            "regions": list(self.regions),
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> Limits:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "limits", {"max_uses", "purposes", "latest_end", "regions"})
        latest_end = fields.nullable("latest_end", parse_time)
        return cls(
            max_uses=(
                None if fields.raw("max_uses") is None else fields.integer("max_uses", minimum=1)
            ),
            purposes=fields.strings("purposes", check_token),
            latest_end=None if latest_end is None else parse_time(latest_end),
            regions=fields.strings("regions", check_region),
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """Terms on which a product can be had.

    Attributes:
        id: Label, unique within the entry.
        visible_to: Participant ids, or ``("*",)`` for everyone in the space.
        terms: The terms as offered.
        limits: How far a request may go beyond them.
        answer: Whether the node answers requests by itself.
    """

    id: str
    visible_to: tuple[str, ...]
    terms: Terms
    limits: Limits
    answer: AnswerMode = AnswerMode.AUTOMATIC

    def __post_init__(self) -> None:
        if not self.visible_to:
            raise DocumentError("an offer must be visible to someone")
        if EVERYONE in self.visible_to and len(self.visible_to) != 1:
            raise DocumentError("an offer is visible either to * or to named participants")

    def is_visible_to(self, participant_id: str) -> bool:
        """Whether the offer exists for a participant."""
        return EVERYONE in self.visible_to or participant_id in self.visible_to

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "id": self.id,
            "visible_to": list(self.visible_to),
            "terms": self.terms.to_payload(),
            "limits": self.limits.to_payload(),
            "answer": self.answer.value,
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> Offer:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(value, "offer", {"id", "visible_to", "terms", "limits", "answer"})
        return cls(
            id=fields.string("id", ids.check_label),
            visible_to=fields.strings("visible_to", _check_reader, minimum=1),
            terms=Terms.from_payload(fields.raw("terms")),
            limits=Limits.from_payload(fields.raw("limits")),
            answer=fields.choice("answer", AnswerMode),
        )


def _check_reader(text: str) -> None:
    if text != EVERYONE:
        ids.parse_participant_id(text)
