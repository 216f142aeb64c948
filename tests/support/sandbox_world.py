"""A small product for sandbox tests: patients with visits, as files and as a bound guard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from luoshu.sandbox import engine
from luoshu.sandbox.guard.check import CheckedQuery, check_query
from luoshu.sandbox.guard.claims import Claim
from luoshu.sandbox.guard.verify import verify
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    TIMESTAMP,
    VARCHAR,
    CellSchema,
    ColumnSchema,
    ComponentKind,
    TableSchema,
    Use,
    ValueType,
)

MIN_UNITS = 10

PRODUCT = f"""
id: visits
title: {{en: Hospital visits, zh: 就诊记录}}
source: {{parquet: visits.parquet}}
classification: {{level: general, personal_information: sensitive, subjects: 200}}
privacy_unit: patient_id
columns:
  ward:    {{use: [group, filter]}}
  sex:     {{use: [group, filter], values: [f, m]}}
  age:     {{use: [aggregate, filter], bounds: [0, 120]}}
  cost:    {{use: [aggregate, filter], decimals: 2}}
  day:     {{use: [group, filter]}}
  seen_at: {{use: [filter]}}
  urgent:  {{use: [group, filter, aggregate]}}
  note:    {{use: [filter]}}
release: {{mode: aggregate, min_units: {MIN_UNITS}}}
"""

# 200 patients, 3 visits each. Ward `rare` has 4 patients, ward `lone` one; patient-007 alone is
# 120 years old. `cost` is 0 for all in ward `free`.
VISITS = """
SELECT
    format('patient-{:03d}', p) AS patient_id,
    CASE WHEN p = 7 THEN 'lone' WHEN p < 4 THEN 'rare' WHEN p < 30 THEN 'free'
         ELSE 'w' || (p % 4) END AS ward,
    CASE WHEN p % 2 = 0 THEN 'f' ELSE 'm' END AS sex,
    CASE WHEN p = 7 THEN 120 WHEN p % 11 = 0 THEN NULL ELSE 30 + p % 50 END AS age,
    CASE WHEN p BETWEEN 4 AND 29 AND p <> 7 THEN 0 ELSE (p * 31 % 977) / 4 + v END AS cost,
    DATE '2024-01-01' + v::INTEGER * 31 AS day,
    TIMESTAMP '2024-01-01 08:00:00' + to_hours(p) AS seen_at,
    p % 5 = 0 AS urgent,
    'secret-' || p AS note,
    'not declared' AS hidden
FROM range(200) r(p), range(3) s(v)
"""


def write_product(directory: Path) -> Path:
    """Writes the product file and its data; returns the product file's path."""
    duckdb.execute(f"COPY ({VISITS}) TO '{directory / 'visits.parquet'}'")
    path = directory / "visits.yaml"
    path.write_text(PRODUCT, encoding="utf-8")
    return path


GROUP, FILTER, AGGREGATE = Use.GROUP, Use.FILTER, Use.AGGREGATE
TABLE = TableSchema(
    catalog="visits",
    table="visits",
    unit="patient_id",
    columns=(
        ColumnSchema("ward", VARCHAR, frozenset({GROUP, FILTER})),
        ColumnSchema("sex", VARCHAR, frozenset({GROUP, FILTER})),
        ColumnSchema("age", BIGINT, frozenset({AGGREGATE, FILTER}), (0, 120), 120),
        ColumnSchema(
            "cost", ValueType("DECIMAL", 18, 2), frozenset({AGGREGATE, FILTER}), None, 10**18 - 1
        ),
        ColumnSchema("day", DATE, frozenset({GROUP, FILTER})),
        ColumnSchema("seen_at", TIMESTAMP, frozenset({FILTER})),
        ColumnSchema("urgent", BOOLEAN, frozenset({GROUP, FILTER, AGGREGATE})),
        ColumnSchema("note", VARCHAR, frozenset({FILTER})),
    ),
    domain="patient_id",
)


@dataclass(frozen=True)
class _Claimed:
    """What is claimed of SQL that a rewriter might have produced."""

    kinds: tuple[ComponentKind, ...]
    prefix: int | None = None
    is_public: bool = False


CLAIMS = (
    _Claimed((ComponentKind.SUM,)),
    _Claimed((ComponentKind.UNITS,)),
    _Claimed((ComponentKind.SET,)),
    _Claimed((), is_public=True),
)


@dataclass
class Guard:
    """The guard in this process: a locked engine with the prepared table attached."""

    connection: engine.Connection
    tables: tuple[TableSchema, ...]

    def check(self, sql: str) -> CheckedQuery:
        """Parses, binds, splits and verifies, as a stage-1 worker does."""
        return check_query(
            self.connection, self.tables, sql, min_units=MIN_UNITS, dominance_ppm=850_000
        )

    def verify_plan(self, plan: object, claim: Claim) -> CellSchema:
        """Verifies a plan, whoever made it and whatever is claimed of it."""
        return verify(plan, self.tables, claim, min_units=MIN_UNITS, dominance_ppm=850_000)

    def emptied(self, directory: Path) -> Guard:
        """The guard over the same table without rows."""
        return open_guard(directory, "WHERE false")

    def plan(self, sql: str) -> dict[str, object]:
        """The bound plan."""
        return engine.bind(self.connection, sql)

    def close(self) -> None:
        """Closes the engine."""
        self.connection.close()


def open_guard(directory: Path, where: str = "") -> Guard:
    """Opens the guard over a table as preparation writes it."""
    path = directory / "prepared.duckdb"
    columns = ", ".join(f"{column.name} {column.type}" for column in TABLE.columns)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE visits (patient_id BIGINT NOT NULL, {columns})")
        names = ", ".join(column.name for column in TABLE.columns)
        connection.execute(
            f"INSERT INTO visits SELECT substr(patient_id, 9)::BIGINT, {names} "
            f"FROM ({VISITS}) {where}"
        )
    opened = engine.open_engine(512 << 20, 1)
    engine.attach(opened, "visits", str(path))
    engine.search(opened, ["visits"])
    engine.lock(opened)
    return Guard(opened, (TABLE,))
