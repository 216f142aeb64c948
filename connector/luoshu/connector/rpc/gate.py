"""The gate that every RPC passes before a servicer sees it.

One interceptor, so that the order is in one place and holds for unary and streaming
methods alike:

1. the method is in the table, and this node's roles serve it;
2. the connection speaks TLS 1.3 (gRPC has no option for it);
3. the client certificate names somebody, and hasn't expired during a long connection;
4. the rate limit and the number of calls in flight, by certificate: before anything costs
   a signature check or an fsync;
5. the door: certificate, membership or user, and the role;
6. the message is read, its size checked, then whether it parses;
7. the servicer. Steps 5 to 7 share the server's own time limit.

gRPC reads the message of a unary call before it calls the handler, and counts the call while
it waits for it: whoever sends none would hold one of the server's few places for ever, known
to no limit of step 4. So every method is registered as one that takes a stream, which looks
the same on the wire, and the gate reads the one message itself.

While a response streams, step 5 is repeated before each message, so that a revoked member
gets nothing more. Whatever is raised becomes a status with ErrorInfo; what is unexpected
becomes INTERNAL with an incident id, and its text stays in the operational log.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, Final, Protocol

import grpc
from google.protobuf.message import DecodeError

from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.membership.pki import (
    PkiError,
    certificate_from_pem,
    certificate_spki,
    uri_of,
)
from luoshu.connector.observability import get_logger, span
from luoshu.connector.rpc.authorization import MethodRule
from luoshu.connector.rpc.caller import Caller, Door, PresentedCertificate, set_caller
from luoshu.connector.rpc.errors import abort

_TLS_1_3: Final = b"TLSv1.3"


_Context = grpc.aio.ServicerContext[Any, Any]


class RateLimit(Protocol):
    """What the gate needs of a rate limiter."""

    def take(self, caller: str, /) -> None:
        """Takes one token of the caller's.

        Raises:
            NodeError: RATE_LIMITED.
        """
        ...


class Gate(grpc.aio.ServerInterceptor):
    """The interceptor of one server. See the module's docstring for what it enforces."""

    def __init__(
        self,
        *,
        rules: Mapping[str, MethodRule],
        door: Door,
        clock: Clock,
        rate_limit: RateLimit,
        node_roles: frozenset[str],
        max_calls_in_flight: int = 64,
    ) -> None:
        """Builds the gate.

        Args:
            rules: PEER_RULES or USER_RULES.
            door: Who may come in on this port.
            clock: Decision time.
            rate_limit: Buckets by caller.
            node_roles: Roles of this node.
            max_calls_in_flight: Calls, streams included, that one caller may have open.
        """
        self._rules = rules
        self._door = door
        self._clock = clock
        self._rate_limit = rate_limit
        self._node_roles = node_roles
        self._max_calls_in_flight = max_calls_in_flight
        self._in_flight: Counter[str] = Counter()

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Wraps the method's handler; None (UNIMPLEMENTED) where there is none."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return self._wrap(handler, _text(handler_call_details.method))

    def _wrap(
        self, handler: "grpc.RpcMethodHandler[Any, Any]", method: str
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        # The wrapped handlers take raw bytes: a message that doesn't parse must be
        # answered as MALFORMED_MESSAGE, and gRPC's own deserialiser would hide it.
        parse = handler.request_deserializer
        serialize = handler.response_serializer
        behaviour = _behaviour(handler)

        async def request(raw: AsyncIterator[bytes], context: _Context, rule: MethodRule) -> Any:
            if handler.request_streaming:
                return _parse_each(raw, parse, rule)
            return _parse(await _read_one(context), parse, rule)

        async def answer_one(raw: AsyncIterator[bytes], context: _Context) -> Any:
            async with self._passage(method, context) as (_, rule):
                return await behaviour(await request(raw, context, rule), context)

        async def answer_many(raw: AsyncIterator[bytes], context: _Context) -> None:
            async with self._passage(method, context) as (certificate, rule):
                messages = behaviour(await request(raw, context, rule), context)
                if inspect.isawaitable(messages):
                    # The other style of aio handlers: it writes to the context itself.
                    await messages
                    return
                async with aclosing(messages):
                    async for message in messages:
                        self._admit(certificate, rule)
                        await context.write(message)

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(answer_many, None, serialize)
        return grpc.stream_unary_rpc_method_handler(answer_one, None, serialize)

    @asynccontextmanager
    async def _passage(
        self, method: str, context: _Context
    ) -> AsyncIterator[tuple[PresentedCertificate, MethodRule]]:
        limit: asyncio.Timeout | None = None
        caller_id = ""
        try:
            rule = self._rule(method)
            certificate = self._certificate(context)
            caller_id = certificate.uri
            with self._counted(certificate):
                set_caller(self._admit(certificate, rule))
                with span(method[1:], method=method, caller=caller_id):
                    async with asyncio.timeout(rule.seconds) as limit:
                        yield certificate, rule
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure must become a status
            if isinstance(error, TimeoutError) and limit is not None and limit.expired():
                error = NodeError("DEADLINE_EXCEEDED")
            await _refuse(context, method, caller_id, error)

    def _rule(self, method: str) -> MethodRule:
        rule = self._rules.get(method)
        if rule is None:
            raise NodeError("UNIMPLEMENTED", private=f"no rule for {method}")
        if rule.served_by and not rule.served_by & self._node_roles:
            raise NodeError(
                "UNIMPLEMENTED",
                f"Only a node with the role {' or '.join(sorted(rule.served_by))} offers that.",
            )
        return rule

    def _certificate(self, context: _Context) -> PresentedCertificate:
        connection = context.auth_context()
        if _first(connection, "ssl_tls_version") != _TLS_1_3:
            raise NodeError("TLS_TOO_OLD")
        pem = _first(connection, "x509_pem_cert")
        if pem is None:
            raise NodeError("CREDENTIAL_MISSING")
        try:
            certificate = _presented(pem)
        except PkiError as error:
            raise NodeError("CREDENTIAL_INVALID", f"Refused: {error}.") from error
        if self._clock.now().timestamp() > certificate.not_after:
            raise NodeError("CREDENTIAL_EXPIRED", "The client certificate has expired.")
        return certificate

    def _admit(self, certificate: PresentedCertificate, rule: MethodRule) -> Caller:
        caller = self._door.admit(certificate, rule)
        if rule.roles and not rule.roles & caller.roles:
            raise NodeError(
                "ROLE_REQUIRED", f"This call needs the role {' or '.join(sorted(rule.roles))}."
            )
        return caller

    @contextmanager
    def _counted(self, certificate: PresentedCertificate) -> Iterator[None]:
        key = certificate.uri
        self._rate_limit.take(key)
        if self._in_flight[key] >= self._max_calls_in_flight:
            raise NodeError(
                "RATE_LIMITED",
                f"{self._max_calls_in_flight} calls of yours are open already.",
                metadata={"retry_after_seconds": "1"},
            )
        self._in_flight[key] += 1
        try:
            yield
        finally:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]


async def _refuse(context: _Context, method: str, caller_id: str, error: Exception) -> None:
    refusal = NodeError.from_reason(error)
    if refusal.reason == "INTERNAL":
        # The log shows the error's type and place; its text may hold a protected value.
        get_logger().error(
            "rpc_failed",
            method=method,
            caller=caller_id,
            incident=refusal.incident,
            exc_info=error,
        )
    else:
        get_logger().info(
            "rpc_refused",
            method=method,
            caller=caller_id,
            reason=refusal.reason,
            detail=refusal.private,
        )
    await abort(context, refusal)


def _behaviour(handler: "grpc.RpcMethodHandler[Any, Any]") -> Callable[[Any, _Context], Any]:
    behaviour: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    if behaviour is None:
        raise TypeError("the method handler has no behaviour")
    found: Callable[[Any, _Context], Any] = behaviour
    return found


async def _read_one(context: _Context) -> bytes:
    """The message of a unary call."""
    raw = await context.read()
    if not isinstance(raw, bytes):  # the end of the stream
        raise NodeError("MALFORMED_MESSAGE", "The call came without a message.")
    return raw


def _parse(raw: bytes, parse: Callable[[bytes], Any] | None, rule: MethodRule) -> Any:
    if len(raw) > rule.max_request_bytes:
        raise NodeError(
            "MESSAGE_TOO_LARGE",
            f"The message has {len(raw)} bytes; this call takes {rule.max_request_bytes}.",
        )
    try:
        return parse(raw) if parse is not None else raw
    except DecodeError as error:
        raise NodeError("MALFORMED_MESSAGE", "The bytes are not the message expected.") from error


async def _parse_each(
    raw: AsyncIterator[bytes], parse: Callable[[bytes], Any] | None, rule: MethodRule
) -> AsyncIterator[Any]:
    async for one in raw:
        yield _parse(one, parse, rule)


def _first(connection: Mapping[str, Any], name: str) -> bytes | None:
    for value in connection.get(name, ()):
        return bytes(value)
    return None


@lru_cache(maxsize=1024)
def _presented(pem: bytes) -> PresentedCertificate:
    certificate = certificate_from_pem(pem)
    return PresentedCertificate(
        uri=uri_of(certificate),
        spki=certificate_spki(certificate),
        not_after=certificate.not_valid_after_utc.timestamp(),
    )


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
