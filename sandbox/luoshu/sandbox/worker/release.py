"""The release worker: contributions in, released cells out. No SQL engine, no protected table.

It sees the contributions (/cells) and what was released before (/history), both read-only, and
writes what it releases now in the history's format (/delta). It decides and remembers nothing
else; it is the connector that makes the delta durable before anything leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from luoshu.sandbox import contributions, wire
from luoshu.sandbox.release import aggregate
from luoshu.sandbox.release.history import read_entry, write_entry
from luoshu.sandbox.release.results import CellQueryResult
from luoshu.sandbox.schema import CellSchema, SchemaError, checked_count, exact_fields
from luoshu.sandbox.worker.stage import MAX_CELLS, Channel, Message, run

DELTA = "delta"
_SECRET_BYTES = 32
_MAX_EXPLAINED = 10_000


class Release:
    """One release job with the directories that it works on.

    Attributes:
        rules: As the connector sent them; not read yet.
        results: What stage 1 yielded for each cell query.
    """

    def __init__(
        self,
        job: Message,
        *,
        cells: Path = Path("/cells"),
        history: Path = Path("/history"),
        delta: Path = Path("/delta"),
    ) -> None:
        """Reads the job.

        Raises:
            SchemaError: It isn't one.
        """
        fields = exact_fields(job, "type", "results", "rules", "secret", "history", "own", "data")
        if fields["type"] != "release":
            raise SchemaError("not a release")
        self._cells, self._history, self._delta = cells, history, delta
        self.rules, self._data = fields["rules"], str(fields["data"])
        self._secret = bytes.fromhex(str(fields["secret"]))
        if len(self._secret) != _SECRET_BYTES:
            raise SchemaError("a secret of another length")
        self._names = [str(name) for name in _list(fields["history"])]
        self._own = {str(name) for name in _list(fields["own"])}
        self.results = [
            self._result(number, one) for number, one in enumerate(_list(fields["results"]))
        ]

    def _result(self, number: int, value: object) -> CellQueryResult:
        fields = exact_fields(value, "schema", "keys", "rows", "query")
        schema = CellSchema.from_json(fields["schema"])
        keys = wire.decode_rows(fields["keys"], schema.keys, MAX_CELLS)
        if schema.components and not schema.keys and len(keys) != 1:
            raise SchemaError("not one cell")
        found = contributions.read(
            self._cells / str(number), schema, len(keys), checked_count(fields["rows"])
        )
        return CellQueryResult(schema, keys, found, str(fields["query"]))

    def aggregate(self) -> Message:
        """Releases by the rules of mode `aggregate`."""
        rules = aggregate.AggregateRules.from_json(self.rules)
        read = [(name, block) for name in self._names for block in read_entry(self._history / name)]
        released = aggregate.release(
            self.results,
            rules,
            self._secret,
            history=[block for _, block in read],
            own=[block for name, block in read if name in self._own],
            data=self._data,
        )
        delta = digest = None
        if released.additions:
            delta = DELTA
            write_entry(self._delta / delta, released.additions)
            digest = _digest(self._delta / delta)
        return {
            "type": "released",
            "results": [{"rows": wire.encode_rows(rows)} for rows in released.rows],
            "withheld_groups": released.withheld_groups,
            "withheld_values": released.withheld_values,
            "conflicts": released.conflicts,
            "delta": delta,
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
        }
        for item in items
    ]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise SchemaError("a list was expected")
    return value


def work(channel: Channel) -> None:
    """Serves one release."""
    channel.send({"type": "ready"})
    channel.send(Release(channel.receive()).answer())


def main() -> None:
    """Entry point."""
    run(work)
