"""What a node answers, as frozen dataclasses.

Envelopes and receipts are the bytes that came, not yet verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """Where a computation stands. Names only: sizes and counts would tell too much."""

    ACCEPTED = "accepted"
    CHECKING = "checking"
    COMPUTING = "computing"
    RELEASING = "releasing"
    ENDED = "ended"


class ContractAction(StrEnum):
    """A step that one side of a contract takes."""

    ACCEPT = "accept"
    COUNTER = "counter"
    APPROVE = "approve"
    REFUSE = "refuse"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    END = "end"


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What a node says of itself."""

    participant_id: str
    roles: tuple[str, ...]
    version: str
    log_size: int
    status_list_valid_until: int
    membership_credential: bytes


@dataclass(frozen=True, slots=True)
class EntryAnswer:
    """A catalog entry with its issuer's credential, both unverified envelopes."""

    entry_envelope: bytes
    issuer_credential: bytes


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of search results."""

    entries: tuple[EntryAnswer, ...]
    next_page_token: str
    total: int
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalProduct:
    """A product prepared on the holder's own node.

    Attributes:
        product: Local id, as in the product file.
        product_id: The space-wide id; empty until published.
        version: Version of the published entry; 0 until published.
        state: `prepared`, `published` or `withdrawn`.
    """

    product: str
    product_id: str
    version: int
    state: str


@dataclass(frozen=True, slots=True)
class ContractSummary:
    """A contract as the user's own node sees it; not verified."""

    contract_id: str
    product_id: str
    provider: str
    consumer: str
    negotiation_state: str
    agreement_state: str
    position: int
    state_hash: str
    terms: bytes
    uses: int
    reason: str


@dataclass(frozen=True, slots=True)
class ContractAnswer:
    """A contract with its signed events and both parties' credentials, unverified."""

    summary: ContractSummary
    events: tuple[tuple[bytes, bytes], ...]
    provider_credential: bytes
    consumer_credential: bytes
    debits: int | None = None


@dataclass(frozen=True, slots=True)
class ResultAnswer:
    """Receipt, holder's credential and the Arrow IPC bytes, unverified."""

    receipt: bytes
    holder_credential: bytes
    arrow_ipc: bytes


@dataclass(frozen=True, slots=True)
class LogEntrySummary:
    """One line of the own node's usage log.

    Attributes:
        time: RFC 3339, UTC.
        contract_id: Empty if the entry concerns no contract.
    """

    index: int
    kind: str
    time: str
    contract_id: str
