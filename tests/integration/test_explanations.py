"""`luoshu sandbox run --explain`: each rule that withholds says so, in words for the holder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from processes import luoshu
from unwalled import unwalled_dry_runs

from luoshu.sandbox.answers import Withholding
from luoshu.sandbox.dry_run import Answer, dry_run
from luoshu.sandbox.explanations import why
from luoshu.sandbox.release.thresholds import Rule
from luoshu.sandbox.rules import ReleaseRules

pytestmark = pytest.mark.system

# 100 people each in the wards a and b, 40 each in c to f, 6 in `rare`. Person 7 spent nearly all.
VISITS = """
SELECT i AS who, CASE WHEN i < 200 THEN ['a', 'b'][i % 2 + 1]
    WHEN i < 360 THEN ['c', 'd', 'e', 'f'][i % 4 + 1] ELSE 'rare' END AS ward,
    CASE WHEN i = 7 THEN 1000000 ELSE i % 4 END AS cost, 1 AS flag,
    CASE WHEN i = 9 THEN 1 ELSE 2 END AS code, i AS number
FROM range(366) r(i)
"""
PRODUCT = """
id: clinic
tables:
  visits:
    parquet: visits.parquet
    unit: who
    columns:
      ward:   {use: [group, filter]}
      cost:   {use: [aggregate, filter], bounds: [0, 10000000]}
      flag:   {use: [aggregate], bounds: [0, 1]}
      code:   {use: [group, filter]}
      number: {use: [filter]}
  codes: {parquet: codes.parquet, public: true}
release: {mode: aggregate, min_units: 10, jitter: 0}
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clinic")
    duckdb.execute(f"COPY ({VISITS}) TO '{directory / 'visits.parquet'}'")
    codes = "SELECT unnest([1, 2]) AS code, unnest([5, 6]) AS price"
    duckdb.execute(f"COPY ({codes}) TO '{directory / 'codes.parquet'}'")
    (directory / "clinic.yaml").write_text(PRODUCT)
    return directory / "clinic.yaml"


def explained(product: Path, *sqls: str, history: Path | None = None) -> Iterator[list[str]]:
    """What is said of each statement, as `group: value: why`."""
    with unwalled_dry_runs():
        for answer in dry_run([product], sqls, explain=True, history=history):
            yield lines(answer)


def lines(answer: Answer) -> list[str]:
    withheld = answer["withheld"]
    assert isinstance(withheld, list)
    return [
        f"{', '.join(map(str, each['keys']))}: {each['component'] or 'all'}: {each['why']}"
        for each in withheld
    ]


EXPECTED = {
    Rule.THRESHOLD: (
        "SELECT ward, count(*) FROM visits GROUP BY ward",
        "rare: count(*): 6 units contribute; this group needs 10",
    ),
    Rule.DOMINANCE: (
        "SELECT ward, sum(cost) FROM visits GROUP BY ward",
        "b: sum(cost): one unit has more than 85% of it",
    ),
    Rule.BOUND: (
        "SELECT sum(flag) FROM visits",
        ": sum(flag): it equals its rows times a declared bound, and so tells every row's value",
    ),
    Rule.WEIGHTS: (
        "SELECT sum(cost * price) FROM visits JOIN codes USING (code) WHERE number <> 7",
        ": sum(cost*price): with the public column's numbers as weights it tells about fewer than "
        "10 units",
    ),
    Rule.SET: (
        "SELECT count(*) FROM visits WHERE ward = 'rare' OR number < 100",
        ": all: a branch of OR, CASE or FILTER has 6 units; each needs 10 by itself",
    ),
    Rule.PREFIX: (
        "SELECT count(DISTINCT ward) FROM visits",
        "a: all: COUNT(DISTINCT …) comes out with all of its values, and one has too few units",
    ),
    Rule.RESULT: (
        "SELECT ward, count(*) FROM visits GROUP BY ROLLUP (ward)",
        "f: count(*): it differs in fewer than 10 units from count(*) of all rows + count(*) of a "
        "+ count(*) of b + count(*) of c and 2 more, which came out",
    ),
}


@pytest.mark.parametrize(("sql", "line"), EXPECTED.values(), ids=EXPECTED.keys())
def test_each_rule_says_why(product: Path, sql: str, line: str) -> None:
    (said,) = explained(product, sql)
    assert line in said


def test_a_weighted_sum_says_that_the_plain_one_is_withheld(product: Path, tmp_path: Path) -> None:
    joined = "FROM visits JOIN codes USING (code) WHERE number NOT IN (7, 9)"
    sqls = f"SELECT sum(cost) {joined}", f"SELECT sum(cost * price) {joined} AND number <> 11"
    first, second = explained(product, *sqls, history=tmp_path / "history")
    assert first == []
    assert ": sum(cost): it differs in fewer than 10 units from earlier result 1" in second
    assert ": sum(cost*price): the same sum without the public column is withheld" in second


def test_earlier_results_are_named(product: Path, tmp_path: Path) -> None:
    everybody = "SELECT count(*) FROM visits"
    wards = "SELECT ward, count(*) FROM visits WHERE number {} GROUP BY ward"
    first, second, third, groups, fewer = explained(
        product,
        everybody,
        f"{everybody} WHERE number > 50",
        f"{everybody} WHERE number <> 8",
        wards.format("<> 361"),
        wards.format("NOT IN (20, 21, 220, 221, 222, 361)"),
        history=tmp_path / "history",
    )
    assert first == second == []
    assert third == [": count(*): it differs in fewer than 10 units from earlier result 1"]
    assert "rare: count(*): 5 units contribute; this group needs 10" in groups
    assert "f: count(*): it differs in fewer than 10 units from earlier result 1" in groups
    assert "a: count(*): it differs in fewer than 10 units from earlier result 3" in fewer
    last = "more than 4 groups differ too little from earlier results, so nothing comes out"
    assert f"f: all: {last}" in fewer
    assert not any(last in line for line in groups)


def test_nothing_withheld_is_nothing_said(product: Path) -> None:
    assert list(explained(product, "SELECT count(*) FROM visits")) == [[]]


def test_every_rule_has_words() -> None:
    for rule in Rule:
        said = why(Withholding(0, (), "count(*)", 3, str(rule), 10, (), (1,)), ReleaseRules())
        assert len(said) > 20
        assert said != rule


def test_without_it_groups_are_only_counted(product: Path) -> None:
    (quiet,) = dry_run([product], ["SELECT ward, count(*) FROM visits GROUP BY ward"])
    assert quiet["withheld_groups"] == 1
    assert "withheld" not in quiet


def test_the_command_says_it_to_people(product: Path) -> None:
    run = ("sandbox", "run", "--product", product, "--sql", EXPECTED[Rule.RESULT][0])
    told = luoshu(*run, "--explain")
    assert told.returncode == 0
    assert "it differs in fewer than 10 units from count(*) of all rows" in told.stdout
    assert "2 groups withheld; only the holder sees this." in told.stderr
    plain = luoshu(*run)
    assert "--explain says which, and why." in plain.stderr
    assert "withheld group" not in plain.stdout
    assert luoshu(*run, "--explain", "--as", "analyst").returncode == 2


def test_every_rule_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "dry-run.md").read_text(encoding="utf-8")
    assert [rule for rule in Rule if f"| `{rule}` |" not in page] == []
