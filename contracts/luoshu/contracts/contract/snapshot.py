"""The state of a contract: what its events, in their order, come to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from luoshu.contracts import canonical
from luoshu.contracts.canonical import JsonValue
from luoshu.contracts.contract.agreement import AgreementState
from luoshu.contracts.contract.bodies import Agreement
from luoshu.contracts.contract.negotiation import NegotiationState, Party
from luoshu.contracts.terms import Terms
from luoshu.contracts.times import format_time

STATE_SCHEMA = "luoshu/contract-state/v1"


@dataclass(frozen=True, slots=True)
class ContractState:
    """A contract after ``position`` events.

    Attributes:
        contract_id: The contract.
        product_id: The contract object.
        offer_id: The offer it is asked under.
        entry: Digest of the catalog entry that the newest request names.
        provider: Participant id of the product's holder.
        consumer: Participant id of the one that asked.
        terms: The terms on the table, or agreed.
        negotiation: State of the negotiation.
        agreement: State of the agreement; None until finalised.
        agreed: The agreement, once the provider signed it.
        position: Number of events.
        head: Digest of the newest position.
        changed_at: The provider's time of the newest position.
        provider_sequence: Highest count of the provider's own events.
        consumer_sequence: Highest count of the consumer's own events.
        uses: Number of uses debited.
        request_ids: Ids of the requests debited.
        reason: Why the last step was taken that says so; may be empty.
    """

    contract_id: str
    product_id: str
    offer_id: str
    entry: str
    provider: str
    consumer: str
    terms: Terms
    negotiation: NegotiationState
    agreement: AgreementState | None
    agreed: Agreement | None
    position: int
    head: str
    changed_at: datetime
    provider_sequence: int
    consumer_sequence: int
    uses: int = 0
    request_ids: frozenset[str] = frozenset()
    reason: str = ""

    @property
    def is_active(self) -> bool:
        """Whether uses may be decided at all."""
        return self.agreement is AgreementState.ACTIVE

    @property
    def state_hash(self) -> str:
        """Digest of the whole state: equal at both sides, or one of them is wrong."""
        return canonical.digest_of(
            {
                "schema": STATE_SCHEMA,
                "contract_id": self.contract_id,
                "product_id": self.product_id,
                "offer_id": self.offer_id,
                "entry": self.entry,
                "provider": self.provider,
                "consumer": self.consumer,
                "terms": self.terms.to_payload(),
                "negotiation": self.negotiation.value,
                "agreement": None if self.agreement is None else self.agreement.value,
                "agreed": None if self.agreed is None else self.agreed.digest,
                "position": self.position,
                "head": self.head,
                "changed_at": format_time(self.changed_at),
                "provider_sequence": self.provider_sequence,
                "consumer_sequence": self.consumer_sequence,
                "uses": self.uses,
                "request_ids": list[JsonValue](sorted(self.request_ids)),
                "reason": self.reason,
            }
        )

    def party(self, participant_id: str) -> Party | None:
        """Which side a participant is on; None for a third."""
        if participant_id == self.provider:
            return Party.PROVIDER
        return Party.CONSUMER if participant_id == self.consumer else None

    def sequence_of(self, party: Party) -> int:
        """Highest count of a party's own events."""
        return self.provider_sequence if party is Party.PROVIDER else self.consumer_sequence

    def pending_agreement(self, signed_at: datetime) -> Agreement:
        """The agreement that the provider would sign at a time on the terms on the table."""
        return Agreement(
            contract_id=self.contract_id,
            product_id=self.product_id,
            offer_id=self.offer_id,
            entry=self.entry,
            provider=self.provider,
            consumer=self.consumer,
            terms=self.terms,
            signed_at=signed_at,
        )
