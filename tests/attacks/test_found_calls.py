"""What a peer can do to a server with calls that are well connected and ill behaved.

gRPC itself reads the message of a unary call before any code of ours runs, and counts the
call while it waits. So calls without a message once took all places of a server, past every
limit of the gate, even for a caller that was revoked.
"""

import asyncio
import datetime as dt
from contextlib import asynccontextmanager

import grpc
import pytest

from luoshu.api.peer.log.v1 import log_pb2, log_pb2_grpc
from luoshu.connector.clock import SystemClock
from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.connector.rate_limit import RateLimiter
from luoshu.connector.rpc.authorization import Admission, MethodRule
from luoshu.connector.rpc.caller import Caller
from luoshu.connector.rpc.channel import ClientIdentity, open_channel
from luoshu.connector.rpc.errors import from_rpc_error
from luoshu.connector.rpc.gate import Gate
from luoshu.connector.rpc.server import RpcServer, ServerIdentity, ServerLimits, Service
from luoshu.contracts.ids import dns_name

HOLDER = "urn:luoshu:alliance:holder"
MEMBER = "urn:luoshu:alliance:institute"
OTHER = "urn:luoshu:alliance:clinic"
REVOKED = "urn:luoshu:alliance:expelled"
METHOD = "/luoshu.api.peer.log.v1.LogService/GetCheckpoint"


class Log(log_pb2_grpc.LogServiceServicer):
    async def GetCheckpoint(self, request, context):
        return log_pb2.GetCheckpointResponse(checkpoint="c")


class Door:
    def admit(self, certificate, rule):
        if certificate.uri == REVOKED:
            raise NodeError("CREDENTIAL_REVOKED")
        return Caller(certificate.uri, frozenset(), certificate)


class Bench:
    """A served gate and channels to it."""

    def __init__(self):
        self.now = dt.datetime.now(dt.UTC)
        self.ca = pki.create_authority("space", self.now)
        self.channels = []
        self.server = None

    def issued(self, participant):
        key = pki.generate_key()
        certificate = pki.issue(
            self.ca,
            key.public_key(),
            uri=participant,
            dns_name=dns_name(participant),
            server=True,
            client=True,
            not_before=self.now - dt.timedelta(hours=1),
            not_after=self.now + dt.timedelta(hours=1),
        )
        return certificate, pki.key_to_pem(key)

    def dial(self, participant):
        identity = ClientIdentity(participant, *self.issued(participant), self.ca.certificate_pem)
        channel = open_channel(identity, HOLDER, self.server.address)
        self.channels.append(channel)
        return channel


@asynccontextmanager
async def bench(*, places=8, each=3, seconds=30.0, rate=(1000.0, 1000)):
    made = Bench()
    gate = Gate(
        rules={METHOD: MethodRule(Admission.MEMBER, seconds=seconds)},
        door=Door(),
        clock=SystemClock(),
        rate_limit=RateLimiter(*rate),
        node_roles=frozenset({"holder"}),
        max_calls_in_flight=each,
    )
    service = Service(
        "luoshu.api.peer.log.v1.LogService",
        log_pb2_grpc.add_LogServiceServicer_to_server,
        Log(),
    )
    made.server = await RpcServer.start(
        "127.0.0.1:0",
        ServerIdentity(*made.issued(HOLDER), made.ca.certificate_pem),
        gate,
        [service],
        ServerLimits(max_concurrent_rpcs=places, stop_grace_seconds=0.1),
    )
    try:
        yield made
    finally:
        for channel in made.channels:
            await channel.close()
        await made.server.stop()


def silent(channel):
    """A call that is opened and never says anything."""
    return channel.stream_unary(METHOD)(timeout=30)


async def ask(channel, **options):
    stub = log_pb2_grpc.LogServiceStub(channel)
    return await stub.GetCheckpoint(log_pb2.GetCheckpointRequest(), timeout=5, **options)


async def reason_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value, HOLDER).reason


async def ended(calls, count):
    """Waits until so many calls have been answered, and returns why."""
    pending = {asyncio.ensure_future(reason_of(call)) for call in calls}
    done = set()
    async with asyncio.timeout(10):
        while len(done) < count:
            some, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            done |= some
    for task in pending:
        task.cancel()
    return [task.result() for task in done]


async def test_silent_calls_of_one_member_leave_room_for_others():
    async with bench(places=8, each=3) as b:
        calls = [silent(b.dial(MEMBER)) for _ in range(8)]
        assert await ended(calls, 5) == ["RATE_LIMITED"] * 5
        assert (await ask(b.dial(OTHER))).checkpoint == "c"
        for call in calls:
            call.cancel()


async def test_silent_calls_of_a_revoked_member_are_refused_at_once():
    async with bench(places=8) as b:
        assert await ended([silent(b.dial(REVOKED)) for _ in range(3)], 3) == (
            ["CREDENTIAL_REVOKED"] * 3
        )


async def test_silent_calls_count_against_the_rate():
    async with bench(rate=(0.001, 2)) as b:
        channel = b.dial(MEMBER)
        assert (await ask(channel)).checkpoint == "c"
        call = silent(channel)
        await call.wait_for_connection()
        assert await reason_of(ask(channel)) == "RATE_LIMITED"
        call.cancel()


async def test_a_silent_call_ends_with_the_methods_own_time():
    async with bench(seconds=0.2) as b:
        assert await reason_of(silent(b.dial(MEMBER))) == "DEADLINE_EXCEEDED"


async def test_a_call_without_a_message():
    async with bench() as b:
        call = silent(b.dial(MEMBER))
        await call.done_writing()
        assert await reason_of(call) == "MALFORMED_MESSAGE"


async def test_a_second_message_in_a_call_for_one_is_not_read():
    async with bench() as b:

        async def twice():
            for _ in range(2):
                yield b""

        call = b.dial(MEMBER).stream_unary(METHOD)(twice(), timeout=5)
        assert log_pb2.GetCheckpointResponse.FromString(await call).checkpoint == "c"


async def test_a_compression_bomb_is_not_unpacked():
    """8 MiB of zeros in 8 KiB: above the server's limit once unpacked."""
    async with bench() as b:
        call = b.dial(MEMBER).unary_unary(METHOD)(
            bytes(8 << 20), timeout=10, compression=grpc.Compression.Gzip
        )
        assert await reason_of(call) == "MESSAGE_TOO_LARGE"
        assert (await ask(b.dial(OTHER))).checkpoint == "c"
