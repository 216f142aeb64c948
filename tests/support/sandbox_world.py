"""A small product for sandbox tests: patients with visits, as files and as a bound guard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from luoshu.sandbox import engine
from luoshu.sandbox.guard.check import CheckedQuery, check_query
from luoshu.sandbox.guard.verify import verify
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    TIMESTAMP,
    VARCHAR,
    CellSchema,
    ColumnSchema,
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
    catalog="p0",
    table="visits",
    unit="patient_id",
    columns=(
        ColumnSchema("ward", VARCHAR, frozenset({GROUP, FILTER})),
        ColumnSchema("sex", VARCHAR, frozenset({GROUP, FILTER})),
        ColumnSchema("age", BIGINT, frozenset({AGGREGATE, FILTER})),
        ColumnSchema("cost", ValueType("DECIMAL", 18, 2), frozenset({AGGREGATE, FILTER})),
        ColumnSchema("day", DATE, frozenset({GROUP, FILTER})),
        ColumnSchema("seen_at", TIMESTAMP, frozenset({FILTER})),
        ColumnSchema("urgent", BOOLEAN, frozenset({GROUP, FILTER, AGGREGATE})),
        ColumnSchema("note", VARCHAR, frozenset({FILTER})),
    ),
)


@dataclass
class Guard:
    """The guard in this process: a locked engine with the prepared table attached."""

    connection: engine.Connection
    within: engine.Connection  # finds the table by its bare name, as analysts write it
    tables: tuple[TableSchema, ...]

    def check(self, sql: str) -> CheckedQuery:
        """Parses, splits, binds and verifies, as a stage-1 worker does."""
        return check_query(self.connection, self.tables, sql)

    def verify(self, sql: str) -> CellSchema:
        """Binds and verifies SQL as if a rewriter had produced it."""
        return verify(self.plan(sql), self.tables)

    def verify_plan(self, plan: object) -> CellSchema:
        """Verifies a plan, whoever made it."""
        return verify(plan, self.tables)

    def emptied(self, directory: Path) -> Guard:
        """The guard over the same table without rows."""
        return open_guard(directory, "WHERE false")

    def plan(self, sql: str) -> dict[str, object]:
        """The bound plan."""
        return engine.bind(self.within, sql)

    def close(self) -> None:
        """Closes the engines."""
        self.connection.close()
        self.within.close()


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
    connections = []
    for before in ("SELECT 1", "USE p0"):
        opened = engine.open_engine(512 << 20, 1)
        engine.attach(opened, "p0", str(path))
        opened.execute(before)
        engine.lock(opened)
        connections.append(opened)
    return Guard(*connections, (TABLE,))
