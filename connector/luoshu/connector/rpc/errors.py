"""Errors on the wire: `NodeError` to a status with ``google.rpc.ErrorInfo``, and back.

The status travels as gRPC's own rich error model: a serialised ``google.rpc.Status`` in
the trailer ``grpc-status-details-bin``.
"""

import re
from collections.abc import Sequence
from typing import Final, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from luoshu.connector.errors import DOMAIN, NodeError, lookup, new_incident_id

_DETAILS_KEY: Final = "grpc-status-details-bin"
_MAX_REMOTE_TEXT: Final = 2000
_INCIDENT: Final = re.compile(r"inc-[0-9a-f]{12}")
_STATUS_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}

_REASON_OF_BARE_STATUS: Final = {
    grpc.StatusCode.UNAVAILABLE: "PEER_UNREACHABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.UNIMPLEMENTED: "UNIMPLEMENTED",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "RATE_LIMITED",
    grpc.StatusCode.CANCELLED: "CANCELLED",
}
"""What a status means that gRPC made itself, so without ErrorInfo."""


def to_status(error: NodeError) -> grpc.Status:
    """Returns the gRPC status of an error: public text, ErrorInfo, nothing private."""
    code = grpc.StatusCode[error.status]
    detail = AnyMessage()
    detail.Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata)
        )
    )
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=error.public, details=[detail])
    )
    return status


async def abort(context: "grpc.aio.ServicerContext[object, object]", error: NodeError) -> NoReturn:
    """Ends the call with the error's status."""
    await context.abort_with_status(to_status(error))


def from_rpc_error(error: grpc.aio.AioRpcError, peer: str) -> NodeError:
    """Reads what a peer answered into a `NodeError`.

    The peer's reason is kept when this node's catalogue knows it under the same status;
    its text is shown as the peer's words. A status without ErrorInfo comes from gRPC
    itself: most often a connection that failed.

    Args:
        error: What the stub raised.
        peer: Whom the call went to, for the text.
    """
    info, message = _error_info(error)
    if info is not None:
        entry = lookup(info.reason)
        if entry is not None and grpc.StatusCode[entry.status] is error.code():
            return NodeError(
                info.reason,
                f"{peer} answered: {message}",
                metadata=_kept_metadata(info),
                incident_id=lambda: _incident(info),
            )
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (
        error.details() or ""
    ):
        return NodeError("MESSAGE_TOO_LARGE", f"A message to or from {peer} is too large.")
    reason = _REASON_OF_BARE_STATUS.get(error.code())
    if reason is None:
        return NodeError(
            "PEER_UNREACHABLE",
            f"{peer} answered {error.code().name} without saying why.",
            private=(error.details() or "")[:_MAX_REMOTE_TEXT],
        )
    public = f"{peer} can't be reached." if reason == "PEER_UNREACHABLE" else None
    return NodeError(reason, public, private=(error.details() or "")[:_MAX_REMOTE_TEXT])


def _error_info(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, str]:
    # Shown on terminals: a peer's words may not move the cursor or hide in it.
    text = "".join(
        character if character.isprintable() else " "
        for character in (error.details() or "")[:_MAX_REMOTE_TEXT]
    )
    for value in _values(error, _DETAILS_KEY):
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            continue
        if _STATUS_BY_NUMBER.get(status.code) is not error.code():
            continue
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if (
                detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
                and detail.Unpack(info)
                and info.domain == DOMAIN
            ):
                return info, text
    return None, text


def _values(error: grpc.aio.AioRpcError, key: str) -> Sequence[bytes]:
    trailers = error.trailing_metadata() or ()
    return [value for name, value in trailers if name == key and isinstance(value, bytes)]


def _incident(info: error_details_pb2.ErrorInfo) -> str:
    # The number by which the peer's administrator finds it, if it is one.
    found: str = info.metadata.get("incident", "")
    return found if _INCIDENT.fullmatch(found) else new_incident_id()


def _kept_metadata(info: error_details_pb2.ErrorInfo) -> dict[str, str]:
    kept: dict[str, str] = {}
    for key, value in list(info.metadata.items())[:16]:
        try:
            NodeError("NOT_FOUND", metadata={key: ""})
        except ValueError:
            continue
        kept[key] = value[:256]
    return kept
