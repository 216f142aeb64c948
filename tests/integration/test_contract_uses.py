"""Uses are debited once a request, exactly, in the transaction of their decision."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from contract_world import ANALYST, HOLDER, NOW, PRODUCT, REQUEST_KEY, offer, terms, user_credential
from contract_world import request as computation
from trading_world import offers_json, trading_world

from luoshu.connector.contract.service import ContractAction
from luoshu.connector.contract.store import find_use
from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.contract import AgreementState
from luoshu.contracts.ids import request_id

USER = user_credential().sign(ANALYST.events)


@pytest.fixture
async def world(tmp_path):
    async with trading_world(tmp_path) as world:
        yield world


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


async def contract(world, **changes):
    await world.holder.products.publish("lung", offers_json(offer(terms(uses=100))))
    wanted = canonicalize(terms(**changes).to_payload())
    return await world.analyst.contracts.request(PRODUCT, "", wanted)


def signed(state, **changes):
    fields = {"id": request_id(uuid4()), "contract_id": state.contract_id}
    return computation(**fields, **changes).sign(REQUEST_KEY)


async def debit(world, state, request, *, user=USER, fail=False):
    """What a computation does: a decision and its use, in one transaction."""

    def command(tx):
        held = world.holder.book.find(tx.connection, state.contract_id)
        held = world.holder.book.expire_if_due(tx, held)
        decision = tx.record("decision", {"allow": True}, parties=[HOLDER.id])
        use = world.holder.book.record_use(
            tx, held, request=request, user=user, decision_index=decision
        )
        if fail:
            raise RuntimeError("the transaction is given up")
        return use

    return await world.holder.ledger.commit(command)


async def meter(world, state):
    return await world.holder.ledger.read(
        lambda connection: world.holder.book.find(connection, state.contract_id).uses
    )


async def test_use_is_debited_and_the_consumer_sees_the_same(world):
    state = await contract(world, uses=3)
    use = await debit(world, state, signed(state))
    assert use.ordinal == 1
    assert use.position == 5
    assert await meter(world, state) == 1
    await world.analyst.consumer.refresh(state.contract_id)
    ours = (await world.holder.contracts.get(state.contract_id)).state
    theirs = (await world.analyst.contracts.get(state.contract_id)).state
    assert ours == theirs
    assert ours.state_hash == theirs.state_hash
    assert ours.uses == 1


async def test_retry_debits_once_and_returns_the_first_use(world):
    state = await contract(world, uses=3)
    request = signed(state)
    first = await debit(world, state, request)
    again = await debit(world, state, request)
    assert again == first
    assert await meter(world, state) == 1
    world.restart(HOLDER)
    assert await debit(world, state, request) == first


async def test_a_transaction_that_is_given_up_debits_nothing(world):
    state = await contract(world, uses=3)
    request = signed(state)
    with pytest.raises(RuntimeError):
        await debit(world, state, request, fail=True)
    assert await meter(world, state) == 0
    assert (await debit(world, state, request)).ordinal == 1


async def test_meter_is_exact_under_concurrency(world):
    state = await contract(world, uses=20)
    requests = [signed(state) for _ in range(25)]
    outcomes = await asyncio.gather(
        *(debit(world, state, request) for request in requests + requests),
        return_exceptions=True,
    )
    uses = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {error.reason for error in errors} == {"USES_EXHAUSTED"}
    assert sorted({use.ordinal for use in uses}) == list(range(1, 21))
    assert len({use.request_id for use in uses}) == 20
    assert len(uses) == 40
    assert await meter(world, state) == 20
    world.restart(HOLDER)
    assert await meter(world, state) == 20


async def test_use_needs_a_request_of_the_consumers_user_for_this_contract(world):
    state = await contract(world)
    other = await world.analyst.contracts.request(PRODUCT, "", b"")
    with refused("REQUEST_SIGNATURE_INVALID"):
        await debit(world, state, signed(other))
    with refused("REQUEST_SIGNATURE_INVALID"):
        await debit(world, state, computation(contract_id=state.contract_id).sign(_stranger()))
    with pytest.raises(NodeError):
        await debit(world, state, signed(state), user=user_credential().sign(HOLDER.events))
    assert await meter(world, state) == 0


def _stranger():
    from luoshu.contracts.keys import KeyUse, SigningKey

    return SigningKey.generate(KeyUse.REQUEST)


async def test_no_use_of_what_is_suspended_or_expired(world):
    state = await contract(world, not_after=NOW + timedelta(minutes=1))
    await world.holder.contracts.act(state.contract_id, ContractAction.SUSPEND)
    with refused("CONTRACT_NOT_ACTIVE"):
        await debit(world, state, signed(state))
    await world.holder.contracts.act(state.contract_id, ContractAction.RESUME)
    await debit(world, state, signed(state))
    world.clock.advance(timedelta(minutes=2))
    with refused("CONTRACT_NOT_ACTIVE"):
        await debit(world, state, signed(state, issued_at=world.clock.now()))
    # The refused command was rolled back, its expiry event too; a decision records it.
    expired = await world.holder.ledger.commit(
        lambda tx: world.holder.book.expire_if_due(
            tx, world.holder.book.find(tx.connection, state.contract_id)
        )
    )
    assert expired.agreement is AgreementState.EXPIRED


async def test_the_entry_of_a_contract_outlives_its_version(world):
    state = await contract(world)
    await world.holder.products.publish("lung", offers_json(offer()))
    await world.holder.products.withdraw(PRODUCT)

    def find(connection):
        return (
            world.holder.book.entry_of(connection, state),
            find_use(connection, state.contract_id, "none"),
        )

    entry, use = await world.holder.ledger.read(find)
    assert (entry.id, entry.version) == (PRODUCT, 1)
    assert use is None
    foreign = (await world.analyst.contracts.get(state.contract_id)).state
    with refused("NOT_FOUND"):
        await world.analyst.ledger.read(
            lambda connection: world.analyst.book.entry_of(connection, foreign)
        )
