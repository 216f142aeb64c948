"""Faults that an attack on the preparation found: data that came out wrong, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from luoshu.sandbox.engine import identifier
from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import MANIFEST, PREPARED, PreparedProduct
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.run import Sandbox

pytestmark = pytest.mark.system


@pytest.fixture
def prepare(sandbox: Sandbox, tmp_path: Path) -> Callable[..., PreparedProduct]:
    def run(columns: str, source: str = "{parquet: data.parquet}") -> PreparedProduct:
        product = parse_product(
            f"id: p\nsource: {source}\nprivacy_unit: pid\ncolumns: {columns}\n"
            "release: {mode: aggregate, min_units: 2}\n"
        )
        return prepare_product(
            product, tmp_path, tmp_path / "out", sandbox.isolation, tmp_path / "units"
        )

    return run


def rows(directory: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(directory / "out" / PREPARED), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_columns_called_like_our_own(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    # Each holds other values, so that one taken for another shows.
    names = ["x", "id", "u", "h", "c0", "c1", "k0", "a0", "n0", "t", "p0", "units", "cells", "main"]
    names += ["hashed", "source_rows", "prepared", "rowid", "kept", "ID2", "select", 'q"q', "count"]
    values = ", ".join(f"i * 100 + {n} AS {identifier(name)}" for n, name in enumerate(names))
    duckdb.execute(
        f"COPY (SELECT i AS pid, {values} FROM range(5) r(i)) TO '{tmp_path / 'data.parquet'}'"
    )
    quoted = {name: name.replace('"', '\\"') for name in names}
    columns = ", ".join(f'"{quoted[name]}": {{use: [aggregate]}}' for name in reversed(names))
    prepare(f"{{{columns}}}")
    sums = ", ".join(f"sum({identifier(name)})" for name in names)
    (found,) = rows(tmp_path, f"SELECT {sums} FROM p")
    assert found == tuple(1000 + 5 * n for n in range(len(names)))


def test_tables_called_like_our_own(sandbox: Sandbox, tmp_path: Path) -> None:
    # Names of our own tables, files and columns, and of what needs quotes.
    names = ["unit_ids", "unit_digests", "reached", "units", "kept", "source_rows_0", "prepared"]
    names += [
        "registry",
        "temp",
        "main",
        "found",
        "select",
        "a.b",
        "{}",
        'q"q',
        "患者",
        "-- x",
        "t;",
    ]
    tables = "  root: {parquet: data.parquet, unit: pid, columns: {a: {use: [group]}}}\n"
    for before, name in zip(["root", *names], names, strict=False):
        quoted = name.replace('"', '\\"')
        via = before.replace('"', '\\"')
        tables += (
            f'  "{quoted}": {{parquet: data.parquet, unit: {{via: "{via}", on: {{k: k}}}}, '
            "columns: {a: {use: [group]}}}\n"
        )
    duckdb.execute(
        "COPY (SELECT i % 7 AS pid, i AS k, i % 3 AS a FROM range(21) r(i)) "
        f"TO '{tmp_path / 'data.parquet'}'"
    )
    product = parse_product(f"id: p\ntables:\n{tables}release: {{mode: aggregate, min_units: 2}}\n")
    prepared = prepare_product(
        product, tmp_path, tmp_path / "out", sandbox.isolation, tmp_path / "units"
    )
    assert [table.name for table in prepared.tables] == ["root", *names]
    assert PreparedProduct.load(tmp_path / "out") == prepared
    for table in prepared.tables:
        unit, name = identifier(str(table.unit)), identifier(table.name)
        assert rows(
            tmp_path,
            f"SELECT count(*), count(*) FILTER (x.{unit} = r.pid) FROM {name} AS x "
            "JOIN root AS r USING (k)",
        ) == [(21, 21)]


def test_key_that_a_collation_takes_for_another(sandbox: Sandbox, tmp_path: Path) -> None:
    # Joined by the source's own equality, each row would be there twice, for two units.
    with duckdb.connect(str(tmp_path / "data.db")) as connection:
        connection.execute("CREATE TABLE o (pid INT, k VARCHAR COLLATE NOCASE)")
        connection.execute("INSERT INTO o VALUES (1, 'x'), (2, 'X')")
        connection.execute("CREATE TABLE l (k VARCHAR COLLATE NOCASE, a INT)")
        connection.execute("INSERT INTO l VALUES ('x', 1), ('X', 2)")
    product = parse_product(
        "id: p\ntables:\n"
        "  o: {duckdb: data.db, table: o, unit: pid, columns: {k: {use: [group]}}}\n"
        "  l:\n    {duckdb: data.db, table: l, unit: {via: o, on: {k: k}}, "
        "columns: {a: {use: [group]}}}\n"
        "release: {mode: aggregate, min_units: 2}\n"
    )
    prepare_product(product, tmp_path, tmp_path / "out", sandbox.isolation, tmp_path / "units")
    found = rows(tmp_path, "SELECT l.k, l.a, unit_of_l = pid FROM l JOIN o USING (k) ORDER BY a")
    assert found == [("x", 1, True), ("X", 2, True)]


def test_growth_changes_no_line_of_the_registry(
    sandbox: Sandbox, tmp_path: Path, prepare: Callable[..., PreparedProduct]
) -> None:
    # A worker that adds to the registry takes ids after the last, whatever is there.
    duckdb.execute(
        f"COPY (SELECT i AS pid, i AS a FROM range(9) r(i)) TO '{tmp_path / 'data.parquet'}'"
    )
    prepare("{a: {use: [group]}}")
    registry = tmp_path / "units" / "pid" / "units.duckdb"
    with duckdb.connect(str(registry)) as connection:
        before = connection.execute("SELECT * FROM units ORDER BY id").fetchall()
    duckdb.execute(
        f"COPY (SELECT i AS pid, i AS a FROM range(5, 30) r(i)) TO '{tmp_path / 'data.parquet'}'"
    )
    prepare("{a: {use: [group]}}")
    with duckdb.connect(str(registry)) as connection:
        after = connection.execute("SELECT * FROM units ORDER BY id").fetchall()
    assert after[: len(before)] == before
    assert [row[1] for row in after] == list(range(30))


def test_rounding_up_to_another_digit(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    duckdb.execute(
        "COPY (SELECT i AS pid, CASE WHEN i < 2 THEN 99.96 ELSE 1.5 END::DECIMAL(4,2) AS a "
        f"FROM range(3) r(i)) TO '{tmp_path / 'data.parquet'}'"
    )
    prepared = prepare("{a: {use: [aggregate], decimals: 1}}")
    assert prepared.notes == ("column a: 2 values were rounded to 1 decimals",)
    assert [str(row[0]) for row in rows(tmp_path, "SELECT a FROM p ORDER BY a")] == [
        "1.5",
        "100.0",
        "100.0",
    ]


def test_enum_values_are_not_in_the_manifest(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    # The type's description lists them all: values of the data, and longer than a name may be.
    with duckdb.connect(str(tmp_path / "data.db")) as connection:
        connection.execute("CREATE TYPE many AS ENUM (SELECT 'secret-' || i FROM range(200) r(i))")
        connection.execute(
            "CREATE TABLE t AS SELECT i AS pid, ('secret-' || i)::many AS a FROM range(200) r(i)"
        )
    prepared = prepare("{a: {use: [group]}}", "{duckdb: data.db, table: t}")
    assert prepared.columns[0].source_type == "ENUM"
    assert b"secret" not in (tmp_path / "out" / MANIFEST).read_bytes()


def test_no_row_of_a_csv_is_a_comment(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    ids = [*range(5), "#5", "#6", *range(7, 12)]
    lines = [f"{name},x{n}" for n, name in enumerate(ids)]
    (tmp_path / "data.csv").write_text("pid,a\n" + "\n".join(lines) + "\n")
    prepared = prepare("{a: {use: [group]}}", "{csv: data.csv}")
    assert (prepared.rows, prepared.units) == (len(ids), len(ids))


def test_units_that_a_collation_takes_for_one(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    # Units are known by their text: one person would count as two.
    with duckdb.connect(str(tmp_path / "data.db")) as connection:
        connection.execute("CREATE TABLE t (pid VARCHAR COLLATE NOCASE, a VARCHAR COLLATE NOCASE)")
        connection.execute("INSERT INTO t VALUES ('x','q'), ('X','Q'), ('y','q'), ('Y','r')")
    with pytest.raises(PreparationError, match="has 4 texts for 2 units"):
        prepare("{a: {use: [group]}}", "{duckdb: data.db, table: t}")


def test_collation_decides_nothing_that_is_stored(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    with duckdb.connect(str(tmp_path / "data.db")) as connection:
        connection.execute("CREATE TABLE t (pid VARCHAR COLLATE NOCASE, a VARCHAR COLLATE NOCASE)")
        connection.execute("INSERT INTO t VALUES ('x','q'), ('y','Q'), ('y','q'), ('z','r')")
    prepared = prepare("{a: {use: [group]}}", "{duckdb: data.db, table: t}")
    assert (prepared.rows, prepared.units) == (4, 3)
    assert rows(tmp_path, "SELECT DISTINCT a FROM p ORDER BY a") == [("Q",), ("q",), ("r",)]
    # 'Q' is none of the declared values, whatever the source takes for equal.
    with pytest.raises(PreparationError, match="1 values outside its declared `values`"):
        prepare("{a: {use: [group], values: [q, r]}}", "{duckdb: data.db, table: t}")


def test_prepared_data_is_for_its_owner_alone(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    duckdb.execute(f"COPY (SELECT 1 AS pid, 2 AS a) TO '{tmp_path / 'data.parquet'}'")
    prepared = prepare("{a: {use: [group]}}")
    assert prepared.path.stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_NS"])
def test_last_day_of_bounds_counts_whole(
    prepare: Callable[..., PreparedProduct], tmp_path: Path, kind: str
) -> None:
    def write(moment: str) -> None:
        duckdb.execute(
            f"COPY (SELECT 1 AS pid, '{moment}+00'::{kind} AS a) TO '{tmp_path / 'data.parquet'}'"
        )

    columns = "{a: {use: [filter], bounds: [2024-02-01, 2024-03-01]}}"
    for within in ("2024-02-01 00:00:00", "2024-03-01 23:59:59.999999"):
        write(within)
        assert prepare(columns).rows == 1
    for outside in ("2024-01-31 23:59:59.999999", "2024-03-02 00:00:00"):
        write(outside)
        with pytest.raises(PreparationError, match="outside its declared bounds"):
            prepare(columns)


def test_lost_digits_of_times_are_noted(
    prepare: Callable[..., PreparedProduct], tmp_path: Path
) -> None:
    duckdb.execute(
        "COPY (SELECT 1 AS pid, TIMESTAMP_NS '2024-01-01 00:00:00.123456789' AS a) "
        f"TO '{tmp_path / 'data.parquet'}'"
    )
    prepared = prepare("{a: {use: [filter]}}")
    assert prepared.notes == ("column a: times are kept to the microsecond",)


@pytest.mark.parametrize(
    "extra", ["subjects: 99999999999999999999", 'level: "general"\ntheme: "\\ud800"']
)
def test_what_has_no_canonical_form_is_named(sandbox: Sandbox, tmp_path: Path, extra: str) -> None:
    duckdb.execute(f"COPY (SELECT 1 AS pid, 2 AS a) TO '{tmp_path / 'data.parquet'}'")
    first, _, rest = extra.partition("\n")
    product = parse_product(
        f"id: p\nsource: {{parquet: data.parquet}}\nprivacy_unit: pid\n{rest}\n"
        f"classification: {{{first}}}\ncolumns: {{a: {{use: [group]}}}}\n"
        "release: {mode: aggregate, min_units: 2}\n"
    )
    with pytest.raises(PreparationError, match="can't be written down"):
        prepare_product(product, tmp_path, tmp_path / "out", sandbox.isolation, tmp_path / "units")
