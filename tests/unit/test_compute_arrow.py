"""Released rows as Arrow: types, values that don't fit, nothing but the rows."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

from luoshu.connector.compute.arrow import arrow_type, encode_result
from luoshu.contracts.release_notes import METADATA_KEY, NOTES, ReleaseNote, from_metadata


def decoded(columns, rows):
    return pa.ipc.open_stream(encode_result(columns, rows)).read_all()


@pytest.mark.parametrize(
    ("sql_type", "value", "expected"),
    [
        ("BOOLEAN", True, pa.bool_()),
        ("TINYINT", -128, pa.int8()),
        ("SMALLINT", 2**15 - 1, pa.int16()),
        ("INTEGER", 2**31 - 1, pa.int32()),
        ("BIGINT", -(2**63), pa.int64()),
        ("UTINYINT", 255, pa.uint8()),
        ("USMALLINT", 2**16 - 1, pa.uint16()),
        ("UINTEGER", 2**32 - 1, pa.uint32()),
        ("UBIGINT", 2**64 - 1, pa.uint64()),
        ("HUGEINT", 2**63 - 1, pa.int64()),
        ("HUGEINT", -(2**63), pa.int64()),
        ("HUGEINT", 2**63, pa.decimal128(38, 0)),
        ("HUGEINT", -(2**63) - 1, pa.decimal128(38, 0)),
        ("FLOAT", 0.5, pa.float32()),
        ("DOUBLE", 0.1, pa.float64()),
        ("VARCHAR", "肺癌", pa.string()),
        ("DECIMAL(18,2)", Decimal("3.14"), pa.decimal128(18, 2)),
        ("DECIMAL(38, 10)", Decimal("0.0000000001"), pa.decimal128(38, 10)),
        ("DATE", dt.date(2024, 2, 29), pa.date32()),
        ("TIME", dt.time(1, 2, 3, 4), pa.time64("us")),
        ("TIMESTAMP", dt.datetime(2024, 2, 29, 1, 2, 3, 4), pa.timestamp("us")),
    ],
)
def test_value_survives_in_its_type(sql_type, value, expected):
    table = decoded([("a", sql_type)], [(value,), (None,)])
    assert table.schema.field("a").type == expected
    assert table.column("a").to_pylist() == [value, None]


def test_moment_with_a_zone_is_utc():
    moment = dt.datetime(2024, 1, 1, 8, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    table = decoded([("a", "TIMESTAMP WITH TIME ZONE")], [(moment,)])
    assert table.column("a").to_pylist() == [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]


def test_result_without_rows_keeps_its_columns():
    table = decoded([("sex", "BIGINT"), ("n", "HUGEINT")], [])
    assert table.num_rows == 0
    assert table.schema.names == ["sex", "n"]
    assert table.schema.field("n").type == pa.int64()


def test_columns_may_share_a_name():
    table = decoded([("n", "BIGINT"), ("n", "VARCHAR")], [(1, "x")])
    assert [column.to_pylist() for column in table.columns] == [[1], ["x"]]


def test_same_rows_give_the_same_bytes():
    """The release entry commits to them."""
    columns, rows = [("a", "HUGEINT"), ("b", "VARCHAR")], [(1, "x"), (None, None)]
    assert encode_result(columns, rows) == encode_result(columns, rows)


def test_notes_are_part_of_the_bytes_and_unknown_ones_are_kept():
    columns, rows = [("a", "BIGINT")], [(1,)]
    notes = (ReleaseNote.RELEASED_GROUPS, ReleaseNote.NO_PRIVACY_CLAIM)
    noted = encode_result(columns, rows, notes)
    assert from_metadata(pa.ipc.open_stream(noted).schema.metadata) == notes
    assert from_metadata(pa.ipc.open_stream(encode_result(columns, rows)).schema.metadata) == ()
    assert from_metadata({METADATA_KEY: b"OF_LATER,RELEASED_GROUPS"}) == (
        "OF_LATER",
        "RELEASED_GROUPS",
    )
    assert set(NOTES) == set(ReleaseNote)
    assert all(text.en and text.zh for text in NOTES.values())


@pytest.mark.parametrize("sql_type", ["BLOB", "INTEGER[]", "DECIMAL", "STRUCT(a INTEGER)", ""])
def test_type_without_a_counterpart_is_refused(sql_type):
    with pytest.raises(ValueError, match="can't be delivered as Arrow"):
        arrow_type(sql_type, [])


def test_value_beyond_its_type_is_refused():
    with pytest.raises((ValueError, OverflowError, pa.ArrowInvalid)):
        encode_result([("a", "TINYINT")], [(300,)])
