"""A space of three nodes in one process: real ledgers and services, calls instead of sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from contract_world import ANALYST, AUTHORITY, HOLDER, NOW, OPERATOR, THIRD, Member, trust

from luoshu.connector.catalog.entry_building import ShelvedProduct
from luoshu.connector.catalog.holder import ProductService, SignedEntries
from luoshu.connector.catalog.projection import CatalogProjection
from luoshu.connector.catalog.reader import CatalogReader
from luoshu.connector.catalog.service import CatalogService
from luoshu.connector.clock import ManualClock
from luoshu.connector.compute.offering import TemplateCheck
from luoshu.connector.compute.ports import SandboxPort
from luoshu.connector.compute.projection import find_debits
from luoshu.connector.contract.book import ContractBook
from luoshu.connector.contract.consumer import ContractConsumer
from luoshu.connector.contract.projection import ContractProjection
from luoshu.connector.contract.provider import ContractProvider
from luoshu.connector.contract.service import ContractService
from luoshu.connector.errors import NodeError
from luoshu.connector.journal.files import Files
from luoshu.connector.ledger import Ledger, Projection
from luoshu.connector.membership.directory import KnownCredential, KnownStatus, MemberDirectory
from luoshu.connector.peer_port import (
    CatalogChange,
    CatalogPage,
    CatalogQuery,
    ContractNews,
    SequencedBytes,
)
from luoshu.connector.store.engine import Store
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.membership import Revocation, RevocationReason, StatusList
from luoshu.contracts.offer import Offer
from luoshu.sandbox.prepared import PreparedColumn, PreparedProduct, PreparedTable, ReleaseFloor
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.schema import BIGINT, ColumnSchema, Use

PRODUCT_YAML = """
id: {id}
title: {{en: Lung cancer survival, zh: 肺癌生存数据}}
description: {{en: Survival by institution., zh: 各机构的生存情况。}}
keywords: [lung, 肺癌]
theme: health
classification: {{level: general, personal_information: sensitive, subjects: 228}}
source: {{parquet: lung.parquet}}
privacy_unit: patient_id
columns:
  sex: {{use: [group, filter]}}
  time: {{use: [aggregate]}}
release: {{mode: aggregate, min_units: {min_units}}}
"""


def shelved(local_id: str = "lung", *, min_units: int = 10, digest: str = "a") -> ShelvedProduct:
    """A prepared product; its file of data isn't needed here."""
    prepared = PreparedProduct(
        id=local_id,
        table_name=local_id.replace("-", "_"),
        path=Path("prepared.duckdb"),
        digest=f"sha256:{digest * 64}",
        product_digest=f"sha256:{'b' * 64}",
        source_digest=f"sha256:{'c' * 64}",
        engine="duckdb",
        domain="patient_id",
        registry="d" * 32,
        tables=(
            PreparedTable(
                local_id.replace("-", "_"),
                "patient_id",
                (
                    PreparedColumn(ColumnSchema("sex", BIGINT, frozenset({Use.GROUP, Use.FILTER}))),
                    PreparedColumn(ColumnSchema("time", BIGINT, frozenset({Use.AGGREGATE}))),
                ),
                rows=228,
            ),
        ),
        units=228,
        release=ReleaseFloor("aggregate", min_units),
        notes=(),
    )
    text = PRODUCT_YAML.format(id=local_id, min_units=min_units)
    return ShelvedProduct(parse_product(text), prepared)


def offers_json(*offers: Offer) -> bytes:
    """Offers as a holder hands them over."""
    return canonicalize({"offers": [offer.to_payload() for offer in offers]})


@dataclass
class Shelf:
    """Prepared products in memory."""

    products: dict[str, ShelvedProduct] = field(default_factory=lambda: {"lung": shelved()})

    def local_ids(self) -> tuple[str, ...]:
        return tuple(sorted(self.products))

    def load(self, product: str) -> ShelvedProduct:
        if product not in self.products:
            raise NodeError("NOT_FOUND")
        return self.products[product]


@dataclass
class Wire:
    """Calls between the nodes, as the caller; can be cut before or after they arrive."""

    world: World
    caller: str
    cut_before: set[str] = field(default_factory=set)
    cut_after: set[str] = field(default_factory=set)
    tamper: Callable[[SequencedBytes], SequencedBytes] | None = None

    def _before(self, method: str) -> None:
        if method in self.cut_before:
            raise NodeError("PEER_UNREACHABLE")

    def _after(self, method: str) -> None:
        if method in self.cut_after:
            raise NodeError("PEER_UNREACHABLE")

    async def publish(self, peer: str, entry: bytes) -> int:
        self._before("publish")
        index = await self.world.nodes[peer].catalog.publish(self.caller, entry)
        self._after("publish")
        return index

    async def withdraw(self, peer: str, tombstone: bytes) -> int:
        self._before("withdraw")
        index = await self.world.nodes[peer].catalog.withdraw(self.caller, tombstone)
        self._after("withdraw")
        return index

    async def search(self, peer: str, query: CatalogQuery) -> CatalogPage:
        return await self.world.nodes[peer].catalog.search(self.caller, query)

    async def get_entry(self, peer: str, product_id: str) -> bytes:
        return await self.world.nodes[peer].catalog.get_entry(self.caller, product_id)

    def watch_catalog(self, peer: str, cursor: str) -> AsyncIterator[CatalogChange]:
        return self.world.nodes[peer].catalog.watch(self.caller, cursor)

    async def submit_event(
        self, peer: str, event: bytes, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        self._before("submit_event")
        provider = self.world.nodes[peer].provider
        events = await provider.submit_event(self.caller, event, known_position)
        self._after("submit_event")
        return self._seen(events)

    async def list_events(
        self, peer: str, contract_id: str, known_position: int
    ) -> tuple[SequencedBytes, ...]:
        self._before("list_events")
        provider = self.world.nodes[peer].provider
        return self._seen(await provider.list_events(self.caller, contract_id, known_position))

    def watch_events(self, peer: str, cursor: str) -> AsyncIterator[ContractNews]:
        self._before("watch_events")
        return self.world.nodes[peer].provider.watch_events(self.caller, cursor)

    def _seen(self, events: tuple[SequencedBytes, ...]) -> tuple[SequencedBytes, ...]:
        return tuple(self.tamper(event) for event in events) if self.tamper else events


@dataclass
class TradingNode:
    """One node's catalog and contracts on its own ledger."""

    member: Member
    store: Store
    ledger: Ledger
    directory: MemberDirectory
    wire: Wire
    shelf: Shelf
    catalog: CatalogService
    products: ProductService
    reader: CatalogReader
    provider: ContractProvider
    consumer: ContractConsumer
    book: ContractBook
    contracts: ContractService

    def close(self) -> None:
        self.ledger.close()
        self.store.close()


class World:
    """Operator, holder, analyst and a third member.

    Attributes:
        projections: What each node's ledger keeps.
        files: The disk of a node, where it isn't the real one.
        checking: Where templates are tried before they are offered.
    """

    checking: SandboxPort | None = None

    projections: tuple[Callable[[], Projection], ...] = (CatalogProjection, ContractProjection)

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Files] = {}
        self.clock = ManualClock(NOW)
        self.nodes: dict[str, TradingNode] = {}

    @property
    def operator(self) -> TradingNode:
        return self.nodes[OPERATOR.id]

    @property
    def holder(self) -> TradingNode:
        return self.nodes[HOLDER.id]

    @property
    def analyst(self) -> TradingNode:
        return self.nodes[ANALYST.id]

    @property
    def third(self) -> TradingNode:
        """Started when it is needed."""
        return self.nodes.get(THIRD.id) or self.start(THIRD)

    def start(self, member: Member) -> TradingNode:
        """Opens a node, again if it was closed before."""
        directory = self._directory(member)
        store = Store.open(_database(self.root / member.name / "luoshu.db"))
        ledger = Ledger.open(
            self.root / member.name / "log",
            origin=member.id,
            key=member.key(KeyUse.LOG),
            clock=self.clock,
            store=store,
            projections=[make() for make in self.projections],
            files=self.files.get(member.id),
        )
        wire = Wire(self, member.id)
        shelf = Shelf()
        entries = SignedEntries()

        async def learn(participant_id: str) -> object:
            return directory.require_known(participant_id, self.clock.now())

        reader = CatalogReader(
            ledger,
            wire,
            directory,
            learn,
            self.clock,
            participant_id=member.id,
            operator_id=OPERATOR.id,
        )
        provider = ContractProvider(
            ledger,
            directory,
            entries,
            self.clock,
            participant_id=member.id,
            events_key=member.events,
        )
        consumer = ContractConsumer(
            ledger,
            wire,
            directory,
            learn,
            reader,
            clock=self.clock,
            participant_id=member.id,
            events_key=member.events,
            new_id=uuid4,
        )
        node = TradingNode(
            member=member,
            store=store,
            ledger=ledger,
            directory=directory,
            wire=wire,
            shelf=shelf,
            catalog=CatalogService(ledger, directory, self.clock, page_key=bytes(32)),
            products=ProductService(
                ledger,
                wire,
                shelf,
                self.clock,
                TemplateCheck(self.checking),
                holder=member.credential(),
                events_key=member.events,
                operator_id=OPERATOR.id,
            ),
            reader=reader,
            provider=provider,
            consumer=consumer,
            book=ContractBook(provider, entries),
            contracts=ContractService(
                ledger, directory, provider, consumer, participant_id=member.id, debits=find_debits
            ),
        )
        self.nodes[member.id] = node
        return node

    def restart(self, member: Member) -> TradingNode:
        """Closes a node and opens it from what is on disk."""
        self.nodes.pop(member.id).close()
        return self.start(member)

    def revoke(self, *members: Member) -> None:
        """Makes every node believe a status list that revokes members as of now."""
        for node in self.nodes.values():
            node.directory.accept_status(self._status(members))

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def _directory(self, member: Member) -> MemberDirectory:
        known = {
            m.id: KnownCredential(m.credential(), m.credential().sign(AUTHORITY))
            for m in (OPERATOR, HOLDER, ANALYST, THIRD)
        }
        directory = MemberDirectory(trust(), known[member.id])
        for each in known.values():
            directory.admit(each)
        directory.accept_status(self._status(()))
        return directory

    def _status(self, revoked: tuple[Member, ...]) -> KnownStatus:
        status = StatusList(
            space="harbour",
            version=1 + len(revoked),
            issued_at=NOW,
            max_age=86_400,
            revoked=tuple(
                Revocation(m.id, self.clock.now(), next(iter(RevocationReason))) for m in revoked
            ),
        )
        return KnownStatus(status, status.sign(OPERATOR.key(KeyUse.STATUS)))


@cache
def _migrated() -> bytes:
    """A database at the newest schema: migrating anew for each node would take most of a test."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "luoshu.db"
        Store.open(path).close()
        return path.read_bytes()


def _database(path: Path) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated())
    return path


@asynccontextmanager
async def trading_world(root: Path) -> AsyncIterator[World]:
    """The world with all its nodes running."""
    world = World(root)
    try:
        for member in (OPERATOR, HOLDER, ANALYST):
            world.start(member)
        yield world
    finally:
        world.close()
