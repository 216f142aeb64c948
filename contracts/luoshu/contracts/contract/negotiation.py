"""The negotiation: the Dataspace Protocol's contract negotiation, bilateral.

States and who moves between them follow DSP 2025-1, Contract Negotiation Protocol
(https://w3id.org/dspace/2025/1). Left out: a negotiation that the provider begins.
"""

from __future__ import annotations

from enum import StrEnum

from luoshu.contracts.contract.bodies import EventType
from luoshu.contracts.errors import TransitionError


class NegotiationState(StrEnum):
    """States of a negotiation; the last two are final."""

    REQUESTED = "REQUESTED"
    OFFERED = "OFFERED"
    ACCEPTED = "ACCEPTED"
    AGREED = "AGREED"
    VERIFIED = "VERIFIED"
    FINALIZED = "FINALIZED"
    TERMINATED = "TERMINATED"


class Party(StrEnum):
    """The two sides of a contract."""

    PROVIDER = "provider"
    CONSUMER = "consumer"


NEGOTIATION_AUTHORS: dict[EventType, frozenset[Party]] = {
    EventType.REQUEST: frozenset({Party.CONSUMER}),
    EventType.OFFER: frozenset({Party.PROVIDER}),
    EventType.ACCEPT: frozenset({Party.CONSUMER}),
    EventType.AGREE: frozenset({Party.PROVIDER}),
    EventType.VERIFY: frozenset({Party.CONSUMER}),
    EventType.FINALIZE: frozenset({Party.PROVIDER}),
    EventType.TERMINATE: frozenset(Party),
}
"""Who may send each event of a negotiation."""

FINAL_NEGOTIATION_STATES = frozenset({NegotiationState.FINALIZED, NegotiationState.TERMINATED})

_S = NegotiationState
NEGOTIATION_TRANSITIONS: dict[tuple[NegotiationState | None, EventType], NegotiationState] = {
    (None, EventType.REQUEST): _S.REQUESTED,
    (_S.REQUESTED, EventType.OFFER): _S.OFFERED,
    (_S.REQUESTED, EventType.AGREE): _S.AGREED,
    (_S.OFFERED, EventType.REQUEST): _S.REQUESTED,
    (_S.OFFERED, EventType.ACCEPT): _S.ACCEPTED,
    (_S.ACCEPTED, EventType.AGREE): _S.AGREED,
    (_S.AGREED, EventType.VERIFY): _S.VERIFIED,
    (_S.VERIFIED, EventType.FINALIZE): _S.FINALIZED,
    **{
        (state, EventType.TERMINATE): _S.TERMINATED
        for state in NegotiationState
        if state not in FINAL_NEGOTIATION_STATES
    },
}
"""Every transition there is; whatever isn't listed is refused."""


def negotiate(state: NegotiationState | None, event: EventType) -> NegotiationState:
    """The state after an event; None stands for no contract yet.

    Raises:
        TransitionError: The event may not follow; reason ``CONTRACT_TRANSITION_INVALID``.
    """
    following = NEGOTIATION_TRANSITIONS.get((state, event))
    if following is None:
        if state is None:
            raise TransitionError(f"a contract begins with a request, not with {event}")
        raise TransitionError(f"{event} can't follow: the negotiation is {state}")
    return following
