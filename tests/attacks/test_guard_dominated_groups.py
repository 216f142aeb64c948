"""Subqueries over other people, of whom one is nearly all: nothing may hang on that one.

Forty people have a few bills of 1 to 40. One more person's bills are what an attacker is after: as
an average, sum or number of others they would move a limit past many people's bills at once, and
no two answers would differ by few people.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from guard_session import GuardSession, Row

from luoshu.sandbox.schema import (
    BIGINT,
    VARCHAR,
    ColumnSchema,
    TableSchema,
    UnitKey,
    Use,
)

G, F, A = Use.GROUP, Use.FILTER, Use.AGGREGATE
BILL = TableSchema(
    "p0",
    "bill",
    "pid",
    (
        ColumnSchema("ward", VARCHAR, frozenset({G, F})),
        ColumnSchema("amount", BIGINT, frozenset({A, F}), (-(10**9), 10**9), 10**9),
        ColumnSchema("level", BIGINT, frozenset({G, F}), (0, 10**9), 10**9),
    ),
    domain="people",
    keys=(UnitKey("people", ("pid",)),),
)
HER = 40


def bills(*hers: tuple[str, int]) -> list[Row]:
    others = [(pid, "ab"[pid % 2], 1 + (pid * 7 + n) % 40, n) for pid in range(40) for n in (0, 1)]
    return [*others, *((HER, ward, amount, 0) for ward, amount in hers)]


def one(ward: str, amount: int, times: int = 1) -> list[tuple[str, int]]:
    return [(ward, amount)] * times


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardSession]:
    session = GuardSession(tmp_path_factory.mktemp("session"), (BILL,), min_units=3)
    yield session
    session.close()


def told(session: GuardSession, hers: list[tuple[str, int]], sql: str) -> list[Row]:
    session.forget()
    session.fill({"bill": bills(*hers)})
    return session.ask(sql).rows


ATTACKS = {
    "average": "amount < (SELECT avg(amount) FROM bill)",
    "share_of_an_average": "amount < (SELECT 0.5 * avg(amount) FROM bill)",
    "sum": "amount < (SELECT sum(amount) FROM bill)",
    "sum_with_filter": "amount < (SELECT sum(amount) FILTER (WHERE ward = 'a') FROM bill)",
    "average_of_a_group": (
        "amount < (SELECT avg(b.amount) FROM bill b WHERE b.ward = 'a' AND b.level = 0)"
    ),
    "average_of_sums": (
        "amount < (SELECT avg(s) FROM (SELECT pid, sum(amount) AS s FROM bill GROUP BY pid))"
    ),
    "sum_of_sums": (
        "amount < (SELECT sum(s) FROM (SELECT pid, ward, sum(amount) AS s FROM bill "
        "GROUP BY pid, ward))"
    ),
}


@pytest.mark.parametrize("condition", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("amount", [10**6, 10**9, -(10**8)])
def test_average_of_one_rich_person_influences_no_row(
    opened: GuardSession, condition: str, amount: int
) -> None:
    sql = f"SELECT count(*) FROM bill WHERE {condition}"
    assert told(opened, one("a", amount), sql) == [(None,)]
    # The same is answered where nobody dominates: nothing is refused that could be told.
    assert None not in told(opened, one("a", 30), sql)[0]


@pytest.mark.parametrize("times", [600, 900])
def test_number_of_one_persons_rows_influences_no_row(opened: GuardSession, times: int) -> None:
    sql = "SELECT count(DISTINCT pid) FROM bill WHERE level < (SELECT count(*) FROM bill)"
    assert told(opened, one("a", 5, times), sql) == [(None,)]
    assert told(opened, one("a", 5, 10), sql) == [(41,)]


def test_signs_hide_nobody(opened: GuardSession) -> None:
    """Large contributions of both signs: the sum looks ordinary, one person is all of it."""
    sql = "SELECT count(*) FROM bill WHERE amount < (SELECT sum(amount) FROM bill WHERE level = 0)"
    session_rows = [*bills(), (HER, "a", 10**8, 0), (HER, "b", -(10**7), 0)]
    opened.forget()
    opened.fill({"bill": session_rows})
    assert opened.ask(sql).rows == [(None,)]


def test_only_the_dominated_group_is_dropped(opened: GuardSession) -> None:
    sql = (
        "SELECT b.ward, count(*) FROM bill b JOIN (SELECT ward, avg(amount) AS m FROM bill "
        "GROUP BY ward) s ON s.ward = b.ward WHERE b.amount <= s.m GROUP BY b.ward ORDER BY 1"
    )
    assert [row[0] for row in told(opened, one("a", 30), sql)] == ["a", "b"]
    dominated = told(opened, one("a", 10**6), sql)
    assert [row[0] for row in dominated] == ["b"]
    assert dominated == told(opened, one("a", 10**9), sql)


def test_share_just_allowed_counts(opened: GuardSession) -> None:
    """85 % and no more: the sum of the others' absolute contributions is known here."""
    others = sum(row[2] for row in bills())
    most = others * 85 // 15
    sql = "SELECT count(DISTINCT pid) FROM bill WHERE level < (SELECT sum(amount) FROM bill)"
    assert told(opened, one("a", most), sql) == [(41,)]
    assert told(opened, one("a", most + 1), sql) == [(None,)]


def test_people_who_contribute_nothing_are_no_crowd(opened: GuardSession) -> None:
    sql = (
        "SELECT count(DISTINCT pid) FROM bill WHERE level < "
        "(SELECT sum(amount) FROM bill WHERE ward = 'c')"
    )
    for zeros, expected in ((30, [(None,)]), (0, [(None,)])):
        rows = [*bills(), *((pid, "c", 0, 0) for pid in range(zeros)), (1, "c", 50, 0)]
        opened.forget()
        opened.fill({"bill": [*rows, (2, "c", 50, 0)]})
        assert opened.ask(sql).rows == expected
        opened.forget()
        opened.fill({"bill": [*rows, (2, "c", 50, 0), (3, "c", 50, 0)]})
        assert opened.ask(sql).rows == [(40,)]
