"""What the node's services ask of other nodes: a port without wire types.

`luoshu.connector.rpc.peers.PeerClients` is the adapter. Envelopes, receipts and notes
cross as bytes, as the other node sent them: whoever asks also verifies, by the rules of
its own area. Every method raises `NodeError`: the peer's own reason where it gave one,
PEER_UNREACHABLE where it couldn't be reached, CREDENTIAL_EXPIRED where this node's own
certificate is the trouble.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a node answers to an introduction.

    Attributes:
        credential: Its own membership credential envelope.
        status_list: The status list envelope that it holds; empty if none.
    """

    credential: bytes
    status_list: bytes


@dataclass(frozen=True, slots=True)
class CatalogQuery:
    """A search in the space's catalog.

    Attributes:
        text: Chinese or English words; empty lists everything visible.
        filters: Field to accepted values.
        page_size: 1 to 100; 0 means 20.
        page_token: Of the page before; empty starts.
    """

    text: str
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    page_size: int = 0
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class CatalogPage:
    """One page of entries, best first.

    Attributes:
        entries: Envelopes as their holders signed them; not yet verified.
        next_page_token: Empty on the last page.
        facets: ``(field, value, number of entries)``.
        total: Entries on all pages.
    """

    entries: tuple[bytes, ...]
    next_page_token: str
    facets: tuple[tuple[str, str, int], ...]
    total: int


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """One change of the catalog; exactly one of entry and tombstone is not empty."""

    cursor: str
    entry: bytes
    tombstone: bytes


@dataclass(frozen=True, slots=True)
class SequencedBytes:
    """A contract event and its position, two envelopes, not yet verified."""

    event: bytes
    position: bytes


@dataclass(frozen=True, slots=True)
class ContractNews:
    """One new event on a stream. `cursor` resumes after it."""

    cursor: str
    contract_id: str
    event: SequencedBytes


@dataclass(frozen=True, slots=True)
class ResultPart:
    """A piece of a result; exactly one attribute is not empty.

    Attributes:
        receipt: Receipt JSON; always the first part.
        arrow_ipc: A piece of one Arrow IPC stream.
    """

    receipt: bytes
    arrow_ipc: bytes


class Peers(Protocol):
    """Calls on other nodes; `peer` is always a participant id."""

    async def introduce(self, peer: str) -> Introduction:
        """Introduces this node. Other calls do so by themselves where needed."""
        ...

    async def get_member(self, peer: str, participant_id: str) -> bytes:
        """One member's credential envelope, as `peer` knows it."""
        ...

    async def list_members(self, peer: str) -> tuple[bytes, ...]:
        """Credential envelopes of all members that `peer` holds to be valid."""
        ...

    def watch_status_list(self, peer: str) -> AsyncGenerator[bytes, None]:
        """Status list envelopes, the present one first. Ends after an hour at most."""
        ...

    async def publish(self, peer: str, entry: bytes) -> int:
        """Publishes an entry; returns the index in the operator's log."""
        ...

    async def withdraw(self, peer: str, tombstone: bytes) -> int:
        """Withdraws an entry; returns the index in the operator's log."""
        ...

    async def search(self, peer: str, query: CatalogQuery) -> CatalogPage:
        """Searches the catalog."""
        ...

    async def get_entry(self, peer: str, product_id: str) -> bytes:
        """The newest entry envelope of a product."""
        ...

    def watch_catalog(self, peer: str, cursor: str) -> AsyncGenerator[CatalogChange, None]:
        """Changes of the catalog after a cursor. Ends after an hour at most."""
        ...

    async def submit_event(
        self, peer: str, event: bytes, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """Submits a signed event; returns every event after `known_position`."""
        ...

    async def list_events(
        self, peer: str, contract_id: str, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """The events of a contract after `known_position`."""
        ...

    def watch_events(self, peer: str, cursor: str) -> AsyncGenerator[ContractNews, None]:
        """New events of this node's contracts with `peer`. Ends after an hour at most."""
        ...

    async def submit_computation(self, peer: str, request: bytes, user_credential: bytes) -> str:
        """Submits a user's signed request; returns the request id."""
        ...

    def watch_progress(
        self, peer: str, request_id: str, *, attached: bool = False
    ) -> AsyncGenerator[str, None]:
        """Phases of a computation: ACCEPTED, CHECKING, COMPUTING, RELEASING, ENDED.

        Attached, the computation ends with the call.
        """
        ...

    def fetch_result(
        self, peer: str, request_id: str, *, attached: bool = False
    ) -> AsyncGenerator[ResultPart, None]:
        """Waits for the end of a computation, then gives its parts in order.

        Attached, the computation ends with the call.
        """
        ...

    async def cancel(self, peer: str, request_id: str) -> None:
        """Cancels a computation."""
        ...

    async def explain_computation(self, peer: str, request: bytes) -> bytes:
        """JSON of what a request would cost; the request isn't signed."""
        ...

    async def checkpoint(self, peer: str) -> str:
        """The newest signed checkpoint of the peer's log."""
        ...

    async def log_entry(self, peer: str, index: int) -> bytes:
        """Receipt JSON of one entry of the peer's log."""
        ...

    async def inclusion_proof(self, peer: str, index: int, tree_size: int) -> tuple[bytes, ...]:
        """RFC 6962 audit path in the peer's log."""
        ...

    async def consistency_proof(self, peer: str, first: int, second: int) -> tuple[bytes, ...]:
        """RFC 6962 consistency proof in the peer's log."""
        ...
