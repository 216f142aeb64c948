"""Contract events as their authors sign them, and their places as the provider signs them.

An event names its contract, its author's own count of events, and the head its
author saw. The provider gives each event its position: a signed link to the one
before. The head of a contract is the digest of its newest position, so it fixes
every event before it. The provider orders; it can't invent, change or drop an
event without breaking a signature or the chain, and two positions with one
number are evidence against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.contract.bodies import BODY_TYPES, Body, EventType
from luoshu.contracts.documents import CONTRACT_EVENT, CONTRACT_POSITION
from luoshu.contracts.envelope import Envelope, sign, unverified_payload, verify
from luoshu.contracts.errors import ContractsError, DocumentError
from luoshu.contracts.fields import Fields
from luoshu.contracts.keys import PublicKey, SigningKey
from luoshu.contracts.times import format_time


class KeyDirectory(Protocol):
    """Who held which events keys when."""

    def event_keys(self, participant_id: str, at: datetime) -> tuple[PublicKey, ...]:
        """The events keys that speak for a participant at a time.

        Empty if the participant is unknown, its credential doesn't cover ``at``, or
        it was revoked by then.
        """
        ...


@dataclass(frozen=True, slots=True)
class ContractEvent:
    """One step of a contract, in its author's words.

    Attributes:
        contract_id: The contract.
        type: What kind of step.
        author: Participant id of the party that signs it.
        author_sequence: The author's own count of events in this contract, from 1;
            each is higher than those before, so none can be sent twice.
        head: The head its author saw; None only for the first event.
        time: When it was signed.
        body: What it says; its class follows from ``type``.
    """

    contract_id: str
    type: EventType
    author: str
    author_sequence: int
    head: str | None
    time: datetime
    body: Body

    def __post_init__(self) -> None:
        if not isinstance(self.body, BODY_TYPES[self.type]):
            raise DocumentError(f"a {self.type} event has the body of another")

    def to_payload(self) -> JsonObject:
        """The JSON form that the author signs."""
        return {
            "schema": CONTRACT_EVENT.schema,
            "contract_id": self.contract_id,
            "type": self.type.value,
            "author": self.author,
            "author_sequence": self.author_sequence,
            "head": self.head,
            "time": format_time(self.time),
            "payload": self.body.to_payload(),
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> ContractEvent:
        """Reads `to_payload`'s form strictly.

        Raises:
            ContractsError: Ill-formed (``MALFORMED_MESSAGE``), or of another schema.
        """
        CONTRACT_EVENT.check_schema(value)
        fields = Fields(
            value,
            CONTRACT_EVENT.name,
            {
                *("schema", "contract_id", "type", "author", "author_sequence", "head", "time"),
                "payload",
            },
        )
        kind = fields.choice("type", EventType)
        return cls(
            contract_id=fields.string("contract_id", ids.check_contract_id),
            type=kind,
            author=fields.participant("author"),
            author_sequence=fields.integer("author_sequence", minimum=1),
            head=fields.nullable("head", ids.check_digest),
            time=fields.time("time"),
            body=BODY_TYPES[kind].from_payload(fields.raw("payload")),
        )

    def sign(self, events_key: SigningKey) -> Envelope:
        """Signs with the author's events key."""
        return sign(self.to_payload(), CONTRACT_EVENT.payload_type, events_key)


@dataclass(frozen=True, slots=True)
class Position:
    """An event's place in its contract, in the provider's words.

    Attributes:
        contract_id: The contract.
        position: From 1, without gaps.
        event: `Envelope.digest` of the event.
        previous: The head before; None only for position 1.
        time: When the provider received and placed it; never goes back.
    """

    contract_id: str
    position: int
    event: str
    previous: str | None
    time: datetime

    def __post_init__(self) -> None:
        if (self.position == 1) != (self.previous is None):
            raise DocumentError("position 1, and only it, has no position before it")

    def to_payload(self) -> JsonObject:
        """The JSON form that the provider signs."""
        return {
            "schema": CONTRACT_POSITION.schema,
            "contract_id": self.contract_id,
            "position": self.position,
            "event": self.event,
            "previous": self.previous,
            "time": format_time(self.time),
        }

    @classmethod
    def from_payload(cls, value: JsonObject) -> Position:
        """Reads `to_payload`'s form strictly.

        Raises:
            DocumentError: Ill-formed, or of another schema.
        """
        CONTRACT_POSITION.check_schema(value)
        fields = Fields(
            value,
            CONTRACT_POSITION.name,
            {"schema", "contract_id", "position", "event", "previous", "time"},
        )
        return cls(
            contract_id=fields.string("contract_id", ids.check_contract_id),
            position=fields.integer("position", minimum=1),
            event=fields.digest("event"),
            previous=fields.nullable("previous", ids.check_digest),
            time=fields.time("time"),
        )

    def sign(self, events_key: SigningKey) -> Envelope:
        """Signs with the provider's events key."""
        return sign(self.to_payload(), CONTRACT_POSITION.payload_type, events_key)


@dataclass(frozen=True, slots=True)
class SequencedEvent:
    """An event and its place: what both sides hold.

    Attributes:
        event: Envelope of a `ContractEvent`.
        position: Envelope of its `Position`; its digest is the head after it.
    """

    event: Envelope
    position: Envelope

    def to_json(self) -> JsonObject:
        """The JSON form, to embed in a log entry."""
        return {"event": self.event.to_json(), "position": self.position.to_json()}

    @classmethod
    def from_json(cls, value: JsonValue) -> SequencedEvent:
        """Reads the JSON form strictly.

        Raises:
            DocumentError: Ill-formed.
            EnvelopeError: One of the two is no envelope.
        """
        fields = Fields(value, "sequenced event", {"event", "position"})
        return cls(
            Envelope.from_json(fields.raw("event")), Envelope.from_json(fields.raw("position"))
        )


def unverified_event(envelope: Envelope) -> ContractEvent:
    """Reads an event without checking who signed it: to find contract and keys, nothing else.

    Raises:
        ContractsError: Ill-formed.
    """
    return ContractEvent.from_payload(unverified_payload(envelope))


def proves_equivocation(
    first: Envelope, second: Envelope, provider_keys: Iterable[PublicKey]
) -> bool:
    """Whether two positions show that a provider told two stories.

    Args:
        first: Envelope of a `Position`.
        second: Another.
        provider_keys: Events keys of the provider.

    Returns:
        True if the provider signed both, for one place in one contract, and they differ.
    """
    keys = tuple(provider_keys)
    try:
        one, other = (
            Position.from_payload(verify(envelope, CONTRACT_POSITION.payload_type, keys))
            for envelope in (first, second)
        )
    except ContractsError:
        return False
    return (
        one.contract_id == other.contract_id
        and one.position == other.position
        and first.digest != second.digest
    )
