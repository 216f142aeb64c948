"""Frames and values between connector and workers: strict both ways."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoshu.contracts.canonical import canonicalize
from luoshu.sandbox import wire
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    HUGEINT,
    TIMESTAMP,
    VARCHAR,
    ColumnSchema,
    SchemaError,
    TableSchema,
    Use,
    ValueType,
)
from luoshu.sandbox.worker import stage

MONEY = ValueType("DECIMAL", 18, 2)
TYPES = (BOOLEAN, BIGINT, HUGEINT, MONEY, VARCHAR, DATE, TIMESTAMP, DOUBLE)
VALUES = st.tuples(
    st.none() | st.booleans(),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(-(2**127), 2**127 - 1),
    st.none() | st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-2)),
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | st.dates(),
    st.none() | st.datetimes(),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.lists(VALUES, max_size=5))
def test_rows_survive(rows: list[wire.Row]) -> None:
    frame = wire.encode({"rows": wire.encode_rows(rows)})
    assert wire.frame_length(frame[: wire.HEADER.size], 1 << 20) == len(frame) - wire.HEADER.size
    message = wire.decode(frame[wire.HEADER.size :])
    assert wire.decode_rows(message["rows"], TYPES, 5) == rows


@given(
    st.dictionaries(
        st.text("abcXYZ_", max_size=5),
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1),
    )
)
def test_frames_are_canonical(message: dict[str, object]) -> None:
    assert wire.encode(message)[4:] == canonicalize(message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (1, BIGINT),
        (True, BIGINT),
        ("9223372036854775808", BIGINT),
        ("01", BIGINT),
        ("1.0", BIGINT),
        ("", BIGINT),
        ("1_0", BIGINT),
        ("1" * 40, HUGEINT),
        ("1.005", MONEY),
        ("1e5", MONEY),
        ("NaN", MONEY),
        ("99999999999999999.99", MONEY),
        ("nan", DOUBLE),
        ("1e999", DOUBLE),
        ("0x1p3", DOUBLE),
        ("true", BOOLEAN),
        (0, BOOLEAN),
        ("2024-02-30", DATE),
        ("20240201", DATE),
        ("2024-02-01", TIMESTAMP),
        ("2024-02-01T00:00:00Z", TIMESTAMP),
        ("\ud800", VARCHAR),
        (["x"], VARCHAR),
        ({"a": "b"}, VARCHAR),
    ],
)
def test_value_of_another_type_is_dropped(item: object, kind: ValueType) -> None:
    with pytest.raises(wire.WireError) as dropped:
        wire.decode_rows([[item]], [kind], 1)
    assert str(dropped.value) == f"a value that is not a {kind}"


@pytest.mark.parametrize("rows", [None, {}, "x", [1], [[]], [["1", "2"]], [["1"], ["2"]]])
def test_rows_of_another_form_are_dropped(rows: object) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_rows(rows, [BIGINT], 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b'{"a":1.5}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":1}',
        b"\xff",
        b"{}{}",
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_frames_that_are_not_json_are_dropped(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(body)


@pytest.mark.parametrize("text", ["1\n2", "\n", "1\n", "\n1", "1 ", " 1", "\u0661", "1\x00"])
@pytest.mark.parametrize("others", [[], ["1"], ["1", None, "2"]])
def test_values_are_looked_at_one_by_one(text: str, others: list[str | None]) -> None:
    for kind in (BIGINT, MONEY, DOUBLE):
        with pytest.raises(wire.WireError):
            wire.decode_rows([[other] for other in [*others, text, *others]], [kind], 9)


def test_large_frames_are_dropped_unread() -> None:
    with pytest.raises(wire.WireError):
        wire.frame_length(wire.encode({"a": "x" * 200})[: wire.HEADER.size], 100)


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[stage.Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    made = stage.Channel.__new__(stage.Channel)
    made._in, made.files = theirs, []
    yield made, ours
    ours.close()
    theirs.close()


def test_a_worker_reads_messages_with_their_files(
    channel: tuple[stage.Channel, socket.socket],
) -> None:
    worker, ours = channel
    first, second = wire.encode({"type": "first"}), wire.encode({"type": "second"})
    socket.send_fds(ours, [first[: wire.HEADER.size]], [ours.fileno(), ours.fileno()])
    ours.sendall(first[wire.HEADER.size :] + second)
    assert worker.receive() == {"type": "first"}
    assert len(worker.files) == 2
    for file in worker.files:
        os.close(file)
    assert worker.receive() == {"type": "second"}
    assert worker.files == []


@pytest.mark.parametrize("data", [b"\0\0\0\5{}", b"\0\0\0\xff"])
def test_cut_frames_are_dropped(channel: tuple[stage.Channel, socket.socket], data: bytes) -> None:
    worker, ours = channel
    ours.sendall(data)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(wire.WireError):
        worker.receive()


def test_a_worker_whose_connector_has_gone_ends(
    channel: tuple[stage.Channel, socket.socket],
) -> None:
    worker, ours = channel
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(SystemExit):
        worker.receive()


def test_not_finite_numbers_are_never_sent() -> None:
    with pytest.raises(wire.WireError):
        wire.encode_rows([(float("nan"),)])


@pytest.mark.parametrize("text", ["", "INT", "DECIMAL", "DECIMAL(39,2)", "DECIMAL(4,5)", "BLOB", 3])
def test_unknown_types_are_refused(text: object) -> None:
    with pytest.raises(SchemaError):
        ValueType.parse(text)


def test_table_schema_survives_and_is_strict() -> None:
    table = TableSchema("p0", "t", "u", (ColumnSchema("a", MONEY, frozenset({Use.GROUP})),))
    document = json.loads(json.dumps(table.to_json()))
    assert TableSchema.from_json(document) == table
    for changed in ({**document, "more": 1}, {**document, "table": ""}, {"table": "t"}):
        with pytest.raises(SchemaError):
            TableSchema.from_json(changed)


@pytest.mark.parametrize("kind", [MONEY, DOUBLE, BIGINT, DATE])
@pytest.mark.parametrize("digit", ["0", "9"])
def test_a_hostile_number_costs_no_more_than_its_length(kind: ValueType, digit: str) -> None:
    text = digit * (1 << 22) + "x"
    began = time.process_time()
    with pytest.raises(wire.WireError):
        wire.decode_rows([["1"], [text]], [kind], 2)
    assert time.process_time() - began < 1  # going back over it would take eight seconds
