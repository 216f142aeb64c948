"""What a log is verified with, and what comes out: keys and the report."""

from __future__ import annotations

from dataclasses import dataclass, field

from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.documents import MEMBERSHIP_CREDENTIAL
from luoshu.contracts.envelope import Envelope, verify
from luoshu.contracts.keys import KeyUse, PublicKey
from luoshu.contracts.log.note import NoteVerifier
from luoshu.contracts.membership.credential import MembershipCredential
from luoshu.contracts.membership.space import SpaceTrust

MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys that a log's checkpoints are signed with.

    Attributes:
        origin: The log.
        keys: Its log keys, past ones included.
        source: Where they came from, for people.
    """

    origin: str
    keys: tuple[PublicKey, ...]
    source: str

    @classmethod
    def of_verifier_key(cls, vkey: str) -> LogKeys:
        """Reads a verifier key ``name+hash+base64`` (C2SP signed-note).

        Raises:
            LogFormatError: It is none.
        """
        verifier = NoteVerifier.parse(vkey)
        return cls(verifier.name, (verifier.key,), "the verifier key that was given")

    @classmethod
    def of_credential(cls, trust: SpaceTrust, credential: Envelope, source: str) -> LogKeys:
        """Takes the log keys from a membership credential.

        Its validity in time doesn't matter: an expired member's log stays verifiable.

        Raises:
            ContractsError: It isn't signed by the space's authority, or ill-formed.
        """
        payload = verify(credential, MEMBERSHIP_CREDENTIAL.payload_type, [trust.authority])
        member = MembershipCredential.from_payload(payload)
        return cls(member.participant_id, member.keys_for(KeyUse.LOG), source)


@dataclass(frozen=True, slots=True)
class LogProblem:
    """Something that doesn't verify.

    Attributes:
        file: The file, under the log's prefix.
        message: What is wrong.
        index: The entry concerned, if it is about one.
        offset: Byte offset in the file, if known.
    """

    file: str
    message: str
    index: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        place = [self.file]
        if self.index is not None:
            place.append(f"entry {self.index}")
        if self.offset is not None:
            place.append(f"byte {self.offset}")
        return f"{', '.join(place)}: {self.message}"


@dataclass(slots=True)
class LogReport:
    """What was checked, and what doesn't hold.

    Attributes:
        location: Where the log was read.
        origin: The log, as its checkpoint says; None if there is no readable one.
        size: Entries that the checkpoint covers.
        root: Its root, in hex; None if there is no readable checkpoint.
        key_source: Where the keys came from; None if there were none.
        checks: What was checked, each with a count: signatures, bundles, tiles, entries, bodies.
        notes: What is worth knowing but no fault.
        problems: What doesn't verify; at most 20, the first ones.
    """

    location: str
    origin: str | None = None
    size: int = 0
    root: str | None = None
    key_source: str | None = None
    checks: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[LogProblem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.problems and self.checks.get("signatures", 0) > 0

    def add(self, problem: LogProblem) -> None:
        """Adds a problem, unless there are many already."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def count(self, what: str, number: int = 1) -> None:
        """Counts something that was checked."""
        self.checks[what] = self.checks.get(what, 0) + number

    def to_payload(self) -> JsonObject:
        """Returns the report as JSON."""
        return {
            "ok": self.ok,
            "location": self.location,
            "origin": self.origin,
            "size": self.size,
            "root": self.root,
            "key_source": self.key_source,
            "checks": dict(self.checks),
            "notes": list(self.notes),
            "problems": [
                {"file": p.file, "message": p.message, "index": p.index, "offset": p.offset}
                for p in self.problems
            ],
        }
