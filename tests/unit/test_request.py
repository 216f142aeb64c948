"""Computation requests: one user, one contract, now."""

from datetime import timedelta

import pytest
from contract_world import NOW, REQUEST_KEY, THIRD, USER, key, request, user_credential

from luoshu.contracts import ids
from luoshu.contracts.errors import DocumentError, RequestError
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.request import MAX_SQL_BYTES, ComputationRequest, verify_request

MS = timedelta(milliseconds=1)


def test_a_users_request_verifies() -> None:
    envelope = request().sign(REQUEST_KEY)
    assert verify_request(envelope, user_credential(), NOW) == request()


def test_a_request_signed_by_another_key_is_refused() -> None:
    envelope = request().sign(key("mallory", KeyUse.REQUEST))
    with pytest.raises(RequestError) as caught:
        verify_request(envelope, user_credential(), NOW)
    assert caught.value.reason == "REQUEST_SIGNATURE_INVALID"


def test_a_user_cannot_ask_in_anothers_name() -> None:
    other = ids.user_id(THIRD.id, "ada")
    envelope = request(user_id=other).sign(REQUEST_KEY)
    with pytest.raises(RequestError) as caught:
        verify_request(envelope, user_credential(), NOW)
    assert caught.value.reason == "REQUEST_SIGNATURE_INVALID"
    assert user_credential().user_id == USER


@pytest.mark.parametrize(
    ("offset", "fresh"),
    [
        (timedelta(minutes=5), True),
        (timedelta(minutes=5) + MS, False),
        (timedelta(seconds=-60), True),
        (timedelta(seconds=-60) - MS, False),
    ],
)
def test_a_request_is_decided_near_its_time(offset: timedelta, fresh: bool) -> None:
    envelope = request().sign(REQUEST_KEY)
    if fresh:
        assert verify_request(envelope, user_credential(), NOW + offset)
        return
    with pytest.raises(RequestError) as caught:
        verify_request(envelope, user_credential(), NOW + offset)
    assert caught.value.reason == "REQUEST_TIME_SKEW"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "urn:uuid:1"},
        {"contract_id": "urn:luoshu:contract:*"},
        {"user_id": "ada"},
        {"purpose": "re search"},
        {"purpose": ""},
        {"sql": ""},
        {"sql": " \n"},
        {"sql": "SELECT 1\0"},
        {"sql": "SELECT '\ud800'"},
    ],
)
def test_an_odd_request_is_refused(changes: dict) -> None:
    with pytest.raises(DocumentError):
        request(**changes)


def test_sql_is_measured_in_bytes() -> None:
    assert request(sql="x" * MAX_SQL_BYTES)
    for sql in ("x" * (MAX_SQL_BYTES + 1), "中" * (MAX_SQL_BYTES // 3 + 1)):
        with pytest.raises(DocumentError) as caught:
            request(sql=sql)
        assert caught.value.reason == "MESSAGE_TOO_LARGE"
        assert "中" not in caught.value.message


@pytest.mark.parametrize("action", ["use", "download", "", None, 1])
def test_an_unknown_action_is_refused(action: object) -> None:
    with pytest.raises(DocumentError):
        ComputationRequest.from_payload({**request().to_payload(), "action": action})  # type: ignore[dict-item]
