"""Keeps the catalog's tables in step with the log.

What the log says was verified before it was written; so nothing is verified here, and
tables can be made again by a node whose clock or members have moved on.

Entries of the log, by the side that writes them:

| kind | `change` | written by | other keys |
|---|---|---|---|
| catalog | published, withdrawn | the operator | `envelope` |
| catalog | seen | who was shown entries | `entries`: product, version, digest |
| product | prepared | the holder | `product`, `product_id`, `prepared` (a digest) |
| product | signed, withdrawn | the holder | `product_id`, `envelope` |
| product | confirmed | the holder | `product_id`, `digest`, `operator_index` |
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

import sqlalchemy as sa

from luoshu.connector.catalog import tables
from luoshu.connector.catalog.search import (
    IndexedTexts,
    add_to_index,
    index_terms,
    remove_from_index,
)
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.log.entry import Entry, EntryKind
from luoshu.contracts.product import CatalogEntry, Tombstone

__all__ = ["CatalogProjection", "milliseconds"]

# Built once: building a statement takes longer than running it.
_ENTRY = tables.entries.c.product_id == sa.bindparam("of")
_FIND_ENTRY = sa.select(
    tables.entries.c.log_index, tables.entries.c.terms, tables.entries.c.withdrawn
).where(_ENTRY)
_FORGET_ENTRY = sa.delete(tables.entries).where(_ENTRY)
_INSERT_ENTRY = sa.insert(tables.entries)
_FORGET_AUDIENCE = sa.delete(tables.audience).where(
    tables.audience.c.product_id == sa.bindparam("of")
)
_INSERT_AUDIENCE = sa.insert(tables.audience)


class CatalogProjection:
    """Folds catalog and product entries."""

    name = "catalog"
    version = 1

    def clear(self, connection: sa.Connection) -> None:
        """Empties its tables, before they are built again from the first entry."""
        for table in (
            tables.entries,
            tables.audience,
            tables.facets,
            tables.listing,
            tables.products,
            tables.seen,
            tables.signed,
        ):
            connection.execute(sa.delete(table))
        connection.execute(
            sa.text("INSERT INTO catalog_index (catalog_index) VALUES ('delete-all')")
        )

    def apply(self, connection: sa.Connection, entry: Entry) -> None:
        """Applies one entry; entries of other kinds change nothing here."""
        data = entry.body.data
        match entry.body.kind, data.get("change"):
            case EntryKind.CATALOG, "published":
                _published(connection, entry.index, data)
            case EntryKind.CATALOG, "withdrawn":
                _withdrawn(connection, entry.index, data)
            case EntryKind.CATALOG, "seen":
                _seen(connection, data)
            case EntryKind.PRODUCT, "prepared":
                _prepared(connection, entry.index, data)
            case EntryKind.PRODUCT, "signed" | "withdrawn":
                _signed(connection, data)
            case EntryKind.PRODUCT, "confirmed":
                connection.execute(
                    sa.update(tables.products)
                    .where(tables.products.c.product_id == data["product_id"])
                    .where(tables.products.c.digest == data["digest"])
                    .values(confirmed=True)
                )
            case _:
                return


def milliseconds(moment: datetime) -> int:
    """Returns Unix milliseconds, as the tables hold times."""
    return int(moment.timestamp() * 1000)


def _published(connection: sa.Connection, log_index: int, data: JsonObject) -> None:
    envelope = Envelope.from_json(data["envelope"])
    entry = CatalogEntry.from_payload(unverified_payload(envelope))
    visible_to = {entry.issuer}.union(*(offer.visible_to for offer in entry.offers))
    facets = {
        "issuer": entry.issuer,
        "level": entry.classification.level.value,
        "personal_information": entry.classification.personal_information.value,
        "theme": entry.theme,
        "release_mode": entry.release.mode.value,
    }
    texts = IndexedTexts(
        title=[entry.title.en, entry.title.zh],
        keywords=entry.keywords,
        body=[
            entry.description.en,
            entry.description.zh,
            entry.theme,
            entry.source,
            entry.id.rpartition(":")[2],
            *(column.name for column in entry.columns),
        ],
    )
    terms = index_terms(texts, visible_to, facets)
    valid_until = milliseconds(entry.valid_until)
    _replace(
        connection,
        product_id=entry.id,
        issuer=entry.issuer,
        version=entry.version,
        digest=envelope.digest,
        withdrawn=False,
        log_index=log_index,
        valid_until=valid_until,
        envelope=envelope.to_bytes(),
        terms=terms,
    )
    connection.execute(_FORGET_AUDIENCE, {"of": entry.id})
    connection.execute(
        _INSERT_AUDIENCE,
        [{"product_id": entry.id, "participant_id": who} for who in sorted(visible_to)],
    )
    add_to_index(
        connection,
        log_index=log_index,
        product_id=entry.id,
        terms=terms,
        facets=facets,
        valid_until=valid_until,
    )


def _withdrawn(connection: sa.Connection, log_index: int, data: JsonObject) -> None:
    envelope = Envelope.from_json(data["envelope"])
    tombstone = Tombstone.from_payload(unverified_payload(envelope))
    _replace(
        connection,
        product_id=tombstone.id,
        issuer=tombstone.issuer,
        version=tombstone.version,
        digest=envelope.digest,
        withdrawn=True,
        log_index=log_index,
        valid_until=0,
        envelope=envelope.to_bytes(),
        terms="",
    )


def _replace(connection: sa.Connection, *, product_id: str, **values: object) -> None:
    before = connection.execute(_FIND_ENTRY, {"of": product_id}).one_or_none()
    if before is not None:
        if not before.withdrawn:
            remove_from_index(connection, log_index=before.log_index, terms=before.terms)
        connection.execute(_FORGET_ENTRY, {"of": product_id})
    connection.execute(_INSERT_ENTRY, {"product_id": product_id, **values})


def _seen(connection: sa.Connection, data: JsonObject) -> None:
    for shown in cast("list[JsonObject]", data["entries"]):
        connection.execute(
            sa.delete(tables.seen).where(tables.seen.c.product_id == shown["product_id"])
        )
        connection.execute(sa.insert(tables.seen).values(**shown))


def _prepared(connection: sa.Connection, log_index: int, data: JsonObject) -> None:
    table = tables.products
    values = {"prepared_digest": data["prepared"], "prepared_index": log_index}
    known = connection.scalar(
        sa.select(table.c.product).where(table.c.product_id == data["product_id"])
    )
    if known is not None:
        connection.execute(
            sa.update(table).where(table.c.product_id == data["product_id"]).values(values)
        )
        return
    connection.execute(
        sa.insert(table).values(
            product=data["product"],
            product_id=data["product_id"],
            state="prepared",
            version=0,
            confirmed=True,
            **values,
        )
    )


def _signed(connection: sa.Connection, data: JsonObject) -> None:
    envelope = Envelope.from_json(data["envelope"])
    document = unverified_payload(envelope)
    connection.execute(
        sa.update(tables.products)
        .where(tables.products.c.product_id == data["product_id"])
        .values(
            state="withdrawn" if data["change"] == "withdrawn" else "published",
            version=document["version"],
            digest=envelope.digest,
            envelope=envelope.to_bytes(),
            confirmed=False,
        )
    )
    if data["change"] == "signed":
        connection.execute(
            sa.insert(tables.signed).values(
                digest=envelope.digest,
                product_id=data["product_id"],
                version=document["version"],
                envelope=envelope.to_bytes(),
            )
        )
