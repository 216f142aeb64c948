"""`luoshu sandbox run` below its command line: what a holder, and an analyst, would get."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from sandbox_world import write_product

from luoshu.sandbox.dry_run import EXIT_CODES, HistoryError, dry_run, json_value
from luoshu.sandbox.errors import FAILURE_TEXT, RELEASE_NOTE, PreparationError, ProductFileError
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.templates import BoundParameter

pytestmark = pytest.mark.system

BY_SEX = "SELECT sex, count(*) AS n, avg(cost) AS mean FROM visits GROUP BY sex"
RARE = "SELECT ward, count(*) FROM visits WHERE ward IN ('rare', 'w1') GROUP BY ward"
ROWS = "SELECT * FROM visits"


def test_answers_for_the_holder(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    released, withheld, denied = dry_run([product], [BY_SEX, RARE, ROWS])
    assert released["status"] == "released"
    assert released["code"] == "RELEASED"
    assert released["columns"] == [
        {"name": "sex", "type": "VARCHAR"},
        {"name": "n", "type": "BIGINT"},
        {"name": "mean", "type": "DOUBLE"},
    ]
    rows = released["rows"]
    assert isinstance(rows, list)
    assert [row[:2] for row in rows] == [["f", 300], ["m", 300]]
    assert (released["withheld_groups"], withheld["withheld_groups"]) == (0, 1)
    assert withheld["rows"] == [["w1", 126]]
    assert (denied["status"], denied["code"]) == ("denied", "GUARD_RAW_ROWS")
    assert denied["rows"] == denied["columns"] == []
    for answer in (released, withheld, denied):
        assert json.loads(json.dumps(answer)) == answer


def test_answers_for_the_analyst_tell_no_more(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    with_withheld, denied = dry_run([product], [RARE, ROWS], as_analyst=True)
    shape = {"status", "code", "message", "columns", "rows"}
    assert set(with_withheld) == set(denied) == shape
    assert with_withheld["message"] == RELEASE_NOTE


def test_failure_has_a_cause_for_the_holder_only(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    config = IsolationConfig(max_rows=1)
    (holder,) = dry_run([product], [BY_SEX], config=config)
    (analyst,) = dry_run([product], [BY_SEX], as_analyst=True, config=config)
    assert holder["status"] == analyst["status"] == "failed"
    assert holder["code"] == analyst["code"] == "QUERY_FAILED"
    assert holder["message"] == analyst["message"] == FAILURE_TEXT
    assert "cause" in holder
    assert "cause" not in analyst


def test_several_products(tmp_path: Path) -> None:
    first = write_product(tmp_path)
    second = tmp_path / "second.yaml"
    second.write_text(
        first.read_text(encoding="utf-8")
        .replace("id: visits", "id: more-visits")
        .replace("min_units: 10", "min_units: 100"),
        encoding="utf-8",
    )
    sqls = [
        f"SELECT count(*) FROM {table} WHERE ward = 'w1'" for table in ("visits", "more_visits")
    ]
    one, two = dry_run([first, second], sqls)
    assert (one["rows"], two["rows"]) == ([[126]], [[None]])  # each at its own floor
    with pytest.raises(ProductFileError, match="the same id"):
        next(dry_run([first, first], sqls))


def test_what_cannot_be_prepared(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    with pytest.raises(HistoryError):
        next(dry_run([product], [BY_SEX], history=product))
    (tmp_path / "visits.parquet").unlink()
    with pytest.raises(PreparationError, match="There is no file"):
        next(dry_run([product], [BY_SEX]))


def test_exit_codes() -> None:
    assert EXIT_CODES == {"released": 0, "denied": 3, "failed": 4}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("1234.50"), 1234.5),
        (Decimal("0.10"), 0.1),
        (Decimal("123456789012345678.10"), "123456789012345678.10"),
        (2**100, 2**100),
        (None, None),
    ],
)
def test_numbers_are_exact(value: Decimal | int | None, shown: object) -> None:
    assert json_value(value) == shown
    assert type(json_value(value)) is type(shown)


def test_template_runs_with_its_values(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    by_ward = "SELECT count(*) AS n FROM visits WHERE ward = $ward"
    (value,) = dry_run([product], [by_ward], parameters=[BoundParameter("ward", "text", "w1")])
    assert value["rows"] == [[126]]
    (hostile,) = dry_run(
        [product], [by_ward], parameters=[BoundParameter("ward", "text", "w1' OR 'a' = 'a")]
    )
    assert hostile["rows"] == [[None]]
    (missing,) = dry_run([product], [by_ward])
    assert (missing["status"], missing["code"]) == ("denied", "GUARD_PARAMETER")
