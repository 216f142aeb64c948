"""A node, a catalog or a holder that lies: the SDK raises, and hands out no table."""

import base64
import json
from dataclasses import replace

import pytest

from luoshu.contracts.canonical import canonicalize, digest
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import Role
from luoshu.contracts.terms import simple_terms
from luoshu.sdk import (
    Result,
    UnavailableError,
    VerificationError,
    connect,
    verify_receipt_file,
)
from luoshu.sdk import computation as computation_module
from luoshu.sdk import result as result_module

SQL = "SELECT sex, COUNT(*) AS n FROM lung_survival GROUP BY sex"


@pytest.fixture(autouse=True)
def no_table(monkeypatch):
    """Fails a test in which a Result was made at all."""
    made = []

    class Watched(Result):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(computation_module, "Result", Watched)
    yield
    assert not made


def query(simulator):
    with connect(simulator.profile) as space:
        space.negotiate(simulator.entry.id).query(SQL)


def refused(simulator, match, reason="RECEIPT_INVALID"):
    with pytest.raises(VerificationError, match=match) as caught:
        query(simulator)
    assert caught.value.reason == reason
    assert caught.value.next_step


# Results


def test_wrong_result_bytes(simulator):
    simulator.tampering.result = lambda data: data.replace(b"\x5a\x00", b"\x5b\x00", 1)
    refused(simulator, "not those that the holder's log records", "RESULT_MISMATCH")


def test_bytes_after_the_result(simulator):
    simulator.tampering.result = lambda data: data + b"\x00"
    refused(simulator, "not those", "RESULT_MISMATCH")


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_stream(simulator, kept):
    simulator.tampering.result = lambda data: data[:kept]
    refused(simulator, "not those", "RESULT_MISMATCH")


def test_a_result_without_a_proof(simulator):
    simulator.tampering.abort_before_proof = True
    refused(simulator, "without a proof")


def test_a_result_before_its_proof(simulator):
    simulator.tampering.proof_first = False
    refused(simulator, "without its proof first")


# Receipts


def test_a_forged_body(simulator):
    def forge(receipt):
        data = {**receipt.body.data, "result_digest": digest(b"another result")}
        return replace(receipt, body=replace(receipt.body, data=data))

    simulator.tampering.receipt = forge
    simulator.tampering.result = lambda data: b"another result"
    refused(simulator, "receipt doesn't verify")


def test_another_salt(simulator):
    simulator.tampering.receipt = lambda receipt: replace(receipt, salt=bytes(32))
    refused(simulator, "receipt doesn't verify")


def test_another_index(simulator):
    simulator.tampering.receipt = lambda receipt: replace(receipt, index=0)
    refused(simulator, "receipt doesn't verify")


def test_a_proof_cut_short(simulator):
    simulator.tampering.receipt = lambda receipt: replace(receipt, proof=())
    refused(simulator, "receipt doesn't verify")


def test_a_checkpoint_by_another_key(simulator):
    simulator.tampering.log_key = SigningKey.generate(KeyUse.LOG)
    refused(simulator, "receipt doesn't verify")


def test_a_checkpoint_by_the_events_key(simulator):
    # A genuine key of the holder, but made for another use.
    events = simulator.holder.events
    simulator.tampering.log_key = SigningKey.from_pem(events.to_pem(), KeyUse.LOG)
    refused(simulator, "receipt doesn't verify")


def test_a_checkpoint_changed_after_signing(simulator):
    def grow(receipt):
        origin, size, rest = receipt.checkpoint.split("\n", 2)
        return replace(receipt, checkpoint=f"{origin}\n{int(size) + 1}\n{rest}")

    simulator.tampering.receipt = grow
    refused(simulator, "receipt doesn't verify")


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "urn:uuid:00000000-0000-4000-8000-000000000000"},
        {"request_digest": digest(b"another request")},
    ],
)
def test_a_release_of_another_request(simulator, change):
    simulator.tampering.release = lambda data: {**data, **change}
    refused(simulator, "another request")


@pytest.mark.parametrize("missing", ["request_id", "request_digest", "result_digest"])
def test_a_release_that_omits(simulator, missing):
    simulator.tampering.release = lambda data: {k: v for k, v in data.items() if k != missing}
    refused(simulator, "another request|names no result")


@pytest.mark.parametrize("decision", [None, -1, 1, 99, "0", True])
def test_a_release_without_a_decision_before_it(simulator, decision):
    simulator.tampering.release = lambda data: {**data, "decision_index": decision}
    refused(simulator, "no decision before it")


def test_a_decision_in_place_of_a_release(simulator):
    simulator.tampering.release_kind = "decision"
    refused(simulator, "proves a decision entry")


def test_a_failure_in_place_of_a_release(simulator):
    simulator.tampering.release_kind = "failure"
    refused(simulator, "proves a failure entry")


def test_a_release_under_another_contract(simulator):
    simulator.tampering.release_contract = lambda _: (
        "urn:luoshu:contract:00000000-0000-4000-8000-000000000000"
    )
    refused(simulator, "another contract")


def test_a_swapped_request(simulator):
    """The node submits a request of its own making and brings back its genuine receipt."""
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        first = contract.submit(SQL)
        contract.submit("SELECT ph_ecog, COUNT(*) FROM lung_survival GROUP BY ph_ecog")
        # The simulator serves the newest release, which is the second request's.
        with pytest.raises(VerificationError, match="another request"):
            first.result()


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b"\xff\xfe"])
def test_a_proof_that_is_no_document(simulator, data):
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        simulator.tampering.holder_credential = lambda _: data
        with pytest.raises(VerificationError, match="malformed"):
            contract.query(SQL)


# Credentials


def test_a_holder_of_another_authority(simulator, make_member):
    impostor = make_member("north")
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        simulator.tampering.holder_credential = lambda _: impostor.envelope.to_bytes()
        simulator.tampering.log_key = impostor.log_key
        with pytest.raises(VerificationError, match="credential doesn't verify"):
            contract.query(SQL)


def test_another_holder_of_the_same_space(simulator):
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        other = simulator.other_holder
        simulator.tampering.holder_credential = lambda _: other.envelope.to_bytes()
        simulator.tampering.log_key = other.log_key
        with pytest.raises(VerificationError, match="not of the contract's provider"):
            contract.query(SQL)


def test_a_node_of_another_authority(simulator, make_member):
    stranger = make_member("lab", Role.ANALYST)
    simulator.tampering.own_credential = lambda _: stranger.envelope.to_bytes()
    with pytest.raises(VerificationError, match="credential doesn't verify"):
        connect(simulator.profile)


def test_members_of_another_authority(simulator, make_member):
    with connect(simulator.profile) as space:
        simulator.tampering.issuer_credential = lambda _: make_member("x").envelope.to_bytes()
        with pytest.raises(VerificationError):
            space.members()


# Catalog


def find(simulator):
    with connect(simulator.profile) as space:
        list(space.search("Lung", limit=1))


def entry_refused(simulator):
    with connect(simulator.profile) as space:
        for look in (lambda: next(space.search("Lung")), lambda: space.product(simulator.entry.id)):
            with pytest.raises(VerificationError, match="catalog") as caught:
                look()
            assert caught.value.reason == "ENTRY_INVALID"


def test_an_entry_with_a_forged_signature(simulator):
    def forge(data):
        document = json.loads(data)
        signature = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
        signature[0] ^= 1
        document["signatures"][0]["sig"] = base64.b64encode(signature).decode()
        return canonicalize(document)

    simulator.tampering.entry = forge
    entry_refused(simulator)


def test_an_entry_changed_after_signing(simulator):
    def change(data):
        document = json.loads(data)
        payload = base64.b64decode(document["payload"]).replace(
            b'"min_units":10', b'"min_units":11'
        )
        document["payload"] = base64.b64encode(payload).decode()
        return canonicalize(document)

    simulator.tampering.entry = change
    entry_refused(simulator)


def test_an_entry_signed_by_another_member(simulator):
    """The operator can't put an entry into a holder's mouth, nor lend it another's."""
    other = simulator.other_holder
    forged = simulator.entry.sign(other.events)
    simulator.tampering.entry = lambda _: forged.to_bytes()
    entry_refused(simulator)
    simulator.tampering.issuer_credential = lambda _: other.envelope.to_bytes()
    entry_refused(simulator)


def test_an_issuer_of_another_authority(simulator, make_member):
    impostor = make_member("north")
    simulator.tampering.issuer_credential = lambda _: impostor.envelope.to_bytes()
    simulator.tampering.entry = lambda _: simulator.entry.sign(impostor.events).to_bytes()
    entry_refused(simulator)


def test_an_entry_of_another_product(simulator):
    other = replace(simulator.entry, id=f"{simulator.holder.id}:product:other")
    simulator.tampering.entry = lambda _: other.sign(simulator.holder.events).to_bytes()
    with (
        connect(simulator.profile) as space,
        pytest.raises(VerificationError, match="another product"),
    ):
        space.product(simulator.entry.id)


# Contracts


def test_a_contract_that_lacks_an_event(simulator):
    simulator.tampering.events = lambda events: [*events[:1], *events[2:]]
    with (
        connect(simulator.profile) as space,
        pytest.raises(VerificationError, match="contract") as caught,
    ):
        space.negotiate(simulator.entry.id)
    assert caught.value.reason == "CONTRACT_INVALID"


def test_a_state_that_its_events_dont_give(simulator):
    def lie(message):
        message.state_hash = digest(b"another state")

    simulator.tampering.summary = lie
    with (
        connect(simulator.profile) as space,
        pytest.raises(VerificationError, match="another state than its events give"),
    ):
        space.negotiate(simulator.entry.id)


def test_another_contract_than_the_one_asked_for(simulator):
    with connect(simulator.profile) as space:
        known = space.negotiate(simulator.entry.id)
        simulator.tampering.events = lambda _: simulator.contracts[known.id].events
        with pytest.raises(VerificationError, match=r"another contract's|doesn't verify"):
            space.negotiate(simulator.entry.id)


def test_a_history_that_was_rewound(simulator):
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        revoked = simulator.contracts[contract.id]
        before, state = list(revoked.events), revoked.state
        contract.revoke("misuse")
        revoked.events, revoked.state = before, state
        with pytest.raises(VerificationError, match="another history"):
            contract.refresh()
    assert contract.state == "REVOKED"


def test_terms_that_were_not_asked_for(simulator):
    """The own node may not ask for something else in the user's name."""

    def swap(contract):
        simulator.contracts.pop(contract.id)
        other = type(contract)(simulator, contract.id)
        body = replace(contract.events_body(), terms=simple_terms(purposes=("sale",), min_units=10))
        other.add(contract.first_type, body, simulator.analyst)
        other.agree()
        simulator.contracts[contract.id] = other

    simulator.answer = swap
    with (
        connect(simulator.profile) as space,
        pytest.raises(VerificationError, match="other terms"),
    ):
        space.negotiate(simulator.entry.id, uses=5)


# The own log


def test_a_checkpoint_of_the_own_log_by_another_key(simulator):
    simulator.tampering.log_key = SigningKey.generate(KeyUse.LOG)
    with connect(simulator.profile) as space:
        with pytest.raises(VerificationError, match="checkpoint doesn't verify"):
            space.log.checkpoint()
        with pytest.raises(VerificationError, match="receipt doesn't verify"):
            space.log.receipt(1)


def test_the_receipt_of_another_entry(simulator):
    simulator.tampering.receipt = lambda _: simulator.own_log.receipt(0)
    with (
        connect(simulator.profile) as space,
        pytest.raises(VerificationError, match="of entry 0, not of 1"),
    ):
        space.log.receipt(1)


def test_a_result_larger_than_any_may_be(simulator, monkeypatch):
    monkeypatch.setattr("luoshu.sdk.rpc.client.MAX_RESULT_BYTES", 150)
    refused(simulator, "more than 150 bytes", "MESSAGE_TOO_LARGE")


# Saved receipts


@pytest.fixture
def saved(simulator, tmp_path, monkeypatch):
    monkeypatch.setattr(computation_module, "Result", result_module.Result)
    path = tmp_path / "receipt.json"
    with connect(simulator.profile) as space:
        space.negotiate(simulator.entry.id).query(SQL).receipt.save(path)
    return path


def test_a_saved_receipt_holds_offline(simulator, saved):
    simulator.close()
    assert verify_receipt_file(saved, simulator.trust).result_digest == digest(simulator.result)


def test_every_changed_value_is_found(simulator, saved):
    """No text or number of the file can be changed without the verification failing."""
    document = json.loads(saved.read_bytes())
    paths = list(leaves(document))
    assert len(paths) > 30
    for path in paths:
        changed = json.loads(saved.read_bytes())
        target = changed
        for step in path[:-1]:
            target = target[step]
        value = target[path[-1]]
        target[path[-1]] = value + 1 if isinstance(value, int) else f"{value}x"
        saved_copy = saved.with_name("copy.json")
        saved_copy.write_text(json.dumps(changed))
        with pytest.raises(VerificationError):
            verify_receipt_file(saved_copy, simulator.trust)


def test_another_result_beside_a_saved_receipt(simulator, saved):
    with pytest.raises(VerificationError, match="not those"):
        verify_receipt_file(saved, simulator.trust, result=b"other bytes")


def test_a_saved_receipt_in_another_space(simulator, saved):
    other = replace(simulator.trust, authority=SigningKey.generate(KeyUse.AUTHORITY).public)
    with pytest.raises(VerificationError, match="credential doesn't verify"):
        verify_receipt_file(saved, other)


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    elif value is not None:
        yield path


def test_the_node_vanishes_midway(simulator):
    with connect(simulator.profile) as space:
        computation = space.negotiate(simulator.entry.id).submit(SQL)
        simulator.close()
        with pytest.raises(UnavailableError):
            computation.result(timeout=10)
