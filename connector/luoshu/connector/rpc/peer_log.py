"""Servicer of `luoshu.api.peer.log.v1`."""

import grpc

from luoshu.api.peer.log.v1 import log_pb2, log_pb2_grpc
from luoshu.connector.errors import NodeError
from luoshu.connector.log_service import LogService
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.server import Service

_Context = grpc.aio.ServicerContext[object, object]


class PeerLogServicer(log_pb2_grpc.LogServiceServicer):
    """The usage log, for other members."""

    def __init__(self, service: LogService) -> None:
        """Serves `service`."""
        self._service = service

    async def GetCheckpoint(  # noqa: N802 - named by the proto
        self, request: log_pb2.GetCheckpointRequest, context: _Context
    ) -> log_pb2.GetCheckpointResponse:
        """See the proto."""
        return log_pb2.GetCheckpointResponse(checkpoint=self._service.checkpoint())

    async def GetEntry(  # noqa: N802
        self, request: log_pb2.GetEntryRequest, context: _Context
    ) -> log_pb2.GetEntryResponse:
        """See the proto."""
        credential = current_caller().credential
        if credential is None:
            raise NodeError("CREDENTIAL_MISSING")
        receipt = await self._service.receipt_for(credential, request.index)
        return log_pb2.GetEntryResponse(receipt=receipt)

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


def peer_log(service: LogService) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.peer.log.v1.LogService",
        log_pb2_grpc.add_LogServiceServicer_to_server,
        PeerLogServicer(service),
    )
