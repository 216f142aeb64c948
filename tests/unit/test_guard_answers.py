"""What cells and stage 2 answer is what plain DuckDB answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clinic import Clinic, assert_same_answer, open_clinic

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
    assert_same_answer(clinic, sql)


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
