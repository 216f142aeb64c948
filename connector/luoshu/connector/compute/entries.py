"""What computations write into the usage log, one shape a kind.

| kind | written by | when |
|---|---|---|
| decision | holder | before the computation starts, or when it is refused |
| history | holder | with the release entry; for the holder's eyes |
| release | holder | before the first result byte leaves |
| failure | holder | when a decided computation ends without a result |
| request | analyst's node | before a request is taken to its holder |
| receipt | analyst's node | when result and receipt have been checked |

The person appears as a pseudonym that only this node can link: an HMAC of the
user's id under a key of the node. Where the parties need the person's own
signature, it is in the contract's use event.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from luoshu.connector.compute.history import ScopedHistory
from luoshu.connector.compute.outcome import Refusal
from luoshu.contracts.canonical import JsonObject, parse_object
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.request import ComputationRequest
from luoshu.policies import Decision, decision_record

DECISION = "decision"
HISTORY = "history"
RELEASE = "release"
FAILURE = "failure"
REQUEST = "request"
RECEIPT = "receipt"


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Turns user ids into pseudonyms that are stable on this node."""

    key: bytes

    def of(self, user_id: str) -> str:
        """HMAC-SHA256 of the user's id, in hex."""
        return hmac.new(self.key, user_id.encode(), sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose request an entry is about."""

    request_id: str
    request_digest: str
    consumer: str
    person: str

    def to_json(self) -> JsonObject:
        """The keys that every decision entry has."""
        return {
            "request_id": self.request_id,
            "request_digest": self.request_digest,
            "consumer": self.consumer,
            "person": self.person,
        }


def allowed(
    subject: Subject,
    decision: Decision,
    decision_input: JsonObject,
    measurement: str,
    privacy: JsonObject | None = None,
) -> JsonObject:
    """Data of a decision entry that lets the computation start.

    Args:
        subject: Whose request.
        decision: Policy's.
        decision_input: What policy decided on.
        measurement: Digest of everything a worker can see.
        privacy: What is debited of a privacy budget; the entry is the debit.
    """
    data: JsonObject = {
        **subject.to_json(),
        "allow": True,
        "measurement": measurement,
        "policy": decision_record(decision, decision_input),
    }
    if privacy is not None:
        data["privacy"] = privacy
    return data


def refused(
    subject: Subject,
    refusal: Refusal,
    decision: Decision | None = None,
    decision_input: JsonObject | None = None,
) -> JsonObject:
    """Data of a decision entry that refuses, by policy or by the query guard."""
    data: JsonObject = {
        **subject.to_json(),
        "allow": False,
        "reason": refusal.reason,
        "message": refusal.message,
    }
    if refusal.rule is not None:
        data["rule"] = refusal.rule
    if decision is not None and decision_input is not None:
        data["policy"] = decision_record(decision, decision_input)
    return data


def compared(
    request_id: str,
    decision_index: int,
    history: ScopedHistory,
    conflicts: int,
) -> JsonObject:
    """Data of a history entry: what joined the release history, and how a result fared against it.

    There is one for each result that was compared, whatever came of it: neither how many
    entries a log has nor when it grows tells how the comparison went.

    Args:
        request_id: The request.
        decision_index: Of its decision.
        history: What it was compared with, after the comparison.
        conflicts: Cells withheld against the history; those within the result aside.
    """
    audience, kept = history.audience, history.kept
    return {
        "request_id": request_id,
        "decision_index": decision_index,
        "domain": audience.domain,
        "scope": audience.scope.value,
        "file": None if kept is None else {"name": kept.name, "digest": kept.digest},
        # Of computations that ended after their file was durable and before their entry was.
        "found": [{"name": each.name, "digest": each.digest} for each in history.unjournaled],
        "conflicts": conflicts,
    }


def released(
    request_id: str,
    request_digest: str,
    decision_index: int,
    *,
    result_digest: str,
    rows: int,
    columns: Sequence[tuple[str, str]],
) -> JsonObject:
    """Data of a release entry. It holds nothing of what was withheld."""
    return {
        "request_id": request_id,
        "request_digest": request_digest,
        "decision_index": decision_index,
        "result_digest": result_digest,
        "rows": rows,
        "columns": [{"name": name, "type": kind} for name, kind in columns],
    }


def failed(request_id: str, request_digest: str, decision_index: int, reason: str) -> JsonObject:
    """Data of a failure entry: the reason's name and nothing of its detail."""
    return {
        "request_id": request_id,
        "request_digest": request_digest,
        "decision_index": decision_index,
        "reason": reason,
    }


def requested(request: ComputationRequest, envelope: Envelope, provider: str) -> JsonObject:
    """Data of a request entry, at the analyst's node."""
    return {
        "request_id": request.id,
        "request_digest": envelope.digest,
        "provider": provider,
        "user_id": request.user_id,
        "request": envelope.to_json(),
    }


def received(request_id: str, receipt: bytes) -> JsonObject:
    """Data of a receipt entry, at the analyst's node: the holder's receipt itself."""
    return {"request_id": request_id, "receipt": parse_object(receipt)}
