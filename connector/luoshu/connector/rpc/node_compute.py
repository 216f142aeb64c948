"""Servicer of `luoshu.api.node.compute.v1`: computations that this node's users ask for."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from luoshu.api.node.compute.v1 import compute_pb2, compute_pb2_grpc
from luoshu.connector.compute.relay import ComputeRelay, Proof
from luoshu.connector.errors import NodeError
from luoshu.connector.rpc.caller import Caller, current_caller
from luoshu.connector.rpc.server import Service
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.membership import UserCredential

_Context = grpc.aio.ServicerContext[object, object]


class NodeComputeServicer(compute_pb2_grpc.ComputeServiceServicer):
    """Computations for this node's users."""

    def __init__(self, relay: ComputeRelay) -> None:
        """Serves `relay`."""
        self._relay = relay

    async def Submit(  # noqa: N802 - named by the proto
        self, request: compute_pb2.SubmitRequest, context: _Context
    ) -> compute_pb2.SubmitResponse:
        """See the proto."""
        user, envelope = _user(current_caller())
        request_id = await self._relay.submit(user, envelope, request.request_envelope)
        return compute_pb2.SubmitResponse(request_id=request_id)

    async def WatchProgress(  # noqa: N802
        self, request: compute_pb2.WatchProgressRequest, context: _Context
    ) -> AsyncIterator[compute_pb2.WatchProgressResponse]:
        """See the proto."""
        async with aclosing(
            self._relay.progress(current_caller().id, request.request_id, attached=request.attached)
        ) as phases:
            async for phase in phases:
                yield compute_pb2.WatchProgressResponse(
                    phase=compute_pb2.Phase.Value(f"PHASE_{phase}")
                )

    async def FetchResult(  # noqa: N802
        self, request: compute_pb2.FetchResultRequest, context: _Context
    ) -> AsyncIterator[compute_pb2.FetchResultResponse]:
        """See the proto."""
        async with aclosing(
            self._relay.fetch(current_caller().id, request.request_id, attached=request.attached)
        ) as parts:
            async for part in parts:
                if isinstance(part, Proof):
                    proof = compute_pb2.Proof(
                        receipt=part.receipt, holder_credential=part.holder_credential
                    )
                    yield compute_pb2.FetchResultResponse(proof=proof)
                else:
                    yield compute_pb2.FetchResultResponse(arrow_ipc=part)

    async def Cancel(  # noqa: N802
        self, request: compute_pb2.CancelRequest, context: _Context
    ) -> compute_pb2.CancelResponse:
        """See the proto."""
        await self._relay.cancel(current_caller().id, request.request_id)
        return compute_pb2.CancelResponse()

    async def Explain(  # noqa: N802
        self, request: compute_pb2.ExplainRequest, context: _Context
    ) -> compute_pb2.ExplainResponse:
        """See the proto."""
        explanation = await self._relay.explain(request.request)
        return compute_pb2.ExplainResponse(explanation=explanation)


def _user(caller: Caller) -> tuple[UserCredential, Envelope]:
    if caller.user is None or caller.user_envelope is None:
        raise NodeError("ROLE_REQUIRED", "Only an enrolled user may compute.")
    return caller.user, caller.user_envelope


def node_compute(relay: ComputeRelay) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.node.compute.v1.ComputeService",
        compute_pb2_grpc.add_ComputeServiceServicer_to_server,
        NodeComputeServicer(relay),
    )
