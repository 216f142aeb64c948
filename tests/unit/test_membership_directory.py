"""Who may be trusted at a moment: validity, serials, revocation, staleness."""

from __future__ import annotations

import datetime as dt

import pytest

from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.connector.membership.directory import KnownCredential, KnownStatus, MemberDirectory
from luoshu.connector.membership.status import StatusFile, StatusSigner, check_status_list
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import (
    Endpoints,
    MembershipCredential,
    Revocation,
    RevocationReason,
    Role,
    SpaceTrust,
)

NOW = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
OPERATOR = "urn:luoshu:alliance:operator"
CLINIC = "urn:luoshu:alliance:clinic"

AUTHORITY = SigningKey.generate(KeyUse.AUTHORITY)
STATUS = SigningKey.generate(KeyUse.STATUS)
EVENTS = [SigningKey.generate(KeyUse.EVENTS) for _ in range(3)]
LOG = SigningKey.generate(KeyUse.LOG)


def known(participant=CLINIC, *, serial=1, start=NOW, end=NOW + DAY, endpoint="c.example:1"):
    operator = participant == OPERATOR
    keys = (EVENTS[serial - 1].public, LOG.public, PublicKey.tls(b"spki"))
    credential = MembershipCredential(
        space="alliance",
        participant_id=participant,
        name=LocalizedText("c", ""),
        roles=(Role.OPERATOR,) if operator else (Role.HOLDER,),
        jurisdiction="CN",
        keys=(*keys, STATUS.public) if operator else keys,
        endpoints=Endpoints(endpoint),
        not_before=start,
        not_after=end,
        serial=serial,
    )
    return KnownCredential(credential, credential.sign(AUTHORITY))


@pytest.fixture
def directory():
    trust = SpaceTrust(
        space="alliance",
        authority=AUTHORITY.public,
        ca_certificate=pki.create_authority("a", NOW).certificate_pem.decode(),
        operator_id=OPERATOR,
        operator_endpoint="o.example:1",
    )
    made = MemberDirectory(trust, known(OPERATOR, end=NOW + 30 * DAY))
    made.accept_status(signed())
    return made


def signed(version=1, at=NOW, *revoked):
    return StatusSigner("alliance", STATUS).sign(version, revoked, at)


def refusal(run):
    with pytest.raises(NodeError) as caught:
        run()
    return caught.value.reason


def test_unknown_valid_expired(directory):
    assert refusal(lambda: directory.require_member(CLINIC, NOW)) == "CREDENTIAL_MISSING"
    directory.admit(known(end=NOW + 5 * MINUTE))
    assert directory.require_member(CLINIC, NOW).serial == 1
    later = NOW + 5 * MINUTE
    assert refusal(lambda: directory.require_member(CLINIC, later)) == "CREDENTIAL_EXPIRED"
    earlier = NOW - MINUTE / 2
    assert refusal(lambda: directory.require_member(CLINIC, earlier)) == "CREDENTIAL_EXPIRED"


def test_without_a_fresh_list_nobody_is_trusted(directory):
    directory.admit(known())
    stale = NOW + 10 * MINUTE
    assert directory.require_member(CLINIC, stale - dt.timedelta(milliseconds=1))
    assert refusal(lambda: directory.require_member(CLINIC, stale)) == "STATUS_LIST_STALE"
    assert refusal(lambda: directory.require_member(OPERATOR, stale)) == "STATUS_LIST_STALE"
    assert refusal(lambda: directory.members(stale)) == "STATUS_LIST_STALE"
    # A list from the future is as bad as an old one.
    directory.accept_status(signed(1, NOW + 10 * MINUTE))
    assert refusal(lambda: directory.require_member(CLINIC, NOW)) == "STATUS_LIST_STALE"


def test_newest_serial_that_began_counts(directory):
    directory.admit(known(serial=2, start=NOW + 2 * MINUTE, end=NOW + 4 * MINUTE))
    directory.admit(known(serial=1))
    at = lambda minutes: directory.event_keys(CLINIC, NOW + minutes * MINUTE)  # noqa: E731
    assert at(1) == (EVENTS[0].public,)
    assert at(2) == (EVENTS[1].public,)
    # Serial 2 has ended; serial 1, still within its dates, doesn't come back.
    assert at(5) == ()
    assert at(-1) == ()
    assert directory.newest_serial(CLINIC) == 2


def test_revocation_splits_the_keys_in_time(directory):
    directory.admit(known())
    since = NOW + 3 * MINUTE
    directory.accept_status(
        signed(2, NOW, Revocation(CLINIC, since, RevocationReason.KEY_COMPROMISED))
    )
    assert directory.event_keys(CLINIC, since - MINUTE)
    assert directory.log_keys(CLINIC, since - MINUTE) == (LOG.public,)
    assert directory.event_keys(CLINIC, since) == ()
    assert directory.require_member(CLINIC, since - MINUTE)
    assert refusal(lambda: directory.require_member(CLINIC, since)) == "CREDENTIAL_REVOKED"
    assert [m.credential.participant_id for m in directory.members(since)] == [OPERATOR]
    # A known revocation holds also when the list that says so is stale.
    stale = NOW + DAY / 2
    assert refusal(lambda: directory.refuse_revoked(CLINIC, stale)) == "CREDENTIAL_REVOKED"


def test_endpoints(directory):
    directory.admit(known())
    directory.admit(known("urn:luoshu:alliance:institute", endpoint=None))
    assert directory.endpoint(CLINIC) == "c.example:1"
    assert directory.endpoint(OPERATOR) == "o.example:1"
    silent = lambda: directory.endpoint("urn:luoshu:alliance:institute")  # noqa: E731
    assert refusal(silent) == "PEER_UNREACHABLE"
    assert refusal(lambda: directory.endpoint("urn:luoshu:alliance:nobody")) == "NOT_FOUND"


def test_lists_are_compared_with_the_one_held(directory):
    operator = known(OPERATOR, end=NOW + 30 * DAY).credential
    held = signed(3, NOW + MINUTE)

    def check(status: KnownStatus) -> KnownStatus:
        return check_status_list(status.envelope, operator, NOW + MINUTE, held)

    assert check(signed(4, NOW + MINUTE)).status.version == 4
    assert check(signed(3, NOW + 1.5 * MINUTE)).status.version == 3
    assert refusal(lambda: check(signed(2, NOW + MINUTE))) == "STATUS_LIST_STALE"
    assert refusal(lambda: check(signed(3, NOW))) == "STATUS_LIST_STALE"
    other = Revocation(CLINIC, NOW, RevocationReason.LEFT)
    assert refusal(lambda: check(signed(3, NOW + MINUTE, other))) == "CREDENTIAL_INVALID"


def test_status_file_survives_rubbish(tmp_path):
    file = StatusFile(tmp_path / "status-list.json")
    assert file.read() is None
    file.write(signed())
    assert file.read() is not None
    (tmp_path / "status-list.json").write_bytes(b"{")
    assert file.read() is None
