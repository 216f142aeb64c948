"""What a computation would cost, before it is asked: the holder's side of `luoshu query --explain`.

The guard verifies the query as it would for a computation, in a worker that is thrown away after
that. No protected row is read, nothing is debited, nothing is written. Whoever is told is a party
to the contract: what is left of the domain's budget tells it how much others have spent, and that
is meant.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from sqlalchemy import Connection

from luoshu.connector.compute.budget import Standing, charge_of, standing
from luoshu.connector.compute.gatekeeping import Gatekeeper
from luoshu.connector.compute.history import notes_of
from luoshu.connector.compute.ports import ProductShelf, SandboxPort
from luoshu.connector.compute.templates import query_of, template_refusal
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger
from luoshu.connector.release_rules import effective_rules
from luoshu.contracts.canonical import JsonObject, JsonValue, canonicalize, parse_object
from luoshu.contracts.contract import AgreementState, ContractState
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.release_terms import ReleaseMode
from luoshu.contracts.request import ComputationRequest
from luoshu.sandbox.dp_agreement import PrivacyPlan
from luoshu.sandbox.errors import (
    GuardRefusalError,
    QueryError,
    SandboxFailureError,
    SandboxUnavailableError,
)
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.release.dp_budget import DELTA_UNITS, EPSILON_UNITS, Budget, Guarantee
from luoshu.sandbox.run import ReleaseRules

MAX_WAITING: Final = 16
"""Explanations under way; more are refused: they start workers and cost their asker nothing."""


class Explainer:
    """Explains computations. Holds no state but what is under way. One instance a node."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        gatekeeper: Gatekeeper,
        products: ProductShelf,
        sandbox: SandboxPort,
    ) -> None:
        self._ledger = ledger
        self._gatekeeper = gatekeeper
        self._products = products
        self._sandbox = sandbox
        self._one = asyncio.Semaphore(1)
        self._waiting = 0

    async def explain(self, caller: str, request: bytes) -> bytes:
        """Explains a request of a member, as JSON.

        Args:
            caller: Participant id.
            request: JSON of a `ComputationRequest`.

        Raises:
            NodeError: Ill-formed; ``NOT_FOUND``, no contract of the caller; it isn't active; the
                guard refuses the query.
        """
        try:
            asked = ComputationRequest.from_payload(parse_object(request))
        except ContractsError as error:
            raise NodeError.from_reason(error) from error
        state = await self._ledger.read(lambda c: self._contract(c, caller, asked))
        if refusal := template_refusal(state.terms, asked):
            raise NodeError(refusal.reason, refusal.message)
        if self._waiting >= MAX_WAITING:
            raise NodeError("RATE_LIMITED", "Too many explanations are under way.")
        self._waiting += 1
        try:
            async with self._one:
                return canonicalize(await self._explained(state, asked))
        finally:
            self._waiting -= 1

    def _contract(
        self, connection: Connection, caller: str, asked: ComputationRequest
    ) -> ContractState:
        state = self._gatekeeper.contract_between(connection, caller, asked.contract_id)
        if state.agreement is not AgreementState.ACTIVE:
            raise NodeError("CONTRACT_NOT_ACTIVE")
        return state

    async def _explained(self, state: ContractState, asked: ComputationRequest) -> JsonObject:
        try:
            product = await asyncio.to_thread(self._products.prepared, state.product_id)
        except NodeError as error:
            raise NodeError("QUERY_FAILED", private=f"{state.product_id}: {error}") from error
        rules = effective_rules(state.terms.release, product)
        query = query_of(state.terms, asked)
        try:
            async with self._sandbox.computation(
                [product], rules, query.sql, None, query.parameters
            ) as computation:
                plan = await computation.verify()
        except (GuardRefusalError, QueryError) as refused:
            raise NodeError(refused.code, refused.message) from None
        except SandboxUnavailableError as error:
            raise NodeError("SANDBOX_UNAVAILABLE", private=error.message) from error
        except SandboxFailureError as error:
            raise NodeError("QUERY_FAILED", private=error.detail) from error
        notes = await self._ledger.read(lambda c: notes_of(c, rules.mode, product.domain))
        explanation: JsonObject = {
            "mode": rules.mode,
            "uses_left": _uses_left(state),
            "notes": list(notes),
        }
        if rules.mode == ReleaseMode.DP and plan.privacy is not None:
            explanation["privacy"] = await self._privacy(state, product, rules, plan.privacy)
        return explanation

    async def _privacy(
        self,
        state: ContractState,
        product: PreparedProduct,
        rules: ReleaseRules,
        plan: PrivacyPlan,
    ) -> JsonValue:
        domain = product.domain
        limits = await asyncio.to_thread(self._products.domain_limits, domain)
        charge = charge_of(rules, plan, domain, state.terms.release, limits)
        noise = cast("JsonValue", [each.to_json() for each in plan.noise])
        if charge is None:  # rows of public tables alone
            return {"noise": noise}
        now = await self._ledger.read(lambda c: standing(c, state.contract_id, charge))
        return _standing(now) | {"domain": domain, "noise": noise}


def _uses_left(state: ContractState) -> int | None:
    uses = state.terms.uses
    return None if uses is None else max(0, uses - state.uses)


def _standing(now: Standing) -> JsonObject:
    cost = now.charge.cost
    return {
        "cost": _amounts(cost.epsilon, cost.rho, cost.delta),
        "affords": now.affords,
        "budgets": [_budget(budget) for budget in now.budgets],
        "quota": None if now.quota is None else _budget(now.quota),
    }


def _budget(budget: Budget) -> JsonObject:
    left = budget.remaining
    return {
        "limit": _guarantee(budget.limit),
        "remaining": _amounts(left.epsilon, left.rho, left.delta),
    }


def _guarantee(limit: Guarantee) -> JsonObject:
    return {
        "epsilon": _decimal(limit.epsilon, EPSILON_UNITS),
        "delta": _decimal(limit.delta, DELTA_UNITS),
    }


def _amounts(epsilon: int | None, rho: int, delta: int) -> JsonObject:
    """ε where there is a pure guarantee, else ρ and δ."""
    if epsilon is not None:
        return {"epsilon": _decimal(epsilon, EPSILON_UNITS)}
    return {"rho": _decimal(rho, EPSILON_UNITS), "delta": _decimal(delta, DELTA_UNITS)}


def _decimal(number: int, units: int) -> str:
    """An exact decimal as text."""
    whole, part = divmod(number, units)
    digits = str(part).rjust(len(str(units)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
