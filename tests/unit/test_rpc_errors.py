"""Errors keep their reason across the wire, and lose what is private."""

from __future__ import annotations

import grpc
import pytest

from luoshu.connector.errors import CATALOGUE, NodeError
from luoshu.connector.rpc.errors import from_rpc_error, to_status

PEER = "urn:luoshu:alliance:clinic"


def travel(error, **changes):
    status = to_status(error)
    values = {
        "code": status.code,
        "initial_metadata": grpc.aio.Metadata(),
        "trailing_metadata": grpc.aio.Metadata(*status.trailing_metadata),
        "details": status.details,
    }
    return from_rpc_error(grpc.aio.AioRpcError(**{**values, **changes}), PEER)


@pytest.mark.parametrize("reason", sorted(CATALOGUE))
def test_every_reason_survives(reason):
    sent = NodeError(reason, metadata={"rule": "purpose"})
    received = travel(sent)
    assert (received.reason, received.status) == (sent.reason, sent.status)
    if reason != "INTERNAL":
        assert dict(received.metadata) == {"rule": "purpose"}


def test_guard_codes_survive():
    assert travel(NodeError("GUARD_ROWS", "No rows.")).reason == "GUARD_ROWS"


def test_incident_of_the_peer_is_the_one_that_is_shown():
    sent = NodeError("INTERNAL")
    assert travel(sent).incident == sent.incident


def test_words_of_a_peer_can_not_play_with_the_terminal():
    received = travel(NodeError("PEER_UNREACHABLE", "\x1b[2Jgone\u202e"))
    assert received.public.isprintable()


def test_private_text_stays():
    status = to_status(NodeError("LOG_UNAVAILABLE", private="/var/secret"))
    assert "secret" not in status.details
    assert b"secret" not in dict(status.trailing_metadata)["grpc-status-details-bin"]


def test_reason_that_doesnt_fit_its_status_is_not_believed():
    """A peer must not pass a denial off as a missing contract."""
    received = travel(NodeError("NOT_FOUND"), code=grpc.StatusCode.PERMISSION_DENIED)
    assert received.reason == "PEER_UNREACHABLE"


@pytest.mark.parametrize(
    ("code", "details", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", "PEER_UNREACHABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", "UNIMPLEMENTED"),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (9 vs. 8)",
            "MESSAGE_TOO_LARGE",
        ),
        (grpc.StatusCode.UNKNOWN, "boom", "PEER_UNREACHABLE"),
    ],
)
def test_status_without_errorinfo(code, details, reason):
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
    received = from_rpc_error(error, PEER)
    assert received.reason == reason
    assert "boom" not in received.public
    assert "Socket closed" not in received.public


def test_rubbish_in_the_details_is_survived():
    rubbish = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    received = travel(NodeError("RATE_LIMITED"), trailing_metadata=rubbish)
    assert received.reason == "RATE_LIMITED"
