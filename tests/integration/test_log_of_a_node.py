"""Verifying a node directory takes the log's keys from its membership credential."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from contract_world import ANALYST, AUTHORITY, HOLDER, Member, key, trust
from log_world import open_ledger, recording

from luoshu.contracts.keys import KeyUse
from luoshu.contracts.log.verify import LogKeys, verify_log_directory


@pytest.fixture
def node(tmp_path: Path) -> Path:
    root = tmp_path / "north"
    with open_ledger(root, origin=HOLDER.id, key=HOLDER.key(KeyUse.LOG)) as ledger:
        for n in range(4):
            ledger.submit(recording(n)).result()
    credentials = root / "credentials"
    credentials.mkdir()
    (credentials / "space.json").write_bytes(trust().to_bytes())
    enrol(root, HOLDER)
    return root


def enrol(root: Path, member: Member, authority=AUTHORITY) -> None:
    envelope = member.credential().sign(authority)
    (root / "credentials" / "membership.json").write_bytes(envelope.to_bytes())


@pytest.mark.parametrize("part", ["", "log"])
def test_credential_beside_the_log(node: Path, part: str) -> None:
    report = verify_log_directory(node / part)
    assert report.ok, report.problems
    assert report.origin == HOLDER.id
    assert report.key_source is not None
    assert "membership credential" in report.key_source
    assert report.checks == {"signatures": 1, "bundles": 1, "tiles": 1, "entries": 4, "bodies": 4}
    assert report.to_payload()["ok"] is True


def test_credential_of_another_member(node: Path) -> None:
    enrol(node, ANALYST)
    report = verify_log_directory(node)
    assert [problem.file for problem in report.problems] == ["checkpoint"]


def test_credential_by_another_authority(node: Path) -> None:
    enrol(node, HOLDER, key("stranger", KeyUse.AUTHORITY))
    report = verify_log_directory(node)
    assert not report.ok
    assert report.problems[0].file == "credentials/membership.json"
    assert report.key_source is None


def test_spoilt_credential(node: Path) -> None:
    (node / "credentials" / "membership.json").write_bytes(b"{")
    assert not verify_log_directory(node).ok


def test_trust_of_the_verifier_s_own(node: Path) -> None:
    envelope = HOLDER.credential().sign(AUTHORITY)
    keys = LogKeys.of_credential(trust(), envelope, "our own copy")
    for path in (node / "credentials").iterdir():
        path.unlink()
    assert not verify_log_directory(node).ok
    report = verify_log_directory(node, keys)
    assert report.ok
    assert report.key_source == "our own copy"


def test_what_is_published_tells_nothing_of_the_entries(node: Path) -> None:
    """`log/public` can be served as it is: commitments, hashes and a signed note."""
    entries = [json.loads(line) for line in (node / "log" / "journal").read_bytes().splitlines()]
    secrets = {each["salt"].encode() for line in entries for each in line["entries"]}
    secrets |= {b'"body"', b'"salt"', b'"data"', b"contract_id"}
    published = [p.read_bytes() for p in (node / "log" / "public").rglob("*") if p.is_file()]
    assert len(published) >= 3
    assert not any(secret in content for secret in secrets for content in published)
    assert verify_log_directory(
        node / "log" / "public", LogKeys(HOLDER.id, (HOLDER.key(KeyUse.LOG).public,), "told")
    ).ok
