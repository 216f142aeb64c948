"""A whole data space on this machine: real processes, each with its own directory.

The demo, the benchmarks and the end-to-end tests stand on it. Nothing is
simulated: nodes are made, enrolled and served by the same functions that the
command line calls, and talk to each other over mutual TLS on loopback.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from luoshu.connector.config import FILE_NAME
from luoshu.connector.config_reference import node_toml
from luoshu.connector.membership.node_files import enrol_node, init_node
from luoshu.connector.membership.space import approve, init_space
from luoshu.connector.membership.users import add_user
from luoshu.connector.products import prepare_on_node
from luoshu.contracts import ids
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.membership import MembershipCredential, Role, UserRole
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import Sandbox

STOP_SECONDS: Final = 20.0
PROGRAM: Final = (sys.executable, "-c", "from luoshu.cli.main import main; main()")
"""The command `luoshu`, in this interpreter."""


class LocalSpaceError(Exception):
    """A node didn't start or didn't end; its log is named."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node to be made.

    Attributes:
        name: DNS label.
        roles: Of the membership credential.
        title: For people.
        users: Name to roles, besides `admin`.
        settings: Dotted setting to value, over the defaults.
    """

    name: str
    roles: tuple[Role, ...]
    title: LocalizedText
    users: Mapping[str, tuple[UserRole, ...]]
    settings: Mapping[str, object]

    @classmethod
    def of(
        cls,
        name: str,
        *roles: Role,
        en: str = "",
        zh: str = "",
        users: Mapping[str, tuple[UserRole, ...]] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> Self:
        """A plan with defaults for what isn't given."""
        return cls(name, roles, LocalizedText(en or name, zh), users or {}, settings or {})


class LocalNode:
    """One node's directory, and its process while it runs.

    Attributes:
        plan: What it was made from.
        directory: Its own.
        peer_address: Where other nodes reach it.
        user_address: Where its users reach it.
        program: What `luoshu` is started as.
    """

    def __init__(self, plan: NodePlan, directory: Path, peer: str, user: str) -> None:
        self.plan = plan
        self.directory = directory
        self.peer_address = peer
        self.user_address = user
        self.program: Sequence[str] = PROGRAM
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def name(self) -> str:
        """The participant's name."""
        return self.plan.name

    @property
    def pid(self) -> int | None:
        """Process id, while the node runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def profile(self, user: str = "admin") -> Path:
        """Profile directory of one of the node's users."""
        return self.directory / "profiles" / user

    def spawn(self) -> None:
        """Starts the process; `wait_ready` says when it serves."""
        log_path = self.directory / "node.log"
        self._log = log_path.open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [*self.program, "node", "serve", str(self.directory), "--lifeline"],
            # The node ends when this pipe closes: however this process dies, no node stays.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C on the terminal reaches this process only, which then ends the nodes.
            start_new_session=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("LUOSHU_")},
        )

    def wait_ready(self) -> None:
        """Waits until the node says that it serves.

        Raises:
            LocalSpaceError: It ended instead.
        """
        if self._process is None or self._process.stdout is None:
            raise LocalSpaceError(f"Node {self.name} was not started.")
        line = self._process.stdout.readline()
        try:
            ready = json.loads(line)
        except ValueError:
            ready = None
        if not isinstance(ready, dict) or "ready" not in ready:
            self.kill()
            raise LocalSpaceError(f"Node {self.name} did not start:\n{self._tail()}")

    def ask_to_stop(self) -> None:
        """Closes the lifeline: the node ends in order, and nobody waits for it yet."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Ends the process in order, and waits until it has ended.

        Raises:
            LocalSpaceError: It had to be killed, or ended with an error.
        """
        process = self._process
        if process is None:
            return
        self.ask_to_stop()
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LocalSpaceError(f"Node {self.name} had to be killed.") from None
        self._forget()
        if code != 0:
            raise LocalSpaceError(f"Node {self.name} ended with code {code}:\n{self._tail()}")

    def kill(self) -> None:
        """Ends the process at once, as a crash would (SIGKILL)."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        self._forget()

    def _tail(self) -> str:
        return (self.directory / "node.log").read_text(errors="replace")[-2000:]

    def _forget(self) -> None:
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None and not stream.closed:
                    stream.close()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None


class LocalSpace:
    """A space under one directory. A context manager: leaving it ends every node."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.nodes: dict[str, LocalNode] = {}
        self.authority = root / "authority"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        except LocalSpaceError:
            if error is None:
                raise

    def create(self, plans: Sequence[NodePlan]) -> None:
        """Makes the space and its operator's node, which is the plan with that role."""
        operator = next(plan for plan in plans if Role.OPERATOR in plan.roles)
        addresses = {plan.name: (free_address(), free_address()) for plan in plans}
        init_space(
            self.authority,
            self.name,
            operator_name=operator.name,
            operator_endpoint=addresses[operator.name][0],
            now=_now(),
        )
        for plan in (operator, *(plan for plan in plans if plan is not operator)):
            self._make_node(plan, *addresses[plan.name])

    def _make_node(self, plan: NodePlan, peer: str, user: str) -> None:
        node = LocalNode(plan, self.root / plan.name, peer, user)
        listens = Role.OPERATOR in plan.roles or Role.HOLDER in plan.roles
        node.directory.mkdir(mode=0o700)
        values: dict[str, object] = {
            "node.participant": ids.participant_id(self.name, plan.name),
            "node.roles": [role.value for role in plan.roles],
            "user.listen": user,
            **plan.settings,
        }
        if listens:
            values["peer.listen"] = peer
        (node.directory / FILE_NAME).write_text(node_toml(values))
        init_node(
            node.directory,
            space=self.name,
            name=plan.name,
            display_name=plan.title,
            roles=plan.roles,
            jurisdiction="CN",
            peer_listen=peer if listens else None,
            user_listen=user,
            now=_now(),
        )
        self.nodes[plan.name] = node

    def enrol(self, name: str) -> MembershipCredential:
        """Approves a node's request, installs the grant, and enrols its users."""
        node = self.nodes[name]
        request = (node.directory / "enrolment-request.json").read_bytes()
        grant = approve(self.authority, request, now=_now())
        credential = enrol_node(node.directory, grant.to_bytes(), now=_now())
        (node.directory / "profiles").mkdir(mode=0o700)
        users = {"admin": (UserRole.ADMIN,), **node.plan.users}
        for user, roles in users.items():
            add_user(
                node.directory,
                user,
                roles,
                node.profile(user),
                address=node.user_address,
                now=_now(),
            )
        return credential

    def start(self, *names: str) -> None:
        """Starts nodes side by side and waits until each serves; all by default."""
        chosen = [self.nodes[name] for name in names or self.nodes]
        for node in chosen:
            node.spawn()
        for node in chosen:
            node.wait_ready()

    def stop(self) -> None:
        """Ends every node that runs, the operator's last.

        Raises:
            LocalSpaceError: One had to be killed, or ended with an error; all have ended.
        """
        problems = []
        operators = [n for n in self.nodes.values() if Role.OPERATOR in n.plan.roles]
        others = [n for n in self.nodes.values() if n not in operators]
        for nodes in (others, operators):
            for node in nodes:
                node.ask_to_stop()
            for node in nodes:
                try:
                    node.stop()
                except LocalSpaceError as error:
                    problems.append(str(error))
        if problems:
            raise LocalSpaceError("\n".join(problems))

    def participant_id(self, name: str) -> str:
        """A node's participant id."""
        return ids.participant_id(self.name, name)


@contextmanager
def preparation() -> Iterator[Sandbox]:
    """A sandbox to prepare products in."""
    sandbox = Sandbox.start(IsolationConfig())
    try:
        yield sandbox
    finally:
        sandbox.close()


def prepare(node: LocalNode, product_file: Path, sandbox: Sandbox) -> PreparedProduct:
    """Prepares a product into a node's directory."""
    return prepare_on_node(node.directory, product_file, sandbox.isolation)


def free_address() -> str:
    """A loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _now() -> datetime:
    return datetime.now(UTC)
