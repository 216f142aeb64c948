"""Servicer of `luoshu.api.peer.catalog.v1`: the operator's catalog."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from luoshu.api.peer.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from luoshu.connector.catalog.service import CatalogService
from luoshu.connector.peer_port import CatalogQuery
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.server import Service

_Context = grpc.aio.ServicerContext[object, object]


class PeerCatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """The catalog for members of the space."""

    def __init__(self, service: CatalogService) -> None:
        """Serves `service`."""
        self._service = service

    async def Publish(  # noqa: N802 - named by the proto
        self, request: catalog_pb2.PublishRequest, context: _Context
    ) -> catalog_pb2.PublishResponse:
        """See the proto."""
        index = await self._service.publish(current_caller().id, request.entry_envelope)
        return catalog_pb2.PublishResponse(log_index=index)

    async def Withdraw(  # noqa: N802
        self, request: catalog_pb2.WithdrawRequest, context: _Context
    ) -> catalog_pb2.WithdrawResponse:
        """See the proto."""
        index = await self._service.withdraw(current_caller().id, request.tombstone_envelope)
        return catalog_pb2.WithdrawResponse(log_index=index)

    async def Search(  # noqa: N802
        self, request: catalog_pb2.SearchRequest, context: _Context
    ) -> catalog_pb2.SearchResponse:
        """See the proto."""
        page = await self._service.search(
            current_caller().id,
            CatalogQuery(
                text=request.text,
                filters={each.field: tuple(each.any_of) for each in request.filters},
                page_size=request.page_size,
                page_token=request.page_token,
            ),
        )
        return catalog_pb2.SearchResponse(
            entry_envelopes=page.entries,
            next_page_token=page.next_page_token,
            facets=[
                catalog_pb2.Facet(field=field, value=value, count=count)
                for field, value, count in page.facets
            ],
            total=page.total,
        )

    async def GetEntry(  # noqa: N802
        self, request: catalog_pb2.GetEntryRequest, context: _Context
    ) -> catalog_pb2.GetEntryResponse:
        """See the proto."""
        entry = await self._service.get_entry(current_caller().id, request.product_id)
        return catalog_pb2.GetEntryResponse(entry_envelope=entry)

    async def Watch(  # noqa: N802
        self, request: catalog_pb2.WatchRequest, context: _Context
    ) -> AsyncIterator[catalog_pb2.WatchResponse]:
        """See the proto."""
        async with aclosing(self._service.watch(current_caller().id, request.cursor)) as changes:
            async for change in changes:
                if change.entry:
                    yield catalog_pb2.WatchResponse(
                        cursor=change.cursor, entry_envelope=change.entry
                    )
                else:
                    yield catalog_pb2.WatchResponse(
                        cursor=change.cursor, tombstone_envelope=change.tombstone
                    )


def peer_catalog(service: CatalogService) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.peer.catalog.v1.CatalogService",
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server,
        PeerCatalogServicer(service),
    )
