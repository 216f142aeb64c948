"""The agreement: what becomes of a contract once its negotiation is finalised."""

from __future__ import annotations

from enum import StrEnum

from luoshu.contracts.contract.bodies import EventType
from luoshu.contracts.contract.negotiation import Party
from luoshu.contracts.errors import TransitionError


class AgreementState(StrEnum):
    """States of an agreement; all but the first two are final."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    ENDED = "ENDED"
    COMPLETED = "COMPLETED"


AGREEMENT_AUTHORS: dict[EventType, frozenset[Party]] = {
    EventType.SUSPEND: frozenset({Party.PROVIDER}),
    EventType.RESUME: frozenset({Party.PROVIDER}),
    EventType.REVOKE: frozenset({Party.PROVIDER}),
    EventType.END: frozenset(Party),
    EventType.EXPIRE: frozenset({Party.PROVIDER}),
    EventType.COMPLETE: frozenset({Party.PROVIDER}),
    EventType.USE: frozenset({Party.PROVIDER}),
}
"""Who may send each event of an agreement."""

BINDING_ON_RECEIPT = frozenset({EventType.SUSPEND, EventType.REVOKE, EventType.END})
"""Events that hold whatever their author had seen: they only ever take rights away."""

LIVE_AGREEMENT_STATES = frozenset({AgreementState.ACTIVE, AgreementState.SUSPENDED})

_S = AgreementState
AGREEMENT_TRANSITIONS: dict[tuple[AgreementState, EventType], AgreementState] = {
    (_S.ACTIVE, EventType.USE): _S.ACTIVE,
    (_S.ACTIVE, EventType.SUSPEND): _S.SUSPENDED,
    (_S.SUSPENDED, EventType.RESUME): _S.ACTIVE,
    (_S.ACTIVE, EventType.COMPLETE): _S.COMPLETED,
    **{(state, EventType.REVOKE): _S.REVOKED for state in (_S.ACTIVE, _S.SUSPENDED)},
    **{(state, EventType.END): _S.ENDED for state in (_S.ACTIVE, _S.SUSPENDED)},
    **{(state, EventType.EXPIRE): _S.EXPIRED for state in (_S.ACTIVE, _S.SUSPENDED)},
}
"""Every transition there is; whatever isn't listed is refused."""


def perform(state: AgreementState | None, event: EventType) -> AgreementState:
    """The state after an event; None stands for an agreement that isn't finalised.

    Raises:
        TransitionError: The event may not follow: ``CONTRACT_NOT_ACTIVE`` for a use,
            ``CONTRACT_TRANSITION_INVALID`` otherwise.
    """
    following = None if state is None else AGREEMENT_TRANSITIONS.get((state, event))
    if following is None:
        standing = "not finalised" if state is None else state.value
        reason = "CONTRACT_NOT_ACTIVE" if event is EventType.USE else None
        raise TransitionError(f"{event} can't follow: the agreement is {standing}", reason=reason)
    return following
