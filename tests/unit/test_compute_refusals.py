"""What policy says becomes a catalogued reason; what is logged names no person."""

import json

import pytest
from contract_world import ANALYST, USER, request

from luoshu.connector.compute import entries
from luoshu.connector.compute.entries import Pseudonyms, Subject
from luoshu.connector.compute.gatekeeping import refusal_of
from luoshu.connector.compute.outcome import Refusal
from luoshu.connector.errors import lookup
from luoshu.contracts.canonical import JsonObject, canonicalize, digest
from luoshu.contracts.contract import AgreementState
from luoshu.policies import Decision, Reason


def decision(*rules):
    reasons = tuple(Reason(rule, f"about {rule}") for rule in rules)
    return Decision(not rules, reasons, digest(b"policy"), digest(b"input"))


@pytest.mark.parametrize(
    ("rules", "reason", "rule", "status"),
    [
        (["purpose"], "POLICY_DENIED", "purpose", "PERMISSION_DENIED"),
        (["region"], "POLICY_DENIED", "region", "PERMISSION_DENIED"),
        (["validity"], "POLICY_DENIED", "validity", "PERMISSION_DENIED"),
        (["count"], "USES_EXHAUSTED", "count", "RESOURCE_EXHAUSTED"),
        (["count", "purpose"], "POLICY_DENIED", "count", "PERMISSION_DENIED"),
        (["purpose", "count"], "POLICY_DENIED", "purpose", "PERMISSION_DENIED"),
        (["agreement_state"], "CONTRACT_NOT_ACTIVE", "agreement_state", "FAILED_PRECONDITION"),
        (
            ["count", "agreement_state"],
            "CONTRACT_NOT_ACTIVE",
            "agreement_state",
            "FAILED_PRECONDITION",
        ),
    ],
)
def test_refusals_reason(rules, reason, rule, status):
    refusal = refusal_of(decision(*rules), AgreementState.SUSPENDED)
    assert refusal is not None
    assert (refusal.reason, refusal.rule) == (reason, rule)
    error = refusal.error(7)
    assert error.status == status
    assert error.metadata == {"decision": "7", "rule": rule}
    assert lookup(reason) is not None


def test_no_refusal_where_policy_allows():
    assert refusal_of(decision(), AgreementState.ACTIVE) is None


def test_a_no_without_a_reason_is_still_a_no():
    silent = Decision(False, (), digest(b"policy"), digest(b"input"))
    refusal = refusal_of(silent, AgreementState.ACTIVE)
    assert refusal is not None
    assert refusal.reason == "POLICY_DENIED"


@pytest.mark.parametrize("state", list(AgreementState))
def test_state_is_named(state):
    refusal = refusal_of(decision("agreement_state"), state)
    assert refusal is not None
    assert state.value.lower() in refusal.message


def test_pseudonym_is_stable_and_this_nodes_own():
    one, other = Pseudonyms(bytes(32)), Pseudonyms(bytes([1]) * 32)
    assert one.of(USER) == one.of(USER)
    assert one.of(USER) != other.of(USER)
    assert one.of(USER) != one.of(f"{USER}x")


def test_entries_are_canonical_and_name_no_person():
    asked = request()
    subject = Subject(asked.id, digest(b"request"), ANALYST.id, Pseudonyms(bytes(32)).of(USER))
    facts: JsonObject = {"now": "2026-03-01T08:00:00Z"}
    made = [
        entries.allowed(subject, decision(), facts, digest(b"code")),
        entries.refused(
            subject, Refusal("POLICY_DENIED", "no", "purpose"), decision("purpose"), facts
        ),
        entries.refused(subject, Refusal("GUARD_COLUMN", "no")),
        entries.released(
            asked.id,
            digest(b"request"),
            3,
            result_digest=digest(b"result"),
            rows=2,
            columns=[("sex", "BIGINT")],
        ),
        entries.failed(asked.id, digest(b"request"), 3, "QUERY_FAILED"),
    ]
    for data in made:
        text = canonicalize(data).decode()
        assert json.loads(text) == data
        assert data["request_id"] == asked.id
        assert data["request_digest"] == digest(b"request")
        assert USER not in text
        assert asked.sql not in text
    assert "policy" not in made[2]
    assert "rule" not in made[2]
