"""A worker that was taken over answers the connector: whatever it says, a failure is one failure.

Each place of each answer of a good run is replaced by each hostile value. The
workers here are not processes: what is attacked is the reader of their answers.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luoshu.sandbox import wire
from luoshu.sandbox.answers import read_verified
from luoshu.sandbox.computation import Computation, Outcome
from luoshu.sandbox.errors import SandboxError, SandboxFailureError
from luoshu.sandbox.isolation.port import (
    Finding,
    IsolationConfig,
    WorkerEnd,
    WorkerError,
    WorkerSpec,
)
from luoshu.sandbox.prepared import PreparedProduct, PreparedTable, ReleaseFloor
from luoshu.sandbox.prepared_table import PreparedColumn
from luoshu.sandbox.rules import ReleaseRules
from luoshu.sandbox.schema import BIGINT, VARCHAR, ColumnSchema, SchemaError, TableSchema, Use

READY = {"type": "ready"}
COMPONENTS = [
    {
        "kind": "sum",
        "monomial": monomial,
        "scale": scale,
        "bounds": None,
        "is_wide": False,
        "rows": None,
        "digits": None,
    }
    for monomial, scale in (([], 0), (["a"], 2))
]
CELLS = {
    "tables": ["p.p"],
    "keys": ["VARCHAR"],
    "components": COMPONENTS,
    "prefix": None,
    "key_columns": ["p.p.k"],
}
QUERY = "0" * 64
TYPES = ["VARCHAR", "BIGINT", "DOUBLE", "DATE", "TIMESTAMP", "BOOLEAN"]
ROW = ["x", "12", "1.5e+00", "2024-01-01", "2024-01-01T00:00:00", True]
GOOD: dict[str, list[Any]] = {
    "stage1": [
        READY,
        {
            "type": "verified",
            "cells": [CELLS],
            "stage2": "SELECT k0, c0, c1 FROM cells0",
            "public": {},
        },
        {
            "type": "cells",
            "results": [{"keys": [["x"]], "rows": 12, "dropped": 0, "query": QUERY}],
        },
    ],
    "release": [
        READY,
        {
            "type": "released",
            "results": [{"rows": [["x", "12", "1.50"]]}],
            "withheld_groups": 0,
            "withheld_values": 0,
            "conflicts": 0,
            "delta_digest": None,
            "explain": [],
        },
    ],
    "stage2": [
        READY,
        {
            "type": "result",
            "columns": [{"name": f"n{n}", "type": kind} for n, kind in enumerate(TYPES)],
            "rows": [ROW],
        },
    ],
}
REFUSED = {
    **GOOD,
    "stage1": [READY, {"type": "refused", "code": "GUARD_UNIT", "message": "words"}],
}
HOSTILE: list[Any] = [
    *(
        None,
        True,
        -1,
        10**30,
        1.5,
        [],
        {},
        [[]],
        {"a": 1},
        [{"a": 1}],
        "",
        "\ud800",
        "\0",
        "x" * 5000,
    ),
    *("NaN", "inf", "1e999", "-0", "\uff19", "\u0661", "0x1", "1\n", "9" * 40, "rows", "aggregate"),
    *("2024-13-01", "0000-00-00", "2024-02-30", "2024-01-01T99:00:00", "2024-01-01\n"),
    *("DECIMAL(99,99)", "DECIMAL(38,39)", "BLOB", "GUARD_UNIT", "QUERY_INVALID"),
]


class Worker:
    def __init__(self, answers: list[Any]) -> None:
        self.answers = list(answers)

    async def send(self, message: dict[str, object], files: Sequence[int] = ()) -> None:
        wire.encode(message)

    async def receive(self) -> dict[str, object]:
        if not self.answers:
            raise WorkerError("the worker ended")
        try:
            return wire.decode(json.dumps(self.answers.pop(0)).encode())
        except wire.WireError as error:
            raise WorkerError(str(error)) from None

    def kill(self) -> None:
        pass

    async def stop(self) -> WorkerEnd:
        return WorkerEnd("exit 0", "")


class Isolation:
    config = IsolationConfig()
    measurement = ""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self.answers = answers

    async def start(self, spec: WorkerSpec) -> Worker:
        return Worker(self.answers[spec.entry])

    def warm_up(self) -> None:
        pass

    def lend(self, path: Path) -> int:
        return os.open(os.devnull, os.O_RDONLY)

    def check(self) -> list[Finding]:
        return []

    def close(self) -> None:
        pass


PRODUCT = PreparedProduct(
    *("p", "p", Path("/none"), "d", "d", "d", "e", "u", "r"),
    (PreparedTable("p", "u", ()),),
    1,
    ReleaseFloor("aggregate", 2),
    (),
)


async def run(answers: dict[str, list[Any]]) -> Outcome:
    async with Computation(Isolation(answers), [PRODUCT], ReleaseRules(), "SQL") as computation:
        await computation.verify()
        return await computation.compute()


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def changed(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = copy.deepcopy(node)
    place = copied
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return copied


async def test_good_answers_release() -> None:
    assert (await run(GOOD)).rows[0][:3] == ("x", 12, 1.5)


@pytest.mark.parametrize("worker", GOOD)
async def test_hostile_answer_is_a_failure_or_harmless(worker: str) -> None:
    tried = 0
    for base in (GOOD, REFUSED):
        for number, answer in enumerate(base[worker]):
            for path in places(answer):
                for value in HOSTILE:
                    answers = [*base[worker]]
                    answers[number] = changed(answer, path, value)
                    tried += 1
                    try:
                        outcome = await run({**base, worker: answers})
                    except SandboxError as error:
                        error.message.encode()
                        continue
                    # What came out is of the types that it says, and can be sent on.
                    for row in outcome.rows:
                        assert len(row) == len(outcome.columns)
                        str(row).encode()
                    for name, _ in outcome.columns:
                        name.encode()
    assert tried > 100


KEY = {**CELLS, "key_columns": ["p.codes.k"]}


@pytest.mark.parametrize(
    "public",
    [
        {"p.p.k": ["x"]},
        {"p.codes.k": "x"},
        {"p.codes.k": [1]},
        {"p.codes.k": [["x"]]},
        {"p.codes.k": ["x", "y", "x"]},
        {"p.codes.k": [str(n) for n in range(10_001)]},
        {"p.codes.other": ["x"]},
        {"p.nowhere.k": ["x"]},
        [],
        None,
    ],
)
def test_public_keys_are_of_public_columns_and_different(public: Any) -> None:
    column = ColumnSchema("k", VARCHAR, frozenset(Use))
    tables = {
        "p.p": TableSchema("p", "p", "u", (column,)),
        "p.codes": TableSchema("p", "codes", None, (column,)),
    }
    answer = {"type": "verified", "cells": [KEY], "stage2": "", "public": {}}
    answer["public"] = {"p.codes.k": ["x", None]}
    assert read_verified(answer, tables).public == {"p.codes.k": ("x", None)}
    cells = CELLS if public == {"p.p.k": ["x"]} else KEY
    with pytest.raises(SchemaError):
        read_verified({**answer, "cells": [cells], "public": public}, tables)


@pytest.mark.parametrize("text", ["\\ud800", "x\\uDFFFy", "\\udc00\\ud800"])
def test_lone_surrogate_is_no_frame(text: str) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(f'{{"a": ["{text}"]}}'.encode())


def test_what_looks_like_a_surrogate_passes() -> None:
    for value in ("\\ud800", "\N{GRINNING FACE}", "\\\\udfff"):
        message: dict[str, object] = {"a": value}
        assert wire.decode(wire.encode(message)[wire.HEADER.size :]) == message
    assert wire.decode(b'{"a": "\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


async def test_several_ungrouped_cells_are_a_failure() -> None:
    cells = {**CELLS, "keys": [], "key_columns": []}
    for keys in ([], [[], []]):
        found = {"keys": keys, "rows": 11, "dropped": 0, "query": QUERY}
        verified = {**GOOD["stage1"][1], "cells": [cells]}
        stage1 = [READY, verified, {"type": "cells", "results": [found]}]
        with pytest.raises(SandboxFailureError):
            await run({**GOOD, "stage1": stage1})


@pytest.mark.parametrize(
    "changes",
    [
        {"monomial": ["a"] * 1_000_000},  # bounds to the power of that were computed in one step
        {"monomial": ["a"] * 17},
        {"scale": 39},
        {"scale": 10**30},
    ],
)
async def test_no_component_makes_the_connector_compute_without_end(
    changes: dict[str, Any],
) -> None:
    cells = {**CELLS, "components": [COMPONENTS[0], {**COMPONENTS[1], **changes}]}
    column = PreparedColumn(ColumnSchema("a", BIGINT, frozenset(Use), (0, 120), 120))
    floor = ReleaseFloor("dp", epsilon="1", delta="0.00001")
    product = replace(PRODUCT, tables=(PreparedTable("p", "u", (column,)),), release=floor)
    verified = {**GOOD["stage1"][1], "cells": [cells]}
    isolation = Isolation({**GOOD, "stage1": [READY, verified], "release_dp": [READY]})
    rules = ReleaseRules("dp")
    async with asyncio.timeout(1), Computation(isolation, [product], rules, "SQL") as computation:
        with pytest.raises(SandboxFailureError):
            await computation.verify()


async def test_rows_are_written_down_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # As many as a worker may name took five seconds, in which nobody else was served.
    threads = set()
    encode_rows = wire.encode_rows

    def observed(rows: Sequence[wire.Row]) -> list[list[str | bool | None]]:
        threads.add(threading.current_thread())
        return encode_rows(rows)

    monkeypatch.setattr(wire, "encode_rows", observed)
    await run(GOOD)
    assert threads
    assert threading.main_thread() not in threads
