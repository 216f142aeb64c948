"""The error catalogue: complete, without doubles, each text with a next step."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import grpc
import pytest

from luoshu.connector import error_rows, errors
from luoshu.connector.errors import CATALOGUE, NodeError, lookup
from luoshu.contracts.errors import REASONS, TransitionError
from luoshu.sandbox.errors import (
    FAILURE_TEXT,
    GuardRefusalError,
    PreparationError,
    ProductFileError,
    QueryError,
    SandboxError,
    SandboxFailureError,
    SandboxUnavailableError,
)

PROMISED = {
    "INVALID_ARGUMENT": {"MALFORMED_MESSAGE", "MESSAGE_TOO_LARGE", "QUERY_INVALID"},
    "UNAUTHENTICATED": {
        "CREDENTIAL_MISSING",
        "CREDENTIAL_EXPIRED",
        "CREDENTIAL_REVOKED",
        "CREDENTIAL_INVALID",
        "WRONG_SPACE",
    },
    "PERMISSION_DENIED": {
        "ROLE_REQUIRED",
        "POLICY_DENIED",
        "TEMPLATE_REQUIRED",
        "TEMPLATE_DENIED",
        "CONTRACT_WRONG_PARTY",
        "CONTRACT_SIGNATURE_INVALID",
        "REQUEST_SIGNATURE_INVALID",
    },
    "RESOURCE_EXHAUSTED": {
        "USES_EXHAUSTED",
        "PRIVACY_BUDGET_EXHAUSTED",
        "PRIVACY_QUOTA_EXHAUSTED",
        "RATE_LIMITED",
    },
    "NOT_FOUND": {"NOT_FOUND"},
    "FAILED_PRECONDITION": {
        "CONTRACT_NOT_ACTIVE",
        "CONTRACT_EVENT_REPLAYED",
        "CONTRACT_TRANSITION_INVALID",
    },
    "ABORTED": {"CONTRACT_STALE_HEAD"},
    "UNAVAILABLE": {
        "POLICY_UNAVAILABLE",
        "LOG_UNAVAILABLE",
        "HISTORY_CORRUPT",
        "SANDBOX_UNAVAILABLE",
        "STATUS_LIST_STALE",
        "CLOCK_BEHIND_LOG",
        "PEER_UNREACHABLE",
    },
    "DATA_LOSS": {"LOG_CORRUPT"},
    "INTERNAL": {"QUERY_FAILED", "INTERNAL"},
}
# A next step asks for an act: it has a verb in the imperative, or a command to run.
ACTS = re.compile(
    r"\b(Correct|Send|Update|Call|Check|Ask|Enrol|Connect|Compare|Sign|Negotiate|Wait|Choose|"
    r"Publish|Read|See|Fetch|Let|Synchronise|Use|Install|Simplify|Submit|Try|Set|Stop|Give|"
    r"Don't|checks|runs|read)\b"
)


class CarriedError(Exception):
    def __init__(self, message: str, **names: str) -> None:
        super().__init__(message)
        for name, value in names.items():
            setattr(self, name, value)


@pytest.mark.parametrize("status", PROMISED)
def test_every_promised_reason_has_its_status(status: str) -> None:
    assert {reason for reason in PROMISED[status] if CATALOGUE[reason].status == status} == (
        PROMISED[status]
    )


def test_every_reason_of_the_contracts_is_catalogued() -> None:
    assert set(CATALOGUE) >= REASONS


def test_a_contracts_error_keeps_its_reason_and_words() -> None:
    error = NodeError.from_reason(TransitionError("The offer was withdrawn."))
    assert error.reason == "CONTRACT_TRANSITION_INVALID"
    assert error.public.startswith("The offer was withdrawn. See the state")


def test_statuses_are_grpc_statuses() -> None:
    assert {e.status for e in CATALOGUE.values()} <= {code.name for code in grpc.StatusCode}


@pytest.mark.parametrize("reason", [*CATALOGUE, "GUARD_RAW_ROWS"])
def test_each_text_says_what_happened_and_what_to_do(reason: str) -> None:
    entry = lookup(reason)
    assert entry is not None
    assert ACTS.search(entry.next_step.en), entry.next_step.en
    for sentence in (entry.what.en, entry.next_step.en):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
    for sentence in (entry.what.zh, entry.next_step.zh):
        assert sentence.endswith("。")
        assert re.search(r"[\u4e00-\u9fff]", sentence)


def test_no_two_reasons_share_a_text() -> None:
    for pick in (
        lambda e: e.what.en,
        lambda e: e.what.zh,
        lambda e: e.next_step.en,
        lambda e: e.next_step.zh,
    ):
        doubles = [text for text, n in Counter(map(pick, CATALOGUE.values())).items() if n > 1]
        assert doubles == []


def test_no_reason_is_written_twice() -> None:
    assert len(error_rows.ROWS) == len(CATALOGUE)


def test_public_text_and_private_text_are_apart() -> None:
    error = NodeError("QUERY_INVALID", "No column named zip.", private="table p1, age=71")
    assert error.public.startswith("No column named zip. Correct the SQL")
    assert error.localized("zh").startswith("No column named zip. 请更正 SQL")
    assert "71" not in str(error) + error.public + error.localized("zh")
    assert error.private == "table p1, age=71"


@pytest.mark.parametrize("reason", ["QUERY_FAILED", "INTERNAL", "NOT_FOUND"])
def test_a_sealed_reason_never_shows_what_it_was_given(reason: str) -> None:
    error = NodeError(reason, "could not convert 'Zhang San' to INT")
    assert "Zhang" not in error.public + error.localized("zh") + str(error)
    assert "Zhang San" in error.private


def test_query_failed_is_one_constant_text() -> None:
    assert NodeError("QUERY_FAILED").public == NodeError("QUERY_FAILED", "overflow at 7").public


def test_an_unknown_reason_becomes_an_incident() -> None:
    error = NodeError("SOMETHING_NEW", "value 71", metadata={"row": "71"})
    assert (error.reason, error.status) == ("INTERNAL", "INTERNAL")
    assert dict(error.metadata) == {"incident": error.incident}
    assert error.incident is not None and error.incident in error.public
    assert "71" not in error.public.replace(error.incident, "")
    assert "SOMETHING_NEW" in error.private


def test_an_unexpected_error_shows_only_its_incident_id() -> None:
    error = NodeError.internal(ValueError("age 71"), incident_id=lambda: "inc-000000000001")
    assert error.incident == "inc-000000000001"
    assert "age" not in error.public + error.private
    assert isinstance(error.__cause__, ValueError)


def test_a_sandbox_failure_is_the_constant_text_and_its_cause_stays_private() -> None:
    error = NodeError.from_reason(SandboxFailureError("worker: signal SIGKILL"))
    assert (error.reason, error.public) == ("QUERY_FAILED", FAILURE_TEXT)
    assert "SIGKILL" in error.private


@pytest.mark.parametrize(
    "error",
    [
        ProductFileError("x: unknown key."),
        PreparationError("A unit is NULL."),
        QueryError("No column zip."),
        SandboxUnavailableError("There is no bubblewrap."),
        GuardRefusalError("GUARD_RAW_ROWS", "SELECT * returns rows."),
    ],
)
def test_every_sandbox_error_is_catalogued(error: SandboxError) -> None:
    carried = NodeError.from_reason(error)
    assert carried.reason == error.code
    assert carried.public.startswith(str(error))


def test_every_reason_that_the_node_raises_is_catalogued() -> None:
    raised: dict[str, str] = {}
    for file in Path(errors.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "NodeError":
                reason = call.args[0] if call.args else None
                if isinstance(reason, ast.Constant) and isinstance(reason.value, str):
                    raised[reason.value] = file.name
    assert "CONFIGURATION_INVALID" in raised
    assert {reason: file for reason, file in raised.items() if lookup(reason) is None} == {}


def test_guard_codes_go_by_their_prefix() -> None:
    error = NodeError.from_reason(CarriedError("SELECT * returns rows.", code="GUARD_RAW_ROWS"))
    assert (error.reason, error.status) == ("GUARD_RAW_ROWS", "PERMISSION_DENIED")
    assert error.public.startswith("SELECT * returns rows. ")
    assert lookup("GUARD_") is None
    assert lookup("GUARD_lower") is None


def test_errors_of_lower_floors_are_carried_over() -> None:
    cause = CarriedError("The head is position 4.", reason="CONTRACT_STALE_HEAD")
    error = NodeError.from_reason(cause, metadata={"head": "sha256:00"})
    assert (error.status, error.metadata["head"]) == ("ABORTED", "sha256:00")
    assert error.public.startswith("The head is position 4. Fetch")
    assert error.__cause__ is cause
    assert NodeError.from_reason(error) is error


@pytest.mark.parametrize(
    "error", [KeyError("71"), CarriedError("71", reason="NO_SUCH_REASON"), OSError(28, "71")]
)
def test_what_has_no_catalogued_reason_is_internal(error: Exception) -> None:
    carried = NodeError.from_reason(error)
    assert carried.reason == "INTERNAL"
    assert "71" not in carried.public.replace(str(carried.incident), "")


def test_metadata_keys_must_fit_error_info() -> None:
    with pytest.raises(ValueError, match="metadata key"):
        NodeError("POLICY_DENIED", metadata={"Not allowed": "x"})


def test_the_catalogue_needs_no_grpc() -> None:
    code = "import sys, luoshu.connector.errors; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
