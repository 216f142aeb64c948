"""Commands against a node, by the real parser: exit codes, JSON shapes, files."""

import csv
import io
import json
from dataclasses import replace

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from luoshu.cli.main import app
from luoshu.connector.errors import NodeError
from luoshu.contracts.contract import EventType, OfferBody, ReasonBody
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.templates import QueryTemplate

pytestmark = pytest.mark.system

SQL = "SELECT sex, COUNT(*) AS n FROM lung_survival GROUP BY sex"
runner = CliRunner()


@pytest.fixture
def luoshu(simulator, monkeypatch):
    monkeypatch.setenv("LUOSHU_PROFILE", str(simulator.profile))

    def run(*arguments, code=0):
        result = runner.invoke(app, list(arguments))
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result

    return run


def data(result):
    [line] = result.stdout.splitlines()
    return json.loads(line)


@pytest.fixture
def contract(simulator, luoshu):
    return data(luoshu("contract", "request", simulator.entry.id, "--json"))["id"]


def test_catalog(simulator, luoshu):
    [product] = data(luoshu("catalog", "search", "肺癌", "--limit", "1", "--json"))
    assert (product["id"], product["verified"]) == (simulator.entry.id, True)
    assert product["offers"][0]["id"] == "research"
    assert "肺癌生存数据" in luoshu("catalog", "search", "Lung").stdout
    shown = luoshu("catalog", "show", simulator.entry.id).stdout
    assert "at least 10 units" in shown
    assert "medical-research" in shown
    missing = luoshu("catalog", "show", f"{simulator.holder.id}:product:none", code=1)
    assert "catalog search" in missing.stderr


def test_negotiation(simulator, luoshu):
    made = data(
        luoshu(
            *("contract", "request", simulator.entry.id, "--purpose", "medical-research"),
            *("--uses", "5", "--until", "2030-12-31", "--json"),
        )
    )
    assert (made["state"], made["uses"]) == ("ACTIVE", 0)
    assert {"position", "state_hash", "provider", "consumer", "offer", "terms"} < set(made)
    [listed] = data(luoshu("contract", "list", "--json"))
    assert (listed["id"], listed["state"]) == (made["id"], "ACTIVE")
    assert data(luoshu("contract", "show", made["id"], "--json")) == made
    assert "count" in luoshu("contract", "show", made["id"]).stdout
    revoked = data(luoshu("contract", "revoke", made["id"], "--reason", "misuse", "--json"))
    assert (revoked["state"], revoked["reason"]) == ("REVOKED", "misuse")


def test_holder_sees_the_debits(simulator, luoshu, contract):
    shown = ("contract", "show", contract, "--json")
    assert "debits" not in data(luoshu(*shown)), "the analyst's side isn't told"
    simulator.debits = 3
    assert data(luoshu(*shown))["debits"] == 3
    simulator.debits = 0
    assert data(luoshu(*shown))["debits"] == 0
    assert "debits" in luoshu("contract", "show", contract).stdout


def test_a_refused_request_exits_as_denied(simulator, luoshu):
    simulator.answer = lambda contract: contract.add(
        EventType.TERMINATE, ReasonBody("purpose not allowed"), simulator.holder
    )
    result = luoshu("contract", "request", simulator.entry.id, code=3)
    assert "purpose not allowed" in result.stdout
    assert "Ask again" in result.stderr


def test_query_prints_the_verified_result(simulator, luoshu, contract):
    answer = data(luoshu("query", contract, "--sql", SQL, "--json"))
    assert answer["status"] == "released"
    assert [column["name"] for column in answer["columns"]] == ["sex", "n"]
    assert answer["rows"] == [["f", 90], ["m", 138]]
    assert answer["receipt"]["verified"] is True
    assert answer["receipt"]["log"] == simulator.holder.id
    table = luoshu("query", contract, "--sql", SQL)
    assert table.stdout.splitlines() == ["sex  n", "f    90", "m    138"]
    assert "Receipt verified" in table.stderr
    printed = luoshu("query", contract, "--sql", SQL, "--csv").stdout
    assert list(csv.reader(io.StringIO(printed))) == [["sex", "n"], ["f", "90"], ["m", "138"]]


def test_query_explains_what_it_would_cost(simulator, luoshu, contract):
    asked = ("query", contract, "--sql", SQL, "--explain")
    assert "without noise" in luoshu(*asked).stderr
    simulator.explanation = {
        "mode": "dp",
        "uses_left": 4,
        "privacy": {
            "domain": "patient",
            "cost": {"rho": "0.0241", "delta": "0.0000001"},
            "affords": 3,
            "budgets": [
                {
                    "limit": {"epsilon": "5", "delta": "0.00001"},
                    "remaining": {"rho": "0.1", "delta": "0.0000009"},
                }
            ],
            "quota": None,
            "noise": [{"query": 0, "what": "rows", "deviation": "4.55208", "threshold": "24.67"}],
        },
    }
    told = luoshu(*asked)
    assert "It costs rho 0.0241, delta 0.0000001; 3 like it can be paid for." in told.stderr
    assert "budget of epsilon 5, delta 0.00001 has rho 0.1, delta 0.0000009 left" in told.stderr
    assert told.stdout.splitlines()[1].split() == ["rows", "4.552", "25"]
    assert data(luoshu(*asked, "--json")) == simulator.explanation
    assert simulator.submitted == []


def test_query_writes_arrow_and_a_receipt_that_verifies(simulator, luoshu, contract, tmp_path):
    arrow, receipt = tmp_path / "r.arrow", tmp_path / "r.json"
    sql = tmp_path / "q.sql"
    sql.write_text(SQL)
    result = luoshu(
        *("query", contract, "--sql-file", str(sql)),
        *("--arrow", str(arrow), "--receipt", str(receipt)),
    )
    assert result.stdout == ""
    assert pa.ipc.open_stream(arrow.read_bytes()).read_all().num_rows == 2
    simulator.close()
    verify = ("evidence", "verify", str(receipt), "--trust", str(simulator.profile))
    checked = data(luoshu(*verify, "--result", str(arrow), "--json"))
    assert checked["verified"] is True
    assert checked["result_checked"] is True
    assert "result_checked" in luoshu(*verify).stdout
    arrow.write_bytes(arrow.read_bytes() + b"x")
    assert "not those" in luoshu(*verify, "--result", str(arrow), code=4).stderr
    receipt.write_text("{}")
    assert "receipt file" in luoshu(*verify, code=4).stderr


TEMPLATE = QueryTemplate.from_payload(
    {
        "name": "by-year",
        "sql": "SELECT count(*) FROM lung_survival WHERE year = $year",
        "parameters": {"year": {"type": "integer", "range": [2000, 2025]}},
    }
)


def restricted(simulator, luoshu):
    """A contract that allows one template."""
    offered = replace(simulator.entry.offers[0].terms, templates=(TEMPLATE,))
    simulator.answer = lambda contract: contract.add(
        EventType.OFFER, OfferBody(offered), simulator.holder
    )
    contract = data(luoshu("contract", "request", simulator.entry.id, "--json"))["id"]
    luoshu("contract", "accept", contract)
    return contract


def test_template_is_asked_for_with_values(simulator, luoshu):
    contract = restricted(simulator, luoshu)
    assert "by-year" in luoshu("contract", "show", contract).stdout
    asked = ("query", contract, "--template", "by-year", "--set")
    assert data(luoshu(*asked, "year=2020", "--json"))["rows"] == [["f", 90], ["m", 138]]
    assert simulator.submitted == [None]
    (envelope,) = simulator.requests.values()
    assert unverified_payload(envelope)["template"] == {
        "name": "by-year",
        "parameters": {"year": 2020},
    }
    wrong = luoshu(*asked, "year=1999", code=2)
    assert "must be from 2000 to 2025" in wrong.stderr
    assert "by-year" in luoshu("query", contract, "--template", "other", code=2).stderr
    assert len(simulator.submitted) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "year=2020"),
        ("--sql", SQL, "--set", "year=2020"),
        ("--template", "by-year", "--sql", SQL),
        ("--template", "by-year", "--set", "year"),
        ("--template", "by-year", "--set", "year=2020", "--set", "year=2021"),
    ],
)
def test_template_and_sql_are_not_mixed(luoshu, arguments):
    luoshu("query", "urn:uuid:5f0e7f5e-3f0c-4a5e-8f55-7b4f0c9f2a11", *arguments, code=2)


def test_release_rules_are_asked_for_by_name(simulator, luoshu):
    rules = ("--release", "scope=product", "--release", "dominance=0.5", "--release", "debits=8")
    made = data(luoshu("contract", "request", simulator.entry.id, *rules, "--json"))
    assert made["terms"]["release"] == {
        **{"mode": "aggregate", "min_units": 10, "scope": "product"},
        **{"dominance_ppm": 500_000, "debits": 8},
    }
    assert "debits" not in made, "the analyst's side isn't told"
    request = ("contract", "request", simulator.entry.id, "--release")
    assert "release rule" in luoshu(*request, "noise=1", code=2).stderr
    assert "key=value" in luoshu(*request, "scope", code=2).stderr


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("POLICY_DENIED", 3),
        ("TEMPLATE_REQUIRED", 3),
        ("TEMPLATE_DENIED", 3),
        ("HISTORY_CORRUPT", 4),
        ("GUARD_RAW_ROWS", 3),
        ("USES_EXHAUSTED", 3),
        ("CONTRACT_NOT_ACTIVE", 3),
        ("QUERY_INVALID", 2),
        ("QUERY_FAILED", 4),
        ("LOG_UNAVAILABLE", 4),
        ("NOT_FOUND", 1),
    ],
)
def test_a_refused_query(simulator, luoshu, contract, reason, code):
    simulator.tampering.refuse["Submit"] = NodeError(reason, metadata={"rule": "purpose"})
    result = luoshu("query", contract, "--sql", SQL, code=code)
    assert result.stdout == ""
    assert result.stderr == f"luoshu: {NodeError(reason).public}\n"


def test_a_forged_result_prints_nothing(simulator, luoshu, contract, tmp_path):
    simulator.tampering.result = lambda data: data + b"x"
    receipt = tmp_path / "r.json"
    result = luoshu("query", contract, "--sql", SQL, "--receipt", str(receipt), code=4)
    assert result.stdout == ""
    assert "Don't use the result" in result.stderr
    assert not receipt.exists()


def test_a_node_that_is_down(simulator, luoshu):
    simulator.close()
    result = luoshu("catalog", "search", "x", code=4)
    assert "luoshu node serve" in result.stderr
    assert "Traceback" not in result.stderr


def test_products(simulator, luoshu, tmp_path):
    offers = tmp_path / "offers.yaml"
    offers.write_text(
        "- {id: research, purposes: [care], uses: 5, not_after: 2030-12-31, min_units: 10,\n"
        "   limits: {max_uses: 9}, answer: manual}\n"
    )
    published = data(
        luoshu("product", "publish", "lung-survival", "--offers", str(offers), "--json")
    )
    assert published == {"product_id": simulator.entry.id, "version": 2, "log_index": 7}
    [(_, document)] = simulator.published
    [offer] = document["offers"]
    assert offer["answer"] == "manual"
    assert "2030-12-31T23:59:59Z" in json.dumps(offer["terms"])
    [product] = data(luoshu("product", "list", "--json"))
    assert product["state"] == "published"
    assert data(luoshu("product", "withdraw", simulator.entry.id, "--json"))["log_index"] == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {id: x}", "min_units"),
        ("- {id: x, min_units: 10, color: red}", "unknown field"),
        ("- {id: x, min_units: 10, uses: 0}", "uses"),
        ("- {id: x, min_units: 10, not_after: soon}", "soon"),
        ("- {id: x, min_units: 10, terms: {}}", "not both"),
        ("[]", "at least one offer"),
        ("{", "neither YAML nor JSON"),
        ("- {id: x, min_units: 1.5}", "float"),
    ],
)
def test_offers_that_are_wrong(simulator, luoshu, tmp_path, text, words):
    offers = tmp_path / "offers.yaml"
    offers.write_text(text)
    result = luoshu("product", "publish", "p", "--offers", str(offers), code=2)
    assert words in result.stderr
    assert simulator.published == []


def test_the_log(simulator, luoshu):
    checkpoint = data(luoshu("log", "checkpoint", "--json"))
    assert (checkpoint["origin"], checkpoint["size"]) == (simulator.analyst.id, 3)
    assert luoshu("log", "checkpoint").stdout == checkpoint["checkpoint"]
    entries = data(luoshu("log", "entries", "--kind", "catalog", "--json"))
    assert [entry["index"] for entry in entries] == [1]
    assert data(luoshu("log", "show", "1", "--json"))["body"]["kind"] == "catalog"
    assert "catalog" in luoshu("log", "show", "1").stdout


def test_membership(simulator, luoshu):
    members = data(luoshu("space", "members", "--json"))
    assert {member["participant"] for member in members} == {
        simulator.holder.id,
        simulator.analyst.id,
    }
    assert data(luoshu("node", "status", "--json"))["log_size"] == 3
    revoke = ("space", "revoke", simulator.holder.id, "--reason", "left")
    assert data(luoshu(*revoke, "--json"))["status_list_version"] == 3
    simulator.tampering.refuse["RevokeMember"] = NodeError("ROLE_REQUIRED")
    assert "role" in luoshu(*revoke, code=3).stderr


def test_the_profile_flag_wins_over_the_environment(simulator, luoshu, monkeypatch, tmp_path):
    monkeypatch.setenv("LUOSHU_PROFILE", str(tmp_path / "nowhere"))
    assert "no profile directory" in luoshu("node", "status", code=2).stderr
    luoshu("node", "status", "--profile", str(simulator.profile))
