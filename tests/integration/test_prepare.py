"""Preparation in its isolated worker: what comes out, and what each fault is answered with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sandbox_world import PRODUCT, VISITS

from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import MANIFEST, PREPARED, PreparedProduct, file_digest
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.run import Sandbox

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox.start()
    yield started
    started.close()


class Prepare:
    """Prepares data given as SQL under a product file given as changes to a small one."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.out = directory / "out"

    def __call__(
        self, select: str, columns: str = "{a: {use: [group]}}", source: str = ""
    ) -> PreparedProduct:
        if not source:
            duckdb.execute(f"COPY ({select}) TO '{self.directory / 'data.parquet'}'")
        product = parse_product(
            f"id: p\nsource: {source or '{parquet: data.parquet}'}\nprivacy_unit: u\n"
            f"columns: {columns}\nrelease: {{mode: aggregate, min_units: 2}}\n"
        )
        return prepare_product(
            product, self.directory, self.out, self.sandbox.isolation, self.directory / "units"
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.out / PREPARED), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def prepare(sandbox: Sandbox, tmp_path: Path) -> Prepare:
    return Prepare(sandbox, tmp_path)


def test_whole_product(sandbox: Sandbox, tmp_path: Path) -> None:
    duckdb.execute(f"COPY ({VISITS}) TO '{tmp_path / 'visits.parquet'}'")
    out = tmp_path / "out"
    prepared = prepare_product(
        parse_product(PRODUCT), tmp_path, out, sandbox.isolation, tmp_path / "units"
    )
    assert (prepared.units, prepared.rows) == (200, 600)
    assert prepared.source_digest == file_digest(tmp_path / "visits.parquet")
    assert {column.name: str(column.type) for column in prepared.columns} == {
        "ward": "VARCHAR",
        "sex": "VARCHAR",
        "age": "BIGINT",
        "cost": "DECIMAL(18,2)",
        "day": "DATE",
        "seen_at": "TIMESTAMP",
        "urgent": "BOOLEAN",
        "note": "VARCHAR",
    }
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, PREPARED]
    assert PreparedProduct.load(out) == prepared
    assert b"secret-" not in (out / MANIFEST).read_bytes()
    assert b"hidden" not in (out / MANIFEST).read_bytes()


def test_kinds_of_columns(prepare: Prepare) -> None:
    prepared = prepare(
        "SELECT i AS u, i::TINYINT AS a, (i * 3)::UBIGINT AS b, i / 3 AS c, i::FLOAT AS d, "
        "(i / 7)::DECIMAL(9,4) AS e, (CASE WHEN i < 2 THEN 'x' ELSE 'y' END)::ENUM('x', 'y') AS f, "
        "uuid() AS g, TIMESTAMP_NS '2024-01-01 00:00:00' AS h, "
        "TIMESTAMPTZ '2024-01-01 00:00:00+08' AS k FROM range(4) r(i)",
        "{" + ", ".join(f"{name}: {{use: [group]}}" for name in "abcdefghk") + "}",
    )
    assert [str(column.type) for column in prepared.columns] == [
        "BIGINT",
        "BIGINT",
        "DECIMAL(18,6)",
        "DECIMAL(18,6)",
        "DECIMAL(9,4)",
        "VARCHAR",
        "VARCHAR",
        "TIMESTAMP",
        "TIMESTAMP",
    ]
    assert prepare.rows("SELECT DISTINCT k::VARCHAR FROM p") == [("2023-12-31 16:00:00",)]
    assert prepare.rows("SELECT c::VARCHAR FROM p ORDER BY c") == [
        ("0.000000",),
        ("0.333333",),
        ("0.666667",),
        ("1.000000",),
    ]
    notes = " ".join(prepared.notes)
    assert "column c: 2 values were rounded to 6 decimals" in notes
    assert "column k: times are kept in UTC" in notes


def test_decimals_are_declared(prepare: Prepare) -> None:
    prepared = prepare(
        "SELECT i AS u, i + 0.25::DOUBLE AS a FROM range(3) r(i)",
        "{a: {use: [aggregate], decimals: 2}}",
    )
    assert str(prepared.columns[0].type) == "DECIMAL(18,2)"
    assert prepared.notes == ()


def test_csv(prepare: Prepare) -> None:
    lines = [f"u{i},{i},2024-01-{i + 1:02d}" for i in range(20)]
    (prepare.directory / "data.csv").write_text("u,a,day\n" + "\n".join(lines) + "\n")
    prepared = prepare("", "{a: {use: [group]}, day: {use: [group]}}", "{csv: data.csv}")
    assert [str(column.type) for column in prepared.columns] == ["BIGINT", "DATE"]


def test_csv_type_is_decided_by_all_rows(prepare: Prepare) -> None:
    lines = [f"{i},{i}" for i in range(50_000)]
    (prepare.directory / "data.csv").write_text("u,a\n" + "\n".join(lines) + "\n50000,x\n")
    prepared = prepare("", "{a: {use: [group]}}", "{csv: data.csv}")
    assert str(prepared.columns[0].type) == "VARCHAR"


def test_duckdb(prepare: Prepare) -> None:
    with duckdb.connect(str(prepare.directory / "data.db")) as connection:
        connection.execute("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS u, 2 AS a")
    assert prepare("", source="{duckdb: data.db, table: s.t}").rows == 1
    with pytest.raises(PreparationError, match=r"no table t; its tables: s\.t"):
        prepare("", source="{duckdb: data.db, table: t}")
    (prepare.directory / "data.db.wal").touch()
    with pytest.raises(PreparationError, match="CHECKPOINT"):
        prepare("", source="{duckdb: data.db, table: s.t}")


def test_names_that_need_quotes(prepare: Prepare) -> None:
    prepared = prepare(
        """SELECT i AS u, i AS "select", i AS "a ""b"" '年龄'" FROM range(3) r(i)""",
        """{select: {use: [group]}, "a \\"b\\" '年龄'": {use: [group]}}""",
    )
    assert [column.name for column in prepared.columns] == ["select", "a \"b\" '年龄'"]


@pytest.mark.parametrize(
    ("select", "columns", "said"),
    [
        ("SELECT 1 AS u, 2 AS b", "{a: {use: [group]}}", "no column a; its columns: u, b"),
        ("SELECT 1 AS b, 2 AS a", "{a: {use: [group]}}", "no column u"),
        ("SELECT 1 AS u, 2 AS A", "{a: {use: [group]}}", "no column a; its columns: u, A"),
        (
            "SELECT nullif(i, 1) AS u, 2 AS a FROM range(3) r(i)",
            "{a: {use: [group]}}",
            "privacy unit u is NULL in 1 rows",
        ),
        ("SELECT 1.5::DOUBLE AS u, 2 AS a", "{a: {use: [group]}}", "privacy unit u is DOUBLE"),
        ("SELECT [1] AS u, 2 AS a", "{a: {use: [group]}}", "column u is INTEGER[]"),
        (
            "SELECT 1 AS u, i AS a FROM range(9) r(i)",
            "{a: {use: [aggregate], bounds: [1, 5]}}",
            "column a has 4 values outside its declared bounds",
        ),
        (
            "SELECT 1 AS u, 'x' AS a",
            "{a: {use: [group], bounds: [1, 5]}}",
            "`bounds` go with numbers and dates",
        ),
        (
            "SELECT 1 AS u, DATE '2024-01-05' AS a",
            "{a: {use: [group], bounds: [2024-02-01, 2024-03-01]}}",
            "column a has 1 values outside its declared bounds",
        ),
        (
            "SELECT 1 AS u, i AS a FROM range(3) r(i)",
            "{a: {use: [aggregate], bounds: [2024-02-01, 2024-03-01]}}",
            "is no such value",
        ),
        (
            "SELECT 1 AS u, 'secret' AS a",
            "{a: {use: [group], values: [f, m]}}",
            "column a has 1 values outside its declared `values`",
        ),
        (
            "SELECT 1 AS u, 1 AS a",
            "{a: {use: [group], values: [one]}}",
            "one in its `bounds` or `values` is no such value",
        ),
        (
            "SELECT 1 AS u, 'nan'::DOUBLE AS a UNION ALL SELECT 1, 'infinity'::DOUBLE",
            "{a: {use: [aggregate]}}",
            "column a has 2 values that are NaN or infinite",
        ),
        (
            "SELECT 1 AS u, 1e15::DOUBLE AS a",
            "{a: {use: [aggregate]}}",
            "column a has 1 values that do not fit DECIMAL(18,6)",
        ),
        (
            "SELECT 1 AS u, 9223372036854775808::UBIGINT AS a",
            "{a: {use: [aggregate]}}",
            "column a has 1 values that do not fit BIGINT",
        ),
        (
            "SELECT 1 AS u, DATE 'infinity' AS a",
            "{a: {use: [group]}}",
            "column a has 1 values outside the years 1 to 9999",
        ),
        (
            "SELECT 1 AS u, TIMESTAMP '20000-01-01 00:00:00' AS a",
            "{a: {use: [group]}}",
            "column a has 1 values outside the years 1 to 9999",
        ),
        ("SELECT 1 AS u, 2 AS a", "{a: {use: [group], decimals: 2}}", "`decimals` goes with"),
        *(
            (f"SELECT 1 AS u, {value} AS a", "{a: {use: [group]}}", f"column a is {kind}")
            for value, kind in (
                ("[1]", "INTEGER[]"),
                ("{'x': 1}", "STRUCT(x INTEGER)"),
                ("MAP {'x': 1}", "MAP(VARCHAR, INTEGER)"),
                ("'x'::BLOB", "BLOB"),
                ("TIME '12:00:00'", "TIME"),
                ("INTERVAL 1 DAY", "INTERVAL"),
            )
        ),
    ],
)
def test_fault_in_the_data_is_named(prepare: Prepare, select: str, columns: str, said: str) -> None:
    with pytest.raises(PreparationError) as refused:
        prepare(select, columns)
    assert said in refused.value.message
    assert "secret" not in refused.value.message
    assert not (prepare.out / MANIFEST).exists()
    assert list(prepare.out.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mode: aggregate, min_units: 10", "mode: rows", "`rows` is not there yet"),
        (
            "{parquet: visits.parquet}",
            "{postgres: url, table: t}",
            "postgres sources are not there",
        ),
        ("{parquet: visits.parquet}", "{parquet: none.parquet}", "There is no file"),
    ],
)
def test_what_is_not_there_yet_is_refused(
    sandbox: Sandbox, tmp_path: Path, old: str, new: str, said: str
) -> None:
    (tmp_path / "visits.parquet").touch()
    product = parse_product(PRODUCT.replace(old, new))
    with pytest.raises(PreparationError, match=said):
        prepare_product(product, tmp_path, tmp_path / "out", sandbox.isolation, tmp_path / "units")


def test_unreadable_source(prepare: Prepare) -> None:
    (prepare.directory / "data.parquet").write_bytes(b"secret,which,is,not,parquet")
    with pytest.raises(
        PreparationError, match="DuckDB can't read the source as parquet"
    ) as refused:
        prepare("", source="{parquet: data.parquet}")
    assert "secret" not in refused.value.message


def test_failed_preparation_keeps_the_earlier_one(prepare: Prepare) -> None:
    earlier = prepare("SELECT 1 AS u, 2 AS a")
    with pytest.raises(PreparationError):
        prepare("SELECT 1 AS u, 2 AS b")
    assert PreparedProduct.load(prepare.out) == earlier
    later = prepare("SELECT i AS u, 2 AS a FROM range(5) r(i)")
    assert (later.units, later.digest == earlier.digest) == (5, False)


def test_altered_file_is_not_loaded(prepare: Prepare) -> None:
    prepared = prepare("SELECT 1 AS u, 2 AS a")
    data = bytearray(prepared.path.read_bytes())
    data[-1] ^= 1
    prepared.path.chmod(0o644)
    prepared.path.write_bytes(data)
    with pytest.raises(PreparationError, match="was altered"):
        PreparedProduct.load(prepare.out)


def test_altered_manifest_is_not_loaded(prepare: Prepare) -> None:
    prepare("SELECT 1 AS u, 2 AS a")
    manifest = prepare.out / MANIFEST
    text = manifest.read_text()
    for changed in (
        text.replace("luoshu/prepared/v3", "luoshu/prepared/v2"),
        text.replace('"units":1', '"units":-1'),
        text.replace('"units":1', '"units":1,"more":1'),
        text.replace('"BIGINT"', '"BLOB"'),
        "{}",
        "",
    ):
        manifest.write_text(changed)
        with pytest.raises(PreparationError, match="prepare the product again"):
            PreparedProduct.load(prepare.out)
    manifest.unlink()
    with pytest.raises(PreparationError, match="holds no prepared product"):
        PreparedProduct.load(prepare.out)


def test_empty_source(prepare: Prepare) -> None:
    prepared = prepare("SELECT 1 AS u, 2 AS a WHERE false")
    assert (prepared.rows, prepared.units) == (0, 0)
