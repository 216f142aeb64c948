"""Entries, leaves, receipts and journal lines: golden files, and what is refused."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_world import LOG_KEY, ORIGIN, START, journal_entry, salt

from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.log.checkpoint import Checkpoint, sign_checkpoint
from luoshu.contracts.log.entry import Entry, EntryBody, commitment, leaf_bytes
from luoshu.contracts.log.errors import LogFormatError
from luoshu.contracts.log.journal_line import JournalEntry, decode_line, encode_line
from luoshu.contracts.log.merkle import CompactTree, hash_leaf, inclusion_proof, root_of
from luoshu.contracts.log.receipt import Receipt, verify_receipt

GOLDEN = Path(__file__).parent.parent / "golden"


def a_receipt():
    hashes = [hash_leaf(journal_entry(i).leaf) for i in range(5)]
    tree = CompactTree()
    for each in hashes:
        tree.append(each)
    note = sign_checkpoint(Checkpoint(ORIGIN, 5, tree.root()), LOG_KEY)

    def read(level, index):
        return root_of(hashes[index << level : (index + 1) << level])

    body = journal_entry(3).entry.body
    return Receipt(3, body, salt(3), tuple(inclusion_proof(3, 5, read)), note)


def test_golden_log_entry():
    data = (GOLDEN / "log-entry.v1.json").read_bytes()
    assert EntryBody.from_bytes(data) == journal_entry(3).entry.body
    assert journal_entry(3).body == data


def test_golden_leaf():
    data = (GOLDEN / "leaf.v1.json").read_bytes()
    assert journal_entry(3).leaf == journal_entry(3).entry.leaf() == data
    assert canonicalize(json.loads(data)) == data


def test_golden_receipt():
    data = (GOLDEN / "receipt.v1.json").read_bytes()
    receipt = Receipt.from_bytes(data)
    assert receipt == a_receipt()
    assert receipt.to_bytes() == data
    assert verify_receipt(receipt, LOG_KEY.public, ORIGIN) == journal_entry(3).entry.body


def test_golden_journal_line():
    data = (GOLDEN / "journal-line.v1.json").read_bytes()
    assert decode_line(data) == [journal_entry(3), journal_entry(4)]
    assert encode_line([journal_entry(3), journal_entry(4)]) == data
    assert canonicalize(json.loads(data)) + b"\n" == data


def test_commitment_hides_and_binds():
    body = journal_entry(3).body
    assert commitment(body, salt(3)) != commitment(body, salt(4))
    assert commitment(body, salt(3)) != commitment(body + b" ", salt(3))
    assert set(json.loads(leaf_bytes(body, salt(3)))) == {"schema", "commitment"}
    # HMAC pads keys with zeros, so a shorter salt could stand for a longer one.
    for bad in (b"", salt(3)[:-1], salt(3) + b"\0"):
        with pytest.raises(LogFormatError):
            commitment(body, bad)


def changed(payload, **changes):
    result = {**payload, **changes}
    return {key: value for key, value in result.items() if value is not ...}


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "luoshu/log-entry/v2"},
        {"schema": ...},
        {"extra": 1},
        {"kind": "No Kind"},
        {"kind": 1},
        {"time": "2026-01-02T03:04:05+00:00"},
        {"parties": "x"},
        {"parties": [1]},
        {"parties": ["a", "a"]},
        {"parties": [str(i) for i in range(65)]},
        {"contract_id": 1},
        {"data": []},
        {"data": ...},
    ],
)
def test_bad_bodies(changes):
    payload = journal_entry(1).entry.body.to_payload()
    assert EntryBody.from_payload(changed(payload)) == journal_entry(1).entry.body
    with pytest.raises(ContractsError):
        EntryBody.from_payload(changed(payload, **changes))


def test_body_that_is_not_canonical():
    data = json.dumps(json.loads(journal_entry(1).body)).encode()
    with pytest.raises(LogFormatError):
        EntryBody.from_bytes(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "luoshu/receipt/v2"},
        {"extra": 1},
        {"index": True},
        {"index": "3"},
        {"body": "x"},
        {"salt": base64.b64encode(b"short").decode()},
        {"salt": 1},
        {"salt": "!"},
        {"proof": "x"},
        {"proof": ["AAAA"]},
        {"proof": [base64.b64encode(bytes(32)).decode()] * 65},
        {"checkpoint": 1},
    ],
)
def test_bad_receipts(changes):
    payload = a_receipt().to_payload()
    assert Receipt.from_payload(changed(payload)) == a_receipt()
    with pytest.raises(LogFormatError):
        Receipt.from_payload(changed(payload, **changes))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"entries":[],"first":0}\n',
        b'{"entries":[{}],"first":0}\n',
        b'{"entries":[1],"first":0}\n',
        encode_line([journal_entry(3)])[:-1],
        encode_line([journal_entry(3)]).replace(b'"first":3', b'"first":true'),
        encode_line([journal_entry(3)]).replace(b'"first":3', b'"first":-3'),
        encode_line([journal_entry(3)]).replace(b'"first":3', b'"first": 3'),
        encode_line([journal_entry(3)]).replace(b'"first":3', b'"first":3,"more":1'),
        b" " + encode_line([journal_entry(3)]),
        json.dumps(json.loads(encode_line([journal_entry(3)])), separators=(",", ":")).encode()
        + b"\n",
    ],
)
def test_bad_lines(line):
    with pytest.raises(ContractsError):
        decode_line(line)


def test_lines_that_cannot_be_written():
    with pytest.raises(LogFormatError):
        encode_line([])
    with pytest.raises(LogFormatError):
        encode_line([journal_entry(3), journal_entry(5)])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=4), min_size=1))
def test_lines_round_trip(datas):
    """Also with names whose UTF-16 order isn't that of their code points."""
    entries = [
        JournalEntry.of(Entry(7 + i, EntryBody("decision", START, (ORIGIN,), None, data), salt(i)))
        for i, data in enumerate([*datas, {"\U0001f600": 1, "\ufb00": 2}])
    ]
    line = encode_line(entries)
    assert decode_line(line) == entries
    assert canonicalize(json.loads(line)) + b"\n" == line
    assert line.count(b"\n") == 1
    for each in entries:
        assert EntryBody.from_bytes(each.body) == each.entry.body
