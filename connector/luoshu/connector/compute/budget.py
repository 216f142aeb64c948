"""The privacy budget at the holder: what each domain of privacy units has spent, and may spend.

A computation under mode ``dp`` is debited in the commit of its decision: durable before a
protected row is read, on the ledger's one writer, so that two at once can't spend the same. The
debit is what was computed from terms and schemas (`luoshu.sandbox.dp_agreement`); nothing is given
back, whatever becomes of the computation.

The budget binds per domain, over all products, versions and contracts about the same people. A
contract's quota is a limit within it. The log is what counts: these tables follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import sqlalchemy as sa
from sqlalchemy import Connection

from luoshu.connector.compute import entries
from luoshu.connector.compute.budget_tables import spent
from luoshu.connector.compute.outcome import Refusal
from luoshu.connector.dp_rules import guarantee_of
from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import JsonObject, JsonValue
from luoshu.contracts.log.entry import Entry
from luoshu.contracts.release_terms import ReleaseMode, ReleaseTerms
from luoshu.sandbox.dp_agreement import PrivacyPlan
from luoshu.sandbox.product_file import DifferentialPrivacyRelease, ProductFile
from luoshu.sandbox.release.dp_budget import (
    Budget,
    BudgetExhaustedError,
    Guarantee,
    PrivacyCost,
)
from luoshu.sandbox.run import ReleaseRules

__all__ = [
    "BudgetProjection",
    "PrivacyCharge",
    "Standing",
    "charge_of",
    "domain_limits",
    "find_spent",
    "refusal_of",
    "standing",
]


@dataclass(frozen=True, slots=True)
class PrivacyCharge:
    """What a computation costs, and the limits that it must keep.

    Attributes:
        domain: Whose privacy is spent.
        cost: What it costs.
        limits: The domain's budgets; each must hold. None at all pays for nothing.
        quota: The contract's quota within them, if it has one.
    """

    domain: str
    cost: PrivacyCost
    limits: tuple[Guarantee, ...]
    quota: Guarantee | None = None

    def to_json(self) -> JsonObject:
        """What the decision entry says: the debit itself."""
        return {"domain": self.domain, "cost": cast("JsonObject", self.cost.to_json())}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a charge stands before it is debited.

    Attributes:
        charge: What one computation costs.
        budgets: The domain's, each with what was spent.
        quota: The contract's, with what was spent under it; None if it has none.
    """

    charge: PrivacyCharge
    budgets: tuple[Budget, ...]
    quota: Budget | None

    @property
    def affords(self) -> int:
        """How many computations like this one can still be paid for."""
        pots = [*self.budgets, *([] if self.quota is None else [self.quota])]
        return min((pot.affords(self.charge.cost) for pot in pots), default=0)


class BudgetProjection:
    """Folds the debits of decision entries."""

    name = "budget"
    version = 1

    def clear(self, connection: Connection) -> None:
        """Empties the table, before it is built again from the first entry."""
        connection.execute(sa.delete(spent))

    def apply(self, connection: Connection, entry: Entry) -> None:
        """Applies one entry; entries without a debit change nothing here."""
        if entry.body.kind != entries.DECISION:
            return
        data = cast("Mapping[str, JsonValue]", entry.body.data)
        if data["allow"] is not True or "privacy" not in data:
            return
        debit = cast("Mapping[str, JsonValue]", data["privacy"])
        domain, contract_id = str(debit["domain"]), entry.body.contract_id
        cost = PrivacyCost.from_json(debit["cost"])
        which = sa.and_(spent.c.domain == domain, spent.c.contract_id == contract_id)
        row = connection.execute(sa.select(spent).where(which)).one_or_none()
        before = PrivacyCost() if row is None else _cost(row)
        after = before + cost
        values = {"epsilon": after.epsilon, "rho": after.rho, "delta": after.delta}
        if row is None:
            connection.execute(
                sa.insert(spent).values(
                    domain=domain, contract_id=contract_id, computations=1, **values
                )
            )
        else:
            connection.execute(
                sa.update(spent).where(which).values(computations=row.computations + 1, **values)
            )


def find_spent(connection: Connection, domain: str, contract_id: str | None = None) -> PrivacyCost:
    """What was spent about a domain, under all contracts or under one."""
    query = sa.select(spent).where(spent.c.domain == domain)
    if contract_id is not None:
        query = query.where(spent.c.contract_id == contract_id)
    return sum((_cost(row) for row in connection.execute(query)), PrivacyCost())


def standing(connection: Connection, contract_id: str, charge: PrivacyCharge) -> Standing:
    """Budgets and quota as they are at this connection's moment."""
    total = find_spent(connection, charge.domain)
    quota = None
    if charge.quota is not None:
        quota = Budget(charge.quota, find_spent(connection, charge.domain, contract_id))
    return Standing(charge, tuple(Budget(limit, total) for limit in charge.limits), quota)


def refusal_of(connection: Connection, contract_id: str, charge: PrivacyCharge) -> Refusal | None:
    """Why a charge can't be debited at this connection's moment; None if it can."""
    now = standing(connection, contract_id, charge)
    if now.quota is not None and not _pays(now.quota, charge.cost):
        return Refusal(
            "PRIVACY_QUOTA_EXHAUSTED",
            "What is left of the contract's privacy quota doesn't pay for this computation.",
            "privacy_quota",
        )
    if not now.budgets or not all(_pays(budget, charge.cost) for budget in now.budgets):
        return Refusal(
            "PRIVACY_BUDGET_EXHAUSTED",
            "What is left of the privacy budget of the people in this data doesn't pay for this "
            "computation.",
            "privacy_budget",
        )
    return None


def charge_of(
    rules: ReleaseRules,
    plan: PrivacyPlan | None,
    domain: str,
    terms: ReleaseTerms,
    limits: tuple[Guarantee, ...],
) -> PrivacyCharge | None:
    """What is debited for a verified computation.

    Args:
        rules: In force.
        plan: What the sandbox found that it costs.
        domain: Of the product's privacy units.
        terms: The contract's release section, with its quota.
        limits: The domain's budgets.

    Returns:
        None for other modes than ``dp``, and where nobody's rows are read.

    Raises:
        NodeError: ``INTERNAL``; mode ``dp`` without a plan: nothing is computed for free.
    """
    if rules.mode != ReleaseMode.DP:
        return None
    if plan is None:
        raise NodeError("INTERNAL", private="a computation under mode dp without a privacy plan")
    if not plan.protected:
        return None
    quota = None if terms.dp is None or terms.dp.quota is None else guarantee_of(terms.dp.quota)
    return PrivacyCharge(domain, plan.cost, limits, quota)


def domain_limits(products: Iterable[ProductFile], domain: str) -> tuple[Guarantee, ...]:
    """The budgets of a domain: those that its products declare, all of which must hold.

    Where no product declares one, each has what it allows one computation.
    """
    releases = [
        product.release
        for product in products
        if product.domain == domain and isinstance(product.release, DifferentialPrivacyRelease)
    ]
    declared = [budget for release in releases if (budget := release.budget) is not None]
    return tuple(dict.fromkeys(declared or [release.computation for release in releases]))


def _pays(budget: Budget, cost: PrivacyCost) -> bool:
    try:
        budget.debit(cost)
    except BudgetExhaustedError:
        return False
    return True


def _cost(row: sa.Row[tuple[object, ...]]) -> PrivacyCost:
    return PrivacyCost(row.epsilon, row.rho, row.delta)
