"""Who is calling: what the gate found out, and how a servicer asks for it."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from luoshu.connector.rpc.authorization import MethodRule
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.membership import MembershipCredential, UserCredential


@dataclass(frozen=True, slots=True)
class PresentedCertificate:
    """The client certificate of a connection whose handshake the TLS layer accepted.

    Attributes:
        uri: Its one URI alternative name: a participant or user id.
        spki: SubjectPublicKeyInfo of its key, DER.
        not_after: Unix seconds; a connection may outlive its certificate.
    """

    uri: str
    spki: bytes
    not_after: float


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        id: Participant id on the peer port, user id on the user port.
        roles: Of the membership credential or of the user.
        credential: The member's credential; None where a certificate was enough, and for
            users.
        user: The user's credential; None on the peer port.
        user_envelope: The same as the organisation signed it; None on the peer port.
        certificate: What the connection presented.
    """

    id: str
    roles: frozenset[str]
    certificate: PresentedCertificate
    credential: MembershipCredential | None = None
    user: UserCredential | None = None
    user_envelope: Envelope | None = None


class Door(Protocol):
    """Decides whether the holder of a certificate may come in."""

    def admit(self, certificate: PresentedCertificate, rule: MethodRule) -> Caller:
        """Returns the caller.

        Raises:
            NodeError: If the certificate, credential, or role doesn't do.
        """
        ...


_CURRENT: ContextVar[Caller] = ContextVar("luoshu_caller")


def current_caller() -> Caller:
    """Returns the caller of the RPC that is being served.

    Raises:
        LookupError: Outside an RPC that passed the gate.
    """
    return _CURRENT.get()


def set_caller(caller: Caller) -> None:
    """Tells the servicer who calls; only the gate does this."""
    _CURRENT.set(caller)
