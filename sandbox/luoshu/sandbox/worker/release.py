"""The release worker: cells in, released cells out. No SQL engine, no file, no protected row."""

from __future__ import annotations

from luoshu.sandbox import wire
from luoshu.sandbox.release.aggregate import AggregateRules, release
from luoshu.sandbox.schema import CellSchema
from luoshu.sandbox.worker.stage import MAX_CELLS, Channel, run


def work(channel: Channel) -> None:
    """Serves one release."""
    channel.send({"type": "ready"})
    job = channel.receive()
    schema = CellSchema.from_json(job["cells"])
    cells = wire.decode_rows(job["rows"], schema.row_types, MAX_CELLS)
    released = release(cells, schema, AggregateRules.from_json(job["rules"]))
    channel.send(
        {
            "type": "released",
            "rows": wire.encode_rows(released.rows),
            "withheld_groups": released.withheld_groups,
            "withheld_values": released.withheld_values,
        }
    )


def main() -> None:
    """Entry point."""
    run(work)
