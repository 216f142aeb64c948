"""The authority of a space: its key and CA, and the admission of members.

The directory that `init_space` makes belongs on a machine that serves nobody. Nothing that
serves imports this module. Layout::

    authority.pem  ca.pem          keys, mode 0600
    space.json     ca.crt          what everybody may know
    issued/<name>-<serial>.json    membership credentials as signed, one for each approval
    issued/<name>-<serial>.crt     the TLS certificate issued with it

An approval is complete once its credential lies in ``issued``; serials come from there.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.connector.membership.directory import open_credential
from luoshu.connector.membership.grant import EnrolmentGrant
from luoshu.connector.membership.secret_files import (
    PRIVATE,
    PUBLIC,
    private_directory,
    read_private,
    write_atomically,
)
from luoshu.contracts import ids
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.fields import check_endpoint
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import (
    EnrolmentRequest,
    MembershipCredential,
    Role,
    SpaceTrust,
    verify_enrolment_request,
)
from luoshu.contracts.times import to_milliseconds

DEFAULT_VALIDITY: Final = timedelta(days=365)
MAX_VALIDITY: Final = pki.LEAF_VALIDITY


def init_space(
    directory: Path, name: str, *, operator_name: str, operator_endpoint: str, now: datetime
) -> SpaceTrust:
    """Makes a space: authority key, CA and trust anchor, in a new directory.

    Args:
        directory: Where; must not hold a space yet.
        name: DNS label.
        operator_name: Name of the participant that will be the operator.
        operator_endpoint: ``host:port`` at which members will reach it.
        now: Aware UTC.

    Raises:
        NodeError: ALREADY_EXISTS.
        DocumentError: A name or the endpoint is ill-formed.
    """
    ids.check_space(name)
    operator_id = ids.participant_id(name, operator_name)
    check_endpoint(operator_endpoint)
    private_directory(directory)
    if any(directory.iterdir()):
        raise NodeError(
            "ALREADY_EXISTS",
            f"{directory} is not empty; a space is made in a new directory.",
        )
    authority = SigningKey.generate(KeyUse.AUTHORITY)
    ca = pki.create_authority(f"Luoshu space {name}", now)
    trust = SpaceTrust(
        space=name,
        authority=authority.public,
        ca_certificate=ca.certificate_pem.decode(),
        operator_id=operator_id,
        operator_endpoint=operator_endpoint,
    )
    private_directory(directory / "issued")
    write_atomically(directory / "authority.pem", authority.to_pem(), mode=PRIVATE)
    write_atomically(directory / "ca.pem", ca.key_pem, mode=PRIVATE)
    write_atomically(directory / "ca.crt", ca.certificate_pem, mode=PUBLIC)
    write_atomically(directory / "space.json", trust.to_bytes(), mode=PUBLIC)
    return trust


def load_trust(directory: Path) -> SpaceTrust:
    """Reads a space's trust anchor from its directory.

    Raises:
        NodeError: NOT_FOUND, if there is no space.
    """
    try:
        return SpaceTrust.from_bytes((directory / "space.json").read_bytes())
    except FileNotFoundError:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"{directory} holds no space; make one with `luoshu space init`.",
        ) from None


def approve(
    directory: Path,
    request: bytes,
    *,
    now: datetime,
    roles: Sequence[Role] | None = None,
    validity: timedelta = DEFAULT_VALIDITY,
    replace: bool = False,
) -> EnrolmentGrant:
    """Admits a candidate, or renews a member.

    A renewal must be signed by an events key of the member's present credential:
    otherwise anybody who learns a name could ask for it again with keys of its own.

    Args:
        directory: The space's.
        request: Enrolment request envelope, as `luoshu node init` wrote it.
        now: Aware UTC.
        roles: What the member may be; None grants what it asks for.
        validity: Of credential and certificate, at most 397 days.
        replace: Admit other keys under a name that was used before, after the old member
            has been revoked or lost its keys.

    Raises:
        NodeError: The request doesn't fit this space, or the name is taken.
        CredentialError: The request isn't signed by the keys that it lists.
    """
    if not timedelta(0) < validity <= MAX_VALIDITY:
        raise NodeError(
            "MALFORMED_MESSAGE", f"A validity must be between 1 and {MAX_VALIDITY.days} days."
        )
    trust = load_trust(directory)
    asked = verify_enrolment_request(Envelope.from_bytes(request))
    _check_request(asked, trust, tuple(roles or asked.roles))
    with _locked(directory):
        previous = _newest_issued(directory, trust, asked.participant_id)
        if previous is not None and not replace:
            _check_renewal(Envelope.from_bytes(request), previous)
        _check_unclaimed(directory, trust, asked)
        authority = SigningKey.from_pem(read_private(directory / "authority.pem"), KeyUse.AUTHORITY)
        ca = pki.load_authority(
            read_private(directory / "ca.pem"), (directory / "ca.crt").read_bytes()
        )
        start = to_milliseconds(now)
        credential = MembershipCredential(
            space=trust.space,
            participant_id=asked.participant_id,
            name=asked.name,
            roles=tuple(roles or asked.roles),
            jurisdiction=asked.jurisdiction,
            keys=asked.keys,
            endpoints=asked.endpoints,
            not_before=start - pki.BACKDATE if previous is None else start,
            not_after=start + validity,
            serial=1 if previous is None else previous.serial + 1,
        )
        certificate = pki.issue(
            ca,
            pki.read_request(asked.csr.encode()),
            uri=asked.participant_id,
            dns_name=ids.dns_name(asked.participant_id),
            server=True,
            client=True,
            not_before=now - pki.BACKDATE,
            not_after=now + validity,
        )
        envelope = credential.sign(authority)
        stem = f"{ids.parse_participant_id(asked.participant_id).name}-{credential.serial}"
        issued = directory / "issued"
        write_atomically(issued / f"{stem}.crt", certificate, mode=PUBLIC)
        write_atomically(issued / f"{stem}.json", envelope.to_bytes(), mode=PUBLIC, replace=False)
        operator = _newest_issued_envelope(directory, trust, trust.operator_id)
    return EnrolmentGrant(trust, envelope, certificate.decode(), operator)


def approve_request(
    directory: Path,
    request: Path,
    output: Path,
    *,
    now: datetime,
    roles: Sequence[Role] | None = None,
    validity: timedelta = DEFAULT_VALIDITY,
    replace: bool = False,
) -> MembershipCredential:
    """Like `approve`, from file to file; returns the credential that was signed.

    Raises:
        NodeError: See `approve`.
        CredentialError: See `approve`.
    """
    grant = approve(
        directory, request.read_bytes(), now=now, roles=roles, validity=validity, replace=replace
    )
    write_atomically(output, grant.to_bytes(), mode=PUBLIC)
    return open_credential(grant.credential, grant.trust)


def _check_request(asked: EnrolmentRequest, trust: SpaceTrust, roles: tuple[Role, ...]) -> None:
    if asked.space != trust.space:
        raise NodeError(
            "WRONG_SPACE", f"The request asks for space {asked.space}; this is {trust.space}."
        )
    is_operator = asked.participant_id == trust.operator_id
    if is_operator != (Role.OPERATOR in roles):
        raise NodeError(
            "ROLE_REQUIRED",
            f"The operator of this space is {trust.operator_id}, nobody else, and it has no "
            "members without that role by its name.",
        )
    if is_operator and asked.endpoints.peer != trust.operator_endpoint:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"The space tells members to find the operator at {trust.operator_endpoint}; the "
            "request names another endpoint.",
        )
    if Role.HOLDER in roles and asked.endpoints.peer is None:
        raise NodeError(
            "CONFIGURATION_INVALID",
            "A holder must be reachable: give its node a peer endpoint and ask again.",
        )


def _check_renewal(request: Envelope, previous: MembershipCredential) -> None:
    known = {key.key_id for key in previous.keys_for(KeyUse.EVENTS)}
    if request.key_id not in known:
        raise NodeError(
            "ALREADY_EXISTS",
            f"{previous.participant_id} is a member with other keys. If it lost them, make sure "
            "that it is the same participant, then approve with --replace.",
        )


def _check_unclaimed(directory: Path, trust: SpaceTrust, asked: EnrolmentRequest) -> None:
    """A request proves possession of two of its keys; the others must at least be nobody's."""
    wanted = {key.key_id for key in asked.keys}
    for path in sorted((directory / "issued").glob("*.json")):
        other = open_credential(Envelope.from_bytes(path.read_bytes()), trust)
        if other.participant_id != asked.participant_id and any(
            key.key_id in wanted for key in other.keys
        ):
            raise NodeError(
                "ALREADY_EXISTS",
                f"The request lists a key that {other.participant_id} has. Make the node again "
                "in a new directory, with keys of its own.",
            )


def _newest_issued(
    directory: Path, trust: SpaceTrust, participant_id: str
) -> MembershipCredential | None:
    envelope = _newest_issued_envelope(directory, trust, participant_id)
    return None if envelope is None else open_credential(envelope, trust)


def _newest_issued_envelope(
    directory: Path, trust: SpaceTrust, participant_id: str
) -> Envelope | None:
    name = ids.parse_participant_id(participant_id).name
    pattern = re.compile(rf"{re.escape(name)}-([0-9]+)\.json")
    found = [
        (int(match[1]), path)
        for path in (directory / "issued").iterdir()
        if (match := pattern.fullmatch(path.name)) is not None
    ]
    for _, path in sorted(found, reverse=True):
        envelope = Envelope.from_bytes(path.read_bytes())
        if open_credential(envelope, trust).participant_id == participant_id:
            return envelope
    return None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
