"""Servicer of `luoshu.api.node.log.v1`."""

import grpc

from luoshu.api.node.log.v1 import log_pb2, log_pb2_grpc
from luoshu.connector.log_service import LogService
from luoshu.connector.rpc.server import Service
from luoshu.contracts.times import format_time

_Context = grpc.aio.ServicerContext[object, object]


class NodeLogServicer(log_pb2_grpc.LogServiceServicer):
    """The usage log, for this node's users."""

    def __init__(self, service: LogService) -> None:
        """Serves `service`."""
        self._service = service

    async def GetCheckpoint(  # noqa: N802 - named by the proto
        self, request: log_pb2.GetCheckpointRequest, context: _Context
    ) -> log_pb2.GetCheckpointResponse:
        """See the proto."""
        return log_pb2.GetCheckpointResponse(checkpoint=self._service.checkpoint())

    async def ListEntries(  # noqa: N802
        self, request: log_pb2.ListEntriesRequest, context: _Context
    ) -> log_pb2.ListEntriesResponse:
        """See the proto."""
        found = await self._service.entries(
            contract_id=request.contract_id,
            kind=request.kind,
            page_size=request.page_size,
            before=request.before_index,
        )
        return log_pb2.ListEntriesResponse(
            entries=[
                log_pb2.LogEntry(
                    index=one.index,
                    kind=one.kind,
                    time=format_time(one.time),
                    contract_id=one.contract_id or "",
                )
                for one in found
            ]
        )

    async def GetEntry(  # noqa: N802
        self, request: log_pb2.GetEntryRequest, context: _Context
    ) -> log_pb2.GetEntryResponse:
        """See the proto."""
        return log_pb2.GetEntryResponse(receipt=await self._service.receipt(request.index))

    async def GetInclusionProof(  # noqa: N802
        self, request: log_pb2.GetInclusionProofRequest, context: _Context
    ) -> log_pb2.GetInclusionProofResponse:
        """See the proto."""
        hashes = await self._service.inclusion_proof(request.index, request.tree_size)
        return log_pb2.GetInclusionProofResponse(hashes=hashes)

    async def GetConsistencyProof(  # noqa: N802
        self, request: log_pb2.GetConsistencyProofRequest, context: _Context
    ) -> log_pb2.GetConsistencyProofResponse:
        """See the proto."""
        hashes = await self._service.consistency_proof(request.first_size, request.second_size)
        return log_pb2.GetConsistencyProofResponse(hashes=hashes)


def node_log(service: LogService) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.node.log.v1.LogService",
        log_pb2_grpc.add_LogServiceServicer_to_server,
        NodeLogServicer(service),
    )
