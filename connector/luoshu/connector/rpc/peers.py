"""Calls on other nodes: the gRPC adapter of `luoshu.connector.peer_port.Peers`.

One channel per peer and endpoint. The first call on a channel introduces this node, and a
peer that has forgotten us (it restarted from a backup, say) is introduced to again, once.
Every call has a deadline. What a peer sends is passed on unverified: the areas verify.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import grpc

from luoshu.api.peer.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from luoshu.api.peer.compute.v1 import compute_pb2, compute_pb2_grpc
from luoshu.api.peer.contract.v1 import contract_pb2, contract_pb2_grpc
from luoshu.api.peer.log.v1 import log_pb2, log_pb2_grpc
from luoshu.api.peer.membership.v1 import membership_pb2, membership_pb2_grpc
from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.peer_port import (
    CatalogChange,
    CatalogPage,
    CatalogQuery,
    ContractNews,
    Introduction,
    ResultPart,
    SequencedBytes,
)
from luoshu.connector.rpc.channel import RECONNECT_SECONDS, ClientIdentity, open_channel
from luoshu.connector.rpc.errors import from_rpc_error

if TYPE_CHECKING:
    # The asynchronous stubs exist for type checkers only.
    from luoshu.api.peer.catalog.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from luoshu.api.peer.compute.v1.compute_pb2_grpc import ComputeServiceAsyncStub
    from luoshu.api.peer.contract.v1.contract_pb2_grpc import ContractServiceAsyncStub
    from luoshu.api.peer.log.v1.log_pb2_grpc import LogServiceAsyncStub
    from luoshu.api.peer.membership.v1.membership_pb2_grpc import MembershipServiceAsyncStub

CALL_SECONDS: Final = 15.0
"""Deadline of an ordinary call; sequencing an event with its automatic answer included."""
WATCH_SECONDS: Final = 3600.0
RESULT_SECONDS: Final = 900.0

_Answer = TypeVar("_Answer")
_Message = TypeVar("_Message")
_Sent_co = TypeVar("_Sent_co", covariant=True)


class Directory(Protocol):
    """What the clients need to know about this node and the others."""

    def endpoint(self, participant_id: str) -> str:
        """Returns ``host:port`` of a member's peer port.

        Raises:
            NodeError: NOT_FOUND, or PEER_UNREACHABLE if it offers none.
        """
        ...

    def own_credential(self) -> bytes:
        """Returns this node's membership credential envelope."""
        ...


OnIntroduced = Callable[[str, Introduction], Awaitable[None]]
"""Called with the peer's id and its answer, before the answer is relied on."""


class _Stream(Protocol[_Sent_co]):
    def __aiter__(self) -> AsyncIterator[_Sent_co]: ...

    def cancel(self) -> bool: ...


@dataclass(slots=True)
class _Link:
    peer: str
    channel: grpc.aio.Channel
    own_certificate_until: datetime
    membership: "MembershipServiceAsyncStub"
    catalog: "CatalogServiceAsyncStub"
    contract: "ContractServiceAsyncStub"
    compute: "ComputeServiceAsyncStub"
    log: "LogServiceAsyncStub"
    introduced: bool = False
    introducing: asyncio.Lock = field(default_factory=asyncio.Lock)


class PeerClients:
    """Typed calls on other nodes. Implements `Peers`; see there for what each does."""

    def __init__(
        self,
        identity: ClientIdentity,
        directory: Directory,
        clock: Clock,
        on_introduced: OnIntroduced | None = None,
    ) -> None:
        """Builds the clients; nothing is dialled yet.

        Args:
            identity: What this node shows.
            directory: Endpoints and this node's own credential.
            clock: To check this node's certificate by.
            on_introduced: Learns and verifies what a peer answered to an introduction; may
                be set later, before the first call.
        """
        self._identity = identity
        self._directory = directory
        self._clock = clock
        self.on_introduced = on_introduced
        self._links: dict[tuple[str, str], _Link] = {}

    async def close(self) -> None:
        """Closes all channels."""
        links, self._links = list(self._links.values()), {}
        for link in links:
            await link.channel.close()

    # Membership

    async def introduce(self, peer: str) -> Introduction:
        """Introduces this node to `peer`."""
        return await self._introduce(self._link(peer))

    async def get_member(self, peer: str, participant_id: str) -> bytes:
        """One member's credential envelope."""
        request = membership_pb2.GetMemberRequest(participant_id=participant_id)
        answer = await self._call(peer, lambda to: to.membership.GetMember(request, timeout=_T))
        return answer.membership_credential

    async def list_members(self, peer: str) -> tuple[bytes, ...]:
        """Credential envelopes of all members."""
        request = membership_pb2.ListMembersRequest()
        answer = await self._call(peer, lambda to: to.membership.ListMembers(request, timeout=_T))
        return tuple(answer.membership_credentials)

    async def watch_status_list(self, peer: str) -> AsyncGenerator[bytes, None]:
        """Status list envelopes."""
        request = membership_pb2.WatchStatusListRequest()
        async with aclosing(
            self._watch(
                peer, lambda to: to.membership.WatchStatusList(request, timeout=WATCH_SECONDS)
            )
        ) as stream:
            async for message in stream:
                yield message.status_list_envelope

    # Catalog

    async def publish(self, peer: str, entry: bytes) -> int:
        """Publishes an entry."""
        request = catalog_pb2.PublishRequest(entry_envelope=entry)
        answer = await self._call(peer, lambda to: to.catalog.Publish(request, timeout=_T))
        return answer.log_index

    async def withdraw(self, peer: str, tombstone: bytes) -> int:
        """Withdraws an entry."""
        request = catalog_pb2.WithdrawRequest(tombstone_envelope=tombstone)
        answer = await self._call(peer, lambda to: to.catalog.Withdraw(request, timeout=_T))
        return answer.log_index

    async def search(self, peer: str, query: CatalogQuery) -> CatalogPage:
        """Searches the catalog."""
        request = catalog_pb2.SearchRequest(
            text=query.text,
            filters=[
                catalog_pb2.Filter(field=name, any_of=list(values))
                for name, values in query.filters.items()
            ],
            page_size=query.page_size,
            page_token=query.page_token,
        )
        answer = await self._call(peer, lambda to: to.catalog.Search(request, timeout=_T))
        return CatalogPage(
            entries=tuple(answer.entry_envelopes),
            next_page_token=answer.next_page_token,
            facets=tuple((facet.field, facet.value, facet.count) for facet in answer.facets),
            total=answer.total,
        )

    async def get_entry(self, peer: str, product_id: str) -> bytes:
        """The newest entry envelope of a product."""
        request = catalog_pb2.GetEntryRequest(product_id=product_id)
        answer = await self._call(peer, lambda to: to.catalog.GetEntry(request, timeout=_T))
        return answer.entry_envelope

    async def watch_catalog(self, peer: str, cursor: str) -> AsyncGenerator[CatalogChange, None]:
        """Changes of the catalog."""
        request = catalog_pb2.WatchRequest(cursor=cursor)
        async with aclosing(
            self._watch(peer, lambda to: to.catalog.Watch(request, timeout=WATCH_SECONDS))
        ) as stream:
            async for change in stream:
                yield CatalogChange(change.cursor, change.entry_envelope, change.tombstone_envelope)

    # Contract

    async def submit_event(
        self, peer: str, event: bytes, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """Submits a signed contract event."""
        request = contract_pb2.SubmitEventRequest(
            event_envelope=event, known_position=known_position
        )
        answer = await self._call(peer, lambda to: to.contract.SubmitEvent(request, timeout=_T))
        return tuple(_sequenced(one) for one in answer.events)

    async def list_events(
        self, peer: str, contract_id: str, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        """The events of a contract."""
        request = contract_pb2.ListEventsRequest(
            contract_id=contract_id, known_position=known_position
        )
        answer = await self._call(peer, lambda to: to.contract.ListEvents(request, timeout=_T))
        return tuple(_sequenced(one) for one in answer.events)

    async def watch_events(self, peer: str, cursor: str) -> AsyncGenerator[ContractNews, None]:
        """New events of this node's contracts with `peer`."""
        request = contract_pb2.WatchEventsRequest(cursor=cursor)
        async with aclosing(
            self._watch(peer, lambda to: to.contract.WatchEvents(request, timeout=WATCH_SECONDS))
        ) as stream:
            async for news in stream:
                yield ContractNews(news.cursor, news.contract_id, _sequenced(news.event))

    # Compute

    async def submit_computation(self, peer: str, request: bytes, user_credential: bytes) -> str:
        """Submits a user's signed request."""
        message = compute_pb2.SubmitRequest(
            request_envelope=request, user_credential=user_credential
        )
        answer = await self._call(peer, lambda to: to.compute.Submit(message, timeout=_T))
        return answer.request_id

    async def watch_progress(
        self, peer: str, request_id: str, *, attached: bool = False
    ) -> AsyncGenerator[str, None]:
        """Phases of a computation."""
        request = compute_pb2.WatchProgressRequest(request_id=request_id, attached=attached)
        async with aclosing(
            self._stream(peer, lambda to: to.compute.WatchProgress(request, timeout=RESULT_SECONDS))
        ) as stream:
            async for message in stream:
                yield compute_pb2.Phase.Name(message.phase).removeprefix("PHASE_")

    async def fetch_result(
        self, peer: str, request_id: str, *, attached: bool = False
    ) -> AsyncGenerator[ResultPart, None]:
        """The parts of a result."""
        request = compute_pb2.FetchResultRequest(request_id=request_id, attached=attached)
        async with aclosing(
            self._stream(peer, lambda to: to.compute.FetchResult(request, timeout=RESULT_SECONDS))
        ) as stream:
            async for part in stream:
                yield ResultPart(receipt=part.receipt, arrow_ipc=part.arrow_ipc)

    async def cancel(self, peer: str, request_id: str) -> None:
        """Cancels a computation."""
        request = compute_pb2.CancelRequest(request_id=request_id)
        await self._call(peer, lambda to: to.compute.Cancel(request, timeout=_T))

    async def explain_computation(self, peer: str, request: bytes) -> bytes:
        """What a request would cost."""
        message = compute_pb2.ExplainRequest(request=request)
        answer = await self._call(peer, lambda to: to.compute.Explain(message, timeout=_T))
        return answer.explanation

    # Log

    async def checkpoint(self, peer: str) -> str:
        """The newest signed checkpoint."""
        request = log_pb2.GetCheckpointRequest()
        answer = await self._call(peer, lambda to: to.log.GetCheckpoint(request, timeout=_T))
        return answer.checkpoint

    async def log_entry(self, peer: str, index: int) -> bytes:
        """Receipt JSON of one entry."""
        request = log_pb2.GetEntryRequest(index=index)
        answer = await self._call(peer, lambda to: to.log.GetEntry(request, timeout=_T))
        return answer.receipt

    async def inclusion_proof(self, peer: str, index: int, tree_size: int) -> tuple[bytes, ...]:
        """RFC 6962 audit path."""
        request = log_pb2.GetInclusionProofRequest(index=index, tree_size=tree_size)
        answer = await self._call(peer, lambda to: to.log.GetInclusionProof(request, timeout=_T))
        return tuple(answer.hashes)

    async def consistency_proof(self, peer: str, first: int, second: int) -> tuple[bytes, ...]:
        """RFC 6962 consistency proof."""
        request = log_pb2.GetConsistencyProofRequest(first_size=first, second_size=second)
        answer = await self._call(peer, lambda to: to.log.GetConsistencyProof(request, timeout=_T))
        return tuple(answer.hashes)

    # How calls are made

    def _link(self, peer: str) -> _Link:
        now = self._clock.now()
        key = (peer, self._directory.endpoint(peer))
        link = self._links.get(key)
        if link is None or now > link.own_certificate_until:
            until = self._identity.check(now)
            channel = open_channel(self._identity, *key)
            link = self._links[key] = _Link(
                peer=peer,
                channel=channel,
                own_certificate_until=until,
                membership=membership_pb2_grpc.MembershipServiceStub(channel),
                catalog=catalog_pb2_grpc.CatalogServiceStub(channel),
                contract=contract_pb2_grpc.ContractServiceStub(channel),
                compute=compute_pb2_grpc.ComputeServiceStub(channel),
                log=log_pb2_grpc.LogServiceStub(channel),
            )
        return link

    async def _introduce(self, link: _Link) -> Introduction:
        request = membership_pb2.IntroduceRequest(
            membership_credential=self._directory.own_credential()
        )
        try:
            answer = await link.membership.Introduce(request, timeout=_T)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, link.peer) from error
        introduction = Introduction(answer.membership_credential, answer.status_list_envelope)
        if self.on_introduced is not None:
            await self.on_introduced(link.peer, introduction)
        link.introduced = True
        return introduction

    async def _introduced_link(self, peer: str) -> _Link:
        link = self._link(peer)
        await _try_anew(link.channel)
        async with link.introducing:
            if not link.introduced:
                await self._introduce(link)
        return link

    async def _call(self, peer: str, call: Callable[[_Link], Awaitable[_Answer]]) -> _Answer:
        link = await self._introduced_link(peer)
        try:
            return await call(link)
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error, peer)
            if refusal.reason != "CREDENTIAL_MISSING":
                raise refusal from error
        await self._introduce(link)
        try:
            return await call(link)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, peer) from error

    async def _stream(
        self, peer: str, call: Callable[[_Link], "_Stream[_Message]"]
    ) -> AsyncGenerator[_Message, None]:
        link = await self._introduced_link(peer)
        stream = call(link)
        try:
            async for message in stream:
                yield message
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error, peer)
            if refusal.reason == "CREDENTIAL_MISSING":
                # Whoever opens the stream again is introduced first.
                link.introduced = False
            raise refusal from error
        finally:
            stream.cancel()

    async def _watch(
        self, peer: str, call: Callable[[_Link], "_Stream[_Message]"]
    ) -> AsyncGenerator[_Message, None]:
        try:
            async with aclosing(self._stream(peer, call)) as stream:
                async for message in stream:
                    yield message
        except NodeError as error:
            # The stream's agreed end; the caller opens the next one at its cursor.
            if error.reason != "DEADLINE_EXCEEDED":
                raise


_T: Final = CALL_SECONDS


async def _try_anew(channel: grpc.aio.Channel) -> None:
    """Waits for the next attempt to connect, where the last one failed.

    Until then gRPC would answer with the failure of before, though the peer may be back.
    """
    failed = grpc.ChannelConnectivity.TRANSIENT_FAILURE
    if channel.get_state(try_to_connect=True) is failed:
        with suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_SECONDS):
                await channel.wait_for_state_change(failed)


def _sequenced(message: contract_pb2.SequencedEvent) -> SequencedBytes:
    return SequencedBytes(message.event_envelope, message.position_envelope)
