"""A small space with real keys and files, and nodes of it that serve in this process."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from luoshu.connector.clock import ManualClock
from luoshu.connector.ledger import Ledger
from luoshu.connector.log_service import LogService
from luoshu.connector.membership.directory import KnownCredential, MemberDirectory
from luoshu.connector.membership.node_files import NodeFiles, enrol_node, init_node, load_node
from luoshu.connector.membership.projection import MembershipProjection
from luoshu.connector.membership.service import MembershipService
from luoshu.connector.membership.space import approve, init_space
from luoshu.connector.membership.status import StatusFile, StatusSigner
from luoshu.connector.membership.users import UserDirectory
from luoshu.connector.rate_limit import RateLimiter
from luoshu.connector.rpc.authorization import PEER_RULES, USER_RULES
from luoshu.connector.rpc.channel import ClientIdentity
from luoshu.connector.rpc.doors import PeerDoor, UserDoor
from luoshu.connector.rpc.gate import Gate
from luoshu.connector.rpc.node_log import node_log
from luoshu.connector.rpc.node_membership import node_membership
from luoshu.connector.rpc.peer_log import peer_log
from luoshu.connector.rpc.peer_membership import peer_membership
from luoshu.connector.rpc.peers import PeerClients
from luoshu.connector.rpc.server import RpcServer, ServerIdentity
from luoshu.connector.store.engine import Store
from luoshu.contracts.membership import MembershipCredential, Role


class AddressBook:
    """Where nodes really listen: ports are taken at start, endpoints are signed before."""

    def __init__(self, directory: MemberDirectory, addresses: dict[str, str]) -> None:
        self._directory = directory
        self._addresses = addresses

    def endpoint(self, participant_id: str) -> str:
        return self._addresses.get(participant_id) or self._directory.endpoint(participant_id)

    def own_credential(self) -> bytes:
        return self._directory.own_credential()


@dataclass
class RunningNode:
    """One node's membership, served."""

    files: NodeFiles
    directory: MemberDirectory
    ledger: Ledger
    service: MembershipService
    peers: PeerClients
    peer_server: RpcServer
    user_server: RpcServer
    identity: ClientIdentity

    @property
    def id(self) -> str:
        return self.files.participant_id


@dataclass
class SmallSpace:
    """A space, its nodes' directories and those that run."""

    path: Path
    name: str
    clock: ManualClock
    addresses: dict[str, str] = field(default_factory=dict)
    rate: tuple[float, int] = (10_000.0, 10_000)

    def enrol(
        self,
        name: str,
        *roles: Role,
        validity: dt.timedelta = dt.timedelta(days=30),
        now: dt.datetime | None = None,
    ) -> Path:
        """Makes a node's directory and enrols it."""
        directory = self.path / name
        endpoint = None if roles == (Role.ANALYST,) else f"{name}.example:7400"
        request = init_node(
            directory,
            space=self.name,
            name=name,
            roles=roles,
            jurisdiction="CN",
            peer_listen="127.0.0.1:0" if endpoint else None,
            peer_advertise=endpoint,
            now=now or self.clock.now(),
        )
        self.grant(name, request.read_bytes(), validity=validity, now=now)
        return directory

    def grant(
        self,
        name: str,
        request: bytes,
        *,
        validity: dt.timedelta = dt.timedelta(days=30),
        now: dt.datetime | None = None,
    ) -> MembershipCredential:
        moment = now or self.clock.now()
        granted = approve(self.path / "space", request, now=moment, validity=validity)
        return enrol_node(self.path / name, granted.to_bytes(), now=moment)

    def files(self, name: str) -> NodeFiles:
        return load_node(self.path / name, now=self.clock.now())

    @contextlib.asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[RunningNode]:
        """Serves a node on loopback; a second time is a restart."""
        files = self.files(name)
        with Store.open(files.directory / "state" / "luoshu.db") as store:
            ledger = Ledger.open(
                files.directory / "log",
                origin=files.participant_id,
                key=files.log,
                clock=self.clock,
                store=store,
                projections=[MembershipProjection()],
            )
            try:
                async with self._serving(files, ledger) as node:
                    yield node
            finally:
                ledger.close()

    @contextlib.asynccontextmanager
    async def _serving(self, files: NodeFiles, ledger: Ledger) -> AsyncIterator[RunningNode]:
        directory = MemberDirectory(files.trust, KnownCredential(files.credential, files.envelope))
        identity = ClientIdentity(
            files.participant_id,
            files.tls_certificate,
            files.tls_key,
            files.trust.ca_certificate.encode(),
        )
        peers = PeerClients(identity, AddressBook(directory, self.addresses), self.clock)
        service = MembershipService(
            directory=directory,
            ledger=ledger,
            clock=self.clock,
            peers=peers,
            status_file=StatusFile(files.directory / "status-list.json"),
            signer=StatusSigner(files.trust.space, files.status) if files.status else None,
        )
        peers.on_introduced = service.on_introduced
        await service.start(files.operator)
        roles = frozenset(role.value for role in files.credential.roles)
        limiter = RateLimiter(*self.rate)
        users = UserDirectory(files.directory / "users", lambda: directory.own.credential)
        peer_server = await RpcServer.start(
            "127.0.0.1:0",
            ServerIdentity(files.tls_certificate, files.tls_key, identity.space_ca),
            Gate(
                rules=PEER_RULES,
                door=PeerDoor(directory, self.clock),
                clock=self.clock,
                rate_limit=limiter,
                node_roles=roles,
            ),
            [peer_membership(service), peer_log(LogService(ledger))],
        )
        user_server = await RpcServer.start(
            "127.0.0.1:0",
            ServerIdentity(files.user_api_certificate, files.user_api_key, files.user_ca),
            Gate(
                rules=USER_RULES,
                door=UserDoor(users, self.clock),
                clock=self.clock,
                rate_limit=limiter,
                node_roles=roles,
            ),
            [
                node_membership(service, directory, version="test", log_size=lambda: ledger.size),
                node_log(LogService(ledger)),
            ],
        )
        self.addresses[files.participant_id] = peer_server.address
        try:
            yield RunningNode(
                files, directory, ledger, service, peers, peer_server, user_server, identity
            )
        finally:
            await peers.close()
            await peer_server.stop()
            await user_server.stop()


def make_space(path: Path, name: str = "alliance") -> SmallSpace:
    clock = ManualClock(dt.datetime.now(dt.UTC))
    init_space(
        path / "space",
        name,
        operator_name="operator",
        operator_endpoint="operator.example:7400",
        now=clock.now(),
    )
    space = SmallSpace(path, name, clock)
    space.enrol("operator", Role.OPERATOR)
    return space


@pytest.fixture(scope="session")
def space_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and files take their time, so every test gets a copy of the same."""
    path = tmp_path_factory.mktemp("spaces")
    made = make_space(path / "alliance")
    made.enrol("clinic", Role.HOLDER)
    made.enrol("institute", Role.ANALYST)
    make_space(path / "other").enrol("clinic", Role.HOLDER)
    return path


@pytest.fixture
def space(space_template: Path, tmp_path: Path) -> SmallSpace:
    """A space with an operator, one holder and one analyst enrolled."""
    shutil.copytree(space_template / "alliance", tmp_path / "alliance")
    return SmallSpace(tmp_path / "alliance", "alliance", ManualClock(dt.datetime.now(dt.UTC)))


@pytest.fixture
def other_space(space_template: Path, tmp_path: Path) -> SmallSpace:
    """Another space of the same name, so that only keys tell it apart."""
    shutil.copytree(space_template / "other", tmp_path / "other")
    return SmallSpace(tmp_path / "other", "alliance", ManualClock(dt.datetime.now(dt.UTC)))
