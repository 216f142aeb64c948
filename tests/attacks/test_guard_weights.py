"""Numbers of public tables as weights: digits of one sum that tell each person's value.

Everybody but the target has an ordinary value; which public row somebody meets is known. Each
attack computes the target's value from what is told, exactly, if it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import pytest
from guard_session import GuardSession

from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.schema import BIGINT, VARCHAR, ColumnSchema, TableSchema, Use, ValueType

G, F, A = Use.GROUP, Use.FILTER, Use.AGGREGATE
EVERY = frozenset({G, F, A})
MONEY = ValueType("DECIMAL", 18, 2)
PERSON = TableSchema(
    "p0",
    "person",
    "pid",
    (
        ColumnSchema("code", BIGINT, frozenset({G, F}), None, 2**63),
        ColumnSchema("x", BIGINT, frozenset({A}), (-1000, 1000), 1000),
        ColumnSchema("kind", VARCHAR, frozenset({G, F})),
    ),
    domain="people",
)
PRICE = TableSchema(
    "p0",
    "price",
    None,
    (
        ColumnSchema("code", BIGINT, EVERY, None, 2**63),
        ColumnSchema("w", BIGINT, EVERY, None, 2**63),
        ColumnSchema("v", MONEY, EVERY, None, 10**18 - 1),
    ),
    unique=(("code",),),
)
TARGET = 30
SECRET = 7
JOIN = "FROM person JOIN price USING (code)"
Told = Sequence[Sequence[object]]


@dataclass(frozen=True)
class Weights:
    """An attack.

    Attributes:
        people: Code, value and kind of each person's rows, by person; the target comes last.
        prices: The weights by code.
        sqls: What is asked, one after the other.
        solve: From the first row of each answer, the target's value.
        is_refused: Whether the guard refuses it; else the release stage withholds a value.
    """

    people: Sequence[Sequence[tuple[int, int, str]]]
    prices: Sequence[tuple[int, int, Fraction | int]]
    sqls: tuple[str, ...]
    solve: Callable[[Told], object]
    is_refused: bool = False


def crowd(
    count: int, code: Callable[[int], int], value: int = 5
) -> list[list[tuple[int, int, str]]]:
    return [[(code(n), value, "k")] for n in range(count)]


def number(cell: object) -> int:
    return int(str(cell))


def digit(told: Told) -> int:
    return int(Fraction(str(told[0][0]))) // 10**12 % 10


HER = [[(TARGET, SECRET, "k")]]
# The largest weight belongs to somebody of value 1, so that nobody dominates.
LADDER = [*((code, 10**code, 1) for code in range(12)), (12, 10**13, 1), (TARGET, 10**12, 1)]
RUNGS = [*crowd(12, lambda n: n), [(12, 1, "k")]]
ROUND = [(code, 1000 * (code + 1), code + 1) for code in range(4)]
ODD = [*ROUND, (TARGET, 1, Fraction(1, 100))]
FIELDS = [(1, 1 + 2**20, 0), (2, 2**40, 0), (TARGET, 1, 0)]

ATTACKS = {
    "digits": Weights(
        [*RUNGS, [(TARGET, SECRET, "k")]],
        LADDER,
        (f"SELECT sum(x * w) {JOIN}",),
        digit,
    ),
    "digits of a count": Weights(
        [*RUNGS, [(TARGET, 1, "k")] * SECRET],
        LADDER,
        (f"SELECT sum(w) {JOIN}",),
        digit,
    ),
    "digits of a mean": Weights(
        [*RUNGS, [(TARGET, SECRET, "k")]],
        [(code, w // 10**4, 0) for code, w, _ in LADDER],
        (f"SELECT avg(x * w), count(*) {JOIN}",),
        lambda told: round(float(str(told[0][0])) * number(told[0][1])) // 10**8 % 10,
    ),
    "remainder": Weights(
        [*crowd(40, lambda n: n % 4), *HER],
        ODD,
        (f"SELECT sum(x * w) {JOIN}",),
        lambda told: number(told[0][0]) % 1000,
    ),
    "remainder of cents": Weights(
        [*crowd(40, lambda n: n % 4), *HER],
        ODD,
        (f"SELECT sum(x * v) {JOIN}",),
        lambda told: Fraction(str(told[0][0])) % 1 * 100,
    ),
    "beside the plain sum": Weights(
        [*crowd(40, lambda _: 0), *HER],
        [(0, 6, 0), (TARGET, 5, 0)],
        (f"SELECT sum(x), sum(x * w) {JOIN}",),
        lambda told: 6 * number(told[0][0]) - number(told[0][1]),
    ),
    "after the groups": Weights(
        [*crowd(40, lambda n: n % 2), *HER],
        [(0, 2, 0), (1, 3, 0), (TARGET, 3, 0)],
        (
            f"SELECT sum(x) FILTER (code = 0), sum(x) FILTER (code = 1) {JOIN}",
            f"SELECT sum(x * w) {JOIN}",
        ),
        lambda told: (number(told[1][0]) - 2 * number(told[0][0]) - 3 * number(told[0][1])) // 3,
    ),
    "before the groups": Weights(
        [*crowd(40, lambda n: n % 2), *HER],
        [(0, 2, 0), (1, 3, 0), (TARGET, 3, 0)],
        (
            f"SELECT sum(x * w) {JOIN}",
            f"SELECT sum(x) FILTER (code = 0), sum(x) FILTER (code = 1) {JOIN}",
        ),
        lambda told: (number(told[0][0]) - 2 * number(told[1][0]) - 3 * number(told[1][1])) // 3,
    ),
    "two fields of digits": Weights(
        [*crowd(40, lambda n: 1 + n % 2), *HER],
        FIELDS,
        (f"SELECT sum(x * w) {JOIN}",),
        lambda told: number(told[0][0]) % 2**20 - number(told[0][0]) // 2**20 % 2**20,
    ),
    "negative weights": Weights(
        [*crowd(40, lambda n: n % 4), *HER],
        [(code, -w, 0) for code, w, _ in ODD],
        (f"SELECT sum(x * w) {JOIN}",),
        lambda told: -number(told[0][0]) % 1000,
    ),
    "a negative weight among others": Weights(
        [*crowd(40, lambda _: 0), *HER],
        [(0, 1, 0), (TARGET, -1, 0)],
        (f"SELECT sum(x), sum(x * w) {JOIN}",),
        lambda told: (number(told[0][0]) - number(told[0][1])) // 2,
    ),
    "a weight of zero among others": Weights(
        [*crowd(40, lambda _: 0), *HER],
        [(0, 5, 0), (TARGET, 0, 0)],
        (f"SELECT sum(x), sum(x * w) {JOIN}",),
        lambda told: number(told[0][0]) - number(told[0][1]) // 5,
    ),
    "beside people whom a filter leaves out": Weights(
        [*crowd(40, lambda n: n % 4), *([(0, 5, "other")] for _ in range(40)), *HER],
        ODD,
        (f"SELECT sum(x * w) FILTER (kind = 'k') {JOIN}",),
        lambda told: number(told[0][0]) % 1000,
    ),
    "padded by rows of zeros": Weights(
        [*([(code, 5, "k"), (TARGET, 0, "k")] for code in (0, 1) for _ in range(20)), *HER],
        ODD,
        (f"SELECT sum(x * w) {JOIN}",),
        lambda told: number(told[0][0]) % 1000,
    ),
    "rows that cancel out": Weights(
        [*crowd(40, lambda n: n % 4), [(TARGET, SECRET, "k"), (0, -SECRET, "k")]],
        ODD,
        (f"SELECT sum(x * w) {JOIN}",),
        lambda told: number(told[0][0]) % 1000,
    ),
    "within one unit": Weights(
        [*RUNGS, *HER],
        LADDER,
        (f"SELECT sum(s) FROM (SELECT pid, sum(x * w) AS s {JOIN} GROUP BY pid)",),
        digit,
        is_refused=True,
    ),
    "extreme within one unit": Weights(
        [*RUNGS, [(TARGET, 1, "k")]],
        [(code, w * (SECRET if code == TARGET else 1), v) for code, w, v in LADDER],
        (f"SELECT sum(s) FROM (SELECT pid, max(w) AS s {JOIN} GROUP BY pid)",),
        digit,
        is_refused=True,
    ),
    "two weights": Weights(
        [*RUNGS, *HER],
        LADDER,
        (f"SELECT sum(x * w * v) {JOIN}",),
        digit,
        is_refused=True,
    ),
    "the weight squared": Weights(
        [*RUNGS, *HER],
        [(code, 4 ** (13 if code == 12 else min(code, 12)), 0) for code, *_ in LADDER],
        (f"SELECT sum(x * w * w) {JOIN}",),
        lambda told: number(told[0][0]) // 16**12 % 16,
        is_refused=True,
    ),
    "a computed weight": Weights(
        [*RUNGS, *HER],
        LADDER,
        (
            "SELECT sum(x * w) FROM person "
            "JOIN (SELECT code, max(w) AS w FROM price GROUP BY code) USING (code)",
        ),
        digit,
        is_refused=True,
    ),
    "a weight of a row that may be missing": Weights(
        [*RUNGS, *HER],
        LADDER,
        ("SELECT sum(x * w) FROM person LEFT JOIN price USING (code)",),
        digit,
    ),
    "literal weights": Weights(
        [*RUNGS, *HER],
        LADDER,
        (
            "SELECT sum(CASE code "
            + " ".join(f"WHEN {code} THEN {w} * x" for code, w, _ in LADDER)
            + " END) AS s FROM person",
        ),
        digit,
    ),
    "a branch of weights": Weights(
        [*crowd(40, lambda n: n % 4), *HER],
        ODD,
        (f"SELECT sum(CASE WHEN w < 10 THEN x * w ELSE 1000 * x END) {JOIN}",),
        lambda told: number(told[0][0]) % 1000,
    ),
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardSession]:
    opened = GuardSession(tmp_path_factory.mktemp("session"), (PERSON, PRICE), min_units=5)
    yield opened
    opened.close()


def fill(session: GuardSession, attack: Weights) -> None:
    session.forget()
    rows = [(pid, *row) for pid, mine in enumerate(attack.people) for row in mine]
    session.fill({"person": rows, "price": [(c, w, float(v)) for c, w, v in attack.prices]})


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_weights_tell_nobodys_value(session: GuardSession, attack: Weights) -> None:
    fill(session, attack)
    # It would: so the attack is one.
    plain = [session.plain.execute(sql).fetchall()[0] for sql in attack.sqls]
    assert attack.solve(plain) == SECRET
    told: list[Sequence[object]] = []
    for sql in attack.sqls:
        try:
            told.append((session.ask(sql).rows or [(None, None)])[0])
        except GuardRefusalError as refused:
            assert attack.is_refused
            assert refused.code == "GUARD_WEIGHT"
            return
    assert not attack.is_refused
    assert any(cell is None for row in told for cell in row), told


def test_weights_of_many_are_released(session: GuardSession) -> None:
    spread = [[(n % 16, n % 7, "ab"[n % 2]), (n % 5, 3, "a")] for n in range(200)]
    prices = [(code, code * 37 % 16 - 8, Fraction(code * 53 % 16, 4)) for code in range(16)]
    fill(session, Weights(spread, prices, (), digit))
    for sql in (
        f"SELECT sum(x * w), sum(x * v), sum(v), sum(x) {JOIN}",
        f"SELECT kind, sum(x * w), sum(2 * x - x * v + 1) {JOIN} GROUP BY kind ORDER BY kind",
        f"SELECT sum(x * (1 - v)) FILTER (w > 0) {JOIN}",
        "SELECT sum(s * w) FROM (SELECT w, sum(x) AS s FROM person JOIN price USING (code) "
        "WHERE code < 4 GROUP BY w)",
    ):
        assert session.ask(sql).rows == session.plain.execute(sql).fetchall()


def test_what_a_weighted_sum_told_is_remembered(session: GuardSession) -> None:
    people = [*crowd(40, lambda n: n % 2), *HER]
    fill(session, Weights(people, [(0, 2, 0), (1, 3, 0), (TARGET, 3, 0)], (), digit))
    assert session.ask(f"SELECT sum(x * w) {JOIN}").rows == [(100 * 2 + (100 + SECRET) * 3,)]
    told = session.ask(f"SELECT code, sum(x) {JOIN} GROUP BY code")
    assert len(told.rows) == 1
    assert told.conflicts == 1
