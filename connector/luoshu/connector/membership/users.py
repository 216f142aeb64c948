"""A node's users: enrolling them, revoking them, and telling who calls.

A user is enrolled by two things that lie in the node's ``users`` directory: the user
credential, signed by the node's events key, and the TLS certificate that was issued with
it. Both must be there at each call, so taking them away revokes the user at once, and a
name that is enrolled again doesn't bring an old certificate back to life.
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.connector.membership.node_files import load_node, load_user_ca
from luoshu.connector.membership.secret_files import (
    PRIVATE,
    PUBLIC,
    private_directory,
    write_atomically,
)
from luoshu.contracts import ids
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import (
    MembershipCredential,
    UserCredential,
    UserRole,
    verify_user_credential,
)
from luoshu.contracts.times import to_milliseconds

DEFAULT_VALIDITY: Final = timedelta(days=365)


def add_user(
    node_directory: Path,
    name: str,
    roles: Sequence[UserRole],
    profile: Path,
    *,
    address: str,
    now: datetime,
    validity: timedelta = DEFAULT_VALIDITY,
) -> UserCredential:
    """Enrols a user and writes the profile directory to hand over.

    Args:
        node_directory: An enrolled node's.
        name: DNS label.
        roles: What the user may do at this node.
        profile: New directory for the user: address, certificates, keys, credential.
        address: ``host:port`` of the node's user API, as the user will dial it.
        now: Aware UTC.
        validity: Of credential and certificate, at most 397 days.

    Raises:
        NodeError: ALREADY_EXISTS, if the user or the directory exists.
        DocumentError: The name or the roles are ill-formed.
    """
    node = load_node(node_directory, now=now)
    user = ids.user_id(node.participant_id, name)
    users = private_directory(node_directory / "users")
    if (users / f"{name}.json").exists():
        raise NodeError(
            "ALREADY_EXISTS",
            f"There is a user {name} already; `luoshu user revoke` comes before enrolling anew.",
        )
    if profile.exists() and any(profile.iterdir()):
        raise NodeError("ALREADY_EXISTS", f"{profile} is not empty; choose a new directory.")
    if not timedelta(0) < validity <= pki.LEAF_VALIDITY:
        raise NodeError(
            "MALFORMED_MESSAGE", f"A validity must be between 1 and {pki.LEAF_VALIDITY.days} days."
        )
    request_key = SigningKey.generate(KeyUse.REQUEST)
    tls_key = pki.generate_key()
    start = to_milliseconds(now) - pki.BACKDATE
    credential = UserCredential(
        user_id=user,
        participant_id=node.participant_id,
        request_key=request_key.public,
        roles=tuple(roles),
        not_before=max(start, node.credential.not_before),
        not_after=start + validity,
    )
    UserCredential.from_payload(credential.to_payload())
    envelope = credential.sign(node.events)
    certificate = pki.issue(
        load_user_ca(node_directory),
        tls_key.public_key(),
        uri=user,
        dns_name=None,
        server=False,
        client=True,
        not_before=start,
        not_after=start + validity,
    )
    private_directory(profile)
    server_name = ids.dns_name(node.participant_id)
    settings = f'# Profile of {user}.\naddress = "{address}"\nserver_name = "{server_name}"\n'
    tomllib.loads(settings)
    write_atomically(profile / "profile.toml", settings.encode(), mode=PUBLIC)
    write_atomically(profile / "tls.key", pki.key_to_pem(tls_key), mode=PRIVATE)
    write_atomically(profile / "tls.crt", certificate, mode=PUBLIC)
    write_atomically(profile / "request.key", request_key.to_pem(), mode=PRIVATE)
    write_atomically(profile / "user.json", envelope.to_bytes(), mode=PUBLIC)
    write_atomically(profile / "space.json", node.trust.to_bytes(), mode=PUBLIC)
    write_atomically(profile / "node-ca.crt", node.user_ca, mode=PUBLIC)
    # The node's own half comes last: before it, nobody is enrolled.
    write_atomically(users / f"{name}.crt", certificate, mode=PUBLIC)
    write_atomically(users / f"{name}.json", envelope.to_bytes(), mode=PUBLIC, replace=False)
    return credential


def revoke_user(node_directory: Path, name: str, *, now: datetime) -> None:
    """Revokes a user: from the next call on, nobody is that user.

    Raises:
        NodeError: NOT_FOUND, if there is no such user.
        DocumentError: The name is ill-formed.
    """
    ids.check_label(name, "a user name")
    users = node_directory / "users"
    credential = users / f"{name}.json"
    if not credential.exists():
        raise NodeError("NOT_FOUND")
    revoked = private_directory(users / "revoked")
    stem = f"{name}-{now:%Y%m%dT%H%M%S%f}"
    credential.rename(revoked / f"{stem}.json")
    certificate = users / f"{name}.crt"
    if certificate.exists():
        certificate.rename(revoked / f"{stem}.crt")


def list_users(node_directory: Path, *, now: datetime) -> list[UserCredential]:
    """The node's users by name; credentials that don't verify or have expired are left out."""
    node = load_node(node_directory, now=now)
    directory = UserDirectory(node_directory / "users", lambda: node.credential)
    found = []
    for path in sorted((node_directory / "users").glob("*.json")):
        try:
            user = ids.user_id(node.participant_id, path.stem)
            found.append(directory.require_user(user, None, now).credential)
        except (NodeError, ContractsError):
            continue
    return found


@dataclass(frozen=True, slots=True)
class EnrolledUser:
    """A user as enrolled.

    Attributes:
        credential: Verified.
        envelope: The same as signed.
    """

    credential: UserCredential
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class _Enrolment:
    stamp: tuple[int, ...]
    envelope: Envelope
    spki: bytes


class UserDirectory:
    """The users that a node has enrolled, read from its files when those change."""

    def __init__(self, users: Path, member: Callable[[], MembershipCredential]) -> None:
        """Reads nothing yet.

        Args:
            users: The node's ``users`` directory.
            member: The node's own credential, as it is now.
        """
        self._users = users
        self._member = member
        self._cache: dict[str, _Enrolment] = {}

    def require_user(self, user_id: str, spki: bytes | None, now: datetime) -> EnrolledUser:
        """Returns an enrolled user.

        Args:
            user_id: Who it is said to be.
            spki: Key of the certificate that was presented; None where none was.
            now: When the credential must be valid.

        Raises:
            NodeError: CREDENTIAL_REVOKED, if no such user is enrolled with that key;
                CREDENTIAL_EXPIRED, CREDENTIAL_INVALID.
        """
        member = self._member()
        try:
            participant, name = ids.parse_user_id(user_id)
        except ContractsError as error:
            raise NodeError("CREDENTIAL_INVALID", "The certificate names no user.") from error
        if participant != member.participant_id:
            raise NodeError("CREDENTIAL_INVALID", "The certificate names another node's user.")
        user = self._read(name)
        if spki is not None and spki != user.spki:
            raise NodeError("CREDENTIAL_REVOKED", "Another certificate was issued for this user.")
        try:
            credential = verify_user_credential(user.envelope, member, now)
        except ContractsError as error:
            raise NodeError.from_reason(error) from error
        if credential.user_id != user_id:
            raise NodeError("CREDENTIAL_INVALID", "The user's file holds another's credential.")
        return EnrolledUser(credential, user.envelope)

    def _read(self, name: str) -> _Enrolment:
        paths = self._users / f"{name}.json", self._users / f"{name}.crt"
        try:
            stamp = (*_stamp(paths[0]), *_stamp(paths[1]))
            cached = self._cache.get(name)
            if cached is not None and cached.stamp == stamp:
                return cached
            envelope = Envelope.from_bytes(paths[0].read_bytes())
            certificate = pki.certificate_from_pem(paths[1].read_bytes())
        except FileNotFoundError:
            self._cache.pop(name, None)
            raise NodeError("CREDENTIAL_REVOKED", "This user is not enrolled.") from None
        except (ContractsError, pki.PkiError) as error:
            raise NodeError("CREDENTIAL_INVALID", private=f"users/{name}: {error}") from error
        user = _Enrolment(stamp, envelope, pki.certificate_spki(certificate))
        self._cache[name] = user
        return user


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
