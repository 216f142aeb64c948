"""Contracts as pure functions over signed events.

What `apply` demands before an event counts:

1. Its author is a party, may send this kind of event, and signed it with an events
   key that spoke for it at the event's time.
2. The provider signed its position, which names this event, this contract, the next
   number and the head before; the provider's times never go back.
3. The two times are at most 60 s apart.
4. The author's count is higher than before: no event counts twice.
5. It was made on the present head, except suspend, revoke and end, which bind on
   receipt.
6. The machine of `negotiation` or `agreement` has the transition, and what the event
   says fits what was said before (`effects`).

Both sides hold the same events and apply the same function; `state_hash` shows that
they agree. A refused event leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from luoshu.contracts.contract.agreement import (
    AGREEMENT_AUTHORS,
    BINDING_ON_RECEIPT,
    AgreementState,
)
from luoshu.contracts.contract.bodies import Body, EventType, RequestBody
from luoshu.contracts.contract.effects import effect, provider_of
from luoshu.contracts.contract.event import (
    ContractEvent,
    KeyDirectory,
    Position,
    SequencedEvent,
    unverified_event,
)
from luoshu.contracts.contract.negotiation import NEGOTIATION_AUTHORS, NegotiationState, Party
from luoshu.contracts.contract.snapshot import ContractState
from luoshu.contracts.documents import CONTRACT_EVENT, CONTRACT_POSITION
from luoshu.contracts.envelope import Envelope, unverified_payload, verify
from luoshu.contracts.errors import ContractsError, TransitionError
from luoshu.contracts.keys import SigningKey
from luoshu.contracts.times import MAX_SKEW, to_milliseconds

__all__ = [
    "AgreementState",
    "ContractState",
    "NegotiationState",
    "apply",
    "check_submission",
    "draft_event",
    "fold",
    "sequence",
]

_AUTHORS = NEGOTIATION_AUTHORS | AGREEMENT_AUTHORS


def apply(
    state: ContractState | None,
    sequenced: SequencedEvent,
    keys: KeyDirectory,
    now: datetime | None = None,
) -> ContractState:
    """The state after one sequenced event.

    Args:
        state: Before; None for the first event.
        sequenced: The event and its position.
        keys: Who held which events keys when.
        now: For an event that has just arrived: its position may be at most 60 s in
            the future. None when replaying what was accepted before.

    Raises:
        TransitionError: The event doesn't count. Reasons ``CONTRACT_STALE_HEAD``,
            ``CONTRACT_EVENT_REPLAYED``, ``CONTRACT_WRONG_PARTY``,
            ``CONTRACT_TRANSITION_INVALID``, ``CONTRACT_SIGNATURE_INVALID``,
            ``CONTRACT_TIME_SKEW``, ``CONTRACT_NOT_ACTIVE``, ``USES_EXHAUSTED``,
            ``MALFORMED_MESSAGE``, or that of a request or credential inside a use.
    """
    event, party = _open_event(state, sequenced.event, keys)
    provider = _provider(state, event)
    position = _open_position(sequenced.position, provider, keys)
    if position.contract_id != event.contract_id or position.event != sequenced.event.digest:
        raise TransitionError("a position is of another event", reason="CONTRACT_SIGNATURE_INVALID")
    _check_place(state, position)
    if abs(position.time - event.time) > MAX_SKEW:
        raise TransitionError(
            "an event and its position are more than 60 s apart", reason="CONTRACT_TIME_SKEW"
        )
    if now is not None and position.time > now + MAX_SKEW:
        raise TransitionError(
            "an event is from the future: compare this clock with the provider's",
            reason="CONTRACT_TIME_SKEW",
        )
    _check_order(state, event, party)
    return _placed(effect(state, event, keys), sequenced, position, event, party)


def fold(events: Iterable[SequencedEvent], keys: KeyDirectory) -> ContractState:
    """The state after a contract's events, from the first.

    Raises:
        TransitionError: One of them doesn't count, or there are none.
    """
    state: ContractState | None = None
    for sequenced in events:
        state = apply(state, sequenced, keys)
    if state is None:
        raise TransitionError("a contract has no events")
    return state


def draft_event(
    state: ContractState | None,
    event_type: EventType,
    body: Body,
    *,
    author: str,
    time: datetime,
    contract_id: str | None = None,
) -> ContractEvent:
    """Prepares an author's next event on the head it sees; sign it next.

    Args:
        state: The contract as the author sees it; None for a new one.
        event_type: Kind of event.
        body: What it says.
        author: Participant id.
        time: Now.
        contract_id: Id of the new contract, if ``state`` is None.

    Raises:
        TransitionError: The author is no party.
        ValueError: Not exactly one of ``state`` and ``contract_id`` is given.
    """
    if state is None:
        if contract_id is None:
            raise ValueError("a new contract needs an id")
        return ContractEvent(contract_id, event_type, author, 1, None, to_milliseconds(time), body)
    if contract_id is not None:
        raise ValueError("the state says which contract it is")
    party = state.party(author)
    if party is None:
        raise _wrong_party()
    return ContractEvent(
        contract_id=state.contract_id,
        type=event_type,
        author=author,
        author_sequence=state.sequence_of(party) + 1,
        head=state.head,
        time=to_milliseconds(time),
        body=body,
    )


def check_submission(
    state: ContractState | None, envelope: Envelope, keys: KeyDirectory, now: datetime
) -> ContractEvent:
    """What the provider checks before it gives an event its position.

    Args:
        state: The contract as the provider holds it; None for a new one.
        envelope: An event by either party.
        keys: Who held which events keys when.
        now: The provider's time; the event's may differ by 60 s.

    Returns:
        The event, which `sequence` may now place.

    Raises:
        TransitionError: As `apply`.
    """
    event, party = _open_event(state, envelope, keys)
    _check_order(state, event, party)
    if abs(now - event.time) > MAX_SKEW:
        raise TransitionError(
            "an event's time is more than 60 s off: set this machine's clock and sign it anew",
            reason="CONTRACT_TIME_SKEW",
        )
    effect(state, event, keys)
    return event


def sequence(
    state: ContractState | None, envelope: Envelope, provider_key: SigningKey, now: datetime
) -> SequencedEvent:
    """Gives an event its position. Only after `check_submission` passed on the same state.

    Raises:
        TransitionError: The clock is behind the contract's last position; reason
            ``CONTRACT_TIME_SKEW``.
        EnvelopeError: ``provider_key`` is not for events.
    """
    moment = to_milliseconds(now)
    if state is not None and moment < state.changed_at:
        raise TransitionError(
            "this node's clock is behind the contract's last event: set it right",
            reason="CONTRACT_TIME_SKEW",
        )
    position = Position(
        contract_id=unverified_event(envelope).contract_id,
        position=1 if state is None else state.position + 1,
        event=envelope.digest,
        previous=None if state is None else state.head,
        time=moment,
    )
    return SequencedEvent(envelope, position.sign(provider_key))


def _open_event(
    state: ContractState | None, envelope: Envelope, keys: KeyDirectory
) -> tuple[ContractEvent, Party]:
    try:
        event = unverified_event(envelope)
    except ContractsError as error:
        raise TransitionError(error.message, reason=error.reason) from None
    if state is None:
        party: Party | None = Party.CONSUMER
    elif event.contract_id != state.contract_id:
        raise TransitionError("an event is of another contract", reason="CONTRACT_WRONG_PARTY")
    else:
        party = state.party(event.author)
    if party is None:
        raise _wrong_party()
    try:
        verify(envelope, CONTRACT_EVENT.payload_type, keys.event_keys(event.author, event.time))
    except ContractsError as error:
        raise TransitionError(error.message, reason=_signature_reason(error)) from None
    if state is not None and party not in _AUTHORS[event.type]:
        raise TransitionError(
            f"{event.type} is not for the {party} to send", reason="CONTRACT_WRONG_PARTY"
        )
    return event, party


def _provider(state: ContractState | None, event: ContractEvent) -> str:
    if state is not None:
        return state.provider
    if not isinstance(event.body, RequestBody):
        raise TransitionError(f"a contract begins with a request, not with {event.type}")
    return provider_of(event.body)


def _open_position(envelope: Envelope, provider: str, keys: KeyDirectory) -> Position:
    try:
        claimed = Position.from_payload(unverified_payload(envelope))
        verify(envelope, CONTRACT_POSITION.payload_type, keys.event_keys(provider, claimed.time))
    except ContractsError as error:
        raise TransitionError(error.message, reason=_signature_reason(error)) from None
    return claimed


def _check_place(state: ContractState | None, position: Position) -> None:
    held = 0 if state is None else state.position
    if position.position <= held:
        raise TransitionError(
            "an event at this position is held already", reason="CONTRACT_EVENT_REPLAYED"
        )
    if position.position != held + 1:
        raise TransitionError("an event before this one is missing: fetch the contract's events")
    if state is None:
        return
    if position.previous != state.head:
        raise TransitionError(
            "a position follows another head than the one held", reason="CONTRACT_STALE_HEAD"
        )
    if position.time < state.changed_at:
        raise TransitionError(
            "a position is earlier than the one before it", reason="CONTRACT_TIME_SKEW"
        )


def _check_order(state: ContractState | None, event: ContractEvent, party: Party) -> None:
    if state is None:
        return
    if event.author_sequence <= state.sequence_of(party):
        raise TransitionError(
            "an event of this author with this count is held already",
            reason="CONTRACT_EVENT_REPLAYED",
        )
    if event.head != state.head and event.type not in BINDING_ON_RECEIPT:
        raise TransitionError(
            "the contract has moved on: fetch its events and decide again",
            reason="CONTRACT_STALE_HEAD",
        )


def _placed(
    after: ContractState,
    sequenced: SequencedEvent,
    position: Position,
    event: ContractEvent,
    party: Party,
) -> ContractState:
    is_provider = party is Party.PROVIDER
    return replace(
        after,
        position=position.position,
        head=sequenced.position.digest,
        changed_at=position.time,
        provider_sequence=event.author_sequence if is_provider else after.provider_sequence,
        consumer_sequence=after.consumer_sequence if is_provider else event.author_sequence,
    )


def _wrong_party() -> TransitionError:
    return TransitionError(
        "an event's author is no party to the contract", reason="CONTRACT_WRONG_PARTY"
    )


def _signature_reason(error: ContractsError) -> str:
    if error.reason == "SIGNATURE_INVALID":
        return "CONTRACT_SIGNATURE_INVALID"
    return error.reason
