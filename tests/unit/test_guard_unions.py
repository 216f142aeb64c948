"""UNION ALL below the cells: plans of rewriters that forgot something about arms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from clinic import TABLES, Claimed, Clinic, open_clinic

from luoshu.sandbox import engine
from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.guard.verify import verify
from luoshu.sandbox.schema import ComponentKind

_ARM = "s.arm = CAST('{}' AS BIGINT)"
_ARMS = (
    "(SELECT kind AS k, pid AS u, CAST('0' AS BIGINT) AS arm, cost AS v, "
    "cost IS NOT NULL AND code = CAST('1' AS BIGINT) AS f FROM visit UNION ALL "
    "SELECT kind, pid, CAST('1' AS BIGINT), cost, CAST('true' AS BOOLEAN) FROM visit "
    "WHERE code = CAST('2' AS BIGINT)) AS s"
)
SUMS = (
    "SELECT s.k AS k0, s.u, "
    f"coalesce(sum(s.v) FILTER (WHERE {_ARM.format(0)} AND s.f), CAST('0' AS DECIMAL(38,2))) "
    f"AS a0, count(*) FILTER (WHERE {_ARM.format(1)}) AS a1 FROM {_ARMS} GROUP BY s.k, s.u"
)
UNITS = (
    f"SELECT s.k AS k0, s.u, count(*) FILTER (WHERE s.f) AS a0, count(*) FILTER (WHERE "
    f"{_ARM.format(0)} AND s.f) AS a1, count(*) FILTER (WHERE {_ARM.format(1)}) AS a2 "
    f"FROM {_ARMS} GROUP BY s.k, s.u"
)
_ONE, _TWO = (f"count(*) FILTER (WHERE {_ARM.format(arm)}" for arm in (0, 1))
OR = (
    f"SELECT s.u, count(*) AS a0, {_ONE} AND s.f) AS a1, {_ONE} AND s.g) AS a2, {_TWO}) AS a3 FROM "
    "(SELECT pid AS u, CAST('0' AS BIGINT) AS arm, kind = 'in' AS f, "
    "code = CAST('2' AS BIGINT) AS g FROM visit WHERE kind = 'in' OR code = CAST('2' AS BIGINT) "
    "UNION ALL SELECT pid, CAST('1' AS BIGINT), CAST(NULL AS BOOLEAN), CAST(NULL AS BOOLEAN) "
    "FROM patient) AS s GROUP BY s.u"
)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


def test_sums_of_arms_are_proven(clinic: Clinic) -> None:
    schema = clinic.verify(SUMS, "ss")
    assert [component.monomial for component in schema.components] == [("cost",), ()]
    assert schema.key_columns == ("clinic.visit.kind",)
    assert schema.tables == ("clinic.visit",)


def test_units_of_arms_are_proven_beside_a_set_for_each(clinic: Clinic) -> None:
    kinds = [component.kind for component in clinic.verify(UNITS, "ugg").components]
    assert kinds == [ComponentKind.UNITS, ComponentKind.SET, ComponentKind.SET]
    assert clinic.verify(OR, "uggg").components
    assert clinic.verify(OR.replace("WHERE kind = 'in' OR", "WHERE kind = 'in' AND"), "uggg")


def test_mode_dp_takes_units_of_arms_without_sets(clinic: Clinic) -> None:
    sql = f"SELECT s.k AS k0, s.u, count(*) FILTER (WHERE s.f) AS a0 FROM {_ARMS} GROUP BY s.k, s.u"
    assert clinic.verify(sql, "u", mode="dp").components
    with pytest.raises(GuardRefusalError, match="an arm of UNION ALL"):
        clinic.verify(sql, "u")


FORGETFUL = {
    "sum of both": (SUMS.replace(f"{_ARM.format(0)} AND ", ""), "ss"),
    "rows of both": (SUMS.replace(f" FILTER (WHERE {_ARM.format(1)})", ""), "ss"),
    "sum of both beside sets": (UNITS, "sgg"),
    "arm that is not there": (SUMS.replace("'1' AS BIGINT)) AS a1", "'2' AS BIGINT)) AS a1"), "ss"),
    "arm by a range": (SUMS.replace("s.arm = CAST('1'", "s.arm >= CAST('0'"), "ss"),
    "arm by OR": (
        SUMS.replace(_ARM.format(1), f"({_ARM.format(1)} OR {_ARM.format(0)})"),
        "ss",
    ),
    "no set": (UNITS.replace(f", count(*) FILTER (WHERE {_ARM.format(1)}) AS a2", ""), "ug"),
    "set of fewer rows": (UNITS.replace(_ARM.format(1), f"{_ARM.format(1)} AND s.k = 'in'"), "ugg"),
    "set of both": (UNITS.replace(f"{_ARM.format(1)}", "CAST('true' AS BOOLEAN)"), "ugg"),
    "set of one arm twice": (UNITS.replace(_ARM.format(1), _ARM.format(0)), "ugg"),
    "set of more rows": (UNITS.replace(f"{_ARM.format(0)} AND s.f", _ARM.format(0)), "ugg"),
    "set that comes out": (UNITS, "ugs"),
    "set claimed to be units": (UNITS, "ugu"),
    "set of a branch": (OR.replace(" AND s.g", " AND s.f"), "uggg"),
    "set of all branches": (OR.replace(" AND s.g", "").replace(" AND s.f", ""), "uggg"),
    "same number for two arms": (
        SUMS.replace("CAST('1' AS BIGINT), cost", "CAST('0' AS BIGINT), cost"),
        "ss",
    ),
    "number from a column": (SUMS.replace("CAST('0' AS BIGINT) AS arm", "code AS arm"), "ss"),
    "filter use": (
        UNITS.replace("cost IS NOT NULL AND", "visit_id = CAST('2' AS BIGINT) AND"),
        "ugg",
    ),
    "filter use of the second": (
        UNITS.replace("WHERE code = CAST('2' AS BIGINT)", "WHERE visit_id = CAST('2' AS BIGINT)"),
        "ugg",
    ),
    "group use of the second": (
        "SELECT s.k AS k0, s.u, count(*) FILTER (WHERE s.arm = CAST('0' AS BIGINT)) AS a0 FROM "
        "(SELECT ward AS k, pid AS u, CAST('0' AS BIGINT) AS arm FROM patient UNION ALL "
        "SELECT note, pid, CAST('1' AS BIGINT) FROM patient) s GROUP BY s.k, s.u",
        "s",
    ),
    "aggregate use": (SUMS.replace("cost AS v", "CAST(code AS DECIMAL(9,2)) AS v"), "ss"),
    "unit of one arm": (SUMS.replace("SELECT kind, pid, CAST", "SELECT kind, code, CAST"), "ss"),
    "two units": (
        SUMS.replace("FROM visit WHERE", "FROM visit, (SELECT ward FROM patient) p WHERE"),
        "ss",
    ),
    "public arm": (
        "SELECT s.u, count(*) FILTER (WHERE s.arm = CAST('0' AS BIGINT)) AS a0 FROM "
        "(SELECT pid AS u, CAST('0' AS BIGINT) AS arm FROM patient UNION ALL "
        "SELECT code, CAST('1' AS BIGINT) FROM codes) s GROUP BY s.u",
        "s",
    ),
    "rows united after they were aggregated": (
        "SELECT pid AS u, count(*) AS a0 FROM patient GROUP BY pid UNION ALL "
        "SELECT pid, count(*) FROM visit GROUP BY pid",
        "s",
    ),
    "UNION without ALL": (SUMS.replace("UNION ALL", "UNION"), "ss"),
    "EXCEPT": (SUMS.replace("UNION ALL", "EXCEPT ALL"), "ss"),
    "having": (SUMS + " HAVING count(*) > CAST('1' AS BIGINT)", "ss"),
    "in a CTE": (
        SUMS.replace(f"FROM {_ARMS}", "FROM w AS s").replace(
            "SELECT s.k", f"WITH w AS (SELECT * FROM {_ARMS}) SELECT s.k", 1
        ),
        "ss",
    ),
    "in EXISTS": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p WHERE EXISTS (SELECT 1 FROM (SELECT pid "
        "FROM visit WHERE code = CAST('1' AS BIGINT) UNION ALL SELECT unit_of_item FROM item) e "
        "WHERE e.pid = p.pid) GROUP BY p.pid",
        "s",
    ),
    "right of LEFT JOIN": (
        "SELECT p.pid AS u, count(*) FILTER (WHERE e.cost IS NOT NULL) AS a0 FROM patient p "
        "LEFT JOIN (SELECT pid, cost FROM visit UNION ALL SELECT pid, balance FROM patient) e "
        "ON e.pid = p.pid GROUP BY p.pid",
        "s",
    ),
    "inside one unit": (
        "SELECT s.u, coalesce(sum(s.n), CAST('0' AS HUGEINT)) AS a0 FROM (SELECT u, count(*) AS n "
        f"FROM {_ARMS} GROUP BY u) s GROUP BY s.u",
        "s",
    ),
    "group to compare with": (
        "SELECT v.pid AS u, count(*) AS a0 FROM visit v CROSS JOIN (SELECT k AS x0, count(*) AS x1 "
        f"FROM {_ARMS} GROUP BY k HAVING count(DISTINCT u) >= CAST('3' AS BIGINT)) s "
        "WHERE v.kind = s.x0 AND v.code < s.x1 GROUP BY v.pid",
        "s",
    ),
    "too many": (
        "SELECT u, count(*) FILTER (WHERE arm = CAST('0' AS BIGINT)) AS a0 FROM ("
        + " UNION ALL ".join(
            f"SELECT pid AS u, CAST('{n}' AS BIGINT) AS arm FROM visit" for n in range(17)
        )
        + ") GROUP BY u",
        "s",
    ),
}


@pytest.mark.parametrize(("sql", "kinds"), FORGETFUL.values(), ids=FORGETFUL)
def test_rewriter_that_forgot_is_refused(clinic: Clinic, sql: str, kinds: str) -> None:
    plan = engine.bind(clinic.connection, sql)
    assert plan["error"] is False, "a plan that doesn't bind tests nothing"
    with pytest.raises(GuardRefusalError) as refused:
        clinic.verify_plan(plan, kinds)
    assert refused.value.code == "GUARD_UNPROVEN"


def test_arms_of_two_privacy_domains_are_refused(clinic: Clinic) -> None:
    sql = OR.replace("FROM patient", "FROM item").replace(
        "SELECT pid, CAST", "SELECT unit_of_item, CAST"
    )
    claim = Claimed((ComponentKind.UNITS, *[ComponentKind.SET] * 3))
    plan = engine.bind(clinic.connection, sql)
    assert verify(plan, TABLES, claim, min_units=3, dominance_ppm=850_000).components
    others = [replace(t, domain="other") if t.table == "item" else t for t in TABLES]
    with pytest.raises(GuardRefusalError, match="different units"):
        verify(plan, others, claim, min_units=3, dominance_ppm=850_000)


@pytest.mark.parametrize(
    ("sql", "code", "told"),
    [
        (
            "SELECT count(*) FROM (SELECT code FROM visit UNION ALL SELECT code FROM codes)",
            "GUARD_CLAUSE",
            "all sides",
        ),
        (
            "SELECT avg(n) FROM (SELECT u, count(*) AS n FROM (SELECT pid AS u FROM visit UNION "
            "ALL SELECT pid FROM patient) GROUP BY u)",
            "GUARD_CLAUSE",
            "group each arm",
        ),
        (
            "SELECT count(*) FROM patient WHERE pid IN (SELECT pid FROM visit UNION ALL "
            "SELECT unit_of_item FROM item)",
            "GUARD_CLAUSE",
            "a condition for each arm",
        ),
        (
            "SELECT sum(x) FROM (SELECT age AS x FROM patient UNION ALL SELECT code FROM visit)",
            "GUARD_COLUMN_USE",
            "code",
        ),
        (
            "SELECT count(*) FROM (" + " UNION ALL ".join(["SELECT pid FROM visit"] * 17) + ")",
            "GUARD_SIZE",
            "16",
        ),
    ],
)
def test_refusals_name_the_accepted_way(clinic: Clinic, sql: str, code: str, told: str) -> None:
    with pytest.raises(GuardRefusalError, match=told) as refused:
        clinic.check(sql)
    assert refused.value.code == code


def test_arm_that_nobody_is_in_withholds(clinic: Clinic) -> None:
    # Wards have no patients of the kind that the second arm looks for.
    sql = (
        "SELECT k, sum(x), count(DISTINCT u) FROM (SELECT ward AS k, pid AS u, balance AS x "
        "FROM patient UNION ALL SELECT kind, pid, cost FROM visit) GROUP BY k"
    )
    for row in clinic.answer(sql):
        assert row[0] is None or row[1] is None
