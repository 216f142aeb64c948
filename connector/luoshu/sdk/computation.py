"""One computation: submitted, watched, fetched, verified.

A computation is named by its request, which the user signed. Asking again for
its result is free: the holder keeps the outcome and debits a request once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.log.receipt import Receipt
from luoshu.contracts.membership import SpaceTrust
from luoshu.sdk.errors import DeadlineError, LuoshuError, VerificationError
from luoshu.sdk.receipts import Evidence, verify_evidence
from luoshu.sdk.result import Result
from luoshu.sdk.rpc.client import NodeClient
from luoshu.sdk.rpc.messages import Phase

__all__ = ["Computation", "Parties", "Phase"]

PhaseCallback = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parties:
    """Who must stand behind a result, known before it is asked for.

    Attributes:
        trust: The space's trust anchor.
        contract_id: The contract of the request.
        provider: Its provider's participant id, from the folded contract.
        consumer_credential: The own organisation's, for the receipt file.
        user_credential: The user's own, likewise.
    """

    trust: SpaceTrust
    contract_id: str
    provider: str
    consumer_credential: Envelope
    user_credential: Envelope


class Computation:
    """A submitted request; `result` waits for its end.

    Attributes:
        id: The request id.
        request: The signed request.
    """

    def __init__(
        self, client: NodeClient, request_id: str, request: Envelope, parties: Parties
    ) -> None:
        self._client = client
        self._parties = parties
        self.id = request_id
        self.request = request

    def watch(self, timeout: float = 300.0, *, attached: bool = False) -> Iterator[Phase]:
        """Phases until the computation has ended.

        Args:
            timeout: Seconds.
            attached: Whether the computation ends if this does before it, however that comes.

        Raises:
            LuoshuError: The node refuses, or can't be reached.
        """
        yield from self._client.watch_progress(self.id, timeout, attached=attached)

    def cancel(self) -> None:
        """Ends the computation; a use that was debited stays debited."""
        self._client.cancel(self.id)

    def result(
        self,
        timeout: float = 300.0,
        on_phase: PhaseCallback | None = None,
        *,
        attached: bool = False,
    ) -> Result:
        """Waits for the end and verifies what was released.

        Args:
            timeout: Seconds to wait.
            on_phase: Called with the name of each phase as it begins.
            attached: Whether the computation ends, within a second, if this process or its
                connection does, or `timeout` is over. What was debited stays debited.

        Returns:
            The result, its receipt verified against exactly its bytes.

        Raises:
            DeniedError: Policy, guard or contract said no.
            FailedError: The computation failed at the holder.
            VerificationError: What came isn't proved; nothing is returned.
            DeadlineError: It takes longer than `timeout`; ask again for the result, unless it was
                attached.
            KeyboardInterrupt: Ctrl-C; the computation has been cancelled.
        """
        deadline = time.monotonic() + timeout
        try:
            if on_phase is not None:
                self._report(on_phase, timeout, attached=attached)
            left = max(deadline - time.monotonic(), 0.001)
            answer = self._client.fetch_result(self.id, left, attached=attached)
        except KeyboardInterrupt:
            # The interrupt is what counts; a node that can't be told ends the work by its limits.
            with suppress(LuoshuError):
                self.cancel()
            raise
        try:
            evidence = Evidence(
                receipt=Receipt.from_bytes(answer.receipt),
                holder_credential=Envelope.from_bytes(answer.holder_credential),
                consumer_credential=self._parties.consumer_credential,
                user_credential=self._parties.user_credential,
                request=self.request,
            )
        except ContractsError as error:
            raise VerificationError(f"The proof that came is malformed: {error}") from error
        receipt = verify_evidence(
            evidence,
            self._parties.trust,
            result=answer.arrow_ipc,
            provider=self._parties.provider,
            contract_id=self._parties.contract_id,
        )
        return Result(answer.arrow_ipc, receipt)

    def _report(self, on_phase: PhaseCallback, timeout: float, *, attached: bool) -> None:
        try:
            for phase in self.watch(timeout, attached=attached):
                on_phase(phase.value)
        except DeadlineError:
            raise
        except LuoshuError:
            # Progress is a courtesy: how the computation ended, and why, is for the
            # result stream to say, which is asked next.
            return

    def __repr__(self) -> str:
        """The id."""
        return f"<Computation {self.id}>"
