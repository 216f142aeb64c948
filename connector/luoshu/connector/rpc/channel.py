"""Channels to peers: who we are, whom we expect, and what is wrong before we dial.

A refused TLS handshake reaches the client as "Socket closed" and nothing more, so this
node's own certificate is checked first, against everything a peer would hold against it.
The peer is expected under the DNS name that derives from its participant id: an address
that leads to another participant fails the handshake, whatever it is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import grpc

from luoshu.connector.errors import NodeError
from luoshu.connector.membership.pki import (
    CertificateExpiredError,
    PkiError,
    certificate_from_pem,
    check_certificate,
    key_from_pem,
    spki_der,
)
from luoshu.contracts.ids import dns_name

MAX_MESSAGE_BYTES: Final = 8 << 20
"""Result pieces are a few MiB; anything beyond is refused."""

RECONNECT_SECONDS: Final = 0.6
"""By then a channel tries to connect again: the longest backoff, with its jitter, is over."""

_CANNOT_DIAL: Final = "This node can't dial anybody with its own TLS certificate"


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """What a node shows when it dials.

    Attributes:
        participant_id: Of this node.
        certificate: Its TLS certificate, PEM.
        key: Its TLS key, PEM.
        space_ca: The space's CA certificate, PEM.
    """

    participant_id: str
    certificate: bytes
    key: bytes
    space_ca: bytes

    def check(self, now: datetime) -> datetime:
        """Checks this node's own certificate and returns until when it is valid.

        Raises:
            NodeError: CREDENTIAL_EXPIRED or CREDENTIAL_INVALID, saying what is wrong.
        """
        try:
            certificate = certificate_from_pem(self.certificate)
            check_certificate(
                certificate,
                certificate_from_pem(self.space_ca),
                uri=self.participant_id,
                public_spki=spki_der(key_from_pem(self.key).public_key()),
                now=now,
            )
        except CertificateExpiredError as error:
            raise NodeError("CREDENTIAL_EXPIRED", f"{_CANNOT_DIAL}: {error}.") from error
        except PkiError as error:
            raise NodeError("CREDENTIAL_INVALID", f"{_CANNOT_DIAL}: {error}.") from error
        return certificate.not_valid_after_utc


def open_channel(identity: ClientIdentity, peer: str, endpoint: str) -> grpc.aio.Channel:
    """Opens a channel to a peer; gRPC connects on first use and reconnects by itself.

    Args:
        identity: This node's.
        peer: The participant id that must answer.
        endpoint: ``host:port`` where it is said to be.
    """
    name = dns_name(peer)
    return grpc.aio.secure_channel(
        endpoint,
        grpc.ssl_channel_credentials(identity.space_ca, identity.key, identity.certificate),
        options=[
            ("grpc.ssl_target_name_override", name),
            ("grpc.default_authority", name),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 400),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # Two nodes of one process (tests, the demo's doctor) must not share
            # connections: each dials as itself.
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )
