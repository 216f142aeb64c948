"""The policy engine port: one input in, one decision out, the same for ever.

Adapters implement `PolicyEngine`. They fail closed: whatever isn't a well-formed decision
raises `PolicyUnavailableError`, and a caller that catches it releases nothing.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from luoshu.contracts.canonical import JsonObject, digest_of
from luoshu.contracts.errors import CanonicalError


class PoliciesError(Exception):
    """Base of this package's errors; ``str(error)`` is a public text.

    Attributes:
        reason: The catalogued reason (``luoshu.connector.errors``).
        private: Detail for the operational log; holds no protected value.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, public: str, *, private: str = "") -> None:
        """Builds the error from its public text and a private detail."""
        super().__init__(public)
        self.public = public
        self.private = private


class PolicyUnavailableError(PoliciesError):
    """The engine gave no well-formed decision: nothing may be computed or released."""

    reason: ClassVar[str] = "POLICY_UNAVAILABLE"


class PolicyMismatchError(PoliciesError):
    """A record was decided by another policy than the one this engine holds."""

    reason: ClassVar[str] = "POLICY_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a use is denied.

    Attributes:
        rule: purpose, validity, count, region, action, agreement_state, prohibition, or terms
            (a constraint that can't be decided).
        message: One public sentence; constant per rule, it holds nothing of the input.
    """

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy said of one input.

    Attributes:
        allow: Whether the use is allowed.
        reasons: Why not; empty exactly when ``allow``, otherwise ordered by rule.
        policy_digest: ``sha256:…`` of the policy that decided.
        input_digest: ``sha256:…`` of the canonical input.
    """

    allow: bool
    reasons: tuple[Reason, ...]
    policy_digest: str
    input_digest: str


class PolicyEngine(Protocol):
    """Decides uses by one fixed policy. Implementations are safe to share by threads."""

    @property
    def policy_digest(self) -> str:
        """``sha256:…`` of the policy."""
        ...

    def decide(self, decision_input: JsonObject) -> Decision:
        """Decides on ``decision_input``, which isn't changed.

        Raises:
            PolicyUnavailableError: If there is no well-formed decision, whatever the cause.
        """
        ...


def decision_record(decision: Decision, decision_input: JsonObject) -> JsonObject:
    """Returns what the usage log keeps of a decision: everything to replay it."""
    return {
        "allow": decision.allow,
        "reasons": [{"rule": r.rule, "message": r.message} for r in decision.reasons],
        "input": decision_input,
        "input_digest": decision.input_digest,
        "policy_digest": decision.policy_digest,
    }


def replay(engine: PolicyEngine, record: JsonObject) -> bool:
    """Decides a logged record again and compares.

    Args:
        engine: Holds the policy that the record names.
        record: As `decision_record` made it; further keys are ignored.

    Returns:
        True when the input has the digest the record gives and the decision, reasons
        included, is the recorded one. A record that lacks a part is not a true one.

    Raises:
        PolicyMismatchError: If the record was decided by another policy.
        PolicyUnavailableError: If the engine gives no decision.
    """
    decision_input = record.get("input")
    if not isinstance(decision_input, dict):
        return False
    if record.get("policy_digest") != engine.policy_digest:
        raise PolicyMismatchError(
            "The record was decided by another policy. Replay it with the luoshu version "
            "that holds that policy.",
            private=f"this engine holds {engine.policy_digest}",
        )
    try:
        if digest_of(decision_input) != record.get("input_digest"):
            return False
    except CanonicalError:
        return False
    again = decision_record(engine.decide(decision_input), decision_input)
    return all(record.get(key) == again[key] for key in ("allow", "reasons")) and isinstance(
        record.get("allow"), bool
    )
