"""The columnar file between stage 1 and the release stage, and what stage 1 puts into it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from luoshu.sandbox import engine
from luoshu.sandbox.arrays import np
from luoshu.sandbox.contributions import (
    LOW_MASK,
    Contributed,
    Contributions,
    ContributionsError,
    narrowed,
    read,
    write,
)
from luoshu.sandbox.export import export
from luoshu.sandbox.schema import VARCHAR, CellSchema, Component, ComponentKind

SUM = ComponentKind.SUM
ROWS = Component(SUM)
KEYED = CellSchema(("p.t",), (VARCHAR,), (ROWS,))


@pytest.fixture
def connection() -> Iterator[engine.Connection]:
    opened = engine.open_engine(512 << 20, 2)
    engine.lock(opened)
    yield opened
    opened.close()


def exported(
    connection: engine.Connection,
    tmp_path: Path,
    sql: str,
    schema: CellSchema,
    *,
    drop: bool = False,
    max_cells: int = 100,
) -> tuple[Contributions, list[tuple[object, ...]], int]:
    path = tmp_path / "0"
    done = export(connection, sql, schema, path, min_units=3, drop=drop, max_cells=max_cells)
    return read(path, schema, len(done.keys), done.rows), list(done.keys), done.dropped


def integers(value: Contributed) -> list[int]:
    if value.lo is None:
        return [int(item) for item in value.hi]
    return [(int(high) << 62) + int(low) for high, low in zip(value.hi, value.lo, strict=True)]


def test_rows_are_sorted_by_cell_and_unit(connection: engine.Connection, tmp_path: Path) -> None:
    sql = (
        "SELECT CASE WHEN i % 3 = 0 THEN NULL ELSE 'k' || (i % 3) END AS k0, "
        "(i // 3)::BIGINT AS u, count(*) AS a0 FROM range(3000) t(i), range(2) GROUP BY ALL"
    )
    found, keys, dropped = exported(connection, tmp_path, sql, KEYED)
    assert (found.cells, len(keys), dropped, len(found.cell)) == (3, 3, 0, 3000)
    assert sorted(map(str, keys)) == ["('k1',)", "('k2',)", "(None,)"]
    assert found.cell.tolist() == [0] * 1000 + [1] * 1000 + [2] * 1000
    assert found.unit.tolist() == list(range(1000)) * 3
    assert integers(found.values[0]) == [2] * 3000


def decimal_text(number: int, scale: int) -> str:
    digits = f"{abs(number):0{scale + 1}}"
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


@pytest.mark.parametrize("scale", [0, 1, 6, 18, 37])
@pytest.mark.parametrize("digits", [3, 17, 18, 19, 30, 37])
def test_values_are_exact_whatever_their_size(
    connection: engine.Connection, tmp_path: Path, scale: int, digits: int
) -> None:
    chance = random.Random(scale * 100 + digits)
    numbers = [chance.randrange(-(10**digits) + 1, 10**digits) for _ in range(40)]
    numbers += [0, 1, -1, 10**digits - 1, 1 - 10**digits]
    if scale:
        kind = f"DECIMAL(38,{scale})"
        texts = [decimal_text(n, scale) for n in numbers]
    else:
        kind, texts = "HUGEINT", [str(n) for n in numbers]
    is_wide = digits > 18
    component = Component(SUM, ("a",), scale, is_wide=is_wide)
    schema = CellSchema(("p.t",), (), (component, ROWS))
    rows = ", ".join(f"({u}, '{text}')" for u, text in enumerate(texts))
    sql = f"SELECT u::BIGINT AS u, v::{kind} AS a0, 1::BIGINT AS a1 FROM (VALUES {rows}) t(u, v)"
    found, _, _ = exported(connection, tmp_path, sql, schema)
    assert integers(found.values[0]) == numbers
    assert integers(found.values[1]) == [1] * len(numbers)


def test_small_cells_are_dropped_if_asked(connection: engine.Connection, tmp_path: Path) -> None:
    sql = "SELECT 'k' || (i % 10 // 9) AS k0, i::BIGINT AS u, 1::BIGINT AS a0 FROM range(20) t(i)"
    found, keys, dropped = exported(connection, tmp_path, sql, KEYED, drop=True)
    assert (keys, dropped, len(found.unit)) == ([("k0",)], 1, 18)
    _, keys, dropped = exported(engine.open_engine(512 << 20, 1), tmp_path, sql, KEYED, drop=False)
    assert (len(keys), dropped) == (2, 0)


def test_a_prefix_keeps_its_small_cells(connection: engine.Connection, tmp_path: Path) -> None:
    schema = CellSchema(("p.t",), (VARCHAR,), (ROWS,), prefix=0)
    sql = "SELECT 'k' || i AS k0, i::BIGINT AS u, 1::BIGINT AS a0 FROM range(5) t(i)"
    _, keys, dropped = exported(connection, tmp_path, sql, schema, drop=True)
    assert (len(keys), dropped) == (5, 0)


def test_without_keys_there_is_one_cell(connection: engine.Connection, tmp_path: Path) -> None:
    schema = CellSchema(("p.t",), (), (ROWS,))
    sql = "SELECT i::BIGINT AS u, 1::BIGINT AS a0 FROM range(5) t(i) WHERE i > 9"
    found, keys, _ = exported(connection, tmp_path, sql, schema, drop=True)
    assert (found.cells, len(found.unit), keys) == (1, 0, [()])


def test_too_many_cells_end_the_computation(connection: engine.Connection, tmp_path: Path) -> None:
    sql = "SELECT 'k' || i AS k0, i::BIGINT AS u, 1::BIGINT AS a0 FROM range(101) t(i)"
    with pytest.raises(MemoryError):
        exported(connection, tmp_path, sql, KEYED)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'k' AS k0, 1::BIGINT AS u, NULL::BIGINT AS a0",
        "SELECT 'k' AS k0, 1::BIGINT AS u, 1::DECIMAL(38,2) AS a0",
        "SELECT 'k' AS k0, 1::BIGINT AS u, 1::DOUBLE AS a0",
        "SELECT 'k' AS k0, 1::BIGINT AS u, 1::BIGINT AS a0, 1::BIGINT AS a1",
        "SELECT 'k' AS k0, -1::BIGINT AS u, 1::BIGINT AS a0",
        "SELECT 'k' AS k0, 1::BIGINT AS u, 1::BIGINT AS a0 FROM range(2)",
        "SELECT 'k' AS k0, i * 1000000000::BIGINT AS u, 1::BIGINT AS a0 "
        "FROM (VALUES (1), (1), (2)) t(i)",
    ],
)
def test_a_relation_of_another_form_is_refused(
    connection: engine.Connection, tmp_path: Path, sql: str
) -> None:
    with pytest.raises((ContributionsError, ValueError)):
        exported(connection, tmp_path, sql, KEYED)


def ids(*items: int) -> np.ndarray:
    return np.array(items, np.int32)


def longs(*items: int) -> np.ndarray:
    return np.array(items, np.int64)


WIDE = CellSchema(("p.t",), (VARCHAR,), (Component(SUM, ("a",), is_wide=True),))


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ([ids(0, 0), ids(1, 1), longs(0, 0), longs(0, 0)], 2),  # a unit twice
        ([ids(1, 0), ids(1, 2), longs(0, 0), longs(0, 0)], 2),  # cells out of order
        ([ids(0, 0), ids(2, 1), longs(0, 0), longs(0, 0)], 2),  # units out of order
        ([ids(-1, 0), ids(1, 2), longs(0, 0), longs(0, 0)], 2),
        ([ids(0, 2), ids(1, 2), longs(0, 0), longs(0, 0)], 2),  # there are two cells
        ([ids(0, 0), ids(-1, 2), longs(0, 0), longs(0, 0)], 2),
        ([ids(0, 0), ids(1, 2), longs(0, 0), longs(0, LOW_MASK + 1)], 2),
        ([ids(0, 0), ids(1, 2), longs(0, 0), longs(0, -1)], 2),
        ([ids(0, 0), ids(1, 2), longs(0, 0), longs(0, 0)], 1),
        ([ids(0, 0), ids(1, 2), longs(0, 0), longs(0, 0)], 3),
        ([ids(0, 0), ids(1, 2), longs(0, 0)], 2),
    ],
)
def test_a_file_that_is_wrong_anywhere_is_refused(
    tmp_path: Path, columns: list[np.ndarray], rows: int
) -> None:
    path = tmp_path / "0"
    path.write_bytes(b"".join(column.tobytes() for column in columns))
    with pytest.raises(ContributionsError):
        read(path, WIDE, 2, rows)


def test_wide_values_that_fit_become_narrow(tmp_path: Path) -> None:
    path = tmp_path / "0"
    numbers = [2**63 - 1, -(2**63), -1, 0]
    high, low = [n >> 62 for n in numbers], [n & LOW_MASK for n in numbers]
    with path.open("wb") as file:
        write(file, [ids(0, 0, 1, 1), ids(1, 2, 1, 2), longs(*high), longs(*low)], 2)
    value = read(path, WIDE, 2, 4).values[0]
    assert value.lo is None
    assert integers(value) == numbers
    assert narrowed(Contributed(longs(2), longs(0))).lo is not None
