"""The analyst's side: searches the operator's catalog and believes nothing unverified.

Each entry must be signed by the member that it names, be valid, and be no older than any
version of it that this node was shown before. That memory is in the log, so that a
catalog that rolls back leaves a trace that can be shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from luoshu.connector.catalog import tables
from luoshu.connector.catalog.ports import CatalogPeer, Members
from luoshu.connector.catalog.verification import VerifiedEntry, stated_issuer, verified_entry
from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.peer_port import CatalogQuery
from luoshu.contracts.canonical import JsonValue
from luoshu.contracts.log.entry import EntryKind

__all__ = ["CatalogReader", "FoundEntry", "FoundPage"]


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that was verified here, and what proves it.

    Attributes:
        verified: The entry.
        issuer_credential: Envelope of the issuer's membership credential.
    """

    verified: VerifiedEntry
    issuer_credential: bytes


@dataclass(frozen=True, slots=True)
class FoundPage:
    """One page of a search, each entry verified.

    Attributes:
        entries: Best first.
        next_page_token: Empty on the last page.
        facets: ``(field, value, count)``, in the operator's words.
        total: As the operator counts; 5,001 stands for more than 5,000.
    """

    entries: tuple[FoundEntry, ...]
    next_page_token: str
    facets: tuple[tuple[str, str, int], ...]
    total: int


class CatalogReader:
    """Reads the space's catalog for this node's users."""

    def __init__(
        self,
        ledger: Ledger,
        peer: CatalogPeer,
        members: Members,
        learn: Callable[[str], Awaitable[object]],
        clock: Clock,
        *,
        participant_id: str,
        operator_id: str,
    ) -> None:
        """Builds the reader.

        Args:
            ledger: This node's.
            peer: Reaches the operator's catalog.
            members: Who is a member now.
            learn: Asks the operator for a member's credential; `members` knows it then.
            clock: For validity.
            participant_id: This node.
            operator_id: Whose catalog to read.
        """
        self._ledger = ledger
        self._peer = peer
        self._members = members
        self._learn = learn
        self._clock = clock
        self._me = participant_id
        self._operator = operator_id

    async def search(self, query: CatalogQuery) -> FoundPage:
        """Searches, and verifies each entry.

        Raises:
            NodeError: What the operator answered; CATALOG_ENTRY_INVALID, if one entry
                doesn't verify: a catalog that hands out one such is not to be trusted
                with the others.
        """
        page = await self._peer.search(self._operator, query)
        entries = [await self._verify(data) for data in page.entries]
        await self._remember(entry.verified for entry in entries)
        return FoundPage(tuple(entries), page.next_page_token, page.facets, page.total)

    async def get_entry(self, product_id: str) -> FoundEntry:
        """Returns one product's newest entry.

        Raises:
            NodeError: NOT_FOUND; CATALOG_ENTRY_INVALID, if what the operator shows isn't
                that product, doesn't verify, or is older than what it showed before.
        """
        found = await self._verify(await self._peer.get_entry(self._operator, product_id))
        if found.verified.entry.id != product_id:
            raise NodeError(
                "CATALOG_ENTRY_INVALID", "The catalog answered with another product's entry."
            )
        await self._remember([found.verified])
        return found

    async def _verify(self, data: bytes) -> FoundEntry:
        now = self._clock.now()
        issuer = stated_issuer(data)
        try:
            known = self._members.require_known(issuer, now)
        except NodeError as error:
            if error.reason not in {"CREDENTIAL_MISSING", "CREDENTIAL_EXPIRED"}:
                raise
            await self._learn(issuer)
            known = self._members.require_known(issuer, now)
        return FoundEntry(verified_entry(data, self._members, now), known.envelope.to_bytes())

    async def _remember(self, entries: Iterable[VerifiedEntry]) -> None:
        """Refuses what is older than was seen before, and records what is newer."""
        shown = list(entries)
        newer = await self._ledger.read(lambda connection: _newer(connection, shown))
        if not newer:
            return

        def command(tx: Transaction) -> None:
            # Again, since another call may have recorded in between.
            fresh: list[JsonValue] = [
                {
                    "product_id": item.entry.id,
                    "version": item.entry.version,
                    "digest": item.digest,
                }
                for item in _newer(tx.connection, newer)
            ]
            if fresh:
                tx.record(
                    EntryKind.CATALOG, {"change": "seen", "entries": fresh}, parties=[self._me]
                )

        await self._ledger.commit(command)


def _newer(connection: sa.Connection, shown: Sequence[VerifiedEntry]) -> list[VerifiedEntry]:
    table = tables.seen
    rows = connection.execute(
        sa.select(table.c.product_id, table.c.version, table.c.digest).where(
            table.c.product_id.in_({item.entry.id for item in shown})
        )
    )
    known = {row.product_id: (row.version, row.digest) for row in rows}
    newer: dict[str, VerifiedEntry] = {}
    for item in shown:
        version, digest = known.get(item.entry.id, (0, ""))
        if item.entry.version < version:
            raise NodeError(
                "CATALOG_ENTRY_INVALID",
                f"The catalog shows version {item.entry.version} of {item.entry.id}, but showed "
                f"version {version} before.",
            )
        if item.entry.version == version and item.digest != digest:
            raise NodeError(
                "CATALOG_ENTRY_INVALID",
                f"The holder of {item.entry.id} signed two different versions {version}. "
                "Keep both as evidence.",
            )
        if item.entry.version > version:
            newer[item.entry.id] = item
    return list(newer.values())
