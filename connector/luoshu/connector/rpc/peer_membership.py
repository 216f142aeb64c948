"""Servicer of `luoshu.api.peer.membership.v1`.

The pattern of all servicers: take what the message holds, call the service, put what it
returns into a message. Whatever the service raises, the gate turns into a status.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from luoshu.api.peer.membership.v1 import membership_pb2, membership_pb2_grpc
from luoshu.connector.membership.service import MembershipService
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.server import Service

_Context = grpc.aio.ServicerContext[object, object]


class PeerMembershipServicer(membership_pb2_grpc.MembershipServiceServicer):
    """Membership between nodes."""

    def __init__(self, service: MembershipService) -> None:
        """Serves `service`."""
        self._service = service

    async def Introduce(  # noqa: N802 - named by the proto
        self, request: membership_pb2.IntroduceRequest, context: _Context
    ) -> membership_pb2.IntroduceResponse:
        """See the proto."""
        caller = current_caller()
        introduction = await self._service.introduce(
            caller.id, caller.certificate.spki, request.membership_credential
        )
        return membership_pb2.IntroduceResponse(
            membership_credential=introduction.credential,
            status_list_envelope=introduction.status_list,
        )

    async def GetMember(  # noqa: N802
        self, request: membership_pb2.GetMemberRequest, context: _Context
    ) -> membership_pb2.GetMemberResponse:
        """See the proto."""
        return membership_pb2.GetMemberResponse(
            membership_credential=self._service.get_member(request.participant_id)
        )

    async def ListMembers(  # noqa: N802
        self, request: membership_pb2.ListMembersRequest, context: _Context
    ) -> membership_pb2.ListMembersResponse:
        """See the proto."""
        return membership_pb2.ListMembersResponse(
            membership_credentials=self._service.list_members()
        )

    async def WatchStatusList(  # noqa: N802
        self, request: membership_pb2.WatchStatusListRequest, context: _Context
    ) -> AsyncIterator[membership_pb2.WatchStatusListResponse]:
        """See the proto."""
        async with aclosing(self._service.watch_status_list()) as lists:
            async for envelope in lists:
                yield membership_pb2.WatchStatusListResponse(status_list_envelope=envelope)


def peer_membership(service: MembershipService) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.peer.membership.v1.MembershipService",
        membership_pb2_grpc.add_MembershipServiceServicer_to_server,
        PeerMembershipServicer(service),
    )
