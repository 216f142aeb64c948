"""A town of 2,400 people, twice and a little different, for attacks on one of them.

Each data set exists three times: as it is, `WITHOUT` the target, and with the
target's values `CHANGED`. What an analyst is answered about fewer than
`MIN_UNITS` people must be the same in all three, byte by byte. Statements run
through the dry run as an analyst's do: preparation, guard, release. The workers are threads here,
because there are hundreds of attacks; `test_guard_behind_the_wall` shows that this changes nothing.

Alice, the target, is person 7: alone in the district `lone`, alone 127 years old, alone joined
on 1999-12-31. Her income and her illness are what attacks are after. Three people live in the
district `rare`, everyone else in `d0` to `d3`. Cohorts `c0` to `c47` have 50 people each; the first
of each, alone in the squad `solo`, is the target of one sequence of queries, so that sequences can
share one history.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import duckdb
from unwalled import unwalled_dry_runs

from luoshu.sandbox.dry_run import Answer, dry_run
from luoshu.sandbox.errors import SandboxFailureError
from luoshu.sandbox.guard.refusals import Refusal
from luoshu.sandbox.isolation.port import IsolationConfig

MIN_UNITS = 10
PEOPLE = 2400
COHORT = 50
ALICE = 7
MAIL = "alice@mail.example"
"""What attackers know of Alice, beside her age, district and day of joining."""
INCOME = "7654321.98"
SECRETS = ("P-c0ffee-alice", "7654321", "zebra-syndrome", "undeclared-", "8765432")
"""What no answer may contain, in no form: no attack spells it itself."""
STABLE_CODES = frozenset({*Refusal, "QUERY_INVALID"})

TOWN = f"""
id: town
title: {{en: A town, zh: 小镇}}
privacy_domain: person
tables:
  person:
    parquet: person.parquet
    unit: person_id
    columns:
      sex:      {{use: [group, filter]}}
      district: {{use: [group, filter]}}
      cohort:   {{use: [group, filter]}}
      squad:    {{use: [group, filter]}}
      grade:    {{use: [group, filter, aggregate], bounds: [0, 4]}}
      age:      {{use: [aggregate, filter], bounds: [0, 130]}}
      income:   {{use: [aggregate, filter], bounds: [0, 10000000], decimals: 2}}
      score:    {{use: [aggregate], decimals: 3}}
      joined:   {{use: [group, filter]}}
      member:   {{use: [group, filter]}}
      email:    {{use: [filter]}}
  visit:
    parquet: visit.parquet
    unit: visitor
    columns:
      ward:    {{use: [group, filter]}}
      cohort:  {{use: [group, filter]}}
      code:    {{use: [group, filter]}}
      illness: {{use: [filter]}}
      serial:  {{use: [filter]}}
      day:     {{use: [group, filter]}}
      cost:    {{use: [aggregate, filter], bounds: [0, 10000000], decimals: 2}}
  item:
    parquet: item.parquet
    unit: {{via: visit, on: {{item_visit: visit_no}}}}
    columns:
      drug:   {{use: [group, filter]}}
      amount: {{use: [aggregate, filter], bounds: [0, 1000]}}
  codes:
    parquet: codes.parquet
    public: true
  ladder:
    parquet: ladder.parquet
    public: true
    key: [code, rung]
release: {{mode: aggregate, min_units: {MIN_UNITS}, debits: 1000}}
"""

# The same people as their employer sees them: another product, other names of the same ids.
PAY = f"""
id: pay
title: {{en: Pay, zh: 工资}}
source: {{parquet: pay.parquet}}
privacy_unit: employee
columns:
  office: {{use: [group, filter]}}
  salary: {{use: [aggregate, filter], bounds: [0, 10000000], decimals: 2}}
  badge:  {{use: [filter]}}
release: {{mode: aggregate, min_units: {MIN_UNITS}, debits: 1000}}
"""

PERSON = f"""
SELECT i,
    CASE WHEN i = {ALICE} THEN 'P-c0ffee-alice' ELSE 'P-' || i END AS person_id,
    CASE WHEN i % 2 = 0 THEN 'f' ELSE 'm' END AS sex,
    CASE WHEN i = {ALICE} THEN 'lone' WHEN i IN (1, 2, 3) THEN 'rare' ELSE 'd' || (i % 4) END
        AS district,
    'c' || (i // {COHORT}) AS cohort,
    CASE WHEN i % {COHORT} = 0 THEN 'solo' ELSE 's' || (i % 3) END AS squad,
    i % 5 AS grade,
    CASE WHEN i = {ALICE} THEN 127 WHEN i % 13 = 1 THEN NULL ELSE 20 + i % 60 END AS age,
    CASE WHEN i = {ALICE} THEN {INCOME}
         WHEN i % {COHORT} = 0 THEN 90000.37 + 101 * (i // {COHORT})
         ELSE 20000.25 + i * 7919 % 50000 END::DOUBLE AS income,
    (i % 17) / 8 AS score,
    CASE WHEN i = {ALICE} THEN DATE '1999-12-31'
         ELSE DATE '2020-01-01' + (i % 12)::INTEGER * 31 END AS joined,
    i % 5 = 0 AS member,
    CASE WHEN i = {ALICE} THEN '{MAIL}' ELSE 'user' || i || '@mail.example' END AS email,
    'undeclared-' || i AS hidden
FROM range({PEOPLE}) r(i)
"""
VISIT = """
SELECT i * 4 + v AS visit_no, person_id AS visitor, 'V' || (i * 4 + v) AS serial, cohort,
    CASE WHEN i = 7 THEN 'hospice' ELSE 'w' || ((i + v) % 3) END AS ward,
    (i * 7 + v) % 20 AS code,
    CASE WHEN i = 7 THEN 'zebra-syndrome' ELSE 'flu' END AS illness,
    DATE '2024-01-01' + v::INTEGER * 31 AS day,
    CASE WHEN i = 7 THEN 8765432.10 ELSE 10.5 + (i * 31 + v * 7) % 400 END::DOUBLE AS cost
FROM person, range(4) s(v)
"""
ITEM = """
SELECT visit_no AS item_visit,
    CASE WHEN ward = 'hospice' THEN 'unobtainium' ELSE 'drug' || (visit_no % 5) END AS drug,
    (1 + visit_no % 9 + n)::INTEGER AS amount
FROM visit, range(2) s(n)
"""
CODES = """
SELECT c AS code, 'title ' || c AS title, 'ch' || (c % 4) AS chapter, (c * 10)::INTEGER AS tariff
FROM range(20) r(c)
"""
# Twice as many rows for each code as for the one before.
LADDER = "SELECT code, s.rung FROM codes, range((2 ** (code % 10))::BIGINT) s(rung)"
PAY_ROWS = """
SELECT person_id AS employee, 'o' || (i % 3) AS office, income AS salary, 'B' || i AS badge
FROM person
"""
FILES = {"visit": VISIT, "item": ITEM, "codes": CODES, "ladder": LADDER, "pay": PAY_ROWS}


_PATIENCE = IsolationConfig(wall_seconds=20)


class World(StrEnum):
    """Which people there are."""

    BASE = "base"
    WITHOUT = "without"
    """Alice is nowhere."""
    CHANGED = "changed"
    """Alice is there and has an ordinary income, illness, ward and drug."""


_EDITS = {
    World.BASE: (),
    World.WITHOUT: (f"DELETE FROM person WHERE i = {ALICE}",),
    World.CHANGED: (f"UPDATE person SET income = 54321.09 WHERE i = {ALICE}",),
}
_CHANGED_VISITS = f"""
UPDATE visit SET ward = 'w0', illness = 'flu', cost = 77.5
WHERE visitor = (SELECT person_id FROM person WHERE i = {ALICE})
"""


def write_town(directory: Path, world: World = World.BASE, edits: Sequence[str] = ()) -> list[Path]:
    """Writes the data and both product files; returns the product files.

    Args:
        directory: Where to.
        world: Which people there are.
        edits: Statements on the table `person` (its column `i` numbers people) before the other
            tables are made from it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE person AS {PERSON}")
        for edit in (*_EDITS[world], *edits):
            connection.execute(edit)
        for name, select in FILES.items():
            connection.execute(f"CREATE TABLE {name} AS {select}")
            if name == "visit" and world is World.CHANGED:
                connection.execute(_CHANGED_VISITS)
        for name in ("person", *FILES):
            columns = "* EXCLUDE (i)" if name == "person" else "*"
            connection.execute(
                f"COPY (SELECT {columns} FROM {name}) TO '{directory / name}.parquet'"
            )
    for name, text in (("town", TOWN), ("pay", PAY)):
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    return [directory / "town.yaml", directory / "pay.yaml"]


class Holds(StrEnum):
    """What must hold against an attack."""

    DENIED = "denied"
    """The guard refuses it, with a stable code."""
    SILENT = "silent"
    """It is answered, and the answer is the same whatever Alice's data is."""
    NOTHING = "nothing"
    """Like `SILENT`, and there is no value in it: no row, or NULL only."""
    EITHER = "either"
    """Refused, or answered the same whatever Alice's data is: which, is a matter of taste."""
    CONSTANT = "constant"
    """Like `EITHER`, and it may fail, if it does so whatever Alice's data is: what is computed
    from released cells alone tells of nothing else."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One statement that goes after Alice.

    Attributes:
        name: Of the case.
        sql: What the analyst sends.
        tries: What it is after, in one line.
        holds: What must hold.
        others: The worlds in which the answer must be the same as in the base world.
    """

    name: str
    sql: str
    tries: str
    holds: Holds = Holds.DENIED
    others: tuple[World, ...] = (World.WITHOUT, World.CHANGED)

    def __str__(self) -> str:
        return self.name


def denied(tries: str, sqls: Mapping[str, str]) -> list[Attack]:
    """Attacks of one intention that the guard must refuse."""
    return [Attack(name, sql, tries) for name, sql in sqls.items()]


def silent(
    tries: str,
    sqls: Mapping[str, str],
    others: tuple[World, ...] = (World.WITHOUT, World.CHANGED),
) -> list[Attack]:
    """Attacks of one intention that are answered, without a word about Alice."""
    return [Attack(name, sql, tries, Holds.SILENT, others) for name, sql in sqls.items()]


def nothing(
    tries: str,
    sqls: Mapping[str, str],
    others: tuple[World, ...] = (World.WITHOUT, World.CHANGED),
) -> list[Attack]:
    """Attacks of one intention that are answered by no row, or by NULL only."""
    return [Attack(name, sql, tries, Holds.NOTHING, others) for name, sql in sqls.items()]


def either(
    tries: str,
    sqls: Mapping[str, str],
    others: tuple[World, ...] = (World.WITHOUT, World.CHANGED),
) -> list[Attack]:
    """Attacks of one intention that may be refused, or answered without a word about Alice."""
    return [Attack(name, sql, tries, Holds.EITHER, others) for name, sql in sqls.items()]


def constant(
    tries: str,
    sqls: Mapping[str, str],
    others: tuple[World, ...] = (World.WITHOUT, World.CHANGED),
) -> list[Attack]:
    """Attacks of one intention on what is computed from released cells."""
    return [Attack(name, sql, tries, Holds.CONSTANT, others) for name, sql in sqls.items()]


def family(*groups: Iterable[Attack]) -> list[Attack]:
    """All attacks of a family; names are unique."""
    attacks = [attack for group in groups for attack in group]
    if len({attack.name for attack in attacks}) != len(attacks):
        raise ValueError("two attacks have one name")
    return attacks


@dataclass(slots=True)
class Answers:
    """What each statement is answered in each world, asked once: many in one dry run."""

    directory: Path
    _told: dict[tuple[World, str], Answer] = field(default_factory=dict)
    _products: dict[World, list[Path]] = field(default_factory=dict)

    def ask_all(self, attacks: Iterable[Attack]) -> None:
        """Asks everything that `check` will want to know, on two cores."""
        attacks = list(attacks)
        self._ask((World.BASE, attack.sql) for attack in attacks)
        self._ask(
            (world, attack.sql)
            for attack in attacks
            if self._told[World.BASE, attack.sql]["status"] != "denied"
            for world in attack.others
        )

    def _ask(self, wanted: Iterable[tuple[World, str]]) -> None:
        todo = [key for key in dict.fromkeys(wanted) if key not in self._told]
        for world in {world for world, _ in todo} - self._products.keys():
            self._products[world] = write_town(self.directory / world, world)
        # Two dry runs at once, each of which prepares as few worlds as can be.
        todo.sort(key=lambda key: key[0])
        half = (len(todo) + 1) // 2
        with ThreadPoolExecutor(2) as pool:
            for told in pool.map(self._run, (todo[:half], todo[half:])):
                self._told |= told

    def _run(self, todo: list[tuple[World, str]]) -> dict[tuple[World, str], Answer]:
        told = {}
        for world in dict.fromkeys(world for world, _ in todo):
            sqls = [sql for of, sql in todo if of is world]
            with unwalled_dry_runs():
                answers = list(
                    dry_run(self._products[world], sqls, as_analyst=True, config=_PATIENCE)
                )
            told |= {(world, sql): answer for sql, answer in zip(sqls, answers, strict=True)}
        return told

    def of(self, attack: Attack, world: World = World.BASE) -> Answer:
        """What the attack was answered."""
        self._ask([(world, attack.sql)])
        return self._told[world, attack.sql]

    def check(self, attack: Attack) -> None:
        """Asserts that the attack gets what its `holds` says, and never a secret."""
        answer = self.of(attack)
        assert_tells_nothing(answer, may_fail=attack.holds is Holds.CONSTANT)
        if answer["status"] == "denied":
            assert attack.holds in {Holds.DENIED, Holds.EITHER, Holds.CONSTANT}, answer
            return
        assert attack.holds is not Holds.DENIED, answer
        if attack.holds is Holds.NOTHING:
            rows = answer["rows"]
            assert isinstance(rows, list)
            assert all(cell is None for row in rows for cell in row), answer
        said = as_bytes(answer)
        for world in attack.others:
            assert as_bytes(self.of(attack, world)) == said, (world, self.of(attack, world), answer)


def as_bytes(answer: Answer) -> bytes:
    """An answer as it goes over the wire."""
    return json.dumps(answer, ensure_ascii=False, sort_keys=True).encode()


def assert_tells_nothing(answer: Answer, *, may_fail: bool = False) -> None:
    """Asserts that an answer has the analyst's shape, a known outcome and no secret in it."""
    assert set(answer) == {"status", "code", "message", "columns", "rows"}
    codes: dict[object, frozenset[str]] = {
        "released": frozenset({"RELEASED"}),
        "denied": STABLE_CODES,
        "failed": frozenset({SandboxFailureError.code} if may_fail else ()),
    }
    assert answer["code"] in codes[answer["status"]], answer
    text = as_bytes(answer).decode()
    # An income that a double printed, or digits without their point, would be seen too.
    plain = text.replace(".", "").replace(",", "").lower()
    for secret in SECRETS:
        assert secret.lower() not in text.lower(), text
        assert secret.replace(".", "").lower() not in plain, text
    if answer["status"] != "released":
        assert answer["rows"] == answer["columns"] == []
        assert "candidate" not in str(answer["message"]).lower()


Rows = list[list[object]]
Recover = Callable[[Sequence[Rows]], Iterable[float]]


def differences(told: Sequence[Rows]) -> Iterator[float]:
    """All numbers that were told, and what any two of them differ by."""
    found = [number for rows in told for row in rows for number in numbers(row)]
    yield from found
    yield from (a - b for a in found for b in found)


@dataclass(frozen=True, slots=True)
class Differencing:
    """Statements one after the other, and how an attacker would compute from the answers.

    Each runs on a cohort of its own. Its target is the first person of the cohort.

    Attributes:
        name: Of the case.
        tries: What it is after, in one line.
        sqls: With `{c}` for the cohort, `{mail}` for the target's address, `{serial}` for the
            serial number of the target's first visit, and `{rest}` for what the others earn.
        truth: What the attacker wants to know, from the target's number.
        recover: From the rows of each answer (none where denied): what it could be.
        answered: Whether the first statement must be answered with a value: else the attack
            would show nothing.
    """

    name: str
    tries: str
    sqls: tuple[str, ...]
    truth: Callable[[int], float]
    recover: Recover = differences
    answered: bool = True

    def __str__(self) -> str:
        return self.name

    def statements(self, cohort: int) -> list[str]:
        """The statements, for one cohort."""
        target = cohort * COHORT
        return [
            sql.format(
                c=f"c{cohort}",
                mail=f"user{target}@mail.example",
                serial=f"V{4 * target}",
                rest=sum(20000.25 + n * 7919 % 50000 for n in range(target + 1, target + COHORT)),
            )
            for sql in self.sqls
        ]

    def check(self, cohort: int, answers: Sequence[Answer]) -> None:
        """Asserts that the answers don't give the target's number away."""
        told: list[Rows] = []
        for answer in answers:
            assert_tells_nothing(answer)
            rows = answer["rows"]
            assert isinstance(rows, list)
            told.append(rows)
        if self.answered:
            assert answers[0]["status"] == "released", answers[0]
            assert any(True for row in told[0] for _ in numbers(row)), answers[0]
        wanted = self.truth(cohort * COHORT)
        recovered = [number for number in self.recover(told) if abs(number - wanted) < 0.006]
        assert not recovered, (self.statements(cohort), told)


def income_of(person: int) -> float:
    """What the target of a cohort earns."""
    return 90000.37 + 101 * (person // COHORT)


def cost_of(person: int) -> float:
    """What the target's first visit cost."""
    return 10.5 + person * 31 % 400


def one(_person: int) -> float:
    """The target alone, counted."""
    return 1.0


def numbers(row: Iterable[object]) -> Iterator[float]:
    """All numbers in a row; long decimals come as text."""
    for cell in row:
        is_text = isinstance(cell, str) and cell.lstrip("-").replace(".", "", 1).isdigit()
        if is_text or (isinstance(cell, int | float) and not isinstance(cell, bool)):
            yield float(cell)


def first(told: Sequence[Rows], statement: int, column: int = 0) -> Iterator[float]:
    """The number in a column of a statement's first row, if it was told."""
    for row in told[statement][:1]:
        yield from numbers(row[column : column + 1])
