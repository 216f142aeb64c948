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
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection

from luoshu.connector.clock import Clock
from luoshu.connector.compute import entries
from luoshu.connector.compute.arrow import encode_result
from luoshu.connector.compute.entries import Pseudonyms, Subject
from luoshu.connector.compute.gatekeeping import AuthenticRequest, Gatekeeper, RequestKey, Ruling
from luoshu.connector.compute.outcome import ComputationState, Phase, Refusal
from luoshu.connector.compute.projection import (
    Computation as StoredComputation,
)
from luoshu.connector.compute.projection import (
    find_computation,
    released_requests,
    unfinished_computations,
)
from luoshu.connector.compute.results import ResultStore
from luoshu.connector.compute.running import Running
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

MAX_GIVEN_UP: Final = 1024
"""Requests that ended before a decision, whose error is remembered for who fetches."""


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
            await self._ledger.commit(partial(self._record_failure, one, "INTERRUPTED"))
        released = await self._ledger.read(released_requests)
        await asyncio.to_thread(self._results.sweep, released)
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
        raise _failure(stored.refusal.reason, stored.decision_index)

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
            async with self._slots:
                outcome = await self._compute(running, asked, *admitted)
            await self._release(asked, outcome)
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
                await self._ledger.commit(lambda tx: self._fail(tx, asked.key, "INTERRUPTED"))
            return None
        state, ruling = await self._ledger.read(lambda c: self._rule(c, asked))
        if ruling.refusal is not None:
            # Ruled again where it is written: a refusal's input is that of its moment.
            verdict = await self._ledger.commit(lambda tx: self._verdict(tx, asked))
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

    async def _compute(
        self,
        running: Running,
        asked: AuthenticRequest,
        state: ContractState,
        product: PreparedProduct,
    ) -> Outcome:
        rules = ReleaseRules(state.terms.release.mode.value, state.terms.release.min_units)
        running.enter(Phase.CHECKING)
        try:
            async with self._sandbox.computation(
                [product], rules, asked.request.sql
            ) as computation:
                try:
                    await computation.verify()
                except (GuardRefusalError, QueryError) as refusal:
                    await self._refuse(asked, Refusal(refusal.code, refusal.message))
                # Hashed the first time, which is no work for the ledger's one writer.
                measurement = await asyncio.to_thread(lambda: self._sandbox.measurement)
                await self._decide(asked, measurement)
                running.enter(Phase.COMPUTING)
                outcome = await computation.compute()
                running.enter(Phase.RELEASING)
                return outcome
        except SandboxUnavailableError as error:
            raise NodeError("SANDBOX_UNAVAILABLE", private=error.message) from error

    async def _decide(self, asked: AuthenticRequest, measurement: str) -> None:
        """Decides on this moment's meters, and debits, in one durable commit."""

        def command(tx: Transaction) -> NodeError | None:
            verdict = self._verdict(tx, asked)
            if verdict.refused is None:
                ruling = verdict.ruling
                index = tx.record(
                    entries.DECISION,
                    entries.allowed(
                        self._subject(asked), ruling.decision, ruling.decision_input, measurement
                    ),
                    parties=(self._node_id, asked.consumer.participant_id),
                    contract_id=asked.request.contract_id,
                )
                self._gatekeeper.record_use(tx, verdict.state, asked, index)
            return verdict.refused

        refused = await self._ledger.commit(command)
        if refused is not None:
            raise refused

    def _verdict(self, tx: Transaction, asked: AuthenticRequest) -> _Verdict:
        """Rules on this moment, and writes a refusal down.

        Who asks is checked again: the request may have waited for its turn, and its
        organisation may have been revoked meanwhile.
        """
        self._gatekeeper.require_current(asked, tx.now)
        state = self._gatekeeper.contract_of(tx.connection, asked)
        state = self._gatekeeper.expire_if_due(tx, state)
        ruling = self._gatekeeper.rule(tx.connection, asked, state, tx.now)
        if ruling.refusal is None:
            return _Verdict(state, ruling, None)
        index = self._record_refusal(tx, asked, ruling.refusal, ruling)
        return _Verdict(state, ruling, ruling.refusal.error(index))

    async def _refuse(self, asked: AuthenticRequest, refusal: Refusal) -> None:
        """Writes a refusal of the guard and raises it."""
        index = await self._ledger.commit(lambda tx: self._record_refusal(tx, asked, refusal, None))
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

    async def _release(self, asked: AuthenticRequest, outcome: Outcome) -> None:
        result = await asyncio.to_thread(encode_result, outcome.columns, outcome.rows)
        await asyncio.to_thread(self._results.save, asked.digest, result)
        await self._ledger.commit(
            lambda tx: self._record_release(tx, asked, outcome, digest(result))
        )
        for phase, seconds in outcome.timings.items():
            get_logger().info(
                "computation_phase",
                request=asked.request.id,
                phase=phase,
                duration_ms=round(seconds * 1000, 1),
            )

    def _record_release(
        self, tx: Transaction, asked: AuthenticRequest, outcome: Outcome, result_digest: str
    ) -> None:
        stored = find_computation(tx.connection, *asked.key)
        if stored is None or stored.state is not ComputationState.DECIDED:
            raise NodeError("INTERNAL", private="a result without a decision")
        tx.record(
            entries.RELEASE,
            entries.released(
                asked.request.id,
                asked.digest,
                stored.decision_index,
                result_digest=result_digest,
                rows=len(outcome.rows),
                columns=outcome.columns,
            ),
            parties=(self._node_id, asked.consumer.participant_id),
            contract_id=asked.request.contract_id,
        )

    async def _give_up(self, key: RequestKey, running: Running, reason: str) -> None:
        """Writes the failure of a computation that was decided.

        Whether it was is asked of the ledger: a commit whose wait was cancelled may have
        happened. One that wasn't decided has no use to account for; its error is kept for
        whoever comes to fetch.
        """
        try:
            state = await self._ledger.commit(lambda tx: self._fail(tx, key, reason))
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

    def _fail(self, tx: Transaction, key: RequestKey, reason: str) -> ComputationState | None:
        """Writes the failure of a request that is decided and has no outcome.

        Returns:
            The request's state after that; None if it was never decided.
        """
        stored = find_computation(tx.connection, *key)
        if stored is None or stored.state is not ComputationState.DECIDED:
            return None if stored is None else stored.state
        self._record_failure(stored, reason, tx)
        return ComputationState.FAILED

    def _record_failure(self, one: StoredComputation, reason: str, tx: Transaction) -> None:
        tx.record(
            entries.FAILURE,
            entries.failed(one.request_id, one.request_digest, one.decision_index, reason),
            parties=(self._node_id, one.consumer),
            contract_id=one.contract_id,
        )

    def _find(self, caller: str, request_id: str) -> Running | None:
        key = caller, request_id
        return self._running.get(key) or self._given_up.get(key)

    async def _stored(self, caller: str, request_id: str) -> StoredComputation:
        stored = await self._ledger.read(lambda c: find_computation(c, caller, request_id))
        if stored is None:
            raise NodeError("NOT_FOUND")
        return stored

    def _subject(self, asked: AuthenticRequest) -> Subject:
        return Subject(
            asked.request.id,
            asked.digest,
            asked.consumer.participant_id,
            self._pseudonyms.of(asked.request.user_id),
        )

    def _check_room(self, consumer: str) -> None:
        theirs = sum(key[0] == consumer for key in self._running)
        if len(self._running) >= MAX_RUNNING or theirs >= MAX_RUNNING_PER_CONSUMER:
            raise NodeError("RATE_LIMITED", "Too many computations are under way.")


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What was ruled in a transaction; a refusal is in it and yet to be raised."""

    state: ContractState
    ruling: Ruling
    refused: NodeError | None


def _check_same(request_digest: str, asked: AuthenticRequest) -> None:
    if request_digest != asked.digest:
        raise NodeError(
            "ALREADY_EXISTS",
            "This request id was used before for another request; take a new one.",
        )


def _failure(reason: str, decision_index: int) -> NodeError:
    """What a caller is told of a failed computation: one text, whatever it was."""
    told = "CANCELLED" if reason == "CANCELLED" else "QUERY_FAILED"
    return NodeError(told, metadata={"decision": str(decision_index)})
