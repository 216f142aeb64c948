"""Knocks at a node's peer port with another node's certificate, and says what came of it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final

from luoshu.contracts import ids
from luoshu.contracts.membership import SpaceTrust
from luoshu.examples.local_space import LocalNode

_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""RFC 9113 §3.4: the client's connection preface, with an empty SETTINGS frame."""


def knock(caller: Path, callee: LocalNode) -> str:
    """Opens a TLS connection to `callee` with the certificate of the node in `caller`.

    In TLS 1.3 a client has finished its handshake before the server has looked at
    the client's certificate, so what tells is the server's first answer.

    Returns:
        "served", or "turned away: …" with the TLS alert that the server sent.
    """
    trust = SpaceTrust.from_bytes((callee.directory / "credentials" / "space.json").read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=trust.ca_certificate)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(caller / "credentials" / "tls.crt", caller / "keys" / "tls.pem")
    host, port = callee.peer_address.rsplit(":", 1)
    name = ids.dns_name(ids.participant_id(trust.space, callee.name))
    try:
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            connection.sendall(_HTTP2_PREFACE)
            answer = connection.recv(9)
    except ssl.SSLError as error:
        return f"turned away: {error.reason.lower().replace('_', ' ')}"
    except ConnectionResetError:
        return "turned away: connection reset"
    return "served" if answer else "turned away: connection closed"
