"""What each kind of contract event says, and the agreement that both sides sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from luoshu.contracts import canonical, ids
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.fields import Fields
from luoshu.contracts.terms import Terms
from luoshu.contracts.times import format_time

MAX_REASON = 500


class EventType(StrEnum):
    """The kinds of contract events."""

    REQUEST = "request"
    OFFER = "offer"
    ACCEPT = "accept"
    AGREE = "agree"
    VERIFY = "verify"
    FINALIZE = "finalize"
    TERMINATE = "terminate"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    END = "end"
    EXPIRE = "expire"
    COMPLETE = "complete"
    USE = "use"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the provider signs, and the consumer confirms by its digest.

    Attributes:
        contract_id: The contract; signatures cover the id and the time.
        product_id: The contract object.
        offer_id: The offer it came from.
        entry: Digest of the catalog entry it rests on.
        provider: Participant id.
        consumer: Participant id.
        terms: The terms agreed.
        signed_at: Signing time: that of the event that carries it.
    """

    contract_id: str
    product_id: str
    offer_id: str
    entry: str
    provider: str
    consumer: str
    terms: Terms
    signed_at: datetime

    @property
    def digest(self) -> str:
        """Digest of the canonical form."""
        return canonical.digest_of(self.to_payload())

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "contract_id": self.contract_id,
            "product_id": self.product_id,
            "offer_id": self.offer_id,
            "entry": self.entry,
            "provider": self.provider,
            "consumer": self.consumer,
            "terms": self.terms.to_payload(),
            "signed_at": format_time(self.signed_at),
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> Agreement:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
        """
        fields = Fields(
            value,
            "agreement",
            {
                *("contract_id", "product_id", "offer_id", "entry", "provider", "consumer"),
                *("terms", "signed_at"),
            },
        )
        return cls(
            contract_id=fields.string("contract_id", ids.check_contract_id),
            product_id=fields.string("product_id", ids.parse_product_id),
            offer_id=fields.string("offer_id", ids.check_label),
            entry=fields.digest("entry"),
            provider=fields.participant("provider"),
            consumer=fields.participant("consumer"),
            terms=Terms.from_payload(fields.raw("terms")),
            signed_at=fields.time("signed_at"),
        )


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The consumer asks for a contract, first or as a counter-offer.

    Attributes:
        product_id: The product; its holder is the provider.
        offer_id: The offer asked under.
        terms: The terms asked for.
        entry: Digest of the catalog entry that the consumer saw.
    """

    product_id: str
    offer_id: str
    terms: Terms
    entry: str

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "product": self.product_id,
            "offer": self.offer_id,
            "terms": self.terms.to_payload(),
            "entry": self.entry,
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> RequestBody:
        """Reads the JSON form strictly."""
        fields = Fields(value, "request", {"product", "offer", "terms", "entry"})
        return cls(
            fields.string("product", ids.parse_product_id),
            fields.string("offer", ids.check_label),
            Terms.from_payload(fields.raw("terms")),
            fields.digest("entry"),
        )


@dataclass(frozen=True, slots=True)
class OfferBody:
    """The provider offers other terms than those asked for."""

    terms: Terms

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"terms": self.terms.to_payload()}

    @classmethod
    def from_payload(cls, value: JsonValue) -> OfferBody:
        """Reads the JSON form strictly."""
        return cls(Terms.from_payload(Fields(value, "offer", {"terms"}).raw("terms")))


@dataclass(frozen=True, slots=True)
class AgreeBody:
    """The provider signs the agreement."""

    agreement: Agreement

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"agreement": self.agreement.to_payload()}

    @classmethod
    def from_payload(cls, value: JsonValue) -> AgreeBody:
        """Reads the JSON form strictly."""
        return cls(Agreement.from_payload(Fields(value, "agree", {"agreement"}).raw("agreement")))


@dataclass(frozen=True, slots=True)
class ConfirmBody:
    """``verify`` or ``finalize``: names the agreement by its digest."""

    agreement: str

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"agreement": self.agreement}

    @classmethod
    def from_payload(cls, value: JsonValue) -> ConfirmBody:
        """Reads the JSON form strictly."""
        return cls(Fields(value, "confirmation", {"agreement"}).digest("agreement"))


@dataclass(frozen=True, slots=True)
class ReasonBody:
    """Why a step was taken, in its author's words; may be empty, 500 characters at most."""

    reason: str = ""

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {"reason": self.reason}

    @classmethod
    def from_payload(cls, value: JsonValue) -> ReasonBody:
        """Reads the JSON form strictly."""
        fields = Fields(value, "reason", {"reason"})
        return cls(fields.text("reason", max_length=MAX_REASON, empty=True))


@dataclass(frozen=True, slots=True)
class EmptyBody:
    """``accept``, ``expire`` and ``complete`` say nothing more; the head says to what."""

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {}

    @classmethod
    def from_payload(cls, value: JsonValue) -> EmptyBody:
        """Reads the JSON form strictly."""
        Fields(value, "event body", ())
        return cls()


@dataclass(frozen=True, slots=True)
class UseBody:
    """The provider debits one use. Without the user's signed request it isn't billable.

    Attributes:
        request: The user's signed computation request.
        user: The user credential that enrols the key that signed it.
        decision: Index of the provider's usage-log entry that records the decision.
    """

    request: Envelope
    user: Envelope
    decision: int

    def to_payload(self) -> JsonObject:
        """The JSON form."""
        return {
            "request": self.request.to_json(),
            "user": self.user.to_json(),
            "decision": self.decision,
        }

    @classmethod
    def from_payload(cls, value: JsonValue) -> UseBody:
        """Reads the JSON form strictly."""
        fields = Fields(value, "use", {"request", "user", "decision"})
        return cls(
            Envelope.from_json(fields.raw("request")),
            Envelope.from_json(fields.raw("user")),
            fields.integer("decision"),
        )


Body: TypeAlias = (
    RequestBody | OfferBody | AgreeBody | ConfirmBody | ReasonBody | EmptyBody | UseBody
)

BODY_TYPES: dict[EventType, type[Body]] = {
    EventType.REQUEST: RequestBody,
    EventType.OFFER: OfferBody,
    EventType.ACCEPT: EmptyBody,
    EventType.AGREE: AgreeBody,
    EventType.VERIFY: ConfirmBody,
    EventType.FINALIZE: ConfirmBody,
    EventType.TERMINATE: ReasonBody,
    EventType.SUSPEND: ReasonBody,
    EventType.RESUME: ReasonBody,
    EventType.REVOKE: ReasonBody,
    EventType.END: ReasonBody,
    EventType.EXPIRE: EmptyBody,
    EventType.COMPLETE: EmptyBody,
    EventType.USE: UseBody,
}
"""Which body each kind of event has."""
