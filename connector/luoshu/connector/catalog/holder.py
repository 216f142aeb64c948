"""The holder's side: signs entries of this node's products and publishes them.

What is signed is committed to this node's log before it is sent (ADR 0042): a version
number stands for one document, wherever the node stops in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import sqlalchemy as sa

from luoshu.connector.catalog import tables
from luoshu.connector.catalog.entry_building import ShelvedProduct, build_entry, read_offers
from luoshu.connector.catalog.ports import CatalogPeer
from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.contracts.envelope import Envelope, unverified_payload
from luoshu.contracts.ids import product_id as product_id_of
from luoshu.contracts.keys import SigningKey
from luoshu.contracts.log.entry import EntryKind
from luoshu.contracts.membership import MembershipCredential
from luoshu.contracts.offer import Offer
from luoshu.contracts.product import CatalogEntry, Tombstone
from luoshu.contracts.times import to_milliseconds
from luoshu.sandbox.prepared import PreparedProduct

__all__ = [
    "LocalProduct",
    "OfferCheck",
    "ProductService",
    "ProductShelf",
    "Published",
    "PublishedEntry",
    "SignedEntries",
]


class ProductShelf(Protocol):
    """Where prepared products lie on this node."""

    def local_ids(self) -> tuple[str, ...]:
        """Local ids of all prepared products, sorted."""
        ...

    def load(self, product: str) -> ShelvedProduct:
        """Loads a product by its local id.

        Raises:
            NodeError: NOT_FOUND, or PRODUCT_FILE_INVALID if what lies there is damaged.
        """
        ...


class OfferCheck(Protocol):
    """Tries what is offered; see `luoshu.connector.compute.offering`."""

    async def check(self, product: PreparedProduct, offers: Sequence[Offer]) -> None:
        """Requires that the offers' templates can be run.

        Raises:
            NodeError: TEMPLATE_INVALID, one can't; SANDBOX_UNAVAILABLE.
        """
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """A publication that the operator has taken.

    Attributes:
        product_id: Global id.
        version: Of the entry, or of the tombstone.
        log_index: Index in the operator's log.
    """

    product_id: str
    version: int
    log_index: int


@dataclass(frozen=True, slots=True)
class LocalProduct:
    """A product of this node.

    Attributes:
        product: Local id.
        product_id: Global id.
        version: Newest version signed, 0 before the first.
        state: ``prepared``, ``published`` or ``withdrawn``.
    """

    product: str
    product_id: str
    version: int
    state: str


@dataclass(frozen=True, slots=True)
class PublishedEntry:
    """The newest entry that this node signed for a product.

    Attributes:
        entry: What it says.
        digest: Names this version.
        withdrawn: Whether a tombstone took its place; ``entry`` is None then.
    """

    entry: CatalogEntry | None
    digest: str
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class _Head:
    version: int
    digest: str | None
    envelope: bytes
    withdrawn: bool
    confirmed: bool


class ProductService:
    """Publishes and withdraws this node's products."""

    def __init__(
        self,
        ledger: Ledger,
        peer: CatalogPeer,
        shelf: ProductShelf,
        clock: Clock,
        templates: OfferCheck,
        *,
        holder: MembershipCredential,
        events_key: SigningKey,
        operator_id: str,
    ) -> None:
        """Builds the service.

        Args:
            ledger: This node's.
            peer: Reaches the operator's catalog.
            shelf: Prepared products.
            clock: For times of signing.
            templates: Tries the templates of offers before they are signed.
            holder: This node's own credential.
            events_key: Signs entries.
            operator_id: Whom to publish to.
        """
        self._ledger = ledger
        self._peer = peer
        self._shelf = shelf
        self._clock = clock
        self._templates = templates
        self._holder = holder
        self._key = events_key
        self._operator = operator_id
        # One version at a time: the operator takes them in order only.
        self._publishing = asyncio.Lock()

    async def publish(self, product: str, offers: bytes) -> Published:
        """Signs the next version of a product's entry and publishes it.

        Args:
            product: Local id of a prepared product.
            offers: JSON; see `read_offers`.

        Raises:
            NodeError: NOT_FOUND (not prepared here), TERMS_INVALID, TEMPLATE_INVALID (the guard
                refuses one), PRODUCT_FILE_INVALID, SANDBOX_UNAVAILABLE, or
                what the operator answered. If it couldn't be reached, the signed version
                is kept and sent with the next publication.
        """
        shelved = self._shelf.load(product)
        wanted = read_offers(offers)
        await self._templates.check(shelved.prepared, wanted)
        async with self._publishing:
            return await self._publish(shelved, wanted)

    async def _publish(self, shelved: ShelvedProduct, wanted: tuple[Offer, ...]) -> Published:
        product_id = product_id_of(self._holder.participant_id, shelved.file.id)
        await self._send_pending(product_id)
        me = self._holder.participant_id

        def command(tx: Transaction) -> tuple[Envelope, int]:
            head = _head(tx.connection, product_id)
            entry = build_entry(
                shelved,
                wanted,
                holder=self._holder,
                version=1 if head is None else head.version + 1,
                previous=None if head is None else head.digest,
                now=tx.now,
            )
            envelope = entry.sign(self._key)
            if _prepared_digest(tx.connection, product_id) != shelved.prepared.digest:
                tx.record(
                    EntryKind.PRODUCT,
                    {
                        "change": "prepared",
                        "product": shelved.file.id,
                        "product_id": product_id,
                        "prepared": shelved.prepared.digest,
                    },
                    parties=[me],
                )
            tx.record(
                EntryKind.PRODUCT,
                {"change": "signed", "product_id": product_id, "envelope": envelope.to_json()},
                parties=[me],
            )
            return envelope, entry.version

        envelope, version = await self._ledger.commit(command)
        index = await self._peer.publish(self._operator, envelope.to_bytes())
        await self._confirm(product_id, envelope.digest, index)
        return Published(product_id, version, index)

    async def withdraw(self, product_id: str) -> Published:
        """Signs a tombstone and publishes it. Contracts go on; new ones can't be made.

        Raises:
            NodeError: NOT_FOUND (no entry of this node, or withdrawn already), or what the
                operator answered.
        """
        async with self._publishing:
            return await self._withdraw(product_id)

    async def _withdraw(self, product_id: str) -> Published:
        await self._send_pending(product_id)

        def command(tx: Transaction) -> tuple[Envelope, int]:
            head = _head(tx.connection, product_id)
            if head is None or head.digest is None or head.withdrawn:
                raise NodeError("NOT_FOUND")
            tombstone = Tombstone(
                id=product_id,
                version=head.version + 1,
                previous=head.digest,
                issuer=self._holder.participant_id,
                issued_at=to_milliseconds(tx.now),
            )
            envelope = tombstone.sign(self._key)
            tx.record(
                EntryKind.PRODUCT,
                {"change": "withdrawn", "product_id": product_id, "envelope": envelope.to_json()},
                parties=[self._holder.participant_id],
            )
            return envelope, tombstone.version

        envelope, version = await self._ledger.commit(command)
        index = await self._peer.withdraw(self._operator, envelope.to_bytes())
        await self._confirm(product_id, envelope.digest, index)
        return Published(product_id, version, index)

    async def list_products(self) -> tuple[LocalProduct, ...]:
        """Returns the products of this node, by local id."""

        def find(connection: sa.Connection) -> dict[str, LocalProduct]:
            table = tables.products
            rows = connection.execute(
                sa.select(table.c.product, table.c.product_id, table.c.version, table.c.state)
            )
            return {
                row.product: LocalProduct(row.product, row.product_id, row.version, row.state)
                for row in rows
            }

        known = await self._ledger.read(find)
        for product in self._shelf.local_ids():
            if product not in known:
                product_id = product_id_of(self._holder.participant_id, product)
                known[product] = LocalProduct(product, product_id, 0, "prepared")
        return tuple(known[product] for product in sorted(known))

    async def _send_pending(self, product_id: str) -> None:
        """Sends what was signed but never confirmed."""
        head = await self._ledger.read(lambda connection: _head(connection, product_id))
        if head is None or head.digest is None or head.confirmed:
            return
        send = self._peer.withdraw if head.withdrawn else self._peer.publish
        index = await send(self._operator, head.envelope)
        await self._confirm(product_id, head.digest, index)

    async def _confirm(self, product_id: str, digest: str, operator_index: int) -> None:
        def command(tx: Transaction) -> None:
            tx.record(
                EntryKind.PRODUCT,
                {
                    "change": "confirmed",
                    "product_id": product_id,
                    "digest": digest,
                    "operator_index": operator_index,
                },
                parties=[self._holder.participant_id],
            )

        await self._ledger.commit(command)


class SignedEntries:
    """What this node signed, for use inside a transaction or a read."""

    def published_entry(self, connection: sa.Connection, product_id: str) -> PublishedEntry | None:
        """Returns the newest entry that this node signed for a product, or None.

        Whether it is visible and valid, the caller checks.
        """
        head = _head(connection, product_id)
        if head is None or head.digest is None:
            return None
        if head.withdrawn:
            return PublishedEntry(None, head.digest, withdrawn=True)
        return PublishedEntry(_entry(head.envelope), head.digest, withdrawn=False)

    def entry_by_digest(self, connection: sa.Connection, digest: str) -> CatalogEntry | None:
        """Returns an entry that this node signed at any time, or None."""
        envelope = connection.scalar(
            sa.select(tables.signed.c.envelope).where(tables.signed.c.digest == digest)
        )
        return None if envelope is None else _entry(bytes(envelope))


def _entry(envelope: bytes) -> CatalogEntry:
    return CatalogEntry.from_payload(unverified_payload(Envelope.from_bytes(envelope)))


def _head(connection: sa.Connection, product_id: str) -> _Head | None:
    table = tables.products
    row = connection.execute(
        sa.select(
            table.c.version, table.c.digest, table.c.envelope, table.c.state, table.c.confirmed
        ).where(table.c.product_id == product_id)
    ).one_or_none()
    if row is None:
        return None
    return _Head(
        version=row.version,
        digest=row.digest,
        envelope=bytes(row.envelope or b""),
        withdrawn=row.state == "withdrawn",
        confirmed=row.confirmed,
    )


def _prepared_digest(connection: sa.Connection, product_id: str) -> str | None:
    table = tables.products
    return connection.scalar(
        sa.select(table.c.prepared_digest).where(table.c.product_id == product_id)
    )
