"""Whatever is typed, the guard accepts it, or refuses it in its own words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinic import Clinic, open_clinic

from luoshu.sandbox.errors import GuardRefusalError, QueryError

pytestmark = pytest.mark.system

_ODD = Path(__file__).parents[1] / "support" / "odd_queries.sql"
_LINES = [line for line in _ODD.read_text(encoding="utf-8").splitlines() if line[:2] != "--"]
_COUNT = "SELECT count(*) FROM patient"


def _chained(count: int, table: str, body: str) -> str:
    """CTEs of which each reads the one before."""
    names = [table, *(f"t{n}" for n in range(count))]
    ctes = (f"{name} AS ({body.format(before)})" for before, name in itertools.pairwise(names))
    return f"WITH {', '.join(ctes)} SELECT count(*) FROM {names[-1]}"


MONSTERS = {
    "terms": "SELECT " + "+".join(["1"] * 1000),
    "terms_of_columns": f"SELECT sum({'+'.join(['age'] * 1000)}) FROM patient",
    "factors": f"SELECT sum({'*'.join(['(age + 1)'] * 12)}) FROM patient",
    "values_of_one_column": f"{_COUNT} WHERE " + " OR ".join(f"level = {n}" for n in range(1000)),
    "branches": f"{_COUNT} WHERE " + " OR ".join(f"level = {n} AND smokes" for n in range(200)),
    "ways": f"{_COUNT} WHERE " + " AND ".join(f"(level = {n} OR smokes)" for n in range(30)),
    "exceptions": f"{_COUNT} WHERE " + " AND ".join(f"level <> {n}" for n in range(1000)),
    "list": f"{_COUNT} WHERE level IN ({', '.join(map(str, range(3000)))})",
    "parentheses": f"SELECT {'(' * 200}1{')' * 200}",
    "negations": f"{_COUNT} WHERE {'NOT (' * 40}smokes{')' * 40}",
    "many_negations": f"SELECT {'NOT ' * 100}true",
    "subqueries": f"SELECT count(*) FROM {'(SELECT * FROM ' * 40}patient{')' * 40}",
    "many_subqueries": f"SELECT count(*) FROM {'(SELECT * FROM ' * 120}patient{')' * 120}",
    "unions": " UNION ALL ".join(f"{_COUNT} WHERE level = {n}" for n in range(70)),
    "constants_united": " UNION ALL ".join(["SELECT 1"] * 500),
    "results": "SELECT " + ", ".join(f"sum(age * {n})" for n in range(200)) + " FROM patient",
    "too_many_results": "SELECT " + ", ".join(map(str, range(1000))),
    "cases": "SELECT sum(CASE "
    + " ".join(f"WHEN level = {n} THEN {n}" for n in range(40))
    + " ELSE 0 END) FROM patient",
    "self_joins": f"{_COUNT} p "
    + " ".join(f"JOIN patient p{n} ON p.pid = p{n}.pid" for n in range(40)),
    "ctes": _chained(60, "patient", "SELECT * FROM {0}"),
    "doubling_ctes": _chained(6, "patient", "SELECT a.pid FROM {0} a JOIN {0} b USING (pid)"),
    "doubling_public_ctes": _chained(
        12, "codes", "SELECT a.code FROM {0} a JOIN {0} b USING (code)"
    ),
    "functions": f"SELECT {'lower(' * 30}ward{')' * 30}, count(*) FROM patient GROUP BY 1",
    "long_text": f"{_COUNT} WHERE note = '{'x' * 60000}'",
    "too_long": "x" * 100000,
    "half_a_character": f"{_COUNT} WHERE note = 'a\ud800'",
    "end_of_text": f"{_COUNT} WHERE note = 'a\0b'",
    "right_to_left": f"{_COUNT} WHERE note = '\u202e\U0001f600'",
    "odd_space": "SELECT\u00a0count(*) FROM patient",
    "nothing": "",
    "comment": "--",
    "open_comment": "/*",
    "open_text": "SELECT '",
    "open_name": '"',
    "grouping_sets": f"{_COUNT} GROUP BY CUBE (ward, sex, smokes, level, born, ward || 'x', "
    "sex || 'x', level || 'x', born || 'x', smokes || 'x')",
}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


def accepts(clinic: Clinic, sql: str) -> bool:
    """Whether the guard accepts; anything but its own refusals is raised."""
    try:
        clinic.check(sql)
    except (GuardRefusalError, QueryError) as error:
        assert error.message.isprintable()
        return False
    return True


@pytest.mark.parametrize("sql", _LINES)
def test_odd_query(clinic: Clinic, sql: str) -> None:
    accepts(clinic, sql)


@pytest.mark.parametrize("sql", MONSTERS.values(), ids=MONSTERS)
def test_monster(clinic: Clinic, sql: str) -> None:
    accepts(clinic, sql)
