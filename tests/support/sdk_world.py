"""A space in one process: real keys, certificates, signatures and logs, one real gRPC server.

`SpaceSimulator` plays the analyst's node and, behind it, a holder with its usage log. It
signs genuine documents with the code that nodes use, so that the SDK verifies them as it
would anywhere. `Tampering` says where it lies.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import grpc
import pyarrow as pa
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]

from luoshu.api.node.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from luoshu.api.node.compute.v1 import compute_pb2, compute_pb2_grpc
from luoshu.api.node.contract.v1 import contract_pb2, contract_pb2_grpc
from luoshu.api.node.log.v1 import log_pb2, log_pb2_grpc
from luoshu.api.node.membership.v1 import membership_pb2, membership_pb2_grpc
from luoshu.connector.errors import NodeError
from luoshu.connector.membership import pki
from luoshu.contracts import ids
from luoshu.contracts.canonical import JsonObject, canonicalize, digest, parse_object
from luoshu.contracts.contract import (
    AgreeBody,
    ConfirmBody,
    ContractState,
    EmptyBody,
    EventType,
    ReasonBody,
    RequestBody,
    SequencedEvent,
    apply,
    check_submission,
    draft_event,
    sequence,
    unverified_event,
)
from luoshu.contracts.contract.bodies import Body
from luoshu.contracts.envelope import Envelope
from luoshu.contracts.keys import KeyUse, PublicKey, SigningKey
from luoshu.contracts.localized import LocalizedText
from luoshu.contracts.log.checkpoint import Checkpoint, sign_checkpoint
from luoshu.contracts.log.entry import Entry, EntryBody
from luoshu.contracts.log.merkle import hash_leaf, inclusion_proof, root_of
from luoshu.contracts.log.receipt import Receipt
from luoshu.contracts.membership import (
    Endpoints,
    MembershipCredential,
    Role,
    SpaceTrust,
    UserCredential,
    UserRole,
    verify_user_credential,
)
from luoshu.contracts.offer import AnswerMode, Limits, Offer
from luoshu.contracts.product import (
    CatalogEntry,
    Classification,
    ClassificationLevel,
    Column,
    ColumnUse,
    DeliveryForm,
    PersonalInformation,
    QualityGrade,
)
from luoshu.contracts.release_terms import ReleaseMode, ReleaseTerms
from luoshu.contracts.request import verify_request
from luoshu.contracts.terms import Terms, simple_terms
from luoshu.contracts.times import to_milliseconds

SPACE = "alliance"
YEAR = dt.timedelta(days=365)


def utc_now() -> dt.datetime:
    return to_milliseconds(dt.datetime.now(dt.UTC))


class Member:
    """A participant with all its keys."""

    def __init__(self, name: str, role: Role, authority: SigningKey, space: str = SPACE) -> None:
        now = utc_now()
        self.id = ids.participant_id(space, name)
        self.events = SigningKey.generate(KeyUse.EVENTS)
        self.log_key = SigningKey.generate(KeyUse.LOG)
        tls = PublicKey.tls(pki.spki_der(pki.generate_key().public_key()))
        self.credential = MembershipCredential(
            space=space,
            participant_id=self.id,
            name=LocalizedText(name, ""),
            roles=(role,),
            jurisdiction="CN",
            keys=(self.events.public, self.log_key.public, tls),
            endpoints=Endpoints(),
            not_before=now - dt.timedelta(days=1),
            not_after=now + YEAR,
            serial=1,
        )
        self.envelope = self.credential.sign(authority)


class MemoryLog:
    """A usage log in memory: entries, their Merkle tree, signed checkpoints."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.entries: list[Entry] = []

    def append(self, kind: str, contract_id: str | None, data: JsonObject) -> int:
        body = EntryBody(kind, utc_now(), (self.member.id,), contract_id, data)
        index = len(self.entries)
        self.entries.append(Entry(index, body, index.to_bytes(32, "big")))
        return index

    def _node(self, level: int, index: int) -> bytes:
        first, width = index << level, 1 << level
        return root_of([hash_leaf(e.leaf()) for e in self.entries[first : first + width]])

    def checkpoint(self, key: SigningKey | None = None) -> str:
        root = root_of([hash_leaf(entry.leaf()) for entry in self.entries])
        checkpoint = Checkpoint(self.member.id, len(self.entries), root)
        return sign_checkpoint(checkpoint, key or self.member.log_key)

    def receipt(self, index: int, key: SigningKey | None = None) -> Receipt:
        entry = self.entries[index]
        proof = inclusion_proof(index, len(self.entries), self._node)
        return Receipt(index, entry.body, entry.salt, tuple(proof), self.checkpoint(key))


@dataclass
class Tampering:
    """Where the node lies; each is applied just before an answer leaves."""

    entry: Callable[[bytes], bytes] = bytes
    issuer_credential: Callable[[bytes], bytes] = bytes
    receipt: Callable[[Receipt], Receipt] = replace
    holder_credential: Callable[[bytes], bytes] = bytes
    result: Callable[[bytes], bytes] = bytes
    release: Callable[[JsonObject], JsonObject] = dict
    release_kind: str = "release"
    release_contract: Callable[[str], str] = str
    log_key: SigningKey | None = None
    events: Callable[[list[SequencedEvent]], list[SequencedEvent]] = list
    summary: Callable[[contract_pb2.Contract], object] = id
    own_credential: Callable[[bytes], bytes] = bytes
    proof_first: bool = True
    abort_before_proof: bool = False
    refuse: dict[str, NodeError] = field(default_factory=dict)


class _Keys:
    def __init__(self, members: list[Member]) -> None:
        self._members = {member.id: member for member in members}

    def event_keys(self, participant_id: str, at: dt.datetime) -> tuple[PublicKey, ...]:
        member = self._members.get(participant_id)
        return () if member is None else (member.events.public,)


class SimulatedContract:
    """One contract at the simulated holder."""

    def __init__(self, space: SpaceSimulator, contract_id: str) -> None:
        self.space = space
        self.id = contract_id
        self.events: list[SequencedEvent] = []
        self.state: ContractState | None = None
        self.changed = threading.Condition()

    def add(self, kind: EventType, body: Body, by: Member) -> None:
        now = utc_now()
        draft = draft_event(
            self.state,
            kind,
            body,
            author=by.id,
            time=now,
            contract_id=self.id if self.state is None else None,
        )
        envelope = draft.sign(by.events)
        check_submission(self.state, envelope, self.space.keys, now)
        sequenced = sequence(self.state, envelope, self.space.holder.events, now)
        with self.changed:
            self.state = apply(self.state, sequenced, self.space.keys, now)
            self.events.append(sequenced)
            self.changed.notify_all()

    @property
    def first_type(self) -> EventType:
        return unverified_event(self.events[0].event).type

    def events_body(self) -> Body:
        return unverified_event(self.events[0].event).body

    def agree(self) -> None:
        assert self.state is not None
        now = utc_now()
        agreement = self.state.pending_agreement(now)
        draft = draft_event(
            self.state, EventType.AGREE, AgreeBody(agreement), author=self.space.holder.id, time=now
        )
        sequenced = sequence(
            self.state, draft.sign(self.space.holder.events), self.space.holder.events, now
        )
        with self.changed:
            self.state = apply(self.state, sequenced, self.space.keys, now)
            self.events.append(sequenced)
        self.add(EventType.VERIFY, ConfirmBody(agreement.digest), self.space.analyst)
        self.add(EventType.FINALIZE, ConfirmBody(agreement.digest), self.space.holder)

    def to_message(self) -> contract_pb2.Contract:
        state = self.state
        assert state is not None
        message = contract_pb2.Contract(
            contract_id=self.id,
            product_id=state.product_id,
            provider=state.provider,
            consumer=state.consumer,
            negotiation_state=state.negotiation.value,
            agreement_state=state.agreement.value if state.agreement else "",
            position=state.position,
            state_hash=state.state_hash,
            uses=state.uses,
            reason=state.reason,
        )
        self.space.tampering.summary(message)
        return message


class SpaceSimulator(
    catalog_pb2_grpc.CatalogServiceServicer,
    contract_pb2_grpc.ContractServiceServicer,
    compute_pb2_grpc.ComputeServiceServicer,
):
    """The analyst's node, with a holder behind it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = SigningKey.generate(KeyUse.AUTHORITY)
        self.holder = Member("north", Role.HOLDER, self.authority)
        self.other_holder = Member("south", Role.HOLDER, self.authority)
        self.analyst = Member("lab", Role.ANALYST, self.authority)
        self.keys = _Keys([self.holder, self.analyst, self.other_holder])
        self.log = MemoryLog(self.holder)
        self.own_log = MemoryLog(self.analyst)
        for kind in ("membership", "catalog", "contract"):
            self.own_log.append(kind, None, {"note": kind})
        self.tampering = Tampering()
        self.answer: Callable[[SimulatedContract], None] = SimulatedContract.agree
        self.entry = self._make_entry()
        self.entry_envelope = self.entry.sign(self.holder.events)
        self.contracts: dict[str, SimulatedContract] = {}
        self.requests: dict[str, Envelope] = {}
        self.submitted: list[str] = []
        self.explanation: JsonObject = {"mode": "aggregate", "uses_left": None}
        self.cancelled: list[str] = []
        self.debits: int | None = None
        self.published: list[tuple[str, JsonObject]] = []
        self.result = encode({"sex": ["f", "m"], "n": [90, 138]})
        self.hold = threading.Event()
        self.hold.set()
        self.watching = threading.Event()
        self._start()

    # Set-up

    def _make_entry(self) -> CatalogEntry:
        now = utc_now()
        return CatalogEntry(
            id=ids.product_id(self.holder.id, "lung-survival"),
            version=1,
            previous=None,
            issuer=self.holder.id,
            title=LocalizedText("Lung cancer survival", "肺癌生存数据"),
            description=LocalizedText("Survival in days", ""),
            keywords=("oncology",),
            theme="health",
            classification=Classification(
                ClassificationLevel.GENERAL, PersonalInformation.SENSITIVE, 228
            ),
            quality_grade=QualityGrade.A,
            security_level=2,
            delivery_form=DeliveryForm.REPORT,
            source="hospital records",
            update_cycle="yearly",
            columns=(Column("sex", "INTEGER", (ColumnUse.GROUP,)),),
            privacy_unit="patient_id",
            release=ReleaseTerms(ReleaseMode.AGGREGATE, 10),
            offers=(
                Offer(
                    "research",
                    ("*",),
                    simple_terms(purposes=("medical-research",), uses=20, min_units=10),
                    Limits(),
                    AnswerMode.AUTOMATIC,
                ),
            ),
            issued_at=now,
            valid_until=now + YEAR,
        )

    def _start(self) -> None:
        now = utc_now()
        ca = pki.create_authority("users", now)
        server_key, user_key = pki.generate_key(), pki.generate_key()
        name = ids.dns_name(self.analyst.id)

        def issue(key, uri: str, *, server: bool, days: int = 30) -> bytes:
            return pki.issue(
                ca,
                key.public_key(),
                uri=uri,
                dns_name=name if server else None,
                server=server,
                client=not server,
                not_before=now - dt.timedelta(days=60),
                not_after=now + dt.timedelta(days=days),
            )

        request_key = SigningKey.generate(KeyUse.REQUEST)
        self.user = UserCredential(
            user_id=ids.user_id(self.analyst.id, "ada"),
            participant_id=self.analyst.id,
            request_key=request_key.public,
            roles=(UserRole.ANALYST,),
            not_before=now - dt.timedelta(hours=1),
            not_after=now + YEAR,
        )
        self.user_envelope = self.user.sign(self.analyst.events)
        user_id = self.user.user_id
        self.issue_user_certificate = lambda days: issue(user_key, user_id, server=False, days=days)
        self.trust = SpaceTrust(
            space=SPACE,
            authority=self.authority.public,
            ca_certificate=pki.create_authority("space", now).certificate_pem.decode(),
            operator_id=ids.participant_id(SPACE, "operator"),
            operator_endpoint="127.0.0.1:7400",
        )
        self.server = grpc.server(ThreadPoolExecutor(8))
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self, self.server)
        contract_pb2_grpc.add_ContractServiceServicer_to_server(self, self.server)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(self, self.server)
        membership_pb2_grpc.add_MembershipServiceServicer_to_server(_Membership(self), self.server)
        log_pb2_grpc.add_LogServiceServicer_to_server(_Log(self), self.server)
        credentials = grpc.ssl_server_credentials(
            [(pki.key_to_pem(server_key), issue(server_key, self.analyst.id, server=True))],
            ca.certificate_pem,
            require_client_auth=True,
        )
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()
        self.profile = self.directory / "profile"
        self.profile.mkdir(mode=0o700)
        files = {
            "profile.toml": f'address = "127.0.0.1:{self.port}"\nserver_name = "{name}"\n'.encode(),
            "tls.key": pki.key_to_pem(user_key),
            "tls.crt": self.issue_user_certificate(30),
            "request.key": request_key.to_pem(),
            "user.json": self.user_envelope.to_bytes(),
            "space.json": self.trust.to_bytes(),
            "node-ca.crt": ca.certificate_pem,
        }
        for file, data in files.items():
            (self.profile / file).write_bytes(data)
            (self.profile / file).chmod(0o600)

    def close(self) -> None:
        self.hold.set()
        self.server.stop(None).wait()

    def _refuse(self, method: str, context: grpc.ServicerContext) -> None:
        error = self.tampering.refuse.get(method)
        if error is not None:
            detail = AnyMessage()
            detail.Pack(
                error_details_pb2.ErrorInfo(
                    reason=error.reason, domain="luoshu", metadata=dict(error.metadata)
                )
            )
            code = grpc.StatusCode[error.status]
            status = status_pb2.Status(code=code.value[0], message=error.public, details=[detail])
            context.abort_with_status(rpc_status.to_status(status))

    # Catalog

    def _entry(self) -> catalog_pb2.CatalogEntry:
        return catalog_pb2.CatalogEntry(
            entry_envelope=self.tampering.entry(self.entry_envelope.to_bytes()),
            issuer_credential=self.tampering.issuer_credential(self.holder.envelope.to_bytes()),
        )

    def Search(self, request, context):
        self._refuse("Search", context)
        found = request.text in self.entry.title.zh or request.text in self.entry.title.en
        if not found:
            return catalog_pb2.SearchResponse()
        # The same entry on three pages: paging is the client's to follow.
        page = int(request.page_token or 0)
        return catalog_pb2.SearchResponse(
            entries=[self._entry()], next_page_token="" if page == 2 else str(page + 1), total=3
        )

    def GetEntry(self, request, context):
        if request.product_id != self.entry.id:
            self.tampering.refuse.setdefault("missing", NodeError("NOT_FOUND"))
            self._refuse("missing", context)
        return catalog_pb2.GetEntryResponse(entry=self._entry())

    def PublishProduct(self, request, context):
        self._refuse("PublishProduct", context)
        self.published.append((request.product, parse_object(request.offers)))
        return catalog_pb2.PublishProductResponse(product_id=self.entry.id, version=2, log_index=7)

    def WithdrawProduct(self, request, context):
        return catalog_pb2.WithdrawProductResponse(log_index=8)

    def ListProducts(self, request, context):
        return catalog_pb2.ListProductsResponse(
            products=[
                catalog_pb2.Product(
                    product="lung-survival", product_id=self.entry.id, version=1, state="published"
                )
            ]
        )

    # Contracts

    def RequestContract(self, request, context):
        self._refuse("RequestContract", context)
        contract = SimulatedContract(self, ids.contract_id(uuid4()))
        terms = self.entry.offers[0].terms
        if request.terms:
            terms = Terms.from_payload(parse_object(request.terms))
        contract.add(
            EventType.REQUEST,
            RequestBody(request.product_id, request.offer_id, terms, self.entry_envelope.digest),
            self.analyst,
        )
        self.contracts[contract.id] = contract
        self.answer(contract)
        return contract_pb2.RequestContractResponse(contract=contract.to_message())

    def ActOnContract(self, request, context):
        self._refuse("ActOnContract", context)
        contract = self.contracts[request.contract_id]
        match request.action:
            case contract_pb2.CONTRACT_ACTION_ACCEPT:
                contract.add(EventType.ACCEPT, EmptyBody(), self.analyst)
                contract.agree()
            case contract_pb2.CONTRACT_ACTION_COUNTER:
                terms = Terms.from_payload(parse_object(request.terms))
                state = contract.state
                assert state is not None
                body = RequestBody(state.product_id, state.offer_id, terms, state.entry)
                contract.add(EventType.REQUEST, body, self.analyst)
            case contract_pb2.CONTRACT_ACTION_REFUSE:
                contract.add(EventType.TERMINATE, ReasonBody(request.reason), self.analyst)
            case contract_pb2.CONTRACT_ACTION_SUSPEND:
                contract.add(EventType.SUSPEND, ReasonBody(request.reason), self.holder)
            case contract_pb2.CONTRACT_ACTION_RESUME:
                contract.add(EventType.RESUME, ReasonBody(request.reason), self.holder)
            case contract_pb2.CONTRACT_ACTION_REVOKE:
                contract.add(EventType.REVOKE, ReasonBody(request.reason), self.holder)
            case contract_pb2.CONTRACT_ACTION_END:
                contract.add(EventType.END, ReasonBody(request.reason), self.analyst)
            case contract_pb2.CONTRACT_ACTION_APPROVE:
                contract.agree()
        return contract_pb2.ActOnContractResponse(contract=contract.to_message())

    def ListContracts(self, request, context):
        return contract_pb2.ListContractsResponse(
            contracts=[contract.to_message() for contract in self.contracts.values()]
        )

    def GetContract(self, request, context):
        contract = self.contracts[request.contract_id]
        return contract_pb2.GetContractResponse(
            contract=contract.to_message(),
            events=[
                contract_pb2.SequencedEvent(
                    event_envelope=event.event.to_bytes(),
                    position_envelope=event.position.to_bytes(),
                )
                for event in self.tampering.events(contract.events)[request.known_position :]
            ],
            provider_credential=self.tampering.holder_credential(self.holder.envelope.to_bytes()),
            consumer_credential=self.analyst.envelope.to_bytes(),
            debits=self.debits,
        )

    def WatchContract(self, request, context):
        contract = self.contracts[request.contract_id]
        assert contract.state is not None
        seen = contract.state.position
        yield contract_pb2.WatchContractResponse(contract=contract.to_message())
        self.watching.set()
        while context.is_active():
            with contract.changed:
                contract.changed.wait(timeout=0.05)
                position = contract.state.position
            if position != seen:
                seen = position
                yield contract_pb2.WatchContractResponse(contract=contract.to_message())

    # Computations

    def Explain(self, request, context):
        self._refuse("Explain", context)
        asked = parse_object(request.request)
        assert asked["contract_id"] in self.contracts
        return compute_pb2.ExplainResponse(explanation=canonicalize(self.explanation))

    def Submit(self, request, context):
        self._refuse("Submit", context)
        envelope = Envelope.from_bytes(request.request_envelope)
        now = utc_now()
        user = verify_user_credential(self.user_envelope, self.analyst.credential, now)
        asked = verify_request(envelope, user, now)
        self.requests[asked.id] = envelope
        self.submitted.append(asked.sql)
        decision = self.log.append(
            "decision", asked.contract_id, {"request_id": asked.id, "allow": True}
        )
        data: JsonObject = {
            "request_id": asked.id,
            "request_digest": envelope.digest,
            "decision_index": decision,
            "result_digest": digest(self.result),
            "rows": 2,
        }
        self.log.append(
            self.tampering.release_kind,
            self.tampering.release_contract(asked.contract_id),
            self.tampering.release(data),
        )
        return compute_pb2.SubmitResponse(request_id=asked.id)

    def WatchProgress(self, request, context):
        yield compute_pb2.WatchProgressResponse(phase=compute_pb2.PHASE_CHECKING)
        self.watching.set()
        while context.is_active() and not self.hold.wait(0.05):
            pass
        yield compute_pb2.WatchProgressResponse(phase=compute_pb2.PHASE_COMPUTING)
        yield compute_pb2.WatchProgressResponse(phase=compute_pb2.PHASE_RELEASING)
        yield compute_pb2.WatchProgressResponse(phase=compute_pb2.PHASE_ENDED)

    def FetchResult(self, request, context):
        self._refuse("FetchResult", context)
        index = next(
            entry.index
            for entry in reversed(self.log.entries)
            if entry.body.kind == self.tampering.release_kind
        )
        receipt = self.tampering.receipt(self.log.receipt(index, self.tampering.log_key))
        if self.tampering.abort_before_proof:
            return
        proof = compute_pb2.FetchResultResponse(
            proof=compute_pb2.Proof(
                receipt=receipt.to_bytes(),
                holder_credential=self.tampering.holder_credential(self.holder.envelope.to_bytes()),
            )
        )
        if self.tampering.proof_first:
            yield proof
        data = self.tampering.result(self.result)
        for start in range(0, len(data), 100):
            yield compute_pb2.FetchResultResponse(arrow_ipc=data[start : start + 100])
        if not self.tampering.proof_first:
            yield proof

    def Cancel(self, request, context):
        self.cancelled.append(request.request_id)
        self.hold.set()
        return compute_pb2.CancelResponse()


class _Membership(membership_pb2_grpc.MembershipServiceServicer):
    def __init__(self, space: SpaceSimulator) -> None:
        self._space = space

    def GetNode(self, request, context):
        space = self._space
        space._refuse("GetNode", context)
        return membership_pb2.GetNodeResponse(
            participant_id=space.analyst.id,
            roles=["analyst"],
            version="0.1.0",
            log_size=len(space.own_log.entries),
            status_list_valid_until=1_900_000_000,
            membership_credential=space.tampering.own_credential(space.analyst.envelope.to_bytes()),
        )

    def ListMembers(self, request, context):
        members = (self._space.holder, self._space.analyst)
        return membership_pb2.ListMembersResponse(
            membership_credentials=[
                self._space.tampering.issuer_credential(m.envelope.to_bytes()) for m in members
            ]
        )

    def RevokeMember(self, request, context):
        self._space._refuse("RevokeMember", context)
        return membership_pb2.RevokeMemberResponse(status_list_version=3)


class _Log(log_pb2_grpc.LogServiceServicer):
    def __init__(self, space: SpaceSimulator) -> None:
        self._space = space

    def GetCheckpoint(self, request, context):
        space = self._space
        return log_pb2.GetCheckpointResponse(
            checkpoint=space.own_log.checkpoint(space.tampering.log_key)
        )

    def ListEntries(self, request, context):
        found = [
            log_pb2.LogEntry(index=e.index, kind=e.body.kind, time="2026-01-01T00:00:00Z")
            for e in reversed(self._space.own_log.entries)
            if (not request.before_index or e.index < request.before_index)
            and request.kind in ("", e.body.kind)
        ]
        return log_pb2.ListEntriesResponse(entries=found[: request.page_size])

    def GetEntry(self, request, context):
        space = self._space
        receipt = space.own_log.receipt(request.index, space.tampering.log_key)
        return log_pb2.GetEntryResponse(receipt=space.tampering.receipt(receipt).to_bytes())

    def GetInclusionProof(self, request, context):
        raise NotImplementedError

    def GetConsistencyProof(self, request, context):
        raise NotImplementedError


def encode(columns: dict[str, list[object]]) -> bytes:
    batch = pa.RecordBatch.from_pydict(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
