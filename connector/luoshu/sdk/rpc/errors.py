"""gRPC statuses to SDK errors.

A node's refusal carries `google.rpc.ErrorInfo` (domain `luoshu`): its reason
decides the class, its status is the fallback. A status without ErrorInfo comes
from the transport: most often nobody answered, or the TLS handshake was
refused, which gRPC reports alike as UNAVAILABLE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from luoshu.sdk.errors import (
    ComputationCancelledError,
    ContractStateError,
    CredentialError,
    DeadlineError,
    DeniedError,
    ExhaustedError,
    FailedError,
    GuardRefusedError,
    InvalidRequestError,
    LuoshuError,
    NotFoundError,
    PolicyDeniedError,
    StaleError,
    UnavailableError,
    VerificationError,
)

ERROR_DOMAIN = "luoshu"

_BY_REASON: dict[str, type[LuoshuError]] = {
    "POLICY_DENIED": PolicyDeniedError,
    "LOG_CORRUPT": VerificationError,
    "PROOF_INVALID": VerificationError,
    "CANCELLED": ComputationCancelledError,
}
_BY_STATUS: dict[grpc.StatusCode, type[LuoshuError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: CredentialError,
    grpc.StatusCode.PERMISSION_DENIED: DeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: ContractStateError,
    grpc.StatusCode.ABORTED: StaleError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: ComputationCancelledError,
    grpc.StatusCode.DATA_LOSS: VerificationError,
}
_TRANSPORT_REASONS = {
    grpc.StatusCode.UNAVAILABLE: "NODE_UNREACHABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    grpc.StatusCode.CANCELLED: "CANCELLED",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "MESSAGE_TOO_LARGE",
    grpc.StatusCode.UNIMPLEMENTED: "NOT_SERVED",
}


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    """The ErrorInfo of this project in a refused call, if there is one."""
    if not isinstance(error, grpc.Call):
        return None
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # The trailer contradicts the status line: believe the status line only.
        return None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            return info
    return None


def to_error(error: grpc.RpcError, explain_unreachable: Callable[[str], str]) -> LuoshuError:
    """The SDK error for a refused call.

    Args:
        error: As raised by a stub.
        explain_unreachable: Called with the transport's words when nobody
            answered; says in plain words what is likely wrong. May raise an
            error of its own, e.g. that the own certificate has expired.
    """
    if not isinstance(error, grpc.Call):
        return FailedError(f"The call failed before it reached a node: {error}")
    code, details = error.code(), error.details() or ""
    info = error_info(error)
    if info is not None:
        kind = _BY_REASON.get(info.reason) or _BY_STATUS.get(code, FailedError)
        if info.reason.startswith("GUARD_"):
            kind = GuardRefusedError
        # The catalogue's message ends with what to do next.
        return kind(details, reason=info.reason, next_step="", metadata=dict(info.metadata))
    if code is grpc.StatusCode.UNAVAILABLE:
        return UnavailableError(explain_unreachable(details))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError("The node didn't answer within the time allowed.")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return FailedError(
            "The node doesn't know this call.",
            reason="NOT_SERVED",
        )
    kind = _BY_STATUS.get(code, FailedError)
    reason = _TRANSPORT_REASONS.get(code, "")
    return kind(f"The call was refused ({code.name}): {details}", reason=reason)


@contextmanager
def translated(explain_unreachable: Callable[[str], str]) -> Iterator[None]:
    """Turns what stubs raise inside the block into SDK errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise to_error(error, explain_unreachable) from None
