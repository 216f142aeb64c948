"""One analyst's session in this process: guard, stage 1, release with history, stage 2.

By the functions and messages that the workers run, over tables whose rows are set anew at will.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from luoshu.sandbox import engine, wire
from luoshu.sandbox.export import export
from luoshu.sandbox.guard.check import check_query
from luoshu.sandbox.schema import TableSchema
from luoshu.sandbox.worker.release import Release
from luoshu.sandbox.worker.stage import Channel, Message
from luoshu.sandbox.worker.stage2 import load_cells

Row = tuple[Any, ...]
_SECRET = "5e" * 32


@dataclass(frozen=True, slots=True)
class Told:
    """What a query was answered, and what the holder learns about it."""

    rows: list[Row]
    conflicts: int


class _Told:
    """The release worker's channel: what it is told, in order."""

    def __init__(self, messages: Sequence[tuple[Message, list[int]]]) -> None:
        self._messages = iter(messages)
        self.files: list[int] = []

    def receive(self) -> Message:
        message, self.files = next(self._messages)
        return message

    def send(self, message: Message) -> None:
        assert message == {"type": "taken"}


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


@dataclass(slots=True)
class GuardSession:
    """Queries one after the other, compared with one another.

    Attributes:
        directory: An empty one.
        tables: Of one catalog.
        min_units: Floor.
        jitter: Added to the floor of each cell, at most.
    """

    directory: Path
    tables: Sequence[TableSchema]
    min_units: int = 3
    jitter: int = 0
    plain: engine.Connection = field(init=False)
    _shaping: engine.Connection = field(init=False)

    def __post_init__(self) -> None:
        catalog = self.tables[0].catalog
        self.plain = engine.open_engine(256 << 20, 1)
        self.plain.execute(f"ATTACH ':memory:' AS {catalog}")
        for table in self.tables:
            unit = f"{table.unit} BIGINT NOT NULL, " if table.unit else ""
            columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
            self.plain.execute(f"CREATE TABLE {catalog}.main.{table.table} ({unit}{columns})")
        self.plain.execute(f"SET search_path = '{catalog}'")
        self._shaping = engine.open_engine(256 << 20, 1)
        self.forget()

    def close(self) -> None:
        """Closes the engines."""
        self.plain.close()
        self._shaping.close()

    def forget(self) -> None:
        """Starts a new session: nothing was released yet."""
        for name in ("cells", "history", "delta"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
            (self.directory / name).mkdir()

    def fill(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Replaces the rows of tables, by their names."""
        for table in self.tables:
            self.plain.execute(f"DELETE FROM {table.table}")
            if found := rows.get(table.table):
                kinds = [str(column.type) for column in table.columns]
                lists = ", ".join(
                    f"unnest(?::{k}[])" for k in ["BIGINT"] * bool(table.unit) + kinds
                )
                columns = [list(column) for column in zip(*found, strict=True)]
                self.plain.execute(f"INSERT INTO {table.table} SELECT {lists}", columns)

    def ask(self, sql: str) -> Told:
        """Answers a query.

        Raises:
            GuardRefusalError: The guard refuses it.
            QueryError: It doesn't bind.
        """
        query = check_query(
            self.plain, self.tables, sql, min_units=self.min_units, dominance_ppm=850_000
        )
        results: list[object] = []
        for number, cell in enumerate(query.cells):
            done = export(
                self.plain,
                cell.sql,
                cell.schema,
                self.directory / "cells" / str(number),
                min_units=self.min_units,
                drop=True,
                max_cells=10_000,
                number=number,
            )
            results.append(
                {
                    "schema": cell.schema.to_json(),
                    "keys": wire.encode_rows(done.keys),
                    "rows": done.rows,
                    "query": f"{hash(cell.sql):x}",
                }
            )
        self._drop(self.plain, "temp")
        released, conflicts = self._release(results)
        for number, (cell, rows) in enumerate(zip(query.cells, released, strict=True)):
            types = cell.schema.released_types
            load_cells(
                self._shaping,
                f"cells{number}",
                len(cell.schema.keys),
                types,
                json.dumps(rows),
            )
        told = self._shaping.execute(query.stage2).fetchall()
        self._drop(self._shaping, "memory")
        return Told(told, conflicts)

    def _release(self, results: list[object]) -> tuple[list[object], int]:
        history, delta = self.directory / "history", self.directory / "delta" / "delta"
        earlier = sorted(history.iterdir())
        job: Message = {
            "type": "release",
            "results": results,
            "rules": {
                "mode": "aggregate",
                "min_units": self.min_units,
                "jitter": self.jitter,
                "dominance_ppm": 850_000,
                "max_conflicts": 4,
            },
            "secret": _SECRET,
            "data": "data",
        }
        cells = [self.directory / "cells" / str(number) for number in range(len(results))]
        written = os.open(delta, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        told = [
            ({"type": "history", "own": [True] * len(earlier)}, [_opened(p) for p in earlier]),
            (job, [*(_opened(path) for path in cells), written]),
        ]
        try:
            answer = Release(cast("Channel", _Told(told))).answer()
        finally:
            os.close(written)
        if answer["delta_digest"] is not None:
            delta.rename(history / f"{len(earlier):06}")
        found = cast("list[dict[str, object]]", answer["results"])
        return [result["rows"] for result in found], int(str(answer["conflicts"]))

    @staticmethod
    def _drop(connection: engine.Connection, database: str) -> None:
        tables = connection.execute(
            f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{database}'"
        )
        for (name,) in tables.fetchall():
            connection.execute(f"DROP TABLE {database}.main.{name}")
