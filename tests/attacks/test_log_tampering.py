"""Somebody changes a node's log on disk; verification says so, and where."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from log_world import (
    KEYS,
    LOG_KEY,
    ORIGIN,
    OTHER_KEY,
    build,
    copy,
    open_ledger,
    recording,
    totals,
    verify,
)

from luoshu.connector.errors import NodeError
from luoshu.contracts.log.checkpoint import Checkpoint, sign_checkpoint, unverified_checkpoint
from luoshu.contracts.log.errors import LogError
from luoshu.contracts.log.journal_line import decode_line, encode_line
from luoshu.contracts.log.merkle import CompactTree, hash_leaf
from luoshu.contracts.log.receipt import Receipt, verify_receipt
from luoshu.contracts.log.verify import LogKeys, LogReport, verify_log_directory, verify_log_url

SIZE = 300


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("honest") / "node"
    with open_ledger(root) as ledger:
        for future in [ledger.submit(recording(n)) for n in range(SIZE)]:
            future.result()
    assert verify(root).ok
    return root


@pytest.fixture
def node(honest: Path, tmp_path: Path) -> Path:
    return copy(honest, tmp_path / "node")


def journal(node: Path) -> Path:
    return node / "log" / "journal"


def lines(node: Path) -> list[bytes]:
    return journal(node).read_bytes().splitlines(keepends=True)


def flip(path: Path, offset: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= bit
    path.write_bytes(data)


def offset_of(node: Path, index: int) -> int:
    return sum(map(len, lines(node)[:index]))


def assert_node_refuses(node: Path) -> None:
    with pytest.raises(NodeError) as caught, open_ledger(node):
        pass
    assert caught.value.reason == "LOG_CORRUPT"


def assert_names(report: LogReport, file: str, index: int | None, offset: int | None) -> None:
    assert not report.ok
    first = report.problems[0]
    assert (first.file, first.index, first.offset) == (file, index, offset), report.problems


@pytest.mark.parametrize("index", [0, 17, 255, 256, SIZE - 1])
@pytest.mark.parametrize(
    "where", [b'"n":', b'"kind":"', b'"time":"', b'"parties":["', b'"salt":"', b'"schema":"']
)
def test_byte_of_a_body_or_salt(node: Path, index: int, where: bytes) -> None:
    offset = offset_of(node, index)
    position = lines(node)[index].index(where) + len(where)
    flip(journal(node), offset + position)
    assert_names(verify(node), "journal", index, offset)
    assert_node_refuses(node)


@pytest.mark.parametrize("position", [0, 5, -2, -1])
def test_byte_of_a_line_s_frame(node: Path, position: int) -> None:
    offset = offset_of(node, 40)
    flip(journal(node), offset + position % len(lines(node)[40]))
    assert_names(verify(node), "journal", 40, offset)
    assert_node_refuses(node)


def test_consistent_change_of_body_and_salt(node: Path) -> None:
    """A body and a salt that fit each other, but not the tree."""
    all_lines = lines(node)
    all_lines[7] = encode_line(decode_line(all_lines[7].replace(b'{"n":7}', b'{"n":9}')))
    journal(node).write_bytes(b"".join(all_lines))
    assert_names(verify(node), "journal", 7, offset_of(node, 7))
    assert_node_refuses(node)


def test_swapped_lines(node: Path) -> None:
    all_lines = lines(node)
    all_lines[20], all_lines[21] = all_lines[21], all_lines[20]
    journal(node).write_bytes(b"".join(all_lines))
    assert_names(verify(node), "journal", 20, offset_of(node, 20))
    assert_node_refuses(node)


def test_swapped_and_renumbered_lines(node: Path) -> None:
    all_lines = lines(node)
    one = all_lines[20].replace(b'"first":20', b'"first":21')
    all_lines[20] = all_lines[21].replace(b'"first":21', b'"first":20')
    all_lines[21] = one
    journal(node).write_bytes(b"".join(all_lines))
    assert_names(verify(node), "journal", 20, offset_of(node, 20))
    assert_node_refuses(node)


def test_line_in_the_middle_dropped(node: Path) -> None:
    all_lines = lines(node)
    offset = offset_of(node, 99)
    del all_lines[99]
    journal(node).write_bytes(b"".join(all_lines))
    assert_names(verify(node), "journal", 99, offset)
    assert_node_refuses(node)


def test_line_added_twice(node: Path) -> None:
    all_lines = lines(node)
    all_lines.insert(100, all_lines[99])
    journal(node).write_bytes(b"".join(all_lines))
    assert_names(verify(node), "journal", 100, offset_of(node, 100))
    assert_node_refuses(node)


def test_last_acknowledged_line_dropped(node: Path) -> None:
    all_lines = lines(node)
    journal(node).write_bytes(b"".join(all_lines[:-1]))
    assert_names(verify(node), "journal", SIZE - 1, sum(map(len, all_lines[:-1])))
    assert_node_refuses(node)


def test_last_acknowledged_line_dropped_before_it_was_published(node: Path) -> None:
    """The published files don't know the entry yet; the database does."""
    with open_ledger(node, publish_interval=3600.0) as ledger:
        assert ledger.wait_published()
        before = {p: p.read_bytes() for p in (node / "log").rglob("*") if p.is_file()}
        ledger.submit(recording(1000)).result()
    for path, data in before.items():
        path.write_bytes(data)
    assert verify(node).ok
    assert_node_refuses(node)


def test_unpublished_last_line_replaced(node: Path) -> None:
    with open_ledger(node, publish_interval=3600.0) as ledger:
        assert ledger.wait_published()
        published = (node / "log" / "public" / "checkpoint").read_bytes()
        ledger.submit(recording(1000)).result()
    (node / "log" / "public" / "checkpoint").write_bytes(published)
    journal(node).write_bytes(journal(node).read_bytes().replace(b'"n":1000', b'"n":1001'))
    assert_node_refuses(node)


@pytest.mark.parametrize("cut", [1, 2, 50])
def test_truncated_journal(node: Path, cut: int) -> None:
    path = journal(node)
    path.write_bytes(path.read_bytes()[:-cut])
    assert_names(verify(node), "journal", SIZE - 1, sum(map(len, lines(node)[:-1])))
    assert_node_refuses(node)


def test_emptied_and_missing_journal(node: Path) -> None:
    journal(node).write_bytes(b"")
    assert_names(verify(node), "journal", 0, 0)
    assert_node_refuses(node)
    journal(node).unlink()
    assert_node_refuses(node)


@pytest.mark.parametrize("index", [0, 255, 256, SIZE - 1])
def test_byte_of_a_hash_tile(node: Path, index: int) -> None:
    name = "tile/0/000" if index < 256 else f"tile/0/001.p/{SIZE - 256}"
    flip(node / "log" / "public" / name, index % 256 * 32 + 31)
    report = verify(node)
    assert_names(report, name, index, index % 256 * 32)
    assert len(report.problems) == 1


def test_byte_of_an_upper_tile(node: Path) -> None:
    flip(node / "log" / "public" / "tile/1/000.p/1", 3)
    assert_names(verify(node), "tile/1/000.p/1", 0, 0)


@pytest.mark.parametrize("index", [0, 255, 256, SIZE - 1])
def test_byte_of_a_published_entry(node: Path, index: int) -> None:
    name = "tile/entries/000" if index < 256 else f"tile/entries/001.p/{SIZE - 256}"
    path = node / "log" / "public" / name
    width = path.stat().st_size // min(256, SIZE - index // 256 * 256)
    offset = index % 256 * width
    flip(path, offset + 30)
    report = verify(node)
    assert_names(report, name, index, offset)
    assert len(report.problems) == 1


def test_length_of_a_published_entry(node: Path) -> None:
    flip(node / "log" / "public" / "tile/entries/000", 1)
    report = verify(node)
    assert not report.ok
    assert report.problems[0].file == "tile/entries/000"


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/000", "tile/1/000.p/1"])
def test_missing_or_cut_tile(node: Path, name: str) -> None:
    path = node / "log" / "public" / name
    data = path.read_bytes()
    for content in (data[:-1], data + b"\0", b"", None):
        path.unlink() if content is None else path.write_bytes(content)
        report = verify(node)
        assert not report.ok
        assert {problem.file for problem in report.problems} == {name}


def test_tampered_tiles_are_written_again_when_the_node_starts(node: Path) -> None:
    for name in ("tile/0/000", "tile/entries/000", "tile/1/000.p/1"):
        flip(node / "log" / "public" / name, 40 if name != "tile/1/000.p/1" else 1)
    assert not verify(node).ok
    with open_ledger(node) as ledger:
        receipt = ledger.receipt(5)
        assert verify_receipt(receipt, LOG_KEY.public, ORIGIN).data == {"n": 5}
        assert ledger.wait_published()
    assert verify(node).ok


def test_every_byte_of_the_checkpoint(node: Path) -> None:
    path = node / "log" / "public" / "checkpoint"
    data = path.read_bytes()
    for position in range(0, len(data), 3):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        report = verify(node)
        assert not report.ok, position
        assert report.problems[0].file == "checkpoint"
    assert_node_refuses(node)


def forged(size: int, root: bytes, origin: str = ORIGIN, key=OTHER_KEY) -> str:
    return sign_checkpoint(Checkpoint(origin, size, root), key)


def test_checkpoint_forged_with_another_key(node: Path) -> None:
    path = node / "log" / "public" / "checkpoint"
    real = unverified_checkpoint(path.read_text())
    path.write_text(forged(real.size, real.root))
    assert_names(verify(node), "checkpoint", None, None)
    assert_node_refuses(node)


def test_checkpoint_of_another_log(node: Path) -> None:
    path = node / "log" / "public" / "checkpoint"
    real = unverified_checkpoint(path.read_text())
    path.write_text(forged(real.size, real.root, "urn:luoshu:test:south", LOG_KEY))
    assert_names(verify(node), "checkpoint", None, None)
    assert_node_refuses(node)


def test_log_s_own_key_signs_another_root(node: Path) -> None:
    """Whoever holds the log key can sign; what is signed must still fit the entries."""
    path = node / "log" / "public" / "checkpoint"
    path.write_text(forged(SIZE, b"\7" * 32, key=LOG_KEY))
    report = verify(node)
    assert not report.ok
    assert {problem.file for problem in report.problems} == {"checkpoint", "journal"}
    assert_node_refuses(node)


def rewritten(node: Path) -> None:
    """The log's owner rewrites history: another body, and everything after it made to fit."""
    all_lines = [line.replace(b'{"n":7}', b'{"n":8}') for line in lines(node)]
    journal(node).write_bytes(b"".join(all_lines))
    tree = CompactTree()
    for line in all_lines:
        for each in decode_line(line):
            tree.append(hash_leaf(each.leaf))
    note = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), LOG_KEY)
    (node / "log" / "public" / "checkpoint").write_text(note)


def test_history_rewritten_with_the_log_s_own_key(node: Path, honest: Path) -> None:
    """A log can't be held to its past by itself alone: receipts and the database do that."""
    with open_ledger(copy(honest, node.parent / "before")) as ledger:
        receipt = ledger.receipt(7)
    rewritten(node)
    assert_node_refuses(node)
    (node / "state" / "luoshu.db").unlink()
    with open_ledger(node) as ledger:
        assert ledger.submit_read(totals).result()
        forged_receipt = ledger.receipt(7)
    # Two checkpoints of one size, both signed, with two roots: evidence of a fork.
    verify_receipt(receipt, LOG_KEY.public, ORIGIN)
    verify_receipt(forged_receipt, LOG_KEY.public, ORIGIN)
    ours, theirs = receipt.unverified_checkpoint, forged_receipt.unverified_checkpoint
    assert ours.size == theirs.size
    assert ours.root != theirs.root


def test_every_field_of_a_receipt(node: Path) -> None:
    with open_ledger(node) as ledger:
        payload = ledger.receipt(77).to_payload()

    def changed(change: Callable[[dict], None]) -> Receipt:
        other = json.loads(json.dumps(payload))
        change(other)
        return Receipt.from_payload(other)

    verify_receipt(changed(lambda p: None), LOG_KEY.public, ORIGIN)
    changes: list[Callable[[dict], None]] = [
        lambda p: p.update(index=78),
        lambda p: p["body"].update(kind="release"),
        lambda p: p["body"].update(time="2026-01-02T03:04:06Z"),
        lambda p: p["body"].update(parties=[]),
        lambda p: p["body"].update(contract_id="urn:luoshu:contract:1"),
        lambda p: p["body"]["data"].update(n=78),
        lambda p: p.update(salt="A" * 43 + "="),
        lambda p: p["proof"].reverse(),
        lambda p: p["proof"].pop(),
        lambda p: p["proof"].append(p["proof"][0]),
        lambda p: p.update(checkpoint=p["checkpoint"].replace("\n300\n", "\n301\n")),
        lambda p: p.update(checkpoint=forged(SIZE, b"\7" * 32)),
    ]
    for change in changes:
        with pytest.raises(LogError):
            verify_receipt(changed(change), LOG_KEY.public, ORIGIN)
    with pytest.raises(LogError):
        verify_receipt(changed(lambda p: None), OTHER_KEY.public, ORIGIN)
    with pytest.raises(LogError):
        verify_receipt(changed(lambda p: None), LOG_KEY.public, "urn:luoshu:test:south")


def test_without_a_key_nothing_is_believed(node: Path) -> None:
    report = verify_log_directory(node)
    assert not report.ok
    assert report.key_source is None
    assert_names(report, "checkpoint", None, None)


@pytest.fixture
def served(node: Path) -> Iterator[tuple[Path, str]]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.startswith("/moved/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/moved"))
                self.end_headers()
            else:
                super().do_GET()

    handler = partial(Handler, directory=str(node / "log" / "public"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield node, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_web_server_s_copy(served: tuple[Path, str]) -> None:
    node, url = served
    report = verify_log_url(url, KEYS)
    assert report.ok, report.problems
    assert report.checks["entries"] == SIZE
    assert any("no journal" in note for note in report.notes)
    flip(node / "log" / "public" / "tile/0/000", 64)
    assert_names(verify_log_url(url, KEYS), "tile/0/000", 2, 64)
    (node / "log" / "public" / "tile/0/000").write_bytes(b"\0" * 10_000_000)
    assert_names(verify_log_url(url, KEYS), "tile/0/000", 0, 8192)
    assert not verify_log_url(url + "/moved", KEYS).ok
    assert not verify_log_url(url + "/nowhere", KEYS).ok


@pytest.mark.parametrize("url", ["file:///etc", "ftp://example.org/x", "http://", "log"])
def test_only_web_addresses(url: str) -> None:
    with pytest.raises(LogError):
        verify_log_url(url, KEYS)


def test_partial_tile_that_became_full_meanwhile(tmp_path: Path) -> None:
    """An older checkpoint still verifies: a full tile stands in for its partial ones."""
    older = build(tmp_path / "older", 255)
    checkpoint = (older / "log" / "public" / "checkpoint").read_bytes()
    with open_ledger(older) as ledger:
        for n in range(255, 300):
            ledger.submit(recording(n)).result()
    assert not (older / "log" / "public" / "tile" / "0" / "000.p").exists()
    (older / "log" / "public" / "checkpoint").write_bytes(checkpoint)
    report = verify(older)
    assert report.ok, report.problems
    assert report.size == 255


def test_keys_of_another_log(node: Path) -> None:
    other = LogKeys("urn:luoshu:test:south", (LOG_KEY.public,), "another log")
    assert not verify_log_directory(node / "log", other).ok


def test_database_of_another_log(node: Path, tmp_path: Path) -> None:
    other = build(tmp_path / "other", 5)
    (node / "state" / "luoshu.db").write_bytes((other / "state" / "luoshu.db").read_bytes())
    assert_node_refuses(node)
