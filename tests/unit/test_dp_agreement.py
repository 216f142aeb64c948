"""Terms of mode dp, product files that declare budgets, and the plan that follows from both."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from dp_world import AGE, AMOUNT, ROWS, UNITS, agreed

from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.dp_terms import DpTerms, PrivacyBound
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.release_terms import ReleaseMode, ReleaseTerms
from luoshu.sandbox.dp_agreement import DpLimits, plan_computation, strictest
from luoshu.sandbox.errors import GuardRefusalError, ProductFileError
from luoshu.sandbox.product_file import DifferentialPrivacyRelease, parse_product
from luoshu.sandbox.release_floor import ReleaseFloor
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    TIMESTAMP,
    VARCHAR,
    CellSchema,
    ColumnSchema,
    Component,
    ComponentKind,
    TableSchema,
    Use,
    ValueType,
)

DP = {"epsilon": "0.5", "delta": "0.000001", "cells_per_unit": 2, "rows_per_cell": 3}
QUOTA = {"epsilon": "5", "delta": "0.00001"}
RELEASE = {"mode": "dp", "min_units": 1}
PRODUCT = """
id: visits
source: {{parquet: v.parquet}}
privacy_unit: patient
columns: {{age: {{use: [aggregate], bounds: [0, 120]}}}}
release: {{mode: dp, {}}}
"""


def read(**dp: object) -> ReleaseTerms:
    return ReleaseTerms.from_payload({**RELEASE, "dp": {**DP, **dp}})  # type: ignore[dict-item]


def test_terms_keep_what_was_agreed_exactly() -> None:
    terms = read(quota=QUOTA)
    assert terms.dp == DpTerms(
        PrivacyBound(Decimal("0.5"), Decimal("0.000001")),
        PrivacyBound(Decimal(5), Decimal("0.00001")),
        2,
        3,
    )
    assert terms.to_payload() == {**RELEASE, "dp": {**DP, "quota": QUOTA}}
    assert "quota" not in read().to_payload()["dp"]  # type: ignore[operator]
    assert str(terms) == (
        "dp with epsilon 0.5, delta 0.000001 a computation, epsilon 5, delta 0.00001 in all, "
        "2 cells per unit, 3 rows per cell"
    )


def test_equal_terms_have_equal_bytes() -> None:
    first = DpTerms(PrivacyBound(Decimal("1.0"), Decimal("1e-6")))
    second = DpTerms(PrivacyBound(Decimal(1), Decimal("0.00000100")))
    assert canonicalize(first.to_payload()) == canonicalize(second.to_payload())
    assert DpTerms.from_payload(first.to_payload()) == second


def test_documents_written_before_keep_their_bytes() -> None:
    assert ReleaseTerms.from_payload(RELEASE).to_payload() == RELEASE
    assert ReleaseTerms.from_payload(RELEASE).dp is None


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": "0"},
        {"epsilon": "0.50"},
        {"epsilon": ".5"},
        {"epsilon": "5e-1"},
        {"epsilon": 1},
        {"epsilon": "101"},
        {"epsilon": "0.0000001"},
        {"epsilon": "-1"},
        {"epsilon": "NaN"},
        {"epsilon": "٥"},
        {"delta": "1"},
        {"delta": "0.0000000000001"},
        {"delta": "0.0"},
        {"cells_per_unit": 0},
        {"cells_per_unit": True},
        {"rows_per_cell": 1_000_001},
        {"quota": None},
        {"quota": {"epsilon": "1"}},
        {"quota": {**QUOTA, "rho": "1"}},
        {"noise": "none"},
    ],
)
def test_terms_nobody_could_keep_are_refused(change: dict) -> None:
    with pytest.raises(DocumentError):
        read(**change)


def test_dp_rules_are_of_mode_dp_only() -> None:
    with pytest.raises(DocumentError, match="mode dp"):
        ReleaseTerms.from_payload({"mode": "aggregate", "min_units": 1, "dp": {**DP}})
    with pytest.raises(DocumentError, match="mode aggregate"):
        ReleaseTerms.from_payload({**RELEASE, "jitter": 4, "dp": {**DP}})


@pytest.mark.parametrize(
    ("stricter", "weaker"),
    [
        ({"epsilon": "0.4"}, {}),
        ({"delta": "0"}, {}),
        ({"cells_per_unit": 1}, {}),
        ({"rows_per_cell": 2}, {}),
        ({"quota": QUOTA}, {}),
        ({"quota": {**QUOTA, "epsilon": "4"}}, {"quota": QUOTA}),
        ({"quota": {**QUOTA, "delta": "0"}}, {"quota": QUOTA}),
    ],
)
def test_every_part_of_the_terms_is_compared(stricter: dict, weaker: dict) -> None:
    assert read(**stricter).stricter_or_equal(read(**weaker))
    assert not read(**weaker).stricter_or_equal(read(**stricter))
    both = read(**{**weaker, "epsilon": "0.1"})
    if "epsilon" not in stricter:
        assert not both.stricter_or_equal(read(**stricter))


def test_terms_that_name_no_cost_are_weaker_than_any_that_do() -> None:
    open_terms = ReleaseTerms(ReleaseMode.DP, 1)
    assert not open_terms.stricter_or_equal(read())
    assert read().stricter_or_equal(open_terms)
    assert open_terms.completed_by(read()) == read()
    assert read().stricter_or_equal(ReleaseTerms(ReleaseMode.ROWS, 0))
    assert not read().stricter_or_equal(ReleaseTerms(ReleaseMode.AGGREGATE, 1))


def floor(text: str) -> ReleaseFloor:
    release = parse_product(PRODUCT.format(text)).release
    assert isinstance(release, DifferentialPrivacyRelease)
    found = ReleaseFloor.of(release)
    assert ReleaseFloor.from_json(found.to_json()) == found
    return found


def test_a_product_declares_its_budget_and_what_one_computation_costs() -> None:
    found = floor("epsilon: 0.1, delta: 1e-6, budget_epsilon: 3, budget_delta: 1e-5")
    assert found.computation == agreed("0.1", "1e-6")
    assert found.budget == agreed("3", "1e-5")
    assert floor("epsilon: 0.1, budget_epsilon: 3").budget == agreed("3")
    assert floor("epsilon: 0.1, delta: 1e-6, budget_epsilon: 3").budget == agreed("3", "1e-6")
    assert floor("epsilon: 1").budget is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epsilon: 1, budget_epsilon: 0.5", "doesn't pay"),
        ("epsilon: 1, budget_epsilon: 1, budget_delta: 1e-6", "doesn't pay"),
        ("epsilon: 1, delta: 1e-6, budget_epsilon: 5, budget_delta: 0", "doesn't pay"),
        ("epsilon: 1, delta: 1e-13", "delta must be"),
        ("epsilon: 101", "epsilon must be"),
        ("epsilon: 0.0000001", "decimals"),
        ("epsilon: 1, rows_per_cell: 0", "rows_per_cell"),
        ("epsilon: 1, budget: 3", "unknown key"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(text: str, told: str) -> None:
    with pytest.raises(ProductFileError, match=told):
        parse_product(PRODUCT.format(text))


def column(name: str, kind: ValueType, *values: str) -> ColumnSchema:
    return ColumnSchema(name, kind, frozenset({Use.GROUP}), None, 0, values or None)


VISITS = TableSchema(
    "hospital",
    "visits",
    "patient",
    (
        column("sex", VARCHAR, "f", "m"),
        column("smokes", BOOLEAN, "true", "false"),
        column("fee", ValueType("DECIMAL", 8, 2), "1.5", "1.50", "2"),
        column("day", DATE, "2026-01-01"),
        column("moment", TIMESTAMP, "2026-01-01 08:00:00"),
        column("grade", BIGINT, "1", "two"),
        column("town", VARCHAR),
    ),
    "patient",
)
WARDS = TableSchema("hospital", "wards", None, (column("ward", VARCHAR),))
LIMITS = DpLimits(agreed("1"))
ANY_KEY = DpLimits(agreed("1", "1e-6"))


def cells(*names: str) -> CellSchema:
    types = {one.name: one.type for one in (*VISITS.columns, *WARDS.columns)}
    tables = {"ward": "wards"}
    return CellSchema(
        ("hospital.visits",),
        tuple(types.get(name, VARCHAR) for name in names),
        (ROWS, replace(AMOUNT, monomial=("hospital.visits.amount",)), UNITS),
        None,
        tuple(
            f"hospital.{tables.get(name, 'visits')}.{name}" if name in types else ""
            for name in names
        ),
    )


def test_declared_domains_become_keys_of_their_type() -> None:
    plan = plan_computation(LIMITS, [cells("sex", "smokes")], [VISITS])
    assert plan.rules.domains == ((("f", "m"), (True, False)),)
    assert plan.cost == plan.rules.cost
    assert plan.cost.delta == 0
    assert plan.protected == {"hospital"}
    plan = plan_computation(LIMITS, [cells("fee", "day", "moment")], [VISITS])
    assert plan.rules.domains == ((("1.50", "2"), ("2026-01-01",), ("2026-01-01T08:00:00",)),)


@pytest.mark.parametrize("key", ["town", "grade", "derived", "ward"])
def test_keys_without_known_values_cost_delta(key: str) -> None:
    with pytest.raises(GuardRefusalError, match="delta > 0"):
        plan_computation(LIMITS, [cells(key)], [VISITS, WARDS])
    plan = plan_computation(ANY_KEY, [cells(key)], [VISITS, WARDS])
    assert plan.cost.delta == agreed("1", "1e-6").threshold_delta
    assert {one.threshold > 20 for one in plan.noise} == {True}


def test_the_two_values_of_a_boolean_are_known_without_being_declared() -> None:
    table = replace(VISITS, columns=(column("smokes", BOOLEAN),))
    plan = plan_computation(LIMITS, [cells("smokes")], [table])
    assert plan.rules.domains == (((False, True),),)


@pytest.mark.parametrize(
    ("bounds", "monomial", "expected"),
    [
        ({"x": (-3, 5)}, ("x", "x"), (0, 25)),
        ({"x": (2, 5)}, ("x", "x"), (4, 25)),
        ({"x": (-7, -2)}, ("x", "x"), (4, 49)),
        ({"x": (-3, 5)}, ("x", "x", "x"), (-27, 125)),
        ({"x": (-3, 5), "y": (-1, 10)}, ("x", "y"), (-30, 50)),
        ({"x": (-3, 5), "y": (-1, 10)}, ("x", "x", "y"), (-25, 250)),
        ({"x": (-3, 5), "y": None}, ("x", "y"), None),
        ({"x": (-3, 5)}, ("x", "z"), None),
    ],
)
def test_products_of_columns_are_bounded_by_the_columns_bounds(
    bounds: dict, monomial: tuple[str, ...], expected: tuple[int, int] | None
) -> None:
    columns = tuple(
        ColumnSchema(name, ValueType("DECIMAL", 8, 1), frozenset({Use.AGGREGATE}), bound)
        for name, bound in bounds.items()
    )
    table = replace(VISITS, columns=columns)
    one = Component(ComponentKind.SUM, monomial, len(monomial), None, True)
    schema = CellSchema(("hospital.visits",), (), (one,), None, ())
    if expected is None:
        with pytest.raises(GuardRefusalError, match="bounds"):
            plan_computation(LIMITS, [schema], [table])
    else:
        plan = plan_computation(LIMITS, [schema], [table])
        assert plan.cells[0].schema.components[0].bounds == expected


def test_columns_of_one_name_share_the_wider_bounds() -> None:
    tables = [
        replace(VISITS, table=name, columns=(ColumnSchema("x", BIGINT, frozenset(), (low, high)),))
        for name, low, high in (("a", 0, 3), ("b", -4, 2))
    ]
    one = Component(ComponentKind.SUM, ("x",))
    schema = CellSchema(("hospital.a",), (), (one,), None, ())
    plan = plan_computation(LIMITS, [schema], tables)
    assert plan.cells[0].schema.components[0].bounds == (-4, 3)


def test_rows_of_public_tables_cost_nothing() -> None:
    public = CellSchema((), (VARCHAR,), (), None, ())
    plan = plan_computation(LIMITS, [public, cells("sex")], [VISITS, WARDS])
    assert len(plan.noise) == 3
    assert plan.cells[0].components == ()
    alone = plan_computation(LIMITS, [public], [VISITS, WARDS])
    assert alone.protected == frozenset()


def test_the_strictest_limits_hold() -> None:
    found = strictest(DpLimits(agreed("1", "1e-6"), 3, 1), [DpLimits(agreed("2"), 1, 5)])
    assert found == DpLimits(agreed("1"), 1, 1)
    assert strictest(None, []) is None


def test_public_values_are_known() -> None:
    plan = plan_computation(
        LIMITS, [cells("ward")], [VISITS, WARDS], {"hospital.wards.ward": ("a", None, "b")}
    )
    assert plan.rules.domains == ((("a", None, "b"),),)
    assert plan.cells[0].domains == (("a", None, "b"),)


def test_expected_noise_is_in_the_values_own_units() -> None:
    plan = plan_computation(LIMITS, [cells("sex")], [VISITS])
    rows, amount, units = plan.noise
    assert (rows.what, amount.what, units.what) == ("rows", "sum(amount)", "units")
    assert rows.deviation == pytest.approx(4.22, abs=0.01)
    assert amount.deviation == pytest.approx(100 * 3 * 2**0.5, rel=1e-3)
    assert rows.threshold == 0
    assert amount.to_json()["deviation"] == "424.264"


def test_refusals_say_what_to_declare() -> None:
    unbounded = replace(cells(), components=(replace(AGE, bounds=None),))  # `age` isn't a column
    with pytest.raises(GuardRefusalError, match="bounds"):
        plan_computation(LIMITS, [unbounded], [VISITS])
