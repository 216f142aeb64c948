"""The ledger: the one commit point of a node.

Whatever a node decides or learns becomes true here. A *command* runs on the one writer thread in
a SQL transaction; what it `record`s is applied to the projections there. Then, in this order: its
journal line is written and fsynced, the new tree's checkpoint is signed, SQL commits, the caller
is told. So

* a failed journal rolls everything back, and nothing has happened;
* once the journal has the line, it has happened: should SQL fail or the node die right then, the
  tables are caught up from the journal;
* a checkpoint is signed only over what is durable, so no restart can sign another root at a size.

Commands that are waiting share one fsync; each has a savepoint, and one that fails fails alone.

A command writes tables only through projections: anything else it writes may be lost in a crash.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from luoshu.connector.clock import Clock
from luoshu.connector.errors import NodeError
from luoshu.connector.journal.entry_index import EntryIndex
from luoshu.connector.journal.files import Files, OsFiles
from luoshu.connector.journal.journal import Commit, Journal, corrupt
from luoshu.connector.journal.opening import compare, read_checkpoint
from luoshu.connector.journal.projections import Projection, Projections, read_anchor
from luoshu.connector.journal.publisher import Publisher, tile_reader
from luoshu.connector.journal.transaction import Transaction
from luoshu.connector.journal.tree import LogTree
from luoshu.connector.store.engine import READERS, Store
from luoshu.contracts.keys import PublicKey, SigningKey
from luoshu.contracts.log.checkpoint import Checkpoint, sign_checkpoint
from luoshu.contracts.log.entry import Entry
from luoshu.contracts.log.errors import MerkleError
from luoshu.contracts.log.journal_line import JournalEntry
from luoshu.contracts.log.reader import PUBLISHED_NAME
from luoshu.contracts.log.receipt import Receipt
from luoshu.contracts.times import to_milliseconds

__all__ = ["Ledger", "Projection", "Transaction"]

T = TypeVar("T")

GROUP = 64
"""Commands that share one fsync at most."""

PUBLISH_INTERVAL = 0.2
"""Seconds from a commit to its publication."""

_SUBSCRIBER_BATCH = 64
_BEGINNING = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Command(Generic[T]):
    run: Callable[[Transaction], T]
    future: Future[T]


@dataclass(frozen=True, slots=True)
class _Done:
    """A command that ran: what to write, and what to tell its caller once that is durable."""

    future: Future[Any]
    result: object
    recorded: Sequence[JournalEntry]
    commit: Commit | None


@dataclass(frozen=True, slots=True)
class _State:
    """What readers see: the last committed tree."""

    size: int
    note: str


class Ledger:
    """One node's log and tables. Made by `open`; closed by `close`."""

    def __init__(
        self,
        *,
        origin: str,
        key: SigningKey,
        clock: Clock,
        store: Store,
        projections: Projections,
        entropy: Callable[[int], bytes],
        journal: Journal,
        tree: LogTree,
        publisher: Publisher,
        last_time: datetime,
    ) -> None:
        self._origin = origin
        self._key = key
        self._clock = clock
        self._store = store
        self._projections = projections
        self._entropy = entropy
        self._journal = journal
        self._tree = tree
        self._publisher = publisher
        self._last_time = last_time
        self._state = _State(tree.size, self._sign())
        self._failed = ""
        self._closed = False
        self._admission = threading.Lock()
        self._queue: queue.SimpleQueue[_Command[Any] | None] = queue.SimpleQueue()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger-reader")
        self._writer = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        origin: str,
        key: SigningKey,
        clock: Clock,
        store: Store,
        projections: Sequence[Projection] = (),
        earlier_keys: Sequence[PublicKey] = (),
        entropy: Callable[[int], bytes] = os.urandom,
        files: Files | None = None,
        publish_interval: float = PUBLISH_INTERVAL,
    ) -> Ledger:
        """Opens or creates a node's log, verifies it and catches the tables up.

        Args:
            directory: The log directory: the journal, and what is published in `public/`.
            origin: Name of the log: the node's participant id.
            key: The log key.
            clock: Where entries get their time from.
            store: The database, open and at the newest schema.
            projections: All of the node's; the index of entries is added.
            earlier_keys: Log keys that were rotated out; they may have signed the checkpoint.
            entropy: Randomness for salts.
            files: The port to the disk.
            publish_interval: Seconds from a commit to its publication.

        Raises:
            NodeError: ``LOG_CORRUPT``; ``LOG_UNAVAILABLE``: another process has the log open, or
                the disk fails.
        """
        files = files if files is not None else OsFiles()
        public = directory / PUBLISHED_NAME
        published = read_checkpoint(public, origin, [key.public, *earlier_keys])
        anchor = read_anchor(store.writer)
        acknowledged = max(
            published.size if published else 0, anchor[1] if anchor is not None else 0
        )
        tree = LogTree(
            lambda first, count: [each.leaf for each in journal.read(first, count)],
            tile_reader(public),
        )
        times = [_BEGINNING]

        def visit(each: JournalEntry, offset: int) -> None:
            if each.entry.body.time < times[0]:
                raise corrupt("time runs backwards", each.entry.index, offset)
            times[0] = each.entry.body.time
            tree.append([each.leaf])

        journal = Journal.open(directory, acknowledged=acknowledged, visit=visit, files=files)
        try:
            compare(journal, tree, published, anchor, origin)
            everything = Projections(origin, [EntryIndex(), *projections])
            everything.prepare(store.writer)
            ledger = cls(
                origin=origin,
                key=key,
                clock=clock,
                store=store,
                projections=everything,
                entropy=entropy,
                journal=journal,
                tree=tree,
                publisher=Publisher(public, tree, files, publish_interval),
                last_time=times[0],
            )
            caught_up = ledger._catch_up()
        except BaseException:
            journal.close()
            raise
        if caught_up:
            _log.info("projections_caught_up", entries=caught_up, size=tree.size)
        ledger._start()
        return ledger

    @property
    def origin(self) -> str:
        """Name of the log: the node's participant id."""
        return self._origin

    @property
    def size(self) -> int:
        """Number of committed entries."""
        return self._state.size

    @property
    def published_size(self) -> int:
        """Size of the published tree; -1 before the first publication."""
        return self._publisher.published_size

    @property
    def unavailable(self) -> str:
        """Why the ledger takes no commands (for health and doctor); empty if it does."""
        return self._failed or self._journal.poisoned

    async def commit(self, command: Callable[[Transaction], T]) -> T:
        """Runs a command on the writer thread and returns once it is durable.

        Cancelling the wait takes back a command that hasn't started; one that has is committed
        or fails as a whole.

        Args:
            command: Called with the transaction; no awaiting, no slow work: all others wait.

        Returns:
            What the command returned.

        Raises:
            NodeError: ``LOG_UNAVAILABLE``, ``CLOCK_BEHIND_LOG``, ``SHUTTING_DOWN``; and whatever
                the command raises. Nothing has happened then.
        """
        return await asyncio.wrap_future(self.submit(command))

    def submit(self, command: Callable[[Transaction], T]) -> Future[T]:
        """Queues a command; see `commit`. For callers without an event loop."""
        future: Future[T] = Future()
        with self._admission:
            if self._closed:
                raise NodeError("SHUTTING_DOWN")
            self._queue.put(_Command(command, future))
        return future

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Runs a query on a reader thread, in a snapshot of what is committed."""
        return await asyncio.wrap_future(self.submit_read(query))

    def submit_read(self, query: Callable[[Connection], T]) -> Future[T]:
        """Queues a query; see `read`. For callers without an event loop."""
        if self._closed:
            raise NodeError("SHUTTING_DOWN")
        return self._readers.submit(self._read, query)

    def checkpoint(self) -> str:
        """Returns the newest signed checkpoint."""
        return self._state.note

    def entry(self, index: int) -> Entry:
        """Reads one entry.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        return self.entries(self._demand_index(index, self.size), 1)[0]

    def entries(self, first: int, count: int) -> list[Entry]:
        """Reads committed entries in order; fewer than ``count`` at the end."""
        count = min(count, self.size - first)
        return [each.entry for each in self._journal.read(first, count)] if count > 0 else []

    def receipt(self, index: int) -> Receipt:
        """Makes the receipt of an entry, under the newest checkpoint.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        state = self._state
        entry = self.entry(self._demand_index(index, state.size))
        proof = self._tree.inclusion_proof(index, state.size)
        return Receipt(index, entry.body, entry.salt, tuple(proof), state.note)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Proves that an entry is in the log of ``size`` entries (RFC 9162 §2.1.3).

        Raises:
            NodeError: ``MALFORMED_MESSAGE``: no such entry or size.
        """
        return self._prove(size, lambda: self._tree.inclusion_proof(index, size))

    def consistency_proof(self, first_size: int, second_size: int) -> list[bytes]:
        """Proves that the log only grew between two sizes (RFC 9162 §2.1.4).

        Raises:
            NodeError: ``MALFORMED_MESSAGE``: not ``0 < first_size <= second_size <= size``.
        """
        return self._prove(
            second_size, lambda: self._tree.consistency_proof(first_size, second_size)
        )

    def subscribe(self, first: int | None = None) -> AsyncIterator[Entry]:
        """Follows the log; ends when the ledger is closed.

        Args:
            first: Index to begin with; by default the next entry to be committed.
        """
        return self._follow(self.size if first is None else first)

    def wait_published(self, timeout: float = 10.0) -> bool:
        """Waits until the published files show every committed entry, if need be ``timeout`` s."""
        return self._publisher.wait(self.size, timeout)

    def close(self) -> None:
        """Finishes what was accepted, publishes it, and gives the log up. The store stays open."""
        with self._admission:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self._publisher.stop()
        self._readers.shutdown()
        self._notify()
        self._journal.close()

    def _start(self) -> None:
        self._publisher.start()
        self._publisher.request(self._state.size, self._state.note)
        self._writer.start()

    # The writer thread.

    def _run(self) -> None:
        ending = False
        while not ending:
            batch: list[_Command[Any]] = []
            while len(batch) < GROUP:
                try:
                    command = self._queue.get(block=not batch)
                except queue.Empty:
                    break
                if command is None:
                    ending = True
                    break
                if command.future.set_running_or_notify_cancel():
                    batch.append(command)
            if batch:
                self._commit(batch)

    def _commit(self, batch: Sequence[_Command[Any]]) -> None:
        done: list[_Done] = []
        try:
            if self._failed:
                # The tables may be able to follow by now: the disk was full, say.
                self._recover()
                self._show(_State(self._tree.size, self._sign()))
            done = self._commit_together(batch)
        except Exception as error:  # noqa: BLE001  whatever it is belongs to the callers
            _fail(batch, _catalogued(error))
        self._notify()
        for each in done:
            each.future.set_result(each.result)

    def _commit_together(self, batch: Sequence[_Command[Any]]) -> list[_Done]:
        done: list[_Done] = []
        recorded: list[JournalEntry] = []
        with self._store.writer.connect() as connection:
            for command in batch:
                outcome = self._execute(connection, command, recorded)
                if outcome is not None:
                    done.append(outcome)
                    recorded += outcome.recorded
            if not recorded:
                connection.commit()
                return done
            self._journal.append([each.commit for each in done if each.commit is not None])
            # It has happened. From here on nothing may be reported as not done.
            self._last_time = recorded[-1].entry.body.time
            self._tree.append([each.leaf for each in recorded])
            state = _State(self._tree.size, self._sign())
            try:
                self._projections.advance(connection, state.size, self._tree.root())
                connection.commit()
            except Exception as error:  # noqa: BLE001  whatever it is, the journal knows better
                # A commit that failed leaves the transaction open; closing ends it for sure.
                connection.invalidate()
                self._recover(error)
        self._show(state)
        return done

    def _execute(
        self, connection: Connection, command: _Command[Any], earlier: Sequence[JournalEntry]
    ) -> _Done | None:
        """Runs one command in a savepoint; None if it failed, alone."""
        last_time = earlier[-1].entry.body.time if earlier else self._last_time
        try:
            now = to_milliseconds(self._clock.now())
            if now < last_time:
                raise NodeError("CLOCK_BEHIND_LOG")  # noqa: TRY301  as if the command raised it
            transaction = Transaction(
                connection,
                now,
                self._journal.size + len(earlier),
                self._projections,
                self._entropy,
            )
            with connection.begin_nested():
                result = command.run(transaction)
                recorded = transaction.close()
                commit = Commit.of(recorded) if recorded else None
        except Exception as error:
            if not connection.in_transaction() or _rolled_back(connection):
                # SQLite gives up the whole transaction when the disk is full: all fail.
                raise
            command.future.set_exception(_catalogued(error))
            return None
        return _Done(command.future, result, recorded, commit)

    def _recover(self, cause: Exception | None = None) -> None:
        """Catches the tables up after SQL failed under entries that the journal has."""
        if cause is not None:
            _log.warning("tables_behind_log", error=type(cause).__name__, size=self._tree.size)
        try:
            self._catch_up()
        except Exception as error:
            self._failed = f"tables can't follow the log: {type(error).__name__}"
            if cause is None:
                raise NodeError("LOG_UNAVAILABLE", private=self._failed) from error
            raise NodeError(
                "LOG_UNAVAILABLE",
                "The command is in the usage log, but the node's tables can't follow it: "
                "it takes effect once they can.",
                private=self._failed,
            ) from error
        self._failed = ""

    def _show(self, state: _State) -> None:
        self._state = state
        self._publisher.request(state.size, state.note)

    def _catch_up(self) -> int:
        def read(first: int, count: int) -> list[Entry]:
            return [each.entry for each in self._journal.read(first, count)]

        return self._projections.catch_up(
            self._store.writer, read, self._tree.size, self._tree.root()
        )

    def _sign(self) -> str:
        root = self._tree.root()
        return sign_checkpoint(Checkpoint(self._origin, self._tree.size, root), self._key)

    # Readers.

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._store.reader.begin() as connection:
            return query(connection)

    def _prove(self, size: int, make: Callable[[], list[bytes]]) -> list[bytes]:
        committed = self._state.size
        if size > committed:
            raise NodeError("MALFORMED_MESSAGE", f"The log has {committed} entries.")
        try:
            return make()
        except MerkleError as error:
            raise NodeError("MALFORMED_MESSAGE", f"{error.message}.") from error

    async def _follow(self, index: int) -> AsyncIterator[Entry]:
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        watcher = (loop, wake)
        self._watchers.add(watcher)
        try:
            while True:
                wake.clear()
                while index < self.size and not self._closed:
                    batch = await loop.run_in_executor(
                        self._readers, self.entries, index, _SUBSCRIBER_BATCH
                    )
                    for entry in batch:
                        yield entry
                    index += len(batch)
                if self._closed:
                    return
                await wake.wait()
        finally:
            self._watchers.discard(watcher)

    def _notify(self) -> None:
        for loop, wake in tuple(self._watchers):
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:  # its loop is closed, and nobody waits any more
                self._watchers.discard((loop, wake))

    @staticmethod
    def _demand_index(index: int, size: int) -> int:
        if not 0 <= index < size:
            raise NodeError("NOT_FOUND", private=f"entry {index} of {size}")
        return index


def _fail(commands: Iterable[_Command[Any]], error: Exception) -> None:
    for command in commands:
        if not command.future.done():
            command.future.set_exception(error)


def _catalogued(error: Exception) -> Exception:
    """Gives a database that fails (full disk, I/O error) its reason; others stay as they are."""
    if not isinstance(error, OperationalError):
        return error
    wrapped = NodeError(
        "LOG_UNAVAILABLE",
        "The node's database can't be written, so nothing was done.",
        private=str(error.orig),
    )
    wrapped.__cause__ = error
    return wrapped


def _rolled_back(connection: Connection) -> bool:
    """Whether SQLite gave up the transaction by itself."""
    raw = connection.connection.dbapi_connection
    return raw is None or not raw.in_transaction
