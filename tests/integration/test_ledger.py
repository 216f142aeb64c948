"""The ledger: commands, grouping, projections, receipts, followers, clock, lock."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from log_world import (
    KEYS,
    LOG_KEY,
    ORIGIN,
    OTHER_KEY,
    START,
    Totals,
    build,
    numbers,
    open_ledger,
    recording,
    spoil_totals,
    totals,
    totals_of,
    verify,
)
from sqlalchemy import event, text

from luoshu.connector.clock import ManualClock
from luoshu.connector.errors import NodeError
from luoshu.connector.journal.entry_index import list_entries
from luoshu.connector.journal.files import OsFiles
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.store.engine import Store
from luoshu.contracts.errors import CanonicalError, ContractsError
from luoshu.contracts.log.checkpoint import open_checkpoint, unverified_checkpoint
from luoshu.contracts.log.merkle import EMPTY_ROOT, verify_consistency, verify_inclusion
from luoshu.contracts.log.note import NoteVerifier
from luoshu.contracts.log.receipt import Receipt, verify_receipt


class CountingFiles(OsFiles):
    """Counts the journal's fsyncs and can hold the first one up."""

    def __init__(self) -> None:
        self.fsyncs = 0
        self.hold: threading.Event | None = None
        self.reached = threading.Event()

    def fsync(self, descriptor: int) -> None:
        self.fsyncs += 1
        if self.hold is not None:
            self.reached.set()
            assert self.hold.wait(30)
        super().fsync(descriptor)


async def test_commit_records_applies_and_gives_a_receipt(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "node") as ledger:
        assert await ledger.commit(recording(5, 6)) == [0, 1]
        assert await ledger.commit(recording(7, kind="release", contract_id="c1")) == [2]
        assert await ledger.read(totals) == {"decision": (11, 2), "release": (7, 1)}
        assert numbers(ledger.entries(0, 10)) == [5, 6, 7]
        for index in range(3):
            receipt = Receipt.from_bytes(ledger.receipt(index).to_bytes())
            body = verify_receipt(receipt, LOG_KEY.public, ORIGIN)
            assert body == ledger.entry(index).body
            assert body.time == START


async def test_what_a_command_returns_and_sees(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "node") as ledger:

        def command(tx: Transaction) -> object:
            before = totals(tx.connection)
            index = tx.record("decision", {"n": 4}, parties=[ORIGIN])
            return before, index, totals(tx.connection), tx.now

        result = await ledger.commit(command)
        assert result == ({}, 0, {"decision": (4, 1)}, START)


async def test_a_failing_command_leaves_nothing_behind(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "node") as ledger:
        await ledger.commit(recording(1))
        checkpoint = ledger.checkpoint()

        def fails(tx: Transaction) -> None:
            tx.record("decision", {"n": 2}, parties=[ORIGIN])
            raise LookupError("no")

        with pytest.raises(LookupError):
            await ledger.commit(fails)
        assert ledger.checkpoint() == checkpoint
        assert await ledger.read(totals) == {"decision": (1, 1)}
        assert await ledger.commit(recording(3)) == [1]


@pytest.mark.parametrize(
    "data",
    [{"n": 1.5}, {"n": 2**60}, {"n": 1, "text": "\ud800"}, {"n": 1, "x": "x" * (1 << 20)}],
)
async def test_what_cannot_be_an_entry_is_refused(tmp_path: Path, data: dict) -> None:
    with open_ledger(tmp_path / "node") as ledger:
        with pytest.raises(ContractsError):
            await ledger.commit(lambda tx: tx.record("decision", data, parties=[ORIGIN]))
        with pytest.raises(ContractsError):
            await ledger.commit(lambda tx: tx.record("Decision!", {"n": 1}, parties=[ORIGIN]))
        assert ledger.size == 0


async def test_depth_is_bounded_so_that_the_journal_stays_readable(tmp_path: Path) -> None:
    def nested(depth: int) -> dict:
        value: dict = {}
        for _ in range(depth):
            value = {"x": value}
        return {"n": 1, "v": value}

    root = tmp_path / "node"
    written = 0
    with open_ledger(root) as ledger:
        for depth in range(20, 32):
            try:
                data = nested(depth)
                await ledger.commit(lambda tx, d=data: tx.record("decision", d, parties=[ORIGIN]))
                written += 1
            except CanonicalError:
                pass
        assert 0 < written < 12
    with open_ledger(root) as ledger:
        assert ledger.size == written
        receipt = Receipt.from_bytes(ledger.receipt(written - 1).to_bytes())
        verify_receipt(receipt, LOG_KEY.public, ORIGIN)


async def test_a_projection_can_refuse(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "node") as ledger:
        with pytest.raises(ValueError, match="without a number"):
            await ledger.commit(lambda tx: tx.record("decision", {"n": "x"}, parties=[ORIGIN]))
        assert ledger.size == 0


async def test_waiting_commands_share_one_fsync_and_fail_alone(tmp_path: Path) -> None:
    files = CountingFiles()
    with open_ledger(tmp_path / "node", files=files, publish_interval=3600.0) as ledger:
        assert ledger.wait_published()
        files.hold = threading.Event()
        first = ledger.submit(recording(0))
        assert files.reached.wait(30)
        before = files.fsyncs

        def fails(tx: Transaction) -> None:
            tx.record("decision", {"n": 1000}, parties=[ORIGIN])
            raise LookupError("no")

        waiting = [ledger.submit(recording(n, -n)) for n in range(1, 6)]
        failing = ledger.submit(fails)
        waiting += [ledger.submit(recording(n)) for n in range(6, 11)]
        files.hold.set()
        assert first.result() == [0]
        results = [each.result() for each in waiting]
        with pytest.raises(LookupError):
            failing.result()
        assert files.fsyncs == before + 1
        assert sum(results, start=[]) == list(range(1, 16))  # noqa: RUF017  short
        entries = ledger.entries(0, 100)
        assert numbers(entries) == [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, 7, 8, 9, 10]
        assert await ledger.read(totals) == totals_of(entries)


async def test_cancelled_before_it_starts_is_taken_back(tmp_path: Path) -> None:
    files = CountingFiles()
    with open_ledger(tmp_path / "node", files=files, publish_interval=3600.0) as ledger:
        assert ledger.wait_published()
        files.hold = threading.Event()
        running = asyncio.ensure_future(ledger.commit(recording(0)))
        await asyncio.to_thread(files.reached.wait, 30)
        waiting = asyncio.ensure_future(ledger.commit(recording(1)))
        await asyncio.wait([waiting], timeout=0.01)
        waiting.cancel()
        running.cancel()
        files.hold.set()
        await ledger.commit(recording(2))
        # The running one could not be taken back: it is there, whole.
        assert numbers(ledger.entries(0, 9)) == [0, 2]


async def test_clock_behind_the_log(tmp_path: Path) -> None:
    root, clock = tmp_path / "node", ManualClock(START)
    with open_ledger(root, clock=clock) as ledger:
        await ledger.commit(recording(1))
        clock.set(START - timedelta(milliseconds=1))
        with pytest.raises(NodeError) as caught:
            await ledger.commit(recording(2))
        assert caught.value.reason == "CLOCK_BEHIND_LOG"
        clock.set(START + timedelta(microseconds=999))
        await ledger.commit(recording(3))
        assert ledger.entry(1).body.time == START
    clock.set(START - timedelta(days=1))
    with open_ledger(root, clock=clock) as ledger:
        with pytest.raises(NodeError) as caught:
            await ledger.commit(recording(4))
        assert caught.value.reason == "CLOCK_BEHIND_LOG"
        clock.set(START)
        assert await ledger.commit(recording(5)) == [2]


async def test_second_process_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "node"
    with open_ledger(root) as ledger:
        with pytest.raises(NodeError, match="Another process") as caught, open_ledger(root):
            pass
        assert caught.value.reason == "LOG_UNAVAILABLE"
        await ledger.commit(recording(1))
    with open_ledger(root) as ledger:
        assert ledger.size == 1


async def test_restart_signs_the_same_checkpoint(tmp_path: Path) -> None:
    root = build(tmp_path / "node", 5)
    notes = set()
    for _ in range(2):
        with open_ledger(root) as ledger:
            notes.add(ledger.checkpoint())
            assert ledger.wait_published()
    assert {(root / "log" / "public" / "checkpoint").read_text()} == notes


async def test_empty_log_has_a_checkpoint(tmp_path: Path) -> None:
    root = tmp_path / "node"
    with open_ledger(root) as ledger:
        assert ledger.wait_published()
        checkpoint = open_checkpoint(ledger.checkpoint(), [NoteVerifier(ORIGIN, LOG_KEY.public)])
        assert (checkpoint.size, checkpoint.root) == (0, EMPTY_ROOT)
        with pytest.raises(NodeError) as caught:
            ledger.receipt(0)
        assert caught.value.reason == "NOT_FOUND"
    assert verify(root).ok


async def test_rotated_key(tmp_path: Path) -> None:
    root = build(tmp_path / "node", 2)
    with Store.open(root / "state" / "luoshu.db") as store:
        arguments = {
            "origin": ORIGIN,
            "key": OTHER_KEY,
            "clock": ManualClock(START),
            "store": store,
            "projections": [Totals()],
        }
        with pytest.raises(NodeError) as caught:
            Ledger.open(root / "log", **arguments)
        assert caught.value.reason == "LOG_CORRUPT"
        ledger = Ledger.open(root / "log", earlier_keys=[LOG_KEY.public], **arguments)
        verify_receipt(ledger.receipt(1), [LOG_KEY.public, OTHER_KEY.public], ORIGIN)
        ledger.close()


async def test_projections_catch_up_and_are_rebuilt(tmp_path: Path) -> None:
    root = build(tmp_path / "node", 10)
    with Store.open(root / "state" / "luoshu.db") as store, store.writer.begin() as connection:
        connection.execute(text("update projection set last_index = 3 where name = 'test_totals'"))
        connection.execute(text("update test_totals set total = 6, applied = 4"))
    with open_ledger(root) as ledger:
        assert await ledger.read(totals) == {"decision": (45, 10)}
    with Store.open(root / "state" / "luoshu.db") as store:
        spoil_totals(store.writer)
    with open_ledger(root, version=2) as ledger:
        assert await ledger.read(totals) == {"decision": (90, 10)}
        await ledger.commit(recording(1))
        assert await ledger.read(totals) == {"decision": (92, 11)}


async def test_lost_database_is_rebuilt_from_the_journal(tmp_path: Path) -> None:
    root = build(tmp_path / "node", 10)
    for path in (root / "state").iterdir():
        path.unlink()
    with open_ledger(root) as ledger:
        assert await ledger.read(totals) == {"decision": (45, 10)}
        assert await ledger.commit(recording(1)) == [10]


async def test_older_database_catches_up_once(tmp_path: Path) -> None:
    root = build(tmp_path / "node", 4)
    database = root / "state" / "luoshu.db"
    older = database.read_bytes()
    with open_ledger(root) as ledger:
        await ledger.commit(recording(100))
    database.write_bytes(older)
    with open_ledger(root) as ledger:
        assert await ledger.read(totals) == {"decision": (106, 5)}


async def test_proofs(tmp_path: Path) -> None:
    root = tmp_path / "node"
    with open_ledger(root) as ledger:
        notes = [ledger.checkpoint()]
        for n in range(9):
            await ledger.commit(recording(n))
            notes.append(ledger.checkpoint())
        roots = [unverified_checkpoint(note).root for note in notes]
        leaves = [ledger.entry(i).leaf() for i in range(9)]
        from luoshu.contracts.log.merkle import hash_leaf

        for size in range(1, 10):
            for index in range(size):
                proof = ledger.inclusion_proof(index, size)
                verify_inclusion(hash_leaf(leaves[index]), index, size, proof, roots[size])
            for first in range(1, size + 1):
                proof = ledger.consistency_proof(first, size)
                verify_consistency(first, size, proof, roots[first], roots[size])
        for bad in [(9, 9), (0, 10), (-1, 5)]:
            with pytest.raises(NodeError) as caught:
                ledger.inclusion_proof(*bad)
            assert caught.value.reason == "MALFORMED_MESSAGE"
        for bad in [(0, 5), (6, 5), (5, 10)]:
            with pytest.raises(NodeError) as caught:
                ledger.consistency_proof(*bad)
            assert caught.value.reason == "MALFORMED_MESSAGE"


async def test_followers_see_every_entry_once_in_order(tmp_path: Path) -> None:
    root = build(tmp_path / "node", 3)
    with open_ledger(root) as ledger:
        from_now = ledger.subscribe()
        from_start = ledger.subscribe(0)

        async def take(stream, count: int) -> list[object]:
            return [(await anext(stream)).body.data["n"] for _ in range(count)]

        following = asyncio.gather(take(from_now, 50), take(from_start, 53))
        await asyncio.gather(*(ledger.commit(recording(n)) for n in range(100, 150)))
        new, everything = await following
        assert sorted(new) == list(range(100, 150))
        assert everything == [0, 1, 2, *new]
        ended = asyncio.ensure_future(take_all(from_now))
        await asyncio.wait([ended], timeout=0.01)
        await asyncio.to_thread(ledger.close)
        assert await ended == []
        await from_start.aclose()


async def take_all(stream) -> list[object]:
    return [entry async for entry in stream]


async def test_listing(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "node") as ledger:
        for n in range(6):
            kind = "release" if n % 2 else "decision"
            await ledger.commit(recording(n, kind=kind, contract_id="c1" if n < 4 else None))

        async def indices(**arguments: object) -> list[int]:
            arguments = {"limit": 100} | arguments
            found = await ledger.read(lambda connection: list_entries(connection, **arguments))
            return [each.index for each in found]

        assert await indices() == [5, 4, 3, 2, 1, 0]
        assert await indices(limit=2, before=4) == [3, 2]
        assert await indices(kind="release") == [5, 3, 1]
        assert await indices(contract_id="c1", kind="decision") == [2, 0]
        assert await indices(limit=-1) == []


async def test_readers_cannot_write(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "node") as ledger, pytest.raises(Exception, match="readonly"):
        await ledger.read(lambda c: c.execute(text("delete from projection")))


async def test_full_database_loses_nothing_and_heals(tmp_path: Path) -> None:
    limit = [10_000]

    def on_store(store: Store) -> None:
        @event.listens_for(store.writer, "checkout")
        def cap(connection, _record, _proxy) -> None:
            connection.execute(f"pragma max_page_count = {limit[0]}")

    with open_ledger(tmp_path / "node", on_store=on_store) as ledger:
        await ledger.commit(recording(0))
        limit[0] = 1
        refused = 0
        for n in range(1, 2000):
            try:
                await ledger.commit(recording(n))
            except NodeError as error:
                assert error.reason == "LOG_UNAVAILABLE"
                refused = n
                break
        assert refused
        size = ledger.size
        assert numbers(ledger.entries(0, size)) == list(range(size))
        limit[0] = 10_000
        assert await ledger.commit(recording(5)) == [size]
        entries = ledger.entries(0, size + 1)
        assert await ledger.read(totals) == totals_of(entries)


async def test_closed_ledger_takes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "node"
    with open_ledger(root) as ledger:
        accepted = [ledger.submit(recording(n)) for n in range(200)]
        ledger.close()
        # What was accepted is finished first.
        assert [each.result() for each in accepted] == [[n] for n in range(200)]
        with pytest.raises(NodeError) as caught:
            await ledger.commit(recording(1))
        assert caught.value.reason == "SHUTTING_DOWN"
    assert verify(root).size == 200


async def test_transaction_ends_with_its_command(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "node") as ledger:
        kept = await ledger.commit(lambda tx: tx)
        with pytest.raises(RuntimeError):
            kept.record("decision", {"n": 1}, parties=[ORIGIN])


async def test_tree_reads_tiles_back_and_survives_without_them(tmp_path: Path) -> None:
    root = tmp_path / "node"
    with open_ledger(root) as ledger:
        for future in [ledger.submit(recording(n)) for n in range(600)]:
            future.result()
        assert ledger.wait_published()
        tree = ledger._tree
        expected = ledger.receipt(3)
        for path in [None, root / "log" / "public" / "tile" / "0" / "000"]:
            if path is not None:
                path.unlink()
            tree._cache.clear()
            assert ledger.receipt(3) == expected
    verify_receipt(expected, LOG_KEY.public, ORIGIN)
    assert KEYS.origin == ledger.origin
