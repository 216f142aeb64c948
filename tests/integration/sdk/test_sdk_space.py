"""The SDK against a node that tells the truth: find, agree, compute, prove."""

import datetime as dt
import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pyarrow as pa
import pytest

from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.contracts.contract import EventType, ReasonBody
from luoshu.contracts.terms import simple_terms
from luoshu.sdk import (
    ContractStateError,
    DeadlineError,
    DeniedError,
    GuardRefusedError,
    InvalidRequestError,
    LuoshuError,
    MissingDependencyError,
    NotFoundError,
    PolicyDeniedError,
    ProfileError,
    UnavailableError,
    VerificationError,
    connect,
    load_profile,
    verify_receipt_file,
)
from luoshu.sdk.rpc.channel import open_channel
from luoshu.sdk.rpc.client import NodeClient
from luoshu.sdk.space import explain


def utc_now():
    return dt.datetime.now(dt.UTC)


SQL = "SELECT sex, COUNT(*) AS n FROM lung_survival GROUP BY sex"


def test_the_main_job(simulator, tmp_path):
    with connect(simulator.profile) as space:
        assert (space.name, space.user_id) == ("alliance", simulator.user.user_id)
        [product] = space.search("肺癌", limit=1)
        contract = space.negotiate(product, purpose="medical-research", uses=5)
        assert contract.state == "ACTIVE"
        assert contract.terms.uses == 5
        assert contract.state_hash == simulator.contracts[contract.id].state.state_hash
        phases: list[str] = []
        result = contract.query(SQL, on_phase=phases.append)
    assert phases == ["checking", "computing", "releasing", "ended"]
    assert isinstance(result.table, pa.Table)
    assert result.rows() == [["f", 90], ["m", 138]]
    assert list(result.to_pandas()["n"]) == [90, 138]
    assert simulator.submitted == [SQL]
    assert result.receipt.origin == simulator.holder.id
    result.receipt.save(tmp_path / "receipt.json")
    (tmp_path / "result.arrow").write_bytes(result.arrow_ipc)
    verified = verify_receipt_file(
        tmp_path / "receipt.json", simulator.profile, result=tmp_path / "result.arrow"
    )
    assert verified.result_checked
    assert verified.request.sql == SQL


def test_search_follows_pages_and_stops_at_the_limit(simulator):
    with connect(simulator.profile) as space:
        assert len(list(space.search("Lung"))) == 3
        assert len(list(space.search("Lung", limit=2))) == 2
        assert list(space.search("weather")) == []


def test_what_is_not_named_comes_from_the_offer(simulator):
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        assert contract.terms == simulator.entry.offers[0].terms
        other = space.negotiate(
            simulator.entry.id,
            "research",
            not_after=dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
            min_units=20,
        )
    assert other.terms.uses == 20
    assert other.terms.purposes == frozenset({"medical-research"})
    assert other.terms.release.min_units == 20
    assert other.terms.not_after == dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def test_a_counter_offer_is_accepted(simulator, offer_body):
    fewer = simple_terms(purposes=("medical-research",), uses=3, min_units=10)
    simulator.answer = lambda contract: contract.add(
        EventType.OFFER, offer_body(fewer), simulator.holder
    )
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id, uses=100)
        assert (contract.state, contract.terms.uses) == ("OFFERED", 3)
        contract.accept()
    assert (contract.state, contract.terms.uses) == ("ACTIVE", 3)


def test_a_counter_offer_is_countered(simulator, offer_body):
    fewer = simple_terms(purposes=("medical-research",), uses=3, min_units=10)
    simulator.answer = lambda contract: contract.add(
        EventType.OFFER, offer_body(fewer), simulator.holder
    )
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id, uses=100)
        contract.counter(uses=6)
        assert (contract.state, contract.terms.uses) == ("REQUESTED", 6)
        with pytest.raises(InvalidRequestError, match="Name the terms"):
            contract.counter()


def test_a_refusal_says_why(simulator):
    simulator.answer = lambda contract: contract.add(
        EventType.TERMINATE, ReasonBody("purpose not allowed"), simulator.holder
    )
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
    assert (contract.state, contract.reason) == ("TERMINATED", "purpose not allowed")


def test_an_answer_by_hand_is_waited_for(simulator):
    simulator.answer = lambda contract: None
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id, wait=0)
        assert contract.state == "REQUESTED"
        with pytest.raises(DeadlineError, match="hasn't answered"):
            contract.wait(0)
        simulator.watching.clear()

        def approve():
            simulator.watching.wait(10)
            simulator.contracts[contract.id].agree()

        thread = threading.Thread(target=approve)
        thread.start()
        assert contract.wait(30).state == "ACTIVE"
        thread.join()


def test_steps_of_both_sides(simulator):
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        assert contract.suspend("audit").state == "SUSPENDED"
        assert contract.resume("done").state == "ACTIVE"
        assert contract.revoke("misuse").state == "REVOKED"
        assert contract.reason == "misuse"
        [summary] = space.contracts()
        assert summary.state_hash == contract.state_hash
        ended = space.negotiate(simulator.entry.id)
        assert ended.end("no longer needed").state == "ENDED"


def test_holder_and_operator_verbs(simulator):
    with connect(simulator.profile) as space:
        published = space.publish("lung-survival", [{"id": "research", "min_units": 10}])
        assert (published.version, published.log_index) == (2, 7)
        [(product, document)] = simulator.published
        assert product == "lung-survival"
        assert [offer["id"] for offer in document["offers"]] == ["research"]
        assert space.withdraw(simulator.entry.id) == 8
        assert [p.state for p in space.local_products()] == ["published"]
        assert {m.participant_id for m in space.members()} == {
            simulator.holder.id,
            simulator.analyst.id,
        }
        assert space.revoke_member(simulator.holder.id, "left") == 3


def test_the_own_log(simulator):
    with connect(simulator.profile) as space:
        assert space.log.checkpoint().size == 3
        assert [e.index for e in space.log.entries()] == [2, 1, 0]
        assert [e.kind for e in space.log.entries(limit=1)] == ["contract"]
        assert [e.index for e in space.log.entries(kind="catalog")] == [1]
        assert space.log.receipt(1).body.kind == "catalog"


@pytest.mark.parametrize(
    ("reason", "kind", "metadata"),
    [
        ("POLICY_DENIED", PolicyDeniedError, {"decision": "17", "rule": "purpose"}),
        ("GUARD_RAW_ROWS", GuardRefusedError, {}),
        ("CONTRACT_NOT_ACTIVE", ContractStateError, {}),
        ("ROLE_REQUIRED", DeniedError, {}),
        ("QUERY_INVALID", InvalidRequestError, {}),
        ("LOG_UNAVAILABLE", UnavailableError, {}),
    ],
)
def test_a_refusal_keeps_reason_words_and_decision(simulator, reason, kind, metadata):
    simulator.tampering.refuse["Submit"] = NodeError(reason, metadata=metadata)
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        with pytest.raises(kind) as caught:
            contract.query(SQL)
    assert caught.value.reason == reason
    assert str(caught.value) == NodeError(reason).public
    assert (caught.value.decision, caught.value.rule) == (
        metadata.get("decision"),
        metadata.get("rule"),
    )


def test_unknown_things(simulator):
    with connect(simulator.profile) as space:
        with pytest.raises(NotFoundError):
            space.product(f"{simulator.holder.id}:product:nothing")
        with pytest.raises(InvalidRequestError, match=r"no offer 'cheap'.*research"):
            space.negotiate(simulator.entry.id, "cheap")
        contract = space.negotiate(simulator.entry.id)
        with pytest.raises(InvalidRequestError, match="empty"):
            contract.query("  ")
    assert simulator.submitted == []


def test_a_purpose_must_be_named_where_there_are_several(simulator):
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id, purpose=["care", "teaching"])
        with pytest.raises(InvalidRequestError, match="care, teaching"):
            contract.query(SQL)
        assert len(contract.query(SQL, purpose="care")) == 2


def test_an_interrupt_cancels_the_computation(simulator):
    def interrupt(phase: str) -> None:
        raise KeyboardInterrupt

    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        computation = contract.submit(SQL)
        with pytest.raises(KeyboardInterrupt):
            computation.result(on_phase=interrupt)
    assert simulator.cancelled == [computation.id]


def test_ctrl_c_in_a_terminal_cancels(simulator):
    simulator.hold.clear()
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
    simulator.watching.clear()
    command = ["query", contract.id, "--sql", SQL, "--profile", str(simulator.profile)]
    with subprocess.Popen(
        [sys.executable, "-c", "from luoshu.cli.main import main; main()", *command],
        stderr=subprocess.PIPE,
    ) as program:
        try:
            assert simulator.watching.wait(30)
            program.send_signal(signal.SIGINT)
            _, stderr = program.communicate(timeout=30)
        finally:
            program.kill()
    assert program.returncode == 130
    assert b"Traceback" not in stderr
    assert len(simulator.cancelled) == 1


def test_a_result_can_be_asked_for_again(simulator):
    with connect(simulator.profile) as space:
        computation = space.negotiate(simulator.entry.id).submit(SQL)
        assert computation.result().rows() == computation.result().rows()
    assert simulator.submitted == [SQL]


# What is wrong on this side


def test_a_stopped_node(simulator):
    simulator.close()
    with pytest.raises(UnavailableError, match="refused") as caught:
        connect(simulator.profile)
    assert caught.value.reason == "NODE_UNREACHABLE"
    assert "luoshu node serve" in caught.value.next_step


def test_an_expired_certificate_is_named_before_dialling(simulator):
    (simulator.profile / "tls.crt").write_bytes(simulator.issue_user_certificate(-1))
    with pytest.raises(ProfileError, match="expired on") as caught:
        connect(simulator.profile)
    assert caught.value.reason == "CREDENTIAL_EXPIRED"


def test_a_certificate_of_another_ca(simulator):
    stranger = pki.create_authority("strangers", utc_now())
    key = pki.generate_key()
    certificate = pki.issue(
        stranger,
        key.public_key(),
        uri=simulator.user.user_id,
        dns_name=None,
        server=False,
        client=True,
        not_before=utc_now() - dt.timedelta(hours=1),
        not_after=utc_now() + dt.timedelta(days=1),
    )
    (simulator.profile / "tls.crt").write_bytes(certificate)
    (simulator.profile / "tls.key").write_bytes(pki.key_to_pem(key))
    with pytest.raises(ProfileError, match="not issued by the CA of the node"):
        connect(simulator.profile)
    # The node's true CA is hidden from the check: now only the node can refuse.
    ca = (simulator.profile / "node-ca.crt").read_bytes()
    profile = replace(load_profile(simulator.profile), node_ca_pem=stranger.certificate_pem)
    profile.check_certificate(utc_now())
    channel = open_channel(
        profile.address,
        server_name=profile.server_name,
        certificate_pem=certificate,
        private_key_pem=pki.key_to_pem(key),
        node_ca_pem=ca,
    )
    client = NodeClient(
        channel, timeout=10, explain_unreachable=lambda why: explain(profile, utc_now(), why)
    )
    with pytest.raises(UnavailableError, match="closed the connection"):
        client.get_node()
    client.close()


def test_a_server_that_is_not_the_own_node(simulator):
    settings = simulator.profile / "profile.toml"
    settings.write_text(settings.read_text().replace("lab.alliance", "north.alliance"))
    with pytest.raises(UnavailableError, match=r"prove to be north\.alliance"):
        connect(simulator.profile)


@pytest.mark.parametrize(
    "file", ["profile.toml", "tls.crt", "tls.key", "request.key", "user.json", "space.json"]
)
@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_a_broken_profile(simulator, file, damage):
    path = simulator.profile / file
    path.unlink() if damage == "missing" else path.write_bytes(b"\x00 nonsense")
    with pytest.raises(ProfileError) as caught:
        connect(simulator.profile)
    assert str(simulator.profile) in str(caught.value)
    assert caught.value.next_step


def test_a_private_key_open_to_others(simulator):
    (simulator.profile / "request.key").chmod(0o644)
    with pytest.raises(ProfileError, match="chmod 600"):
        connect(simulator.profile)


def test_no_profile_at_all(monkeypatch):
    monkeypatch.delenv("LUOSHU_PROFILE", raising=False)
    with pytest.raises(ProfileError, match="LUOSHU_PROFILE"):
        connect()


def test_an_unknown_key_in_the_profile(simulator):
    with (simulator.profile / "profile.toml").open("a") as settings:
        settings.write("color = 1\n")
    with pytest.raises(ProfileError, match="color"):
        connect(simulator.profile)


def test_every_error_is_a_luoshu_error_with_words():
    error = VerificationError("It doesn't hold.")
    assert isinstance(error, LuoshuError)
    assert str(error).startswith("It doesn't hold. Don't use the result.")


def test_a_receipt_file_holds_only_canonical_json(simulator, tmp_path):
    with connect(simulator.profile) as space:
        receipt = space.negotiate(simulator.entry.id).query(SQL).receipt
    document = json.loads(receipt.to_bytes())
    assert document["schema"] == "luoshu/receipt-file/v1"
    assert "authority" not in json.dumps(document["holder_credential"])


def test_pandas_is_optional(simulator, monkeypatch):
    with connect(simulator.profile) as space:
        result = space.negotiate(simulator.entry.id).query(SQL)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'luoshu\[pandas\]'"):
        result.to_pandas()
    assert len(result) == 2


def test_what_is_shown_holds_no_values(simulator):
    with connect(simulator.profile) as space:
        result = space.negotiate(simulator.entry.id).query(SQL)
    assert repr(result).startswith("<Result 2 rows x 2 columns, receipt verified: entry 1 of")
    assert "138" not in repr(result)


def test_importing_the_sdk_loads_no_grpc():
    program = (
        "import sys, luoshu.sdk, luoshu.sdk.errors\n"
        "assert not {'grpc', 'pyarrow', 'cryptography'} & set(sys.modules)\n"
        "from luoshu.sdk import connect\n"
        "assert set(dir(luoshu.sdk)) == set(luoshu.sdk.__all__)\n"
        "for name in luoshu.sdk.__all__: getattr(luoshu.sdk, name)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
