"""`luoshu query --explain` between an analyst's node and a holder's, as processes that serve gRPC.

What the holder says costs nothing and is what the computation then costs.
"""

import json
from decimal import Decimal

import duckdb
import pytest
from processes import luoshu

from luoshu.contracts.membership import Role, UserRole
from luoshu.examples import local_space
from luoshu.examples.local_space import LocalSpace, NodePlan
from luoshu.sdk import connect
from luoshu.sdk.errors import GuardRefusedError, LuoshuError, NotFoundError

pytestmark = pytest.mark.system

PLANS = [
    NodePlan.of("operator", Role.OPERATOR),
    NodePlan.of("holder", Role.HOLDER),
    NodePlan.of("analyst", Role.ANALYST, users={"ann": (UserRole.ANALYST,)}),
    NodePlan.of("other", Role.ANALYST, users={"bob": (UserRole.ANALYST,)}),
]
PRODUCT = """
id: {id}
source: {{parquet: visits.parquet}}
privacy_unit: patient
privacy_domain: {id}
columns:
  sex: {{use: [group, filter], values: [f, m]}}
  age: {{use: [aggregate, filter], bounds: [0, 120]}}
release: {release}
"""
NOISY = "{mode: dp, epsilon: 0.5, budget_epsilon: 2, rows_per_cell: 1}"
EXACT = "{mode: aggregate, min_units: 10}"
ROWS = "SELECT i AS patient, ['f', 'm'][i % 2 + 1] AS sex, i % 90 AS age FROM range(400) r(i)"
OFFER = {"id": "o", "uses": 9, "purposes": ["research"]}
COUNT = "SELECT sex, count(*) AS n FROM {} GROUP BY sex"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    root = tmp_path_factory.mktemp("space")
    duckdb.execute(f"COPY ({ROWS}) TO '{root / 'visits.parquet'}'")
    with LocalSpace(root / "nodes", "alliance") as made:
        made.create(PLANS)
        for name in made.nodes:
            made.enrol(name)
        with local_space.preparation() as sandbox:
            for name, release in (("noisy", NOISY), ("exact", EXACT)):
                file = root / f"{name}.yaml"
                file.write_text(PRODUCT.format(id=name, release=release))
                local_space.prepare(made.nodes["holder"], file, sandbox)
        made.start(*(plan.name for plan in PLANS))
        with connect(made.nodes["holder"].profile()) as holder:
            holder.publish("noisy", [{**OFFER, "mode": "dp", "epsilon": 0.5}])
            holder.publish("exact", [{**OFFER, "min_units": 10}])
        yield made


@pytest.fixture(scope="module")
def ann(space):
    with connect(space.nodes["analyst"].profile("ann")) as connected:
        yield connected


@pytest.fixture(scope="module")
def contracts(space, ann):
    holder = space.participant_id("holder")
    return {
        name: ann.negotiate(ann.product(f"{holder}:product:{name}")) for name in ("noisy", "exact")
    }


def written(space):
    """How many entries the holder's log has."""
    with connect(space.nodes["holder"].profile()) as holder:
        return holder.node().log_size


def test_cost_is_said_before_it_is_spent_and_is_what_is_spent(space, contracts):
    contract, sql = contracts["noisy"], COUNT.format("noisy")
    before = written(space)
    told = contract.explain(sql)
    assert (told.mode, told.uses_left) == ("dp", 9)
    assert told.cost is not None
    assert told.cost.epsilon == Decimal("0.5")
    assert told.affords == 4
    assert [(pot.epsilon, pot.remaining.epsilon) for pot in told.budgets] == [(2, 2)]
    assert [noise.what for noise in told.noise] == ["rows"]
    assert told.noise[0].deviation == pytest.approx(2.80, abs=0.01)
    assert contract.explain(sql) == told
    assert written(space) == before, "nothing is written, so nothing is debited"
    rows = contract.query(sql).rows()
    assert {row[0] for row in rows} == {"f", "m"}
    assert all(abs(row[1] - 200) < 40 for row in rows)
    after = contract.explain(sql)
    assert (after.uses_left, after.affords) == (8, 3)
    assert [pot.remaining.epsilon for pot in after.budgets] == [Decimal("1.5")]


def test_exact_results_cost_uses_alone(contracts):
    told = contracts["exact"].explain(COUNT.format("exact"))
    assert (told.mode, told.uses_left, told.cost, told.noise) == ("aggregate", 9, None, ())


@pytest.mark.parametrize(
    ("sql", "code"),
    [("SELECT * FROM exact", "GUARD_RAW_ROWS"), ("SELECT sum(sex) FROM nothing", "QUERY_INVALID")],
)
def test_what_would_be_refused_is_refused(space, contracts, sql, code):
    before = written(space)
    with pytest.raises(LuoshuError) as refused:
        contracts["exact"].explain(sql)
    assert refused.value.reason == code
    assert isinstance(refused.value, GuardRefusedError) == code.startswith("GUARD")
    assert written(space) == before


def test_command_prints_what_the_holder_says(space, contracts):
    contract, sql = contracts["noisy"], COUNT.format("noisy")
    run = ("query", contract.id, "--sql", sql, "--explain")
    profile = ("--profile", space.nodes["analyst"].profile("ann"))
    as_json = luoshu(*run, "--json", *profile)
    assert as_json.returncode == 0, as_json.stderr
    assert json.loads(as_json.stdout) == contract.explain(sql).document
    for_people = luoshu(*run, *profile)
    assert for_people.returncode == 0, for_people.stderr
    assert "costs epsilon 0.5; 3 like it" in for_people.stderr
    refused = luoshu(*run[:3], "SELECT * FROM noisy", "--explain", *profile)
    assert refused.returncode == 3
    assert "Rows of protected tables are not released" in refused.stderr


def test_contract_of_another_member_does_not_exist(space, contracts):
    with connect(space.nodes["other"].profile("bob")) as bob, pytest.raises(NotFoundError):
        bob.contract(contracts["noisy"].id).explain(COUNT.format("noisy"))


def test_holder_that_is_away_is_said_to_be(space, contracts):
    """The last: the holder is stopped."""
    space.nodes["holder"].stop()
    with pytest.raises(LuoshuError) as away:
        contracts["exact"].explain(COUNT.format("exact"))
    assert away.value.reason == "PEER_UNREACHABLE"
