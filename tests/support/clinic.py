"""A clinic as prepared tables: three protected ones that belong to a patient, and public ones.

Small enough to be computed by hand, with what makes answers wrong: NULLs in keys, values and
conditions, negative numbers, ties, patients without visits, visits without items, empty texts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb

from luoshu.sandbox import engine
from luoshu.sandbox.guard.check import CellQuery, CheckedQuery, check_query
from luoshu.sandbox.guard.verify import verify
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    TIMESTAMP,
    VARCHAR,
    CellSchema,
    ColumnSchema,
    ComponentKind,
    TableSchema,
    UnitKey,
    Use,
    ValueType,
)

GROUP, FILTER, AGGREGATE = Use.GROUP, Use.FILTER, Use.AGGREGATE
MIN_UNITS = 3
DOMINANCE_PPM = 850_000
_MONEY = ValueType("DECIMAL", 9, 2)


def _column(
    name: str,
    kind: ValueType,
    *uses: Use,
    bounds: tuple[int, int] | None = None,
) -> ColumnSchema:
    if bounds is not None:
        magnitude = max(map(abs, bounds))
    elif kind.name == "DECIMAL":
        magnitude = int(10**kind.width) - 1
    else:
        magnitude = 2**63 if kind == BIGINT else 0
    return ColumnSchema(name, kind, frozenset(uses), bounds, magnitude)


def _public(name: str, *columns: tuple[str, ValueType], key: int = 1) -> TableSchema:
    found = tuple(_column(column, kind, GROUP, FILTER, AGGREGATE) for column, kind in columns)
    return TableSchema(
        "clinic", name, None, found, unique=(tuple(column for column, _ in columns[:key]),)
    )


_VISITS = UnitKey("visit(visit_id)", ("visit_id",))
TABLES = (
    TableSchema(
        "clinic",
        "patient",
        "pid",
        (
            _column("ward", VARCHAR, GROUP, FILTER),
            _column("sex", VARCHAR, GROUP, FILTER),
            _column("age", BIGINT, AGGREGATE, FILTER, bounds=(0, 120)),
            _column("born", DATE, GROUP, FILTER),
            _column("balance", _MONEY, AGGREGATE, FILTER),
            _column("smokes", BOOLEAN, GROUP, FILTER),
            _column("note", VARCHAR, FILTER),
            _column("salary", BIGINT, AGGREGATE, bounds=(0, 1_000_000)),
            _column("level", BIGINT, GROUP, FILTER, AGGREGATE),
            _column("passport", VARCHAR),
        ),
        "patient",
    ),
    TableSchema(
        "clinic",
        "visit",
        "pid",
        (
            _column("visit_id", BIGINT),
            _column("day", DATE, GROUP, FILTER),
            _column("seen", TIMESTAMP, GROUP, FILTER),
            _column("cost", _MONEY, AGGREGATE, FILTER),
            _column("kind", VARCHAR, GROUP, FILTER),
            _column("code", BIGINT, GROUP, FILTER),
        ),
        "patient",
        (_VISITS,),
    ),
    TableSchema(
        "clinic",
        "item",
        "unit_of_item",
        (
            _column("visit_id", BIGINT),
            _column("amount", BIGINT, AGGREGATE, FILTER, bounds=(-5, 50)),
            _column("price", _MONEY, AGGREGATE, bounds=(0, 100_000)),
            _column("drug", BIGINT, GROUP, FILTER),
        ),
        "patient",
        (_VISITS,),
    ),
    _public("codes", ("code", BIGINT), ("label", VARCHAR), ("fee", _MONEY), ("rate", DOUBLE)),
    _public("drugs", ("drug", BIGINT), ("maker", VARCHAR), ("words", VARCHAR), ("since", DATE)),
    _public("stock", ("drug", BIGINT), ("kind", VARCHAR), ("price", BIGINT), key=2),
)

_ROWS = {
    "patient": """
SELECT p AS pid,
    CASE WHEN p % 11 = 3 THEN NULL ELSE 'w' || (p % 4) END AS ward,
    CASE WHEN p % 13 = 5 THEN NULL WHEN p % 2 = 0 THEN 'f' ELSE 'm' END AS sex,
    CASE WHEN p % 7 = 2 THEN NULL ELSE 20 + p % 50 END AS age,
    CASE WHEN p % 9 = 4 THEN NULL ELSE DATE '1960-01-31' + (p * 373 % 9000)::INTEGER END AS born,
    CASE WHEN p % 5 = 1 THEN NULL ELSE ((p * 7919) % 20011 - 10000) / 100.0 END AS balance,
    CASE WHEN p % 6 = 0 THEN NULL ELSE p % 3 = 0 END AS smokes,
    CASE WHEN p % 8 = 1 THEN NULL WHEN p % 8 = 2 THEN '' ELSE 'Note ' || (p % 10) || '%'
        END AS note,
    30000 + (p * 104729) % 50000 AS salary,
    CASE WHEN p % 10 = 9 THEN NULL ELSE p % 3 - 1 END AS level,
    'P' || p AS passport
FROM range(80) r(p)""",
    "visit": """
SELECT v * 37 % 80 AS pid, v + 1000 AS visit_id,
    CASE WHEN v % 17 = 1 THEN NULL ELSE DATE '2023-12-28' + (v * 5 % 400)::INTEGER END AS day,
    TIMESTAMP '2024-02-28 22:30:00' + to_minutes(v * 97) AS seen,
    CASE WHEN v % 6 = 5 THEN NULL ELSE ((v * 331) % 4001 - 500) / 100.0 END AS cost,
    CASE WHEN v % 19 = 4 THEN NULL ELSE ['in', 'out', 'tele'][v % 3 + 1] END AS kind,
    CASE WHEN v % 23 = 7 THEN NULL ELSE v % 5 + 1 END AS code
FROM range(170) r(v) WHERE v % 37 <> 9""",
    "item": """
SELECT pid AS unit_of_item, visit_id,
    CASE WHEN (visit_id + i) % 9 = 0 THEN NULL ELSE (visit_id * 3 + i) % 20 - 3 END AS amount,
    CASE WHEN (visit_id + i) % 12 = 1 THEN NULL ELSE (visit_id * 17 + i * 31) % 900 / 10.0 END
        AS price,
    CASE WHEN (visit_id + i) % 14 = 2 THEN NULL ELSE (visit_id + i) % 4 + 1 END AS drug
FROM visit, range(4) s(i) WHERE i < visit_id % 4""",
    "codes": """
SELECT * FROM (VALUES (1, 'one', 1.5, 0.5), (2, 'two', 2.25, 1.0), (3, NULL, NULL, NULL),
    (4, 'four', -1.0, -2.5), (6, 'six', 10.0, 4.0)) c(code, label, fee, rate)""",
    "drugs": """
SELECT * FROM (VALUES (1, 'acme', '12', DATE '2020-01-01'), (2, 'acme', 'x', DATE '2021-05-05'),
    (3, 'bolt', '7', NULL), (4, NULL, '-3', DATE '2022-12-31')) d(drug, maker, words, since)""",
    "stock": """
SELECT d AS drug, kind, d * 10 + length(kind) AS price
FROM range(1, 5) r(d), (VALUES ('in'), ('out'), ('tele')) k(kind)""",
}


@dataclass(frozen=True)
class Claimed:
    """What a rewriter claims of a cell query."""

    kinds: tuple[ComponentKind, ...]
    prefix: int | None = None
    is_public: bool = False


@dataclass
class Clinic:
    """The guard over the clinic's tables, in this process.

    Attributes:
        connection: A locked engine with the tables attached.
        stage2: One that holds released cells only.
    """

    connection: engine.Connection
    stage2: engine.Connection

    def check(self, sql: str, mode: str = "aggregate") -> CheckedQuery:
        """What the guard makes of an analyst's query."""
        return check_query(
            self.connection,
            TABLES,
            sql,
            min_units=MIN_UNITS,
            dominance_ppm=DOMINANCE_PPM,
            mode=mode,
        )

    def verify(
        self, sql: str, kinds: str = "s", prefix: int | None = None, *, mode: str = "aggregate"
    ) -> CellSchema:
        """Binds and verifies a cell query of one's own.

        Args:
            sql: Stage 1, as a rewriter might write it.
            kinds: Of the components, a letter each: s(um), u(nits), g(uard set), digits of (o)ne
                row or of (a)ll; "" for rows that are claimed to be public.
            prefix: As claimed.
            mode: Release mode.
        """
        return self.verify_plan(engine.bind(self.connection, sql), kinds, prefix, mode=mode)

    def verify_plan(
        self,
        document: object,
        kinds: str = "s",
        prefix: int | None = None,
        *,
        mode: str = "aggregate",
    ) -> CellSchema:
        """Verifies a plan, whoever made it."""
        names = {
            "s": ComponentKind.SUM,
            "u": ComponentKind.UNITS,
            "g": ComponentKind.SET,
            "o": ComponentKind.ANY_DIGITS,
            "a": ComponentKind.ALL_DIGITS,
        }
        claim = Claimed(tuple(names[kind] for kind in kinds), prefix, not kinds)
        return verify(
            document, TABLES, claim, min_units=MIN_UNITS, dominance_ppm=DOMINANCE_PPM, mode=mode
        )

    def plain(self, sql: str) -> list[tuple[object, ...]]:
        """The answer without a guard."""
        return self.connection.execute(sql).fetchall()

    def plain_columns(self, sql: str) -> list[tuple[str, str]]:
        """Names and types of the columns without a guard."""
        return engine.column_types(self.connection.execute(sql))

    def answer(self, sql: str) -> list[tuple[object, ...]]:
        """The answer by way of cells, of which none is withheld that has a contribution."""
        return self._answer(sql)[1]

    def answer_columns(self, sql: str) -> list[str]:
        """Names of the columns by way of cells."""
        return self._answer(sql)[0]

    def _answer(self, sql: str) -> tuple[list[str], list[tuple[object, ...]]]:
        checked = self.check(sql)
        for number, cell in enumerate(checked.cells):
            self._release(number, cell)
        rows = self.stage2.execute(checked.stage2).fetchall()
        return [name for name, _ in engine.column_types(self.stage2)], rows

    def _release(self, number: int, cell: CellQuery) -> None:
        schema = cell.schema
        rows = self.connection.execute(cell.sql).fetchall()
        columns = [f"k{n} {kind}" for n, kind in enumerate(schema.keys)]
        columns += [f"c{n} {c.type}" for n, c in enumerate(schema.released)]
        self.stage2.execute(f"CREATE OR REPLACE TABLE cells{number} ({', '.join(columns)})")
        for row in released_cells(schema, rows):
            self.stage2.execute(
                f"INSERT INTO cells{number} VALUES ({', '.join('?' for _ in row)})", list(row)
            )


def released_cells(
    schema: CellSchema, rows: Sequence[tuple[object, ...]]
) -> Iterator[tuple[object, ...]]:
    """Adds up contributions exactly; NULL where no unit contributes.

    Checks on the way that the rows are contributions: each cell has each unit once, and nothing
    in it is NULL.
    """
    if not schema.components:
        yield from rows
        return
    width = len(schema.keys)
    cells: dict[tuple[object, ...], list[list[int | Decimal]]] = defaultdict(list)
    seen = set()
    for row in rows:
        keys, unit, values = row[:width], row[width], row[width + 1 :]
        assert isinstance(unit, int) and (keys, unit) not in seen, "one row for a cell and unit"
        assert all(isinstance(value, int | Decimal) for value in values), "exact values"
        seen.add((keys, unit))
        cells[keys].append(list(values))  # type: ignore[arg-type]
    if not width and not cells:
        cells[()] = []
    for keys, found in cells.items():
        row_out: list[object] = list(keys)
        for place, component in enumerate(schema.components):
            mine = [values[place] for values in found]
            units = sum(value != 0 for value in mine)
            if component.kind is ComponentKind.SUM:
                row_out.append(sum(mine) if units else None)
            elif component.kind is ComponentKind.UNITS:
                row_out.append(units or None)
        yield tuple(row_out)


@contextmanager
def open_clinic(directory: Path) -> Iterator[Clinic]:
    """Prepares the tables in a directory and opens the guard over them."""
    path = directory / "clinic.duckdb"
    with duckdb.connect(str(path)) as connection:
        for table in TABLES:
            columns = [f'"{column.name}" {column.type}' for column in table.columns]
            own = [f"{table.unit} BIGINT NOT NULL"] if table.unit else []
            connection.execute(f"CREATE TABLE {table.table} ({', '.join([*own, *columns])})")
            connection.execute(f"INSERT INTO {table.table} {_ROWS[table.table]}")
    opened = engine.open_engine(512 << 20, 1)
    engine.attach(opened, "clinic", str(path))
    opened.execute("SET search_path='memory.main,clinic.main'")
    engine.lock(opened)
    stage2 = engine.open_engine(256 << 20, 1)
    try:
        yield Clinic(opened, stage2)
    finally:
        stage2.close()
        opened.close()


def assert_same_answer(clinic: Clinic, sql: str) -> None:
    """Asserts that cells and stage 2 answer what plain DuckDB answers, but for withheld NULLs."""
    guarded, plain = clinic.answer(sql), clinic.plain(sql)
    if "ORDER BY" not in sql:
        guarded, plain = sorted(guarded, key=_order), sorted(plain, key=_order)
    assert len(guarded) == len(plain)
    for mine, theirs in zip(guarded, plain, strict=True):
        assert all(map(_is_same, mine, theirs)), (mine, theirs)


def _is_same(mine: object, theirs: object) -> bool:
    if mine is None and theirs == 0 and not isinstance(theirs, bool):
        return True  # what nobody contributes to is withheld
    if isinstance(mine, float) or isinstance(theirs, float):
        if not isinstance(mine, float | int | Decimal) or not isinstance(theirs, float | Decimal):
            return mine == theirs
        return math.isclose(float(mine), float(theirs), rel_tol=1e-9, abs_tol=1e-9)
    return mine == theirs


def _order(row: tuple[object, ...]) -> tuple[tuple[bool, str], ...]:
    return tuple(
        (value is None or value == 0, f"{float(value):.6g}")
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        else (value is None, str(value))
        for value in row
    )
