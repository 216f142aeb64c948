"""The holder's side of a computation: from a signed request to a released result.

The order is the promise:

1. the request is the user's (signature), the user is the caller's (credential),
   the contract is the caller's (else it doesn't exist for the caller);
2. policy is asked without debit, so that what it refuses starts no worker;
3. the workers start, with no data; the guard verifies the query;
4. in one commit: policy decides again on the meters of this moment, the
   decision entry, which debits what it costs of a privacy budget (`.budget`),
   and the contract's use event are written and durable;
5. only then are cells computed, and the release stage decides on them, by itself in
   its privacy domain until what it released has joined the history (`.history`);
6. the result is stored, the release entry is durable, and only then may the
   result be fetched.

A request id debits once: whoever comes again with it gets the stored outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from sqlalchemy import Connection

from luoshu.connector.clock import Clock
from luoshu.connector.compute.arrow import encode_result
from luoshu.connector.compute.budget import PrivacyCharge, charge_of
from luoshu.connector.compute.entries import Pseudonyms
from luoshu.connector.compute.gatekeeping import AuthenticRequest, Gatekeeper, RequestKey, Ruling
from luoshu.connector.compute.history import Audience, ReleaseHistory, ScopedHistory, notes_of
from luoshu.connector.compute.outcome import ComputationState, Phase, Refusal, failure_error
from luoshu.connector.compute.ports import ProductShelf, SandboxPort
from luoshu.connector.compute.projection import (
    Computation as StoredComputation,
)
from luoshu.connector.compute.projection import (
    find_computation,
    released_requests,
    unfinished_computations,
)
from luoshu.connector.compute.recording import Recorder
from luoshu.connector.compute.results import ResultStore
from luoshu.connector.compute.running import Running
from luoshu.connector.compute.slots import Slots
from luoshu.connector.compute.templates import query_of
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.observability import get_logger
from luoshu.connector.release_rules import effective_rules
from luoshu.contracts.canonical import digest
from luoshu.contracts.contract import ContractState
from luoshu.contracts.release_terms import ReleaseMode, ReleaseScope, ReleaseTerms
from luoshu.sandbox.dp_agreement import PrivacyPlan
from luoshu.sandbox.errors import (
    GuardRefusalError,
    QueryError,
    SandboxFailureError,
    SandboxUnavailableError,
)
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.release.dp_budget import Guarantee
from luoshu.sandbox.run import Outcome, ReleaseRules
from luoshu.sandbox.templates import Query

CHUNK_BYTES: Final = 2 << 20
"""Size of one message of a streamed result."""

MAX_RUNNING: Final = 256
"""Computations, waiting ones included, that this process holds at once."""

MAX_RUNNING_PER_CONSUMER: Final = 32

MAX_GIVEN_UP: Final = 1024
"""Requests that ended before a decision, whose error is remembered for who fetches."""


class ComputeService:
    """Takes requests, runs them, keeps their outcome. One instance a node."""

    def __init__(
        self,
        *,
        node_id: str,
        ledger: Ledger,
        gatekeeper: Gatekeeper,
        products: ProductShelf,
        sandbox: SandboxPort,
        results: ResultStore,
        history: ReleaseHistory,
        pseudonyms: Pseudonyms,
        clock: Clock,
        concurrency: int,
    ) -> None:
        self._ledger = ledger
        self._gatekeeper = gatekeeper
        self._products = products
        self._sandbox = sandbox
        self._results = results
        self._history = history
        self._recorder = Recorder(node_id, gatekeeper, pseudonyms)
        self._clock = clock
        self._slots = Slots(concurrency)
        self._running: dict[RequestKey, Running] = {}
        self._given_up: dict[RequestKey, Running] = {}
        self._closing = False

    async def recover(self) -> int:
        """Ends what a stop of the node interrupted; call it before serving.

        A use that was debited stays debited; its failure is written, so that
        both sides know that nothing was released.

        Returns:
            How many computations were ended.
        """
        unfinished = await self._ledger.read(unfinished_computations)
        for one in unfinished:
            await self._ledger.commit(partial(self._interrupted, one))
        released = await self._ledger.read(released_requests)
        await asyncio.to_thread(self._results.sweep, released)
        await self._history.check()
        return len(unfinished)

    async def submit(self, caller: str, request: bytes, user_credential: bytes) -> str:
        """Takes a request of a user of `caller`; answers when it is under way.

        Returns:
            The request's id.

        Raises:
            NodeError: The request isn't authentic, names no contract of the
                caller, or policy refuses it.
        """
        if self._closing:
            raise NodeError("SHUTTING_DOWN")
        asked = self._gatekeeper.authenticate(caller, request, user_credential, self._clock.now())
        key = asked.key
        running = self._running.get(key)
        if running is None:
            self._check_room(caller)
            # Claimed before the first await: two submissions of one id can't both run.
            running = self._running[key] = Running(asked.digest)
            running.task = asyncio.create_task(
                self._run(key, running, asked), name=f"computation {asked.request.id}"
            )
        else:
            _check_same(running.request_digest, asked)
        await running.after(None)
        if not running.admitted and running.error is not None:
            raise running.error
        return asked.request.id

    async def progress(self, caller: str, request_id: str) -> AsyncGenerator[Phase, None]:
        """Yields the present phase, then each further one, until the end.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        running = self._find(caller, request_id)
        if running is None:
            await self._stored(caller, request_id)
            yield Phase.ENDED
            return
        phase = None
        while phase is not Phase.ENDED:
            phase = await running.after(phase)
            yield phase

    async def fetch(self, caller: str, request_id: str) -> tuple[bytes, bytes]:
        """Waits for the end; returns receipt and result (Arrow IPC).

        Raises:
            NodeError: ``NOT_FOUND``; or what the request ended with.
        """
        running = self._find(caller, request_id)
        if running is not None:
            await running.ended()
        stored = await self._ledger.read(lambda c: find_computation(c, caller, request_id))
        # What the log says comes first: it is what a later retry will be told as well.
        if stored is None or stored.state is ComputationState.DECIDED:
            if running is not None and running.error is not None:
                raise running.error
            # Decided, not ended, and not running here: the node is about to stop.
            raise NodeError("NOT_FOUND" if stored is None else "SHUTTING_DOWN")
        if stored.outcome_index is not None and stored.result_digest is not None:
            result = await asyncio.to_thread(
                self._results.load, stored.request_digest, stored.result_digest
            )
            receipt = await asyncio.to_thread(self._ledger.receipt, stored.outcome_index)
            return receipt.to_bytes(), result
        if stored.refusal is None:
            raise NodeError("INTERNAL", private=f"{request_id} ended without an outcome")
        if stored.state is ComputationState.DENIED:
            raise stored.refusal.error(stored.decision_index)
        raise failure_error(stored.refusal.reason, stored.decision_index)

    async def cancel(self, caller: str, request_id: str) -> None:
        """Ends a computation and its workers; harmless once it has ended.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        running = self._find(caller, request_id)
        if running is None:
            await self._stored(caller, request_id)
            return
        running.cancel()
        await running.ended()

    @contextmanager
    def attached(self, caller: str, request_id: str, *, is_attached: bool) -> Iterator[None]:
        """A call about a computation, which ends with the call if it is attached."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            running = self._find(caller, request_id)
            if is_attached and running is not None:
                running.cancel()
            raise

    async def close(self) -> None:
        """Ends every computation; each decided one gets its failure entry."""
        self._closing = True
        running = list(self._running.values())
        for one in running:
            one.cancel()
        await asyncio.gather(*(one.ended() for one in running))

    async def _run(self, key: RequestKey, running: Running, asked: AuthenticRequest) -> None:
        reason = "INTERNAL"
        try:
            admitted = await self._admit(asked)
            if admitted is None:
                return
            running.admitted = True
            self._given_up.pop(key, None)
            running.enter(Phase.ACCEPTED)
            job = self._job(asked, *admitted)
            running.debits = job.rules.debits
            async with self._slots.one(key[0]):
                outcome = await self._compute(running, job)
            await self._release(job, outcome)
        except asyncio.CancelledError:
            running.error = NodeError("SHUTTING_DOWN" if self._closing else "CANCELLED")
            reason = "INTERRUPTED" if self._closing else "CANCELLED"
        except NodeError as error:
            running.error, reason = error, error.reason
            if error.private:
                get_logger().warning(
                    "computation_not_done",
                    request=asked.request.id,
                    reason=reason,
                    detail=error.private,
                )
        except SandboxFailureError as failure:
            # What ended the worker is for the holder; the analyst gets one text.
            get_logger().warning(
                "computation_failed", request=asked.request.id, detail=failure.detail
            )
            running.error, reason = NodeError("QUERY_FAILED"), "QUERY_FAILED"
        except Exception as error:  # noqa: BLE001 - whatever it is, the request has to end
            running.error = NodeError.internal(error)
            get_logger().error(
                "computation_broke",
                request=asked.request.id,
                incident=running.error.incident,
                exc_info=error,
            )
        finally:
            try:
                if running.error is not None:
                    await self._give_up(key, running, reason)
            finally:
                # Whatever else breaks: somebody may wait for this.
                del self._running[key]
                running.enter(Phase.ENDED)

    async def _admit(self, asked: AuthenticRequest) -> tuple[ContractState, PreparedProduct] | None:
        """Finds contract and product of a request that policy doesn't refuse from the start.

        Returns:
            None if the request has its outcome already.
        """
        stored = await self._ledger.read(lambda c: find_computation(c, *asked.key))
        if stored is not None:
            _check_same(stored.request_digest, asked)
            if stored.state is ComputationState.DECIDED:
                # Its failure couldn't be written when it ended; perhaps it can be now.
                await self._ledger.commit(
                    lambda tx: self._recorder.failure(tx, asked.key, "INTERRUPTED", None)
                )
            return None
        state, ruling = await self._ledger.read(lambda c: self._rule(c, asked))
        if ruling.refusal is not None:
            # Ruled again where it is written: a refusal's input is that of its moment.
            verdict = await self._ledger.commit(lambda tx: self._recorder.verdict(tx, asked))
            if verdict.refused is not None:
                raise verdict.refused
            state = verdict.state
        try:
            return state, await asyncio.to_thread(self._products.prepared, state.product_id)
        except NodeError as error:
            # What is wrong with the holder's files is told to the holder.
            raise NodeError("QUERY_FAILED", private=f"{state.product_id}: {error}") from error

    def _rule(
        self, connection: Connection, asked: AuthenticRequest
    ) -> tuple[ContractState, Ruling]:
        state = self._gatekeeper.contract_of(connection, asked)
        return state, self._gatekeeper.rule(connection, asked, state, self._clock.now())

    def _job(self, asked: AuthenticRequest, state: ContractState, product: PreparedProduct) -> _Job:
        rules = effective_rules(state.terms.release, product)
        history = None
        if rules.mode == ReleaseMode.AGGREGATE and product.domain:
            history = self._history.of(
                Audience(
                    product.domain,
                    asked.consumer.participant_id,
                    state.contract_id,
                    ReleaseScope(rules.scope),
                )
            )
        query = query_of(state.terms, asked.request)
        return _Job(asked, query, product, rules, history, state.terms.release)

    async def _compute(self, running: Running, job: _Job) -> Outcome:
        asked, history = job.asked, job.history
        running.enter(Phase.CHECKING)
        if history is not None:
            # Before the decision: where nothing can be compared, no use is debited.
            await history.require_intact()
        try:
            async with self._sandbox.computation(
                [job.product], job.rules, job.query.sql, history, job.query.parameters
            ) as computation:
                try:
                    plan = await computation.verify()
                except (GuardRefusalError, QueryError) as refusal:
                    await self._refuse(asked, Refusal(refusal.code, refusal.message))
                # Hashed the first time, which is no work for the ledger's one writer.
                measurement = await asyncio.to_thread(lambda: self._sandbox.measurement)
                charge = await self._charge(job, plan.privacy)
                refused = await self._ledger.commit(
                    lambda tx: self._recorder.decision(tx, asked, measurement, charge)
                )
                if refused is not None:
                    raise refused
                running.enter(Phase.COMPUTING)
                outcome = await computation.compute()
                running.enter(Phase.RELEASING)
                return outcome
        except SandboxUnavailableError as error:
            raise NodeError("SANDBOX_UNAVAILABLE", private=error.message) from error

    async def _charge(self, job: _Job, plan: PrivacyPlan | None) -> PrivacyCharge | None:
        """What the computation costs in privacy, and the limits that it must keep."""
        domain = job.product.domain
        limits: tuple[Guarantee, ...] = ()
        if job.rules.mode == ReleaseMode.DP:
            try:
                limits = await asyncio.to_thread(self._products.domain_limits, domain)
            except NodeError as error:
                raise NodeError("QUERY_FAILED", private=f"{domain}: {error}") from error
        return charge_of(job.rules, plan, domain, job.terms, limits)

    async def _refuse(self, asked: AuthenticRequest, refusal: Refusal) -> NoReturn:
        """Writes a refusal of the guard and raises it."""
        index = await self._ledger.commit(
            lambda tx: self._recorder.refusal(tx, asked, refusal, None)
        )
        raise refusal.error(index)

    async def _release(self, job: _Job, outcome: Outcome) -> None:
        asked = job.asked
        mode, domain = job.rules.mode, job.product.domain
        notes = await self._ledger.read(lambda c: notes_of(c, mode, domain))
        result = await asyncio.to_thread(encode_result, outcome.columns, outcome.rows, notes)
        await asyncio.to_thread(self._results.save, asked.digest, result)
        await self._ledger.commit(
            lambda tx: self._recorder.release(
                tx,
                asked,
                outcome,
                result_digest=digest(result),
                history=job.history,
                debits=job.rules.debits,
            )
        )
        for phase, seconds in outcome.timings.items():
            get_logger().info(
                "computation_phase",
                request=asked.request.id,
                phase=phase,
                duration_ms=round(seconds * 1000, 1),
            )

    async def _give_up(self, key: RequestKey, running: Running, reason: str) -> None:
        """Writes the failure of a computation that was decided.

        Whether it was is asked of the ledger: a commit whose wait was cancelled may have
        happened. One that wasn't decided has no use to account for; its error is kept for
        whoever comes to fetch.
        """
        try:
            state = await self._ledger.commit(
                lambda tx: self._recorder.failure(tx, key, reason, running.debits)
            )
            if state is not ComputationState.RELEASED:
                await asyncio.to_thread(self._results.discard, running.request_digest)
        except (NodeError, OSError) as error:
            # `recover` does at the next start what couldn't be done now.
            get_logger().error(
                "failure_not_recorded", request=key[1], reason=reason, error=type(error).__name__
            )
        while len(self._given_up) >= MAX_GIVEN_UP:
            del self._given_up[next(iter(self._given_up))]
        self._given_up[key] = running

    def _interrupted(self, one: StoredComputation, tx: Transaction) -> None:
        self._recorder.end(tx, one, "INTERRUPTED")

    def _find(self, caller: str, request_id: str) -> Running | None:
        key = caller, request_id
        return self._running.get(key) or self._given_up.get(key)

    async def _stored(self, caller: str, request_id: str) -> StoredComputation:
        stored = await self._ledger.read(lambda c: find_computation(c, caller, request_id))
        if stored is None:
            raise NodeError("NOT_FOUND")
        return stored

    def _check_room(self, consumer: str) -> None:
        theirs = sum(key[0] == consumer for key in self._running)
        if len(self._running) >= MAX_RUNNING or theirs >= MAX_RUNNING_PER_CONSUMER:
            raise NodeError("RATE_LIMITED", "Too many computations are under way.")


@dataclass(frozen=True, slots=True)
class _Job:
    """What a computation runs on and by.

    Attributes:
        asked: The request.
        query: What it stands for.
        product: Its data.
        rules: The strictest of contract and product.
        history: What its result is compared with; None if its mode compares nothing, or the
            product is public.
        terms: The contract's release section.
    """

    asked: AuthenticRequest
    query: Query
    product: PreparedProduct
    rules: ReleaseRules
    history: ScopedHistory | None
    terms: ReleaseTerms


def _check_same(request_digest: str, asked: AuthenticRequest) -> None:
    if request_digest != asked.digest:
        raise NodeError(
            "ALREADY_EXISTS",
            "This request id was used before for another request; take a new one.",
        )
