"""The operator's own catalog, met as if it were a peer: its users and products use it too."""

from __future__ import annotations

from collections.abc import AsyncIterator

from luoshu.connector.catalog.service import CatalogService
from luoshu.connector.peer_port import CatalogChange, CatalogPage, CatalogQuery

__all__ = ["LocalCatalog"]


class LocalCatalog:
    """Implements `CatalogPeer` on this node's own service; ``peer`` is ignored."""

    def __init__(self, service: CatalogService, participant_id: str) -> None:
        """Builds the adapter.

        Args:
            service: The catalog.
            participant_id: This node, as whom it is asked.
        """
        self._service = service
        self._me = participant_id

    async def publish(self, peer: str, entry: bytes) -> int:
        """Publishes an entry."""
        return await self._service.publish(self._me, entry)

    async def withdraw(self, peer: str, tombstone: bytes) -> int:
        """Withdraws an entry."""
        return await self._service.withdraw(self._me, tombstone)

    async def search(self, peer: str, query: CatalogQuery) -> CatalogPage:
        """Searches."""
        return await self._service.search(self._me, query)

    async def get_entry(self, peer: str, product_id: str) -> bytes:
        """The newest entry envelope of a product."""
        return await self._service.get_entry(self._me, product_id)

    def watch_catalog(self, peer: str, cursor: str) -> AsyncIterator[CatalogChange]:
        """Changes after a cursor."""
        return self._service.watch(self._me, cursor)
