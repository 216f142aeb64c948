"""Privacy budgets under any interleaving of contracts, refusals and rebuilt tables."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from dp_world import agreed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from luoshu.connector.compute import entries
from luoshu.connector.compute.budget import (
    BudgetProjection,
    PrivacyCharge,
    find_spent,
    refusal_of,
    standing,
)
from luoshu.connector.compute.budget_tables import spent
from luoshu.contracts.canonical import canonicalize, parse_object
from luoshu.contracts.log.entry import Entry, EntryBody
from luoshu.sandbox.release.dp_budget import Budget, Guarantee, PrivacyCost, cost_of

DOMAINS = ("patients", "customers")
CONTRACTS = ("first", "second", "third")
AGREED = [agreed("0.1"), agreed("0.25"), agreed("0.1", "1e-6"), agreed("0.02", "1e-7")]
LIMITS = [(agreed("0.5"),), (agreed("1", "1e-6"),), (agreed("2", "1e-5"), agreed("1", "2e-6"))]
QUOTAS = [None, agreed("0.2"), agreed("0.3", "1e-6")]


class Ledger(RuleBasedStateMachine):
    """What the holder's one writer does, commit by commit, beside a list of what was allowed."""

    @initialize(limits=st.tuples(st.sampled_from(LIMITS), st.sampled_from(LIMITS)))
    def begin(self, limits: tuple[tuple[Guarantee, ...], tuple[Guarantee, ...]]) -> None:
        self.limits = dict(zip(DOMAINS, limits, strict=True))
        self.connection = sa.create_engine("sqlite://").connect()
        spent.create(self.connection)
        self.projection = BudgetProjection()
        self.log: list[Entry] = []
        self.allowed: list[tuple[str, str, PrivacyCost]] = []

    def record(self, contract: str, data: dict) -> None:
        data = parse_object(canonicalize(data))  # as it is read back
        body = EntryBody(entries.DECISION, datetime(2026, 3, 1, tzinfo=UTC), (), contract, data)
        self.log.append(Entry(len(self.log), body, bytes(32)))
        self.projection.apply(self.connection, self.log[-1])

    @rule(
        domain=st.sampled_from(DOMAINS),
        contract=st.sampled_from(CONTRACTS),
        terms=st.sampled_from(AGREED),
        quota=st.sampled_from(QUOTAS),
        unknown_keys=st.booleans(),
    )
    def decide(
        self,
        domain: str,
        contract: str,
        terms: Guarantee,
        quota: Guarantee | None,
        unknown_keys: bool,
    ) -> None:
        cost = cost_of(terms, unknown_keys=unknown_keys and not terms.is_pure)
        charge = PrivacyCharge(domain, cost, self.limits[domain], quota)
        affords = standing(self.connection, contract, charge).affords
        refusal = refusal_of(self.connection, contract, charge)
        assert (refusal is None) == (affords > 0)
        if refusal is None:
            self.record(contract, {"allow": True, "privacy": charge.to_json()})
            self.allowed.append((domain, contract, cost))
        else:
            self.record(contract, {"allow": False, "reason": refusal.reason})

    @rule(contract=st.sampled_from(CONTRACTS))
    def decide_without_privacy(self, contract: str) -> None:
        self.record(contract, {"allow": True})

    @rule()
    def rebuild(self) -> None:
        self.projection.clear(self.connection)
        for entry in self.log:
            self.projection.apply(self.connection, entry)

    @invariant()
    def tables_say_what_was_allowed(self) -> None:
        for domain in DOMAINS:
            costs = [cost for where, _, cost in self.allowed if where == domain]
            assert find_spent(self.connection, domain) == sum(costs, PrivacyCost())
            for contract in CONTRACTS:
                under = [
                    cost
                    for where, which, cost in self.allowed
                    if (where, which) == (domain, contract)
                ]
                assert find_spent(self.connection, domain, contract) == sum(under, PrivacyCost())

    @invariant()
    def no_limit_is_ever_passed(self) -> None:
        for domain in DOMAINS:
            total = find_spent(self.connection, domain)
            assert all(Budget(limit, total).holds for limit in self.limits[domain])

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
            self.connection.engine.dispose()


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_no_limit_at_all_pays_for_nothing() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        spent.create(connection)
        charge = PrivacyCharge("patients", cost_of(agreed("0.1"), unknown_keys=False), ())
        refusal = refusal_of(connection, "first", charge)
        assert refusal is not None
        assert refusal.reason == "PRIVACY_BUDGET_EXHAUSTED"
        assert standing(connection, "first", charge).affords == 0
    engine.dispose()
