"""Folds events that this node verified before it committed them, without verifying again.

A node must be able to make its tables again when the keys that an event was verified with
are no longer to be had: a member may be revoked as of a date before its event. What was
accepted stays accepted; an auditor folds the same events with `luoshu.contracts.contract`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from luoshu.contracts.contract import ContractEvent, ContractState, Party, Position, UseBody
from luoshu.contracts.contract.effects import effect
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.keys import PublicKey
from luoshu.contracts.request import ComputationRequest

__all__ = ["replayed", "used_request"]


def replayed(
    state: ContractState | None, event: ContractEvent, position: Position, head: str
) -> ContractState:
    """The state after an event that was verified when it was committed.

    Args:
        state: Before; None for the first event.
        event: What was committed.
        position: Its place.
        head: Digest of the position.

    Raises:
        TransitionError: The event can't follow: the log isn't what this node wrote.
    """
    if isinstance(event.body, UseBody) and state is not None:
        after = replace(
            state,
            uses=state.uses + 1,
            request_ids=state.request_ids | {used_request(event.body)},
        )
    else:
        after = effect(state, event, _NoKeys())
    is_provider = after.party(event.author) is Party.PROVIDER
    return replace(
        after,
        position=position.position,
        head=head,
        changed_at=position.time,
        provider_sequence=event.author_sequence if is_provider else after.provider_sequence,
        consumer_sequence=after.consumer_sequence if is_provider else event.author_sequence,
    )


def used_request(body: UseBody) -> str:
    """Returns the id of the request that a use embeds."""
    return ComputationRequest.from_payload(unverified_payload(body.request)).id


class _NoKeys:
    """Only uses look keys up, and those don't get here."""

    def event_keys(self, participant_id: str, at: datetime) -> tuple[PublicKey, ...]:
        raise AssertionError(f"keys of {participant_id} at {at} are not needed in a replay")
