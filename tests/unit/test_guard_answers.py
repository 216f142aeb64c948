"""What cells and stage 2 answer is what plain DuckDB answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from clinic import Clinic, open_clinic

_QUERIES = Path(__file__).parents[1] / "support" / "clinic_queries.sql"
QUERIES = [
    line for line in _QUERIES.read_text(encoding="utf-8").splitlines() if not line.startswith("--")
]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


@pytest.mark.parametrize("sql", QUERIES)
def test_answer(clinic: Clinic, sql: str) -> None:
    guarded, plain = clinic.answer(sql), clinic.plain(sql)
    if "ORDER BY" not in sql:
        guarded, plain = sorted(guarded, key=_order), sorted(plain, key=_order)
    assert len(guarded) == len(plain)
    for mine, theirs in zip(guarded, plain, strict=True):
        assert all(map(_is_same, mine, theirs)), (mine, theirs)


def test_branch_without_rows_is_null(clinic: Clinic) -> None:
    # A branch of CASE that nobody is in can't be told from one that is withheld.
    sql = (
        "SELECT sum(CASE WHEN sex = 'f' THEN age WHEN smokes THEN 2 * age ELSE 0 END) "
        "FROM patient WHERE ward = 'w0'"
    )
    assert clinic.answer(sql) == [(None,)]
    assert clinic.plain(sql) == [(612,)]


def test_names_are_the_analysts(clinic: Clinic) -> None:
    sql = "SELECT CASE WHEN sex = 'f' THEN 1 END AS f, 1, NULL, count(*) FROM patient GROUP BY 1"
    assert clinic.answer_columns(sql) == ["f", "1", "NULL", "count_star()"]


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
