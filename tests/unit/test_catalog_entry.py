"""Catalog entries: signed by their holder, chained, never below their own floor."""

from datetime import timedelta

import pytest
from contract_world import (
    ANALYST,
    ENTRY_DIGEST,
    HOLDER,
    NOW,
    PRODUCT,
    THIRD,
    YEAR,
    entry,
    offer,
    terms,
)

from luoshu.contracts import ids
from luoshu.contracts.catalog import check_successor, verify_catalog_entry, verify_tombstone
from luoshu.contracts.errors import (
    CatalogError,
    CredentialError,
    DocumentError,
    EnvelopeError,
)
from luoshu.contracts.membership import Role
from luoshu.contracts.offer import Limits, Offer
from luoshu.contracts.product import (
    CatalogEntry,
    Column,
    ColumnUse,
    Table,
    TableKey,
    Tombstone,
)
from luoshu.contracts.release_terms import ReleaseMode, ReleaseTerms


def tombstone(**changes: object) -> Tombstone:
    fields: dict[str, object] = {
        "id": PRODUCT,
        "version": 2,
        "previous": ENTRY_DIGEST,
        "issuer": HOLDER.id,
        "issued_at": NOW,
    }
    return Tombstone(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_holders_entry_verifies() -> None:
    envelope = entry().sign(HOLDER.events)
    assert verify_catalog_entry(envelope, HOLDER.credential(), NOW) == entry()
    assert verify_tombstone(tombstone().sign(HOLDER.events), HOLDER.credential(), NOW)


def test_nobody_publishes_for_another() -> None:
    for document, check in ((entry(), verify_catalog_entry), (tombstone(), verify_tombstone)):
        envelope = document.sign(THIRD.events)
        with pytest.raises(EnvelopeError):
            check(envelope, HOLDER.credential(), NOW)
        with pytest.raises(DocumentError, match="another issuer"):
            check(envelope, THIRD.credential(), NOW)
    with pytest.raises(DocumentError, match="another than its holder"):
        entry(issuer=THIRD.id)


def test_only_holders_publish() -> None:
    own = entry(id=ids.product_id(ANALYST.id, "lung"), issuer=ANALYST.id)
    with pytest.raises(CredentialError, match="holder role"):
        verify_catalog_entry(own.sign(ANALYST.events), ANALYST.credential(), NOW)
    as_holder = ANALYST.credential(roles=(Role.HOLDER,))
    assert verify_catalog_entry(own.sign(ANALYST.events), as_holder, NOW) == own


def test_entries_end_and_do_not_come_from_the_future() -> None:
    envelope = entry().sign(HOLDER.events)
    with pytest.raises(DocumentError, match="no longer valid"):
        verify_catalog_entry(envelope, HOLDER.credential(), NOW + YEAR)
    with pytest.raises(DocumentError, match="future"):
        verify_catalog_entry(envelope, HOLDER.credential(), NOW - timedelta(seconds=61))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"previous": ENTRY_DIGEST},
        {"valid_until": NOW},
        {"columns": (Column("a", "INTEGER", (ColumnUse.GROUP,)),) * 2},
        {
            "columns": (
                Column("a", "INTEGER", (ColumnUse.GROUP,)),
                Column("A", "INTEGER", (ColumnUse.GROUP,)),
            )
        },
        {"offers": (offer(), offer())},
        {"offers": (offer(terms(min_units=9)),)},
        {"offers": (offer(terms(mode=ReleaseMode.ROWS)),)},
        {"release": ReleaseTerms(ReleaseMode.DP, 10)},
    ],
)
def test_an_entry_against_the_rules_cannot_be_made(changes: dict) -> None:
    with pytest.raises(DocumentError):
        entry(**changes)


@pytest.mark.parametrize(
    "change",
    [
        {"security_level": 6},
        {"quality_grade": "E"},
        {"delivery_form": "1"},
        {"delivery_form": 1},
        {"keywords": ["a", "a"]},
        {"columns": []},
        {"columns": [{"name": "a b", "type": "INTEGER", "use": ["group"]}]},
        {"columns": [{"name": '"', "type": "INTEGER", "use": ["group"]}]},
        {"columns": [{"name": "a", "type": "INTEGER); DROP", "use": ["group"]}]},
        {"columns": [{"name": "a", "type": "INTEGER", "use": ["select"]}]},
        {"columns": [{"name": "a", "type": "INTEGER", "use": []}]},
        {"privacy_unit": 'a"; --'},
        {"valid_until": "2027-03-01T08:00:00+08:00"},
        {"offers": [{**offer().to_payload(), "visible_to": ["*", ANALYST.id]}]},
        {"offers": [{**offer().to_payload(), "visible_to": []}]},
        {"offers": [{**offer().to_payload(), "visible_to": ["south"]}]},
        {"offers": [{**offer().to_payload(), "answer": "always"}]},
    ],
)
def test_an_entry_with_odd_values_is_refused(change: dict) -> None:
    with pytest.raises(DocumentError):
        CatalogEntry.from_payload({**entry().to_payload(), **change})


def test_columns_may_be_named_in_any_script() -> None:
    named = entry(columns=(Column("年龄", "INTEGER", (ColumnUse.AGGREGATE,)),))
    assert CatalogEntry.from_payload(named.to_payload()) == named


def test_versions_follow_one_another() -> None:
    first = entry()
    digest = first.sign(HOLDER.events).digest
    second = entry(version=2, previous=digest)
    check_successor(first, version=None, digest=None)
    check_successor(second, version=1, digest=digest)
    check_successor(tombstone(previous=digest), version=1, digest=digest)
    after = entry(version=3, previous=ENTRY_DIGEST)
    check_successor(after, version=2, digest=ENTRY_DIGEST, withdrawn=True)


@pytest.mark.parametrize(
    ("newer", "held"),
    [
        (entry(), {"version": 1, "digest": ENTRY_DIGEST}),  # the same again
        (entry(version=2, previous=ENTRY_DIGEST), {"version": None, "digest": None}),
        (entry(version=3, previous=ENTRY_DIGEST), {"version": 1, "digest": ENTRY_DIGEST}),
        (entry(version=2, previous=ENTRY_DIGEST), {"version": 2, "digest": ENTRY_DIGEST}),
        (entry(version=2, previous=ENTRY_DIGEST), {"version": 1, "digest": "sha256:" + "0" * 64}),
        (tombstone(), {"version": None, "digest": None}),
        (tombstone(version=3), {"version": 2, "digest": ENTRY_DIGEST, "withdrawn": True}),
    ],
)
def test_roll_backs_and_forks_are_refused(newer: CatalogEntry, held: dict) -> None:
    with pytest.raises(CatalogError) as caught:
        check_successor(newer, **held)
    assert caught.value.reason == "CATALOG_VERSION_CONFLICT"


def test_what_one_may_not_see_does_not_exist() -> None:
    private = entry(offers=(offer(visible_to=(ANALYST.id,)),))
    assert private.is_visible_to(ANALYST.id)
    assert private.is_visible_to(HOLDER.id)
    assert not private.is_visible_to(THIRD.id)
    assert not entry(offers=()).is_visible_to(ANALYST.id)
    assert entry().offer("standard") == offer()
    assert entry().offer("other") is None


def test_offers_come_back() -> None:
    limits = Limits(5, ("research",), NOW, ("CN-HA",))
    made = offer(limits=limits)
    assert Offer.from_payload(made.to_payload()) == made
    with pytest.raises(DocumentError):
        Limits.from_payload({**limits.to_payload(), "max_uses": 0})
    with pytest.raises(DocumentError):
        Limits.from_payload({**limits.to_payload(), "max_uses": True})


KEY = "orders(o_orderkey)"
SEVERAL = {
    "columns": (
        Column("o_orderkey", "BIGINT", (), "orders"),
        Column("day", "DATE", (ColumnUse.GROUP,), "orders"),
        Column("l_orderkey", "BIGINT", (), "lineitem"),
        Column("day", "DATE", (ColumnUse.FILTER,), "lineitem"),
        Column("name", "VARCHAR", tuple(ColumnUse), "part"),
    ),
    "tables": (
        Table("orders", "o_custkey", (TableKey(KEY, ("o_orderkey",)),)),
        Table("lineitem", None, (TableKey(KEY, ("l_orderkey",)),)),
        Table("part", None, ()),
    ),
}


def test_an_entry_of_several_tables() -> None:
    several = entry(**SEVERAL)
    assert CatalogEntry.from_payload(several.to_payload()) == several
    assert [table.is_public for table in several.tables] == [False, False, True]
    assert verify_catalog_entry(several.sign(HOLDER.events), HOLDER.credential(), NOW) == several


def test_an_entry_of_one_table_is_written_as_ever() -> None:
    payload = entry().to_payload()
    assert "tables" not in payload
    assert payload["columns"][0] == {"name": "sex", "type": "INTEGER", "use": ["group", "filter"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"tables": ()},
        {"tables": SEVERAL["tables"][:2]},
        {"columns": SEVERAL["columns"][:3]},
        {"columns": (*SEVERAL["columns"], Column("DAY", "DATE", (), "orders"))},
        {"columns": (*SEVERAL["columns"], Column("day", "DATE", (ColumnUse.GROUP,)))},
        {"tables": (*SEVERAL["tables"], Table("ORDERS", "u", ()))},
    ],
)
def test_tables_and_columns_of_an_entry_agree(changes: dict) -> None:
    with pytest.raises(DocumentError):
        entry(**{**SEVERAL, **changes})


@pytest.mark.parametrize(
    "tables",
    [
        [],
        [{"name": "orders", "unit": None}],
        [{"name": "or ders", "unit": None, "keys": []}],
        [{"name": "orders", "unit": "a b", "keys": []}],
        [{"name": "orders", "unit": None, "keys": [{"domain": "", "columns": ["a"]}]}],
        [{"name": "orders", "unit": None, "keys": [{"domain": "d", "columns": []}]}],
    ],
)
def test_tables_of_an_entry_are_read_strictly(tables: list) -> None:
    with pytest.raises(DocumentError):
        CatalogEntry.from_payload({**entry(**SEVERAL).to_payload(), "tables": tables})
