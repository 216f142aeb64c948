"""The status list: signed by the operator, pushed to everybody, believed for ten minutes.

Its *version* grows when its content changes, and such a list goes through the log; between
changes the operator signs the same content again, with a later `issued_at`, so that it
never ages where the operator can be reached. A refresh isn't logged: it revokes nobody,
and 288 entries a day that say "nothing happened" would bury the others. It is kept in a
file beside the database, so that a restart doesn't need the operator; losing that file
costs nothing but freshness, and an older one is caught by version and date.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime, timedelta
from pathlib import Path

from luoshu.connector.errors import NodeError
from luoshu.connector.membership.directory import KnownStatus
from luoshu.connector.membership.secret_files import PUBLIC, write_atomically
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import SigningKey
from luoshu.contracts.membership import (
    MembershipCredential,
    Revocation,
    StatusList,
    verify_status_list,
)
from luoshu.contracts.membership.status import DEFAULT_MAX_AGE


class StatusSigner:
    """The operator's side: makes lists. Holds the `status` key."""

    def __init__(self, space: str, key: SigningKey, max_age: int = DEFAULT_MAX_AGE) -> None:
        """Builds the signer.

        Args:
            space: Name of the space.
            key: The operator's key of use `status`.
            max_age: Seconds for which a list is valid.
        """
        self._space = space
        self._key = key
        self.max_age = max_age

    @property
    def refresh_after(self) -> timedelta:
        """Age at which a list is signed again."""
        return timedelta(seconds=self.max_age / 2)

    def sign(self, version: int, revoked: Iterable[Revocation], now: datetime) -> KnownStatus:
        """Signs a list."""
        status = StatusList(
            space=self._space,
            version=version,
            issued_at=now,
            max_age=self.max_age,
            revoked=tuple(revoked),
        )
        envelope = status.sign(self._key)
        # What was cut to milliseconds by signing is what everybody else will hold.
        return KnownStatus(StatusList.from_payload(unverified_payload(envelope)), envelope)

    def renewed(self, held: KnownStatus, now: datetime) -> KnownStatus:
        """Signs the same content again."""
        return self.sign(held.status.version, held.status.revoked, now)

    def revoking(self, held: KnownStatus, revocation: Revocation, now: datetime) -> KnownStatus:
        """Signs the next version, with one more member revoked."""
        return self.sign(held.status.version + 1, (*held.status.revoked, revocation), now)


def check_status_list(
    envelope: Envelope,
    operator: MembershipCredential,
    now: datetime,
    held: KnownStatus | None,
) -> KnownStatus:
    """Verifies a list against the operator's credential and the newest list held.

    Raises:
        NodeError: CREDENTIAL_INVALID or WRONG_SPACE; STATUS_LIST_STALE if it is too old,
            or older than the one held.
    """
    newest = None if held is None else held.status.version
    try:
        status = verify_status_list(envelope, operator, now, newest)
    except ContractsError as error:
        raise NodeError.from_reason(error) from error
    if held is not None and status.version == held.status.version:
        if status.revoked != held.status.revoked:
            raise NodeError(
                "CREDENTIAL_INVALID",
                "The operator signed two status lists of one version that differ.",
                private=f"{held.envelope.digest} and {envelope.digest}",
            )
        if status.issued_at < held.status.issued_at:
            raise NodeError("STATUS_LIST_STALE", "The status list is older than the one held.")
    return KnownStatus(status, envelope)


class StatusFile:
    """The newest list on disk, as signed: for a restart."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self._path = path

    def write(self, known: KnownStatus) -> None:
        """Keeps a verified list."""
        write_atomically(self._path, known.envelope.to_bytes(), mode=PUBLIC)

    def read(self) -> Envelope | None:
        """Returns what was kept, to be verified again; None if nothing usable is there."""
        try:
            return Envelope.from_bytes(self._path.read_bytes())
        except (FileNotFoundError, ContractsError):
            return None


class StatusFeed:
    """Hands the newest list to whoever watches, and each newer one."""

    def __init__(self) -> None:
        """Starts empty."""
        self._newest: KnownStatus | None = None
        self._changed = asyncio.Event()

    def publish(self, known: KnownStatus) -> None:
        """Wakes the watchers."""
        self._newest = known
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def watch(self) -> AsyncGenerator[KnownStatus, None]:
        """Yields the newest list, if there is one, then each newer one; skips in between."""
        seen: KnownStatus | None = None
        while True:
            changed, newest = self._changed, self._newest
            if newest is not None and newest is not seen:
                seen = newest
                yield newest
            else:
                await changed.wait()
