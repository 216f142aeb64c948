"""How a request ended, as a caller may know it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from luoshu.connector.errors import NodeError


class Phase(IntEnum):
    """Where a computation is. Names phases only: nothing of the data shows."""

    ACCEPTED = 1
    CHECKING = 2
    COMPUTING = 3
    RELEASING = 4
    ENDED = 5


class ComputationState(StrEnum):
    """What the log knows of a request."""

    DECIDED = "decided"
    DENIED = "denied"
    RELEASED = "released"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was refused: for the caller, for the log, and for a retry."""

    reason: str
    message: str
    rule: str | None = None

    def error(self, decision_index: int) -> NodeError:
        """The error that the caller gets, naming the decision."""
        metadata = {"decision": str(decision_index)}
        if self.rule is not None:
            metadata["rule"] = self.rule
        return NodeError(self.reason, self.message, metadata=metadata)


def failure_error(reason: str, decision_index: int) -> NodeError:
    """What a caller is told of a failed computation: one text, whatever it was."""
    told = "CANCELLED" if reason == "CANCELLED" else "QUERY_FAILED"
    return NodeError(told, metadata={"decision": str(decision_index)})
