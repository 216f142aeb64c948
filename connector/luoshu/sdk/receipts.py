"""What makes a result trustworthy: the chain from the authority's key to its bytes.

A result counts only if every link holds, in this order:

1. the holder's membership credential verifies against the authority's key that
   the user's profile pins, and names the provider of the contract;
2. the log key in that credential signed the checkpoint;
3. the inclusion proof leads from the entry to that checkpoint's root;
4. the entry is a release, of this request (the digest of what the user signed)
   under this contract, and names the logged decision before it that allowed it;
5. the result's bytes have the digest that the entry commits to.

No link is taken from the node that delivers the result. A saved receipt file
holds all of it but the trust anchor, so that anyone with the space's
`space.json` repeats the check offline, later.

The credential is judged at the time that the entry states: what a member did
while it was one stays provable. Whoever steals a log key can therefore also
write entries of the past; cosigned checkpoints are what closes that.

This module does no I/O but reading and writing receipt files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from luoshu.contracts.canonical import JsonObject, JsonValue, canonicalize, digest, parse_object
from luoshu.contracts.documents import COMPUTATION_REQUEST
from luoshu.contracts.envelope import Envelope, verify
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.log.entry import EntryBody, EntryKind
from luoshu.contracts.log.receipt import Receipt, verify_receipt
from luoshu.contracts.membership import (
    MembershipCredential,
    SpaceTrust,
    UserCredential,
    verify_credential,
    verify_user_credential,
)
from luoshu.contracts.request import ComputationRequest
from luoshu.contracts.times import format_time
from luoshu.sdk.errors import InvalidRequestError, ProfileError, VerificationError

RECEIPT_FILE_SCHEMA = "luoshu/receipt-file/v1"
MAX_RECEIPT_FILE_BYTES = 4 << 20

_KEYS = {
    "schema",
    "receipt",
    "holder_credential",
    "consumer_credential",
    "user_credential",
    "request",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is needed, besides the trust anchor, to verify a result.

    Attributes:
        receipt: The release entry in the holder's log, with its proof.
        holder_credential: Envelope by the authority.
        consumer_credential: Envelope by the authority.
        user_credential: Envelope by the consumer's events key.
        request: Envelope by the user's request key.
    """

    receipt: Receipt
    holder_credential: Envelope
    consumer_credential: Envelope
    user_credential: Envelope
    request: Envelope

    def to_payload(self) -> JsonObject:
        """The content of a receipt file."""
        return {
            "schema": RECEIPT_FILE_SCHEMA,
            "receipt": self.receipt.to_payload(),
            "holder_credential": self.holder_credential.to_json(),
            "consumer_credential": self.consumer_credential.to_json(),
            "user_credential": self.user_credential.to_json(),
            "request": self.request.to_json(),
        }

    @classmethod
    def from_payload(cls, payload: JsonObject) -> Evidence:
        """Reads a receipt file's content; nothing is verified yet.

        Raises:
            VerificationError: Unknown schema, unknown or missing key.
            ContractsError: A part is malformed.
        """
        if payload.get("schema") != RECEIPT_FILE_SCHEMA:
            raise VerificationError(
                f"This is no receipt file of the schema {RECEIPT_FILE_SCHEMA}, the one this "
                "version reads.",
                reason="SCHEMA_UNKNOWN",
                next_step="Check which file this is, or update luoshu.",
            )
        if set(payload) != _KEYS:
            raise VerificationError("The receipt file has other keys than its schema says.")
        receipt = payload["receipt"]
        if not isinstance(receipt, dict):
            raise VerificationError("The receipt file holds no receipt.")
        return cls(
            receipt=Receipt.from_payload(receipt),
            holder_credential=Envelope.from_json(payload["holder_credential"]),
            consumer_credential=Envelope.from_json(payload["consumer_credential"]),
            user_credential=Envelope.from_json(payload["user_credential"]),
            request=Envelope.from_json(payload["request"]),
        )


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt of which every link was checked.

    Attributes:
        evidence: What was checked; `save` keeps it.
        holder: Credential of the participant whose log holds the entry.
        request: What the user asked.
        body: The release entry.
        result_digest: `sha256:…` of the Arrow IPC bytes that were released.
        result_checked: Whether the bytes themselves were compared with it.
    """

    evidence: Evidence
    holder: MembershipCredential
    request: ComputationRequest
    body: EntryBody
    result_digest: str
    result_checked: bool

    @property
    def index(self) -> int:
        """Position of the entry in the holder's log."""
        return self.evidence.receipt.index

    @property
    def origin(self) -> str:
        """The log: the holder's participant id."""
        return self.holder.participant_id

    @property
    def contract_id(self) -> str:
        """The contract under which the result was released."""
        return self.request.contract_id

    @property
    def checkpoint(self) -> str:
        """The signed checkpoint that the proof leads to."""
        return self.evidence.receipt.checkpoint

    def summary(self) -> dict[str, JsonValue]:
        """Plain facts, as the CLI prints them."""
        return {
            "verified": True,
            "log": self.origin,
            "index": self.index,
            "tree_size": self.evidence.receipt.unverified_checkpoint.size,
            "time": format_time(self.body.time),
            "contract_id": self.contract_id,
            "request_id": self.request.id,
            "request_digest": self.evidence.request.digest,
            "user": self.request.user_id,
            "purpose": self.request.purpose,
            "result_digest": self.result_digest,
            "result_checked": self.result_checked,
        }

    def to_bytes(self) -> bytes:
        """The receipt file's bytes: canonical JSON."""
        return canonicalize(self.evidence.to_payload())

    def save(self, path: Path | str) -> None:
        """Writes a receipt file, which `verify_receipt_file` checks offline."""
        Path(path).write_bytes(self.to_bytes())


def verify_evidence(
    evidence: Evidence,
    trust: SpaceTrust,
    *,
    result: bytes | None,
    provider: str | None = None,
    contract_id: str | None = None,
) -> VerifiedReceipt:
    """Checks every link of the chain that this module's docstring lists.

    Args:
        evidence: What came, or was saved.
        trust: The space's trust anchor.
        result: The Arrow IPC bytes; without them only their digest is proved.
        provider: Participant id of the contract's provider, where it is known.
        contract_id: The contract it must be of, where it is known.

    Raises:
        VerificationError: Naming the first link that doesn't hold.
    """
    claimed = evidence.receipt.body
    try:
        holder = verify_credential(evidence.holder_credential, trust, claimed.time)
        consumer = verify_credential(evidence.consumer_credential, trust, claimed.time)
    except ContractsError as error:
        raise VerificationError(f"A party's credential doesn't verify: {error}") from error
    if provider is not None and holder.participant_id != provider:
        raise VerificationError(
            f"The receipt is of {holder.participant_id}, not of the contract's provider {provider}."
        )
    request = _verified_request(evidence, consumer, claimed)
    log_keys = [key for key in holder.keys if key.use is KeyUse.LOG]
    try:
        body = verify_receipt(evidence.receipt, log_keys, holder.participant_id)
    except ContractsError as error:
        raise VerificationError(f"The receipt doesn't verify: {error}") from error
    result_digest = _check_release(evidence.receipt.index, body, evidence.request, request)
    if contract_id is not None and request.contract_id != contract_id:
        raise VerificationError("The receipt is of another contract.")
    if result is not None and digest(result) != result_digest:
        raise VerificationError(
            "The result's bytes are not those that the holder's log records.",
            reason="RESULT_MISMATCH",
        )
    return VerifiedReceipt(
        evidence=evidence,
        holder=holder,
        request=request,
        body=body,
        result_digest=result_digest,
        result_checked=result is not None,
    )


def verify_receipt_file(
    path: Path | str, trust: SpaceTrust | Path | str, *, result: bytes | Path | str | None = None
) -> VerifiedReceipt:
    """Verifies a saved receipt offline.

    Args:
        path: File that `VerifiedReceipt.save` wrote.
        trust: The space's trust anchor, or the file `space.json` that holds it, or
            a profile directory.
        result: The Arrow IPC bytes, or a file of them, to check as well.

    Raises:
        VerificationError: Something doesn't hold, or the file is no receipt file.
        ProfileError: The trust anchor can't be read.
        InvalidRequestError: A file can't be read.
    """
    anchor = trust if isinstance(trust, SpaceTrust) else load_trust(Path(trust))
    content = _read(Path(path))
    if isinstance(result, (str, Path)):
        result = _read(Path(result))
    try:
        evidence = Evidence.from_payload(parse_object(content, max_bytes=MAX_RECEIPT_FILE_BYTES))
    except ContractsError as error:
        raise VerificationError(f"{path} is no receipt file: {error}") from error
    return verify_evidence(evidence, anchor, result=result)


def load_trust(path: Path) -> SpaceTrust:
    """Reads a trust anchor: `space.json`, or a directory that holds it.

    Raises:
        ProfileError: It can't be read.
    """
    file = path / "space.json" if path.is_dir() else path
    try:
        return SpaceTrust.from_bytes(file.read_bytes())
    except OSError as error:
        raise ProfileError(
            f"The trust anchor {file} can't be read: {error.strerror}.",
            next_step="Give the space.json of the space, or a profile directory that holds it.",
        ) from error
    except ContractsError as error:
        raise ProfileError(
            f"{file} is no trust anchor: {error}",
            next_step="Give the space.json of the space, or a profile directory that holds it.",
        ) from error


def _verified_request(
    evidence: Evidence, consumer: MembershipCredential, body: EntryBody
) -> ComputationRequest:
    try:
        user: UserCredential = verify_user_credential(evidence.user_credential, consumer, body.time)
        payload = verify(evidence.request, COMPUTATION_REQUEST.payload_type, [user.request_key])
        request = ComputationRequest.from_payload(payload)
    except ContractsError as error:
        raise VerificationError(f"The request's signature doesn't verify: {error}") from error
    if request.user_id != user.user_id:
        raise VerificationError("The request names another user than the one who signed it.")
    return request


def _check_release(
    index: int, body: EntryBody, envelope: Envelope, request: ComputationRequest
) -> str:
    """The digest of the result, if the entry releases this very request."""
    if body.kind != EntryKind.RELEASE:
        raise VerificationError(f"The receipt proves a {body.kind} entry, not a release.")
    if body.contract_id != request.contract_id:
        raise VerificationError("The receipt is of another contract than the request.")
    if (
        body.data.get("request_id") != request.id
        or body.data.get("request_digest") != envelope.digest
    ):
        raise VerificationError("The receipt is of another request than the one that was signed.")
    decision = body.data.get("decision_index")
    if isinstance(decision, bool) or not isinstance(decision, int) or not 0 <= decision < index:
        raise VerificationError("The release entry names no decision before it.")
    result_digest = body.data.get("result_digest")
    if not isinstance(result_digest, str):
        raise VerificationError("The release entry names no result.")
    return result_digest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(
            f"{path} can't be read: {error.strerror}.", next_step="Check the path."
        ) from error
