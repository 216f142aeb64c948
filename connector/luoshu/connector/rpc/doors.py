"""The two doors: members come in at the peer port, this node's users at the user port."""

from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.membership.directory import MemberDirectory
from luoshu.connector.membership.users import UserDirectory
from luoshu.connector.rpc.authorization import Admission, MethodRule
from luoshu.connector.rpc.caller import Caller, PresentedCertificate
from luoshu.contracts import ids
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import PublicKey


class PeerDoor:
    """Admits members of the space by certificate and membership credential."""

    def __init__(self, directory: MemberDirectory, clock: Clock) -> None:
        """Builds the door.

        Args:
            directory: Whom this node knows.
            clock: Decision time.
        """
        self._directory = directory
        self._clock = clock

    def admit(self, certificate: PresentedCertificate, rule: MethodRule) -> Caller:
        """Returns the caller.

        The TLS key must be one that the credential lists: a certificate that outlived a
        key rotation, or that the CA issued for other keys, is no member's.

        Raises:
            NodeError: WRONG_SPACE, CREDENTIAL_REVOKED, CREDENTIAL_MISSING,
                CREDENTIAL_EXPIRED, STATUS_LIST_STALE.
        """
        try:
            space = ids.parse_participant_id(certificate.uri).space
        except ContractsError as error:
            raise NodeError(
                "CREDENTIAL_INVALID", "The certificate names no participant."
            ) from error
        if space != self._directory.trust.space:
            raise NodeError("WRONG_SPACE")
        now = self._clock.now()
        if rule.admission is Admission.CERTIFICATE:
            self._directory.refuse_revoked(certificate.uri, now)
            return Caller(certificate.uri, frozenset(), certificate)
        if rule.admission is not Admission.MEMBER:
            raise NodeError("UNIMPLEMENTED", private=f"{rule.admission} on the peer port")
        credential = self._directory.require_member(certificate.uri, now)
        if PublicKey.tls(certificate.spki) not in credential.keys:
            # Missing, not invalid: after a rotation the newer credential may just not
            # have been introduced here yet, and the client does so on this reason.
            raise NodeError(
                "CREDENTIAL_MISSING",
                "The credential known here doesn't list the TLS key of this connection.",
            )
        roles = frozenset(role.value for role in credential.roles)
        return Caller(certificate.uri, roles, certificate, credential=credential)


class UserDoor:
    """Admits this node's enrolled users."""

    def __init__(self, users: UserDirectory, clock: Clock) -> None:
        """Builds the door.

        Args:
            users: Whom this node has enrolled.
            clock: Decision time.
        """
        self._users = users
        self._clock = clock

    def admit(self, certificate: PresentedCertificate, rule: MethodRule) -> Caller:
        """Returns the caller. Even health and reflection are for enrolled users only.

        Raises:
            NodeError: CREDENTIAL_REVOKED, CREDENTIAL_EXPIRED, CREDENTIAL_INVALID.
        """
        if rule.admission not in {Admission.CERTIFICATE, Admission.USER}:
            raise NodeError("UNIMPLEMENTED", private=f"{rule.admission} on the user port")
        user = self._users.require_user(certificate.uri, certificate.spki, self._clock.now())
        return Caller(
            certificate.uri,
            frozenset(role.value for role in user.credential.roles),
            certificate,
            user=user.credential,
            user_envelope=user.envelope,
        )
