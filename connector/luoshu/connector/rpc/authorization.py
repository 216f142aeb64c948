"""Who may call what: the one table of every RPC that this node serves.

A method that is not in the table is refused, whatever servicers are registered. Tables
say who may knock; whether a contract, an entry or a log body is the caller's to see is
decided by the feature's own service, which answers NOT_FOUND.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Admission(StrEnum):
    """What a caller must show."""

    CERTIFICATE = "certificate"
    """A valid certificate of the right CA that isn't revoked; no credential yet."""
    MEMBER = "member"
    """Also a valid membership credential, known here, that lists the TLS key."""
    USER = "user"
    """A certificate of this node's user CA and an enrolled, unrevoked user."""


@dataclass(frozen=True, slots=True)
class MethodRule:
    """What one RPC asks of its caller.

    Attributes:
        admission: What the caller must show.
        roles: The caller needs one of these; empty means any.
        served_by: The answering node needs one of these roles; empty means any.
        seconds: Longest time the server works on one call, whatever the client set.
        max_request_bytes: Largest request message.
    """

    admission: Admission
    roles: frozenset[str] = frozenset()
    served_by: frozenset[str] = frozenset()
    seconds: float = 30.0
    max_request_bytes: int = 1 << 20


_HOUR: Final = 3600.0
"""Watch streams end after an hour; clients open them again where they left off."""
_RESULT: Final = 900.0
"""Longest wait for a computation: more than any sandbox wall-time limit."""
_SMALL: Final = 16 << 10
"""Requests that hold only ids and numbers."""

_HOLDER: Final = frozenset({"holder"})
_ANALYST: Final = frozenset({"analyst"})
_OPERATOR: Final = frozenset({"operator"})
_ADMIN: Final = frozenset({"admin"})
_NEGOTIATORS: Final = frozenset({"admin", "analyst"})
_LOG_READERS: Final = frozenset({"admin", "auditor"})

_CERTIFICATE = Admission.CERTIFICATE
_MEMBER = Admission.MEMBER
_USER = Admission.USER

_INFRASTRUCTURE: Final[dict[str, MethodRule]] = {
    "/grpc.health.v1.Health/Check": MethodRule(_CERTIFICATE, max_request_bytes=_SMALL),
    "/grpc.health.v1.Health/List": MethodRule(_CERTIFICATE, max_request_bytes=_SMALL),
    "/grpc.health.v1.Health/Watch": MethodRule(
        _CERTIFICATE, seconds=_HOUR, max_request_bytes=_SMALL
    ),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": MethodRule(
        _CERTIFICATE, max_request_bytes=_SMALL
    ),
}


def _table(area_rules: Mapping[str, Mapping[str, MethodRule]]) -> Mapping[str, MethodRule]:
    table = dict(_INFRASTRUCTURE)
    for service, rules in area_rules.items():
        table.update({f"/{service}/{method}": rule for method, rule in rules.items()})
    return MappingProxyType(table)


PEER_RULES: Final = _table(
    {
        "luoshu.api.peer.membership.v1.MembershipService": {
            "Introduce": MethodRule(_CERTIFICATE),
            "GetMember": MethodRule(_MEMBER, max_request_bytes=_SMALL),
            "ListMembers": MethodRule(_MEMBER, max_request_bytes=_SMALL),
            "WatchStatusList": MethodRule(_MEMBER, seconds=_HOUR, max_request_bytes=_SMALL),
        },
        "luoshu.api.peer.catalog.v1.CatalogService": {
            "Publish": MethodRule(_MEMBER, _HOLDER, _OPERATOR),
            "Withdraw": MethodRule(_MEMBER, _HOLDER, _OPERATOR),
            "Search": MethodRule(_MEMBER, served_by=_OPERATOR, max_request_bytes=_SMALL),
            "GetEntry": MethodRule(_MEMBER, served_by=_OPERATOR, max_request_bytes=_SMALL),
            "Watch": MethodRule(
                _MEMBER, served_by=_OPERATOR, seconds=_HOUR, max_request_bytes=_SMALL
            ),
        },
        "luoshu.api.peer.contract.v1.ContractService": {
            # The consumer submits, the provider sequences; so who calls is an analyst.
            "SubmitEvent": MethodRule(_MEMBER, _ANALYST, _HOLDER),
            "ListEvents": MethodRule(_MEMBER, max_request_bytes=_SMALL),
            "WatchEvents": MethodRule(_MEMBER, seconds=_HOUR, max_request_bytes=_SMALL),
        },
        "luoshu.api.peer.compute.v1.ComputeService": {
            "Submit": MethodRule(_MEMBER, _ANALYST, _HOLDER),
            "WatchProgress": MethodRule(
                _MEMBER, _ANALYST, _HOLDER, seconds=_RESULT, max_request_bytes=_SMALL
            ),
            "FetchResult": MethodRule(
                _MEMBER, _ANALYST, _HOLDER, seconds=_RESULT, max_request_bytes=_SMALL
            ),
            "Cancel": MethodRule(_MEMBER, _ANALYST, _HOLDER, max_request_bytes=_SMALL),
            "Explain": MethodRule(_MEMBER, _ANALYST, _HOLDER),
        },
        "luoshu.api.peer.log.v1.LogService": {
            "GetCheckpoint": MethodRule(_MEMBER, max_request_bytes=_SMALL),
            "GetEntry": MethodRule(_MEMBER, max_request_bytes=_SMALL),
            "GetInclusionProof": MethodRule(_MEMBER, max_request_bytes=_SMALL),
            "GetConsistencyProof": MethodRule(_MEMBER, max_request_bytes=_SMALL),
        },
    }
)
"""Full method name to rule, for the port that other nodes call."""

USER_RULES: Final = _table(
    {
        "luoshu.api.node.membership.v1.MembershipService": {
            "GetNode": MethodRule(_USER, max_request_bytes=_SMALL),
            "ListMembers": MethodRule(_USER, max_request_bytes=_SMALL),
            "RevokeMember": MethodRule(_USER, _ADMIN, _OPERATOR, max_request_bytes=_SMALL),
        },
        "luoshu.api.node.catalog.v1.CatalogService": {
            "PublishProduct": MethodRule(_USER, _ADMIN, _HOLDER),
            "WithdrawProduct": MethodRule(_USER, _ADMIN, _HOLDER, max_request_bytes=_SMALL),
            "ListProducts": MethodRule(_USER, max_request_bytes=_SMALL),
            "Search": MethodRule(_USER, max_request_bytes=_SMALL),
            "GetEntry": MethodRule(_USER, max_request_bytes=_SMALL),
        },
        "luoshu.api.node.contract.v1.ContractService": {
            "RequestContract": MethodRule(_USER, _NEGOTIATORS, _ANALYST),
            "ActOnContract": MethodRule(_USER, _NEGOTIATORS),
            "ListContracts": MethodRule(_USER, max_request_bytes=_SMALL),
            "GetContract": MethodRule(_USER, max_request_bytes=_SMALL),
            "WatchContract": MethodRule(_USER, seconds=_HOUR, max_request_bytes=_SMALL),
        },
        "luoshu.api.node.compute.v1.ComputeService": {
            "Submit": MethodRule(_USER, _ANALYST, _ANALYST),
            "WatchProgress": MethodRule(
                _USER, _ANALYST, _ANALYST, seconds=_RESULT, max_request_bytes=_SMALL
            ),
            "FetchResult": MethodRule(
                _USER, _ANALYST, _ANALYST, seconds=_RESULT, max_request_bytes=_SMALL
            ),
            "Cancel": MethodRule(_USER, _ANALYST, _ANALYST, max_request_bytes=_SMALL),
            "Explain": MethodRule(_USER, _ANALYST, _ANALYST),
        },
        "luoshu.api.node.log.v1.LogService": {
            "GetCheckpoint": MethodRule(_USER, max_request_bytes=_SMALL),
            "ListEntries": MethodRule(_USER, _LOG_READERS, max_request_bytes=_SMALL),
            "GetEntry": MethodRule(_USER, _LOG_READERS, max_request_bytes=_SMALL),
            "GetInclusionProof": MethodRule(_USER, max_request_bytes=_SMALL),
            "GetConsistencyProof": MethodRule(_USER, max_request_bytes=_SMALL),
        },
    }
)
"""Full method name to rule, for the port that this node's users call."""
