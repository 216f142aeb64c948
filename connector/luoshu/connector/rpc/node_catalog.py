"""Servicer of `luoshu.api.node.catalog.v1`: this node's products, and the space's catalog."""

import grpc

from luoshu.api.node.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from luoshu.connector.catalog.holder import ProductService
from luoshu.connector.catalog.reader import CatalogReader, FoundEntry
from luoshu.connector.peer_port import CatalogQuery
from luoshu.connector.rpc.server import Service

_Context = grpc.aio.ServicerContext[object, object]


class NodeCatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """Products and catalog for this node's users."""

    def __init__(self, products: ProductService, reader: CatalogReader) -> None:
        """Serves both."""
        self._products = products
        self._reader = reader

    async def PublishProduct(  # noqa: N802 - named by the proto
        self, request: catalog_pb2.PublishProductRequest, context: _Context
    ) -> catalog_pb2.PublishProductResponse:
        """See the proto."""
        published = await self._products.publish(request.product, request.offers)
        return catalog_pb2.PublishProductResponse(
            product_id=published.product_id,
            version=published.version,
            log_index=published.log_index,
        )

    async def WithdrawProduct(  # noqa: N802
        self, request: catalog_pb2.WithdrawProductRequest, context: _Context
    ) -> catalog_pb2.WithdrawProductResponse:
        """See the proto."""
        withdrawn = await self._products.withdraw(request.product_id)
        return catalog_pb2.WithdrawProductResponse(log_index=withdrawn.log_index)

    async def ListProducts(  # noqa: N802
        self, request: catalog_pb2.ListProductsRequest, context: _Context
    ) -> catalog_pb2.ListProductsResponse:
        """See the proto."""
        products = await self._products.list_products()
        return catalog_pb2.ListProductsResponse(
            products=[
                catalog_pb2.Product(
                    product=each.product,
                    product_id=each.product_id,
                    version=each.version,
                    state=each.state,
                )
                for each in products
            ]
        )

    async def Search(  # noqa: N802
        self, request: catalog_pb2.SearchRequest, context: _Context
    ) -> catalog_pb2.SearchResponse:
        """See the proto."""
        page = await self._reader.search(
            CatalogQuery(
                text=request.text,
                filters={each.field: tuple(each.any_of) for each in request.filters},
                page_size=request.page_size,
                page_token=request.page_token,
            )
        )
        return catalog_pb2.SearchResponse(
            entries=[_entry(each) for each in page.entries],
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
        found = await self._reader.get_entry(request.product_id)
        return catalog_pb2.GetEntryResponse(entry=_entry(found))


def _entry(found: FoundEntry) -> catalog_pb2.CatalogEntry:
    return catalog_pb2.CatalogEntry(
        entry_envelope=found.verified.envelope.to_bytes(),
        issuer_credential=found.issuer_credential,
    )


def node_catalog(products: ProductService, reader: CatalogReader) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.node.catalog.v1.CatalogService",
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server,
        NodeCatalogServicer(products, reader),
    )
