"""The node: services, stores, catalog, membership, log and the composition root.

Here lives what a running node does. ``rpc`` is the only sub-package that imports grpc or the
stubs; everything else speaks in the frozen dataclasses of ``luoshu.contracts``. Nothing here
runs inside the isolation, and the SDK imports none of it.
"""
