"""What contracts need from the rest of the node.

`luoshu.connector.rpc.peers.PeerClients` is the adapter of `ContractPeer`,
`luoshu.connector.membership.directory.MemberDirectory` the one of `Members`,
`luoshu.connector.catalog.reader.CatalogReader` the one of `Entries`, and
`luoshu.connector.catalog.holder` has the functions of `OwnEntries`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa

from luoshu.connector.catalog.holder import PublishedEntry
from luoshu.connector.catalog.reader import FoundEntry
from luoshu.connector.membership.directory import KnownCredential
from luoshu.connector.peer_port import ContractNews, SequencedBytes
from luoshu.contracts.keys import PublicKey
from luoshu.contracts.product import CatalogEntry

__all__ = ["ContractPeer", "Entries", "Members", "OwnEntries"]


class ContractPeer(Protocol):
    """The contract service of another node, `peer`; what it answers is not verified."""

    async def submit_event(
        self, peer: str, event: bytes, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """Submits a signed event; returns every event after `known_position`."""
        ...

    async def list_events(
        self, peer: str, contract_id: str, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """The events of a contract after `known_position`; empty when there are none."""
        ...

    def watch_events(self, peer: str, cursor: str) -> AsyncIterator[ContractNews]:
        """New events of this node's contracts with `peer`."""
        ...


class Members(Protocol):
    """Who is a member, and who held which keys when; see `KeyDirectory`."""

    def event_keys(self, participant_id: str, at: datetime) -> tuple[PublicKey, ...]:
        """Keys with which a member signs events at a moment; none if it was no member then."""
        ...

    def require_known(self, participant_id: str, now: datetime) -> KnownCredential:
        """Returns the credential of a member that may be trusted now.

        Raises:
            NodeError: Why there is none.
        """
        ...

    def credential_at(self, participant_id: str, at: datetime) -> KnownCredential | None:
        """The credential that counts at a moment, revocation aside."""
        ...


class Entries(Protocol):
    """The space's catalog, verified."""

    async def get_entry(self, product_id: str) -> FoundEntry:
        """Returns a product's newest entry.

        Raises:
            NodeError: NOT_FOUND, among others.
        """
        ...


class OwnEntries(Protocol):
    """Entries that this node signed."""

    def published_entry(self, connection: sa.Connection, product_id: str) -> PublishedEntry | None:
        """The newest entry that this node signed for a product, or None."""
        ...

    def entry_by_digest(self, connection: sa.Connection, digest: str) -> CatalogEntry | None:
        """An entry that this node signed at any time, or None."""
        ...
