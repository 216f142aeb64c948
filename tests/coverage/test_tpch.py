"""TPC-H under the guard: each query is answered or refused for a reason, and answered truly.

The oracle is plain DuckDB over the source files. A released cell must be the
very same there; withheld ones are absent or NULL. The unit is the customer.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from luoshu.bench.tpch_data import TABLES, queries, write_tpch
from luoshu.sandbox.dry_run import Answer, dry_run, json_value
from luoshu.sandbox.errors import QueryError
from luoshu.sandbox.guard.refusals import Refusal

REASONS = frozenset({*Refusal, QueryError.code})
FEW_CUSTOMERS = frozenset({"q03", "q10", "q18", "q20"})
"""Their cells are single orders, customers, or a part at a supplier: nothing may come out."""
LIMIT = re.compile(r"\s+LIMIT\s+\d+\s*$")


def before_stage_two(name: str, sql: str) -> str:
    """The query without what chooses among its rows: that sees released rows only."""
    if name == "q15":
        largest = r"AND total_revenue = \(\s*SELECT\s+max\(total_revenue\)\s+FROM revenue\)"
        sql, count = re.subn(largest, "", sql)
        assert count == 1
    return LIMIT.sub("", sql)


class Plain:
    """Plain DuckDB over the source files."""

    def __init__(self, directory: Path) -> None:
        self._connection = duckdb.connect()
        for table in TABLES:
            self._connection.execute(f"CREATE VIEW {table} AS FROM '{directory / table}.parquet'")

    def rows(self, sql: str) -> list[list[object]]:
        """All rows, as a dry run writes them."""
        rows = self._connection.execute(sql).fetchall()
        return [[json_value(cell) for cell in row] for row in rows]

    def close(self) -> None:
        """Closes the engine."""
        self._connection.close()


def same(kind: str, released: object, plain: object) -> bool:
    """Whether a released cell is the plain one: derived ones have 12 significant digits."""
    if released is None or plain is None or isinstance(released, str) != isinstance(plain, str):
        return released is None or released == plain
    if kind == "DOUBLE":
        return math.isclose(float(str(released)), float(str(plain)), rel_tol=1e-11, abs_tol=1e-300)
    if isinstance(released, str):
        return released == plain
    return Decimal(str(released)) == Decimal(str(plain))


def untrue(answer: Answer, plain: list[list[object]]) -> list[list[object]]:
    """The released rows that aren't rows of plain DuckDB, but for what is withheld in them."""
    columns, rows = answer["columns"], answer["rows"]
    assert isinstance(columns, list)
    assert isinstance(rows, list)
    kinds = [str(column["type"]) for column in columns]
    texts = [n for n, kind in enumerate(kinds) if kind in {"VARCHAR", "DATE", "TIMESTAMP"}]
    unmatched: dict[tuple[object, ...], list[list[object]]] = defaultdict(list)
    for row in plain:
        unmatched[tuple(row[n] for n in texts)].append(row)
    wrong = []
    for row in rows:
        candidates = unmatched[tuple(row[n] for n in texts)]
        for candidate in candidates:
            if all(map(same, kinds, row, candidate)):
                candidates.remove(candidate)
                break
        else:
            if any(cell is not None for cell in row):
                wrong.append(row)
    return wrong


def values(answer: Answer) -> int:
    rows = answer["rows"]
    assert isinstance(rows, list)
    return sum(cell is not None for row in rows for cell in row)


def ask(directory: Path, scale: float) -> dict[str, Answer]:
    product = write_tpch(directory, scale)
    return dict(zip(queries(), dry_run([product], queries().values()), strict=True))


def assert_reasons(told: Mapping[str, Answer]) -> None:
    for name, answer in told.items():
        assert answer["status"] in {"released", "denied"}, (name, answer)
        if answer["status"] == "denied":
            assert answer["code"] in REASONS
            assert str(answer["message"]).endswith(".")


def assert_true(told: Mapping[str, Answer], directory: Path) -> None:
    plain = Plain(directory)
    wrong = {
        name: untrue(answer, plain.rows(before_stage_two(name, queries()[name])))[:3]
        for name, answer in told.items()
        if answer["status"] == "released"
    }
    plain.close()
    assert {name: rows for name, rows in wrong.items() if rows} == {}


@pytest.mark.system
@pytest.mark.timeout(300)
def test_all_are_answered_or_refused(tmp_path: Path) -> None:
    told = ask(tmp_path, 0.05)
    assert_reasons(told)
    assert_true(told, tmp_path)
    assert any(values(answer) for answer in told.values())


@pytest.mark.slow
def test_scale_factor_1(tmp_path: Path) -> None:
    told = ask(tmp_path, 1)
    assert_reasons(told)
    assert_true(told, tmp_path)
    silent = {name for name, answer in told.items() if not values(answer)}
    assert silent <= FEW_CUSTOMERS, {name: told[name]["message"] for name in silent}


def test_untrue_rows_are_noticed() -> None:
    kinds = ("VARCHAR", "BIGINT", "DOUBLE")
    columns = [{"name": kind, "type": kind} for kind in kinds]
    plain: list[list[object]] = [["a", 1, 0.1], ["b", 2, 0.2]]
    for rows, wrong in (
        ([["a", 1, 0.1], ["b", None, 0.2000000000001]], []),
        ([["a", 1, None]], []),
        ([[None, None, None]], []),
        ([["a", 2, 0.1]], [["a", 2, 0.1]]),
        ([["c", None, None]], [["c", None, None]]),
        ([["a", 1, 0.1], ["a", 1, 0.1]], [["a", 1, 0.1]]),
        ([["b", 2, 0.20000001]], [["b", 2, 0.20000001]]),
    ):
        answer = json.loads(json.dumps({"columns": columns, "rows": rows}))
        assert untrue(answer, plain) == wrong


def test_queries_are_there() -> None:
    assert list(queries()) == [f"q{n:02}" for n in range(1, 23)]
    assert "max(total_revenue)" not in before_stage_two("q15", queries()["q15"])
    assert not LIMIT.search(before_stage_two("q21", queries()["q21"]))
