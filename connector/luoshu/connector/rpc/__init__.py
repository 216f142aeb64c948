"""gRPC at the edge of the node: servers, the gate in front of them, clients, servicers.

The only package of the connector that imports `grpc` and the generated stubs. What lives
here translates: bytes and messages in, calls on the feature packages' services, messages
out. Decisions about contracts, products or members live in those packages, which know
nothing of gRPC. Import the modules; this package re-exports nothing, so that importing one
of them costs only itself.
"""
