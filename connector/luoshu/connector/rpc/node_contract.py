"""Servicer of `luoshu.api.node.contract.v1`: contracts for this node's users."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

import grpc

from luoshu.api.node.contract.v1 import contract_pb2, contract_pb2_grpc
from luoshu.connector.contract.service import ContractAction, ContractService
from luoshu.connector.errors import NodeError
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.server import Service
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.contract import ContractState

_Context = grpc.aio.ServicerContext[object, object]

_ACTIONS: Final = {
    contract_pb2.CONTRACT_ACTION_ACCEPT: ContractAction.ACCEPT,
    contract_pb2.CONTRACT_ACTION_COUNTER: ContractAction.COUNTER,
    contract_pb2.CONTRACT_ACTION_APPROVE: ContractAction.APPROVE,
    contract_pb2.CONTRACT_ACTION_REFUSE: ContractAction.REFUSE,
    contract_pb2.CONTRACT_ACTION_SUSPEND: ContractAction.SUSPEND,
    contract_pb2.CONTRACT_ACTION_RESUME: ContractAction.RESUME,
    contract_pb2.CONTRACT_ACTION_REVOKE: ContractAction.REVOKE,
    contract_pb2.CONTRACT_ACTION_END: ContractAction.END,
}

_GOVERNING: Final = frozenset(
    {
        ContractAction.APPROVE,
        ContractAction.SUSPEND,
        ContractAction.RESUME,
        ContractAction.REVOKE,
    }
)
"""Steps that dispose of this node's own data: for its administrators only."""


class NodeContractServicer(contract_pb2_grpc.ContractServiceServicer):
    """Contracts for this node's users."""

    def __init__(self, service: ContractService) -> None:
        """Serves `service`."""
        self._service = service

    async def RequestContract(  # noqa: N802 - named by the proto
        self, request: contract_pb2.RequestContractRequest, context: _Context
    ) -> contract_pb2.RequestContractResponse:
        """See the proto."""
        state = await self._service.request(request.product_id, request.offer_id, request.terms)
        return contract_pb2.RequestContractResponse(contract=_message(state))

    async def ActOnContract(  # noqa: N802
        self, request: contract_pb2.ActOnContractRequest, context: _Context
    ) -> contract_pb2.ActOnContractResponse:
        """See the proto."""
        action = _ACTIONS.get(request.action)
        if action is None:
            raise NodeError("MALFORMED_MESSAGE", "The action on the contract is not known.")
        if action in _GOVERNING and "admin" not in current_caller().roles:
            raise NodeError("ROLE_REQUIRED", f"Only an administrator may {action} a contract.")
        state = await self._service.act(request.contract_id, action, request.terms, request.reason)
        return contract_pb2.ActOnContractResponse(contract=_message(state))

    async def ListContracts(  # noqa: N802
        self, request: contract_pb2.ListContractsRequest, context: _Context
    ) -> contract_pb2.ListContractsResponse:
        """See the proto."""
        states, token = await self._service.page(request.state, request.page_token)
        return contract_pb2.ListContractsResponse(
            contracts=[_message(each) for each in states], next_page_token=token
        )

    async def GetContract(  # noqa: N802
        self, request: contract_pb2.GetContractRequest, context: _Context
    ) -> contract_pb2.GetContractResponse:
        """See the proto."""
        details = await self._service.get(request.contract_id, request.known_position)
        return contract_pb2.GetContractResponse(
            contract=_message(details.state),
            events=[
                contract_pb2.SequencedEvent(
                    event_envelope=each.event, position_envelope=each.position
                )
                for each in details.events
            ],
            provider_credential=details.provider_credential,
            consumer_credential=details.consumer_credential,
            debits=details.debits,
        )

    async def WatchContract(  # noqa: N802
        self, request: contract_pb2.WatchContractRequest, context: _Context
    ) -> AsyncIterator[contract_pb2.WatchContractResponse]:
        """See the proto."""
        async with aclosing(self._service.watch(request.contract_id)) as states:
            async for state in states:
                yield contract_pb2.WatchContractResponse(contract=_message(state))


def _message(state: ContractState) -> contract_pb2.Contract:
    return contract_pb2.Contract(
        contract_id=state.contract_id,
        product_id=state.product_id,
        provider=state.provider,
        consumer=state.consumer,
        negotiation_state=state.negotiation.value,
        agreement_state="" if state.agreement is None else state.agreement.value,
        position=state.position,
        state_hash=state.state_hash,
        terms=canonicalize(state.terms.to_payload()),
        uses=state.uses,
        reason=state.reason,
    )


def node_contract(service: ContractService) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.node.contract.v1.ContractService",
        contract_pb2_grpc.add_ContractServiceServicer_to_server,
        NodeContractServicer(service),
    )
