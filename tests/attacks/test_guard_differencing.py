"""What two or more answers give away together: totals without one person, in every disguise.

Each sequence goes after the first person of a cohort of 50: with what it was
told, it computes the target's income (or that there is one more person) and
must not get there. All sequences of a session share one release history, as
one participant's questions do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from attack_world import (
    COHORT,
    Differencing,
    Recover,
    Rows,
    assert_tells_nothing,
    cost_of,
    differences,
    first,
    income_of,
    numbers,
    one,
    write_town,
)
from unwalled import unwalled_dry_runs

from luoshu.sandbox.dry_run import Answer, dry_run

pytestmark = pytest.mark.system

_SUM = "SELECT sum(income) FROM person WHERE cohort = '{c}'"
_COUNT = "SELECT count(*) FROM person WHERE cohort = '{c}'"
_FROM = "FROM person WHERE cohort = '{c}'"
_WITHOUT = " AND email <> '{mail}'"
_SWITCH = (
    "SELECT count(*) FROM person WHERE district = 'd0' AND (SELECT sum(income) FROM person "
    "WHERE cohort = '{c}' AND email <> '{mail}') > {rest} <move>"
)
_COMPARE = (
    "SELECT count(*) FROM person WHERE district = 'd0' AND income < (SELECT 1000000 * "
    "(sum(income) - {rest} <move>) FROM person WHERE cohort = '{c}' AND email <> '{mail}')"
)
_VISITS = "SELECT sum(cost) FROM visit WHERE cohort = '{c}'"


def averages(told: Sequence[Rows]) -> Iterator[float]:
    """Sums from averages and counts."""
    sums = [a * n for k in range(len(told)) for a in first(told, k) for n in first(told, k, 1)]
    return (a - b for a in sums for b in sums)


def scaled(of_first: float, of_second: float) -> Recover:
    """The first numbers, each divided by its factor, subtracted."""

    def recover(told: Sequence[Rows]) -> Iterator[float]:
        for a in first(told, 0):
            yield from (a / of_first - b / of_second for b in first(told, 1))

    return recover


def rest_of_total(told: Sequence[Rows]) -> Iterator[float]:
    """Of each column: the largest number minus all others, and minus any choice of the others."""
    rows = [row for answer in told for row in answer]
    for column in range(max((len(row) for row in rows), default=0)):
        found = sorted(n for row in rows for n in numbers(row[column : column + 1]))
        if not found:
            continue
        *others, total = found
        for choice in range(1 << min(len(others), 12)):
            yield total - sum(n for k, n in enumerate(others[:12]) if choice >> k & 1)


def sum_less_last(told: Sequence[Rows]) -> Iterator[float]:
    """The first column of the first answer, added up, less the number of the last answer."""
    total = sum(n for row in told[0] for n in numbers(row[:1]))
    yield from (total - n for n in first(told, -1))


def few(told: Sequence[Rows]) -> Iterator[float]:
    """Whether two counts differ by less than ten people, but by some."""
    if any(0 < abs(difference) < 10 for difference in differences(told)):
        yield 1.0


def switched(told: Sequence[Rows]) -> Iterator[float]:
    """Whether a large count came with one bound and not with the next: the sum lies between."""
    lower, upper, total = (list(first(told, n)) for n in range(3))
    if total and lower != upper:
        yield 1.0


def shifted(told: Sequence[Rows]) -> Iterator[float]:
    """A sum of incomes, each with 1,000 added for 49 people, off the plain one."""
    for a in first(told, 0):
        yield from (a - (b - 1000 * (COHORT - 1)) for b in first(told, 1))


SEQUENCES = [
    Differencing("total_then_without", "subtract", (_SUM, _SUM + _WITHOUT), income_of),
    Differencing("without_then_total", "subtract", (_SUM + _WITHOUT, _SUM), income_of),
    Differencing("count_then_without", "is there one more", (_COUNT, _COUNT + _WITHOUT), one),
    Differencing(
        "averages",
        "sums from averages",
        tuple(
            f"SELECT avg(income), count(income) FROM person WHERE cohort = '{{c}}'{rest}"
            for rest in ("", _WITHOUT)
        ),
        income_of,
        averages,
    ),
    Differencing(
        "sum_then_average",
        "another aggregate of the same",
        (_SUM, "SELECT avg(income) * 49 FROM person WHERE cohort = '{c}'" + _WITHOUT),
        income_of,
    ),
    Differencing(
        "variances",
        "sums from the averages beside variances",
        tuple(
            "SELECT avg(income), count(income), var_pop(income) FROM person "
            f"WHERE cohort = '{{c}}'{rest}"
            for rest in ("", _WITHOUT)
        ),
        income_of,
        averages,
    ),
    Differencing(
        "twice_the_income",
        "every contribution is another one",
        (_SUM, "SELECT sum(2 * income) FROM person WHERE cohort = '{c}'" + _WITHOUT),
        income_of,
        scaled(1, 2),
    ),
    Differencing(
        "minus_the_income",
        "every contribution is another one",
        (_SUM, "SELECT sum(-income) FROM person WHERE cohort = '{c}'" + _WITHOUT),
        income_of,
        scaled(1, -1),
    ),
    Differencing(
        "income_and_a_thousand",
        "every contribution is another one",
        (_SUM, "SELECT sum(income + 1000) FROM person WHERE cohort = '{c}'" + _WITHOUT),
        income_of,
        shifted,
    ),
    Differencing(
        "income_by_a_quarter",
        "every contribution is another one",
        (_SUM, "SELECT sum(income / 4) FROM person WHERE cohort = '{c}'" + _WITHOUT),
        income_of,
        scaled(1, 0.25),
    ),
    Differencing(
        "twice_by_public_rows",
        "every contribution is another one, by a join with two public rows",
        (
            _SUM,
            "SELECT sum(p.income) FROM person p, codes k WHERE k.code < 2 AND p.cohort = '{c}' "
            "AND p.email <> '{mail}'",
        ),
        income_of,
        scaled(1, 2),
    ),
    Differencing(
        "four_times_by_own_rows",
        "every contribution is another one, by a join with the own four visits",
        (
            _SUM,
            "SELECT sum(p.income) FROM person p JOIN visit v ON p.person_id = v.visitor "
            "WHERE p.cohort = '{c}' AND p.email <> '{mail}'",
        ),
        income_of,
        scaled(1, 4),
    ),
    Differencing(
        "visits_twice_by_public_rows",
        "every contribution is another one, and one row of the target is left out",
        (
            _VISITS,
            "SELECT sum(v.cost) FROM visit v, codes k WHERE k.code < 2 AND v.cohort = '{c}' "
            "AND v.serial <> '{serial}'",
        ),
        cost_of,
        scaled(1, 2),
    ),
    Differencing(
        "one_filter_clause",
        "both in one row",
        (
            "SELECT sum(income), sum(income) FILTER (WHERE email <> '{mail}') FROM person "
            "WHERE cohort = '{c}'",
        ),
        income_of,
    ),
    Differencing(
        "one_filter_clause_counted",
        "both in one row",
        (
            "SELECT count(*), count(*) FILTER (WHERE email <> '{mail}') FROM person "
            "WHERE cohort = '{c}'",
        ),
        one,
    ),
    Differencing(
        "one_case",
        "both in one row",
        (
            "SELECT sum(income), sum(CASE WHEN squad <> 'solo' THEN income END) FROM person "
            "WHERE cohort = '{c}'",
        ),
        income_of,
    ),
    Differencing(
        "difference_of_aggregates",
        "subtract before the answer",
        (
            "SELECT sum(income) - sum(income) FILTER (WHERE squad <> 'solo') FROM person "
            "WHERE cohort = '{c}'",
        ),
        income_of,
        answered=False,
    ),
    Differencing(
        "difference_of_subqueries",
        "subtract before the answer",
        (f"SELECT ({_SUM}) - ({_SUM}{_WITHOUT})",),
        income_of,
        answered=False,
    ),
    Differencing(
        "difference_of_ctes",
        "subtract before the answer",
        (f"WITH a(x) AS ({_SUM}), b(y) AS ({_SUM}{_WITHOUT}) SELECT x - y FROM a, b",),
        income_of,
        answered=False,
    ),
    Differencing(
        "union_of_both",
        "both in one answer",
        (f"{_SUM} UNION ALL {_SUM} AND squad <> 'solo'",),
        income_of,
    ),
    Differencing(
        "union_of_both_reversed",
        "both in one answer, the smaller one first",
        (f"{_SUM} AND squad <> 'solo' UNION ALL {_SUM}",),
        income_of,
    ),
    Differencing(
        "united_rows",
        "everyone, then everyone twice but the target once",
        (
            _SUM,
            f"SELECT sum(x) FROM (SELECT income AS x {_FROM} "
            f"UNION ALL SELECT income {_FROM}{_WITHOUT})",
        ),
        income_of,
        scaled(0.5, 1),
    ),
    Differencing(
        "united_rows_in_one",
        "both in one sum, less what is known",
        (
            _SUM,
            f"SELECT sum(x) FROM (SELECT income AS x {_FROM} "
            f"UNION ALL SELECT -income {_FROM}{_WITHOUT})",
        ),
        income_of,
    ),
    Differencing(
        "united_units",
        "people of one arm and the other, without one in both",
        (
            _COUNT,
            f"SELECT count(DISTINCT u) FROM (SELECT person_id AS u {_FROM}{_WITHOUT} AND sex = 'f' "
            f"UNION ALL SELECT person_id {_FROM}{_WITHOUT} AND sex = 'm')",
        ),
        one,
    ),
    Differencing(
        "united_keys",
        "a key for everyone, and one for all but the target",
        (
            f"SELECT k, sum(x) FROM (SELECT 'a' AS k, income AS x {_FROM} UNION ALL "
            f"SELECT 'b', income {_FROM}{_WITHOUT}) GROUP BY k",
        ),
        income_of,
    ),
    Differencing(
        "rollup",
        "the total, minus all groups but the withheld one",
        (
            "SELECT squad, sum(income), count(*) FROM person WHERE cohort = '{c}' "
            "GROUP BY ROLLUP (squad)",
        ),
        income_of,
        rest_of_total,
    ),
    Differencing(
        "rollup_counted",
        "the total, minus all groups but the withheld one",
        ("SELECT squad, count(*) FROM person WHERE cohort = '{c}' GROUP BY ROLLUP (squad)",),
        one,
        rest_of_total,
    ),
    Differencing(
        "cube",
        "totals two ways",
        (
            "SELECT squad, cohort, sum(income) FROM person WHERE cohort = '{c}' "
            "GROUP BY CUBE (squad, cohort)",
        ),
        income_of,
        rest_of_total,
    ),
    Differencing(
        "grouping_sets",
        "the total, minus all groups but the withheld one",
        (
            "SELECT squad, sum(income) FROM person WHERE cohort = '{c}' "
            "GROUP BY GROUPING SETS ((squad), ())",
        ),
        income_of,
        rest_of_total,
    ),
    Differencing(
        "total_then_partition",
        "the total, minus all groups but the withheld one",
        (_SUM, "SELECT squad, sum(income) FROM person WHERE cohort = '{c}' GROUP BY squad"),
        income_of,
        lambda told: rest_of_total([[[n] for n in first(told, 0)], [r[1:] for r in told[1]]]),
    ),
    Differencing(
        "partition_then_total",
        "the total, minus all groups but the withheld one",
        ("SELECT sum(income) FROM person WHERE cohort = '{c}' GROUP BY squad", _SUM),
        income_of,
        rest_of_total,
    ),
    Differencing(
        "partition_without_then_total",
        "groups that leave the target out, then all",
        (
            "SELECT sum(income) FROM person WHERE cohort = '{c}'" + _WITHOUT + " GROUP BY sex",
            _SUM,
        ),
        income_of,
        rest_of_total,
    ),
    Differencing(
        "total_then_partition_without",
        "all, then groups that leave the target out",
        (
            _SUM,
            "SELECT sum(income) FROM person WHERE cohort = '{c}'" + _WITHOUT + " GROUP BY sex",
        ),
        income_of,
        rest_of_total,
    ),
    Differencing(
        "sum_of_released_groups",
        "the sum of the released groups, computed by the query, then all",
        (
            "SELECT sum(s) FROM (SELECT squad, sum(income) AS s FROM person "
            "WHERE cohort = '{c}' GROUP BY squad)",
            _SUM,
        ),
        income_of,
    ),
    Differencing(
        "window_beside_total",
        "the total by a window over released groups, and the total",
        (
            "SELECT squad, sum(income) - sum(sum(income)) OVER () FROM person "
            "WHERE cohort = '{c}' GROUP BY ROLLUP (squad)",
        ),
        income_of,
        rest_of_total,
    ),
    Differencing(
        "people_then_visitors",
        "count people, then visitors without the target",
        (
            _COUNT,
            "SELECT count(DISTINCT visitor) FROM visit WHERE cohort = '{c}' AND visitor NOT IN "
            "(SELECT visitor FROM visit WHERE serial = '{serial}')",
        ),
        one,
    ),
    Differencing(
        "distinct_then_rows",
        "people counted, then rows without the target",
        (
            "SELECT count(DISTINCT person_id) FROM person WHERE cohort = '{c}'",
            _COUNT + _WITHOUT,
        ),
        one,
    ),
    Differencing(
        "rows_of_one_person",
        "the same people, one visit less",
        (_VISITS, _VISITS + " AND serial <> '{serial}'"),
        cost_of,
    ),
    Differencing(
        "rows_of_one_person_counted",
        "the same people, one visit less",
        (
            "SELECT count(*) FROM visit WHERE cohort = '{c}'",
            "SELECT count(*) FROM visit WHERE cohort = '{c}' AND serial <> '{serial}'",
        ),
        one,
    ),
    Differencing(
        "rows_of_one_person_on_a_path",
        "the same people, the items of one visit less",
        tuple(
            "SELECT sum(i.amount) FROM item i JOIN visit v ON i.item_visit = v.visit_no "
            f"WHERE v.cohort = '{{c}}'{rest}"
            for rest in ("", " AND v.serial <> '{serial}'")
        ),
        lambda person: 3 + 2 * (4 * person % 9),
    ),
    Differencing(
        "rows_averaged",
        "the average per person, one visit less",
        tuple(
            "SELECT avg(s), count(*) FROM (SELECT visitor, sum(cost) AS s FROM visit "
            f"WHERE cohort = '{{c}}'{rest} GROUP BY visitor)"
            for rest in ("", " AND serial <> '{serial}'")
        ),
        cost_of,
        averages,
    ),
    Differencing(
        "days_then_total",
        "each person is in every group; then all visits but one of the target",
        (
            "SELECT sum(cost) FROM visit WHERE cohort = '{c}' GROUP BY day",
            _VISITS + " AND serial <> '{serial}'",
        ),
        cost_of,
        sum_less_last,
    ),
    Differencing(
        "total_then_days",
        "all visits; then each person in every group, but one visit of the target in none",
        (
            _VISITS,
            "SELECT sum(cost) FROM visit WHERE cohort = '{c}' AND serial <> '{serial}' "
            "GROUP BY day",
        ),
        cost_of,
        rest_of_total,
    ),
    Differencing(
        "days_counted_in_many_ways",
        "the same, beside other aggregates that add up the like",
        (
            "SELECT count(*), count(cost), count(DISTINCT visitor), avg(cost) FROM visit "
            "WHERE cohort = '{c}' GROUP BY day",
            "SELECT count(*) FROM visit WHERE cohort = '{c}' AND serial <> '{serial}'",
        ),
        one,
        sum_less_last,
    ),
    Differencing(
        "days_and_wards_then_total",
        "the same over more groups than can be tried one by one",
        (
            "SELECT count(*), count(cost) FROM visit WHERE cohort = '{c}' GROUP BY day, ward",
            "SELECT count(*) FROM visit WHERE cohort = '{c}' AND serial <> '{serial}'",
        ),
        one,
        sum_less_last,
    ),
    Differencing(
        "by_income",
        "leave out whoever earns most",
        (_SUM, _SUM + " AND income < 90000"),
        income_of,
    ),
    Differencing(
        "by_income_in_having",
        "leave out whoever earns most, by a condition on the person's own sum",
        (
            _SUM,
            "SELECT sum(s) FROM (SELECT person_id, sum(income) AS s FROM person "
            "WHERE cohort = '{c}' GROUP BY person_id HAVING sum(income) < 90000)",
        ),
        income_of,
    ),
    Differencing(
        "by_own_subquery",
        "leave out whoever has that visit",
        (
            _SUM,
            _SUM + " AND person_id NOT IN (SELECT visitor FROM visit WHERE serial = '{serial}')",
        ),
        income_of,
    ),
    Differencing(
        "by_not_exists",
        "leave out whoever has that visit",
        (
            _SUM,
            "SELECT sum(p.income) FROM person p WHERE p.cohort = '{c}' AND NOT EXISTS (SELECT 1 "
            "FROM visit v WHERE v.visitor = p.person_id AND v.serial = '{serial}')",
        ),
        income_of,
    ),
    Differencing(
        "by_list_of_squads",
        "name all squads but one",
        (_SUM, _SUM + " AND squad IN ('s0', 's1', 's2')"),
        income_of,
    ),
    Differencing(
        "by_negation",
        "all but one squad",
        (_SUM, _SUM + " AND NOT (squad = 'solo')"),
        income_of,
    ),
    Differencing(
        "by_join_with_public",
        "a public table that names all squads but one",
        (
            _SUM,
            "SELECT sum(income) FROM person JOIN (VALUES ('s0'), ('s1'), ('s2')) q(s) "
            "ON squad = s WHERE cohort = '{c}'",
        ),
        income_of,
    ),
    Differencing(
        "other_words",
        "the same by other names, quotes and comments",
        (
            'SELECT sum("INCOME") AS a FROM "person" AS q WHERE q.cohort = $${c}$$',
            "WITH x AS (SELECT income AS y, email AS z FROM person WHERE cohort = '{c}') "
            "SELECT /* b */ sum(x.y) AS b FROM x WHERE z <> '{mail}'",
        ),
        income_of,
    ),
    Differencing(
        "search_by_income",
        "move a bound until one more person is counted",
        tuple(
            "SELECT count(*) FROM person WHERE cohort = '{c}' AND income < " + str(bound)
            for bound in range(40000, 95000, 5000)
        ),
        one,
        few,
    ),
    Differencing(
        "search_by_switch",
        "move a bound until a sum without the target, which is never told, passes it",
        (_SWITCH.replace("<move>", "- 0.01"), _SWITCH.replace("<move>", "+ 0.01"), _SUM),
        one,
        switched,
        answered=False,
    ),
    Differencing(
        "search_by_many_comparisons",
        "the same, by comparing each person's income with the sum",
        (_COMPARE.replace("<move>", "- 0.5"), _COMPARE.replace("<move>", "+ 0.5"), _SUM),
        one,
        switched,
        answered=False,
    ),
    Differencing(
        "search_by_age",
        "move a bound until a few more people are counted",
        tuple(
            "SELECT count(*) FROM person WHERE cohort = '{c}' AND age >= " + str(bound)
            for bound in range(20, 36, 3)
        ),
        one,
        few,
    ),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[int, list[Answer]]]:
    """What every sequence was answered, by name: two participants, a history each."""
    directory = tmp_path_factory.mktemp("history")
    products = write_town(directory)

    def ask(part: int) -> dict[str, tuple[int, list[Answer]]]:
        chosen = SEQUENCES[part::2]
        each = [(n, sequence.statements(n)) for n, sequence in enumerate(chosen, 1)]
        with unwalled_dry_runs():
            answers = dry_run(
                products[:1],
                [sql for _, sqls in each for sql in sqls],
                as_analyst=True,
                history=directory / f"participant-{part}",
            )
            return {
                sequence.name: (cohort, [next(answers) for _ in sqls])
                for sequence, (cohort, sqls) in zip(chosen, each, strict=True)
            }

    with ThreadPoolExecutor(2) as pool:
        first_half, second_half = pool.map(ask, (0, 1))
    return first_half | second_half


@pytest.mark.parametrize("sequence", SEQUENCES, ids=str)
def test_answers_do_not_add_up(
    told: Mapping[str, tuple[int, list[Answer]]], sequence: Differencing
) -> None:
    sequence.check(*told[sequence.name])


def _asked(products: Sequence[Path], history: Path, *sqls: str) -> list[Answer]:
    with unwalled_dry_runs():
        answers = list(dry_run(products, sqls, as_analyst=True, history=history))
    for answer in answers:
        assert_tells_nothing(answer)
        assert answer["status"] == "released", answer
    return answers


_TEN = _SUM.format(c="c10")
_ELEVEN = _SUM.format(c="c11")
_TWELVE = _SUM.format(c="c12")


def _value(answer: Answer) -> object:
    rows = answer["rows"]
    assert isinstance(rows, list)
    return rows[0][0]


def test_versions_are_compared(tmp_path: Path) -> None:
    # Republished: one person left, another one's income was corrected, twenty came.
    history = tmp_path / "history"
    before = _asked(write_town(tmp_path / "1")[:1], history, _TEN, _ELEVEN, _TWELVE)
    assert None not in map(_value, before)
    edits = (
        f"DELETE FROM person WHERE i = {10 * COHORT}",
        f"UPDATE person SET income = income + 1 WHERE i = {11 * COHORT}",
        "INSERT INTO person SELECT * REPLACE (i + 100000 AS i, 'N-' || i AS person_id, "
        "'new' || i AS email) FROM person WHERE cohort = 'c12' AND i % 50 BETWEEN 1 AND 20",
    )
    after = _asked(write_town(tmp_path / "2", edits=edits)[:1], history, _TEN, _ELEVEN, _TWELVE)
    assert [_value(answer) for answer in after[:2]] == [None, None]
    assert _value(after[2]) not in {None, _value(before[2])}


def test_another_name_is_the_same_product(tmp_path: Path) -> None:
    # Another id, other table and column names, the same people: the privacy domain says so.
    history = tmp_path / "history"
    (before,) = _asked(write_town(tmp_path / "1")[:1], history, _TEN)
    assert _value(before) is not None
    edit = f"DELETE FROM person WHERE i = {10 * COHORT}"
    (town, _) = write_town(tmp_path / "2", edits=(edit,))
    renamed = town.read_text(encoding="utf-8").replace("id: town", "id: village")
    town.write_text(renamed.replace("  person:\n", "  folk:\n"), encoding="utf-8")
    (after,) = _asked([town], history, _TEN.replace("FROM person", "FROM folk"))
    assert _value(after) is None


def test_same_question_same_answer(tmp_path: Path) -> None:
    products, history = write_town(tmp_path / "data")[:1], tmp_path / "history"
    (before,) = _asked(products, history, _TEN)
    again, spelt = _asked(products, history, _TEN, _TEN.replace("sum", "SUM"))
    assert before == again
    assert _value(before) == _value(spelt) is not None


def test_two_workers_at_once(tmp_path: Path) -> None:
    # The total and the total without one person, asked at the same time: one of them is told.
    products, history = write_town(tmp_path / "data")[:1], tmp_path / "history"
    without = _TEN + f" AND email <> 'user{10 * COHORT}@mail.example'"
    preparing, both = threading.Lock(), threading.Barrier(2, timeout=60)

    def ask(sql: str) -> object:
        asked = dry_run(products, [_TWELVE, sql], as_analyst=True, history=history)
        with unwalled_dry_runs(), closing(asked) as answers:
            with preparing:
                assert _value(next(answers)) is not None
            both.wait()
            return _value(next(answers))

    with ThreadPoolExecutor(2) as pool:
        values = list(pool.map(ask, (_TEN, without)))
    assert sum(value is not None for value in values) == 1
