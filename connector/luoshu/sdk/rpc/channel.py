"""The channel to the user's own node: mutual TLS, the node's name pinned.

The node is who its certificate says: the name in the profile is the TLS
target, whatever address it is dialled at. Calls that may be repeated without
harm (reads, and submissions, which debit once per request id) are retried by
gRPC while the node can't be reached; nothing else is.
"""

from __future__ import annotations

import json

import grpc

MAX_MESSAGE_BYTES = 16 << 20

_REPEATABLE = {
    "luoshu.api.node.catalog.v1.CatalogService": ["ListProducts", "Search", "GetEntry"],
    "luoshu.api.node.contract.v1.ContractService": [
        "ListContracts",
        "GetContract",
        "WatchContract",
    ],
    "luoshu.api.node.compute.v1.ComputeService": ["Submit", "WatchProgress", "FetchResult"],
    "luoshu.api.node.membership.v1.MembershipService": ["GetNode", "ListMembers"],
    "luoshu.api.node.log.v1.LogService": [
        "GetCheckpoint",
        "ListEntries",
        "GetEntry",
        "GetInclusionProof",
        "GetConsistencyProof",
    ],
}
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    {"service": service, "method": method}
                    for service, methods in _REPEATABLE.items()
                    for method in methods
                ],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


def open_channel(
    address: str,
    *,
    server_name: str,
    certificate_pem: bytes,
    private_key_pem: bytes,
    node_ca_pem: bytes,
) -> grpc.Channel:
    """A channel to a node's user API. Dials lazily; close it when done.

    Args:
        address: `host:port`.
        server_name: DNS name that the node's certificate must carry.
        certificate_pem: The user's certificate.
        private_key_pem: Its key.
        node_ca_pem: The only CA that may have issued the node's certificate.
    """
    credentials = grpc.ssl_channel_credentials(
        root_certificates=node_ca_pem,
        private_key=private_key_pem,
        certificate_chain=certificate_pem,
    )
    return grpc.secure_channel(
        address,
        credentials,
        options=[
            ("grpc.ssl_target_name_override", server_name),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.service_config", _SERVICE_CONFIG),
            ("grpc.enable_http_proxy", 0),
            # A node that is back is found within a second; gRPC's own pace is two minutes.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )
