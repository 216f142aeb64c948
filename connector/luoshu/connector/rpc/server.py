"""Servers: one for peers, one for this node's users, built alike.

Mutual TLS with one pinned CA each: the space CA on the peer port, the node's own user CA
on the user port. gRPC accepts TLS 1.2 and has no option against it, so the gate refuses
such connections by call. Two processes must never share a port: gRPC's SO_REUSEPORT would
split a node's calls between them, and is off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2_grpc,
)

from luoshu.connector.errors import NodeError
from luoshu.connector.rpc.gate import Gate

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a server shows, and whom it lets complete a handshake.

    Attributes:
        certificate: PEM chain of the server.
        key: PEM private key of the server.
        client_ca: PEM certificate of the one CA whose client certificates are accepted.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits of one server.

    Attributes:
        max_receive_bytes: Where gRPC itself stops reading a message. The gate refuses
            smaller ones by method, with a proper error; this one bounds memory.
        max_concurrent_rpcs: Calls in flight, of all callers.
        keepalive_seconds: How often a silent connection is probed.
        stop_grace_seconds: How long calls may go on when the server stops.
    """

    max_receive_bytes: int = 4 * _MIB
    max_concurrent_rpcs: int = 512
    keepalive_seconds: int = 30
    stop_grace_seconds: float = 2.0


class Register(Protocol):
    """A generated ``add_XServicer_to_server``."""

    def __call__(self, servicer: Any, server: Any, /) -> None:
        """Registers the servicer."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """One servicer and how to register it.

    Attributes:
        name: Full protobuf name, for health and reflection.
        register: The generated function.
        servicer: The servicer.
    """

    name: str
    register: Register
    servicer: object


class RpcServer:
    """A running server. Make it with `start`, end it with `stop`."""

    def __init__(
        self,
        server: grpc.aio.Server,
        host: str,
        port: int,
        health_servicer: "health.aio.HealthServicer",
        grace: float,
    ) -> None:
        """Use `start`."""
        self._server = server
        self._host = host
        self._health = health_servicer
        self._grace = grace
        self.port = port

    @property
    def address(self) -> str:
        """The address that a client on the same host dials, ``host:port``."""
        return f"{self._host}:{self.port}"

    @classmethod
    async def start(
        cls,
        listen: str,
        identity: ServerIdentity,
        gate: Gate,
        services: Sequence[Service],
        limits: ServerLimits | None = None,
    ) -> "RpcServer":
        """Binds, registers health and reflection with the services, and serves.

        Args:
            listen: ``host:port``; port 0 takes a free one, see `port`.
            identity: Certificates.
            gate: In front of every call.
            services: What is served.
            limits: Defaults fit a node on one machine.

        Raises:
            NodeError: CONFIGURATION_INVALID, if the address can't be bound or the
                certificate doesn't load.
        """
        limits = limits or ServerLimits()
        server = grpc.aio.server(
            interceptors=[gate],
            maximum_concurrent_rpcs=limits.max_concurrent_rpcs,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", limits.max_receive_bytes),
                ("grpc.max_send_message_length", limits.max_receive_bytes * 2),
                ("grpc.max_metadata_size", 16 << 10),
                ("grpc.max_concurrent_streams", limits.max_concurrent_rpcs),
                ("grpc.keepalive_time_ms", limits.keepalive_seconds * 1000),
                ("grpc.keepalive_timeout_ms", 10_000),
                # Clients behind NAT keep their one stream open by pinging.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        names = [service.name for service in services]
        for service in services:
            service.register(service.servicer, server)
            await health_servicer.set(service.name, health_pb2.HealthCheckResponse.SERVING)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(
                [*names, health.SERVICE_NAME, reflection.SERVICE_NAME]
            ),
            server,
        )
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.certificate)],
            root_certificates=identity.client_ca,
            require_client_auth=True,
        )
        host = listen.rpartition(":")[0]
        try:
            port = server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise NodeError(
                "CONFIGURATION_INVALID",
                f"The node can't listen on {listen}: the address is in use by another "
                "program, or is not one of this machine's.",
                private=str(error),
            ) from error
        await server.start()
        return cls(server, host, port, health_servicer, limits.stop_grace_seconds)

    async def stop(self) -> None:
        """Says NOT_SERVING, lets calls end for the grace period, then closes them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._grace)

    async def wait(self) -> None:
        """Waits until the server has stopped."""
        await self._server.wait_for_termination()
