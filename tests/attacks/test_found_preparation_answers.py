"""A preparation worker that a source file took over: what it answers and leaves widens nothing."""

from __future__ import annotations

import copy
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luoshu.contracts.errors import CanonicalError
from luoshu.sandbox import wire
from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.isolation.port import (
    Finding,
    IsolationConfig,
    WorkerEnd,
    WorkerError,
    WorkerSpec,
)
from luoshu.sandbox.preparation_answer import check_answer, read_answer
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import MANIFEST, PREPARED, PreparedProduct, write_manifest
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.registry import DOMAIN, UNITS

PRODUCT = parse_product("""
id: shop
tables:
  orders: {parquet: o, unit: who, columns: {price: {use: [aggregate], bounds: [0, 9]}}}
  lines: {parquet: o, unit: {via: orders, on: {l_key: o_key}}, columns: {day: {use: [filter]}}}
  part: {parquet: o, public: true, key: [name]}
release: {mode: aggregate, min_units: 2}
""")
KEY = "orders(o_key)"


def column(name: str, *use: str, kind: str = "BIGINT", bounds: Any = None) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "use": list(use),
        "bounds": bounds,
        "magnitude": "9",
        "values": None,
        "is_nullable": True,
        "source_type": "INTEGER",
        "declared": bounds,
    }


def table(name: str, unit: str | None, key: str | None, *columns: Any) -> dict[str, Any]:
    keys = [{"domain": KEY, "columns": [key]}] if key else []
    return {
        "name": name,
        "public": unit is None,
        "unit": unit,
        "keys": keys,
        "unique": [] if unit else [["name"]],
        "columns": list(columns),
        "rows": 5,
    }


GOOD: dict[str, Any] = {
    "type": "prepared",
    "engine": "duckdb 2.0.0",
    "units": 3,
    "new_units": 3,
    "notes": ["a note"],
    "tables": [
        table(
            *("orders", "who", "o_key"),
            column("price", "aggregate", bounds=["0", "9"]),
            column("o_key"),
        ),
        table(
            *("lines", "unit_of_lines", "l_key"),
            column("day", "filter", kind="DATE"),
            column("l_key"),
        ),
        table("part", None, None, column("name", "aggregate", "filter", "group", kind="VARCHAR")),
    ],
}
HOSTILE: list[Any] = [
    *(None, True, -1, 10**30, 1.5, [], {}, [[]], {"a": 1}, [{"a": 1}], ["group"], ["l_key"]),
    *("", "\ud800", "x" * 5000, "who", "price", "lines", KEY, "group", "BLOB", "DECIMAL(99,99)"),
]


class Worker:
    def __init__(self, isolation: Isolation, spec: WorkerSpec) -> None:
        self.isolation = isolation
        self.places = {mount.target: mount.source for mount in spec.mounts}
        self.ready = False

    async def send(self, message: dict[str, object], files: Sequence[int] = ()) -> None:
        wire.encode(message)

    async def receive(self) -> dict[str, object]:
        if not self.ready:
            self.ready = True
            return {"type": "ready"}
        self.isolation.leave(self.places)
        try:
            return wire.decode(json.dumps(self.isolation.answer).encode())
        except wire.WireError as error:
            raise WorkerError(str(error)) from None

    def kill(self) -> None:
        pass

    async def stop(self) -> WorkerEnd:
        return WorkerEnd("exit 0", "")


def leave_files(places: dict[str, Path]) -> None:
    (places["/out"] / PREPARED).write_bytes(b"prepared")
    (places["/units"] / UNITS).write_bytes(b"units")


class Isolation:
    config = IsolationConfig()
    measurement = ""

    def __init__(self, answer: Any, leave: Callable[[dict[str, Path]], None]) -> None:
        self.answer = answer
        self.leave = leave

    async def start(self, spec: WorkerSpec) -> Worker:
        return Worker(self, spec)

    def warm_up(self) -> None:
        pass

    def lend(self, path: Path) -> int:
        raise NotImplementedError

    def check(self) -> list[Finding]:
        return []

    def close(self) -> None:
        pass


def prepare(
    directory: Path, answer: Any, leave: Callable[[dict[str, Path]], None] = leave_files
) -> PreparedProduct:
    (directory / "o").touch()
    isolation = Isolation(answer, leave)
    return prepare_product(PRODUCT, directory, directory / "out", isolation, directory / "units")


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(node, dict | list):
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in children:
            yield from places(child, (*path, key))


def changed(path: tuple[Any, ...], value: Any) -> Any:
    answer = copy.deepcopy(GOOD)
    node = answer
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return answer


def permitted(product: PreparedProduct) -> Any:
    """What analysts may do; of the public table, which may be any, only that it is public."""
    protected = [table for table in product.schemas() if table.unit is not None]
    return [
        (
            replace(table, columns=(), unit=None),
            [(column.name, column.uses) for column in table.columns],
        )
        for table in protected
    ]


def test_the_expected_answer_is_accepted(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, GOOD)
    assert [table.name for table in prepared.tables] == ["orders", "lines", "part"]
    assert PreparedProduct.load(tmp_path / "out") == prepared


def manifest_of(directory: Path, answer: Any) -> PreparedProduct:
    """What the connector makes of an answer, without the files around it."""
    try:
        said = wire.decode(json.dumps(answer).encode())
    except wire.WireError as error:
        raise PreparationError(str(error)) from None
    fields, _ = read_answer(said)
    written = {**json.loads((directory / "out" / MANIFEST).read_bytes()), **fields}
    del written["schema"]
    try:
        write_manifest(directory, written)
    except CanonicalError as error:
        raise PreparationError(str(error)) from None
    product = PreparedProduct.read(directory)
    check_answer(PRODUCT, product)
    return product


def test_no_answer_widens_what_is_declared(tmp_path: Path) -> None:
    good = permitted(prepare(tmp_path, GOOD))
    assert permitted(manifest_of(tmp_path, GOOD)) == good
    refused = 0
    for path in places(GOOD):
        for value in HOSTILE if path else []:
            try:
                found = manifest_of(tmp_path, changed(path, value))
            except PreparationError:
                refused += 1
            else:
                assert permitted(found) == good, (path, value)
    assert refused > 1000


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tables", 0, "columns", 1, "use"), ["group"]),
        (("tables", 1, "unit"), None),
        (("tables", 2, "name"), "\ud800"),
        (("tables", 2, "unique"), []),
        (("tables", 2, "unique"), [["name"], ["other"]]),
        (("tables", 0, "unique"), [["price"]]),
        (("new_units",), -1),
        (("units",), 10**30),
        (("type",), "other"),
    ],
)
def test_wrong_answer_leaves_the_earlier_preparation(
    tmp_path: Path, path: tuple[Any, ...], value: Any
) -> None:
    earlier = prepare(tmp_path, GOOD)
    with pytest.raises(PreparationError):
        prepare(tmp_path, changed(path, value))
    assert PreparedProduct.load(tmp_path / "out") == earlier


@pytest.mark.parametrize("file", [("/out", PREPARED), ("/units", UNITS)])
@pytest.mark.parametrize("kind", ["link", "directory", "nothing"])
def test_worker_leaves_a_file_and_no_link_to_one(
    tmp_path: Path, file: tuple[str, str], kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"of the host")
    secret.chmod(0o640)

    def leave(places: dict[str, Path]) -> None:
        leave_files(places)
        left = places[file[0]] / file[1]
        left.unlink()
        if kind == "link":
            left.symlink_to(secret)
        elif kind == "directory":
            left.mkdir()

    with pytest.raises(PreparationError, match="left no file"):
        prepare(tmp_path, GOOD, leave)
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert not (tmp_path / "units" / "who").exists()
    assert secret.stat().st_mode & 0o777 == 0o640


def test_nothing_is_written_where_a_worker_could_have_put_a_link(tmp_path: Path) -> None:
    # The manifest, and a domain's secrets, were written into the directories that it had had.
    victim = tmp_path / "victim"
    victim.write_bytes(b"of the host")

    def leave(places: dict[str, Path]) -> None:
        leave_files(places)
        for name in (f".{MANIFEST}.part", MANIFEST):
            (places["/out"] / name).symlink_to(victim)
        (places["/units"] / DOMAIN).symlink_to(victim)
        (places["/units"] / "program").touch(mode=0o4755)

    prepared = prepare(tmp_path, GOOD, leave)
    assert PreparedProduct.load(tmp_path / "out") == prepared
    assert victim.read_bytes() == b"of the host"
    assert {path.name for path in (tmp_path / "units" / "who").iterdir()} == {UNITS, DOMAIN}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {PREPARED, MANIFEST}


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "failed", "message": "\x1b]0;title\x07\x1b[2Jforged\u202e"},
        {**GOOD, "notes": ["\x1b[2Jforged\r\u009b2J"]},
    ],
)
def test_words_of_a_worker_move_nothing_on_the_terminal(tmp_path: Path, answer: Any) -> None:
    try:
        (said,) = prepare(tmp_path, answer).notes
    except PreparationError as error:
        said = str(error)
    assert "forged" in said
    assert said.isprintable()


def test_endless_words_are_cut(tmp_path: Path) -> None:
    with pytest.raises(PreparationError) as raised:
        prepare(tmp_path, {"type": "failed", "message": "x" * (1 << 20)})
    assert len(str(raised.value)) < 5000


def test_what_a_killed_preparation_left_is_removed_by_the_next(tmp_path: Path) -> None:
    # Copies of protected data stayed for ever; those of a preparation that runs are its own.
    places = [tmp_path / "out" / f".preparing-{name}" for name in ("killed", "running")]
    for place in places:
        (place / "worker").mkdir(parents=True)
        (place / "worker" / PREPARED).write_bytes(b"protected")
    running = os.open(places[1], os.O_RDONLY)
    try:
        fcntl.flock(running, fcntl.LOCK_EX)
        prepare(tmp_path, GOOD)
    finally:
        os.close(running)
    assert [place.exists() for place in places] == [False, True]
