"""A space from nothing by commands alone, and logs verified by them, without a server."""

import json
import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luoshu.cli.main import app
from luoshu.connector.clock import SystemClock
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.membership.node_files import load_node
from luoshu.connector.store.engine import Store
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.log.note import NoteVerifier

pytestmark = pytest.mark.system

LUNG = Path(__file__).parents[2] / "examples/luoshu/examples/lung"
runner = CliRunner()


def luoshu(*arguments, code=0):
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result


def data(*arguments):
    return json.loads(luoshu(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A space with an operator and a holder, both enrolled, and one user."""
    root = tmp_path_factory.mktemp("space")
    made = data("space", "init", root / "s", "--name", "demo", "--endpoint", "127.0.0.1:7400")
    assert made["operator"] == "urn:luoshu:demo:operator"
    for name, port in (("operator", 7400), ("north", 7410)):
        role = "operator" if name == "operator" else "holder"
        request = data(
            *("node", "init", root / name, "--space", "demo", "--name", name, "--role", role),
            *("--endpoint", f"127.0.0.1:{port}", "--user-listen", f"127.0.0.1:{port + 1}"),
            *("--title-zh", "北方"),
        )["request"]
        grant = root / f"{name}.grant"
        approved = data("space", "approve", root / "s", request, "--role", role, "-o", grant)
        assert approved["roles"] == [role]
        enrolled = data("node", "enrol", root / name, grant, "--fingerprint", made["fingerprint"])
        assert enrolled["participant"] == f"urn:luoshu:demo:{name}"
    added = data("user", "add", root / "north", "ada", "--role", "admin", "--out", root / "ada")
    assert added["user"] == "urn:luoshu:demo:north:user:ada"
    return root


def test_the_profile_points_to_the_node(space):
    assert 'address = "127.0.0.1:7411"' in (space / "ada" / "profile.toml").read_text()
    assert "node serve" in luoshu("node", "status", "--profile", space / "ada", code=4).stderr


def test_users(space):
    luoshu("user", "add", space / "north", "bob", "--role", "analyst", "--out", space / "bob")
    assert [user["user"][-3:] for user in data("user", "list", space / "north")] == ["ada", "bob"]
    again = luoshu(
        *("user", "add", space / "north", "bob", "--role", "analyst", "--out", space / "b2"), code=1
    )
    assert "user revoke" in again.stderr
    assert data("user", "revoke", space / "north", "bob") == {"user": "bob", "revoked": True}
    assert [user["user"][-3:] for user in data("user", "list", space / "north")] == ["ada"]


def test_wrong_grants_and_requests(space, tmp_path):
    luoshu("space", "init", space / "s", "--name", "demo", "--endpoint", "h:1", code=1)
    other = luoshu("node", "enrol", space / "operator", space / "north.grant", code=3)
    assert "urn:luoshu:demo:operator" in other.stderr
    (tmp_path / "nonsense").write_text("nonsense")
    bad = luoshu(
        "space", "approve", space / "s", tmp_path / "nonsense", "-o", tmp_path / "g", code=2
    )
    assert "not JSON" in bad.stderr
    missing = luoshu("space", "approve", space / "s", tmp_path / "x", "-o", tmp_path / "g", code=1)
    assert str(tmp_path / "x") in missing.stderr
    luoshu("node", "init", tmp_path, "--space", "demo", "--name", "n", "--role", "king", code=2)
    not_a_node = luoshu("product", "prepare", LUNG / "north.yaml", "--node", tmp_path, code=2)
    assert "node init" in not_a_node.stderr


def test_prepare_a_product(space):
    prepared = data("product", "prepare", LUNG / "north.yaml", "--node", space / "north")
    assert (prepared["product"], prepared["units"]) == ("lung-survival", 77)
    assert "died" in prepared["columns"]


def test_prepare_a_product_that_is_wrong(space, tmp_path):
    text = (LUNG / "north.yaml").read_text()
    (tmp_path / "p.yaml").write_text(text + "colour: red\n")
    result = luoshu("product", "prepare", tmp_path / "p.yaml", "--node", space / "north", code=2)
    assert "colour" in result.stderr


def test_log_verify(space, tmp_path):
    """A node's log holds; one byte of a copy changed, and the command says where it fails."""
    node = tmp_path / "node"
    shutil.copytree(space / "north", node)
    files = load_node(node, now=datetime.now(UTC))
    with Store.open(node / "state" / "luoshu.db") as store:
        ledger = Ledger.open(
            node / "log",
            origin=files.participant_id,
            key=files.log,
            clock=SystemClock(),
            store=store,
            publish_interval=0.0,
        )
        for n in range(5):
            record = partial(
                Transaction.record, kind="decision", data={"n": n}, parties=[files.participant_id]
            )
            ledger.submit(record).result()
        ledger.close()
    report = data("log", "verify", node)
    assert (report["ok"], report["size"]) == (True, 5)
    assert report["checks"]["bodies"] == 5
    # By the trust anchor that came another way, by the credential alone, by the log's key.
    trust = ("--trust", space / "s" / "space.json")
    credential = ("--credential", node / "credentials" / "membership.json")
    assert "All holds." in luoshu("log", "verify", node, *trust).stdout
    assert data("log", "verify", node / "log", *trust, *credential)["ok"]
    vkey = NoteVerifier(files.participant_id, files.log.public).vkey
    assert data("log", "verify", node / "log", "--key", vkey)["ok"]
    stranger = NoteVerifier(files.participant_id, SigningKey.generate(KeyUse.LOG).public).vkey
    luoshu("log", "verify", node / "log", "--key", stranger, code=4)
    journal = node / "log" / "journal"
    content = bytearray(journal.read_bytes())
    content[content.index(b'"n":3') + 4] = ord("4")
    journal.write_bytes(content)
    failed = luoshu("log", "verify", node, code=4).stdout
    assert "FAILS journal, entry 3" in failed
    assert json.loads(luoshu("log", "verify", node, "--json", code=4).stdout)["ok"] is False


# Sandbox: the dry run, as the interface promises it


def run(*arguments, code=0, sql=None):
    extra = () if sql is None else ("--sql", sql)
    return luoshu("sandbox", "run", "--product", LUNG / "north.yaml", *extra, *arguments, code=code)


BY_SEX = "SELECT sex, COUNT(*) AS n FROM lung_survival GROUP BY sex ORDER BY sex"
GROUPS = "SELECT ph_ecog, COUNT(*) AS n FROM lung_survival GROUP BY ph_ecog"


def test_sandbox_run_released():
    answer = json.loads(run("--json", sql=GROUPS).stdout)
    assert {"status", "code", "message", "columns", "rows", "withheld_groups"} <= set(answer)
    assert answer["status"] == "released"
    assert [column["name"] for column in answer["columns"]] == ["ph_ecog", "n"]
    assert all(count >= 10 for _, count in answer["rows"])


def test_sandbox_run_as_analyst_hides_what_was_withheld():
    answer = json.loads(run("--json", "--as", "analyst", sql=GROUPS).stdout)
    assert set(answer) == {"status", "code", "message", "columns", "rows"}


def test_sandbox_run_denied():
    answer = json.loads(run("--json", code=3, sql="SELECT * FROM lung_survival").stdout)
    assert (answer["status"], answer["rows"]) == ("denied", [])
    assert answer["code"].startswith("GUARD_")
    assert "GUARD_" in run(code=3, sql="SELECT * FROM lung_survival").stderr


def test_sandbox_run_a_file_of_statements(tmp_path):
    file = tmp_path / "q.sql"
    file.write_text(f"{GROUPS}\n\nSELECT * FROM lung_survival\n")
    lines = run("--sql-file", file, code=3).stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["released", "denied"]


def test_sandbox_run_reads_standard_input():
    result = runner.invoke(
        app,
        ["sandbox", "run", "--product", str(LUNG / "north.yaml"), "--sql", "-", "--json"],
        input=GROUPS,
    )
    assert json.loads(result.stdout)["status"] == "released"


def test_sandbox_run_wrong_usage(tmp_path):
    (tmp_path / "file").write_text("")
    said = run("--history", tmp_path / "file", code=2, sql=GROUPS).stderr
    assert said.startswith("luoshu: The history directory")
    (tmp_path / "p.yaml").write_text("id: x\ncolour: red\n")
    result = luoshu("sandbox", "run", "--product", tmp_path / "p.yaml", "--sql", GROUPS, code=2)
    assert "colour" in result.stderr
    assert result.stdout == ""


def test_doctor_here():
    result = runner.invoke(app, ["doctor", "--json"])
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["ok"] else 4)
    assert {"check", "ok", "level", "detail", "remedy"} == set(report["findings"][0])
