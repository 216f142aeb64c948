"""Servicer of `luoshu.api.peer.contract.v1`: the provider's side of contracts."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from luoshu.api.peer.contract.v1 import contract_pb2, contract_pb2_grpc
from luoshu.connector.contract.provider import ContractProvider
from luoshu.connector.peer_port import SequencedBytes
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.server import Service

_Context = grpc.aio.ServicerContext[object, object]


class PeerContractServicer(contract_pb2_grpc.ContractServiceServicer):
    """Contracts for the other party."""

    def __init__(self, provider: ContractProvider) -> None:
        """Serves `provider`."""
        self._provider = provider

    async def SubmitEvent(  # noqa: N802 - named by the proto
        self, request: contract_pb2.SubmitEventRequest, context: _Context
    ) -> contract_pb2.SubmitEventResponse:
        """See the proto."""
        events = await self._provider.submit_event(
            current_caller().id, request.event_envelope, request.known_position
        )
        return contract_pb2.SubmitEventResponse(events=[_message(each) for each in events])

    async def ListEvents(  # noqa: N802
        self, request: contract_pb2.ListEventsRequest, context: _Context
    ) -> contract_pb2.ListEventsResponse:
        """See the proto."""
        events = await self._provider.list_events(
            current_caller().id, request.contract_id, request.known_position
        )
        return contract_pb2.ListEventsResponse(events=[_message(each) for each in events])

    async def WatchEvents(  # noqa: N802
        self, request: contract_pb2.WatchEventsRequest, context: _Context
    ) -> AsyncIterator[contract_pb2.WatchEventsResponse]:
        """See the proto."""
        async with aclosing(
            self._provider.watch_events(current_caller().id, request.cursor)
        ) as stream:
            async for news in stream:
                yield contract_pb2.WatchEventsResponse(
                    cursor=news.cursor, contract_id=news.contract_id, event=_message(news.event)
                )


def _message(sequenced: SequencedBytes) -> contract_pb2.SequencedEvent:
    return contract_pb2.SequencedEvent(
        event_envelope=sequenced.event, position_envelope=sequenced.position
    )


def peer_contract(provider: ContractProvider) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.peer.contract.v1.ContractService",
        contract_pb2_grpc.add_ContractServiceServicer_to_server,
        PeerContractServicer(provider),
    )
