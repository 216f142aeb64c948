"""Every error the SDK raises, as one hierarchy.

A node answers a refused call with a gRPC status and a `google.rpc.ErrorInfo`;
`luoshu.sdk.rpc` turns both into one of these. What the SDK finds out by itself
(a receipt that doesn't verify, a profile that isn't there) uses the same
classes, so that one `except LuoshuError` is enough.

Each error has a machine-readable `reason`, a `message` that says what
happened, and `next_step`, which says what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping

NEXT_STEPS: Mapping[str, str] = {
    "CREDENTIAL_MISSING": "Give the directory that `luoshu user add` made, by --profile or "
    "LUOSHU_PROFILE.",
    "CREDENTIAL_EXPIRED": "Ask your node's administrator for a new profile (`luoshu user add`).",
    "CREDENTIAL_INVALID": "Ask your node's administrator for a new profile (`luoshu user add`).",
    "WRONG_SPACE": "Use a profile of the space that this node belongs to.",
    "MALFORMED_MESSAGE": "Correct the value that is named.",
    "CONTRACT_NOT_ACTIVE": "See why with `luoshu contract show`; a revoked, expired or ended "
    "contract needs a new one, a suspended one waits for its holder.",
    "NODE_UNREACHABLE": "Check that your node is running (`luoshu node serve`), or ask its "
    "administrator to run `luoshu doctor` there.",
    "NOT_SERVED": "Update luoshu on both sides to the same version.",
    "DEADLINE_EXCEEDED": "Try again, or allow more time.",
    "RECEIPT_INVALID": "Don't use the result. Keep what you have and tell the operator.",
    "RESULT_MISMATCH": "Don't use the result. Submit the query again; if it happens again, tell "
    "the holder and the operator.",
    "RESULT_TRUNCATED": "Ask for the result again; a repeated request is not debited twice.",
    "ENTRY_INVALID": "Don't rely on this entry; tell the operator, whose catalog delivered it.",
    "CONTRACT_INVALID": "Don't rely on this contract; tell your node's administrator.",
    "MISSING_DEPENDENCY": "Install it: pip install 'luoshu[pandas]'",
}
"""What a user does next, for the reasons that the SDK finds by itself.

A node's own message says it already.
"""


class LuoshuError(Exception):
    """Base of everything the SDK raises on purpose.

    Attributes:
        reason: Machine-readable, from the error catalogue, e.g. `POLICY_DENIED`.
        message: What happened, in one sentence or two.
        next_step: What to do about it; empty where the message says it.
        metadata: Further facts from the node, e.g. `decision`, `rule`, `incident`.
    """

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        next_step: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.reason = reason or self.default_reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.next_step = NEXT_STEPS.get(self.reason, "") if next_step is None else next_step
        super().__init__(f"{message} {self.next_step}".strip())

    @property
    def decision(self) -> str | None:
        """Id of the logged decision behind a denial, if there is one."""
        return self.metadata.get("decision")

    @property
    def rule(self) -> str | None:
        """The rule that denied, if a policy did."""
        return self.metadata.get("rule")


class ProfileError(LuoshuError):
    """The profile is missing, incomplete, or not usable any more."""

    default_reason = "CREDENTIAL_INVALID"


class InvalidRequestError(LuoshuError):
    """What was asked is malformed: a bad value, SQL that doesn't parse or bind."""

    default_reason = "MALFORMED_MESSAGE"


class NotFoundError(LuoshuError):
    """No such thing, or not yours to see."""

    default_reason = "NOT_FOUND"


class DeniedError(LuoshuError):
    """Somebody entitled to say no said no."""

    default_reason = "POLICY_DENIED"


class CredentialError(DeniedError):
    """Who asks was not accepted: no credential, expired, revoked, of another space."""

    default_reason = "CREDENTIAL_INVALID"


class PolicyDeniedError(DeniedError):
    """The contract's terms don't allow this use; see `decision` and `rule`."""


class GuardRefusedError(DeniedError):
    """The query could reveal more than its product releases."""

    default_reason = "GUARD_REFUSED"


class ExhaustedError(DeniedError):
    """Uses, budget or quota are used up."""

    default_reason = "USES_EXHAUSTED"


class ContractStateError(DeniedError):
    """The contract's state doesn't allow this."""

    default_reason = "CONTRACT_NOT_ACTIVE"


class StaleError(LuoshuError):
    """The contract moved on meanwhile; read it and decide again."""

    default_reason = "CONTRACT_STALE_HEAD"


class FailedError(LuoshuError):
    """The node tried and failed; details stay where the data is."""

    default_reason = "INTERNAL"


class UnavailableError(FailedError):
    """Something needed isn't reachable or doesn't work; nothing was released."""

    default_reason = "NODE_UNREACHABLE"


class DeadlineError(UnavailableError):
    """It took longer than allowed."""

    default_reason = "DEADLINE_EXCEEDED"


class VerificationError(FailedError):
    """A signature, proof or digest doesn't hold: what came can't be trusted."""

    default_reason = "RECEIPT_INVALID"


class ComputationCancelledError(FailedError):
    """The computation was cancelled before it had released a result."""

    default_reason = "CANCELLED"


class MissingDependencyError(LuoshuError):
    """An optional package is not installed."""

    default_reason = "MISSING_DEPENDENCY"
