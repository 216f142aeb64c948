"""The SDK's only door to the network.

Here, and nowhere else in the SDK, gRPC and the generated stubs are imported.
What comes out are the frozen dataclasses of `luoshu.sdk.rpc.messages` and the
errors of `luoshu.sdk.errors`; no protobuf message leaves this package. Nothing
here decides whether a document is genuine: bytes of signed documents pass
through as they came.
"""
