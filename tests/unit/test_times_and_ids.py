"""Times and ids have one spelling each."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoshu.contracts import ids
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.times import format_time, parse_time, to_milliseconds


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_come_back_cut_to_milliseconds(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == to_milliseconds(moment)
    assert moment - to_milliseconds(moment) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T08:00:00",
        "2026-03-01T08:00:00+00:00",
        "2026-03-01T08:00:00z",
        "2026-03-01 08:00:00Z",
        "2026-03-01T08:00:00.000Z",
        "2026-03-01T08:00:00.1Z",
        "2026-03-01T08:00:00.123456Z",
        "2026-02-30T08:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-06-30T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "+2026-03-01T08:00:00Z",
        "２０２６-03-01T08:00:00Z",
        "2026-03-01T08:00:00Z\n",
        "",
    ],
)
def test_other_spellings_of_times_are_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        parse_time(text)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=8))),
    ],
)
def test_times_that_are_not_utc_are_a_programming_error(moment: datetime) -> None:
    with pytest.raises(ValueError, match="UTC"):
        format_time(moment)


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(
    lambda text: not text.startswith("xn--") and text != "contract"
)


@given(LABELS, LABELS, LABELS)
def test_ids_come_apart_as_they_were_built(space: str, name: str, local: str) -> None:
    participant = ids.participant_id(space, name)
    assert ids.parse_participant_id(participant) == (space, name)
    assert ids.participant_of_dns_name(ids.dns_name(participant)) == participant
    assert ids.parse_user_id(ids.user_id(participant, local)) == (participant, local)
    assert ids.parse_product_id(ids.product_id(participant, local)) == (participant, local)


@pytest.mark.parametrize(
    "label",
    [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a:b",
        "a b",
        "a\n",
        "a\0",
        "a" * 41,
        "xn--80ak6aa92e",
        "é",
        "а",  # Cyrillic
        "ａ",  # full width
        "a_b",
        "%61",
        "../x",
        "*",
    ],
)
def test_odd_labels_are_refused_everywhere(label: str) -> None:
    holder = ids.participant_id("s", "h")
    with pytest.raises(DocumentError):
        ids.participant_id(label, "a")
    with pytest.raises(DocumentError):
        ids.participant_id("s", label)
    with pytest.raises(DocumentError):
        ids.parse_participant_id(f"urn:luoshu:s:{label}")
    with pytest.raises(DocumentError):
        ids.user_id(holder, label)
    with pytest.raises(DocumentError):
        ids.parse_product_id(f"{holder}:product:{label}")
    with pytest.raises(DocumentError):
        ids.participant_of_dns_name(f"{label}.s.luoshu.internal")


def test_no_id_of_one_kind_is_one_of_another() -> None:
    uuid = str(uuid4())
    with pytest.raises(DocumentError):
        ids.participant_id("contract", uuid)
    with pytest.raises(DocumentError):
        ids.parse_participant_id(f"urn:luoshu:contract:{uuid}")
    user = ids.user_id(ids.participant_id("s", "user"), "user")
    assert ids.parse_user_id(user) == ("urn:luoshu:s:user", "user")
    with pytest.raises(DocumentError):
        ids.parse_product_id(user)
    with pytest.raises(DocumentError):
        ids.parse_participant_id(user)


@pytest.mark.parametrize(
    "text",
    [
        "urn:uuid:6BA7B810-9DAD-41D1-80B4-00C04FD430C8",
        "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",  # version 1
        "urn:uuid:6ba7b810-9dad-41d1-c0b4-00c04fd430c8",  # other variant
        "urn:uuid:{6ba7b810-9dad-41d1-80b4-00c04fd430c8}",
        "urn:uuid:6ba7b8109dad41d180b400c04fd430c8",
        "urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8\n",
    ],
)
def test_other_spellings_of_uuids_are_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        ids.check_request_id(text)
    with pytest.raises(DocumentError):
        ids.check_contract_id(text.replace("urn:uuid:", "urn:luoshu:contract:"))


def test_uuid_ids_come_from_random_uuids_only() -> None:
    assert ids.check_request_id(ids.request_id(uuid4()))
    assert ids.check_contract_id(ids.contract_id(uuid4()))
    with pytest.raises(DocumentError):
        ids.contract_id(UUID(int=0))
