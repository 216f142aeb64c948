"""The holder's side of a computation: from a signed request to a released result.

The order is the promise:

1. the request is the user's (signature), the user is the caller's (credential),
   the contract is the caller's (else it doesn't exist for the caller);
2. policy is asked without debit, so that what it refuses starts no worker;
3. the workers start, with no data; the guard verifies the query;
4. in one commit: policy decides again on the meters of this moment, the
   decision entry and the contract's use event are written and durable;
5. only then are cells computed, and the release stage decides on them;
6. the result is stored, the release entry is durable, and only then may the
   result be fetched.

A request id debits once: whoever comes again with it gets the stored outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection

from luoshu.connector.clock import Clock
from luoshu.connector.compute import entries
from luoshu.connector.compute.arrow import encode_result
from luoshu.connector.compute.entries import Pseudonyms, Subject
from luoshu.connector.compute.gatekeeping import AuthenticRequest, Gatekeeper, Ruling
from luoshu.connector.compute.outcome import ComputationState, Phase, Refusal
from luoshu.connector.compute.projection import (
    Computation as StoredComputation,
)
from luoshu.connector.compute.projection import (
    find_computation,
    released_request_ids,
    unfinished_computations,
)
from luoshu.connector.compute.results import ResultStore, file_stem
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.observability import get_logger
from luoshu.contracts.canonical import digest
from luoshu.contracts.contract import ContractState
from luoshu.sandbox.errors import (
    GuardRefusalError,
    QueryError,
    SandboxFailureError,
    SandboxUnavailableError,
)
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import Computation, Outcome, ReleaseRules

CHUNK_BYTES: Final = 2 << 20
"""Size of one message of a streamed result."""

MAX_RUNNING: Final = 256
"""Computations, waiting ones included, that this process holds at once."""

MAX_RUNNING_PER_CONSUMER: Final = 32


class SandboxPort(Protocol):
    """Where queries run; see `luoshu.sandbox.run.Sandbox`."""

    @property
    def measurement(self) -> str:
        """Digest of everything a worker can see."""
        ...

    def computation(
        self, products: list[PreparedProduct], rules: ReleaseRules, sql: str
    ) -> AbstractAsyncContextManager[Computation]:
        """One query's run."""
        ...


class ProductShelf(Protocol):
    """Where prepared products are found."""

    def prepared(self, product_id: str) -> PreparedProduct:
        """The prepared product.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        ...


@dataclass(slots=True, eq=False)
class _Running:
    """A computation of this process."""

    request_digest: str
    consumer: str
    phase: Phase = Phase.ACCEPTED
    decision_index: int | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    task: asyncio.Task[None] | None = None
    error: NodeError | None = None

    async def enter(self, phase: Phase) -> None:
        async with self.changed:
            self.phase = phase
            self.changed.notify_all()

    async def wait_ended(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.phase is Phase.ENDED)


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
        pseudonyms: Pseudonyms,
        clock: Clock,
        concurrency: int,
    ) -> None:
        self._node_id = node_id
        self._ledger = ledger
        self._gatekeeper = gatekeeper
        self._products = products
        self._sandbox = sandbox
        self._results = results
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._running: dict[str, _Running] = {}
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
            await self._ledger.commit(partial(self._record_interruption, one))
        released = await self._ledger.read(released_request_ids)
        self._results.sweep({file_stem(request_id) for request_id in released})
        return len(unfinished)

    def _record_interruption(self, one: StoredComputation, tx: Transaction) -> None:
        tx.record(
            entries.FAILURE,
            entries.failed(one.request_id, one.request_digest, one.decision_index, "INTERRUPTED"),
            parties=(self._node_id, one.consumer),
            contract_id=one.contract_id,
        )

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
        request_id = asked.request.id
        known = self._running.get(request_id)
        if known is not None:
            self._check_same(known.consumer, known.request_digest, asked)
            return request_id
        running = _Running(asked.digest, asked.consumer.participant_id)
        self._check_room(running.consumer)
        # Claimed before the first await: two submissions of one id can't both run.
        self._running[request_id] = running
        try:
            stored = await self._ledger.read(lambda c: find_computation(c, request_id))
            if stored is not None:
                self._check_same(stored.consumer, stored.request_digest, asked)
                del self._running[request_id]
                return request_id
            state, ruling = await self._ledger.read(lambda c: self._rule(c, asked))
            if ruling.refusal is not None:
                await self._refuse(asked, ruling.refusal, ruling)
            product = await asyncio.to_thread(self._products.prepared, state.product_id)
        except BaseException:
            self._running.pop(request_id, None)
            raise
        running.task = asyncio.create_task(
            self._run(running, asked, state, product), name=f"computation {request_id}"
        )
        return request_id

    async def progress(self, caller: str, request_id: str) -> AsyncGenerator[Phase, None]:
        """Yields the present phase, then each further one, until the end.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        running = self._running.get(request_id)
        if running is None:
            await self._stored(caller, request_id)
            yield Phase.ENDED
            return
        self._check_owner(running.consumer, caller)
        seen = None
        while seen is not Phase.ENDED:
            async with running.changed:
                await running.changed.wait_for(lambda: running.phase is not seen)  # noqa: B023
                seen = running.phase
            yield seen

    async def fetch(self, caller: str, request_id: str) -> tuple[bytes, bytes]:
        """Waits for the end; returns receipt and result (Arrow IPC).

        Raises:
            NodeError: ``NOT_FOUND``; or what the request ended with.
        """
        running = self._running.get(request_id)
        if running is not None:
            self._check_owner(running.consumer, caller)
            await running.wait_ended()
            if running.error is not None:
                raise running.error
        stored = await self._stored(caller, request_id)
        if stored.outcome_index is not None and stored.result_digest is not None:
            result = await asyncio.to_thread(self._results.load, request_id, stored.result_digest)
            receipt = await asyncio.to_thread(self._ledger.receipt, stored.outcome_index)
            return receipt.to_bytes(), result
        if stored.refusal is None:
            # Decided, not ended, and not running here: the node is about to stop.
            raise NodeError("SHUTTING_DOWN")
        if stored.state is ComputationState.DENIED:
            raise stored.refusal.error(stored.decision_index)
        raise _failure(stored.refusal.reason, stored.decision_index)

    async def cancel(self, caller: str, request_id: str) -> None:
        """Ends a computation and its workers; harmless once it has ended.

        Raises:
            NodeError: ``NOT_FOUND``.
        """
        running = self._running.get(request_id)
        if running is None:
            await self._stored(caller, request_id)
            return
        self._check_owner(running.consumer, caller)
        if running.task is not None:
            running.task.cancel()
        await running.wait_ended()

    async def close(self) -> None:
        """Ends every computation; each decided one gets its failure entry."""
        self._closing = True
        tasks = [one.task for one in self._running.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _rule(
        self, connection: Connection, asked: AuthenticRequest
    ) -> tuple[ContractState, Ruling]:
        state = self._gatekeeper.contract_of(connection, asked)
        return state, self._gatekeeper.rule(connection, asked, state, self._clock.now())

    async def _run(
        self,
        running: _Running,
        asked: AuthenticRequest,
        state: ContractState,
        product: PreparedProduct,
    ) -> None:
        try:
            async with self._slots:
                outcome = await self._compute(running, asked, state, product)
            await self._release(running, asked, outcome)
        except asyncio.CancelledError:
            running.error = NodeError("CANCELLED")
            await self._fail(running, asked, "CANCELLED")
        except NodeError as error:
            running.error = error
            await self._fail(running, asked, error.reason)
        except SandboxFailureError as failure:
            # What ended the worker is for the holder; the analyst gets one text.
            get_logger().warning(
                "computation_failed", request=asked.request.id, detail=failure.detail
            )
            running.error = NodeError("QUERY_FAILED")
            await self._fail(running, asked, "QUERY_FAILED")
        except Exception as error:  # noqa: BLE001 - whatever it is, the request has to end
            running.error = NodeError.internal(error)
            get_logger().error(
                "computation_broke",
                request=asked.request.id,
                incident=running.error.incident,
                exc_info=error,
            )
            await self._fail(running, asked, "INTERNAL")
        finally:
            await running.enter(Phase.ENDED)
            self._running.pop(asked.request.id, None)

    async def _compute(
        self,
        running: _Running,
        asked: AuthenticRequest,
        state: ContractState,
        product: PreparedProduct,
    ) -> Outcome:
        rules = ReleaseRules(state.terms.release.mode.value, state.terms.release.min_units)
        await running.enter(Phase.CHECKING)
        try:
            async with self._sandbox.computation(
                [product], rules, asked.request.sql
            ) as computation:
                try:
                    await computation.verify()
                except (GuardRefusalError, QueryError) as refusal:
                    await self._refuse(asked, Refusal(refusal.code, refusal.message))
                running.decision_index = await self._decide(asked)
                await running.enter(Phase.COMPUTING)
                outcome = await computation.compute()
                await running.enter(Phase.RELEASING)
                return outcome
        except SandboxUnavailableError as error:
            raise NodeError("SANDBOX_UNAVAILABLE", private=error.message) from error

    async def _decide(self, asked: AuthenticRequest) -> int:
        """Decides on this moment's meters, and debits, in one durable commit."""

        def command(tx: Transaction) -> int | tuple[Refusal, int]:
            state = self._gatekeeper.contract_of(tx.connection, asked)
            state = self._gatekeeper.expire_if_due(tx, state)
            ruling = self._gatekeeper.rule(tx.connection, asked, state, tx.now)
            if ruling.refusal is not None:
                return ruling.refusal, self._record_refusal(tx, asked, ruling.refusal, ruling)
            index = tx.record(
                entries.DECISION,
                entries.allowed(
                    self._subject(asked),
                    ruling.decision,
                    ruling.decision_input,
                    self._sandbox.measurement,
                ),
                parties=(self._node_id, asked.consumer.participant_id),
                contract_id=asked.request.contract_id,
            )
            self._gatekeeper.record_use(tx, state, asked, index)
            return index

        decided = await self._ledger.commit(command)
        if isinstance(decided, tuple):
            refusal, index = decided
            raise refusal.error(index)
        return decided

    async def _refuse(
        self, asked: AuthenticRequest, refusal: Refusal, ruling: Ruling | None = None
    ) -> None:
        """Writes a refusal and raises it."""
        index = await self._ledger.commit(
            lambda tx: self._record_refusal(tx, asked, refusal, ruling)
        )
        raise refusal.error(index)

    def _record_refusal(
        self, tx: Transaction, asked: AuthenticRequest, refusal: Refusal, ruling: Ruling | None
    ) -> int:
        return tx.record(
            entries.DECISION,
            entries.refused(
                self._subject(asked),
                refusal,
                ruling.decision if ruling else None,
                ruling.decision_input if ruling else None,
            ),
            parties=(self._node_id, asked.consumer.participant_id),
            contract_id=asked.request.contract_id,
        )

    async def _release(self, running: _Running, asked: AuthenticRequest, outcome: Outcome) -> None:
        decision_index = running.decision_index
        if decision_index is None:
            raise NodeError("INTERNAL", private="a result without a decision")
        result = await asyncio.to_thread(encode_result, outcome.columns, outcome.rows)
        await asyncio.to_thread(self._results.save, asked.request.id, result)
        await self._ledger.commit(
            lambda tx: tx.record(
                entries.RELEASE,
                entries.released(
                    asked.request.id,
                    asked.digest,
                    decision_index,
                    result_digest=digest(result),
                    rows=len(outcome.rows),
                    columns=outcome.columns,
                ),
                parties=(self._node_id, asked.consumer.participant_id),
                contract_id=asked.request.contract_id,
            )
        )
        for phase, seconds in outcome.timings.items():
            get_logger().info(
                "computation_phase",
                request=asked.request.id,
                phase=phase,
                duration_ms=round(seconds * 1000, 1),
            )

    async def _fail(self, running: _Running, asked: AuthenticRequest, reason: str) -> None:
        """Writes the failure of a computation that was decided.

        One that wasn't has no use to account for: its refusal is written already, or
        it never got as far.
        """
        decision_index = running.decision_index
        if decision_index is None:
            return
        try:
            await asyncio.shield(
                self._ledger.commit(
                    lambda tx: tx.record(
                        entries.FAILURE,
                        entries.failed(asked.request.id, asked.digest, decision_index, reason),
                        parties=(self._node_id, asked.consumer.participant_id),
                        contract_id=asked.request.contract_id,
                    )
                )
            )
        except NodeError as error:
            # The log is unreachable: `recover` writes the failure at the next start.
            get_logger().error(
                "failure_not_recorded", request=asked.request.id, reason=error.reason
            )

    async def _stored(self, caller: str, request_id: str) -> StoredComputation:
        stored = await self._ledger.read(lambda c: find_computation(c, request_id))
        if stored is None:
            raise NodeError("NOT_FOUND")
        self._check_owner(stored.consumer, caller)
        return stored

    def _subject(self, asked: AuthenticRequest) -> Subject:
        return Subject(
            asked.request.id,
            asked.digest,
            asked.consumer.participant_id,
            self._pseudonyms.of(asked.request.user_id),
        )

    def _check_room(self, consumer: str) -> None:
        theirs = sum(one.consumer == consumer for one in self._running.values())
        if len(self._running) >= MAX_RUNNING or theirs >= MAX_RUNNING_PER_CONSUMER:
            raise NodeError("RATE_LIMITED", "Too many computations are under way.")

    @staticmethod
    def _check_owner(consumer: str, caller: str) -> None:
        if consumer != caller:
            raise NodeError("NOT_FOUND")

    @staticmethod
    def _check_same(consumer: str, request_digest: str, asked: AuthenticRequest) -> None:
        if consumer != asked.consumer.participant_id or request_digest != asked.digest:
            raise NodeError(
                "ALREADY_EXISTS",
                "This request id was used before for another request; take a new one.",
            )


def _failure(reason: str, decision_index: int) -> NodeError:
    """What a caller is told of a failed computation: one text, whatever it was."""
    if reason == "CANCELLED":
        return NodeError("CANCELLED")
    return NodeError("QUERY_FAILED", metadata={"decision": str(decision_index)})
