"""Membership as a running node lives it: introductions, credentials, the status list.

What is learnt is verified, committed to the log, and only then believed. One lock makes
learning sequential, so that two calls with the same news write one entry.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

import sqlalchemy as sa

from luoshu.connector.background import repeat
from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger
from luoshu.connector.membership.directory import (
    KnownCredential,
    KnownStatus,
    MemberDirectory,
    open_credential,
)
from luoshu.connector.membership.projection import (
    credential_entry,
    read_credentials,
    read_status,
    status_entry,
)
from luoshu.connector.membership.status import (
    StatusFeed,
    StatusFile,
    StatusSigner,
    check_status_list,
)
from luoshu.connector.observability import get_logger
from luoshu.connector.peer_port import Introduction, Peers
from luoshu.contracts import ids
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import PublicKey
from luoshu.contracts.log.entry import EntryKind
from luoshu.contracts.membership import (
    MembershipCredential,
    Revocation,
    RevocationReason,
    StatusList,
    verify_credential,
)
from luoshu.contracts.times import to_milliseconds


class MembershipService:
    """The logic behind the membership RPCs, and what keeps the status list fresh."""

    def __init__(
        self,
        *,
        directory: MemberDirectory,
        ledger: Ledger,
        clock: Clock,
        peers: Peers,
        status_file: StatusFile,
        signer: StatusSigner | None = None,
    ) -> None:
        """Builds the service; call `start` before anything else.

        Args:
            directory: What this service fills.
            ledger: The commit point.
            clock: Decision time.
            peers: Calls on the operator and on members.
            status_file: Where the newest list is kept.
            signer: On the operator's node, what signs the list; None elsewhere.
        """
        self._directory = directory
        self._ledger = ledger
        self._clock = clock
        self._peers = peers
        self._status_file = status_file
        self._signer = signer
        self._feed = StatusFeed()
        self._learning = asyncio.Lock()

    # Starting and running

    async def start(self, operator: Envelope | None = None) -> None:
        """Loads what is on record, records this node itself, and finds a status list.

        Args:
            operator: The operator's credential from the enrolment, if it was there.

        Raises:
            NodeError: LOG_CORRUPT, if a credential on record isn't the authority's.
        """
        trust = self._directory.trust
        for envelope in await self._ledger.read(read_credentials):
            try:
                known = KnownCredential(open_credential(envelope, trust), envelope)
            except ContractsError as error:
                raise NodeError(
                    "LOG_CORRUPT", "A membership credential on record doesn't verify."
                ) from error
            self._directory.admit(known)
        recorded = await self._ledger.read(_recorded_serials)
        own = self._directory.own
        if (own.credential.participant_id, own.credential.serial) not in recorded:
            await self._record(own.envelope, own.credential)
        if operator is not None:
            # It may have expired since; the operator's introduction brings the next one.
            with suppress(ContractsError, NodeError):
                await self.learn(operator.to_bytes())
        await self._load_status()
        if self._signer is not None:
            await self.refresh()

    async def run(self) -> None:
        """Keeps the status list fresh until it is cancelled: signs it, or follows it."""
        if self._signer is not None:
            pause = self._signer.refresh_after.total_seconds()
            await repeat("status_list_not_signed", self.refresh, pause=pause)
        await repeat("status_list_not_followed", self._follow_status_list)

    async def _follow_status_list(self) -> None:
        operator = self._directory.trust.operator_id
        async with aclosing(self._peers.watch_status_list(operator)) as lists:
            async for envelope in lists:
                await self.accept_status_list(envelope)

    # Credentials

    async def introduce(self, caller: str, spki: bytes, credential: bytes) -> Introduction:
        """Learns the caller's credential and answers with this node's own.

        Args:
            caller: Participant id in the caller's TLS certificate.
            spki: SubjectPublicKeyInfo (DER) of the certificate's key.
            credential: What the caller presents.

        Raises:
            NodeError: CREDENTIAL_INVALID, CREDENTIAL_EXPIRED, CREDENTIAL_REVOKED,
                WRONG_SPACE, MALFORMED_MESSAGE.
        """
        claimed = self._verified(credential).credential
        if claimed.participant_id != caller:
            raise NodeError(
                "CREDENTIAL_INVALID",
                "The credential is another participant's than the certificate of the connection.",
            )
        if PublicKey.tls(spki) not in claimed.keys:
            raise NodeError(
                "CREDENTIAL_INVALID", "The credential doesn't list the TLS key of the connection."
            )
        await self.learn(credential)
        self._refuse_superseded(claimed)
        held = self._directory.status
        return Introduction(
            credential=self._directory.own_credential(),
            status_list=b"" if held is None else held.envelope.to_bytes(),
        )

    async def learn(self, credential: bytes) -> MembershipCredential:
        """Verifies a credential and, if it is news, records it.

        Raises:
            NodeError: See `introduce`; CREDENTIAL_INVALID also if a newer one is known.
        """
        known = self._verified(credential)
        found = known.credential
        self._directory.refuse_revoked(found.participant_id, self._clock.now())
        async with self._learning:
            if self._directory.holds(found):
                return found
            newest = self._directory.newest_serial(found.participant_id)
            if found.serial <= newest:
                raise NodeError(
                    "CREDENTIAL_INVALID",
                    f"A credential of {found.participant_id} with serial {newest} is known; this "
                    f"one has {found.serial}.",
                )
            await self._record(known.envelope, found)
            self._directory.admit(known)
        return found

    async def on_introduced(self, peer: str, introduction: Introduction) -> None:
        """Learns what a peer answered to this node's introduction.

        Raises:
            NodeError: The peer's credential doesn't verify, or is another's.
        """
        credential = await self.learn(introduction.credential)
        if credential.participant_id != peer:
            raise NodeError("CREDENTIAL_INVALID", f"{peer} answered with another's credential.")
        if introduction.status_list and self._signer is None:
            # A member may hold an older list than this node: no reason to distrust it.
            with suppress(NodeError):
                await self.accept_status_list(introduction.status_list)

    async def require_member(self, participant_id: str) -> MembershipCredential:
        """Returns a member that may be trusted now; asks the operator for an unknown one.

        Raises:
            NodeError: NOT_FOUND, if the operator doesn't know it either; see
                `MemberDirectory.require_member`.
        """
        try:
            return self._directory.require_member(participant_id, self._clock.now())
        except NodeError as error:
            if error.reason not in {"CREDENTIAL_MISSING", "CREDENTIAL_EXPIRED"}:
                raise
            if self._signer is not None:
                raise NodeError("NOT_FOUND") from error
        operator = self._directory.trust.operator_id
        credential = await self.learn(await self._peers.get_member(operator, participant_id))
        if credential.participant_id != participant_id:
            raise NodeError(
                "CREDENTIAL_INVALID", "The operator answered with another's credential."
            )
        return self._directory.require_member(participant_id, self._clock.now())

    def get_member(self, participant_id: str) -> bytes:
        """A member's credential envelope, for another node.

        Raises:
            NodeError: NOT_FOUND, if it is unknown, revoked or expired; STATUS_LIST_STALE.
        """
        try:
            known = self._directory.require_known(participant_id, self._clock.now())
        except NodeError as error:
            if error.reason == "STATUS_LIST_STALE":
                raise
            raise NodeError("NOT_FOUND") from error
        return known.envelope.to_bytes()

    def list_members(self) -> tuple[bytes, ...]:
        """Credential envelopes of all members that this node trusts now.

        Raises:
            NodeError: STATUS_LIST_STALE.
        """
        return tuple(k.envelope.to_bytes() for k in self._directory.members(self._clock.now()))

    async def space_members(self) -> tuple[bytes, ...]:
        """The space's members as the operator lists them, each verified.

        Raises:
            NodeError: The operator can't be reached, or lists what doesn't verify.
        """
        if self._signer is not None:
            return self.list_members()
        operator = self._directory.trust.operator_id
        envelopes = await self._peers.list_members(operator)
        for envelope in envelopes:
            self._verified(envelope)
        return envelopes

    # The status list

    async def accept_status_list(self, data: bytes) -> None:
        """Verifies a list from another node and, if it is newer, goes by it from now on.

        Raises:
            NodeError: CREDENTIAL_INVALID, WRONG_SPACE, STATUS_LIST_STALE (also for a
                roll-back), CREDENTIAL_MISSING if the operator isn't known yet.
        """
        async with self._learning:
            await self._accept(_envelope(data), by=None)

    async def watch_status_list(self) -> AsyncGenerator[bytes, None]:
        """Yields the newest list's envelope, then each newer one."""
        async with aclosing(self._feed.watch()) as lists:
            async for known in lists:
                yield known.envelope.to_bytes()

    async def refresh(self) -> None:
        """Operator: signs the list again, or for the first time.

        Raises:
            NodeError: ROLE_REQUIRED elsewhere; LOG_UNAVAILABLE.
        """
        signer = self._require_signer()
        async with self._learning:
            held, now = self._directory.status, self._clock.now()
            fresh = signer.sign(1, (), now) if held is None else signer.renewed(held, now)
            await self._accept(fresh.envelope, by=None)

    async def revoke(self, participant_id: str, reason: str, by: str) -> int:
        """Operator: revokes a member for good and pushes the new list.

        Args:
            participant_id: Any id of this space, also one that this node hasn't met.
            reason: A `RevocationReason`.
            by: User id of who decided it.

        Returns:
            The version of the list that says so.

        Raises:
            NodeError: MALFORMED_MESSAGE; ROLE_REQUIRED; LOG_UNAVAILABLE.
        """
        signer = self._require_signer()
        trust = self._directory.trust
        try:
            why = RevocationReason(reason)
            space = ids.parse_participant_id(participant_id).space
        except (ValueError, ContractsError) as error:
            raise NodeError(
                "MALFORMED_MESSAGE",
                "A revocation names a participant id and one of the reasons "
                f"{', '.join(RevocationReason)}.",
            ) from error
        if space != trust.space or participant_id == trust.operator_id:
            raise NodeError(
                "MALFORMED_MESSAGE", "Only members of this space, not its operator, are revoked."
            )
        async with self._learning:
            held, now = self._directory.status, self._clock.now()
            if held is None:
                raise NodeError("STATUS_LIST_STALE")
            if held.status.revocation_of(participant_id) is None:
                revocation = Revocation(participant_id, to_milliseconds(now), why)
                held = signer.revoking(held, revocation, now)
                await self._accept(held.envelope, by=by)
            return held.status.version

    # Inside

    def _require_signer(self) -> StatusSigner:
        if self._signer is None:
            raise NodeError("ROLE_REQUIRED", "Only the operator's node keeps the status list.")
        return self._signer

    def _verified(self, data: bytes) -> KnownCredential:
        envelope = _envelope(data)
        try:
            credential = verify_credential(envelope, self._directory.trust, self._clock.now())
        except ContractsError as error:
            raise NodeError.from_reason(error) from error
        return KnownCredential(credential, envelope)

    def _refuse_superseded(self, claimed: MembershipCredential) -> None:
        valid = self._directory.credential_at(claimed.participant_id, self._clock.now())
        if valid is not None and valid.credential.serial > claimed.serial:
            raise NodeError(
                "CREDENTIAL_INVALID",
                f"A newer credential of {claimed.participant_id} is in force: serial "
                f"{valid.credential.serial}, not {claimed.serial}.",
            )

    async def _record(self, envelope: Envelope, credential: MembershipCredential) -> None:
        data = credential_entry(envelope)
        parties = (credential.participant_id,)
        await self._ledger.commit(
            lambda transaction: transaction.record(EntryKind.MEMBERSHIP, data, parties=parties)
        )

    async def _load_status(self) -> None:
        recorded = await self._ledger.read(read_status)
        if recorded is not None:
            # It was verified before it was logged, and may be older than the keys of the
            # operator's present credential. Its version is the floor; its age decides
            # whether it is believed.
            status = StatusList.from_payload(unverified_payload(recorded))
            self._hold(KnownStatus(status, recorded))
        kept = self._status_file.read()
        if kept is not None:
            with suppress(NodeError):
                async with self._learning:
                    await self._accept(kept, by=None)

    async def _accept(self, envelope: Envelope, by: str | None) -> None:
        now, held = self._clock.now(), self._directory.status
        operator = self._directory.credential_at(self._directory.trust.operator_id, now)
        if operator is None:
            raise NodeError(
                "CREDENTIAL_MISSING", "The operator's credential isn't known here, or has expired."
            )
        known = check_status_list(envelope, operator.credential, now, held)
        if held is not None and known.envelope == held.envelope:
            return
        if held is None or known.status.version > held.status.version:
            data = status_entry(envelope, by)
            before = {r.participant_id for r in held.status.revoked} if held else set()
            news = tuple(
                r.participant_id for r in known.status.revoked if r.participant_id not in before
            )[:_MAX_PARTIES]
            await self._ledger.commit(
                lambda transaction: transaction.record(EntryKind.MEMBERSHIP, data, parties=news)
            )
        self._hold(known)
        try:
            await asyncio.to_thread(self._status_file.write, known)
        except OSError as error:
            # The list holds all the same; only a restart would have to fetch it again.
            get_logger().warning("status_list_not_kept", detail=error.strerror)

    def _hold(self, known: KnownStatus) -> None:
        self._directory.accept_status(known)
        self._feed.publish(known)


_MAX_PARTIES: Final = 16


def _envelope(data: bytes) -> Envelope:
    try:
        return Envelope.from_bytes(data)
    except ContractsError as error:
        raise NodeError.from_reason(error) from error


def _recorded_serials(connection: sa.Connection) -> set[tuple[str, int]]:
    found = set()
    for envelope in read_credentials(connection):
        credential = MembershipCredential.from_payload(unverified_payload(envelope))
        found.add((credential.participant_id, credential.serial))
    return found
