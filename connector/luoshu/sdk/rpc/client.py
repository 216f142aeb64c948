"""Typed calls to the node's user API.

One method per RPC, wire types in, dataclasses out, a deadline on every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import grpc

from luoshu.api.node.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from luoshu.api.node.compute.v1 import compute_pb2, compute_pb2_grpc
from luoshu.api.node.contract.v1 import contract_pb2, contract_pb2_grpc
from luoshu.api.node.log.v1 import log_pb2, log_pb2_grpc
from luoshu.api.node.membership.v1 import membership_pb2, membership_pb2_grpc
from luoshu.sdk.errors import VerificationError
from luoshu.sdk.rpc.errors import translated
from luoshu.sdk.rpc.messages import (
    ContractAction,
    ContractAnswer,
    ContractSummary,
    EntryAnswer,
    LocalProduct,
    LogEntrySummary,
    NodeAnswer,
    Phase,
    ResultAnswer,
    SearchPage,
)
from luoshu.sdk.rpc.streams import stream

MAX_RESULT_BYTES = 1 << 30

_TRYING_SECONDS = 60.0
"""More for a publication: the holder's node tries every template first."""
_PHASES = {
    compute_pb2.PHASE_ACCEPTED: Phase.ACCEPTED,
    compute_pb2.PHASE_CHECKING: Phase.CHECKING,
    compute_pb2.PHASE_COMPUTING: Phase.COMPUTING,
    compute_pb2.PHASE_RELEASING: Phase.RELEASING,
    compute_pb2.PHASE_ENDED: Phase.ENDED,
}
_ACTIONS = {
    ContractAction.ACCEPT: contract_pb2.CONTRACT_ACTION_ACCEPT,
    ContractAction.COUNTER: contract_pb2.CONTRACT_ACTION_COUNTER,
    ContractAction.APPROVE: contract_pb2.CONTRACT_ACTION_APPROVE,
    ContractAction.REFUSE: contract_pb2.CONTRACT_ACTION_REFUSE,
    ContractAction.SUSPEND: contract_pb2.CONTRACT_ACTION_SUSPEND,
    ContractAction.RESUME: contract_pb2.CONTRACT_ACTION_RESUME,
    ContractAction.REVOKE: contract_pb2.CONTRACT_ACTION_REVOKE,
    ContractAction.END: contract_pb2.CONTRACT_ACTION_END,
}


class NodeClient:
    """Calls of one user to its own node. Thread-safe, as channels are.

    Args:
        channel: Closed by `close`.
        timeout: Seconds allowed per unary call.
        explain_unreachable: See `luoshu.sdk.rpc.errors.to_error`.

    Every method raises the errors of `luoshu.sdk.errors`.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        timeout: float,
        explain_unreachable: Callable[[str], str],
    ) -> None:
        self._channel = channel
        self._timeout = timeout
        self._explain = explain_unreachable
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self._compute = compute_pb2_grpc.ComputeServiceStub(channel)
        self._contract = contract_pb2_grpc.ContractServiceStub(channel)
        self._log = log_pb2_grpc.LogServiceStub(channel)
        self._membership = membership_pb2_grpc.MembershipServiceStub(channel)

    def close(self) -> None:
        """Ends every call under way and closes the channel."""
        self._channel.close()

    # Membership

    def get_node(self) -> NodeAnswer:
        """What the node is and how it fares."""
        with translated(self._explain):
            answer = self._membership.GetNode(
                membership_pb2.GetNodeRequest(), timeout=self._timeout
            )
        return NodeAnswer(
            participant_id=answer.participant_id,
            roles=tuple(answer.roles),
            version=answer.version,
            log_size=answer.log_size,
            status_list_valid_until=answer.status_list_valid_until,
            membership_credential=answer.membership_credential,
        )

    def list_members(self) -> tuple[bytes, ...]:
        """Membership credentials of the space, unverified."""
        with translated(self._explain):
            answer = self._membership.ListMembers(
                membership_pb2.ListMembersRequest(), timeout=self._timeout
            )
        return tuple(answer.membership_credentials)

    def revoke_member(self, participant_id: str, reason: str) -> int:
        """Operator: revokes a member; returns the status list's new version."""
        request = membership_pb2.RevokeMemberRequest(participant_id=participant_id, reason=reason)
        with translated(self._explain):
            answer = self._membership.RevokeMember(request, timeout=self._timeout)
        return answer.status_list_version

    # Catalog

    def publish(self, product: str, offers: bytes) -> tuple[str, int, int]:
        """Holder: publishes; returns product id, version and log index."""
        request = catalog_pb2.PublishProductRequest(product=product, offers=offers)
        with translated(self._explain):
            answer = self._catalog.PublishProduct(request, timeout=self._timeout + _TRYING_SECONDS)
        return answer.product_id, answer.version, answer.log_index

    def withdraw(self, product_id: str) -> int:
        """Holder: withdraws; returns the log index."""
        request = catalog_pb2.WithdrawProductRequest(product_id=product_id)
        with translated(self._explain):
            return self._catalog.WithdrawProduct(request, timeout=self._timeout).log_index

    def list_products(self) -> tuple[LocalProduct, ...]:
        """Holder: products prepared on this node."""
        with translated(self._explain):
            answer = self._catalog.ListProducts(
                catalog_pb2.ListProductsRequest(), timeout=self._timeout
            )
        return tuple(
            LocalProduct(p.product, p.product_id, p.version, p.state) for p in answer.products
        )

    def search(
        self, text: str, filters: Mapping[str, Sequence[str]], page_size: int, page_token: str
    ) -> SearchPage:
        """One page of the space's catalog."""
        request = catalog_pb2.SearchRequest(
            text=text,
            filters=[
                catalog_pb2.Filter(field=name, any_of=values) for name, values in filters.items()
            ],
            page_size=page_size,
            page_token=page_token,
        )
        with translated(self._explain):
            answer = self._catalog.Search(request, timeout=self._timeout)
        facets: dict[str, dict[str, int]] = {}
        for facet in answer.facets:
            facets.setdefault(facet.field, {})[facet.value] = facet.count
        return SearchPage(
            entries=tuple(
                EntryAnswer(e.entry_envelope, e.issuer_credential) for e in answer.entries
            ),
            next_page_token=answer.next_page_token,
            total=answer.total,
            facets=facets,
        )

    def get_entry(self, product_id: str) -> EntryAnswer:
        """The newest entry of one product."""
        request = catalog_pb2.GetEntryRequest(product_id=product_id)
        with translated(self._explain):
            entry = self._catalog.GetEntry(request, timeout=self._timeout).entry
        return EntryAnswer(entry.entry_envelope, entry.issuer_credential)

    # Contracts

    def request_contract(self, product_id: str, offer_id: str, terms: bytes) -> ContractSummary:
        """Asks a provider for a contract."""
        request = contract_pb2.RequestContractRequest(
            product_id=product_id, offer_id=offer_id, terms=terms
        )
        with translated(self._explain):
            answer = self._contract.RequestContract(request, timeout=self._timeout)
        return _summary(answer.contract)

    def act_on_contract(
        self, contract_id: str, action: ContractAction, *, terms: bytes = b"", reason: str = ""
    ) -> ContractSummary:
        """Takes one step of this side."""
        request = contract_pb2.ActOnContractRequest(
            contract_id=contract_id, action=_ACTIONS[action], terms=terms, reason=reason
        )
        with translated(self._explain):
            answer = self._contract.ActOnContract(request, timeout=self._timeout)
        return _summary(answer.contract)

    def list_contracts(self, state: str) -> tuple[ContractSummary, ...]:
        """Contracts of this node, newest first; `state` may be empty."""
        request = contract_pb2.ListContractsRequest(state=state)
        found: list[ContractSummary] = []
        while True:
            with translated(self._explain):
                answer = self._contract.ListContracts(request, timeout=self._timeout)
            found.extend(_summary(contract) for contract in answer.contracts)
            if not answer.next_page_token or not answer.contracts:
                return tuple(found)
            request.page_token = answer.next_page_token

    def get_contract(self, contract_id: str) -> ContractAnswer:
        """One contract with all its signed events."""
        events: list[tuple[bytes, bytes]] = []
        while True:
            request = contract_pb2.GetContractRequest(
                contract_id=contract_id, known_position=len(events)
            )
            with translated(self._explain):
                answer = self._contract.GetContract(request, timeout=self._timeout)
            events.extend((e.event_envelope, e.position_envelope) for e in answer.events)
            if not answer.events or len(events) >= answer.contract.position:
                break
        return ContractAnswer(
            summary=_summary(answer.contract),
            events=tuple(events),
            provider_credential=answer.provider_credential,
            consumer_credential=answer.consumer_credential,
            debits=answer.debits if answer.HasField("debits") else None,
        )

    def watch_contract(self, contract_id: str, timeout: float) -> Iterator[ContractSummary]:
        """The contract now, and each time it changes, for at most `timeout` seconds."""
        request = contract_pb2.WatchContractRequest(contract_id=contract_id)
        with (
            translated(self._explain),
            stream(lambda: self._contract.WatchContract(request, timeout=timeout)) as answers,
        ):
            for answer in answers:
                yield _summary(answer.contract)

    # Computations

    def submit(self, request_envelope: bytes) -> str:
        """Hands over a signed request; returns its id."""
        request = compute_pb2.SubmitRequest(request_envelope=request_envelope)
        with translated(self._explain):
            return self._compute.Submit(request, timeout=self._timeout).request_id

    def watch_progress(
        self, request_id: str, timeout: float, *, attached: bool = False
    ) -> Iterator[Phase]:
        """Phases of a computation until it has ended; attached, it ends with this call."""
        request = compute_pb2.WatchProgressRequest(request_id=request_id, attached=attached)
        with (
            translated(self._explain),
            stream(lambda: self._compute.WatchProgress(request, timeout=timeout)) as answers,
        ):
            for answer in answers:
                if phase := _PHASES.get(answer.phase):
                    yield phase

    def fetch_result(
        self, request_id: str, timeout: float, *, attached: bool = False
    ) -> ResultAnswer:
        """Waits for the end, then collects proof and result; attached, it ends with this call.

        Raises:
            VerificationError: The stream doesn't begin with exactly one proof,
                or is larger than any result may be.
        """
        request = compute_pb2.FetchResultRequest(request_id=request_id, attached=attached)
        proof: compute_pb2.Proof | None = None
        pieces: list[bytes] = []
        size = 0
        with (
            translated(self._explain),
            stream(lambda: self._compute.FetchResult(request, timeout=timeout)) as answers,
        ):
            for answer in answers:
                part = answer.WhichOneof("part")
                if (part == "proof") != (proof is None):
                    raise VerificationError("The node sent a result without its proof first.")
                if part == "proof":
                    proof = answer.proof
                    continue
                size += len(answer.arrow_ipc)
                if size > MAX_RESULT_BYTES:
                    raise VerificationError(
                        f"The node sent more than {MAX_RESULT_BYTES} bytes of result.",
                        reason="MESSAGE_TOO_LARGE",
                        next_step="Ask for fewer groups or columns.",
                    )
                pieces.append(answer.arrow_ipc)
        if proof is None:
            raise VerificationError("The node ended the result without a proof.")
        return ResultAnswer(proof.receipt, proof.holder_credential, b"".join(pieces))

    def cancel(self, request_id: str) -> None:
        """Ends a computation; a use that was debited stays debited."""
        request = compute_pb2.CancelRequest(request_id=request_id)
        with translated(self._explain):
            self._compute.Cancel(request, timeout=self._timeout)

    def explain_computation(self, request: bytes) -> bytes:
        """JSON of what an unsigned request would cost."""
        message = compute_pb2.ExplainRequest(request=request)
        with translated(self._explain):
            return self._compute.Explain(message, timeout=self._timeout).explanation

    # Log

    def get_checkpoint(self) -> str:
        """The newest signed checkpoint of the own node's log."""
        with translated(self._explain):
            return self._log.GetCheckpoint(
                log_pb2.GetCheckpointRequest(), timeout=self._timeout
            ).checkpoint

    def list_entries(
        self, *, contract_id: str, kind: str, page_size: int, before_index: int
    ) -> tuple[LogEntrySummary, ...]:
        """Entries of the own node's log, newest first; empty strings don't filter."""
        request = log_pb2.ListEntriesRequest(
            contract_id=contract_id, kind=kind, page_size=page_size, before_index=before_index
        )
        with translated(self._explain):
            answer = self._log.ListEntries(request, timeout=self._timeout)
        return tuple(
            LogEntrySummary(e.index, e.kind, e.time, e.contract_id) for e in answer.entries
        )

    def get_receipt(self, index: int) -> bytes:
        """Receipt of one entry of the own node's log, unverified."""
        request = log_pb2.GetEntryRequest(index=index)
        with translated(self._explain):
            return self._log.GetEntry(request, timeout=self._timeout).receipt

    def consistency_proof(self, first_size: int, second_size: int) -> tuple[bytes, ...]:
        """Hashes proving that the smaller tree is a prefix of the larger (RFC 9162 §2.1.4)."""
        request = log_pb2.GetConsistencyProofRequest(first_size=first_size, second_size=second_size)
        with translated(self._explain):
            return tuple(self._log.GetConsistencyProof(request, timeout=self._timeout).hashes)


def _summary(contract: contract_pb2.Contract) -> ContractSummary:
    return ContractSummary(
        contract_id=contract.contract_id,
        product_id=contract.product_id,
        provider=contract.provider,
        consumer=contract.consumer,
        negotiation_state=contract.negotiation_state,
        agreement_state=contract.agreement_state,
        position=contract.position,
        state_hash=contract.state_hash,
        terms=contract.terms,
        uses=contract.uses,
        reason=contract.reason,
    )
