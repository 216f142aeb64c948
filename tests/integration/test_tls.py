"""Handshakes that must fail, and calls that must not pass although the handshake did."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl

import grpc
import pytest

from luoshu.api.node.membership.v1 import membership_pb2 as node_pb2
from luoshu.api.node.membership.v1 import membership_pb2_grpc as node_grpc
from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.connector.membership.users import add_user
from luoshu.connector.rpc.channel import ClientIdentity
from luoshu.connector.rpc.errors import from_rpc_error
from luoshu.connector.rpc.peers import PeerClients
from luoshu.connector.rpc.server import RpcServer, ServerIdentity
from luoshu.contracts.ids import dns_name
from luoshu.contracts.membership import UserRole

OPERATOR = "urn:luoshu:alliance:operator"
CLINIC = "urn:luoshu:alliance:clinic"
INSTITUTE = "urn:luoshu:alliance:institute"


class Addresses:
    """Leads every call to one address, whoever is asked for."""

    def __init__(self, address, credential=b""):
        self._address = address
        self._credential = credential

    def endpoint(self, participant_id):
        return self._address

    def own_credential(self):
        return self._credential


def identity_of(files, **changes):
    values = {
        "participant_id": files.participant_id,
        "certificate": files.tls_certificate,
        "key": files.tls_key,
        "space_ca": files.trust.ca_certificate.encode(),
    }
    return ClientIdentity(**{**values, **changes})


async def refusal(awaitable):
    with pytest.raises(NodeError) as caught:
        await awaitable
    return caught.value


async def test_a_member_gets_through(space):
    async with space.running("operator") as operator, space.running("institute") as institute:
        introduction = await institute.peers.introduce(OPERATOR)
        assert introduction.credential == operator.files.envelope.to_bytes()
        members = await institute.peers.list_members(OPERATOR)
        assert len(members) == 2


async def test_certificate_of_another_space_is_refused(space, other_space):
    stranger = other_space.files("clinic")
    async with space.running("operator") as operator:
        # It trusts this space's CA, so that only the server can be the one that refuses.
        identity = identity_of(stranger)
        object.__setattr__(identity, "space_ca", operator.identity.space_ca)
        channel = _channel(operator.peer_server.address, identity, OPERATOR)
        code = await _introduce_code(channel, stranger.envelope.to_bytes())
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_own_certificate_of_another_space_is_named_before_dialling(space, other_space):
    stranger = other_space.files("clinic")
    identity = identity_of(stranger, space_ca=space.files("clinic").trust.ca_certificate.encode())
    async with space.running("operator") as operator:
        peers = PeerClients(identity, Addresses(operator.peer_server.address), space.clock)
        error = await refusal(peers.introduce(OPERATOR))
        await peers.close()
    assert error.reason == "CREDENTIAL_INVALID"
    assert "another CA" in error.public


async def test_client_without_a_certificate_is_refused(space):
    async with space.running("operator") as operator:
        credentials = grpc.ssl_channel_credentials(operator.identity.space_ca)
        async with grpc.aio.secure_channel(
            operator.peer_server.address,
            credentials,
            options=[("grpc.ssl_target_name_override", dns_name(OPERATOR))],
        ) as channel:
            assert await _introduce_code(channel, b"") is grpc.StatusCode.UNAVAILABLE


async def test_tls_1_2_is_refused(space, tmp_path):
    """gRPC completes a TLS 1.2 handshake; the gate must answer no call on it."""
    files = space.files("institute")
    (tmp_path / "crt").write_bytes(files.tls_certificate)
    (tmp_path / "key").write_bytes(files.tls_key)
    context = ssl.create_default_context(cadata=files.trust.ca_certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    context.set_alpn_protocols(["h2"])
    async with space.running("operator") as operator:
        answer = await asyncio.to_thread(
            _speak_http2, context, "127.0.0.1", operator.peer_server.port, dns_name(OPERATOR)
        )
    assert b"TLS 1.3" in answer


async def test_address_of_another_member_can_not_impersonate(space):
    """The clinic's address leads to the operator: its certificate doesn't name the clinic."""
    async with space.running("operator") as operator, space.running("institute") as institute:
        space.addresses[CLINIC] = operator.peer_server.address
        error = await refusal(institute.peers.introduce(CLINIC))
    assert error.reason == "PEER_UNREACHABLE"


async def test_expired_certificate_is_named_before_dialling(space):
    async with space.running("institute") as institute:
        space.clock.advance(dt.timedelta(days=31))
        error = await refusal(institute.peers.introduce(OPERATOR))
    assert error.reason == "CREDENTIAL_EXPIRED"
    assert "expired" in error.public


async def test_expired_certificate_fails_the_handshake(space):
    files = space.files("institute")
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=60)
    ca = pki.load_authority(
        (space.path / "space" / "ca.pem").read_bytes(),
        (space.path / "space" / "ca.crt").read_bytes(),
    )
    expired = pki.issue(
        ca,
        pki.key_from_pem(files.tls_key).public_key(),
        uri=files.participant_id,
        dns_name=dns_name(files.participant_id),
        server=True,
        client=True,
        not_before=past,
        not_after=past + dt.timedelta(days=30),
    )
    async with space.running("operator") as operator:
        channel = _channel(
            operator.peer_server.address, identity_of(files, certificate=expired), OPERATOR
        )
        assert (
            await _introduce_code(channel, files.envelope.to_bytes()) is grpc.StatusCode.UNAVAILABLE
        )


async def test_connection_does_not_outlive_its_certificate(space):
    async with space.running("operator") as operator:
        files = space.files("institute")
        channel = _channel(operator.peer_server.address, identity_of(files), OPERATOR)
        stub = _stub(channel)
        request = _introduction(files.envelope.to_bytes())
        await stub.Introduce(request, timeout=5)
        space.clock.advance(dt.timedelta(days=31))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Introduce(request, timeout=5)
        await channel.close()
    assert from_rpc_error(caught.value, OPERATOR).reason == "CREDENTIAL_EXPIRED"


async def test_users_and_peers_have_separate_doors(space, tmp_path):
    profile = tmp_path / "profile"
    add_user(
        space.path / "operator",
        "li",
        [UserRole.ADMIN],
        profile,
        address="127.0.0.1:1",
        now=space.clock.now(),
    )
    member = space.files("institute")
    async with space.running("operator") as operator:
        name = [("grpc.ssl_target_name_override", dns_name(OPERATOR))]
        user_pem = (profile / "tls.key").read_bytes(), (profile / "tls.crt").read_bytes()
        on_peer_port = grpc.aio.secure_channel(
            operator.peer_server.address,
            grpc.ssl_channel_credentials(operator.identity.space_ca, *user_pem),
            options=name,
        )
        assert await _introduce_code(on_peer_port, b"") is grpc.StatusCode.UNAVAILABLE
        on_user_port = grpc.aio.secure_channel(
            operator.user_server.address,
            grpc.ssl_channel_credentials(
                operator.files.user_ca, member.tls_key, member.tls_certificate
            ),
            options=name,
        )
        assert await _get_node_code(on_user_port) is grpc.StatusCode.UNAVAILABLE
        user = grpc.aio.secure_channel(
            operator.user_server.address,
            grpc.ssl_channel_credentials(operator.files.user_ca, *user_pem),
            options=name,
        )
        node = await node_grpc.MembershipServiceStub(user).GetNode(
            node_pb2.GetNodeRequest(), timeout=5
        )
        await user.close()
    assert node.participant_id == OPERATOR


async def test_busy_port_is_named(space):
    async with space.running("operator") as operator:
        with pytest.raises(NodeError) as caught:
            await RpcServer.start(
                operator.peer_server.address,
                ServerIdentity(
                    operator.files.tls_certificate,
                    operator.files.tls_key,
                    operator.identity.space_ca,
                ),
                operator_gate(operator),
                [],
            )
    assert caught.value.reason == "CONFIGURATION_INVALID"
    assert operator.peer_server.address in caught.value.public


def operator_gate(node):
    from luoshu.connector.clock import SystemClock
    from luoshu.connector.rate_limit import RateLimiter
    from luoshu.connector.rpc.authorization import PEER_RULES
    from luoshu.connector.rpc.doors import PeerDoor
    from luoshu.connector.rpc.gate import Gate

    clock = SystemClock()
    return Gate(
        rules=PEER_RULES,
        door=PeerDoor(node.directory, clock),
        clock=clock,
        rate_limit=RateLimiter(10, 10),
        node_roles=frozenset(),
    )


def _channel(address, identity, peer):
    return grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(identity.space_ca, identity.key, identity.certificate),
        options=[("grpc.ssl_target_name_override", dns_name(peer))],
    )


def _stub(channel):
    from luoshu.api.peer.membership.v1 import membership_pb2_grpc

    return membership_pb2_grpc.MembershipServiceStub(channel)


def _introduction(credential):
    from luoshu.api.peer.membership.v1 import membership_pb2

    return membership_pb2.IntroduceRequest(membership_credential=credential)


async def _introduce_code(channel, credential):
    try:
        await _stub(channel).Introduce(_introduction(credential), timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        await channel.close()
    return grpc.StatusCode.OK


async def _get_node_code(channel):
    try:
        await node_grpc.MembershipServiceStub(channel).GetNode(node_pb2.GetNodeRequest(), timeout=5)
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        await channel.close()
    return grpc.StatusCode.OK


def _speak_http2(context, host, port, name):
    """One RPC by hand: HEADERS of a POST to Health/Check, DATA with an empty message."""
    path = b"/grpc.health.v1.Health/Check"
    headers = b"".join(
        b"\x00" + bytes([len(key)]) + key + bytes([len(value)]) + value
        for key, value in (
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":path", path),
            (b":authority", name.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
    )
    frames = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(4, 0, 0, b"")
        + _frame(1, 4, 1, headers)
        + _frame(0, 1, 1, b"\x00\x00\x00\x00\x00")
    )
    with (
        socket.create_connection((host, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        assert tls.version() == "TLSv1.2"
        tls.sendall(frames)
        received = b""
        while b"TLS 1.3" not in received:
            more = tls.recv(65536)
            if not more:
                break
            received += more
    return received


def _frame(kind, flags, stream, payload):
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )
