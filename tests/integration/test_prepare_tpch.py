"""TPC-H at scale factor 0.01 under the product file that the coverage figures use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from luoshu.bench.tpch_data import write_tpch
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import PREPARED, PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.run import Sandbox

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tpch(tmp_path_factory.mktemp("tpch"), 0.01).parent


@pytest.fixture(scope="module")
def prepared(directory: Path) -> Iterator[PreparedProduct]:
    sandbox = Sandbox.start()
    yield prepare_product(
        load_product_file(directory / "tpch.yaml"),
        directory,
        directory / "out",
        sandbox.isolation,
        directory / "units",
    )
    sandbox.close()


@pytest.fixture(scope="module")
def both(directory: Path, prepared: PreparedProduct) -> Iterator[duckdb.DuckDBPyConnection]:
    """The prepared tables as `p`, and the sources under their own names."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{directory / 'out' / PREPARED}' AS p (READ_ONLY)")
        for table in prepared.tables:
            source = f"read_parquet('{directory / table.name}.parquet')"
            connection.execute(f"CREATE VIEW {table.name} AS SELECT * FROM {source}")
        yield connection


def test_all_tables_are_whole(prepared: PreparedProduct, both: duckdb.DuckDBPyConnection) -> None:
    assert prepared.units == 1500
    for table in prepared.tables:
        found = both.execute(f"SELECT count(*) FROM {table.name}").fetchone()
        assert found == (table.rows,)
    assert [table.name for table in prepared.tables if table.is_public] == [
        *("part", "partsupp", "supplier", "nation", "region")
    ]


def test_every_value_is_kept(prepared: PreparedProduct, both: duckdb.DuckDBPyConnection) -> None:
    for table in prepared.tables:
        names = ", ".join(column.name for column in table.columns)
        counted = f"SELECT {names}, count(*) AS n FROM {{}} GROUP BY ALL"
        kept = counted.format(f"p.{table.name}")
        source = counted.format(table.name)
        for one, other in ((kept, source), (source, kept)):
            assert both.execute(f"{one} EXCEPT {other} LIMIT 1").fetchall() == []


def test_units_are_the_customers_whatever_the_path(both: duckdb.DuckDBPyConnection) -> None:
    # What a unit's rows say of its customer in the sources, two joins away.
    (mixed, units) = both.execute(
        """
        SELECT count(*) FILTER (customers <> 1), count(*) FROM (
            SELECT unit_of_lineitem, count(DISTINCT o_custkey) AS customers
            FROM (SELECT DISTINCT unit_of_lineitem, l_orderkey FROM p.lineitem)
            JOIN orders ON l_orderkey = o_orderkey GROUP BY ALL)
        """
    ).fetchone() or (None, None)
    assert (mixed, units) == (
        0,
        *both.execute(
            "SELECT count(DISTINCT o_custkey) FROM orders JOIN lineitem ON l_orderkey = o_orderkey"
        ).fetchall()[0],
    )
    per_unit = "SELECT n, count(*) FROM (SELECT count(*) AS n FROM {} GROUP BY {}) GROUP BY n"
    assert set(both.execute(per_unit.format("p.orders", "o_custkey")).fetchall()) == set(
        both.execute(per_unit.format("orders", "o_custkey")).fetchall()
    )


def test_decimals_are_as_narrow_as_their_bounds(prepared: PreparedProduct) -> None:
    kinds = {column.name: str(column.type) for column in prepared.columns}
    assert kinds["l_quantity"] == "DECIMAL(4,2)"
    assert kinds["l_extendedprice"] == "DECIMAL(8,2)"
    assert kinds["l_discount"] == "DECIMAL(3,2)"
    assert kinds["p_retailprice"] == "DECIMAL(15,2)"


def test_public_tables_are_known_by_their_keys(prepared: PreparedProduct) -> None:
    unique = {table.name: table.unique for table in prepared.tables}
    assert ("ps_partkey", "ps_suppkey") in unique["partsupp"]
    assert not {("ps_partkey",), ("ps_suppkey",)} & set(unique["partsupp"])
    assert ("p_partkey",) in unique["part"]
    assert ("s_suppkey",) in unique["supplier"]
    assert ("n_nationkey",) in unique["nation"]
    assert ("r_regionkey",) in unique["region"]
    assert unique["lineitem"] == unique["orders"] == unique["customer"] == ()
