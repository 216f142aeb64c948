"""The table of who may call what covers exactly what the protos define."""

from __future__ import annotations

import importlib
from pathlib import Path

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import luoshu.api.node
import luoshu.api.peer
from luoshu.connector.rpc.authorization import PEER_RULES, USER_RULES, Admission
from luoshu.contracts.membership import Role, UserRole

INFRASTRUCTURE = (health_pb2, reflection_pb2)


def methods_of(modules):
    return {
        f"/{service.full_name}/{method.name}": method
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def generated(package):
    names = []
    for folder in package.__path__:
        for path in sorted(Path(folder).rglob("*_pb2.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            names.append(".".join((package.__name__, *inside)))
    assert names
    return [importlib.import_module(name) for name in names]


def test_peer_table_is_exactly_the_peer_api():
    assert set(PEER_RULES) == set(methods_of([*generated(luoshu.api.peer), *INFRASTRUCTURE]))


def test_user_table_is_exactly_the_node_api():
    assert set(USER_RULES) == set(methods_of([*generated(luoshu.api.node), *INFRASTRUCTURE]))


def test_admissions_fit_the_port():
    peer = {method: rule.admission for method, rule in PEER_RULES.items()}
    user = {method: rule.admission for method, rule in USER_RULES.items()}
    assert Admission.USER not in peer.values()
    assert Admission.MEMBER not in user.values()
    without_credential = {m for m, a in (peer | user).items() if a is Admission.CERTIFICATE}
    assert {m for m in without_credential if m.startswith("/luoshu.")} == {
        "/luoshu.api.peer.membership.v1.MembershipService/Introduce"
    }


def test_roles_are_roles():
    node_roles = {role.value for role in Role}
    for rules, caller_roles in (
        (PEER_RULES, node_roles),
        (USER_RULES, {role.value for role in UserRole}),
    ):
        for method, rule in rules.items():
            assert rule.roles <= caller_roles, method
            assert rule.served_by <= node_roles, method


def test_only_streams_may_be_open_for_long():
    messages = methods_of(
        [*generated(luoshu.api.peer), *generated(luoshu.api.node), *INFRASTRUCTURE]
    )
    for method, rule in {**PEER_RULES, **USER_RULES}.items():
        if not messages[method].server_streaming:
            assert rule.seconds <= 60, method
