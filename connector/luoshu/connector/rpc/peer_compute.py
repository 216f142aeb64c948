"""Servicer of `luoshu.api.peer.compute.v1`: computations asked by other organisations."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from luoshu.api.peer.compute.v1 import compute_pb2, compute_pb2_grpc
from luoshu.connector.compute.explaining import Explainer
from luoshu.connector.compute.service import CHUNK_BYTES, ComputeService
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.server import Service

_Context = grpc.aio.ServicerContext[object, object]


class PeerComputeServicer(compute_pb2_grpc.ComputeServiceServicer):
    """Computations for members of the space."""

    def __init__(self, service: ComputeService, explainer: Explainer) -> None:
        """Serves `service` and `explainer`."""
        self._service = service
        self._explainer = explainer

    async def Submit(  # noqa: N802 - named by the proto
        self, request: compute_pb2.SubmitRequest, context: _Context
    ) -> compute_pb2.SubmitResponse:
        """See the proto."""
        request_id = await self._service.submit(
            current_caller().id, request.request_envelope, request.user_credential
        )
        return compute_pb2.SubmitResponse(request_id=request_id)

    async def WatchProgress(  # noqa: N802
        self, request: compute_pb2.WatchProgressRequest, context: _Context
    ) -> AsyncIterator[compute_pb2.WatchProgressResponse]:
        """See the proto."""
        caller, request_id = current_caller().id, request.request_id
        with self._service.attached(caller, request_id, is_attached=request.attached):
            async with aclosing(self._service.progress(caller, request_id)) as phases:
                async for phase in phases:
                    yield compute_pb2.WatchProgressResponse(
                        phase=compute_pb2.Phase.ValueType(phase.value)
                    )

    async def FetchResult(  # noqa: N802
        self, request: compute_pb2.FetchResultRequest, context: _Context
    ) -> AsyncIterator[compute_pb2.FetchResultResponse]:
        """See the proto."""
        caller, request_id = current_caller().id, request.request_id
        with self._service.attached(caller, request_id, is_attached=request.attached):
            receipt, result = await self._service.fetch(caller, request_id)
        yield compute_pb2.FetchResultResponse(receipt=receipt)
        for start in range(0, len(result), CHUNK_BYTES):
            yield compute_pb2.FetchResultResponse(arrow_ipc=result[start : start + CHUNK_BYTES])

    async def Cancel(  # noqa: N802
        self, request: compute_pb2.CancelRequest, context: _Context
    ) -> compute_pb2.CancelResponse:
        """See the proto."""
        await self._service.cancel(current_caller().id, request.request_id)
        return compute_pb2.CancelResponse()

    async def Explain(  # noqa: N802
        self, request: compute_pb2.ExplainRequest, context: _Context
    ) -> compute_pb2.ExplainResponse:
        """See the proto."""
        explanation = await self._explainer.explain(current_caller().id, request.request)
        return compute_pb2.ExplainResponse(explanation=explanation)


def peer_compute(service: ComputeService, explainer: Explainer) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.peer.compute.v1.ComputeService",
        compute_pb2_grpc.add_ComputeServiceServicer_to_server,
        PeerComputeServicer(service, explainer),
    )
