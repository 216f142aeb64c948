"""The space's catalog: the operator's side, the holder's side, the analyst's side.

``tokens``, ``expression`` and ``search`` are the search index; ``projection`` keeps the
tables; ``service`` is the operator's catalog, ``holder`` publishes this node's products,
``reader`` searches through the operator and believes nothing unverified. No grpc here: peers
are met through the port ``CatalogPeer``, and ``rpc`` translates.
"""
