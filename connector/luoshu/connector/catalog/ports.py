"""What the catalog needs from the rest of the node.

`luoshu.connector.membership.directory.MemberDirectory` is the adapter of `Members`,
`luoshu.connector.rpc.peers.PeerClients` the one of `CatalogPeer`; where the operator's own
users search, `luoshu.connector.catalog.local.LocalCatalog` is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

from luoshu.connector.membership.directory import KnownCredential
from luoshu.connector.peer_port import CatalogChange, CatalogPage, CatalogQuery

__all__ = ["CatalogPeer", "Members"]


class Members(Protocol):
    """Who is a member of the space, as this node knows it."""

    def require_known(self, participant_id: str, now: datetime) -> KnownCredential:
        """Returns the credential of a member that may be trusted now.

        Raises:
            NodeError: STATUS_LIST_STALE, CREDENTIAL_REVOKED, CREDENTIAL_MISSING (not known
                here), CREDENTIAL_EXPIRED.
        """
        ...


class CatalogPeer(Protocol):
    """The catalog of another node, `peer`; what it answers is not verified."""

    async def publish(self, peer: str, entry: bytes) -> int:
        """Publishes an entry; returns the index in the operator's log."""
        ...

    async def withdraw(self, peer: str, tombstone: bytes) -> int:
        """Withdraws an entry; returns the index in the operator's log."""
        ...

    async def search(self, peer: str, query: CatalogQuery) -> CatalogPage:
        """Searches."""
        ...

    async def get_entry(self, peer: str, product_id: str) -> bytes:
        """The newest entry envelope of a product."""
        ...

    def watch_catalog(self, peer: str, cursor: str) -> AsyncIterator[CatalogChange]:
        """Changes after a cursor."""
        ...
