"""Publishing, finding and withdrawing products among nodes with real ledgers."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest
from contract_world import (
    ANALYST,
    AUTHORITY,
    HOLDER,
    NOW,
    OPERATOR,
    PRODUCT,
    THIRD,
    entry,
    offer,
    terms,
)
from trading_world import offers_json, shelved, trading_world

from luoshu.connector.errors import NodeError
from luoshu.connector.peer_port import CatalogQuery
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.offer import AnswerMode
from luoshu.contracts.product import Tombstone

OFFERS = offers_json(offer())


@pytest.fixture
async def world(tmp_path):
    async with trading_world(tmp_path) as world:
        yield world


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


async def test_published_product_is_found_in_both_languages_and_verified(world):
    published = await world.holder.products.publish("lung", OFFERS)
    assert (published.product_id, published.version) == (PRODUCT, 1)
    for text in ("肺癌", "生存", "lung cancer", "Survival", ""):
        page = await world.analyst.reader.search(CatalogQuery(text))
        assert [found.verified.entry.id for found in page.entries] == [PRODUCT], text
        assert page.total == 1
        assert ("theme", "health", 1) in page.facets
        credential = Envelope.from_bytes(page.entries[0].issuer_credential)
        assert credential.payload == HOLDER.credential().sign(AUTHORITY).payload
    found = await world.analyst.reader.get_entry(PRODUCT)
    assert found.verified.entry.columns[0].name == "sex"
    assert found.verified.entry.privacy_unit == "patient_id"


async def test_new_versions_follow_each_other_and_the_old_one_is_gone(world):
    await world.holder.products.publish("lung", OFFERS)
    second = await world.holder.products.publish("lung", offers_json(offer(id="second")))
    assert second.version == 2
    page = await world.analyst.reader.search(CatalogQuery("肺癌"))
    assert [e.verified.entry.version for e in page.entries] == [2]
    assert page.total == 1
    assert page.entries[0].verified.entry.previous is not None


async def test_withdrawn_product_disappears_and_can_come_back(world):
    await world.holder.products.publish("lung", OFFERS)
    withdrawn = await world.holder.products.withdraw(PRODUCT)
    assert withdrawn.version == 2
    assert (await world.analyst.reader.search(CatalogQuery("肺癌"))).total == 0
    with refused("NOT_FOUND"):
        await world.analyst.reader.get_entry(PRODUCT)
    with refused("NOT_FOUND"):
        await world.holder.products.withdraw(PRODUCT)
    assert [p.state for p in await world.holder.products.list_products()] == ["withdrawn"]
    again = await world.holder.products.publish("lung", OFFERS)
    assert again.version == 3
    assert (await world.analyst.reader.get_entry(PRODUCT)).verified.entry.version == 3


async def test_local_products_and_their_states(world):
    world.holder.shelf.products["other"] = shelved("other")
    await world.holder.products.publish("lung", OFFERS)
    listed = await world.holder.products.list_products()
    assert [(p.product, p.version, p.state) for p in listed] == [
        ("lung", 1, "published"),
        ("other", 0, "prepared"),
    ]
    with refused("NOT_FOUND"):
        await world.holder.products.publish("missing", OFFERS)


async def test_entry_exists_only_for_those_who_may_see_an_offer(world):
    private = offers_json(offer(visible_to=(THIRD.id,)))
    await world.holder.products.publish("lung", private)
    for node, visible in (
        (world.third, True),
        (world.holder, True),
        (world.analyst, False),
        (world.operator, False),
    ):
        page = await node.reader.search(CatalogQuery("肺癌"))
        assert (page.total == 1) is visible
        assert (len(page.facets) > 0) is visible
    with refused("NOT_FOUND"):
        await world.analyst.reader.get_entry(PRODUCT)
    await world.holder.products.publish("lung", OFFERS)
    assert (await world.analyst.reader.get_entry(PRODUCT)).verified.entry.version == 2


async def test_operator_refuses_what_does_not_verify(world):
    catalog = world.operator.catalog
    good = entry().sign(HOLDER.events)
    with refused("CATALOG_ENTRY_INVALID"):  # another member's name on it
        await catalog.publish(THIRD.id, good.to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):  # another key
        await catalog.publish(HOLDER.id, entry().sign(THIRD.events).to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):  # a changed payload
        forged = replace(good, payload=good.payload.replace(b"228", b"229"))
        await catalog.publish(HOLDER.id, forged.to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):  # no longer valid
        old = entry(issued_at=NOW - timedelta(days=2), valid_until=NOW - timedelta(days=1))
        await catalog.publish(HOLDER.id, old.sign(HOLDER.events).to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):  # from the future
        new = entry(issued_at=NOW + timedelta(days=1))
        await catalog.publish(HOLDER.id, new.sign(HOLDER.events).to_bytes())
    with refused("CATALOG_VERSION_CONFLICT"):
        later = entry(version=2, previous=good.digest)
        await catalog.publish(HOLDER.id, later.sign(HOLDER.events).to_bytes())
    with refused("CATALOG_VERSION_CONFLICT"):
        stone = Tombstone(PRODUCT, 2, good.digest, HOLDER.id, NOW)
        await catalog.withdraw(HOLDER.id, stone.sign(HOLDER.events).to_bytes())
    with refused("MALFORMED_MESSAGE"):
        await catalog.publish(HOLDER.id, b"not an envelope")
    with refused("MESSAGE_TOO_LARGE"):
        await catalog.publish(HOLDER.id, b" " * (257 << 10))
    assert world.operator.ledger.size == 0


async def test_the_same_envelope_twice_is_one_publication(world):
    envelope = entry().sign(HOLDER.events).to_bytes()
    first = await world.operator.catalog.publish(HOLDER.id, envelope)
    assert await world.operator.catalog.publish(HOLDER.id, envelope) == first
    assert world.operator.ledger.size == 1
    other = entry(theme="energy").sign(HOLDER.events).to_bytes()
    with refused("CATALOG_VERSION_CONFLICT"):
        await world.operator.catalog.publish(HOLDER.id, other)


@pytest.mark.parametrize("cut", ["cut_before", "cut_after"])
async def test_a_publication_whose_answer_is_lost_is_finished_by_the_next(world, cut):
    getattr(world.holder.wire, cut).add("publish")
    with refused("PEER_UNREACHABLE"):
        await world.holder.products.publish("lung", OFFERS)
    world.restart(HOLDER)
    published = await world.holder.products.publish("lung", OFFERS)
    assert published.version == 2
    assert (await world.analyst.reader.get_entry(PRODUCT)).verified.entry.version == 2


async def test_offers_weaker_than_the_floor_are_not_published(world):
    with refused("TERMS_INVALID"):
        await world.holder.products.publish("lung", offers_json(offer(terms(min_units=5))))
    for malformed in (b"", b"{}", b"[]", b'[{"id": "x"}]', b"\xff", b'{"offers": 1}'):
        with refused("TERMS_INVALID"):
            await world.holder.products.publish("lung", malformed)
    assert world.holder.ledger.size == 0


async def test_offers_may_also_be_a_bare_list(world):
    document = OFFERS.removeprefix(b'{"offers":').removesuffix(b"}")
    assert (await world.holder.products.publish("lung", document)).version == 1


async def test_search_pages_and_filters(world):
    for number in range(7):
        local_id = f"p{number}"
        world.holder.shelf.products[local_id] = shelved(local_id)
        await world.holder.products.publish(local_id, OFFERS)
    seen, token = [], ""
    while True:
        query = CatalogQuery("肺癌", {"issuer": [HOLDER.id]}, page_size=3, page_token=token)
        page = await world.analyst.reader.search(query)
        assert page.total == 7
        seen += [found.verified.entry.id.rpartition(":")[2] for found in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"p{n}" for n in reversed(range(7))]
    nothing = CatalogQuery("肺癌", {"level": ["core"]})
    assert (await world.analyst.reader.search(nothing)).total == 0


async def test_malformed_searches_say_what_is_wrong(world):
    search = world.analyst.reader.search
    with refused("MALFORMED_MESSAGE"):
        await search(CatalogQuery("x" * 201))
    with refused("MALFORMED_MESSAGE"):
        await search(CatalogQuery("x", page_size=101))
    with refused("MALFORMED_MESSAGE"):
        await search(CatalogQuery("x", page_token="AAAA"))
    with refused("MALFORMED_MESSAGE"):
        await search(CatalogQuery("x", {"color": ["red"]}))
    with refused("MALFORMED_MESSAGE"):
        await search(CatalogQuery("x", {"level": []}))


async def test_page_token_of_another_caller_is_void(world):
    for number in range(2):
        world.holder.shelf.products[f"p{number}"] = shelved(f"p{number}")
        await world.holder.products.publish(f"p{number}", OFFERS)
    token = (await world.analyst.reader.search(CatalogQuery("", page_size=1))).next_page_token
    assert token
    with refused("MALFORMED_MESSAGE"):
        await world.third.reader.search(CatalogQuery("", page_size=1, page_token=token))


async def test_entries_of_a_revoked_holder_are_gone(world):
    await world.holder.products.publish("lung", OFFERS)
    world.revoke(HOLDER)
    page = await world.analyst.reader.search(CatalogQuery("肺癌"))
    assert (page.total, page.entries, page.facets) == (0, (), ())
    with refused("NOT_FOUND"):
        await world.analyst.reader.get_entry(PRODUCT)


async def test_expired_entries_are_gone(world):
    envelope = entry(valid_until=NOW + timedelta(hours=1)).sign(HOLDER.events)
    await world.operator.catalog.publish(HOLDER.id, envelope.to_bytes())
    assert (await world.analyst.reader.search(CatalogQuery("肺癌"))).total == 1
    world.clock.advance(timedelta(hours=1))
    assert (await world.analyst.reader.search(CatalogQuery("肺癌"))).total == 0
    with refused("NOT_FOUND"):
        await world.analyst.reader.get_entry(PRODUCT)


@pytest.mark.parametrize(("ahead", "taken"), [(5, True), (6, False), (59, False)])
async def test_an_entry_dated_ahead_spoils_no_readers_page(world, ahead, taken):
    """Readers bear 60 s, and their clocks may be behind the operator's: it takes less."""
    envelope = entry(issued_at=NOW + timedelta(seconds=ahead)).sign(HOLDER.events)
    if not taken:
        with refused("CATALOG_ENTRY_INVALID"):
            await world.operator.catalog.publish(HOLDER.id, envelope.to_bytes())
        return
    await world.operator.catalog.publish(HOLDER.id, envelope.to_bytes())
    world.clock.set(NOW - timedelta(seconds=30))
    assert (await world.analyst.reader.search(CatalogQuery("肺癌"))).total == 1


class RollingBack:
    """A catalog that shows what it likes."""

    def __init__(self, shown):
        self.shown = shown

    async def get_entry(self, peer, product_id):
        return self.shown


async def test_reader_notices_a_catalog_that_rolls_back_also_after_a_restart(world):
    first = entry().sign(HOLDER.events)
    second = entry(version=2, previous=first.digest).sign(HOLDER.events)
    reader = world.analyst.reader
    reader._peer = RollingBack(second.to_bytes())
    assert (await reader.get_entry(PRODUCT)).verified.entry.version == 2
    size = world.analyst.ledger.size
    assert (await reader.get_entry(PRODUCT)).verified.entry.version == 2
    assert world.analyst.ledger.size == size
    reader = world.restart(ANALYST).reader
    reader._peer = RollingBack(first.to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):
        await reader.get_entry(PRODUCT)


async def test_reader_notices_two_documents_of_one_version(world):
    reader = world.analyst.reader
    reader._peer = RollingBack(entry().sign(HOLDER.events).to_bytes())
    await reader.get_entry(PRODUCT)
    reader._peer = RollingBack(entry(theme="energy").sign(HOLDER.events).to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):
        await reader.get_entry(PRODUCT)


async def test_reader_believes_no_forged_or_mistaken_entry(world):
    reader = world.analyst.reader
    forger = SigningKey.generate(KeyUse.EVENTS)
    reader._peer = RollingBack(entry().sign(forger).to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):
        await reader.get_entry(PRODUCT)
    reader._peer = RollingBack(entry().sign(HOLDER.events).to_bytes())
    with refused("CATALOG_ENTRY_INVALID"):
        await reader.get_entry(f"{HOLDER.id}:product:other")
    assert world.analyst.ledger.size == 0


async def test_watch_gives_what_was_and_what_comes(world):
    await world.holder.products.publish("lung", OFFERS)
    async with aclosing(world.operator.catalog.watch(ANALYST.id, "")) as changes:
        first = await anext(changes)
        assert first.entry
        assert not first.tombstone
        pending = asyncio.ensure_future(anext(changes))
        hidden = offers_json(offer(visible_to=(THIRD.id,)))
        world.holder.shelf.products["hidden"] = shelved("hidden")
        await world.holder.products.publish("hidden", hidden)
        await world.holder.products.withdraw(PRODUCT)
        second = await pending
        assert second.tombstone
        assert not second.entry
    async with aclosing(world.operator.catalog.watch(ANALYST.id, first.cursor)) as changes:
        assert await anext(changes) == second
    with refused("MALFORMED_MESSAGE"):
        await anext(world.operator.catalog.watch(ANALYST.id, "-1"))


async def test_operator_restarts_with_the_same_catalog(world):
    await world.holder.products.publish("lung", OFFERS)
    world.restart(OPERATOR)
    assert (await world.analyst.reader.search(CatalogQuery("肺癌"))).total == 1


async def test_tables_can_be_made_again_from_the_log(world):
    await world.holder.products.publish("lung", OFFERS)
    await world.holder.products.publish("lung", offers_json(offer(answer=AnswerMode.MANUAL)))
    await world.analyst.reader.get_entry(PRODUCT)
    for member in (OPERATOR, HOLDER, ANALYST):
        world.nodes.pop(member.id).close()
        for file in (world.root / member.name).glob("luoshu.db*"):
            file.unlink()
        world.start(member)
    page = await world.analyst.reader.search(CatalogQuery("肺癌"))
    assert [e.verified.entry.version for e in page.entries] == [2]
    third = await world.holder.products.publish("lung", OFFERS)
    assert third.version == 3
