"""The members that this node knows, and whether they may be trusted now.

Held in memory, so that the gate asks without waiting; what is in it was committed to the
log before. Every known serial of a credential is kept: at a moment, the newest one that
had begun by then counts, and if that one has expired, none does. An older serial never
comes back into force.

Thread-safe for readers: contents are replaced, never changed in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from luoshu.connector.errors import NodeError
from luoshu.contracts.documents import MEMBERSHIP_CREDENTIAL
from luoshu.contracts.envelope import Envelope, verify
from luoshu.contracts.keys import KeyUse, PublicKey
from luoshu.contracts.membership import MembershipCredential, SpaceTrust, StatusList


@dataclass(frozen=True, slots=True)
class KnownCredential:
    """A verified credential and the envelope that it came in."""

    credential: MembershipCredential
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class KnownStatus:
    """A verified status list and the envelope that it came in."""

    status: StatusList
    envelope: Envelope

    @property
    def valid_until(self) -> datetime:
        """When it stops being relied on."""
        return self.status.issued_at + timedelta(seconds=self.status.max_age)


def open_credential(envelope: Envelope, trust: SpaceTrust) -> MembershipCredential:
    """Checks who signed a credential and its form, not its validity: for past ones.

    Raises:
        EnvelopeError: Not signed by the space's authority.
        DocumentError: Ill-formed.
    """
    return MembershipCredential.from_payload(
        verify(envelope, MEMBERSHIP_CREDENTIAL.payload_type, [trust.authority])
    )


class MemberDirectory:
    """Implements `luoshu.contracts.contract.KeyDirectory` and what the peer clients ask."""

    def __init__(self, trust: SpaceTrust, own: KnownCredential) -> None:
        """Starts with this node itself.

        Args:
            trust: The pinned trust anchor.
            own: This node's own credential, as installed.
        """
        self._trust = trust
        self._own = own
        self._members: Mapping[str, tuple[KnownCredential, ...]] = MappingProxyType({})
        self._status: KnownStatus | None = None
        self._revoked_since: Mapping[str, datetime] = MappingProxyType({})
        self.admit(own)

    @property
    def trust(self) -> SpaceTrust:
        """The pinned trust anchor."""
        return self._trust

    @property
    def own(self) -> KnownCredential:
        """This node's own credential."""
        return self._own

    @property
    def status(self) -> KnownStatus | None:
        """The newest status list accepted; it may be stale."""
        return self._status

    def admit(self, known: KnownCredential) -> None:
        """Adds a verified credential."""
        participant = known.credential.participant_id
        held = {k.credential.serial: k for k in self._members.get(participant, ())}
        held[known.credential.serial] = known
        newest_first = tuple(held[serial] for serial in sorted(held, reverse=True))
        self._members = MappingProxyType({**self._members, participant: newest_first})

    def accept_status(self, known: KnownStatus) -> None:
        """Replaces the status list by a verified one."""
        self._revoked_since = MappingProxyType(
            {item.participant_id: item.since for item in known.status.revoked}
        )
        self._status = known

    def holds(self, credential: MembershipCredential) -> bool:
        """Whether this serial of the member's credential is known."""
        return any(
            known.credential == credential
            for known in self._members.get(credential.participant_id, ())
        )

    def newest_serial(self, participant_id: str) -> int:
        """The highest serial known of a member; 0 for an unknown one."""
        known = self._members.get(participant_id, ())
        return known[0].credential.serial if known else 0

    def credential_at(self, participant_id: str, at: datetime) -> KnownCredential | None:
        """The credential that counts at a moment, revocation aside."""
        for known in self._members.get(participant_id, ()):
            if known.credential.not_before <= at:
                return known if known.credential.is_valid_at(at) else None
        return None

    def require_member(self, participant_id: str, now: datetime) -> MembershipCredential:
        """Returns the credential of a member that may be trusted now.

        Raises:
            NodeError: STATUS_LIST_STALE, CREDENTIAL_REVOKED, CREDENTIAL_MISSING (not
                known here: it must introduce itself), CREDENTIAL_EXPIRED.
        """
        return self.require_known(participant_id, now).credential

    def require_known(self, participant_id: str, now: datetime) -> KnownCredential:
        """Like `require_member`, with the envelope.

        Raises:
            NodeError: See `require_member`.
        """
        status = self._status
        if status is None or not status.status.is_fresh_at(now):
            raise NodeError("STATUS_LIST_STALE")
        self.refuse_revoked(participant_id, now)
        known = self._members.get(participant_id, ())
        if not known:
            raise NodeError(
                "CREDENTIAL_MISSING", f"{participant_id} has not introduced itself to this node."
            )
        valid = self.credential_at(participant_id, now)
        if valid is None:
            raise NodeError(
                "CREDENTIAL_EXPIRED",
                f"The membership credential of {participant_id} is not valid now.",
            )
        return valid

    def refuse_revoked(self, participant_id: str, now: datetime) -> None:
        """Refuses a member that the newest list revokes, however old that list is.

        Raises:
            NodeError: CREDENTIAL_REVOKED.
        """
        if self._is_revoked(participant_id, now):
            raise NodeError("CREDENTIAL_REVOKED", f"{participant_id} was revoked.")

    def members(self, now: datetime) -> tuple[KnownCredential, ...]:
        """All members that may be trusted now, by id.

        Raises:
            NodeError: STATUS_LIST_STALE.
        """
        found = []
        for participant in sorted(self._members):
            try:
                found.append(self.require_known(participant, now))
            except NodeError as error:
                if error.reason == "STATUS_LIST_STALE":
                    raise
        return tuple(found)

    def event_keys(self, participant_id: str, at: datetime) -> tuple[PublicKey, ...]:
        """Keys with which a member signs events at a moment; none if it was no member then."""
        return self._keys(participant_id, KeyUse.EVENTS, at)

    def log_keys(self, participant_id: str, at: datetime) -> tuple[PublicKey, ...]:
        """Keys with which a member signs checkpoints at a moment."""
        return self._keys(participant_id, KeyUse.LOG, at)

    def _is_revoked(self, participant_id: str, at: datetime) -> bool:
        since = self._revoked_since.get(participant_id)
        return since is not None and since <= at

    def _keys(self, participant_id: str, use: KeyUse, at: datetime) -> tuple[PublicKey, ...]:
        if self._is_revoked(participant_id, at):
            return ()
        known = self.credential_at(participant_id, at)
        return () if known is None else known.credential.keys_for(use)

    def endpoint(self, participant_id: str) -> str:
        """``host:port`` of a member's peer port.

        Raises:
            NodeError: NOT_FOUND for an unknown member, PEER_UNREACHABLE for one that
                only dials out.
        """
        if participant_id == self._trust.operator_id:
            return self._trust.operator_endpoint
        known = self._members.get(participant_id, ())
        if not known:
            raise NodeError("NOT_FOUND")
        endpoint = known[0].credential.endpoints.peer
        if endpoint is None:
            raise NodeError(
                "PEER_UNREACHABLE", f"{participant_id} only dials out; it can't be called."
            )
        return endpoint

    def own_credential(self) -> bytes:
        """This node's own credential envelope."""
        return self._own.envelope.to_bytes()
