"""The attacks run with workers in threads; behind the wall the answers are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from attack_world import MAIL, as_bytes, write_town
from unwalled import unwalled_dry_runs

from luoshu.sandbox.dry_run import dry_run

pytestmark = pytest.mark.system

STATEMENTS = (
    "SELECT * FROM person",
    "SELECT person_id, count(*) FROM person GROUP BY person_id",
    "SELECT district, count(*), avg(age) FROM person GROUP BY district",
    f"SELECT sum(income) FROM person WHERE email = '{MAIL}'",
    "SELECT v.ward, count(DISTINCT p.person_id) FROM person p JOIN visit v "
    "ON p.person_id = v.visitor GROUP BY v.ward",
    "SELECT count(*) FROM person WHERE email = '\ud800'",
    "SELECT sum(salary) FROM pay JOIN person ON employee = person_id",
)


def test_answers_are_the_same_behind_the_wall(tmp_path: Path) -> None:
    products = write_town(tmp_path)
    walled = list(dry_run(products, STATEMENTS, as_analyst=True))
    with unwalled_dry_runs():
        unwalled = list(dry_run(products, STATEMENTS, as_analyst=True))
    assert list(map(as_bytes, walled)) == list(map(as_bytes, unwalled))
    assert [answer["status"] for answer in walled].count("released") == 4
