"""The analyst's node between its user and a holder: both halves written down, nothing unproved."""

from dataclasses import replace
from uuid import uuid4

import pytest
from compute_world import RAW_ROWS, USER, Workshop, compute_world
from contract_world import ANALYST, HOLDER, user_credential

from luoshu.connector.compute import relay as relay_module
from luoshu.connector.compute.relay import ComputeRelay, Proof
from luoshu.connector.compute.service import CHUNK_BYTES
from luoshu.connector.errors import NodeError
from luoshu.connector.peer_port import ResultPart
from luoshu.contracts.canonical import canonicalize, parse_object
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.ids import contract_id, user_id
from luoshu.contracts.log.receipt import Receipt

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    made = Workshop.make(tmp_path_factory.mktemp("workshop"))
    yield made
    made.sandbox.close()


@pytest.fixture
async def world(tmp_path, workshop):
    async with compute_world(tmp_path, workshop) as world:
        yield world


class Wire:
    """Calls of the analyst's node on the holder's service; can be tampered with."""

    def __init__(self, world):
        self.world = world
        self.calls = []
        self.tamper = list

    async def submit_computation(self, peer, request, user_credential):
        assert peer == HOLDER.id
        ledger = self.world.analyst.ledger
        written = [entry.body.kind for entry in ledger.entries(0, ledger.size)]
        self.calls.append(("submit", written.count("request")))
        return await self.world.service.submit(ANALYST.id, request, user_credential)

    async def fetch_result(self, peer, request_id, *, attached):
        assert peer == HOLDER.id
        self.calls.append(("fetch", request_id))
        receipt, result = await self.world.service.fetch(ANALYST.id, request_id)
        parts = [ResultPart(receipt, b"")]
        for start in range(0, len(result), CHUNK_BYTES):
            parts.append(ResultPart(b"", result[start : start + CHUNK_BYTES]))
        for part in self.tamper(parts):
            yield part

    async def watch_progress(self, peer, request_id, *, attached):
        async for phase in self.world.service.progress(ANALYST.id, request_id):
            yield phase.name

    async def cancel(self, peer, request_id):
        await self.world.service.cancel(ANALYST.id, request_id)

    async def explain_computation(self, peer, request):
        assert peer == HOLDER.id
        self.explained = request
        return b"{}"


@pytest.fixture
def wire(world):
    return Wire(world)


@pytest.fixture
def relay(world, wire):
    return ComputeRelay(
        node_id=ANALYST.id,
        ledger=world.analyst.ledger,
        contracts=world.analyst.consumer,
        members=world.analyst.directory,
        peers=wire,
        clock=world.clock,
    )


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


async def submit(relay, envelope):
    return await relay.submit(user_credential(), USER, envelope.to_bytes())


async def fetched(relay, request_id, user=None):
    return [part async for part in relay.fetch(user or user_credential().user_id, request_id)]


def own_log(world):
    ledger = world.analyst.ledger
    bodies = [entry.body for entry in ledger.entries(0, ledger.size)]
    return [(b.kind, b.data) for b in bodies if b.kind in ("request", "receipt")]


async def test_request_is_written_before_it_leaves_and_receipt_before_the_result(
    world, relay, wire
):
    state = await world.contract()
    request = world.ask(state)
    request_id = await submit(relay, request)
    assert wire.calls == [("submit", 1)]
    parts = relay.fetch(user_credential().user_id, request_id)
    proof = await anext(parts)
    assert isinstance(proof, Proof)
    assert [kind for kind, _ in own_log(world)] == ["request", "receipt"]
    result = b"".join([part async for part in parts])
    body = world.verified(Receipt.from_bytes(proof.receipt))
    assert body.data["request_digest"] == request.digest
    assert result == (await world.service.fetch(ANALYST.id, request_id))[1]
    held = (await world.analyst.contracts.get(state.contract_id)).state
    assert held.uses == 1


async def test_asked_again_it_is_written_once(world, relay, wire):
    state = await world.contract()
    request = world.ask(state)
    request_id = await submit(relay, request)
    first = await fetched(relay, request_id)
    assert await submit(relay, request) == request_id
    assert await fetched(relay, request_id) == first
    assert [kind for kind, _ in own_log(world)] == ["request", "receipt"]
    other = world.ask(state, "SELECT count(*) FROM lung", id=request_id)
    with refused("ALREADY_EXISTS"):
        await submit(relay, other)
    assert len(wire.calls) == 4


async def test_other_users_and_unknown_contracts_do_not_exist(world, relay, wire):
    state = await world.contract()
    request_id = await submit(relay, world.ask(state))
    eve = user_id(ANALYST.id, "eve")
    with refused("NOT_FOUND"):
        await fetched(relay, request_id, eve)
    with refused("NOT_FOUND"):
        await relay.cancel(eve, request_id)
    with refused("NOT_FOUND"):
        await anext(relay.progress(eve, request_id))
    calls = len(wire.calls)
    with refused("NOT_FOUND"):
        await submit(relay, world.ask(state, contract_id=contract_id(uuid4())))
    with refused("REQUEST_SIGNATURE_INVALID"):
        await submit(relay, world.ask(state, user_id=eve))
    assert len(wire.calls) == calls


def other_result(parts):
    return [parts[0], ResultPart(b"", b"x" + parts[1].arrow_ipc[1:])]


def cut_result(parts):
    return [parts[0]]


def no_receipt(parts):
    return parts[1:]


def forged_receipt(parts):
    receipt = Receipt.from_bytes(parts[0].receipt)
    body = replace(receipt.body, data={**receipt.body.data, "rows": 7})
    return [ResultPart(replace(receipt, body=body).to_bytes(), b""), *parts[1:]]


def garbage(parts):
    return [ResultPart(b"{}", b""), *parts[1:]]


@pytest.mark.parametrize("tamper", [other_result, cut_result, no_receipt, forged_receipt, garbage])
async def test_nothing_unproved_is_handed_on(world, relay, wire, tamper):
    state = await world.contract()
    request_id = await submit(relay, world.ask(state))
    wire.tamper = tamper
    with refused("PROOF_INVALID"):
        await anext(relay.fetch(user_credential().user_id, request_id))
    assert [kind for kind, _ in own_log(world)] == ["request"]
    wire.tamper = list
    assert len(await fetched(relay, request_id)) == 2


async def test_receipt_of_another_request_is_no_proof(world, relay, wire):
    state = await world.contract()
    first = await submit(relay, world.ask(state))
    kept = []

    def keep(parts):
        kept.extend(parts)
        return parts

    wire.tamper = keep
    await fetched(relay, first)
    second = await submit(relay, world.ask(state))
    wire.tamper = lambda _: kept
    with refused("PROOF_INVALID"):
        await fetched(relay, second)


async def test_result_without_end_is_not_kept(world, relay, wire, monkeypatch):
    state = await world.contract()
    request_id = await submit(relay, world.ask(state))
    monkeypatch.setattr(relay_module, "MAX_RESULT_BYTES", 1 << 20)
    sent = []

    def endless(parts):
        yield parts[0]
        for _ in range(100):
            sent.append(1)
            yield ResultPart(b"", bytes(1 << 18))

    wire.tamper = endless
    with refused("PROOF_INVALID"):
        await fetched(relay, request_id)
    assert len(sent) == 5


async def test_debit_of_a_failed_use_is_seen_by_the_analyst(world, relay):
    state = await world.contract()
    narrow = world.workshop.narrow()
    try:
        await world.serve(narrow)
        request_id = await submit(relay, world.ask(state))
        with refused("QUERY_FAILED"):
            await fetched(relay, request_id)
    finally:
        await world.service.close()
        narrow.close()
    held = (await world.analyst.contracts.get(state.contract_id)).state
    assert held.uses == 1


async def test_refusal_passes_through_with_its_reason(world, relay):
    state = await world.contract()
    request_id = await submit(relay, world.ask(state, RAW_ROWS))
    with pytest.raises(NodeError, check=lambda e: e.reason.startswith("GUARD_")):
        await fetched(relay, request_id)
    with refused("POLICY_DENIED"):
        await submit(relay, world.ask(state, purpose="marketing"))


async def test_revoked_holder_gets_no_request_and_its_word_is_not_taken(world, relay, wire):
    state = await world.contract()
    request_id = await submit(relay, world.ask(state))
    world.revoke(HOLDER)
    calls = len(wire.calls)
    with refused("CREDENTIAL_REVOKED"):
        await fetched(relay, request_id)
    with refused("CREDENTIAL_REVOKED"):
        await submit(relay, world.ask(state))
    assert len(wire.calls) == calls
    assert [kind for kind, _ in own_log(world)] == ["request"]


async def test_what_a_request_would_cost_is_asked_of_the_holder_and_written_nowhere(
    world, relay, wire
):
    state = await world.contract()
    asked = canonicalize(unverified_payload(world.ask(state)))
    before = world.analyst.ledger.size
    assert await relay.explain(asked) == b"{}"
    assert wire.explained == asked
    assert world.analyst.ledger.size == before
    foreign = canonicalize({**parse_object(asked), "contract_id": contract_id(uuid4())})
    with pytest.raises(NodeError, check=lambda error: error.reason == "NOT_FOUND"):
        await relay.explain(foreign)
    with pytest.raises(NodeError, check=lambda error: error.reason == "MALFORMED_MESSAGE"):
        await relay.explain(b"{")
