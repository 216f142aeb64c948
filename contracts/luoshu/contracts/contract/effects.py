"""What an event does to a contract's state, once its place and signatures are proven.

The meaning of an event, apart from `luoshu.contracts.contract.state`, which checks
who signed it and where it stands. Everything here refuses by raising, and changes
nothing.
"""

from __future__ import annotations

from dataclasses import replace

from luoshu.contracts import ids
from luoshu.contracts.contract.agreement import AgreementState, perform
from luoshu.contracts.contract.bodies import (
    AgreeBody,
    ConfirmBody,
    EventType,
    OfferBody,
    ReasonBody,
    RequestBody,
    UseBody,
)
from luoshu.contracts.contract.event import ContractEvent, KeyDirectory
from luoshu.contracts.contract.negotiation import NEGOTIATION_AUTHORS, NegotiationState, negotiate
from luoshu.contracts.contract.snapshot import ContractState
from luoshu.contracts.errors import CredentialError, RequestError, TransitionError
from luoshu.contracts.membership import open_user_credential
from luoshu.contracts.membership.credential import check_validity
from luoshu.contracts.request import ComputationRequest, verify_request

# What a state holds until its first position is applied to it.
_NO_HEAD = ""


def provider_of(body: RequestBody) -> str:
    """The provider of a requested contract: the product's holder."""
    return ids.parse_product_id(body.product_id).participant_id


def effect(state: ContractState | None, event: ContractEvent, keys: KeyDirectory) -> ContractState:
    """The state after an event, its position and sequences left as they were.

    Args:
        state: Before; None for a contract that doesn't exist.
        event: Verified to be by a party that may send this kind.
        keys: For the signatures that a use embeds.

    Raises:
        TransitionError: The event may not follow.
    """
    if state is None:
        return _begin(event)
    if event.type in NEGOTIATION_AUTHORS:
        return _negotiate(state, event)
    return _perform(state, event, keys)


def _begin(event: ContractEvent) -> ContractState:
    negotiation = negotiate(None, event.type)
    body = event.body
    if not isinstance(body, RequestBody) or event.head is not None:
        raise TransitionError("a contract begins with a request that names no head")
    provider = provider_of(body)
    if provider == event.author:
        raise TransitionError("a holder can't contract with itself", reason="CONTRACT_WRONG_PARTY")
    if ids.parse_participant_id(provider).space != ids.parse_participant_id(event.author).space:
        raise TransitionError("the two sides are of different spaces", reason="WRONG_SPACE")
    return ContractState(
        contract_id=event.contract_id,
        product_id=body.product_id,
        offer_id=body.offer_id,
        entry=body.entry,
        provider=provider,
        consumer=event.author,
        terms=body.terms,
        negotiation=negotiation,
        agreement=None,
        agreed=None,
        position=0,
        head=_NO_HEAD,
        changed_at=event.time,
        provider_sequence=0,
        consumer_sequence=0,
    )


def _negotiate(state: ContractState, event: ContractEvent) -> ContractState:
    body = event.body
    after = replace(state, negotiation=negotiate(state.negotiation, event.type))
    if isinstance(body, RequestBody):
        if (body.product_id, body.offer_id) != (state.product_id, state.offer_id):
            raise TransitionError("a counter-offer is for another product or offer")
        return replace(after, terms=body.terms, entry=body.entry)
    if isinstance(body, OfferBody):
        return replace(after, terms=body.terms)
    if isinstance(body, AgreeBody):
        if body.agreement != state.pending_agreement(event.time):
            raise TransitionError(
                "the agreement says something else than what was negotiated, or another time"
            )
        return replace(after, agreed=body.agreement)
    if isinstance(body, ConfirmBody):
        if state.agreed is None or body.agreement != state.agreed.digest:
            raise TransitionError("a confirmation names another agreement")
        if after.negotiation is NegotiationState.FINALIZED:
            return replace(after, agreement=AgreementState.ACTIVE)
        return after
    return replace(after, reason=body.reason) if isinstance(body, ReasonBody) else after


def _perform(state: ContractState, event: ContractEvent, keys: KeyDirectory) -> ContractState:
    body = event.body
    after = replace(state, agreement=perform(state.agreement, event.type))
    terms = state.terms
    if isinstance(body, UseBody):
        request = _embedded_request(state, event, body, keys)
        return replace(after, uses=state.uses + 1, request_ids=state.request_ids | {request.id})
    if event.type is EventType.EXPIRE and (
        terms.not_after is None or event.time <= terms.not_after
    ):
        raise TransitionError("the contract's validity has not ended")
    if event.type is EventType.COMPLETE and (terms.uses is None or state.uses < terms.uses):
        raise TransitionError("the contract's uses are not exhausted")
    return replace(after, reason=body.reason) if isinstance(body, ReasonBody) else after


def _embedded_request(
    state: ContractState, event: ContractEvent, body: UseBody, keys: KeyDirectory
) -> ComputationRequest:
    try:
        user = open_user_credential(body.user, keys.event_keys(state.consumer, event.time))
        check_validity(user.not_before, user.not_after, event.time, "a user credential")
        request = verify_request(body.request, user, event.time)
    except (CredentialError, RequestError) as error:
        raise TransitionError(
            f"a use embeds no valid request: {error.message}", reason=error.reason
        ) from None
    if user.participant_id != state.consumer:
        raise TransitionError(
            "a use embeds the request of another member's user", reason="CONTRACT_WRONG_PARTY"
        )
    if request.contract_id != state.contract_id:
        raise TransitionError(
            "a use embeds a request for another contract", reason="REQUEST_SIGNATURE_INVALID"
        )
    if request.id in state.request_ids:
        raise TransitionError(
            "a use for this request was debited before", reason="CONTRACT_EVENT_REPLAYED"
        )
    terms = state.terms
    if terms.uses is not None and state.uses >= terms.uses:
        raise TransitionError("all uses of the contract are debited", reason="USES_EXHAUSTED")
    too_early = terms.not_before is not None and event.time < terms.not_before
    too_late = terms.not_after is not None and event.time > terms.not_after
    if too_early or too_late:
        raise TransitionError(
            "the contract's validity doesn't cover this time", reason="CONTRACT_NOT_ACTIVE"
        )
    return request
