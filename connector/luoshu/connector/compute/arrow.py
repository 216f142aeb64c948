"""Released rows as one Arrow IPC stream.

The workers answer in canonical JSON; Arrow is made here, from rows that were
released, so that no worker has to import pyarrow. The bytes are the result:
the release entry of the usage log commits to their SHA-256.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias

import pyarrow as pa

from luoshu.contracts.release_notes import ReleaseNote, to_metadata

Value: TypeAlias = bool | int | float | str | Decimal | dt.date | dt.datetime | dt.time | None

_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_SCALARS: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC"),
}
_INT64_MAX = 2**63 - 1


def arrow_type(sql_type: str, values: Sequence[Value]) -> pa.DataType:
    """The Arrow type of a result column.

    A HUGEINT (the type of a sum of integers) becomes int64 where every
    released value fits, else decimal128(38, 0): pandas turns the latter into
    objects, which few analyses want for values that fit.

    Raises:
        ValueError: The type has no Arrow counterpart here.
    """
    if sql_type == "HUGEINT":
        fits = all(v is None or -_INT64_MAX - 1 <= int(v) <= _INT64_MAX for v in values)  # type: ignore[arg-type]
        return pa.int64() if fits else pa.decimal128(38, 0)
    if match := _DECIMAL.fullmatch(sql_type):
        return pa.decimal128(int(match[1]), int(match[2]))
    if sql_type not in _SCALARS:
        raise ValueError(f"result columns of type {sql_type} can't be delivered as Arrow")
    return _SCALARS[sql_type]


def encode_result(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[tuple[Value, ...]],
    notes: Sequence[ReleaseNote] = (),
) -> bytes:
    """One Arrow IPC stream holding the released rows.

    Args:
        columns: Name and SQL type of each column, in order.
        rows: The released rows, one value a column.
        notes: What is said with them.

    Raises:
        ValueError: A value doesn't fit its column's type.
    """
    arrays, fields = [], []
    for position, (name, sql_type) in enumerate(columns):
        values = [row[position] for row in rows]
        kind = arrow_type(sql_type, values)
        arrays.append(pa.array(values, type=kind))
        fields.append(pa.field(name, kind))
    batch = pa.record_batch(arrays, schema=pa.schema(fields, to_metadata(notes)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
