"""The verifier alone, with plans of rewriters that forgot something, and with plans made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from clinic import Clinic, open_clinic

from luoshu.sandbox import engine
from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.guard.plan_fields import PlanError
from luoshu.sandbox.guard.plan_reader import read_plan
from luoshu.sandbox.schema import (
    BIGINT,
    VARCHAR,
    CellSchema,
    Component,
    ComponentKind,
    Digits,
    ValueType,
)

GOOD = (
    "SELECT p.ward AS k0, p.pid AS u, count(*) AS a0, "
    "coalesce(sum(v.cost) FILTER (WHERE v.cost IS NOT NULL), CAST('0' AS DECIMAL(38,2))) AS a1 "
    "FROM patient AS p CROSS JOIN visit AS v WHERE p.pid = v.pid AND v.kind = 'in' "
    "GROUP BY p.ward, p.pid"
)
SETS = (
    "SELECT ward AS k0, pid AS u, count(*) AS a0, count(*) FILTER (WHERE sex = 'f') AS a1, "
    "count(*) FILTER (WHERE level = CAST('1' AS BIGINT)) AS a2 FROM patient "
    "WHERE sex = 'f' OR level = CAST('1' AS BIGINT) GROUP BY ward, pid"
)
SPREAD = "AND CAST(max(abs(x1)) AS DOUBLE) <= CAST('0.85' AS DOUBLE) * CAST(sum(abs(x1)) AS DOUBLE)"
GUARDED = (
    "SELECT v.pid AS u, count(*) AS a0 FROM visit v CROSS JOIN (SELECT x0, sum(x1) AS x1 FROM "
    "(SELECT kind AS x0, count(*) AS x1 FROM visit GROUP BY kind, pid) GROUP BY x0 "
    "HAVING count(*) FILTER (WHERE x1 <> CAST('0' AS BIGINT)) >= CAST('3' AS BIGINT) "
    f"{SPREAD}) s WHERE v.kind = s.x0 AND v.code < s.x1 GROUP BY v.pid"
)
EXISTS = (
    "SELECT p.pid AS u, count(*) AS a0 FROM patient p WHERE EXISTS (SELECT 1 FROM visit v "
    "WHERE v.pid = p.pid AND v.kind = 'in') GROUP BY p.pid"
)
LEFT = (
    "SELECT p.ward AS k0, p.pid AS u, count(*) FILTER (WHERE v.cost IS NOT NULL) AS a0 "
    "FROM patient p LEFT JOIN visit v ON v.pid = p.pid GROUP BY p.ward, p.pid"
)
TWICE = (
    "WITH w AS (SELECT pid AS x0, kind AS x1 FROM visit WHERE kind = 'in') "
    "SELECT a.x1 AS k0, a.x0 AS u, count(*) AS a0 FROM w a CROSS JOIN w b WHERE a.x0 = b.x0 "
    "GROUP BY a.x1, a.x0"
)
INNER = (
    "SELECT s.x0 AS u, coalesce(sum(s.x1), CAST('0' AS HUGEINT)) AS a0 FROM (SELECT pid AS x0, "
    "count(*) AS x1 FROM visit GROUP BY pid) s GROUP BY s.x0"
)
KEYED = (
    "SELECT v.kind AS k0, v.pid AS u, count(*) AS a0 FROM visit v CROSS JOIN item i "
    "WHERE v.visit_id = i.visit_id GROUP BY v.kind, v.pid"
)


NULL_SAFE = (
    "SELECT v.kind AS k0, v.pid AS u, count(*) AS a0 FROM visit v CROSS JOIN item i "
    "WHERE v.pid = i.unit_of_item AND v.visit_id IS NOT DISTINCT FROM i.visit_id "
    "GROUP BY v.kind, v.pid"
)
INNER_KEY = (
    "SELECT s.x0 AS u, count(*) AS a0 FROM (SELECT pid AS x0, balance AS x1 FROM patient "
    "GROUP BY pid, balance) s GROUP BY s.x0"
)
ZEROS = INNER.replace("sum(s.x1)", "sum(coalesce(s.x1, CAST('0' AS BIGINT)))")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(tmp_path_factory.mktemp("clinic")) as opened:
        yield opened


def test_contributions_are_proven(clinic: Clinic) -> None:
    assert clinic.verify(GOOD, "ss") == CellSchema(
        tables=("clinic.patient", "clinic.visit"),
        keys=(VARCHAR,),
        components=(
            Component(ComponentKind.SUM),
            Component(ComponentKind.SUM, ("cost",), 2),
        ),
        key_columns=("clinic.patient.ward",),
    )


def test_guard_sets_are_proven(clinic: Clinic) -> None:
    kinds = [component.kind for component in clinic.verify(SETS, "sgg").components]
    assert kinds == [ComponentKind.SUM, ComponentKind.SET, ComponentKind.SET]


FAN = (
    "SELECT i.unit_of_item AS u, count(*) AS a0 FROM item i CROSS JOIN visit v CROSS JOIN stock s "
    "WHERE i.visit_id = v.visit_id AND i.drug = s.drug AND v.kind = s.kind GROUP BY i.unit_of_item"
)
AGGREGATED = (
    "SELECT i.unit_of_item AS u, count(*) AS a0 FROM item i CROSS JOIN "
    "(SELECT drug AS x0, max(price) AS x1 FROM stock GROUP BY drug) s "
    "WHERE i.drug = s.x0 AND i.amount < s.x1 GROUP BY i.unit_of_item"
)


@pytest.mark.parametrize(
    "sql",
    [GUARDED, EXISTS, LEFT, TWICE, INNER, KEYED, NULL_SAFE, INNER_KEY, ZEROS, FAN, AGGREGATED],
)
def test_other_forms_are_proven(clinic: Clinic, sql: str) -> None:
    assert clinic.verify(sql).components
    assert clinic.verify(sql, "s" if sql in {INNER, ZEROS} else "u").components


def test_bounded_sum_has_its_rows(clinic: Clinic) -> None:
    total = "coalesce(sum(age) FILTER (WHERE age IS NOT NULL), CAST('0' AS HUGEINT)) AS a0"
    rows = "count(*) FILTER (WHERE age IS NOT NULL) AS a1"
    schema = clinic.verify(f"SELECT pid AS u, {total}, {rows} FROM patient GROUP BY pid", "ss")
    assert schema.components[0] == Component(ComponentKind.SUM, ("age",), 0, (0, 120), rows=1)
    for other in ("count(*) AS a1", rows.replace("age", "sex")):
        with pytest.raises(GuardRefusalError):
            clinic.verify(f"SELECT pid AS u, {total}, {other} FROM patient GROUP BY pid", "ss")


def test_public_rows_are_proven(clinic: Clinic) -> None:
    schema = clinic.verify("SELECT code AS k0, fee / 2 AS k1, label AS k2 FROM codes", "")
    assert schema.keys[::2] == (BIGINT, VARCHAR)
    assert schema.tables == () and schema.components == ()
    assert clinic.verify("SELECT sum(fee) AS k0 FROM codes", "").keys == (
        ValueType("DECIMAL", 38, 2),
    )


FANS = {
    "one column of two": FAN.replace(" AND v.kind = s.kind", ""),
    "no column": FAN.replace(
        "i.drug = s.drug AND v.kind = s.kind", "s.price > CAST('11' AS BIGINT)"
    ),
    "inequality": FAN.replace("i.drug = s.drug", "i.drug <= s.drug"),
    "one key or the other": (
        "SELECT v.pid AS u, count(*) AS a0 FROM visit v CROSS JOIN patient p CROSS JOIN codes c "
        "WHERE p.pid = v.pid AND (c.code = v.code OR c.code = p.level) GROUP BY v.pid"
    ),
    "some keys": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p CROSS JOIN codes c "
        "WHERE c.code = CAST('1' AS BIGINT) OR c.code = CAST('2' AS BIGINT) GROUP BY p.pid"
    ),
    "equal to itself": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p CROSS JOIN codes c "
        "WHERE c.code = c.code GROUP BY p.pid"
    ),
    "equal to each other": (
        "SELECT p.pid AS u, count(*) AS a0 FROM patient p CROSS JOIN codes c CROSS JOIN drugs d "
        "WHERE c.code = d.drug GROUP BY p.pid"
    ),
    "left": (
        "SELECT v.pid AS u, count(*) AS a0 FROM visit v LEFT JOIN stock s ON v.kind = s.kind "
        "GROUP BY v.pid"
    ),
    "in one unit": (
        "SELECT s.x0 AS u, coalesce(sum(s.x1), CAST('0' AS HUGEINT)) AS a0 FROM (SELECT v.pid "
        "AS x0, count(*) AS x1 FROM visit v CROSS JOIN stock s WHERE v.kind = s.kind "
        "GROUP BY v.pid) s GROUP BY s.x0"
    ),
    "public rows that were not made unique": AGGREGATED.replace(
        "max(price) AS x1 FROM stock GROUP BY drug", "price AS x1 FROM stock ORDER BY price"
    ),
    "groups of more than is joined on": AGGREGATED.replace(
        "GROUP BY drug)", "GROUP BY drug, kind)"
    ),
}


@pytest.mark.parametrize("sql", FANS.values(), ids=FANS.keys())
def test_a_row_meets_at_most_one_public_row(clinic: Clinic, sql: str) -> None:
    with pytest.raises(GuardRefusalError) as refused:
        clinic.verify(sql)
    assert refused.value.code == "GUARD_FAN_OUT"


def test_refused_fan_out_names_the_keys(clinic: Clinic) -> None:
    with pytest.raises(GuardRefusalError, match="stock by drug and kind") as refused:
        clinic.check("SELECT sum(amount) FROM item i JOIN stock s ON i.drug = s.drug")
    assert refused.value.code == "GUARD_FAN_OUT"
    for sql in (
        "SELECT sum(i.amount) FROM item i JOIN visit v USING (visit_id) JOIN stock s "
        "ON i.drug = s.drug AND v.kind = s.kind",
        "SELECT sum(amount) FROM item WHERE drug IN (SELECT drug FROM stock WHERE price > 20)",
        "SELECT sum(amount) FROM item i JOIN (SELECT drug, max(price) AS most FROM stock "
        "GROUP BY drug) s ON i.drug = s.drug WHERE s.most > 20",
    ):
        assert clinic.check(sql).cells


WEIGHED = (
    "SELECT v.pid AS u, coalesce(sum(v.cost * c.fee) FILTER ({f}), CAST('0' AS DECIMAL(38,4))) "
    "AS a0, coalesce(sum(v.cost) FILTER ({f}), CAST('0' AS DECIMAL(38,2))) AS a1, "
    "coalesce(bit_or({d}) FILTER ({f}), CAST('0' AS BIGINT)) AS a2, "
    "coalesce(bit_and({d}) FILTER ({f}), CAST('-1' AS BIGINT)) AS a3 "
    "FROM visit AS v CROSS JOIN codes AS c WHERE v.code = c.code GROUP BY v.pid"
)
FEE = "CAST(CAST(c.fee AS DECIMAL(35,2)) * CAST('100' AS DECIMAL(3,0)) AS BIGINT)"
DIGIT = f"CASE WHEN v.cost <> CAST('0.00' AS DECIMAL(9,2)) THEN {FEE} ELSE NULL END"
PRESENT = "WHERE v.cost IS NOT NULL AND c.fee IS NOT NULL"


def weighed(digit: str = DIGIT, where: str = PRESENT) -> str:
    return WEIGHED.format(d=digit, f=where)


def test_weights_are_judged_by_their_digits(clinic: Clinic) -> None:
    total, plain, *digits = clinic.verify(weighed(), "ssoa").components
    assert (total.monomial, total.digits) == (("cost", "fee"), Digits(1, 2, 3))
    assert (plain.monomial, plain.digits) == (("cost",), None)
    assert [c.kind for c in digits] == [ComponentKind.ANY_DIGITS, ComponentKind.ALL_DIGITS]
    assert clinic.verify(f"SELECT v.pid AS u, {COUNTED}", "ssoa").components[0].digits
    (checked,) = clinic.check("SELECT sum(cost * fee) FROM visit JOIN codes USING (code)").cells
    assert checked.schema == clinic.verify(weighed(), "ssoa")


HAS = "FILTER (WHERE c.code IS NOT NULL)"
COUNTED = (
    f"coalesce(sum(c.code) {HAS}, CAST('0' AS HUGEINT)) AS a0, count(*) {HAS} AS a1, "
    f"coalesce(bit_or(c.code) {HAS}, CAST('0' AS BIGINT)) AS a2, "
    f"coalesce(bit_and(c.code) {HAS}, CAST('-1' AS BIGINT)) AS a3 "
    "FROM visit AS v CROSS JOIN codes AS c WHERE v.code = c.code GROUP BY v.pid"
)
OUTER = (
    "SELECT s.u AS u, coalesce(sum(s.x), CAST('0' AS HUGEINT)) AS a0 FROM "
    "(SELECT v.pid AS u, {x} AS x FROM visit AS v CROSS JOIN codes AS c WHERE v.code = c.code "
    "GROUP BY v.pid) s {where} GROUP BY s.u"
)
UNWEIGHED = {
    "nothing beside it": (
        "SELECT v.pid AS u, coalesce(sum(v.cost * c.fee), CAST('0' AS DECIMAL(38,4))) AS a0 "
        "FROM visit AS v CROSS JOIN codes AS c WHERE v.code = c.code GROUP BY v.pid",
        "s",
    ),
    "digits that are released": (weighed(), "ssss"),
    "digits of another kind": (weighed(), "ssao"),
    "a claim of digits": (weighed(), "osoa"),
    "no plain sum": (weighed().replace("sum(v.cost) FILTER", "sum(c.fee) FILTER"), "ssoa"),
    "a plain sum of fewer rows": (
        weighed().replace(
            "sum(v.cost) FILTER (WHERE", "sum(v.cost) FILTER (WHERE v.kind = 'in' AND"
        ),
        "ssoa",
    ),
    "digits of fewer rows": (
        weighed().replace(
            f"bit_or({DIGIT}) FILTER (WHERE", f"bit_or({DIGIT}) FILTER (WHERE v.kind = 'in' AND"
        ),
        "ssoa",
    ),
    "weights that may be missing": (weighed(where="WHERE v.cost IS NOT NULL"), "ssoa"),
    "rows of zeros too": (weighed(FEE), "ssoa"),
    "rows that another value chooses": (weighed(DIGIT.replace("v.cost", "c.fee")), "ssoa"),
    "rows of one value": (weighed(DIGIT.replace("'0.00'", "'1.00'")), "ssoa"),
    "zeros alone": (weighed(DIGIT.replace("<>", "=")), "ssoa"),
    "another weight": (weighed(DIGIT.replace(FEE, "c.code")), "ssoa"),
    "rounded digits": (weighed(DIGIT.replace(FEE, "CAST(c.fee AS BIGINT)")), "ssoa"),
    "fewer digits": (
        weighed(DIGIT.replace("'100' AS DECIMAL(3,0)", "'10' AS DECIMAL(3,0)")),
        "ssoa",
    ),
    "a constant": (weighed("CAST('7' AS BIGINT)"), "ssoa"),
    "a default": (weighed(DIGIT.replace("ELSE NULL", "ELSE CAST('1' AS BIGINT)")), "ssoa"),
    "no row as zero": (weighed().replace("CAST('-1' AS BIGINT)", "CAST('0' AS BIGINT)"), "ssoa"),
    "digits of a protected column": (
        "SELECT pid AS u, count(*) AS a0, coalesce(bit_or(age), CAST('0' AS BIGINT)) AS a1 "
        "FROM patient GROUP BY pid",
        "so",
    ),
    "two weights": (
        weighed()
        .replace(
            "sum(v.cost * c.fee)",
            "sum(TRY_CAST(CAST(v.cost AS DECIMAL(19,2)) * c.fee * c.fee AS DECIMAL(25,6)))",
        )
        .replace("38,4", "38,6"),
        "ssoa",
    ),
    "a sum of digits": (OUTER.format(x="bit_or(c.code)", where=""), "s"),
    "a sum of sums of weights": (
        OUTER.format(x="sum(c.fee)", where="").replace("HUGEINT", "DECIMAL(38,2)"),
        "s",
    ),
    "a sum of extremes of weights": (OUTER.format(x="max(c.code)", where=""), "s"),
    "digits as a condition on values": (
        "SELECT s.u AS u, count(*) AS a0 FROM (SELECT p.pid AS u, bit_or(CASE WHEN p.salary <> "
        "CAST('0' AS BIGINT) THEN c.code ELSE NULL END) AS y FROM patient AS p CROSS JOIN codes c "
        "WHERE p.level = c.code GROUP BY p.pid) s WHERE s.y = CAST('1' AS BIGINT) GROUP BY s.u",
        "s",
    ),
}


@pytest.mark.parametrize(("sql", "kinds"), UNWEIGHED.values(), ids=UNWEIGHED.keys())
def test_weights_without_their_digits_are_refused(clinic: Clinic, sql: str, kinds: str) -> None:
    assert engine.bind(clinic.connection, sql)["error"] is False
    with pytest.raises(GuardRefusalError) as refused:
        clinic.verify(sql, kinds)
    assert refused.value.code == "GUARD_UNPROVEN"


def test_groups_to_compare_with_have_no_weights(clinic: Clinic) -> None:
    other = (
        "SELECT count(*) FROM visit v WHERE v.cost < (SELECT sum({}) FROM visit w "
        "JOIN codes c ON w.code = c.code WHERE w.kind = v.kind)"
    )
    with pytest.raises(GuardRefusalError, match="added up over several units"):
        clinic.check(other.format("c.fee"))
    assert clinic.check(other.format("w.cost")).cells


def test_digits_are_added_up_in_no_mode(clinic: Clinic) -> None:
    sql = OUTER.format(x="bit_or(c.code)", where="")
    with pytest.raises(GuardRefusalError):
        clinic.verify(sql, mode="dp")
    assert clinic.verify(OUTER.format(x="count(c.code)", where=""), mode="dp").components


FORGETFUL = {
    "set": (SETS.replace("count(*) FILTER (WHERE sex = 'f')", "count(*)"), "sgg"),
    "sets that are released": (SETS, "sss"),
    "set of another value": (SETS.replace("(WHERE sex = 'f')", "(WHERE sex = 'm')"), "sgg"),
    "set of less": (SETS.replace("(WHERE sex = 'f')", "(WHERE sex = 'f' AND smokes)"), "sgg"),
    "having": (GUARDED[: GUARDED.index("HAVING")] + GUARDED[GUARDED.index(") s WHERE") :], "s"),
    "some of having": (GUARDED.replace("'3'", "'2'"), "s"),
    "dominance": (GUARDED.replace(SPREAD, ""), "s"),
    "some of dominance": (GUARDED.replace("'0.85'", "'0.86'"), "s"),
    "unit in GROUP BY": (
        GOOD.replace("GROUP BY p.ward, p.pid", "GROUP BY p.ward").replace(
            "p.pid AS u", "min(p.pid) AS u"
        ),
        "ss",
    ),
    "unit": (GOOD.replace("p.pid AS u, ", ""), "ss"),
    "unit equality": (GOOD.replace("p.pid = v.pid AND ", ""), "ss"),
    "unit equality of another kind": (GOOD.replace("p.pid = v.pid", "p.pid <= v.pid"), "ss"),
    "unit equality for some": (
        GOOD.replace("p.pid = v.pid", "(p.pid = v.pid OR v.kind = 'out')"),
        "ss",
    ),
    "unit equality in EXISTS": (EXISTS.replace("v.pid = p.pid AND ", ""), "s"),
    "unit equality in LEFT JOIN": (LEFT.replace("v.pid = p.pid", "v.code = p.level"), "s"),
    "unit equality of a CTE": (TWICE.replace("a.x0 = b.x0", "a.x1 = b.x1"), "s"),
    "key": (KEYED.replace("v.visit_id = i.visit_id", "v.code = i.drug"), "s"),
    "key of the right table": (
        KEYED.replace("v.visit_id = i.visit_id", "v.visit_id = i.drug"),
        "s",
    ),
    "filter use": (GOOD.replace("v.kind = 'in'", "p.salary > CAST('5' AS BIGINT)"), "ss"),
    "no use": (GOOD.replace("v.kind = 'in'", "p.passport = 'P7'"), "ss"),
    "group use": (
        "SELECT note AS k0, pid AS u, count(*) AS a0 FROM patient GROUP BY note, pid",
        "s",
    ),
    "aggregate use": (GOOD.replace("sum(v.cost)", "sum(v.code)"), "ss"),
    "coalesce": (INNER.replace("coalesce(sum(s.x1), CAST('0' AS HUGEINT))", "sum(s.x1)"), "s"),
    "zero": (INNER.replace("CAST('0' AS HUGEINT)", "CAST('1' AS HUGEINT)"), "s"),
    "component": (GOOD, "s"),
    "claim": (GOOD, "sss"),
    "kind": (GOOD, "su"),
    "aggregation": ("SELECT ward AS k0, pid AS u, age AS a0 FROM patient", "s"),
    "right side's unit": (
        LEFT.replace("p.pid AS u", "v.pid AS u").replace("ward, p.", "ward, v."),
        "s",
    ),
    "extreme": (INNER.replace("sum(s.x1)", "max(s.x1)"), "s"),
    "average": ("SELECT pid AS u, coalesce(avg(age), 0) AS a0 FROM patient GROUP BY pid", "s"),
    "distinct": (
        "SELECT pid AS u, coalesce(sum(DISTINCT level), CAST('0' AS HUGEINT)) AS a0 "
        "FROM patient GROUP BY pid",
        "s",
    ),
    "order": (GOOD + " ORDER BY 1", "ss"),
    "limit": (GOOD + " LIMIT 3", "ss"),
    "limit below": (
        "SELECT pid AS u, count(*) AS a0 FROM (SELECT pid FROM patient LIMIT 10) GROUP BY pid",
        "s",
    ),
    "window": (
        "SELECT pid AS u, count(*) AS a0 FROM (SELECT pid, row_number() OVER () AS r "
        "FROM patient) WHERE r < CAST('9' AS BIGINT) GROUP BY pid",
        "s",
    ),
    "rollup": (
        "SELECT ward AS k0, pid AS u, count(*) AS a0 FROM patient GROUP BY ROLLUP (ward, pid)",
        "s",
    ),
    "union": (
        "SELECT pid AS u, count(*) AS a0 FROM (SELECT pid FROM patient UNION ALL "
        "SELECT pid FROM visit) GROUP BY pid",
        "s",
    ),
    "outer public rows": (
        "SELECT p.pid AS u, count(*) AS a0 FROM codes c LEFT JOIN patient p ON c.code = p.level "
        "GROUP BY p.pid",
        "s",
    ),
    "public": ("SELECT ward AS k0 FROM patient", ""),
    "public subquery": (
        "SELECT code AS k0 FROM codes WHERE code IN (SELECT level FROM patient)",
        "",
    ),
    "public function": ("SELECT md5(label) AS k0 FROM codes", ""),
    "sample": (
        "SELECT pid AS u, count(*) AS a0 FROM patient TABLESAMPLE 10% GROUP BY pid",
        "s",
    ),
    "table function": ("SELECT range AS k0 FROM range(10)", ""),
}


FORGETFUL |= {
    "key that may be NULL": (
        KEYED.replace("v.visit_id = i.visit_id", "v.visit_id IS NOT DISTINCT FROM i.visit_id"),
        "s",
    ),
    "key beside another column": (
        NULL_SAFE.replace("FROM i.visit_id", "FROM i.drug"),
        "s",
    ),
    "inner key without a use": (INNER_KEY.replace("balance", "passport"), "s"),
    "inner key that comes out": (
        INNER_KEY.replace("SELECT s.x0 AS u", "SELECT s.x1 AS k0, s.x0 AS u") + ", s.x1",
        "s",
    ),
    "NULL as one": (ZEROS.replace("s.x1, CAST('0'", "s.x1, CAST('1'"), "s"),
    "NULL as another column": (
        "SELECT pid AS u, coalesce(sum(coalesce(level, age)), CAST('0' AS HUGEINT)) AS a0 "
        "FROM patient GROUP BY pid",
        "s",
    ),
    "NULLs of a bounded column as zeros": (
        "SELECT pid AS u, coalesce(sum(coalesce(age, CAST('0' AS BIGINT))), CAST('0' AS HUGEINT)) "
        "AS a0, count(*) AS a1 FROM patient GROUP BY pid",
        "ss",
    ),
    "percentile": (
        "SELECT pid AS u, coalesce(quantile_disc(age, 0.5), CAST('0' AS BIGINT)) AS a0 "
        "FROM patient GROUP BY pid",
        "s",
    ),
    "percentile to compare with": (GUARDED.replace("count(*) AS x1", "median(code) AS x1"), "s"),
    "full join": (LEFT.replace("LEFT JOIN", "FULL JOIN"), "s"),
}


@pytest.mark.parametrize(("sql", "kinds"), FORGETFUL.values(), ids=FORGETFUL)
def test_rewriter_that_forgot_is_refused(clinic: Clinic, sql: str, kinds: str) -> None:
    plan = engine.bind(clinic.connection, sql)
    assert plan["error"] is False, "a plan that doesn't bind tests nothing"
    with pytest.raises(GuardRefusalError) as refused:
        clinic.verify_plan(plan, kinds)
    assert refused.value.code == "GUARD_UNPROVEN"


def test_table_of_the_same_form_elsewhere_is_refused(clinic: Clinic) -> None:
    connection = clinic.connection
    sql = "SELECT pid AS u, count(*) AS a0 FROM {} GROUP BY pid"
    connection.execute("CREATE TABLE memory.main.visit AS FROM clinic.main.visit LIMIT 0")
    try:
        with pytest.raises(GuardRefusalError, match="prepared table"):
            clinic.verify(sql.format("memory.main.visit"))
        connection.execute("CREATE VIEW memory.main.looks AS FROM clinic.main.visit")
        # A view is expanded in the bound plan, so what it reads is seen.
        assert clinic.verify(sql.format("memory.main.looks")).components
    finally:
        connection.execute("DROP VIEW IF EXISTS memory.main.looks")
        connection.execute("DROP TABLE memory.main.visit")


def objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from objects(value)


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [(GOOD, "ss"), (SETS, "sgg"), (GUARDED, "s"), (EXISTS, "s"), (LEFT, "s"), (TWICE, "s")],
)
def test_unknown_field_anywhere_is_refused(clinic: Clinic, sql: str, kinds: str) -> None:
    plan = engine.bind(clinic.connection, sql)
    found = list(objects(plan))
    assert len(found) > 60
    for node in found:
        node["something_new"] = None
        with pytest.raises(GuardRefusalError):
            clinic.verify_plan(plan, kinds)
        del node["something_new"]
    assert clinic.verify_plan(plan, kinds).components


# What may differ between plans of equal meaning: names for people, places in the text, numbers
# that DuckDB gives to tables, and what it notes of columns and marks that are not asked for.
FREE = {
    "alias",
    "query_location",
    "query_location_length",
    "table_index",
    "group_index",
    "aggregate_index",
    "groupings_index",
    "mark_index",
    "ctename",
    "column_count",
    "materialize",
    "bound_columns",
}


def scalars(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for step, value in items:
        if step in FREE:
            continue
        if isinstance(value, dict | list):
            yield from scalars(value, (*path, step))
        else:
            yield node, (*path, step)


@pytest.mark.parametrize(
    ("sql", "kinds"), [(GOOD, "ss"), (GUARDED, "s"), (EXISTS, "s"), (TWICE, "s"), (KEYED, "s")]
)
def test_any_changed_value_is_noticed(clinic: Clinic, sql: str, kinds: str) -> None:
    plan = engine.bind(clinic.connection, sql)
    missed = []
    for node, path in list(scalars(plan)):
        value = node[path[-1]]
        for other in ("other", None, True, 0, 7):
            if other == value and type(other) is type(value):
                continue
            node[path[-1]] = other
            try:
                clinic.verify_plan(plan, kinds)
            except GuardRefusalError:
                continue
            finally:
                node[path[-1]] = value
            missed.append((path, value, other))
    assert [item for item in missed if not _is_harmless(*item)] == []


def _is_harmless(path: tuple[Any, ...], _value: object, _other: object) -> bool:
    # A condition may compare with any text or enough units; and a column may be another one of
    # the same type that is declared for the same use.
    # A literal's cast succeeds either way; what a function could take, and whether it was written
    # as an operator, says nothing.
    return (
        path[-2:] == ("value", "value")
        or "column_indexes" in path
        or "arguments" in path
        or path[-1] in {"index", "try_cast", "is_operator"}
    )


READ = {
    "half-open BETWEEN": (
        "SELECT 1 FROM patient p WHERE (SELECT count(*) FROM visit v WHERE v.pid = p.pid) "
        "BETWEEN 1 AND 3",
        {"lower_inclusive": False},
    ),
    "column beside a filter's": (
        "SELECT l.cost FROM patient p, LATERAL (SELECT cost FROM visit v WHERE v.pid = p.pid "
        "ORDER BY cost LIMIT 1) l",
        {"projection_map": [0, 9]},
    ),
    "offset of a frame by TRY_CAST": (
        "SELECT sum(fee) OVER (ORDER BY code ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM codes",
        {"try_cast": True},
    ),
}


@pytest.mark.parametrize(("sql", "change"), READ.values(), ids=READ)
def test_reader_notices_other_meanings(clinic: Clinic, sql: str, change: dict[str, object]) -> None:
    (name, value) = next(iter(change.items()))
    plan = engine.bind(clinic.connection, sql)
    assert read_plan(plan)
    places = [node for node in objects(plan) if node.get(name) not in (None, [], value)]
    assert places, "nothing was changed"
    for node in places:
        before, node[name] = node[name], value
        if name == "try_cast" and node.get("is_default_cast") is False:
            node[name] = before  # TRY_CAST of the analyst's own
            continue
        with pytest.raises(PlanError):
            read_plan(plan)
        node[name] = before


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        "",
        0,
        {"error": False},
        {"error": False, "plans": []},
        {"error": False, "plans": [None]},
        {"error": False, "plans": [{"type": "LOGICAL_GET"}]},
        {"error": True, "plans": []},
        {"error": 0, "plans": []},
    ],
)
def test_nonsense_is_refused(clinic: Clinic, document: object) -> None:
    for kinds in ("s", ""):
        with pytest.raises(GuardRefusalError):
            clinic.verify_plan(document, kinds)


def test_deep_plan_is_refused(clinic: Clinic) -> None:
    plan: Any = engine.bind(clinic.connection, GOOD)
    projection = plan["plans"][0]
    for _ in range(120):
        plan = {"error": False, "plans": [{**projection, "children": [plan["plans"][0]]}]}
    with pytest.raises(GuardRefusalError, match="nested too deeply"):
        clinic.verify_plan(plan, "ss")


def test_mode_dp_has_no_sets_and_no_groups_of_several_units(clinic: Clinic) -> None:
    without = SETS.split(", count(*) FILTER", maxsplit=1)[0] + " FROM" + SETS.split(" FROM")[1]
    assert clinic.verify(without, mode="dp").components
    with pytest.raises(GuardRefusalError):
        clinic.verify(without)
    with pytest.raises(GuardRefusalError):
        clinic.verify(GUARDED, mode="dp")
    assert clinic.verify(EXISTS, mode="dp").components
