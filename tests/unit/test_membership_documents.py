"""Credentials, enrolment and the status list: who is believed, and when no longer."""

from dataclasses import replace
from datetime import timedelta

import pytest
from contract_world import (
    ANALYST,
    AUTHORITY,
    HOLDER,
    NOW,
    OPERATOR,
    SPACE,
    THIRD,
    USER,
    YEAR,
    Member,
    key,
    trust,
    user_credential,
)
from golden_documents import enrolment_request

from luoshu.contracts import ids
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import CredentialError, DocumentError
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import (
    EnrolmentRequest,
    MembershipCredential,
    Revocation,
    RevocationReason,
    Role,
    SpaceTrust,
    StatusList,
    UserRole,
    verify_credential,
    verify_enrolment_request,
    verify_status_list,
    verify_user_credential,
)

STATUS_KEY = OPERATOR.key(KeyUse.STATUS)


def status_list(**changes: object) -> StatusList:
    fields: dict[str, object] = {"space": SPACE, "version": 5, "issued_at": NOW}
    return StatusList(**{**fields, **changes})  # type: ignore[arg-type]


def reason_of(call: object) -> str:
    with pytest.raises(CredentialError) as caught:
        call()  # type: ignore[operator]
    return caught.value.reason


@pytest.mark.parametrize("member", [OPERATOR, HOLDER, ANALYST, THIRD])
def test_a_members_credential_verifies(member: Member) -> None:
    envelope = Envelope.from_bytes(member.credential().sign(AUTHORITY).to_bytes())
    credential = verify_credential(envelope, trust(), NOW)
    assert credential == member.credential()
    assert credential.keys_for(KeyUse.EVENTS) == (member.events.public,)


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (timedelta(0), None),
        (-YEAR, None),
        (-YEAR - timedelta(milliseconds=1), "CREDENTIAL_EXPIRED"),
        (YEAR - timedelta(milliseconds=1), None),
        (YEAR, "CREDENTIAL_EXPIRED"),
    ],
)
def test_validity_is_half_open(offset: timedelta, reason: str | None) -> None:
    envelope = HOLDER.credential().sign(AUTHORITY)
    if reason is None:
        assert verify_credential(envelope, trust(), NOW + offset).is_valid_at(NOW + offset)
    else:
        assert reason_of(lambda: verify_credential(envelope, trust(), NOW + offset)) == reason


def test_another_authority_of_the_same_space_is_not_believed() -> None:
    envelope = HOLDER.credential().sign(key("impostor", KeyUse.AUTHORITY))
    assert reason_of(lambda: verify_credential(envelope, trust(), NOW)) == "CREDENTIAL_INVALID"


def test_a_credential_of_another_space_says_so() -> None:
    participant = ids.participant_id("elsewhere", "north")
    other = HOLDER.credential(space="elsewhere", participant_id=participant)
    for authority in (key("elsewhere", KeyUse.AUTHORITY), AUTHORITY):
        envelope = other.sign(authority)
        assert reason_of(lambda e=envelope: verify_credential(e, trust(), NOW)) == "WRONG_SPACE"


def test_a_member_cannot_certify_itself_with_its_own_key_as_authority() -> None:
    own = SigningKey.from_pem(HOLDER.events.to_pem(), KeyUse.AUTHORITY)
    envelope = HOLDER.credential(roles=(Role.HOLDER, Role.AUDITOR)).sign(own)
    assert reason_of(lambda: verify_credential(envelope, trust(), NOW)) == "CREDENTIAL_INVALID"


@pytest.mark.parametrize(
    "changes",
    [
        {"participant_id": "urn:luoshu:elsewhere:north"},
        {"not_after": NOW - YEAR},
        {"keys": (HOLDER.events.public,)},
        {"keys": (*HOLDER.credential().keys, HOLDER.events.public)},
        {
            "keys": (
                *HOLDER.credential().keys,
                PublicKey.from_raw(HOLDER.events.public.public_bytes, KeyUse.WITNESS),
            )
        },
        {"keys": (*HOLDER.credential().keys, AUTHORITY.public)},
        {"keys": (*HOLDER.credential().keys, key("ada", KeyUse.REQUEST).public)},
        {"keys": (*HOLDER.credential().keys, STATUS_KEY.public)},
        {"roles": (Role.OPERATOR,)},
    ],
)
def test_a_credential_against_the_rules_cannot_be_made(changes: dict) -> None:
    with pytest.raises(DocumentError):
        HOLDER.credential(**changes)


def test_a_users_credential_verifies_against_its_member() -> None:
    envelope = user_credential().sign(ANALYST.events)
    user = verify_user_credential(envelope, ANALYST.credential(), NOW)
    assert user.user_id == USER
    assert user.has_role(UserRole.ANALYST)
    assert not user.has_role(UserRole.ADMIN)


def test_a_member_cannot_enrol_anothers_user() -> None:
    envelope = user_credential(ANALYST).sign(THIRD.events)
    assert (
        reason_of(lambda: verify_user_credential(envelope, THIRD.credential(), NOW))
        == "CREDENTIAL_INVALID"
    )
    assert (
        reason_of(lambda: verify_user_credential(envelope, ANALYST.credential(), NOW))
        == "CREDENTIAL_INVALID"
    )
    with pytest.raises(DocumentError):
        user_credential(ANALYST, participant_id=THIRD.id)


def test_a_user_ends_with_its_own_or_its_members_credential() -> None:
    envelope = user_credential().sign(ANALYST.events)
    soon = ANALYST.credential(not_after=NOW + timedelta(days=1))
    for member, moment in (
        (soon, NOW + timedelta(days=1)),
        (ANALYST.credential(not_after=NOW + 2 * YEAR), NOW + YEAR),
        (ANALYST.credential(), NOW - 2 * YEAR),
    ):
        assert (
            reason_of(lambda m=member, t=moment: verify_user_credential(envelope, m, t))
            == "CREDENTIAL_EXPIRED"
        )


@pytest.mark.parametrize("use", [KeyUse.EVENTS, KeyUse.LOG])
def test_a_users_key_is_for_requests(use: KeyUse) -> None:
    with pytest.raises(DocumentError):
        user_credential(request_key=key("x", use).public)


def test_a_fresh_status_list_is_believed() -> None:
    revoked = (Revocation(THIRD.id, NOW, RevocationReason.EXPELLED),)
    envelope = status_list(revoked=revoked).sign(STATUS_KEY)
    status = verify_status_list(envelope, OPERATOR.credential(), NOW, 5)
    assert status.is_revoked(THIRD.id, NOW)
    assert not status.is_revoked(THIRD.id, NOW - timedelta(milliseconds=1))
    assert not status.is_revoked(HOLDER.id, NOW)


@pytest.mark.parametrize(
    ("offset", "believed"),
    [
        (timedelta(seconds=600), False),
        (timedelta(seconds=599, milliseconds=999), True),
        (timedelta(seconds=-60), True),
        (timedelta(seconds=-60, milliseconds=-1), False),
    ],
)
def test_a_status_list_ages(offset: timedelta, believed: bool) -> None:
    envelope = status_list().sign(STATUS_KEY)
    if believed:
        assert verify_status_list(envelope, OPERATOR.credential(), NOW + offset).version == 5
    else:
        assert (
            reason_of(lambda: verify_status_list(envelope, OPERATOR.credential(), NOW + offset))
            == "STATUS_LIST_STALE"
        )


def test_an_older_status_list_is_a_roll_back() -> None:
    envelope = status_list(version=4).sign(STATUS_KEY)
    assert (
        reason_of(lambda: verify_status_list(envelope, OPERATOR.credential(), NOW, 5))
        == "STATUS_LIST_STALE"
    )


def test_only_the_operator_of_this_space_lists_status() -> None:
    envelope = status_list().sign(key("north", KeyUse.STATUS))
    for issuer in (OPERATOR, HOLDER):
        assert (
            reason_of(lambda m=issuer: verify_status_list(envelope, m.credential(), NOW))
            == "CREDENTIAL_INVALID"
        )
    elsewhere = status_list(space="elsewhere").sign(STATUS_KEY)
    assert (
        reason_of(lambda: verify_status_list(elsewhere, OPERATOR.credential(), NOW))
        == "WRONG_SPACE"
    )
    expired = OPERATOR.credential(not_after=NOW)
    envelope = status_list().sign(STATUS_KEY)
    assert reason_of(lambda: verify_status_list(envelope, expired, NOW)) == "CREDENTIAL_INVALID"


def test_a_status_list_names_a_member_once() -> None:
    twice = tuple(
        Revocation(THIRD.id, NOW + timedelta(days=n), RevocationReason.LEFT) for n in (0, 1)
    )
    with pytest.raises(DocumentError):
        status_list(revoked=twice)


def test_a_candidate_proves_its_keys() -> None:
    asked = enrolment_request()
    assert verify_enrolment_request(asked.sign(HOLDER.events)) == asked


def test_a_candidate_signs_with_a_key_it_lists() -> None:
    envelope = enrolment_request().sign(THIRD.events)
    assert reason_of(lambda: verify_enrolment_request(envelope)) == "CREDENTIAL_INVALID"


@pytest.mark.parametrize(
    "changes",
    [
        {"csr": "nonsense"},
        {"csr": "中"},
        {"keys": (*enrolment_request().keys[:-1], PublicKey.tls(b"another"))},
        {"keys": enrolment_request().keys[1:]},
        {"participant_id": "urn:luoshu:elsewhere:north"},
    ],
)
def test_a_candidate_without_its_proofs_is_refused(changes: dict) -> None:
    with pytest.raises(DocumentError):
        replace(enrolment_request(), **changes)


def test_a_tampered_signing_request_is_refused() -> None:
    asked = enrolment_request()
    lines = asked.csr.splitlines()
    for swap in ("A", "B"):
        body = lines[-2][:-6] + swap + lines[-2][-5:]
        csr = "\n".join([*lines[:-2], body, lines[-1]]) + "\n"
        if csr != asked.csr:
            with pytest.raises(DocumentError):
                replace(asked, csr=csr)


def test_documents_of_another_kind_are_no_credentials() -> None:
    envelope = user_credential().sign(ANALYST.events)
    assert reason_of(lambda: verify_credential(envelope, trust(), NOW)) == "CREDENTIAL_INVALID"
    with pytest.raises(DocumentError):
        MembershipCredential.from_payload(user_credential().to_payload())
    with pytest.raises(DocumentError):
        EnrolmentRequest.from_payload(HOLDER.credential().to_payload())


def test_the_trust_anchor_has_one_authority_and_its_own_operator() -> None:
    with pytest.raises(DocumentError):
        replace(trust(), authority=HOLDER.events.public)
    with pytest.raises(DocumentError):
        replace(trust(), operator_id="urn:luoshu:elsewhere:operator")
    payload = trust().to_payload()
    with pytest.raises(DocumentError):
        SpaceTrust.from_payload({**payload, "ca_certificate": trust().ca_certificate * 2})
    assert SpaceTrust.from_payload(payload) == trust()


@pytest.mark.parametrize(
    "text",
    ["a\u202eb", "a\u200bb", "a\0b", "e\u0301", "\ud800", "a\x1b[31m", "x" * 4001],
)
def test_names_that_deceive_the_eye_are_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        LocalizedText(text, "")
    assert LocalizedText("", "中").in_language("en") == "中"
    assert LocalizedText("a", "中").in_language("zh") == "中"
