"""Servicer of `luoshu.api.node.membership.v1`."""

from collections.abc import Callable

import grpc

from luoshu.api.node.membership.v1 import membership_pb2, membership_pb2_grpc
from luoshu.connector.membership.directory import MemberDirectory
from luoshu.connector.membership.service import MembershipService
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.server import Service

_Context = grpc.aio.ServicerContext[object, object]


class NodeMembershipServicer(membership_pb2_grpc.MembershipServiceServicer):
    """Membership for this node's users."""

    def __init__(
        self,
        service: MembershipService,
        directory: MemberDirectory,
        *,
        version: str,
        log_size: Callable[[], int],
    ) -> None:
        """Serves `service`.

        Args:
            service: The logic.
            directory: For what this node is.
            version: Of the program.
            log_size: Entries in this node's log now.
        """
        self._service = service
        self._directory = directory
        self._version = version
        self._log_size = log_size

    async def GetNode(  # noqa: N802 - named by the proto
        self, request: membership_pb2.GetNodeRequest, context: _Context
    ) -> membership_pb2.GetNodeResponse:
        """See the proto."""
        own, status = self._directory.own, self._directory.status
        return membership_pb2.GetNodeResponse(
            participant_id=own.credential.participant_id,
            roles=[role.value for role in own.credential.roles],
            version=self._version,
            log_size=self._log_size(),
            status_list_valid_until=0 if status is None else int(status.valid_until.timestamp()),
            membership_credential=own.envelope.to_bytes(),
        )

    async def ListMembers(  # noqa: N802
        self, request: membership_pb2.ListMembersRequest, context: _Context
    ) -> membership_pb2.ListMembersResponse:
        """See the proto."""
        return membership_pb2.ListMembersResponse(
            membership_credentials=await self._service.space_members()
        )

    async def RevokeMember(  # noqa: N802
        self, request: membership_pb2.RevokeMemberRequest, context: _Context
    ) -> membership_pb2.RevokeMemberResponse:
        """See the proto."""
        version = await self._service.revoke(
            request.participant_id, request.reason, by=current_caller().id
        )
        return membership_pb2.RevokeMemberResponse(status_list_version=version)


def node_membership(
    service: MembershipService,
    directory: MemberDirectory,
    *,
    version: str,
    log_size: Callable[[], int],
) -> Service:
    """The service for a server's list."""
    return Service(
        "luoshu.api.node.membership.v1.MembershipService",
        membership_pb2_grpc.add_MembershipServiceServicer_to_server,
        NodeMembershipServicer(service, directory, version=version, log_size=log_size),
    )
