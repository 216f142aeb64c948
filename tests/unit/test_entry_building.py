"""From product file and prepared data to a catalog entry."""

from dataclasses import replace

import pytest
from contract_world import HOLDER, NOW, offer, terms
from trading_world import shelved

from luoshu.connector.catalog.entry_building import build_entry, read_offers
from luoshu.connector.errors import NodeError
from luoshu.contracts.product import ColumnUse, Table, TableKey
from luoshu.sandbox.prepared import PreparedColumn, PreparedTable
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.schema import BIGINT, DATE, VARCHAR, ColumnSchema, UnitKey, Use


def build(product, *offers, version=1, previous=None):
    return build_entry(
        product,
        offers or (offer(),),
        holder=HOLDER.credential(),
        version=version,
        previous=previous,
        now=NOW,
    )


def test_everything_declared_is_in_the_entry():
    entry = build(shelved())
    assert entry.id == f"{HOLDER.id}:product:lung"
    assert entry.title.zh == "肺癌生存数据"
    assert entry.classification.subjects == 228
    assert entry.security_level == 3
    assert entry.release.min_units == 10
    assert [(c.name, c.type) for c in entry.columns] == [("sex", "BIGINT"), ("time", "BIGINT")]
    assert entry.columns[0].use == (ColumnUse.GROUP, ColumnUse.FILTER)
    assert entry.source == "North"
    assert entry.offers == (offer(),)


def test_nothing_learnt_from_the_data_is_in_the_entry():
    one = shelved()
    (table,) = one.prepared.tables
    table = replace(table, rows=17)
    two = replace(one, prepared=replace(one.prepared, units=5, tables=(table,), notes=("secret",)))
    assert build(one) == build(two)


def test_what_is_left_out_is_filled_cautiously():
    bare = parse_product(
        "id: bare\nsource: {csv: x.csv}\nprivacy_unit: p\ncolumns: {a: {use: [group]}}\n"
        "release: {mode: aggregate, min_units: 10}\n"
    )
    entry = build(replace(shelved("bare"), file=bare))
    assert entry.title.en == "bare"
    assert entry.description == entry.title
    assert (entry.quality_grade, entry.security_level, entry.theme) == ("D", 1, "unspecified")
    assert "x.csv" not in str(entry.to_payload())


def test_weak_offers_and_unfit_columns_are_told_apart():
    with pytest.raises(NodeError) as weak:
        build(shelved(), offer(terms(min_units=9)))
    assert weak.value.reason == "TERMS_INVALID"
    product = shelved()
    (table,) = product.prepared.tables
    column = replace(table.columns[0], schema=replace(table.columns[0].schema, name="two words"))
    table = replace(table, columns=(column,))
    unfit = replace(product, prepared=replace(product.prepared, tables=(table,)))
    with pytest.raises(NodeError) as caught:
        build(unfit)
    assert caught.value.reason == "PRODUCT_FILE_INVALID"
    assert "column" in caught.value.public


def test_malformed_offers_name_the_field():
    with pytest.raises(NodeError) as caught:
        read_offers(b'[{"id": "a", "visible_to": ["*"], "terms": {}, "limits": {}}]')
    assert caught.value.reason == "TERMS_INVALID"
    assert "answer" in caught.value.public


SEVERAL = """
id: tpch
tables:
  orders:   {parquet: o, unit: o_custkey, columns: {day: {use: [group]}}}
  lineitem:
    parquet: l
    unit: {via: orders, on: {l_orderkey: o_orderkey}}
    columns: {l_orderkey: {use: [group]}}
  part: {parquet: p, public: true}
release: {mode: aggregate, min_units: 10}
"""
KEY = "orders(o_orderkey)"


def column(name, kind, *uses):
    return PreparedColumn(ColumnSchema(name, kind, frozenset(uses)))


def test_tables_and_how_they_join_are_in_the_entry():
    tables = (
        PreparedTable(
            "orders",
            "o_custkey",
            (column("day", DATE, Use.GROUP), column("o_orderkey", BIGINT)),
            (UnitKey(KEY, ("o_orderkey",)),),
        ),
        PreparedTable(
            "lineitem",
            "unit_of_lineitem",
            (column("l_orderkey", BIGINT, Use.GROUP),),
            (UnitKey(KEY, ("l_orderkey",)),),
        ),
        PreparedTable("part", None, (column("name", VARCHAR, *Use),)),
    )
    product = shelved("tpch")
    product = replace(
        product, file=parse_product(SEVERAL), prepared=replace(product.prepared, tables=tables)
    )
    entry = build(product)
    assert entry.tables == (
        Table("orders", "o_custkey", (TableKey(KEY, ("o_orderkey",)),)),
        Table("lineitem", None, (TableKey(KEY, ("l_orderkey",)),)),
        Table("part", None, ()),
    )
    assert [(c.table, c.name, c.use) for c in entry.columns] == [
        ("orders", "day", (ColumnUse.GROUP,)),
        ("orders", "o_orderkey", ()),
        ("lineitem", "l_orderkey", (ColumnUse.GROUP,)),
        ("part", "name", tuple(ColumnUse)),
    ]
    assert entry.privacy_unit == "o_custkey"
    assert "unit_of_lineitem" not in str(entry.to_payload())
