"""The privacy budget at the holder: debited before anything is computed, never given back."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import uuid4

import pyarrow as pa
import pytest
from budget_world import DOMAIN, budget_world, dp_product
from compute_world import BY_SEX, OFFERED, Workshop, refusal_of
from contract_world import ANALYST, NOW, THIRD, USER, user_credential
from dp_world import agreed
from history_world import history_world

from luoshu.connector.catalog.entry_building import ShelvedProduct
from luoshu.connector.compute.budget import domain_limits
from luoshu.connector.compute.explaining import Explainer
from luoshu.connector.compute.outcome import Phase
from luoshu.connector.contract.service import ContractAction
from luoshu.connector.errors import NodeError, lookup
from luoshu.contracts.canonical import canonicalize, parse_object
from luoshu.contracts.dp_terms import DpTerms, PrivacyBound
from luoshu.contracts.ids import contract_id, request_id
from luoshu.contracts.release_notes import from_metadata
from luoshu.contracts.request import ComputationRequest
from luoshu.sandbox.release.dp_budget import EPSILON_UNITS, cost_of
from luoshu.sdk.errors import VerificationError
from luoshu.sdk.explanation import Amount, read_explanation

pytestmark = pytest.mark.system

BUDGET = "epsilon: 0.5, budget_epsilon: 1.5"
"""Pays for three computations."""


@pytest.fixture
async def world(tmp_path):
    async with budget_world(tmp_path, BUDGET) as world:
        yield world


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


def bound(epsilon, delta="0", quota=None):
    return DpTerms(PrivacyBound(Decimal(epsilon), Decimal(delta)), quota)


def pure(epsilon, times=1):
    return cost_of(agreed(epsilon), unknown_keys=False).epsilon * times


async def test_a_computation_is_debited_and_its_noisy_result_released(world):
    state = await world.agree()
    receipt, rows = await world.outcome(world.ask(state, "known"))
    assert [row["sex"] for row in rows] == ["1", "2"]
    assert abs(rows[0]["n"] - 500) < 120
    assert (await world.spent()).epsilon == pure("0.5")
    (decision,) = world.log("decision")
    assert decision["privacy"] == {
        "domain": DOMAIN,
        "cost": {"epsilon": EPSILON_UNITS // 2, "rho": EPSILON_UNITS // 8, "delta": 0},
    }
    assert world.verified(receipt).kind == "release"


async def test_the_debit_is_durable_before_anything_is_computed(world):
    world.noisy.hold = True
    state = await world.agree()
    request_id = await world.submit(world.ask(state, "known"))
    await world.reach(request_id, Phase.COMPUTING)
    await world.crash()
    assert (await world.spent()).epsilon == pure("0.5")
    await world.serve()
    assert [entry["kind"] for entry in world.log()] == ["decision", "failure"]
    assert (await world.spent()).epsilon == pure("0.5")


async def test_a_failed_computation_gives_nothing_back(world):
    state = await world.agree()
    with refused("QUERY_FAILED"):
        await world.outcome(world.ask(state, "fail"))
    assert (await world.spent()).epsilon == pure("0.5")


async def test_an_exhausted_budget_refuses_before_anything_is_computed(world):
    state = await world.agree()
    for _ in range(3):
        await world.outcome(world.ask(state, "known"))
    asked = world.ask(state, "known")
    with refused("PRIVACY_BUDGET_EXHAUSTED"):
        await world.outcome(asked)
    assert world.noisy.computed == 3
    assert (await world.spent()).epsilon == pure("0.5", 3)
    assert await world.uses(state) == 3
    last = world.log("decision")[-1]
    assert (last["allow"], last["reason"]) == (False, "PRIVACY_BUDGET_EXHAUSTED")
    assert lookup("PRIVACY_BUDGET_EXHAUSTED").status == "RESOURCE_EXHAUSTED"
    # Who comes again with the same request is told the same, and nothing is written twice.
    with refused("PRIVACY_BUDGET_EXHAUSTED"):
        await world.outcome(asked)
    assert len(world.log("decision")) == 4


async def test_a_request_is_debited_once(world):
    state = await world.agree()
    asked = world.ask(state, "known")
    first = await world.outcome(asked)
    assert await world.outcome(asked) == first
    assert (await world.spent()).epsilon == pure("0.5")


async def test_computations_at_once_never_spend_the_same(world):
    state, other = await world.agree(), await world.agree()
    await world.serve(concurrency=8)
    asked = [world.ask(one, "known") for one in [state, other] * 4]
    outcomes = await asyncio.gather(*(world.outcome(one) for one in asked), return_exceptions=True)
    told = sorted(refusal_of(outcome) for outcome in outcomes)
    assert told == [""] * 3 + ["PRIVACY_BUDGET_EXHAUSTED"] * 5
    assert world.noisy.computed == 3
    assert (await world.spent()).epsilon == pure("0.5", 3)


async def test_what_other_contracts_spent_counts(world):
    first, second = await world.agree(), await world.agree()
    for state in (first, second, first):
        await world.outcome(world.ask(state, "known"))
    assert (await world.spent(first.contract_id)).epsilon == pure("0.5", 2)
    assert (await world.spent(second.contract_id)).epsilon == pure("0.5")
    with refused("PRIVACY_BUDGET_EXHAUSTED"):
        await world.outcome(world.ask(second, "known"))


async def test_a_quota_ends_before_the_budget(world):
    quota = PrivacyBound(Decimal("0.2"))
    small = await world.agree(bound("0.1", quota=quota))
    for _ in range(2):
        await world.outcome(world.ask(small, "known"))
    with refused("PRIVACY_QUOTA_EXHAUSTED"):
        await world.outcome(world.ask(small, "known"))
    assert (await world.spent()).epsilon == pure("0.1", 2)
    await world.outcome(world.ask(await world.agree(), "known"))


async def test_a_quota_is_no_claim_on_the_budget(world):
    """Whoever computes first is served; a quota only limits."""
    quota = PrivacyBound(Decimal(50))
    wide = await world.agree(bound("0.5", quota=quota))
    for _ in range(3):
        await world.outcome(world.ask(wide, "known"))
    with refused("PRIVACY_BUDGET_EXHAUSTED"):
        await world.outcome(world.ask(wide, "known"))


async def test_contracts_can_not_spend_more_at_once_than_the_product_allows(world):
    for weaker in (bound("0.6"), bound("0.5", "0.000001")):
        assert (await world.agree(weaker)).agreement is None
    assert (await world.agree(bound("0.4"))).agreement is not None


async def test_budgets_of_other_products_about_the_same_people_bind(world):
    state = await world.agree()
    await world.outcome(world.ask(state, "known"))
    world.shelf.products["lung-followup"] = dp_product(
        "lung-followup", "epsilon: 0.1, budget_epsilon: 0.9"
    )
    with refused("PRIVACY_BUDGET_EXHAUSTED"):
        await world.outcome(world.ask(state, "known"))
    # A product that declares no budget of its own adds no limit.
    world.shelf.products["lung-followup"] = dp_product("lung-followup", "epsilon: 0.1")
    await world.outcome(world.ask(state, "known"))


async def test_unknown_keys_without_delta_cost_nothing_and_are_refused(world):
    state = await world.agree()
    with pytest.raises(NodeError, match="delta"):
        await world.outcome(world.ask(state, "unknown"))
    assert (await world.spent()).epsilon == 0
    assert world.noisy.computed == 0


async def test_a_computation_without_a_plan_is_never_computed(world):
    state = await world.agree()
    with refused("INTERNAL"):
        await world.outcome(world.ask(state, "unplanned"))
    assert world.noisy.computed == 0


async def test_zcdp_and_thresholds_are_debited_where_delta_was_agreed(tmp_path):
    section = "epsilon: 0.5, delta: 1e-6, budget_epsilon: 2, budget_delta: 2.5e-6"
    async with budget_world(tmp_path, section) as world:
        state = await world.agree()
        _, rows = await world.outcome(world.ask(state, "unknown"))
        assert [row["sex"] for row in rows] == ["1"]
        await world.outcome(world.ask(state, "known"))
        known = cost_of(agreed("0.5", "1e-6"), unknown_keys=False)
        unknown = cost_of(agreed("0.5", "1e-6"), unknown_keys=True)
        assert await world.spent() == known + unknown
        await world.outcome(world.ask(state, "unknown"))
        # The budget's delta pays for two thresholds; its rho for more.
        with refused("PRIVACY_BUDGET_EXHAUSTED"):
            await world.outcome(world.ask(state, "unknown"))
        await world.outcome(world.ask(state, "known"))


async def test_a_restarted_node_goes_on_with_what_was_spent(world):
    state = await world.agree()
    await world.outcome(world.ask(state, "known"))
    await world.crash()
    await world.serve()
    for _ in range(2):
        await world.outcome(world.ask(state, "known"))
    with refused("PRIVACY_BUDGET_EXHAUSTED"):
        await world.outcome(world.ask(state, "known"))


async def test_a_contract_keeps_to_a_product_that_became_stricter(world):
    state = await world.agree()
    world.shelf.products["lung"] = dp_product("lung", "epsilon: 0.25, budget_epsilon: 1.5")
    await world.outcome(world.ask(state, "known"))
    assert (await world.spent()).epsilon == pure("0.25")


async def test_mode_aggregate_is_debited_no_privacy(tmp_path):
    async with history_world(tmp_path) as world:
        state = await world.contract(uses=5)
        await world.counted("1-20", state)
        assert all("privacy" not in entry for entry in world.log("decision"))


def test_where_nobody_declares_a_budget_each_computation_is_the_budget():
    first, second = dp_product("a", "epsilon: 1").file, dp_product("b", "epsilon: 0.5").file
    assert domain_limits([first, second], DOMAIN) == (agreed("1"), agreed("0.5"))
    declared = dp_product("c", "epsilon: 0.5, budget_epsilon: 7").file
    assert domain_limits([first, second, declared], DOMAIN) == (agreed("7"),)
    assert domain_limits([first], "somebody else") == ()


# Said before anything is spent


def unsigned(state, sql="known", **changes):
    fields = {
        "id": request_id(uuid4()),
        "contract_id": state.contract_id,
        "user_id": USER,
        "purpose": "research",
        "sql": sql,
        "issued_at": NOW,
    }
    return canonicalize(ComputationRequest(**{**fields, **changes}).to_payload())


def explainer(world):
    return Explainer(
        ledger=world.holder.ledger,
        gatekeeper=world.gatekeeper(),
        products=world.shelf,
        sandbox=world.noisy,
    )


async def explained(world, request, caller=ANALYST):
    return parse_object(await explainer(world).explain(caller.id, request))


async def test_cost_budget_and_noise_are_told_before_anything_is_spent(world):
    state = await world.agree(bound("0.5", quota=PrivacyBound(Decimal(1))))
    await world.outcome(world.ask(state, "known"))
    size = world.holder.ledger.size
    told = await explained(world, unsigned(state))
    assert told == {
        "mode": "dp",
        "uses_left": 99,
        "notes": ["RELEASED_GROUPS"],
        "privacy": {
            "domain": DOMAIN,
            "cost": {"epsilon": "0.5"},
            "affords": 1,
            "budgets": [
                {
                    "limit": {"epsilon": "1.5", "delta": "0"},
                    "remaining": {"epsilon": "1"},
                }
            ],
            "quota": {
                "limit": {"epsilon": "1", "delta": "0"},
                "remaining": {"epsilon": "0.5"},
            },
            "noise": [{"query": 0, "what": "rows", "deviation": "2.79918", "threshold": "0"}],
        },
    }
    assert world.holder.ledger.size == size
    assert world.noisy.computed == 1
    # What was told is what is then spent.
    await world.outcome(world.ask(state, "known"))
    again = read_explanation(await explainer(world).explain(ANALYST.id, unsigned(state)))
    assert (again.affords, again.quota.remaining) == (0, Amount(epsilon=Decimal(0)))
    assert again.noise[0].what == "rows"


async def test_thresholds_are_told_where_keys_are_not_declared(tmp_path):
    async with budget_world(tmp_path, "epsilon: 0.5, delta: 1e-6") as world:
        state = await world.agree()
        told = read_explanation(
            await explainer(world).explain(ANALYST.id, unsigned(state, "unknown"))
        )
        assert told.affords == 1
        assert told.cost.delta == Decimal("1e-7")
        assert told.cost.rho == told.budgets[0].remaining.rho
        assert told.noise[0].threshold > 40


async def test_an_explanation_is_for_a_party_to_an_active_contract_only(world):
    state = await world.agree()
    with refused("NOT_FOUND"):
        await explained(world, unsigned(state), THIRD)
    with refused("NOT_FOUND"):
        await explained(world, unsigned(state, contract_id=contract_id(uuid4())))
    with pytest.raises(NodeError, match="delta"):
        await explained(world, unsigned(state, "unknown"))
    with refused("MALFORMED_MESSAGE"):
        await explainer(world).explain(ANALYST.id, b"{")
    await world.holder.contracts.act(state.contract_id, ContractAction.SUSPEND, reason="look")
    with refused("CONTRACT_NOT_ACTIVE"):
        await explained(world, unsigned(state))


async def test_an_explained_request_can_not_be_computed(world):
    """It isn't signed: who carries it can't spend anything with it."""
    state = await world.agree()
    with pytest.raises(NodeError):
        await world.service.submit(
            ANALYST.id, unsigned(state), user_credential().sign(ANALYST.events).to_bytes()
        )
    assert (await world.spent()).epsilon == 0


def test_an_explanation_that_makes_no_sense_is_not_believed():
    for wrong in (b"", b"[]", b"{}", b'{"mode":"dp"}', b'{"mode":"dp","uses_left":"3"}'):
        with pytest.raises(VerificationError):
            read_explanation(wrong)
    broken = {"mode": "dp", "uses_left": 1, "privacy": {"cost": {"sigma": "1"}}}
    with pytest.raises(VerificationError):
        read_explanation(canonicalize(broken))


async def noted(world, state, sql):
    """Notes of a result, and of its explanation before; both for the same query."""
    told = read_explanation(await explainer(world).explain(ANALYST.id, unsigned(state, sql)))
    request_id = await world.submit(world.ask(state, sql))
    _, result = await world.service.fetch(ANALYST.id, request_id)
    return told.notes, from_metadata(pa.ipc.open_stream(result).schema.metadata)


@pytest.fixture
def workshop(tmp_path):
    made = Workshop.make(tmp_path)
    yield made
    made.sandbox.close()


async def test_no_claim_is_made_once_the_same_people_were_released_exactly(tmp_path, workshop):
    """The data of one domain, first by mode dp, then by aggregate as well, then by dp again."""
    groups, both = ("RELEASED_GROUPS",), ("RELEASED_GROUPS", "NO_PRIVACY_CLAIM")
    async with budget_world(tmp_path / "world", BUDGET) as world:
        state = await world.agree()
        assert await noted(world, state, "known") == (groups, groups)
        noisy, stand_in = world.shelf.products["lung"], world.noisy
        world.shelf.products["lung"] = ShelvedProduct(workshop.product, workshop.prepared)
        world.noisy = workshop.sandbox
        await world.publish(OFFERED)
        exact = await world.contract()
        await world.serve(workshop.sandbox)
        assert await noted(world, exact, BY_SEX) == (both, both)
        world.shelf.products["lung"], world.noisy = noisy, stand_in
        await world.serve()
        assert await noted(world, state, "known") == (both, both)
