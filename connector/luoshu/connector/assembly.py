"""Makes a node's parts and starts its ports. Imports gRPC, so `node` imports it late."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from luoshu.connector.background import repeat
from luoshu.connector.catalog.holder import ProductService, SignedEntries
from luoshu.connector.catalog.local import LocalCatalog
from luoshu.connector.catalog.ports import CatalogPeer
from luoshu.connector.catalog.projection import CatalogProjection
from luoshu.connector.catalog.reader import CatalogReader
from luoshu.connector.catalog.service import CatalogService
from luoshu.connector.compute.budget import BudgetProjection
from luoshu.connector.compute.entries import Pseudonyms
from luoshu.connector.compute.explaining import Explainer
from luoshu.connector.compute.gatekeeping import Gatekeeper
from luoshu.connector.compute.history import ReleaseHistory
from luoshu.connector.compute.offering import TemplateCheck
from luoshu.connector.compute.projection import ComputeProjection, find_debits
from luoshu.connector.compute.relay import ComputeRelay
from luoshu.connector.compute.results import ResultStore
from luoshu.connector.compute.service import ComputeService
from luoshu.connector.contract.book import ContractBook
from luoshu.connector.contract.consumer import ContractConsumer
from luoshu.connector.contract.follower import ContractFollower
from luoshu.connector.contract.projection import ContractProjection
from luoshu.connector.contract.provider import ContractProvider
from luoshu.connector.contract.service import ContractService
from luoshu.connector.ledger import Ledger
from luoshu.connector.log_service import LogService
from luoshu.connector.membership.directory import KnownCredential, MemberDirectory
from luoshu.connector.membership.projection import MembershipProjection
from luoshu.connector.membership.service import MembershipService
from luoshu.connector.membership.status import StatusFile, StatusSigner
from luoshu.connector.membership.users import UserDirectory
from luoshu.connector.node import (
    DATABASE,
    HISTORY,
    LOG,
    RESULTS,
    STATUS_LIST,
    NodeContext,
    program_version,
)
from luoshu.connector.products import NodeProducts
from luoshu.connector.rate_limit import RateLimiter
from luoshu.connector.rpc.authorization import PEER_RULES, USER_RULES
from luoshu.connector.rpc.channel import ClientIdentity
from luoshu.connector.rpc.doors import PeerDoor, UserDoor
from luoshu.connector.rpc.gate import Gate
from luoshu.connector.rpc.node_catalog import node_catalog
from luoshu.connector.rpc.node_compute import node_compute
from luoshu.connector.rpc.node_contract import node_contract
from luoshu.connector.rpc.node_log import node_log
from luoshu.connector.rpc.node_membership import node_membership
from luoshu.connector.rpc.peer_catalog import peer_catalog
from luoshu.connector.rpc.peer_compute import peer_compute
from luoshu.connector.rpc.peer_contract import peer_contract
from luoshu.connector.rpc.peer_log import peer_log
from luoshu.connector.rpc.peer_membership import peer_membership
from luoshu.connector.rpc.peers import PeerClients
from luoshu.connector.rpc.server import RpcServer, ServerIdentity, ServerLimits, Service
from luoshu.connector.store.engine import Store
from luoshu.contracts.membership import Role
from luoshu.policies import load_default_engine

SWEEP_SECONDS: Final = 30.0
"""How often agreements whose end has passed are looked for; a use notices by itself."""


Background: TypeAlias = Callable[[], Coroutine[object, object, None]]
"""Work that is begun once the ports are open; a node that can't open them begins none."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs in a node.

    Attributes:
        user_address: Where users reach it.
        peer_address: Where other nodes reach it; None if it only dials out.
        background: What has to run beside the ports until the node stops.
    """

    user_address: str
    peer_address: str | None
    background: tuple[Background, ...]


async def assemble(context: NodeContext, stack: AsyncExitStack) -> Parts:
    """Starts everything; leaving `stack` ends it in the opposite order.

    Raises:
        NodeError: Something can't start.
    """
    files, settings, clock = context.files, context.settings, context.clock
    me = files.participant_id

    store = Store.open(context.directory / DATABASE)
    stack.callback(store.close)
    ledger = Ledger.open(
        context.directory / LOG,
        origin=me,
        key=files.log,
        clock=clock,
        store=store,
        projections=[
            MembershipProjection(),
            CatalogProjection(),
            ContractProjection(),
            ComputeProjection(),
            BudgetProjection(),
        ],
    )
    stack.callback(ledger.close)

    directory = MemberDirectory(files.trust, KnownCredential(files.credential, files.envelope))
    peers = PeerClients(
        ClientIdentity(
            me, files.tls_certificate, files.tls_key, files.trust.ca_certificate.encode()
        ),
        directory,
        clock,
    )
    stack.push_async_callback(peers.close)
    signer = None
    if files.status is not None and context.has_role(Role.OPERATOR):
        signer = StatusSigner(
            files.trust.space, files.status, settings.membership.status_max_age_seconds
        )
    membership = MembershipService(
        directory=directory,
        ledger=ledger,
        clock=clock,
        peers=peers,
        status_file=StatusFile(context.directory / STATUS_LIST),
        signer=signer,
    )
    peers.on_introduced = membership.on_introduced
    await membership.start(files.operator)

    log = LogService(ledger)
    peer_services: list[Service] = [peer_membership(membership), peer_log(log)]
    catalog_peer: CatalogPeer = peers
    if context.has_role(Role.OPERATOR):
        catalog = CatalogService(ledger, directory, clock, context.derive_key("page-tokens"))
        peer_services.append(peer_catalog(catalog))
        catalog_peer = LocalCatalog(catalog, me)
    shelf = NodeProducts(context.directory)
    products = ProductService(
        ledger,
        catalog_peer,
        shelf,
        clock,
        TemplateCheck(context.sandbox),
        holder=files.credential,
        events_key=files.events,
        operator_id=files.trust.operator_id,
    )
    reader = CatalogReader(
        ledger,
        catalog_peer,
        directory,
        membership.require_member,
        clock,
        participant_id=me,
        operator_id=files.trust.operator_id,
    )
    signed = SignedEntries()
    provider = ContractProvider(
        ledger, directory, signed, clock, participant_id=me, events_key=files.events
    )
    consumer = ContractConsumer(
        ledger,
        peers,
        directory,
        membership.require_member,
        reader,
        clock=clock,
        participant_id=me,
        events_key=files.events,
        new_id=uuid.uuid4,
    )
    relay = ComputeRelay(
        node_id=me, ledger=ledger, contracts=consumer, members=directory, peers=peers, clock=clock
    )
    background: list[Background] = [membership.run]
    if context.sandbox is not None:
        gatekeeper = Gatekeeper(
            own=files.credential,
            members=directory,
            contracts=ContractBook(provider, signed),
            policy=await asyncio.to_thread(load_default_engine),
        )
        compute = ComputeService(
            node_id=me,
            ledger=ledger,
            gatekeeper=gatekeeper,
            products=shelf,
            sandbox=context.sandbox,
            results=ResultStore(context.directory / RESULTS),
            history=ReleaseHistory(context.directory / HISTORY, ledger, shelf.domain_secret),
            pseudonyms=Pseudonyms(context.derive_key("pseudonyms")),
            clock=clock,
            concurrency=settings.sandbox.concurrency,
        )
        await compute.recover()
        stack.push_async_callback(compute.close)
        explainer = Explainer(
            ledger=ledger, gatekeeper=gatekeeper, products=shelf, sandbox=context.sandbox
        )
        peer_services += [peer_contract(provider), peer_compute(compute, explainer)]
        background.append(partial(_sweep, provider))
    if context.has_role(Role.ANALYST):
        background.append(ContractFollower(consumer).run)

    user_services = [
        node_membership(
            membership, directory, version=program_version(), log_size=lambda: ledger.size
        ),
        node_catalog(products, reader),
        node_contract(
            ContractService(
                ledger, directory, provider, consumer, participant_id=me, debits=find_debits
            )
        ),
        node_compute(relay),
        node_log(log),
    ]
    addresses = await _open_ports(context, stack, directory, user_services, peer_services)
    return Parts(*addresses, tuple(background))


async def _open_ports(
    context: NodeContext,
    stack: AsyncExitStack,
    directory: MemberDirectory,
    user_services: Sequence[Service],
    peer_services: Sequence[Service],
) -> tuple[str, str | None]:
    """Returns where users and where other nodes reach it."""
    files, settings, clock = context.files, context.settings, context.clock
    limits = ServerLimits(
        max_receive_bytes=settings.limits.max_message_mib << 20,
        stop_grace_seconds=settings.time.shutdown_grace_seconds,
    )
    roles = frozenset(settings.node.roles)
    rate = settings.limits
    user_server = await RpcServer.start(
        settings.user.listen,
        ServerIdentity(files.user_api_certificate, files.user_api_key, files.user_ca),
        Gate(
            rules=USER_RULES,
            door=UserDoor(
                UserDirectory(context.directory / "users", lambda: directory.own.credential), clock
            ),
            clock=clock,
            rate_limit=RateLimiter(rate.requests_per_second, rate.burst),
            node_roles=roles,
        ),
        user_services,
        limits,
    )
    stack.push_async_callback(user_server.stop)
    peer_address = None
    if settings.peer.listen is not None:
        peer_server = await RpcServer.start(
            settings.peer.listen,
            ServerIdentity(
                files.tls_certificate, files.tls_key, files.trust.ca_certificate.encode()
            ),
            Gate(
                rules=PEER_RULES,
                door=PeerDoor(directory, clock),
                clock=clock,
                rate_limit=RateLimiter(rate.requests_per_second, rate.burst),
                node_roles=roles,
            ),
            peer_services,
            limits,
        )
        stack.push_async_callback(peer_server.stop)
        peer_address = peer_server.address
    return user_server.address, peer_address


async def _sweep(provider: ContractProvider) -> None:
    """Writes the expiry of agreements whose end has passed."""
    await repeat("contracts_not_swept", provider.sweep, pause=SWEEP_SECONDS)
