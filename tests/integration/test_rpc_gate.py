"""What the gate does with calls on a good connection."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from luoshu.api.peer.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from luoshu.api.peer.log.v1 import log_pb2, log_pb2_grpc
from luoshu.api.peer.membership.v1 import membership_pb2, membership_pb2_grpc
from luoshu.connector.rate_limit import RateLimiter
from luoshu.connector.rpc.authorization import Admission, MethodRule
from luoshu.connector.rpc.caller import current_caller
from luoshu.connector.rpc.channel import open_channel
from luoshu.connector.rpc.doors import PeerDoor
from luoshu.connector.rpc.errors import from_rpc_error
from luoshu.connector.rpc.gate import Gate
from luoshu.connector.rpc.server import RpcServer, ServerIdentity, Service

OPERATOR = "urn:luoshu:alliance:operator"
LOG = "/luoshu.api.peer.log.v1.LogService/"
CATALOG = "/luoshu.api.peer.catalog.v1.CatalogService/"
SECRET = "patient 4711"


class Log(log_pb2_grpc.LogServiceServicer):
    """Each method goes wrong in its own way."""

    def __init__(self):
        self.entered = asyncio.Event()

    async def GetCheckpoint(self, request, context):
        return log_pb2.GetCheckpointResponse(checkpoint=current_caller().id)

    async def GetEntry(self, request, context):
        raise ValueError(SECRET)

    async def GetInclusionProof(self, request, context):
        self.entered.set()
        await asyncio.Event().wait()

    async def GetConsistencyProof(self, request, context):
        raise TimeoutError(SECRET)


class Catalog(catalog_pb2_grpc.CatalogServiceServicer):
    """A stream that goes on when it is told to."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.closed = asyncio.Event()

    async def Watch(self, request, context):
        try:
            while True:
                yield catalog_pb2.WatchResponse(cursor="c")
                await self.go_on.wait()
        finally:
            self.closed.set()

    async def Publish(self, request, context):
        return catalog_pb2.PublishResponse(log_index=7)

    Withdraw = Search = GetEntry = Publish


class Bench:
    """A served gate, and a channel of a member to it."""

    def __init__(self, operator, log, catalog, channel, server, door):
        self.operator = operator
        self.log_servicer = log
        self.catalog_servicer = catalog
        self.channel = channel
        self.server = server
        self.door = door
        self.log = log_pb2_grpc.LogServiceStub(channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)


RULES = {
    LOG + "GetCheckpoint": MethodRule(Admission.MEMBER, max_request_bytes=64),
    LOG + "GetEntry": MethodRule(Admission.MEMBER),
    LOG + "GetInclusionProof": MethodRule(Admission.MEMBER, seconds=0.2),
    LOG + "GetConsistencyProof": MethodRule(Admission.MEMBER),
    CATALOG + "Watch": MethodRule(Admission.MEMBER),
    CATALOG + "Publish": MethodRule(Admission.MEMBER, roles=frozenset({"holder"})),
    CATALOG + "Search": MethodRule(Admission.MEMBER, served_by=frozenset({"auditor"})),
    "/grpc.health.v1.Health/Check": MethodRule(Admission.CERTIFICATE),
    "/grpc.health.v1.Health/Watch": MethodRule(Admission.CERTIFICATE),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": MethodRule(
        Admission.CERTIFICATE
    ),
}


@asynccontextmanager
async def bench(space, *, rate=(10_000.0, 10_000), in_flight=64, introduce=True):
    async with space.running("operator") as operator, space.running("institute") as institute:
        if introduce:
            await institute.peers.introduce(OPERATOR)
        log, catalog = Log(), Catalog()
        gate = Gate(
            rules=RULES,
            door=PeerDoor(operator.directory, space.clock),
            clock=space.clock,
            rate_limit=RateLimiter(*rate, monotonic=lambda: 0.0),
            node_roles=frozenset({"operator"}),
            max_calls_in_flight=in_flight,
        )
        server = await RpcServer.start(
            "127.0.0.1:0",
            ServerIdentity(
                operator.files.tls_certificate, operator.files.tls_key, operator.identity.space_ca
            ),
            gate,
            [
                Service(
                    "luoshu.api.peer.log.v1.LogService",
                    log_pb2_grpc.add_LogServiceServicer_to_server,
                    log,
                ),
                Service(
                    "luoshu.api.peer.catalog.v1.CatalogService",
                    catalog_pb2_grpc.add_CatalogServiceServicer_to_server,
                    catalog,
                ),
            ],
        )
        channel = open_channel(institute.identity, OPERATOR, server.address)
        try:
            yield Bench(operator, log, catalog, channel, server, institute)
        finally:
            await channel.close()
            await server.stop()


async def refused(call):
    """Returns status code, ErrorInfo and text of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status = status_pb2.Status.FromString(details)
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (error.code().value[0], error.details())
    assert info.domain == "luoshu"
    return error.code(), info, error.details()


async def test_caller_is_who_the_certificate_names(space):
    async with bench(space) as b:
        answer = await b.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)
    assert answer.checkpoint == "urn:luoshu:alliance:institute"


async def test_unexpected_error_shows_an_incident_and_nothing_else(space):
    async with bench(space) as b:
        code, info, text = await refused(b.log.GetEntry(log_pb2.GetEntryRequest(), timeout=5))
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert info.metadata["incident"] in text
    assert SECRET not in text


async def test_timeout_error_of_the_servicer_is_no_deadline(space):
    async with bench(space) as b:
        code, info, text = await refused(
            b.log.GetConsistencyProof(log_pb2.GetConsistencyProofRequest(), timeout=5)
        )
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert SECRET not in text


async def test_server_has_its_own_deadline(space):
    async with bench(space) as b:
        code, info, _ = await refused(
            b.log.GetInclusionProof(log_pb2.GetInclusionProofRequest(), timeout=60)
        )
    assert (code, info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_malformed_bytes(space):
    async with bench(space) as b:
        call = b.channel.unary_unary(LOG + "GetCheckpoint")
        code, info, _ = await refused(call(b"\xff\xff\xff", timeout=5))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


async def test_message_above_the_methods_limit(space):
    async with bench(space) as b:
        call = b.channel.unary_unary(LOG + "GetCheckpoint")
        code, info, text = await refused(call(b"\x0a" + bytes(100), timeout=5))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")
    assert "101" in text


async def test_message_above_the_servers_limit_never_reaches_memory_whole(space):
    async with bench(space) as b:
        call = b.channel.unary_unary(LOG + "GetCheckpoint")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(bytes(5 << 20), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert from_rpc_error(caught.value, OPERATOR).reason == "MESSAGE_TOO_LARGE"


async def test_unknown_method(space):
    async with bench(space) as b:
        call = b.channel.unary_unary(LOG + "Forge")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert from_rpc_error(caught.value, OPERATOR).reason == "UNIMPLEMENTED"


async def test_method_without_a_rule_is_refused_though_it_is_registered(space):
    async with bench(space) as b:
        code, _, _ = await refused(b.catalog.Withdraw(catalog_pb2.WithdrawRequest(), timeout=5))
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_method_of_another_kind_of_node_is_refused(space):
    async with bench(space) as b:
        code, info, text = await refused(b.catalog.Search(catalog_pb2.SearchRequest(), timeout=5))
    assert (code, info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert "auditor" in text


async def test_role_is_required(space):
    async with bench(space) as b:
        code, info, text = await refused(b.catalog.Publish(catalog_pb2.PublishRequest(), timeout=5))
    assert (code, info.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")
    assert "holder" in text


async def test_member_must_introduce_itself(space):
    async with bench(space, introduce=False) as b:
        code, info, _ = await refused(
            b.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)
        )
    assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING")


async def test_rate_limit_comes_before_the_servicer(space):
    async with bench(space, rate=(1.0, 2)) as b:
        request = log_pb2.GetInclusionProofRequest()
        for _ in range(2):
            await b.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)
        code, info, _ = await refused(b.log.GetInclusionProof(request, timeout=5))
        assert not b.log_servicer.entered.is_set()
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert int(info.metadata["retry_after_seconds"]) >= 1


async def test_calls_in_flight_are_limited_and_counted_down(space):
    async with bench(space, in_flight=1) as b:
        stream = b.catalog.Watch(catalog_pb2.WatchRequest(), timeout=30)
        await stream.read()
        checkpoint = log_pb2.GetCheckpointRequest()
        code, info, _ = await refused(b.log.GetCheckpoint(checkpoint, timeout=5))
        assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        stream.cancel()
        async with asyncio.timeout(5):
            await b.catalog_servicer.closed.wait()
        answer = await b.log.GetCheckpoint(checkpoint, timeout=5)
        assert answer.checkpoint


async def test_revoked_member_gets_nothing_more(space):
    async with bench(space) as b:
        stream = b.catalog.Watch(catalog_pb2.WatchRequest(), timeout=30)
        assert (await stream.read()).cursor == "c"
        await b.operator.service.revoke(
            "urn:luoshu:alliance:institute", "expelled", by=OPERATOR + ":user:li"
        )
        b.catalog_servicer.go_on.set()
        code, info, _ = await refused(stream.read())
        assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_REVOKED")
        code, info, _ = await refused(
            b.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)
        )
        assert info.reason == "CREDENTIAL_REVOKED"
        health = health_pb2_grpc.HealthStub(b.channel)
        code, info, _ = await refused(health.Check(health_pb2.HealthCheckRequest(), timeout=5))
        assert info.reason == "CREDENTIAL_REVOKED"


async def test_stale_status_list_fails_closed(space):
    async with bench(space) as b:
        await b.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)
        space.clock.advance(dt.timedelta(seconds=601))
        code, info, _ = await refused(
            b.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)
        )
        assert (code, info.reason) == (grpc.StatusCode.UNAVAILABLE, "STATUS_LIST_STALE")
        await b.operator.service.refresh()
        assert await b.log.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5)


async def test_credential_of_other_keys_than_the_certificates(space):
    """The clinic's credential over the institute's connection."""
    clinic = space.files("clinic").envelope.to_bytes()
    async with space.running("operator") as operator, space.running("institute") as institute:
        channel = open_channel(institute.identity, OPERATOR, operator.peer_server.address)
        stub = membership_pb2_grpc.MembershipServiceStub(channel)
        code, info, _ = await refused(
            stub.Introduce(membership_pb2.IntroduceRequest(membership_credential=clinic), timeout=5)
        )
        await channel.close()
    assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


async def test_health_and_reflection(space):
    async with bench(space, introduce=False) as b:
        health = health_pb2_grpc.HealthStub(b.channel)
        for name in ("", "luoshu.api.peer.log.v1.LogService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=5)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        reflection = reflection_pb2_grpc.ServerReflectionStub(b.channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection.ServerReflectionInfo(iter([asked]), timeout=5)
        names = {s.name for s in (await call.read()).list_services_response.service}
    assert names == {
        "luoshu.api.peer.log.v1.LogService",
        "luoshu.api.peer.catalog.v1.CatalogService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
