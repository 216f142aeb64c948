"""A node's own directory: its keys, its request to join, and what it was granted.

`init_node` makes the keys, the node's user CA and the enrolment request; `enrol_node`
checks the grant against those keys and installs it; `load_node` reads it all for a start.
Layout of what this module owns (the rest of the directory is the node's state)::

    node.toml  enrolment-request.json
    keys/{tls,events,log,witness[,status],user-ca,user-api}.pem       mode 0600
    credentials/{user-ca,user-api}.crt                                from the start
    credentials/{space.json,operator.json,tls.crt,membership.json}    from enrolment

``membership.json`` is written last: where it lies, an enrolment is complete. The trust
anchor is pinned by the first enrolment; a later grant with another authority is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from luoshu.connector.config import FILE_NAME as CONFIGURATION_FILE
from luoshu.connector.config_reference import node_toml
from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.connector.membership.grant import EnrolmentGrant
from luoshu.connector.membership.secret_files import (
    PRIVATE,
    PUBLIC,
    private_directory,
    read_private,
    write_atomically,
)
from luoshu.contracts import ids
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import (
    Endpoints,
    EnrolmentRequest,
    MembershipCredential,
    Role,
    SpaceTrust,
    verify_credential,
)

REQUEST_FILE: Final = "enrolment-request.json"
_SIGNING_USES: Final = (KeyUse.EVENTS, KeyUse.LOG, KeyUse.WITNESS)


@dataclass(frozen=True, slots=True, repr=False)
class NodeFiles:
    """Everything that an enrolled node reads at its start.

    Attributes:
        directory: The node's.
        trust: The pinned trust anchor.
        credential: Its own membership credential, verified.
        envelope: The same as signed.
        operator: The operator's credential envelope, if it was in the grant.
        events: Signs contract events, entries, user credentials.
        log: Signs checkpoints.
        witness: Cosigns others' checkpoints.
        status: Signs the status list; the operator's only.
        tls_certificate: PEM, by the space CA.
        tls_key: PEM.
        user_ca: The node's CA for its users, certificate PEM.
        user_api_certificate: PEM, by the user CA.
        user_api_key: PEM.
    """

    directory: Path
    trust: SpaceTrust
    credential: MembershipCredential
    envelope: Envelope
    operator: Envelope | None
    events: SigningKey
    log: SigningKey
    witness: SigningKey
    status: SigningKey | None
    tls_certificate: bytes
    tls_key: bytes
    user_ca: bytes
    user_api_certificate: bytes
    user_api_key: bytes

    @property
    def participant_id(self) -> str:
        """The node's participant id."""
        return self.credential.participant_id


def init_node(
    directory: Path,
    *,
    space: str,
    name: str,
    display_name: LocalizedText | None = None,
    roles: Sequence[Role],
    jurisdiction: str,
    peer_listen: str | None = None,
    peer_advertise: str | None = None,
    user_listen: str | None = None,
    now: datetime,
) -> Path:
    """Makes a node's keys, user CA, ``node.toml`` and enrolment request in a new directory.

    Args:
        directory: Where; may hold a ``node.toml`` already, which stays, but no keys.
        space: The space to join.
        name: Name of the participant, a DNS label.
        display_name: For people; the name itself by default.
        roles: Roles to ask for.
        jurisdiction: ISO 3166 code of the law it is under.
        peer_listen: ``host:port`` to listen on for other nodes; None if it only dials out.
        peer_advertise: ``host:port`` at which they reach it, where that differs.
        user_listen: ``host:port`` to listen on for users; None takes the default.
        now: Aware UTC.

    Returns:
        The enrolment request, to be sent to the operator.

    Raises:
        NodeError: ALREADY_EXISTS, if there are keys already; CONFIGURATION_INVALID, if
            nobody could reach the node at the address it would advertise.
        DocumentError: A name, role, region or endpoint is ill-formed.
    """
    participant = ids.participant_id(space, name)
    keys_directory = directory / "keys"
    if keys_directory.exists():
        raise NodeError(
            "ALREADY_EXISTS", f"{directory} holds a node's keys already; choose a new directory."
        )
    endpoint = _advertised(peer_listen, peer_advertise)
    settings = {
        "node.participant": participant,
        "node.roles": [role.value for role in roles],
        "peer.listen": peer_listen,
        "peer.advertise": peer_advertise,
        "user.listen": user_listen,
    }
    configuration = node_toml({k: v for k, v in settings.items() if v is not None})
    signing = {use: SigningKey.generate(use) for use in _uses(roles)}
    tls_key = pki.generate_key()
    request = EnrolmentRequest(
        space=space,
        participant_id=participant,
        name=display_name or LocalizedText(en=name, zh=""),
        roles=tuple(roles),
        jurisdiction=jurisdiction,
        keys=(
            *(key.public for key in signing.values()),
            PublicKey.tls(pki.spki_der(tls_key.public_key())),
        ),
        endpoints=Endpoints(endpoint),
        csr=pki.create_request(tls_key, participant, ids.dns_name(participant)).decode(),
        created_at=now,
    )
    envelope = request.sign(signing[KeyUse.EVENTS])
    # What is read back must be what a stranger would accept, before anything is written.
    EnrolmentRequest.from_payload(unverified_payload(envelope))

    private_directory(directory)
    credentials = private_directory(directory / "credentials")
    private_directory(keys_directory)
    for use, key in signing.items():
        write_atomically(keys_directory / f"{use}.pem", key.to_pem(), mode=PRIVATE)
    write_atomically(keys_directory / "tls.pem", pki.key_to_pem(tls_key), mode=PRIVATE)
    user_ca = pki.create_authority(f"Users of {participant}", now)
    write_atomically(keys_directory / "user-ca.pem", user_ca.key_pem, mode=PRIVATE)
    write_atomically(credentials / "user-ca.crt", user_ca.certificate_pem, mode=PUBLIC)
    write_atomically(
        keys_directory / "user-api.pem", pki.key_to_pem(pki.generate_key()), mode=PRIVATE
    )
    _issue_user_api(directory, participant, now)
    if not (directory / CONFIGURATION_FILE).exists():
        write_atomically(directory / CONFIGURATION_FILE, configuration.encode(), mode=PUBLIC)
    path = directory / REQUEST_FILE
    write_atomically(path, envelope.to_bytes(), mode=PUBLIC)
    return path


def enrol_node(
    directory: Path, grant: bytes, *, now: datetime, expected_space: str | None = None
) -> MembershipCredential:
    """Checks a grant against the node's own keys and pinned trust, then installs it.

    Args:
        directory: The node's.
        grant: Content of the file that `luoshu space approve` wrote.
        now: Aware UTC.
        expected_space: Fingerprint of the trust anchor (``sha256:…``), if it was told
            over another channel.

    Raises:
        NodeError: CREDENTIAL_INVALID, WRONG_SPACE or CREDENTIAL_EXPIRED: the grant isn't
            for this node, or not of the space it belongs to. Nothing was changed.
        CredentialError: The credential doesn't verify.
    """
    bundle = EnrolmentGrant.from_bytes(grant)
    trust = bundle.trust
    asked = _own_request(directory)
    if trust.space != asked.space:
        raise NodeError("WRONG_SPACE", f"The grant is of space {trust.space}, not {asked.space}.")
    if expected_space is not None and trust.digest != expected_space:
        raise NodeError(
            "WRONG_SPACE",
            f"The grant's trust anchor has the fingerprint {trust.digest}, not the expected one.",
        )
    _check_pinned(directory, trust)
    credential = verify_credential(bundle.credential, trust, now)
    _check_own(directory, credential, asked.participant_id)
    _check_tls(directory, bundle, credential, now)
    if bundle.operator is not None:
        operator = verify_credential(bundle.operator, trust, now)
        if operator.participant_id != trust.operator_id:
            raise NodeError("CREDENTIAL_INVALID", "The grant names another node as operator.")
    _issue_user_api(directory, credential.participant_id, now)
    credentials = directory / "credentials"
    write_atomically(credentials / "space.json", trust.to_bytes(), mode=PUBLIC)
    if bundle.operator is not None:
        write_atomically(credentials / "operator.json", bundle.operator.to_bytes(), mode=PUBLIC)
    write_atomically(credentials / "tls.crt", bundle.tls_certificate.encode(), mode=PUBLIC)
    write_atomically(credentials / "membership.json", bundle.credential.to_bytes(), mode=PUBLIC)
    return credential


def load_node(directory: Path, *, now: datetime) -> NodeFiles:
    """Reads an enrolled node's keys and credentials and checks that they fit together.

    Raises:
        NodeError: CREDENTIAL_MISSING, if the node isn't enrolled; CREDENTIAL_INVALID or
            CREDENTIAL_EXPIRED, if what lies there doesn't do.
        CredentialError: The credential doesn't verify or has expired.
    """
    keys, credentials = directory / "keys", directory / "credentials"
    if not (credentials / "membership.json").exists():
        raise NodeError(
            "CREDENTIAL_MISSING",
            f"The node in {directory} is not enrolled: send {REQUEST_FILE} to the operator, then "
            "run `luoshu node enrol` with the grant.",
        )
    trust = SpaceTrust.from_bytes((credentials / "space.json").read_bytes())
    envelope = Envelope.from_bytes((credentials / "membership.json").read_bytes())
    credential = verify_credential(envelope, trust, now)
    _check_own(directory, credential, credential.participant_id)
    tls_certificate = (credentials / "tls.crt").read_bytes()
    grant = EnrolmentGrant(trust, envelope, tls_certificate.decode(), None)
    _check_tls(directory, grant, credential, now)
    operator = credentials / "operator.json"
    status = keys / "status.pem"
    return NodeFiles(
        directory=directory,
        trust=trust,
        credential=credential,
        envelope=envelope,
        operator=Envelope.from_bytes(operator.read_bytes()) if operator.exists() else None,
        events=_signing_key(directory, KeyUse.EVENTS),
        log=_signing_key(directory, KeyUse.LOG),
        witness=_signing_key(directory, KeyUse.WITNESS),
        status=_signing_key(directory, KeyUse.STATUS) if status.exists() else None,
        tls_certificate=tls_certificate,
        tls_key=read_private(keys / "tls.pem"),
        user_ca=(credentials / "user-ca.crt").read_bytes(),
        user_api_certificate=(credentials / "user-api.crt").read_bytes(),
        user_api_key=read_private(keys / "user-api.pem"),
    )


def load_user_ca(directory: Path) -> pki.CertificateAuthority:
    """Reads the CA that certifies a node's users.

    Raises:
        NodeError: CONFIGURATION_INVALID, if this is no node's directory.
    """
    try:
        return pki.load_authority(
            read_private(directory / "keys" / "user-ca.pem"),
            (directory / "credentials" / "user-ca.crt").read_bytes(),
        )
    except FileNotFoundError:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"{directory} holds no node; make one with `luoshu node init`.",
        ) from None


def _advertised(listen: str | None, advertise: str | None) -> str | None:
    endpoint = advertise or listen
    if endpoint is not None and endpoint.rpartition(":")[0] in {"0.0.0.0", "[::]"}:  # noqa: S104
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"Nobody can dial {endpoint}: name the address at which others reach this node.",
        )
    return endpoint


def _uses(roles: Sequence[Role]) -> tuple[KeyUse, ...]:
    return (*_SIGNING_USES, KeyUse.STATUS) if Role.OPERATOR in roles else _SIGNING_USES


def _own_request(directory: Path) -> EnrolmentRequest:
    try:
        data = (directory / REQUEST_FILE).read_bytes()
    except FileNotFoundError:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"{directory} holds no enrolment request; make one with `luoshu node init`.",
        ) from None
    return EnrolmentRequest.from_payload(unverified_payload(Envelope.from_bytes(data)))


def _signing_key(directory: Path, use: KeyUse) -> SigningKey:
    return SigningKey.from_pem(read_private(directory / "keys" / f"{use}.pem"), use)


def _check_pinned(directory: Path, trust: SpaceTrust) -> None:
    path = directory / "credentials" / "space.json"
    if not path.exists():
        return
    pinned = SpaceTrust.from_bytes(path.read_bytes())
    # The operator may move; authority, CA and operator's name may not change silently.
    if (pinned.space, pinned.authority, pinned.ca_certificate, pinned.operator_id) != (
        trust.space,
        trust.authority,
        trust.ca_certificate,
        trust.operator_id,
    ):
        raise NodeError(
            "WRONG_SPACE",
            "The grant has another trust anchor than the one this node pinned when it enrolled. "
            "If the space was really made anew, set up a new node.",
        )


def _check_own(directory: Path, credential: MembershipCredential, participant_id: str) -> None:
    if credential.participant_id != participant_id:
        raise NodeError(
            "CREDENTIAL_INVALID",
            f"The credential is for {credential.participant_id}; this node is {participant_id}.",
        )
    listed = set(credential.keys)
    for use in _uses(credential.roles):
        try:
            key = _signing_key(directory, use)
        except FileNotFoundError:
            raise NodeError(
                "CREDENTIAL_INVALID", f"The node's directory lacks keys/{use}.pem."
            ) from None
        if key.public not in listed:
            raise NodeError(
                "CREDENTIAL_INVALID",
                f"The credential doesn't list this node's {use} key: it answers another request.",
            )
    installed = directory / "credentials" / "membership.json"
    if installed.exists():
        held = unverified_payload(Envelope.from_bytes(installed.read_bytes())).get("serial")
        if isinstance(held, int) and credential.serial < held:
            raise NodeError(
                "CREDENTIAL_INVALID", "The node holds a newer credential than this one already."
            )


def _check_tls(
    directory: Path, grant: EnrolmentGrant, credential: MembershipCredential, now: datetime
) -> None:
    spki = pki.spki_der(pki.key_from_pem(read_private(directory / "keys" / "tls.pem")).public_key())
    if PublicKey.tls(spki) not in credential.keys:
        raise NodeError("CREDENTIAL_INVALID", "The credential doesn't list this node's TLS key.")
    try:
        authority = pki.certificate_from_pem(grant.trust.ca_certificate.encode())
        pki.require_ca(authority)
        pki.check_certificate(
            pki.certificate_from_pem(grant.tls_certificate.encode()),
            authority,
            uri=credential.participant_id,
            public_spki=spki,
            now=now,
        )
    except pki.CertificateExpiredError as error:
        raise NodeError("CREDENTIAL_EXPIRED", f"TLS: {error}.") from error
    except pki.PkiError as error:
        raise NodeError("CREDENTIAL_INVALID", f"TLS: {error}.") from error


def _issue_user_api(directory: Path, participant: str, now: datetime) -> None:
    key = pki.key_from_pem(read_private(directory / "keys" / "user-api.pem"))
    certificate = pki.issue(
        load_user_ca(directory),
        key.public_key(),
        uri=participant,
        dns_name=ids.dns_name(participant),
        server=True,
        client=False,
        not_before=now - pki.BACKDATE,
        not_after=now + pki.LEAF_VALIDITY,
    )
    write_atomically(directory / "credentials" / "user-api.crt", certificate, mode=PUBLIC)
