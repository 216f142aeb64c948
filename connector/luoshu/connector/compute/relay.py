"""The analyst's side of a computation: to the holder and back, both written down.

The request is in this node's log before the holder gets it, and the holder's
receipt is in it before the user gets the result; so each side can prove its
half without the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Protocol

from sqlalchemy import Connection

from luoshu.connector.clock import Clock
from luoshu.connector.compute import entries
from luoshu.connector.compute.projection import Relayed, find_relayed
from luoshu.connector.contract.store import find_state
from luoshu.connector.errors import NodeError
from luoshu.connector.ledger import Ledger, Transaction
from luoshu.connector.membership.directory import KnownCredential
from luoshu.connector.peer_port import Peers
from luoshu.contracts.canonical import parse_object
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.keys import PublicKey
from luoshu.contracts.log.receipt import Receipt, verify_receipt
from luoshu.contracts.membership import UserCredential
from luoshu.contracts.request import ComputationRequest, verify_request

MAX_RESULT_BYTES: Final = 1 << 30
"""More than any holder may release: what keeps coming is not kept."""


class Contracts(Protocol):
    """What the relay needs of this node as a consumer."""

    async def refresh(self, contract_id: str) -> None:
        """Fetches the events that the provider has written since."""
        ...


class Members(Protocol):
    """What the relay needs of the member directory."""

    def log_keys(self, participant_id: str, at: datetime) -> tuple[PublicKey, ...]:
        """Keys with which a member signs checkpoints at a moment."""
        ...

    def require_known(self, participant_id: str, now: datetime) -> KnownCredential:
        """The credential of a member that may be trusted now."""
        ...

    def refuse_revoked(self, participant_id: str, now: datetime) -> None:
        """Raises ``CREDENTIAL_REVOKED`` for a member that was revoked."""
        ...


@dataclass(frozen=True, slots=True)
class Proof:
    """What comes before the result."""

    receipt: bytes
    holder_credential: bytes


class ComputeRelay:
    """Takes users' requests to holders. One instance a node."""

    def __init__(
        self,
        *,
        node_id: str,
        ledger: Ledger,
        contracts: Contracts,
        members: Members,
        peers: Peers,
        clock: Clock,
    ) -> None:
        self._node_id = node_id
        self._ledger = ledger
        self._contracts = contracts
        self._members = members
        self._peers = peers
        self._clock = clock

    async def submit(self, user: UserCredential, user_envelope: Envelope, request: bytes) -> str:
        """Writes a user's request down and takes it to the holder.

        Returns:
            The request's id.

        Raises:
            NodeError: The request isn't this user's, names no contract of this
                node, or the holder refuses it.
        """
        try:
            envelope = Envelope.from_bytes(request)
            asked = verify_request(envelope, user, self._clock.now())
        except ContractsError as error:
            raise NodeError.from_reason(error) from error
        provider = await self._ledger.read(lambda c: self._provider(c, asked))
        # A holder that is no member any more gets no request, and its word isn't taken.
        self._members.refuse_revoked(provider, self._clock.now())

        def command(tx: Transaction) -> None:
            stored = find_relayed(tx.connection, asked.id)
            if stored is not None:
                if stored.request_digest != envelope.digest:
                    raise NodeError(
                        "ALREADY_EXISTS",
                        "This request id was used before for another request; take a new one.",
                    )
                return
            tx.record(
                entries.REQUEST,
                entries.requested(asked, envelope, provider),
                parties=(self._node_id, provider),
                contract_id=asked.contract_id,
            )

        await self._ledger.commit(command)
        return await self._peers.submit_computation(provider, request, user_envelope.to_bytes())

    async def progress(
        self, user_id: str, request_id: str, *, attached: bool = False
    ) -> AsyncGenerator[str, None]:
        """Yields the names of the phases, as the holder tells them.

        Attached, the computation ends with this: the call to the holder ends, and says so there.
        """
        relayed = await self._relayed(user_id, request_id)
        async with aclosing(
            self._peers.watch_progress(relayed.provider, request_id, attached=attached)
        ) as phases:
            async for phase in phases:
                yield phase

    async def fetch(
        self, user_id: str, request_id: str, *, attached: bool = False
    ) -> AsyncGenerator[Proof | bytes, None]:
        """Yields the proof, then the result's bytes, once both have been checked.

        Attached, the computation ends with this, if it hasn't ended before.

        Raises:
            NodeError: What the holder answers; ``PROOF_INVALID`` if receipt or
                result are not what they must be, and then nothing is handed on.
        """
        relayed = await self._relayed(user_id, request_id)
        self._members.require_known(relayed.provider, self._clock.now())
        try:
            receipt, chunks, result_digest = await self._collect(relayed, attached=attached)
        except NodeError as refusal:
            if "decision" in refusal.metadata:
                # It was decided, and perhaps debited: the user is to see the contract as it is.
                await self._refresh(relayed)
            raise
        self._check(relayed, receipt, result_digest)
        if relayed.receipt_index is None:
            await self._ledger.commit(lambda tx: self._record_receipt(tx, relayed, receipt))
        await self._refresh(relayed)
        credential = self._members.require_known(
            relayed.provider, self._clock.now()
        ).envelope.to_bytes()
        yield Proof(receipt, credential)
        for chunk in chunks:
            yield chunk

    async def _collect(self, relayed: Relayed, *, attached: bool) -> tuple[bytes, list[bytes], str]:
        """Receives everything before anything is handed on; nothing of it is checked."""
        receipt = b""
        chunks: list[bytes] = []
        hasher = sha256()
        length = 0
        async with aclosing(
            self._peers.fetch_result(relayed.provider, relayed.request_id, attached=attached)
        ) as parts:
            async for part in parts:
                if part.receipt:
                    receipt = part.receipt
                    continue
                length += len(part.arrow_ipc)
                if length > MAX_RESULT_BYTES:
                    raise NodeError("PROOF_INVALID", "The holder's result is larger than 1 GiB.")
                chunks.append(part.arrow_ipc)
                hasher.update(part.arrow_ipc)
        return receipt, chunks, f"sha256:{hasher.hexdigest()}"

    async def _refresh(self, relayed: Relayed) -> None:
        """Fetches the contract's news; the stream brings them anyway if this fails."""
        with suppress(NodeError):
            await self._contracts.refresh(relayed.contract_id)

    async def cancel(self, user_id: str, request_id: str) -> None:
        """Asks the holder to end a computation."""
        relayed = await self._relayed(user_id, request_id)
        await self._peers.cancel(relayed.provider, request_id)

    async def explain(self, request: bytes) -> bytes:
        """What the holder says that a request would cost. It isn't signed, and not written down.

        Raises:
            NodeError: Ill-formed, no contract of this node, or what the holder answers.
        """
        try:
            asked = ComputationRequest.from_payload(parse_object(request))
        except ContractsError as error:
            raise NodeError.from_reason(error) from error
        provider = await self._ledger.read(lambda c: self._provider(c, asked))
        self._members.refuse_revoked(provider, self._clock.now())
        return await self._peers.explain_computation(provider, request)

    def _provider(self, connection: Connection, asked: ComputationRequest) -> str:
        state = find_state(connection, asked.contract_id)
        if state is None or state.consumer != self._node_id:
            raise NodeError("NOT_FOUND")
        return state.provider

    async def _relayed(self, user_id: str, request_id: str) -> Relayed:
        relayed = await self._ledger.read(lambda c: find_relayed(c, request_id))
        if relayed is None or relayed.user_id != user_id:
            raise NodeError("NOT_FOUND")
        return relayed

    def _check(self, relayed: Relayed, receipt_bytes: bytes, result_digest: str) -> None:
        keys = self._members.log_keys(relayed.provider, self._clock.now())
        try:
            receipt = Receipt.from_bytes(receipt_bytes)
            body = verify_receipt(receipt, keys, relayed.provider)
        except ContractsError as error:
            raise NodeError("PROOF_INVALID", error.message) from error
        if (
            body.kind != entries.RELEASE
            or body.contract_id != relayed.contract_id
            or body.data.get("request_id") != relayed.request_id
            or body.data.get("request_digest") != relayed.request_digest
            or body.data.get("result_digest") != result_digest
        ):
            raise NodeError("PROOF_INVALID", "The holder's receipt is not about this result.")

    def _record_receipt(self, tx: Transaction, relayed: Relayed, receipt: bytes) -> None:
        stored = find_relayed(tx.connection, relayed.request_id)
        if stored is None or stored.receipt_index is not None:
            return
        tx.record(
            entries.RECEIPT,
            entries.received(relayed.request_id, receipt),
            parties=(self._node_id, relayed.provider),
            contract_id=relayed.contract_id,
        )
