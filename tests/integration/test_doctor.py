"""The doctor on real node directories: what is missing is found, with a remedy."""

import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from luoshu.connector.compute.history import domain_directory
from luoshu.connector.doctor import Finding, Level, examine
from luoshu.connector.journal.journal import Journal
from luoshu.connector.membership.node_files import enrol_node, init_node
from luoshu.connector.membership.space import approve, init_space
from luoshu.connector.store.engine import Store
from luoshu.contracts.canonical import digest
from luoshu.contracts.log.entry import Entry, EntryBody
from luoshu.contracts.log.journal_line import JOURNAL_NAME, JournalEntry, encode_line
from luoshu.contracts.membership import Role
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig

pytestmark = pytest.mark.system

NOW = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
NODE_CHECKS = [
    *("configuration", "key-files", "credential", "ports", "disk", "database", "log", "history"),
]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    space, directory = tmp_path / "space", tmp_path / "lab"
    init_space(
        space, "alliance", operator_name="operator", operator_endpoint="127.0.0.1:7400", now=NOW
    )
    request = init_node(
        directory,
        space="alliance",
        name="lab",
        roles=[Role.ANALYST],
        jurisdiction="CN",
        user_listen="127.0.0.1:0",
        now=NOW,
    )
    grant = approve(space, request.read_bytes(), now=NOW)
    enrol_node(directory, grant.to_bytes(), now=NOW)
    return directory


def found(node: Path, check: str, now: datetime = NOW) -> list[Finding]:
    return examine(node, now=now, only={check})


def the(node: Path, check: str, now: datetime = NOW) -> Finding:
    (finding,) = found(node, check, now)
    assert finding.level is Level.OK or finding.remedy, finding
    return finding


def append(node: Path, time: datetime) -> None:
    journal = node / "log" / JOURNAL_NAME
    journal.parent.mkdir(exist_ok=True)
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    entry = Entry(len(lines), EntryBody("decision", time, (), None, {}), bytes(32))
    with journal.open("ab") as file:
        file.write(encode_line([JournalEntry.of(entry)]))


def test_a_sound_node_is_found_sound(node: Path) -> None:
    Store.open(node / "state" / "luoshu.db").close()
    append(node, NOW)
    findings = examine(node, now=NOW)
    assert [finding.check for finding in findings if finding.check in NODE_CHECKS] == NODE_CHECKS
    machine = {"isolation"}  # is judged by its own test: it depends on the machine
    assert [f for f in findings if f.level is not Level.OK and f.check not in machine] == []


def test_the_machine_alone_can_be_examined() -> None:
    findings = examine()
    assert {finding.check for finding in findings} == {
        "python",
        "packages",
        "policy",
        "isolation",
        "clock",
    }


def test_the_isolation_is_what_the_sandbox_says() -> None:
    with closing(BwrapIsolation(IsolationConfig())) as isolation:
        possible = isolation.check() == []
        measurement = isolation.measurement if possible else ""
        limit = isolation.memory_limit
    findings = examine(only={"isolation"})
    assert measurement in findings[0].detail
    assert not possible or f"memory is limited by {limit};" in findings[0].detail
    assert all(finding.ok for finding in findings) is possible
    assert all(finding.ok or finding.remedy for finding in findings)


def test_the_isolation_is_the_one_that_the_node_uses(
    node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUOSHU_SANDBOX__ISOLATION", "docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    finding = the(node, "isolation")
    assert finding.level is Level.MISSING
    assert "DOCKER_ABSENT" in finding.detail
    assert "apt-get install docker.io" in finding.remedy


def test_a_directory_that_isnt_there(tmp_path: Path) -> None:
    assert "luoshu node init" in the(tmp_path / "none", "directory").remedy


def test_a_configuration_that_doesnt_parse_hides_nothing_else(node: Path) -> None:
    with (node / "node.toml").open("a") as file:
        file.write("\n[sandbx]\nthreads = 1\n")
    finding = the(node, "configuration")
    assert finding.level is Level.MISSING
    assert "sandbx" in finding.detail
    assert the(node, "key-files").ok
    assert found(node, "ports") == []


def test_a_key_that_others_may_open(node: Path) -> None:
    (node / "keys" / "log.pem").chmod(0o640)
    finding = the(node, "key-files")
    assert finding.level is Level.MISSING
    assert "log.pem" in finding.detail
    assert "chmod 600" in finding.remedy
    assert the(node, "credential").level is Level.MISSING


def test_no_keys(tmp_path: Path) -> None:
    tmp_path.joinpath("keys").mkdir()
    assert the(tmp_path, "key-files").level is Level.MISSING


def test_a_node_that_isnt_enrolled(node: Path) -> None:
    (node / "credentials" / "membership.json").unlink()
    finding = the(node, "credential")
    assert finding.level is Level.MISSING
    assert "not enrolled" in finding.detail


@pytest.mark.parametrize(
    ("days", "level"), [(1, Level.OK), (350, Level.WARN), (4000, Level.MISSING)]
)
def test_a_credential_that_ends(node: Path, days: int, level: Level) -> None:
    finding = the(node, "credential", NOW + timedelta(days=days))
    assert finding.level is level
    assert level is Level.OK or "luoshu node enrol" in finding.remedy


def test_a_port_in_use(node: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = (node / "node.toml").read_text()
        (node / "node.toml").write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        finding = the(node, "ports")
    assert finding.level is Level.MISSING
    assert f"127.0.0.1:{port}" in finding.detail
    assert "user.listen" in finding.remedy
    assert the(node, "ports").ok


def test_the_ports_of_a_running_node_are_its_own(node: Path) -> None:
    journal = Journal.open(node / "log")
    try:
        assert the(node, "ports").detail == "the node is running, so it has its ports"
        assert "in use by the running node" in the(node, "log").detail
    finally:
        journal.close()
    assert "free" in the(node, "ports").detail


def test_a_newer_schema(node: Path) -> None:
    path = node / "state" / "luoshu.db"
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'log_9999' WHERE rowid = 1")
    finding = the(node, "database")
    assert finding.level is Level.MISSING
    assert "log_9999" in finding.detail
    assert "backup" in finding.remedy


def test_a_database_in_use_can_be_examined(node: Path) -> None:
    store = Store.open(node / "state" / "luoshu.db")
    try:
        assert the(node, "database").detail == "the schema is the newest"
    finally:
        store.close()


def test_a_database_that_is_none(node: Path) -> None:
    (node / "state").mkdir(exist_ok=True)
    (node / "state" / "luoshu.db").write_bytes(b"not a database" * 100)
    assert the(node, "database").level is Level.MISSING


def test_a_clock_behind_the_log(node: Path) -> None:
    append(node, NOW)
    append(node, NOW + timedelta(seconds=90))
    finding = the(node, "log")
    assert finding.level is Level.MISSING
    assert "90 s" in finding.detail
    assert the(node, "log", NOW + timedelta(seconds=90)).ok


def test_a_torn_line(node: Path) -> None:
    append(node, NOW)
    with (node / "log" / JOURNAL_NAME).open("ab") as file:
        file.write(b'{"entries":[{"bo')
    assert the(node, "log").level is Level.WARN


def test_a_release_history_that_is_not_what_the_log_says(node: Path) -> None:
    assert "nothing was released" in the(node, "history").detail
    Store.open(node / "state" / "luoshu.db").close()
    assert "nothing was released" in the(node, "history").detail
    home = domain_directory(node / "history", "patient_id")
    home.mkdir(parents=True)
    names = [f"0000000{number}.hist" for number in range(5)]
    with closing(sqlite3.connect(node / "state" / "luoshu.db")) as database, database:
        for name in names:
            (home / name).write_bytes(name.encode())
            row = ("patient_id", name, digest(name.encode()), 1)
            database.execute("INSERT INTO compute_history VALUES (?, ?, ?, ?)", row)
    assert the(node, "history").detail == "5 files of 1 MB, as the log says"
    (home / names[0]).unlink()
    (home / names[1]).write_bytes(b"")
    finding = the(node, "history")
    assert finding.level is Level.MISSING
    assert f"{names[0]}: No such file" in finding.detail
    assert f"{names[1]} was altered" in finding.detail
    assert "backup" in finding.remedy
    for name in names:
        (home / name).unlink(missing_ok=True)
    assert "and 2 more" in the(node, "history").detail


def test_a_clock_in_the_past() -> None:
    (clock,) = examine(now=datetime(1980, 1, 1, tzinfo=UTC), only={"clock"})
    assert clock.level is Level.MISSING
    assert "timedatectl" in clock.remedy


def test_the_doctor_changes_nothing(node: Path) -> None:
    Store.open(node / "state" / "luoshu.db").close()
    append(node, NOW)

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in node.rglob("*") if path.is_file()}

    before = contents()
    examine(node, now=NOW)
    assert contents() == before
