"""Spaces, nodes and users as files: what is written, and what is not believed."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import stat
import tomllib
from dataclasses import replace

import pytest

from luoshu.connector.config import load_settings
from luoshu.connector.errors import NodeError
from luoshu.connector.membership import secret_files
from luoshu.connector.membership.grant import EnrolmentGrant
from luoshu.connector.membership.node_files import enrol_node, init_node, load_node
from luoshu.connector.membership.pki import certificate_from_pem, certificate_spki
from luoshu.connector.membership.space import approve, approve_request, init_space, load_trust
from luoshu.connector.membership.users import UserDirectory, add_user, list_users, revoke_user
from luoshu.contracts.canonical import canonicalize, parse_object
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.errors import ContractsError, DocumentError
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import EnrolmentRequest, Role, UserRole

NOW = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ENDPOINT = "operator.example:7400"


def make_space(path, name="alliance"):
    return init_space(path, name, operator_name="operator", operator_endpoint=ENDPOINT, now=NOW)


def make_node(path, name="clinic", roles=(Role.HOLDER,), space="alliance", **changes):
    values = {"peer_listen": "127.0.0.1:7410", "jurisdiction": "CN", "now": NOW}
    return init_node(path, space=space, name=name, roles=roles, **{**values, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A space, the operator and a clinic that is enrolled."""
    root = tmp_path_factory.mktemp("made")
    make_space(root / "space")
    operator = make_node(root / "operator", "operator", (Role.OPERATOR,), peer_advertise=ENDPOINT)
    enrol_node(
        root / "operator",
        approve(root / "space", operator.read_bytes(), now=NOW).to_bytes(),
        now=NOW,
    )
    make_node(root / "clinic")
    approve_request(
        root / "space", root / "clinic" / "enrolment-request.json", root / "grant.json", now=NOW
    )
    enrol_node(root / "clinic", (root / "grant.json").read_bytes(), now=NOW)
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "root")


def refusal(run):
    with pytest.raises((NodeError, ContractsError)) as caught:
        run()
    return caught.value


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_private_and_directories_closed(root):
    keys = [*(root / "clinic" / "keys").iterdir(), *(root / "space").glob("*.pem")]
    assert len(keys) == 8
    assert {mode(key) for key in keys} == {0o600}
    assert mode(root / "clinic" / "keys") == 0o700
    assert mode(root / "space") == 0o700


def test_key_that_others_can_read_is_refused(root):
    key = root / "clinic" / "keys" / "events.pem"
    key.chmod(0o640)
    with pytest.raises(secret_files.UnsafeFileError, match="chmod 600"):
        load_node(root / "clinic", now=NOW)


def test_enrolled_node_loads(root):
    node = load_node(root / "clinic", now=NOW)
    assert node.participant_id == "urn:luoshu:alliance:clinic"
    assert node.credential.roles == (Role.HOLDER,)
    assert node.operator is not None
    assert node.status is None
    assert load_node(root / "operator", now=NOW).status is not None


def test_nodes_configuration_is_one_that_loads(root):
    settings = load_settings(root / "clinic", environment={})
    assert settings.node.participant == "urn:luoshu:alliance:clinic"
    assert settings.node.roles == ("holder",)
    assert settings.peer.listen == "127.0.0.1:7410"


def test_node_that_isnt_enrolled_says_how(tmp_path):
    make_node(tmp_path / "n")
    error = refusal(lambda: load_node(tmp_path / "n", now=NOW))
    assert error.reason == "CREDENTIAL_MISSING"
    assert "luoshu node enrol" in error.public


def test_init_never_overwrites(root):
    assert refusal(lambda: make_node(root / "clinic")).reason == "ALREADY_EXISTS"
    assert refusal(lambda: make_space(root / "space")).reason == "ALREADY_EXISTS"


def test_unroutable_endpoint_is_refused(tmp_path):
    error = refusal(lambda: make_node(tmp_path / "n", peer_listen="0.0.0.0:7400"))
    assert error.reason == "CONFIGURATION_INVALID"
    assert not (tmp_path / "n").exists()


def test_grant_for_another_node_is_refused_and_changes_nothing(root):
    make_node(root / "other", "other")
    error = refusal(lambda: enrol_node(root / "other", (root / "grant.json").read_bytes(), now=NOW))
    assert error.reason == "CREDENTIAL_INVALID"
    assert not (root / "other" / "credentials" / "space.json").exists()


def test_grant_for_other_keys_of_the_same_name_is_refused(root):
    make_node(root / "twin")
    error = refusal(lambda: enrol_node(root / "twin", (root / "grant.json").read_bytes(), now=NOW))
    assert error.reason == "CREDENTIAL_INVALID"
    assert "another request" in error.public


def test_expired_grant_is_refused(root):
    error = refusal(
        lambda: enrol_node(root / "clinic", (root / "grant.json").read_bytes(), now=NOW + 400 * DAY)
    )
    assert error.reason == "CREDENTIAL_EXPIRED"


@pytest.mark.parametrize("part", ["credential", "tls_certificate", "space", "operator"])
def test_grant_with_a_part_of_another_space_is_refused(root, tmp_path, part):
    make_space(tmp_path / "space")
    make_node(tmp_path / "o", "operator", (Role.OPERATOR,), peer_advertise=ENDPOINT)
    approve(tmp_path / "space", (tmp_path / "o" / "enrolment-request.json").read_bytes(), now=NOW)
    request = (root / "clinic" / "enrolment-request.json").read_bytes()
    foreign = parse_object(approve(tmp_path / "space", request, now=NOW).to_bytes())
    mixed = parse_object((root / "grant.json").read_bytes())
    mixed[part] = foreign[part]
    before = (root / "clinic" / "credentials" / "membership.json").read_bytes()
    assert refusal(lambda: enrol_node(root / "clinic", canonicalize(mixed), now=NOW)).reason in {
        "CREDENTIAL_INVALID",
        "WRONG_SPACE",
    }
    assert (root / "clinic" / "credentials" / "membership.json").read_bytes() == before


def test_trust_is_pinned_by_the_first_enrolment(root, tmp_path):
    """A whole, consistent grant of a space by the same name, made by somebody else."""
    make_space(tmp_path / "space")
    request = (root / "clinic" / "enrolment-request.json").read_bytes()
    foreign = approve(tmp_path / "space", request, now=NOW).to_bytes()
    error = refusal(lambda: enrol_node(root / "clinic", foreign, now=NOW))
    assert error.reason == "WRONG_SPACE"
    assert "pinned" in error.public


def test_fingerprint_of_the_space_is_compared(root, tmp_path):
    grant = (root / "grant.json").read_bytes()
    trust = load_trust(root / "space")
    assert enrol_node(root / "clinic", grant, now=NOW, expected_space=trust.digest)
    error = refusal(
        lambda: enrol_node(root / "clinic", grant, now=NOW, expected_space="sha256:" + "0" * 64)
    )
    assert error.reason == "WRONG_SPACE"


def test_serials_grow_and_an_older_credential_is_not_taken_back(root):
    old = (root / "grant.json").read_bytes()
    request = (root / "clinic" / "enrolment-request.json").read_bytes()
    renewed = approve(root / "space", request, now=NOW + DAY).to_bytes()
    assert enrol_node(root / "clinic", renewed, now=NOW + DAY).serial == 2
    error = refusal(lambda: enrol_node(root / "clinic", old, now=NOW + DAY))
    assert error.reason == "CREDENTIAL_INVALID"
    assert "newer" in error.public
    issued = {path.name for path in (root / "space" / "issued").glob("clinic-*")}
    assert issued == {"clinic-1.crt", "clinic-1.json", "clinic-2.crt", "clinic-2.json"}


def test_name_that_is_taken_needs_its_owners_signature(root, tmp_path):
    make_node(tmp_path / "thief")
    request = (tmp_path / "thief" / "enrolment-request.json").read_bytes()
    error = refusal(lambda: approve(root / "space", request, now=NOW))
    assert error.reason == "ALREADY_EXISTS"
    granted = approve(root / "space", request, now=NOW, replace=True).to_bytes()
    assert enrol_node(tmp_path / "thief", granted, now=NOW).serial == 2


@pytest.mark.parametrize("use", ["log", "witness"])
def test_key_of_another_member_is_refused(root, tmp_path, use):
    """Possession of these keys isn't proved, so a claim to somebody else's must fail."""
    make_node(tmp_path / "thief", "thief")
    request = Envelope.from_bytes((tmp_path / "thief" / "enrolment-request.json").read_bytes())
    asked = EnrolmentRequest.from_payload(unverified_payload(request))
    theirs = load_node(root / "clinic", now=NOW).credential.keys_for(KeyUse(use))
    keys = (*(key for key in asked.keys if key.use != use), *theirs)
    events = SigningKey.from_pem((tmp_path / "thief/keys/events.pem").read_bytes(), KeyUse.EVENTS)
    forged = replace(asked, keys=keys).sign(events)
    error = refusal(lambda: approve(root / "space", forged.to_bytes(), now=NOW))
    assert error.reason == "ALREADY_EXISTS"
    assert "clinic" in str(error)


def test_tampered_request_is_refused(root):
    request = json.loads((root / "clinic" / "enrolment-request.json").read_bytes())
    signature = request["signatures"][0]["sig"]
    request["signatures"][0]["sig"] = ("A" if signature[0] != "A" else "B") + signature[1:]
    error = refusal(lambda: approve(root / "space", json.dumps(request).encode(), now=NOW))
    assert isinstance(error, ContractsError)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"space": "elsewhere"}, "WRONG_SPACE"),
        ({"roles": (Role.OPERATOR,)}, "ROLE_REQUIRED"),
        ({"peer_listen": None}, "CONFIGURATION_INVALID"),
    ],
)
def test_request_must_fit_the_space(root, tmp_path, changes, reason):
    request = make_node(tmp_path / "n", **{"name": "second", **changes}).read_bytes()
    assert refusal(lambda: approve(root / "space", request, now=NOW)).reason == reason


def test_operator_decides_the_roles(root, tmp_path):
    request = make_node(tmp_path / "n", "second", (Role.HOLDER, Role.AUDITOR)).read_bytes()
    granted = approve(root / "space", request, now=NOW, roles=[Role.HOLDER])
    assert enrol_node(tmp_path / "n", granted.to_bytes(), now=NOW).roles == (Role.HOLDER,)


def test_space_without_its_directory_says_how(tmp_path):
    error = refusal(lambda: load_trust(tmp_path))
    assert "luoshu space init" in error.public


def test_grant_reads_strictly(root):
    value = parse_object((root / "grant.json").read_bytes())
    assert EnrolmentGrant.from_bytes(canonicalize(value)).operator is not None
    with pytest.raises(DocumentError, match="unknown"):
        EnrolmentGrant.from_bytes(canonicalize({**value, "extra": 1}))


def test_profile_holds_what_a_user_needs(root):
    profile = root / "profile"
    credential = add_user(
        root / "clinic", "li", [UserRole.ANALYST], profile, address="127.0.0.1:7401", now=NOW
    )
    assert credential.user_id == "urn:luoshu:alliance:clinic:user:li"
    assert tomllib.loads((profile / "profile.toml").read_text()) == {
        "address": "127.0.0.1:7401",
        "server_name": "clinic.alliance.luoshu.internal",
    }
    assert {path.name for path in profile.iterdir()} == {
        "profile.toml",
        "tls.crt",
        "tls.key",
        "request.key",
        "user.json",
        "space.json",
        "node-ca.crt",
    }
    assert mode(profile / "tls.key") == mode(profile / "request.key") == 0o600
    assert [user.user_id for user in list_users(root / "clinic", now=NOW)] == [credential.user_id]


def test_user_is_enrolled_until_revoked(root):
    node = load_node(root / "clinic", now=NOW)
    add = lambda out: add_user(  # noqa: E731
        root / "clinic", "li", [UserRole.ANALYST], out, address="127.0.0.1:7401", now=NOW
    )
    user = add(root / "first").user_id
    spki = certificate_spki(certificate_from_pem((root / "first" / "tls.crt").read_bytes()))
    users = UserDirectory(root / "clinic" / "users", lambda: node.credential)
    assert users.require_user(user, spki, NOW).credential.user_id == user
    assert refusal(lambda: add(root / "second")).reason == "ALREADY_EXISTS"
    revoke_user(root / "clinic", "li", now=NOW)
    assert refusal(lambda: users.require_user(user, spki, NOW)).reason == "CREDENTIAL_REVOKED"
    assert refusal(lambda: revoke_user(root / "clinic", "li", now=NOW)).reason == "NOT_FOUND"
    add(root / "second")
    assert refusal(lambda: users.require_user(user, spki, NOW)).reason == "CREDENTIAL_REVOKED"
    assert list((root / "clinic" / "users" / "revoked").glob("li-*.json"))


@pytest.mark.parametrize(
    "user",
    [
        "urn:luoshu:alliance:operator:user:li",
        "urn:luoshu:alliance:clinic",
        "urn:luoshu:alliance:clinic:user:../../keys/x",
        "",
    ],
)
def test_user_directory_believes_no_strange_names(root, user):
    node = load_node(root / "clinic", now=NOW)
    users = UserDirectory(root / "clinic" / "users", lambda: node.credential)
    assert refusal(lambda: users.require_user(user, b"", NOW)).reason == "CREDENTIAL_INVALID"


def test_credential_of_another_user_in_the_file_is_refused(root):
    node = load_node(root / "clinic", now=NOW)
    for name in ("li", "wang"):
        add_user(
            root / "clinic", name, [UserRole.ADMIN], root / name, address="127.0.0.1:1", now=NOW
        )
    shutil.copy(root / "clinic" / "users" / "li.json", root / "clinic" / "users" / "wang.json")
    users = UserDirectory(root / "clinic" / "users", lambda: node.credential)
    user = "urn:luoshu:alliance:clinic:user:wang"
    assert refusal(lambda: users.require_user(user, None, NOW)).reason == "CREDENTIAL_INVALID"


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    secret_files.write_atomically(path, b"old", mode=secret_files.PUBLIC)

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(secret_files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        secret_files.write_atomically(path, b"new", mode=secret_files.PUBLIC)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
