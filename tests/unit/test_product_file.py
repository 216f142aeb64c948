"""Product files: what is read, and what each mistake is answered with."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import pytest
from sandbox_world import PRODUCT

import luoshu.bench
from luoshu.sandbox.errors import ProductFileError
from luoshu.sandbox.product_file import (
    AggregateRelease,
    ColumnRule,
    DifferentialPrivacyRelease,
    ProductFile,
    UnitPath,
    load_product_file,
    parse_product,
)
from luoshu.sandbox.schema import Use

SEVERAL = """
id: tpch
tables:
  orders:
    parquet: o.parquet
    unit: o_custkey
    columns: {day: {use: [group], bounds: [2020-01-01, 2021-01-01]}}
  lineitem:
    parquet: l.parquet
    unit: {via: orders, on: {l_orderkey: o_orderkey}}
    columns: {flag: {use: [group], values: [yes, no, 1.5, true]}}
  part: {parquet: p.parquet, public: true}
release:
  {mode: aggregate, min_units: 10, jitter: 4, dominance: 0.85, scope: participant, debits: 16}
"""


def test_product_of_one_table() -> None:
    product = parse_product(PRODUCT)
    assert product.table_name == "visits"
    assert product.title is not None
    assert product.title.zh == "就诊记录"
    assert product.columns is not None
    assert product.columns["age"].bounds == (Decimal(0), Decimal(120))
    assert product.columns["ward"].use == {Use.GROUP, Use.FILTER}
    assert isinstance(product.release, AggregateRelease)


def test_product_of_several_tables() -> None:
    product = parse_product(SEVERAL)
    assert product.tables is not None
    assert product.tables["lineitem"].unit == UnitPath(
        via="orders", on={"l_orderkey": "o_orderkey"}
    )
    orders, lineitem = product.tables["orders"].columns, product.tables["lineitem"].columns
    assert orders is not None
    assert lineitem is not None
    assert orders["day"].bounds == (dt.date(2020, 1, 1), dt.date(2021, 1, 1))
    assert lineitem["flag"].values == ("yes", "no", "1.5", "true")


@pytest.mark.parametrize(
    "mode",
    [
        "{mode: dp, epsilon: 1, delta: 1e-6, cells_per_unit: 1}",
        "{mode: rows, columns: [ward], max_rows: 5}",
    ],
)
def test_other_modes_are_read(mode: str) -> None:
    text = PRODUCT.replace("{mode: aggregate, min_units: 10}", mode)
    assert parse_product(text).release.mode in {"dp", "rows"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id: visits", "id: Visits", "id:"),
        ("id: visits", "id: visits\nid: other", "given twice"),
        ("id: visits", "id: visits\ncolour: red", "colour: unknown key"),
        ("use: [group, filter]}", "use: [group, filtr]}", "columns.ward.use"),
        ("use: [group, filter]}", "use: []}", "columns.ward.use"),
        ("use: [group, filter]}", "usage: [group]}", "columns.ward.usage: unknown key"),
        ("bounds: [0, 120]", "bounds: [120, 0]", "[least, greatest]"),
        ("bounds: [0, 120]", "bounds: [0]", "columns.age.bounds"),
        ("bounds: [0, 120]", "bounds: [a, b]", "must be a number or a date"),
        ("bounds: [0, 120]", "bounds: [0, .inf]", "must be a number or a date"),
        ("bounds: [0, 120]", "bounds: [0, 2020-01-01]", "two numbers or two dates"),
        ("decimals: 2", "decimals: 99", "columns.cost.decimals"),
        ("{parquet: visits.parquet}", "{parquet: a, csv: b}", "exactly one of"),
        ("{parquet: visits.parquet}", "{duckdb: a}", "`table` goes with duckdb"),
        ("{parquet: visits.parquet}", "{parquet: a, table: b}", "`table` goes with duckdb"),
        ("{parquet: visits.parquet}", "{excel: a}", "unknown key"),
        ("min_units: 10", "min_units: 0", "release.min_units"),
        ("min_units: 10", "min_units: 10, k: 3", "release.k: unknown key"),
        ("mode: aggregate", "mode: anything", "release"),
        ("privacy_unit: patient_id", "privacy_unit: ward", "analysts can only count it"),
        ("privacy_unit: patient_id", "privacy_unit: WARD", "differ only in the case"),
        ("privacy_unit: patient_id\n", "", "missing: privacy_unit"),
        ("release:", "tables: {a: {parquet: a, public: true}}\nrelease:", "stands instead of"),
        ("subjects: 200", "subjects: -1", "classification.subjects"),
        ("level: general", "level: secret", "classification.level"),
        ("title: {en: Hospital visits, zh: 就诊记录}", "title: {en: Hospital}", "title.zh"),
    ],
)
def test_mistakes_are_named(old: str, new: str, said: str) -> None:
    assert old in PRODUCT
    with pytest.raises(ProductFileError) as refused:
        parse_product(PRODUCT.replace(old, new, 1))
    assert said in refused.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "a: [",
        "a: &x [*x]",
        "!!python/object:os.system {}",
        "{[a]: b}",
        "id: !!binary x",
        "\x00",
    ],
)
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(ProductFileError):
        parse_product(text)


def test_table_needs_a_unit_or_is_public() -> None:
    with pytest.raises(ProductFileError, match="public: true"):
        parse_product(SEVERAL.replace(", public: true", ""))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("public: true", "public: true, key: []", "at least 1"),
        ("public: true", "public: true, key: [a, a]", "names a column twice"),
        (
            "public: true",
            "public: true, key: [a, b], columns: {a: {use: [group]}}",
            "not among its `columns`",
        ),
        ("unit: o_custkey", "key: [day]\n    unit: o_custkey", "goes with public tables"),
        ("columns: {day:", "columns: {o_custkey: {use: [group]}, day:", "orders: the privacy unit"),
        ("columns: {day:", "columns: {O_CUSTKEY: {use: [group]}, day:", "orders: two columns"),
        ("columns: {day:", "columns: {O_ORDERKEY: {use: [group]}, day:", "orders: two columns"),
        ("columns: {flag:", "columns: {L_orderkey: {use: [group]}, flag:", "lineitem: two columns"),
        ("  part:", "  Orders:", "two tables differ only in the case"),
        ("via: orders", "via: nothing", "there is no table nothing"),
        ("via: orders", "via: part", "part is public"),
        ("via: orders", "via: lineitem", "in a circle: lineitem → lineitem"),
        ("unit: o_custkey", "unit: {via: lineitem, on: {a: b}}", "in a circle"),
        ("{l_orderkey: o_orderkey}", "{}", "lineitem.unit"),
        ("{l_orderkey: o_orderkey}", "{l_orderkey: o_custkey, a: b}", "name it alone"),
    ],
)
def test_mistakes_in_tables_are_named(old: str, new: str, said: str) -> None:
    assert old in SEVERAL
    with pytest.raises(ProductFileError) as refused:
        parse_product(SEVERAL.replace(old, new, 1))
    assert said in refused.value.message


def test_column_of_a_path_may_be_declared() -> None:
    product = parse_product(
        SEVERAL.replace("columns: {flag:", "columns: {l_orderkey: {use: [group]}, flag:")
    )
    assert [source.table for source in product.unit_sources] == ["orders", "lineitem", "part"]


@pytest.mark.parametrize(
    ("declared", "domain"),
    [
        ("", "patient_id"),
        ("privacy_domain: Patients\n", "patients"),
        ('privacy_domain: "Cafe\\u0301"\n', "café"),
    ],
)
def test_domain_is_the_units_column_or_declared(declared: str, domain: str) -> None:
    assert parse_product(declared + PRODUCT).domain == domain


def test_domain_of_several_tables_is_the_first_unit_column() -> None:
    assert parse_product(SEVERAL).domain == "o_custkey"
    public = (
        "id: p\ntables: {a: {parquet: a, public: true}}\nrelease: {mode: aggregate, min_units: 2}"
    )
    assert parse_product(public).domain == ""


@pytest.mark.parametrize(
    ("product_id", "name"),
    [("a-b-c", "a_b_c"), ("main", "main_"), ("temp", "temp_"), ("pg-catalog", "pg_catalog_")],
)
def test_name_in_sql(product_id: str, name: str) -> None:
    product = parse_product(PRODUCT.replace("id: visits", f"id: {product_id}", 1))
    assert product.table_name == name
    assert list(product.table_rules) == [name]


PAGE = Path(__file__).parents[2] / "docs" / "product-file.md"


def test_examples_of_the_documentation_are_product_files() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert [parse_product(example).id for example in examples] == ["lung-survival", "shop"]


def test_every_key_is_documented() -> None:
    text = PAGE.read_text("utf-8")
    releases = (AggregateRelease, DifferentialPrivacyRelease)
    keys = {name for model in (ProductFile, *releases) for name in model.model_fields}
    keys |= {f"columns.<name>.{name}" for name in ColumnRule.model_fields}
    assert not [key for key in sorted(keys) if f"`{key}`" not in text]


def test_product_file_of_tpch() -> None:
    product = load_product_file(Path(luoshu.bench.__file__).parent / "tpch" / "tpch.yaml")
    assert len(product.table_rules) == 8
    assert [s.table for s in product.unit_sources if not s.is_public] == [
        "customer",
        "orders",
        "lineitem",
    ]


def test_missing_and_large_files(tmp_path: Path) -> None:
    with pytest.raises(ProductFileError, match="can't be read"):
        load_product_file(tmp_path / "none.yaml")
    (tmp_path / "large.yaml").write_text("# " + "x" * (1 << 20))
    with pytest.raises(ProductFileError, match="larger than 1 MiB"):
        load_product_file(tmp_path / "large.yaml")
