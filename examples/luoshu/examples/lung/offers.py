"""What each holder offers, and to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from luoshu.contracts.canonical import JsonValue
from luoshu.contracts.offer import AnswerMode, Limits, Offer
from luoshu.contracts.terms import simple_terms
from luoshu.contracts.times import to_milliseconds

PURPOSE: Final = "public-health-research"
_MAX_USES: Final = {"north": 20, "east": 3, "south": 20, "bench": 100_000}


def offers_of(holder: str) -> list[JsonValue]:
    """The holder's offers: one for everybody in the space, answered automatically."""
    uses = _MAX_USES[holder]
    end = to_milliseconds(datetime.now(UTC) + timedelta(days=180))
    offer = Offer(
        id="research",
        visible_to=("*",),
        terms=simple_terms(
            purposes=[PURPOSE], uses=uses, not_after=end, regions=["CN"], min_units=10
        ),
        limits=Limits(max_uses=uses, purposes=(PURPOSE,), latest_end=end, regions=("CN",)),
        answer=AnswerMode.AUTOMATIC,
    )
    return [offer.to_payload()]
