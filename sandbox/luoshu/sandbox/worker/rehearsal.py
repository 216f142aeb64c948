"""What a zygote runs before it forks: the workers' whole way, on a table made up here.

So that what loads lazily is loaded once, not in every worker. Nothing of it stays but code.
"""

from __future__ import annotations

import os

from luoshu.sandbox import engine, wire
from luoshu.sandbox.guard.check import check_query
from luoshu.sandbox.schema import ColumnSchema, TableSchema, Use, ValueType

_SQL = (
    "SELECT place, count(*) AS n, sum(amount) AS s, avg(amount) AS a FROM rehearsal "
    "WHERE day >= DATE '2020-01-01' AND place LIKE 'p%' GROUP BY place ORDER BY place"
)
_EVERY = frozenset({Use.GROUP, Use.FILTER, Use.AGGREGATE})
_TABLE = TableSchema(
    "rehearsal",
    "rehearsal",
    "unit",
    (
        ColumnSchema("place", ValueType.parse("VARCHAR"), _EVERY - {Use.AGGREGATE}),
        ColumnSchema("amount", ValueType.parse("DECIMAL(18,2)"), _EVERY, magnitude=10**17),
        ColumnSchema("day", ValueType.parse("DATE"), _EVERY - {Use.AGGREGATE}),
    ),
    "rehearsal",
)


def stage1() -> None:
    """Guards a query and exports its contributions."""
    from luoshu.sandbox.export import export  # noqa: PLC0415 - stage 2 sees no NumPy

    connection = engine.open_engine()
    connection.execute("ATTACH ':memory:' AS rehearsal")
    connection.execute(
        "CREATE TABLE rehearsal.rehearsal AS SELECT range AS unit, 'p' || range % 2 AS place, "
        "(range / 7)::DECIMAL(18,2) AS amount, DATE '2020-01-01' AS day FROM range(64)"
    )
    engine.search(connection, ["rehearsal"])
    query = check_query(connection, [_TABLE], _SQL, min_units=2, dominance_ppm=850_000)
    for number, cell in enumerate(query.cells):
        written = os.memfd_create("rehearsal")
        done = export(
            connection,
            cell.sql,
            cell.schema,
            written,
            min_units=2,
            drop=True,
            max_cells=64,
            number=number,
        )
        wire.decode(wire.encode({"keys": wire.encode_rows(done.keys)})[wire.HEADER.size :])
    connection.close()
