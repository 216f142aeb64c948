"""The release worker: contributions in, released cells out. No SQL engine, no protected table.

It is handed the contributions and what was released before, both to read, and a file to write what
it releases now in the history's format. It decides and remembers nothing else; it is the connector
that makes the delta durable before anything leaves.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

from luoshu.sandbox import contributions, wire
from luoshu.sandbox.release import aggregate
from luoshu.sandbox.release.blocks import Block
from luoshu.sandbox.release.history import read_entry, write_entry
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.schema import CellSchema, SchemaError, checked_count, exact_fields
from luoshu.sandbox.worker import memory, release_rehearsal
from luoshu.sandbox.worker.enclosure import landlock
from luoshu.sandbox.worker.enclosure.seal import CODE, seal
from luoshu.sandbox.worker.stage import MAX_CELLS, Channel, Message, run

_SECRET_BYTES = 32
_MAX_EXPLAINED = 10_000
_MAX_BESIDE = 100


class Release:
    """One release job with the files that it works on.

    Attributes:
        rules: As the connector sent them; not read yet.
        results: What stage 1 yielded for each cell query.
    """

    def __init__(self, channel: Channel) -> None:
        """Takes the history, some files at a time, then the job.

        Its files are the contributions of each cell query, and the one to write to.

        Raises:
            SchemaError: The connector sent something else.
        """
        self._history: list[tuple[bool, list[Block]]] = []
        while (job := channel.receive()).get("type") == "history":
            self._take(_list(exact_fields(job, "type", "own")["own"]), channel.files)
            channel.send({"type": "taken"})
        fields = exact_fields(job, "type", "results", "rules", "secret", "data")
        if fields["type"] != "release":
            raise SchemaError("not a release")
        *cells, self._delta = channel.files
        self.rules, self._data = fields["rules"], str(fields["data"])
        self._secret = bytes.fromhex(str(fields["secret"]))
        if len(self._secret) != _SECRET_BYTES:
            raise SchemaError("a secret of another length")
        self.results = [
            self._result(file, one)
            for file, one in zip(cells, _list(fields["results"]), strict=True)
        ]

    def _take(self, own: Sequence[object], files: Sequence[int]) -> None:
        for is_own, file in zip(own, files, strict=True):
            self._history.append((is_own is True, read_entry(file)))

    def _result(self, file: int, value: object) -> CellQueryResult:
        fields = exact_fields(value, "schema", "keys", "rows", "query")
        schema = CellSchema.from_json(fields["schema"])
        keys = wire.decode_rows(fields["keys"], schema.keys, MAX_CELLS)
        if schema.components and not schema.keys and len(keys) != 1:
            raise SchemaError("not one cell")
        found = contributions.read(file, schema, len(keys), checked_count(fields["rows"]))
        return CellQueryResult(schema, keys, found, str(fields["query"]))

    def aggregate(self) -> Message:
        """Releases by the rules of mode `aggregate`."""
        rules = aggregate.AggregateRules.from_json(self.rules)
        released = aggregate.release(
            self.results,
            rules,
            self._secret,
            history=[block for _, blocks in self._history for block in blocks],
            own=[block for is_own, blocks in self._history if is_own for block in blocks],
            data=self._data,
        )
        digest = None
        if released.additions:
            write_entry(self._delta, released.additions)
            digest = _digest(self._delta)
        return {
            "type": "released",
            "results": [{"rows": wire.encode_rows(rows)} for rows in released.rows],
            "withheld_groups": released.withheld_groups,
            "withheld_values": released.withheld_values,
            "conflicts": released.conflicts,
            "delta_digest": digest,
            "explain": _explained(released.explained[:_MAX_EXPLAINED]),
        }

    def answer(self) -> Message:
        """Releases by the mode that the rules name.

        Raises:
            SchemaError: A mode that isn't there: what isn't understood is never released.
        """
        modes: dict[object, Callable[[], Message]] = {"aggregate": self.aggregate}
        mode = self.rules.get("mode") if isinstance(self.rules, dict) else None
        if mode not in modes:
            raise SchemaError("a release mode that is not there")
        return modes[mode]()


def _explained(items: Sequence[aggregate.Explained]) -> list[Message]:
    return [
        {
            "result": item.result,
            "keys": wire.encode_rows([item.keys])[0],
            "component": item.component,
            "units": item.units,
            "rule": str(item.rule),
            "needed": item.needed,
            "beside": [
                {"result": other, "keys": wire.encode_rows([keys])[0], "component": component}
                for other, keys, component in item.beside[:_MAX_BESIDE]
            ],
            "earlier": list(item.earlier[:_MAX_BESIDE]),
        }
        for item in items
    ]


def _digest(written: int) -> str:
    os.lseek(written, 0, os.SEEK_SET)
    with open(written, "rb", closefd=False) as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise SchemaError("a list was expected")
    return value


def work(channel: Channel) -> None:
    """Serves one release."""
    landlock.restrict(CODE)
    seal()
    channel.send({"type": "ready"})
    channel.send(Release(channel).answer())


def rehearse() -> None:
    """Loads what loads lazily."""
    release_rehearsal.rehearse()


def warm_up() -> None:
    """Touches what a release will, before it is known."""
    release_rehearsal.rehearse()
    memory.touch_heap()


def main() -> None:
    """Entry point."""
    run(work)
