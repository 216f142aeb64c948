"""The operator's catalog: takes what holders signed, answers what callers may see.

It can neither forge (holders sign) nor roll back (each version names the one before, and
readers remember what they saw); it can omit. What a caller may not see doesn't exist for
it: not in a search, not in its counts, not by id. An entry is seen as a whole by the union
of its offers' audiences (ADR 0041).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from luoshu.connector.catalog import tables
from luoshu.connector.catalog.expression import FACET_FIELDS, QueryTooLongError
from luoshu.connector.catalog.page_token import PageTokenError, PageTokens
from luoshu.connector.catalog.ports import Members
from luoshu.connector.catalog.projection import milliseconds
from luoshu.connector.catalog.search import MAX_PAGE_BYTES, Page, search_index
from luoshu.connector.catalog.verification import (
    VerifiedEntry,
    VerifiedTombstone,
    verified_entry,
    verified_tombstone,
)
from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.peer_port import CatalogChange, CatalogPage, CatalogQuery
from luoshu.contracts.canonical import JsonObject
from luoshu.contracts.catalog import check_successor
from luoshu.contracts.errors import CatalogError
from luoshu.contracts.log.entry import EntryKind
from luoshu.contracts.offer import EVERYONE
from luoshu.contracts.product import CatalogEntry, Tombstone

__all__ = ["CatalogService"]

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 100
MAX_AHEAD: Final = timedelta(seconds=5)
"""How far an entry may be dated ahead: far less than readers bear, whose clocks differ too."""
MAX_FILTER_VALUES: Final = 50
_WATCH_BATCH: Final = 100
_NOT_MEMBER: Final = frozenset({"CREDENTIAL_REVOKED", "CREDENTIAL_MISSING", "CREDENTIAL_EXPIRED"})


class CatalogService:
    """The catalog of a space. `caller` is always an authenticated participant id."""

    def __init__(self, ledger: Ledger, members: Members, clock: Clock, page_key: bytes) -> None:
        """Builds the service.

        Args:
            ledger: The operator's.
            members: Who is a member now.
            clock: For validity.
            page_key: 32 random bytes; page tokens of another key are void.
        """
        self._ledger = ledger
        self._members = members
        self._clock = clock
        self._tokens = PageTokens(page_key)

    async def publish(self, caller: str, entry: bytes) -> int:
        """Takes a new entry or a new version of one.

        Args:
            caller: Must be the issuer.
            entry: Envelope of a `CatalogEntry`, at most 256 KiB.

        Returns:
            Index of the log entry that records it; of the first time, for an entry that
            the catalog holds already.

        Raises:
            NodeError: It doesn't verify (CATALOG_ENTRY_INVALID, MALFORMED_MESSAGE,
                MESSAGE_TOO_LARGE, ROLE_REQUIRED) or doesn't follow what the catalog holds
                (CATALOG_VERSION_CONFLICT).
        """
        now = self._clock.now()
        verified = verified_entry(entry, self._members, now)
        if verified.entry.issued_at > now + MAX_AHEAD:
            raise NodeError(
                "CATALOG_ENTRY_INVALID",
                "The entry is dated ahead of the operator's clock: check this machine's clock.",
            )
        return await self._take(caller, verified, verified.entry.id, verified.entry.issuer)

    async def withdraw(self, caller: str, tombstone: bytes) -> int:
        """Takes a withdrawal. Contracts made under the entry go on.

        Args:
            caller: Must be the issuer.
            tombstone: Envelope of a `Tombstone`.

        Returns:
            Index of the log entry that records it.

        Raises:
            NodeError: As `publish`.
        """
        verified = verified_tombstone(tombstone, self._members, self._clock.now())
        return await self._take(caller, verified, verified.tombstone.id, verified.tombstone.issuer)

    async def _take(
        self, caller: str, verified: VerifiedEntry | VerifiedTombstone, product_id: str, issuer: str
    ) -> int:
        if issuer != caller:
            raise NodeError("CATALOG_ENTRY_INVALID", "An entry is published by its issuer itself.")
        document: CatalogEntry | Tombstone
        if isinstance(verified, VerifiedEntry):
            change, document = "published", verified.entry
        else:
            change, document = "withdrawn", verified.tombstone
        data: JsonObject = {"change": change, "envelope": verified.envelope.to_json()}

        def command(tx: Transaction) -> int:
            table = tables.entries
            held = tx.connection.execute(
                sa.select(
                    table.c.version, table.c.digest, table.c.withdrawn, table.c.log_index
                ).where(table.c.product_id == product_id)
            ).one_or_none()
            if held is not None and held.digest == verified.envelope.digest:
                return int(held.log_index)
            try:
                check_successor(
                    document,
                    version=None if held is None else held.version,
                    digest=None if held is None else held.digest,
                    withdrawn=held is not None and held.withdrawn,
                )
            except CatalogError as error:
                raise NodeError.from_reason(error) from error
            return tx.record(EntryKind.CATALOG, data, parties=[issuer])

        return await self._ledger.commit(command)

    async def search(self, caller: str, query: CatalogQuery) -> CatalogPage:
        """Finds entries that hold all the words, best first.

        Best means: in the title, then in the keywords, then elsewhere, then loosely;
        newest first among equals (ADR 0040).

        Returns:
            One page. Its total and facets are exact up to 5,000 matches; a total of 5,001
            stands for more, and the facets then describe the newest 5,000.

        Raises:
            NodeError: MALFORMED_MESSAGE: text, filters, size or token won't do.
        """
        filters = _checked_filters(query.filters)
        size = query.page_size or DEFAULT_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise NodeError("MALFORMED_MESSAGE", f"A page has 1 to {MAX_PAGE} entries.")
        try:
            cursor = (
                self._tokens.open(query.page_token, viewer=caller, text=query.text, filters=filters)
                if query.page_token
                else None
            )
        except PageTokenError as error:
            raise NodeError(
                "MALFORMED_MESSAGE",
                "The page token isn't one of this search, or the node was restarted since: "
                "start with the first page.",
            ) from error

        def find(connection: sa.Connection) -> Page:
            return search_index(
                connection,
                query.text,
                viewer=caller,
                filters=filters,
                hidden_issuers=self._hidden_issuers(connection),
                now=milliseconds(self._clock.now()),
                size=size,
                cursor=cursor,
            )

        try:
            page = await self._ledger.read(find)
        except QueryTooLongError as error:
            raise NodeError("MALFORMED_MESSAGE", f"Search for less: {error}.") from error
        token = ""
        if page.following is not None:
            token = self._tokens.seal(
                page.following, viewer=caller, text=query.text, filters=filters
            )
        facets = tuple((facet.field, facet.value, facet.count) for facet in page.facets)
        return CatalogPage(page.envelopes, token, facets, page.total)

    async def get_entry(self, caller: str, product_id: str) -> bytes:
        """Returns the newest entry of a product.

        Raises:
            NodeError: NOT_FOUND: unknown, withdrawn, no longer valid, its issuer no longer a
                member, or not for the caller to see.
        """

        def find(connection: sa.Connection) -> bytes | None:
            table = tables.entries
            row = connection.execute(
                sa.select(table.c.envelope, table.c.issuer).where(
                    table.c.product_id == product_id,
                    table.c.withdrawn.is_(False),
                    table.c.valid_until > milliseconds(self._clock.now()),
                    _visible_to(caller),
                )
            ).one_or_none()
            if row is None or not self._is_member(row.issuer):
                return None
            return bytes(row.envelope)

        envelope = await self._ledger.read(find)
        if envelope is None:
            raise NodeError("NOT_FOUND")
        return envelope

    async def watch(self, caller: str, cursor: str) -> AsyncGenerator[CatalogChange, None]:
        """Streams changes that the caller may see, in the order of the log, without end.

        A version that a newer one has replaced is left out. The cursor is the log index
        of a change.

        Args:
            caller: Participant id.
            cursor: Of the last change received; empty starts from the beginning.

        Raises:
            NodeError: MALFORMED_MESSAGE: not a cursor.
        """
        after = parse_cursor(cursor)
        committed = self._ledger.size
        drained = False
        while not drained:
            changes, after, drained = await self._changes(caller, after)
            for change in changes:
                yield change
        async for entry in self._ledger.subscribe(committed):
            if entry.index <= after or entry.body.kind != EntryKind.CATALOG:
                continue
            changes, after, _ = await self._changes(caller, after)
            for change in changes:
                yield change

    async def _changes(self, caller: str, after: int) -> tuple[list[CatalogChange], int, bool]:
        """Returns visible changes, the last log index looked at, and whether that was all."""

        def find(connection: sa.Connection) -> tuple[list[CatalogChange], int, bool]:
            table = tables.entries
            rows = connection.execute(
                sa.select(
                    table.c.log_index,
                    table.c.withdrawn,
                    table.c.envelope,
                    table.c.issuer,
                    table.c.valid_until,
                )
                .where(table.c.log_index > after, _visible_to(caller))
                .order_by(table.c.log_index)
                .limit(_WATCH_BATCH)
            )
            taken: list[sa.Row[*tuple[Any, ...]]] = []
            size, drained = 0, True
            for row in rows:
                size += len(row.envelope)
                if taken and size > MAX_PAGE_BYTES:
                    drained = False
                    break
                taken.append(row)
            now = milliseconds(self._clock.now())
            changes = [
                CatalogChange(
                    cursor=str(row.log_index),
                    entry=b"" if row.withdrawn else bytes(row.envelope),
                    tombstone=bytes(row.envelope) if row.withdrawn else b"",
                )
                for row in taken
                if (row.withdrawn or row.valid_until > now) and self._is_member(row.issuer)
            ]
            last = taken[-1].log_index if taken else after
            return changes, last, drained and len(taken) < _WATCH_BATCH

        return await self._ledger.read(find)

    def _hidden_issuers(self, connection: sa.Connection) -> list[str]:
        issuers = connection.scalars(sa.select(tables.facets.c.issuer).distinct())
        return [issuer for issuer in issuers if not self._is_member(issuer)]

    def _is_member(self, participant_id: str) -> bool:
        try:
            self._members.require_known(participant_id, self._clock.now())
        except NodeError as error:
            if error.reason not in _NOT_MEMBER:
                raise
            return False
        return True


def parse_cursor(cursor: str) -> int:
    """Returns the log index that a stream's cursor names; -1 for the beginning.

    Raises:
        NodeError: MALFORMED_MESSAGE.
    """
    if not cursor:
        return -1
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise NodeError("MALFORMED_MESSAGE", "The cursor isn't one that a stream gave.")
    return int(cursor)


def _visible_to(caller: str) -> sa.ColumnElement[bool]:
    return (
        sa.select(sa.literal(1))
        .where(
            tables.audience.c.product_id == tables.entries.c.product_id,
            tables.audience.c.participant_id.in_([EVERYONE, caller]),
        )
        .exists()
    )


def _checked_filters(filters: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    checked = {}
    for field, values in filters.items():
        if field not in FACET_FIELDS:
            raise NodeError(
                "MALFORMED_MESSAGE", f"A filter's field is one of {', '.join(FACET_FIELDS)}."
            )
        if not 1 <= len(values) <= MAX_FILTER_VALUES or any(len(value) > 200 for value in values):
            raise NodeError(
                "MALFORMED_MESSAGE",
                f"A filter has 1 to {MAX_FILTER_VALUES} values of at most 200 characters.",
            )
        checked[field] = tuple(values)
    return checked
