"""The history's files, and the directory that a dry run keeps them in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from release_world import ROWS, Holder, result, total

from luoshu.sandbox.arrays import np
from luoshu.sandbox.history_port import (
    DirectoryHistory,
    HistoryUnavailableError,
    Scope,
    copy_durably,
    is_entry_name,
)
from luoshu.sandbox.release.aggregate import AggregateRules
from luoshu.sandbox.release.history import MAGIC, HistoryError, read_entry, write_entry

CELLS = {
    ("a",): {unit: (1 + unit % 3, unit) for unit in range(1, 40)},
    ("b",): {unit: (1, 2 * unit) for unit in range(20, 60)},
}


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    holder = Holder(tmp_path, AggregateRules(10, 0))
    holder.release(
        result(CELLS, [ROWS, total("x")], query="one"),
        result({(): {unit: (unit,) for unit in range(1, 31)}}, [total("y")], query="two"),
    )
    return holder.files[0]


def test_what_is_written_is_read(entry: Path, tmp_path: Path) -> None:
    blocks = read_entry(entry)
    assert [block.query for block in blocks] == ["one", "two"]
    assert [block.monomials for block in blocks] == [((), ("x",)), (("y",),)]
    assert [block.counts.tolist() for block in blocks] == [[[39, 40], [39, 40]], [[30]]]
    write_entry(tmp_path / "again", blocks)
    assert (tmp_path / "again").read_bytes() == entry.read_bytes()
    for before, after in zip(blocks, read_entry(tmp_path / "again"), strict=True):
        for each in fields(before):
            first, second = getattr(before, each.name), getattr(after, each.name)
            assert np.array_equal(first, second) if hasattr(first, "dtype") else first == second


def test_a_file_of_the_first_version_stays_readable_and_comparable(tmp_path: Path) -> None:
    """The golden file is never edited: what came out once is compared with for ever."""
    golden = Path(__file__).parents[1] / "golden" / "release-history.v1.bin"
    blocks = read_entry(golden)
    assert {block.data for block in blocks} == {"ef" * 32}
    write_entry(tmp_path / "again", blocks)
    assert (tmp_path / "again").read_bytes() == golden.read_bytes()
    holder = Holder(tmp_path, AggregateRules(10, 0), [golden])
    amounts = {unit: (unit - 3,) for unit in range(1, 31)}
    component = total("x", "y", wide=True)
    assert holder.release(result({(): amounts}, [component])).rows == [[(375,)]]
    del amounts[7]
    assert holder.release(result({(): amounts}, [component])).rows == [[(None,)]]


def test_it_holds_what_came_out_alone(tmp_path: Path) -> None:
    holder = Holder(tmp_path, AggregateRules(10, 0))
    cells = {
        ("a",): {unit: (1, int(unit < 5)) for unit in range(20)},
        ("b",): dict.fromkeys(range(30, 35), (1, 1)),
    }
    holder.release(result(cells, [ROWS, total("x")], query="q"))
    (block,) = read_entry(holder.files[0])
    assert block.monomials == ((),)
    assert (block.cells, len(block.unit), block.units.tolist()) == (1, 20, list(range(20)))


def test_it_holds_no_contribution_in_plain(entry: Path) -> None:
    for block in read_entry(entry):
        assert int(block.prints[block.prints > 0].min()) > 1 << 40
    assert b"a" * 2 not in entry.read_bytes()


def header(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[8:16])
    value = json.loads(data[16 : 16 + length])
    change(value)
    text = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    rest = data[16 + length + -(16 + length) % 8 :]
    start = MAGIC + struct.pack("<Q", len(text)) + text
    path.write_bytes(start + bytes(-len(start) % 8) + rest)


def first_result(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        header(path, lambda value: change(value["results"][0]))  # type: ignore[index]

    return apply


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"LUOSHUH2" + path.read_bytes()[8:]),
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.write_bytes(path.read_bytes() + bytes(8)),
        lambda path: path.write_bytes(MAGIC + struct.pack("<Q", 1 << 40)),
        lambda path: path.write_bytes(MAGIC + struct.pack("<Q", 3) + b"{]}"),
        lambda path: header(path, lambda value: value.update(schema="luoshu/history/v2")),
        lambda path: header(path, lambda value: value.update(more=1)),
        lambda path: header(path, lambda value: value.update(results=[])),
        first_result(lambda value: value.update(rows=78)),
        first_result(lambda value: value.update(cells=-2)),
        first_result(lambda value: value.update(monomials=[])),
        first_result(lambda value: value.update(monomials=[[""], []])),
        first_result(lambda value: value.update(units=2**40)),
    ],
)
def test_another_file_is_refused(entry: Path, spoil: Callable[[Path], None]) -> None:
    spoil(entry)
    with pytest.raises(HistoryError):
        read_entry(entry)


@pytest.mark.parametrize("place", range(0, 2400, 40))
def test_a_spoilt_array_is_refused_or_compared_as_it_is(entry: Path, place: int) -> None:
    data = bytearray(entry.read_bytes())
    at = len(data) - 1 - place % len(data)
    data[at] ^= 0x80
    entry.write_bytes(data)
    try:
        blocks = read_entry(entry)
    except HistoryError:
        return
    assert sum(len(block.unit) for block in blocks) == 39 + 40 + 30


async def test_a_directory_keeps_scopes_apart(tmp_path: Path, entry: Path) -> None:
    data = entry.read_bytes()  # noqa: ASYNC240
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    scopes = {"p.t": Scope("patients", bytes(32)), "q.t": Scope("customers", bytes([1] * 32))}
    port = DirectoryHistory(tmp_path / "history", lambda tables: scopes[tables[0]])
    for table in ("p.t", "p.t", "q.t"):
        async with port.transaction([table]) as transaction:
            await transaction.commit(entry, digest)
    async with port.transaction(["p.t"]) as transaction:
        assert transaction.names == [f"patients/{n:012}.history" for n in (1, 2)]
        assert all(is_entry_name(name) for name in transaction.names)
        assert transaction.secret == bytes(32)
    async with port.transaction(["q.t"]) as transaction:
        assert transaction.names == ["customers/000000000001.history"]
        assert port.directory is not None
        assert (port.directory / transaction.names[0]).read_bytes() == data


async def test_transactions_of_two_runs_over_one_directory_wait(
    tmp_path: Path, entry: Path
) -> None:
    data = entry.read_bytes()  # noqa: ASYNC240
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    ports = [DirectoryHistory(tmp_path / "h", lambda _: Scope("s", bytes(32))) for _ in range(2)]
    entered = asyncio.Event()

    async def second() -> list[str]:
        entered.set()
        async with ports[1].transaction(["p.t"]) as transaction:
            return list(transaction.names)

    async with ports[0].transaction(["p.t"]) as transaction:
        waiting = asyncio.create_task(second())
        await entered.wait()
        await transaction.commit(entry, digest)
        assert not waiting.done()
    assert await waiting == ["s/000000000001.history"]


def test_a_delta_of_another_digest_is_not_kept(tmp_path: Path, entry: Path) -> None:
    with pytest.raises(HistoryUnavailableError):
        copy_durably(entry, tmp_path / "kept", f"sha256:{'0' * 64}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000"]
    with pytest.raises(HistoryUnavailableError):
        copy_durably(tmp_path / "missing", tmp_path / "kept", "")


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", ".a", "a/", "a//b", "a\n", "-a", "ä"])
def test_names_that_lead_elsewhere_are_no_entries(name: str) -> None:
    assert not is_entry_name(name)
