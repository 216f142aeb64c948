"""Which queries of TPC-DS are accepted, and which forms of ClickBench's: as the page says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from processes import luoshu
from unwalled import unwalled_dry_runs

from luoshu.bench.schemas import queries, write_schema
from luoshu.sandbox.dry_run import dry_run

pytestmark = pytest.mark.system

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
VERDICT = re.compile(r"^\| `([A-Z_]+)` \| (\d+) \| (.*?) \|", re.MULTILINE)


def documented() -> dict[str, str]:
    """The code of each query, from the page's table."""
    section = PAGE.read_text("utf-8").partition("## TPC-DS")[2].partition("\n## ")[0]
    found = {}
    for code, count, names in VERDICT.findall(section):
        listed = [f"q{int(number):02}" for number in names.split(", ")]
        assert len(listed) == int(count), code
        found |= dict.fromkeys(listed, code)
    return found


def test_tpcds_is_as_documented(tmp_path: Path) -> None:
    product = write_schema("tpcds", tmp_path)
    asked = queries("tpcds")
    with unwalled_dry_runs():
        answers = list(dry_run([product], asked.values()))
    told = {name: answer["code"] for name, answer in zip(asked, answers, strict=True)}
    assert len(told) == 99
    assert {**told, **documented()} == told, "docs/coverage.md lists another verdict"
    assert Counter(told.values()) == Counter(documented().values())
    for answer in answers:
        assert answer["status"] in {"released", "denied"}, answer
        assert str(answer["message"]).endswith(".")


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT count(*), sum(IsMobile), avg(Age) FROM hits WHERE OS <> 0", "RELEASED"),
        ("SELECT count(DISTINCT UserID), count(DISTINCT SearchPhrase) FROM hits", "RELEASED"),
        ("SELECT URL, count(*) AS c FROM hits GROUP BY URL ORDER BY c LIMIT 9", "RELEASED"),
        ("SELECT date_trunc('minute', EventTime), count(*) FROM hits GROUP BY 1", "RELEASED"),
        ("SELECT avg(UserID) FROM hits", "GUARD_UNIT"),
        ("SELECT UserID, count(*) FROM hits GROUP BY UserID LIMIT 9", "GUARD_UNIT"),
        ("SELECT min(EventDate) FROM hits", "GUARD_FUNCTION"),
        ("SELECT URL FROM hits ORDER BY EventTime LIMIT 9", "GUARD_CLAUSE"),
        ("SELECT avg(length(URL)) FROM hits", "GUARD_EXPRESSION"),
        ("SELECT OS - 1, count(*) FROM hits GROUP BY 1", "GUARD_UNPROVEN"),
    ],
)
def test_forms_of_clickbench(tmp_path: Path, sql: str, code: str) -> None:
    product = write_schema("clickbench", tmp_path)
    with unwalled_dry_runs():
        (answer,) = dry_run([product], [sql])
    assert answer["code"] == code, answer["message"]


def test_commands_of_the_page(tmp_path: Path) -> None:
    product = write_schema("tpcds", tmp_path)
    for file in tmp_path.glob("q*.sql"):
        if file.stem not in {"q01", "q02", "q03"}:
            file.unlink()
    told = luoshu("sandbox", "run", "--product", product, "--sql-file", tmp_path, "--verdicts")
    assert told.returncode == 0, told.stderr
    assert re.search(r"q01 +denied +QUERY_INVALID: There is no column c_customer_id", told.stdout)
    assert re.search(r"q03 +nothing released", told.stdout)
