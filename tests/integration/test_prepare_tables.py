"""Products of several tables: units by columns and by paths, public tables, joins, each fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import MANIFEST, PREPARED, PreparedProduct
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.run import Sandbox
from luoshu.sandbox.schema import UnitKey, Use

pytestmark = pytest.mark.system

CUSTOMERS = "SELECT 'c' || i AS c_custkey, i % 3 AS c_nation FROM range(5) r(i)"
ORDERS = (
    "SELECT 100 + i AS o_orderkey, 'c' || (i % 5) AS o_custkey, i AS o_price FROM range(20) r(i)"
)
LINES = (
    "SELECT (100 + i % 20)::BIGINT AS l_orderkey, i % 4 AS l_line, i AS l_price, "
    "'n' || i AS l_note FROM range(60) r(i)"
)
PARTS = (
    "SELECT i AS p_partkey, 'p' || i AS p_name, i / 4 AS p_price, [i] AS p_list FROM range(3) r(i)"
)
DATA = {"customer": CUSTOMERS, "orders": ORDERS, "lineitem": LINES, "part": PARTS}

TABLES = """
  lineitem:
    parquet: lineitem.parquet
    unit: {via: orders, on: {l_orderkey: o_orderkey}}
    columns: {l_price: {use: [aggregate]}, l_orderkey: {use: [group]}}
  orders:
    parquet: orders.parquet
    unit: {via: customer, on: {o_custkey: c_custkey}}
    columns: {o_price: {use: [aggregate]}}
  customer: {parquet: customer.parquet, unit: c_custkey, columns: {c_nation: {use: [group]}}}
  part: {parquet: part.parquet, public: true}
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox.start()
    yield started
    started.close()


class Prepare:
    """Prepares tables given as SQL."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.out = directory / "out"

    def __call__(
        self,
        tables: str = TABLES,
        release: str = "{mode: aggregate, min_units: 2}",
        **data: str,
    ) -> PreparedProduct:
        for name, select in {**DATA, **data}.items():
            path = self.directory / f"{name}.parquet"
            duckdb.execute(f"COPY ({select}) TO '{path}'")
        product = parse_product(f"id: shop-1\ntables:{tables}\nrelease: {release}\n")
        return prepare_product(
            product, self.directory, self.out, self.sandbox.isolation, self.directory / "units"
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.out / PREPARED), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def prepare(sandbox: Sandbox, tmp_path: Path) -> Prepare:
    return Prepare(sandbox, tmp_path)


def test_each_row_has_the_unit_that_its_path_leads_to(prepare: Prepare) -> None:
    prepared = prepare()
    assert (prepared.table_name, prepared.domain, prepared.units) == ("shop_1", "c_custkey", 5)
    assert [(table.name, table.unit, table.rows) for table in prepared.tables] == [
        ("customer", "c_custkey", 5),
        ("orders", "o_custkey", 20),
        ("lineitem", "unit_of_lineitem", 60),
        ("part", None, 3),
    ]
    # By the order's number, which is 100 + i of customer i % 5, and of lines i % 20.
    assert prepare.rows(
        "SELECT min(n), max(n), count(*) FROM (SELECT count(*) AS n FROM lineitem "
        "GROUP BY unit_of_lineitem)"
    ) == [(12, 12, 5)]
    assert prepare.rows(
        "SELECT count(*) FROM lineitem JOIN orders ON l_orderkey = o_orderkey "
        "WHERE unit_of_lineitem <> o_custkey"
    ) == [(0,)]
    assert (
        prepare.rows("SELECT count(DISTINCT o_orderkey % 5) FROM orders GROUP BY o_custkey")
        == [(1,)] * 5
    )
    assert prepare.rows("SELECT count(*) FROM orders JOIN customer ON o_custkey = c_custkey") == [
        (20,)
    ]
    assert PreparedProduct.load(prepare.out) == prepared


def test_columns_that_tell_public_rows_apart_are_found(prepare: Prepare) -> None:
    *protected, part = prepare().schemas()
    assert part.unique == (("p_partkey",), ("p_name",), ("p_price",))
    assert all(table.unique == () for table in protected)
    twice = "SELECT 1 AS p_partkey, i AS p_name, nullif(i, 2) AS p_price, 3 AS p_list "
    part = prepare(part=f"{twice} FROM range(3) r(i)").schemas()[-1]
    assert part.unique == (("p_name",), ("p_price",))  # NULL once is a value like any other
    part = prepare(part=f"{twice} FROM range(2, 4) r(i) UNION ALL {twice} FROM range(3) r(i)")
    assert part.schemas()[-1].unique == ()


def test_declared_keys_are_demanded_of_each_version(prepare: Prepare) -> None:
    keyed = TABLES.replace("public: true", "public: true, key: [p_name, p_partkey]")
    rows = "SELECT i // 2 AS p_partkey, i % 2 AS p_name, 0 AS p_price FROM range({}) r(i)"
    assert prepare(keyed, part=rows.format(4)).schemas()[-1].unique == (("p_name", "p_partkey"),)
    with pytest.raises(PreparationError, match="several rows have the same p_name, p_partkey"):
        prepare(keyed, part=f"{rows.format(4)} UNION ALL {rows.format(1)}")
    with pytest.raises(PreparationError, match="`key` names p_code"):
        prepare(keyed.replace("p_name,", "p_code,"))
    single = TABLES.replace("public: true", "public: true, key: [p_partkey]")
    with pytest.raises(PreparationError, match="several rows have the same p_partkey"):
        prepare(single, part=rows.format(4))


def test_schemas_name_keys_and_domains(prepare: Prepare) -> None:
    customer, orders, lineitem, part = prepare().schemas()
    key = "orders(o_orderkey)"
    assert orders.keys == (UnitKey(key, ("o_orderkey",)),)
    assert lineitem.keys == (UnitKey(key, ("l_orderkey",)),)
    assert (customer.keys, part.keys) == ((), ())
    assert {table.catalog for table in (customer, orders, lineitem, part)} == {"shop_1"}
    assert [table.domain for table in (customer, orders, lineitem, part)] == ["c_custkey"] * 3 + [
        ""
    ]
    # Only what is declared or joins: the note is nowhere, and o_orderkey is there without a use.
    assert {column.name: column.uses for column in orders.columns} == {
        "o_price": {Use.AGGREGATE},
        "o_orderkey": frozenset(),
    }
    assert [column.name for column in lineitem.columns] == ["l_price", "l_orderkey"]
    assert prepare.rows(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_name = 'lineitem' ORDER BY ordinal_position"
    ) == [
        ("unit_of_lineitem", "BIGINT", "NO"),
        ("l_price", "BIGINT", "YES"),
        ("l_orderkey", "BIGINT", "YES"),
    ]


def test_rows_of_a_unit_lie_together(prepare: Prepare) -> None:
    prepare()
    for table, unit in (("orders", "o_custkey"), ("lineitem", "unit_of_lineitem")):
        stored = [row[0] for row in prepare.rows(f"SELECT {unit} FROM {table}")]
        assert stored == sorted(stored)


def test_public_table_has_all_columns_that_are_supported(prepare: Prepare) -> None:
    prepared = prepare()
    part = prepared.tables[-1]
    assert part.is_public
    assert [(column.name, str(column.type), column.uses) for column in part.columns] == [
        ("p_partkey", "BIGINT", frozenset(Use)),
        ("p_name", "VARCHAR", frozenset(Use)),
        ("p_price", "DECIMAL(18,6)", frozenset(Use)),
    ]
    assert "part: column p_list is left out: BIGINT[] is not supported" in prepared.notes


def test_public_table_may_declare_its_columns(prepare: Prepare) -> None:
    prepared = prepare(
        TABLES.replace("public: true", "public: true, columns: {p_name: {use: [group]}}")
    )
    assert [(c.name, c.uses) for c in prepared.tables[-1].columns] == [("p_name", {Use.GROUP})]


def test_product_of_public_tables_alone(prepare: Prepare) -> None:
    prepared = prepare("\n  part: {parquet: part.parquet, public: true}")
    assert (prepared.domain, prepared.registry, prepared.units) == ("", "", 0)
    assert prepared.schemas()[0].unit is None
    assert not (prepare.directory / "units").exists()


def test_tables_without_a_common_root_share_their_units(prepare: Prepare) -> None:
    tables = """
  orders: {parquet: orders.parquet, unit: o_custkey, columns: {o_price: {use: [aggregate]}}}
  visit: {parquet: visit.parquet, unit: who, columns: {day: {use: [group]}}}
"""
    visits = "SELECT 'c' || (i % 7) AS who, i AS day FROM range(14) r(i)"
    prepared = prepare(tables, visit=visits)
    assert (prepared.domain, prepared.units) == ("o_custkey", 7)
    assert prepare.rows(
        "SELECT count(*), count(DISTINCT who), count(DISTINCT o_orderkey) FROM visit "
        "LEFT JOIN (SELECT o_custkey, o_price AS o_orderkey FROM orders) ON who = o_custkey"
    ) == [(44, 7, 20)]


def test_path_of_several_columns(prepare: Prepare) -> None:
    tables = """
  stay:
    parquet: stay.parquet
    unit: patient
    columns: {ward: {use: [group]}}
  drug:
    parquet: drug.parquet
    unit: {via: stay, on: {hosp: hospital, no: number}}
    columns: {dose: {use: [aggregate]}}
"""
    prepared = prepare(
        tables,
        stay="SELECT i AS patient, i % 2 AS hospital, i // 2 AS number, 1 AS ward "
        "FROM range(8) r(i)",
        drug="SELECT i % 2 AS hosp, i // 2 AS no, i AS dose FROM range(8) r(i)",
    )
    stay, drug = prepared.schemas()
    assert stay.keys == (UnitKey("stay(hospital, number)", ("hospital", "number")),)
    assert drug.keys == (UnitKey("stay(hospital, number)", ("hosp", "no")),)
    assert prepare.rows(
        "SELECT count(*), count(*) FILTER (unit_of_drug = patient) FROM drug "
        "JOIN stay ON hosp = hospital AND no = number"
    ) == [(8, 8)]


def test_several_rows_of_a_unit_may_have_one_key(prepare: Prepare) -> None:
    twice = f"({ORDERS}) UNION ALL ({ORDERS})"
    prepared = prepare(orders=twice)
    assert [table.rows for table in prepared.tables] == [5, 40, 60, 3]


def test_hidden_unit_column_never_meets_another(prepare: Prepare) -> None:
    named = "l_price: {use: [aggregate]}, UNIT_OF_lineitem: {use: [group]}"
    prepared = prepare(
        TABLES.replace("l_price: {use: [aggregate]}", named),
        lineitem=LINES.replace("l_price,", 'l_price, 7 AS "UNIT_OF_lineitem",'),
    )
    assert prepared.tables[2].unit == "unit_of_lineitem_"


def test_several_tables_of_one_file(prepare: Prepare) -> None:
    with duckdb.connect(str(prepare.directory / "shop.db")) as connection:
        connection.execute(f"CREATE TABLE orders AS {ORDERS}")
        connection.execute(f"CREATE TABLE lineitem AS {LINES}")
    prepared = prepare("""
  orders: {duckdb: shop.db, table: orders, unit: o_custkey, columns: {o_price: {use: [aggregate]}}}
  lineitem:
    duckdb: shop.db
    table: lineitem
    unit: {via: orders, on: {l_orderkey: o_orderkey}}
    columns: {l_price: {use: [aggregate]}}
""")
    assert [table.rows for table in prepared.tables] == [20, 60]


def test_csv_and_parquet_side_by_side(prepare: Prepare) -> None:
    (prepare.directory / "orders.csv").write_text(
        "o_orderkey,o_custkey,o_price\n" + "".join(f"{100 + i},c{i % 5},{i}\n" for i in range(20))
    )
    prepared = prepare(TABLES.replace("parquet: orders.parquet", "csv: orders.csv"))
    assert [table.rows for table in prepared.tables] == [5, 20, 60, 3]


def test_same_data_has_the_same_digest_of_sources(prepare: Prepare) -> None:
    first, second = prepare(), prepare()
    assert first.source_digest == second.source_digest
    assert prepare(orders=ORDERS.replace("i AS o_price", "9 AS o_price")).source_digest != (
        first.source_digest
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"lineitem": LINES.replace("i % 20", "i % 22")},
            "lineitem: 4 rows reach no unit through orders",
        ),
        (
            {"lineitem": LINES.replace("(100 + i % 20)::BIGINT", "nullif(100 + i % 20, 105)")},
            "lineitem: 3 rows reach no unit through orders",
        ),
        (
            {"orders": ORDERS.replace("i % 5", "i % 10")},
            "orders: 10 rows reach no unit through customer",
        ),
        (
            {"orders": ORDERS.replace("100 + i ", "100 + i % 18 ")},
            r"lineitem: orders\(o_orderkey\) has 2 values that belong to several units",
        ),
        (
            {"orders": ORDERS.replace("'c' || (i % 5)", "nullif('c' || (i % 5), 'c1')")},
            "orders: the privacy unit o_custkey is NULL in 4 rows",
        ),
        (
            {"lineitem": LINES.replace("::BIGINT", "::VARCHAR")},
            r"column l_orderkey is VARCHAR, and orders\.o_orderkey, which it refers to, is BIGINT",
        ),
        (
            {"lineitem": LINES.replace("::BIGINT", "::DOUBLE")},
            "lineitem: column l_orderkey is DOUBLE and joins tables",
        ),
        (
            {"orders": ORDERS.replace("o_orderkey", "o_key")},
            "orders: the data has no column o_orderkey",
        ),
        (
            {"part": "SELECT [1] AS p_list"},
            "part: no column has a type that is supported",
        ),
        (
            {"part": "SELECT 'nan'::DOUBLE AS p_price"},
            "part: column p_price has 1 values that are NaN",
        ),
    ],
)
def test_fault_is_named_with_its_table(prepare: Prepare, data: dict[str, str], said: str) -> None:
    with pytest.raises(PreparationError, match=said):
        prepare(**data)
    assert not (prepare.out / MANIFEST).exists()
    assert list(prepare.out.iterdir()) == []
    assert [path.name for path in (prepare.directory / "units").iterdir()] == [".c_custkey.lock"]


def test_dp_moves_values_to_their_bounds(prepare: Prepare) -> None:
    tables = """
  t:
    parquet: t.parquet
    unit: u
    columns:
      i: {use: [aggregate], bounds: [0, 5]}
      h: {use: [aggregate], bounds: [-3, 5]}
      d: {use: [aggregate], bounds: [-1, 2.5], decimals: 1}
      e: {use: [aggregate], bounds: [0, 9]}
      day: {use: [group], bounds: [2024-01-02, 2024-01-03]}
      seen: {use: [filter], bounds: [2024-01-02, 2024-01-03]}
"""
    data = (
        "SELECT i AS u, CASE WHEN i < 8 THEN i END AS i, "
        "(i % 8)::UBIGINT * 2305843009213693952::UBIGINT AS h, "
        "CASE i WHEN 0 THEN 1e300 WHEN 1 THEN '-infinity'::DOUBLE ELSE i - 4.75 END AS d, "
        "(i * 1000)::DECIMAL(12,3) AS e, DATE '2024-01-01' + i::INTEGER AS day, "
        "TIMESTAMP '2024-01-01 12:00:00' + to_days(i::INTEGER) AS seen FROM range(9) r(i)"
    )
    prepared = prepare(tables, "{mode: dp, epsilon: 1}", t=data)
    assert prepared.release.mode == "dp"
    assert [(c.name, str(c.type)) for c in prepared.columns[:4]] == [
        ("i", "BIGINT"),
        ("h", "BIGINT"),
        ("d", "DECIMAL(2,1)"),
        ("e", "DECIMAL(4,3)"),
    ]
    assert prepare.rows("SELECT min(i), max(i), count(i), min(h), max(h) FROM t") == [
        (0, 5, 8, 0, 5)
    ]
    assert [str(row[0]) for row in prepare.rows("SELECT d FROM t ORDER BY d")] == [
        *("-1.0", "-1.0", "-1.0", "-0.8", "0.3", "1.3", "2.3", "2.5", "2.5"),
    ]
    assert [str(value) for value in prepare.rows("SELECT min(e), max(e) FROM t")[0]] == [
        "0.000",
        "9.000",
    ]
    assert [str(value) for value in prepare.rows("SELECT min(day), max(day) FROM t")[0]] == [
        "2024-01-02",
        "2024-01-03",
    ]
    assert [str(value) for value in prepare.rows("SELECT min(seen), max(seen) FROM t")[0]] == [
        "2024-01-02 00:00:00",
        "2024-01-03 23:59:59.999999",
    ]
    assert prepared.notes[0] == "column i: 2 values were moved to its declared bounds"
    with pytest.raises(PreparationError, match="column i has 2 values outside its declared bounds"):
        prepare(tables, t=data)


def test_dp_still_refuses_what_is_no_number(prepare: Prepare) -> None:
    tables = """
  t: {parquet: t.parquet, unit: u, columns: {d: {use: [aggregate], bounds: [0, 1]}}}
"""
    with pytest.raises(PreparationError, match="1 values that are NaN"):
        prepare(tables, "{mode: dp, epsilon: 1}", t="SELECT 1 AS u, 'nan'::DOUBLE AS d")


def test_dp_never_moves_a_key(prepare: Prepare) -> None:
    # Moved to the bound, a line's key would name another customer's order.
    bounds = "l_orderkey: {use: [group], bounds: [105, 110]}"
    tables = TABLES.replace("l_orderkey: {use: [group]}", bounds)
    with pytest.raises(PreparationError, match="column l_orderkey has 42 values outside"):
        prepare(tables, "{mode: dp, epsilon: 1}")
