"""The digital contract: two machines over signed events.

Here live the events, the Dataspace Protocol's negotiation, the agreement's life and
the functions that fold events into a state. Keys, clocks, storage and delivery are
the connector's; deciding a use is policy's.
"""

from luoshu.contracts.contract.agreement import AgreementState
from luoshu.contracts.contract.bodies import (
    AgreeBody,
    Agreement,
    ConfirmBody,
    EmptyBody,
    EventType,
    OfferBody,
    ReasonBody,
    RequestBody,
    UseBody,
)
from luoshu.contracts.contract.event import (
    ContractEvent,
    KeyDirectory,
    Position,
    SequencedEvent,
    proves_equivocation,
    unverified_event,
)
from luoshu.contracts.contract.negotiation import NegotiationState, Party
from luoshu.contracts.contract.snapshot import ContractState
from luoshu.contracts.contract.state import (
    apply,
    check_submission,
    draft_event,
    fold,
    sequence,
)

__all__ = [
    "AgreeBody",
    "Agreement",
    "AgreementState",
    "ConfirmBody",
    "ContractEvent",
    "ContractState",
    "EmptyBody",
    "EventType",
    "KeyDirectory",
    "NegotiationState",
    "OfferBody",
    "Party",
    "Position",
    "ReasonBody",
    "RequestBody",
    "SequencedEvent",
    "UseBody",
    "apply",
    "check_submission",
    "draft_event",
    "fold",
    "proves_equivocation",
    "sequence",
    "unverified_event",
]
