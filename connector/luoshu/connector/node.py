"""A node: everything put together, started in order, ended in order.

This is the composition root: the one place that knows every part. Roles are
settings; a node has the parts that its roles need. The order of starting is
part of the promises:

1. the sandbox's launcher, before gRPC is imported (it forks, gRPC doesn't bear it);
2. the store (migrated) and the ledger (verified, tables caught up): a log that
   doesn't hold stops the node here;
3. membership: own credential, the status list;
4. computations that a stop interrupted get their failure entry;
5. the ports. Only now can anybody ask for anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from luoshu.connector.clock import SystemClock
from luoshu.connector.config import NodeSettings, load_settings
from luoshu.connector.errors import NodeError
from luoshu.connector.membership.node_files import NodeFiles, load_node
from luoshu.connector.observability import configure_logging, get_logger
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import SigningKey
from luoshu.sandbox.run import Sandbox

if TYPE_CHECKING:
    from luoshu.connector.assembly import Parts

LOG: Final = "log"
DATABASE: Final = Path("state", "luoshu.db")
STATUS_LIST: Final = Path("state", "status-list.json")
RESULTS: Final = Path("state", "results")
HISTORY: Final = "history"
"""What was released before, see `luoshu.connector.compute.history`. Back it up with the log."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What every part is made from.

    Attributes:
        directory: The node's.
        settings: Its configuration.
        files: Its keys and credentials.
        clock: Decision time.
        sandbox: Where queries run; None on a node that is no holder.
    """

    directory: Path
    settings: NodeSettings
    files: NodeFiles
    clock: SystemClock
    sandbox: Sandbox | None

    def has_role(self, role: str) -> bool:
        """Whether the node has a role."""
        return role in self.settings.node.roles

    def derive_key(self, use: str) -> bytes:
        """32 secret bytes for one use, the same at every start (HKDF, RFC 5869)."""
        return derive_key(self.files.events, use)


def derive_key(key: SigningKey, use: str) -> bytes:
    """32 secret bytes, derived from a signing key for one use (HKDF-SHA256, RFC 5869)."""
    info = f"luoshu/{use}/v1".encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key.to_pem())


def serve(
    directory: Path, overrides: Mapping[str, str] | None = None, *, lifeline: bool = False
) -> None:
    """Runs a node until SIGINT or SIGTERM.

    When it serves, it prints one JSON line with its addresses on standard output.

    Args:
        directory: The node's.
        overrides: Dotted setting to text; wins over node.toml and environment.
        lifeline: End also when standard input closes, so that the node can't outlive
            the program that started it.

    Raises:
        NodeError: It can't start: what is wrong and what to do.
    """
    settings = load_settings(directory, overrides)
    file = settings.logging.file
    configure_logging(
        level=settings.logging.level,
        style=settings.logging.format,
        file=None if file is None else directory / file,
    )
    clock = SystemClock()
    try:
        files = load_node(directory, now=clock.now())
    except ContractsError as error:
        raise NodeError.from_reason(error) from error
    _check_identity(settings, files)
    sandbox = _start_sandbox(settings) if "holder" in settings.node.roles else None
    try:
        context = NodeContext(directory, settings, files, clock, sandbox)
        asyncio.run(_serve(context, lifeline=lifeline))
    finally:
        if sandbox is not None:
            sandbox.close()


def _start_sandbox(settings: NodeSettings) -> Sandbox:
    sandbox = Sandbox.start(settings.sandbox.isolation_config())
    findings = sandbox.check()
    if not findings:
        sandbox.warm_up()
    for finding in findings:
        # The node serves all the same: contracts and logs need no sandbox. Every
        # computation is refused with the same words until this is mended.
        get_logger().error("sandbox_unavailable", code=finding.code, detail=finding.remedy)
    return sandbox


async def _serve(context: NodeContext, *, lifeline: bool) -> None:
    from luoshu.connector.assembly import assemble  # noqa: PLC0415 - imports gRPC

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    if lifeline:
        loop.add_reader(sys.stdin.fileno(), _read_lifeline, loop, stopping)
    async with AsyncExitStack() as stack:
        parts = await assemble(context, stack)
        watched = [asyncio.create_task(begin()) for begin in parts.background]
        stack.push_async_callback(_cancel, watched)
        ready = {
            "ready": context.files.participant_id,
            "peer": parts.peer_address,
            "user": parts.user_address,
        }
        print(json.dumps(ready), flush=True)  # noqa: T201 - the protocol with who started it
        get_logger().info("node_serves", participant=context.files.participant_id)
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait([waiting, *watched], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in watched:
            if task.done() and (error := task.exception()) is not None:
                raise error
    get_logger().info("node_stopped", participant=context.files.participant_id)


def _read_lifeline(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        stopping.set()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _check_identity(settings: NodeSettings, files: NodeFiles) -> None:
    """node.toml must not claim what the credential doesn't say."""
    if settings.node.participant != files.participant_id:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"node.participant is {settings.node.participant}, but the membership credential is "
            f"of {files.participant_id}.",
        )
    granted = {role.value for role in files.credential.roles}
    beyond = sorted(set(settings.node.roles) - granted)
    if beyond:
        raise NodeError(
            "CONFIGURATION_INVALID",
            f"node.roles has {', '.join(beyond)}, which the membership credential doesn't grant.",
        )


def program_version() -> str:
    """The version of this program."""
    return version("luoshu")


__all__ = ["NodeContext", "Parts", "derive_key", "program_version", "serve"]
