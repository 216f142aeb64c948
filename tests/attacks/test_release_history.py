"""The release history on the holder's node: what was released before can't be got around."""

import asyncio
import errno
import os
from datetime import timedelta

import pytest
from contract_world import ANALYST, HOLDER, THIRD, key, user_credential
from history_world import history_world

from luoshu.connector.compute.history import Audience
from luoshu.connector.compute.outcome import Phase
from luoshu.connector.contract.service import ContractAction
from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import digest
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.release_terms import ReleaseScope
from luoshu.contracts.request import ComputationRequest


@pytest.fixture
async def world(tmp_path):
    async with history_world(tmp_path) as world:
        yield world


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


def shape(value):
    """A JSON value with every text and number replaced by its type and, for texts, its length."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return (type(value).__name__, len(value) if isinstance(value, str) else None)


def shared_entries(world, since=0):
    """What the consumer may read of the holder's log."""
    ledger = world.holder.ledger
    return [
        entry.body
        for entry in ledger.entries(since, ledger.size - since)
        if ANALYST.id in entry.body.parties
    ]


# One transaction


async def test_two_concurrent_computations_can_not_both_pass(world):
    """Each would pass alone; their difference is one person."""
    state = await world.contract(uses=50)
    await world.serve(concurrency=8)
    results = await asyncio.gather(*(world.counted(f"1-{last}", state) for last in range(20, 28)))
    assert sorted(map(len, results)) == [0] * 7 + [1]
    assert world.ranges.most_inside == 1
    assert len(world.kept) == 1


async def test_computation_that_waits_sees_what_was_released_meanwhile(world):
    state = await world.contract()
    await world.serve(concurrency=2)
    world.ranges.hold = True
    first = await world.submit(world.ask(state, "1-20"))
    await world.ranges.reached.wait()
    world.ranges.hold = False
    second = await world.submit(world.ask(state, "1-21"))
    await world.reach(second, Phase.COMPUTING)
    world.ranges.go.set()
    assert [row["n"] for row in (await world.fetched(first))[1]] == [20]
    assert (await world.fetched(second))[1] == []


async def test_cancelled_computation_gives_the_domain_up(world):
    state = await world.contract()
    await world.serve(concurrency=3)
    world.ranges.hold = True
    holding = await world.submit(world.ask(state, "1-20"))
    await world.ranges.reached.wait()
    waiting = await world.submit(world.ask(state, "1-40"))
    await world.reach(waiting, Phase.COMPUTING)
    world.ranges.hold = False
    for one in (waiting, holding):
        await world.service.cancel(ANALYST.id, one)
        with refused("CANCELLED"):
            await world.fetched(one)
    assert await world.counted("1-60", state) == [60]
    assert await world.debits(state) == 0


async def test_cancelled_while_the_delta_is_written_it_counts_as_released(world, monkeypatch):
    """A thread can't be interrupted: the domain stays taken until the file is there."""
    state = await world.contract()
    loop, reached, go = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    rename = os.rename

    def slow(source, target, **rest):
        loop.call_soon_threadsafe(reached.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(30)
        rename(source, target, **rest)

    monkeypatch.setattr(os, "rename", slow)
    request = await world.submit(world.ask(state, "1-20"))
    await reached.wait()
    cancelling = asyncio.create_task(world.service.cancel(ANALYST.id, request))
    other = await world.submit(world.ask(state, "1-21"))
    await world.reach(other, Phase.COMPUTING)
    monkeypatch.setattr(os, "rename", rename)
    go.set()
    await cancelling
    assert (await world.fetched(other))[1] == []
    assert len(world.kept) == 1


# Durable


@pytest.mark.parametrize("end", ["killed", "failed"])
async def test_delta_without_an_entry_counts_as_released(world, end):
    state = await world.contract(uses=9)
    if end == "killed":
        world.ranges.hold_after = True
        await world.submit(world.ask(state, "1-20"))
        await world.ranges.reached.wait()
        world.ranges.hold_after = False
        abandoned = world.service
        await world.crash()
        await world.serve()
    else:
        world.ranges.fail = "shape"
        with refused("QUERY_FAILED"):
            await world.counted("1-20", state)
        world.ranges.fail = ""
    assert [entry["kind"] for entry in world.log("history", "release", "failure")] == ["failure"]
    assert await world.counted("1-21", state) == []
    (entry,) = world.log("history")
    (orphan,) = world.kept
    assert entry["file"] is None
    assert entry["found"] == [{"name": orphan.name, "digest": digest(orphan.read_bytes())}]
    assert await world.counted("30-50", state) == [21]
    assert world.log("history")[1]["found"] == []
    # What was adopted is missed like any other.
    orphan.unlink()
    with refused("HISTORY_CORRUPT"):
        await world.counted("60-80", state)
    if end == "killed":
        world.ranges.go.set()
        await abandoned.close()


async def test_entry_names_the_file_that_is_there(world):
    state = await world.contract()
    await world.counted("1-20", state)
    (entry,) = world.log("history")
    (file,) = world.kept
    assert entry["file"] == {"name": file.name, "digest": digest(file.read_bytes())}
    assert (entry["domain"], entry["scope"], entry["conflicts"]) == ("patient_id", "participant", 0)
    assert [e["kind"] for e in world.log("decision", "history", "release")] == [
        *("decision", "history", "release"),
    ]
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


async def test_partly_written_delta_of_a_crash_is_no_history(world):
    state = await world.contract()
    await world.counted("1-20", state)
    part = world.domain / ".00000001.x.hist.part"
    part.write_bytes(b"half")
    (world.domain / "notes.txt").write_text("not ours")
    await world.crash()
    await world.serve()
    assert await world.counted("1-40", state) == [40]
    assert not part.exists()


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("damage", ["deleted", "altered", "cut", "all deleted"])
async def test_damaged_history_is_refused_until_it_is_put_back(world, damage, restart):
    state = await world.contract()
    await world.counted("1-20", state)
    await world.counted("1-40", state)
    file = world.kept[0]
    saved = {path: path.read_bytes() for path in world.kept}
    if damage == "all deleted":
        for path in saved:
            path.unlink()
        world.domain.rmdir()
    elif damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(b"5 6 7" if damage == "altered" else b"")
    if restart:
        await world.crash()
        await world.serve()
    uses = await world.uses(state)
    request = world.ask(state, "1-21")
    with refused("HISTORY_CORRUPT") as caught:
        await world.outcome(request)
    assert "backup" in str(caught.value)
    assert file.name not in str(caught.value)
    assert await world.uses(state) == uses, "nothing was decided, so nothing is debited"
    for path, data in saved.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert (await world.outcome(request))[1] == []


async def test_tables_that_are_lost_do_not_lose_the_history(world):
    """They are made again from the journal, so a deleted file is still missed."""
    state = await world.contract()
    await world.counted("1-20", state)
    world.kept[0].unlink()
    (world.root / HOLDER.name / "luoshu.db").unlink()
    await world.crash()
    await world.serve()
    with refused("HISTORY_CORRUPT"):
        await world.counted("1-21", state)


async def test_disk_that_does_not_take_the_delta_releases_nothing(world, monkeypatch):
    state = await world.contract()

    def broken(source, target, **rest):
        raise OSError(errno.EIO, "Input/output error")

    world.ranges.hold = True
    request = await world.submit(world.ask(state, "1-20"))
    await world.ranges.reached.wait()
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", broken)
        world.ranges.go.set()
        with refused("QUERY_FAILED"):
            await world.fetched(request)
    assert world.kept == []
    assert world.log("release") == []
    assert await world.debits(state) == 0, "the holder's disk is not the analyst's doing"


async def test_delta_that_is_not_what_was_announced_is_not_kept(world, monkeypatch):
    state = await world.contract()
    elsewhere = world.root / "elsewhere"
    elsewhere.write_text("a secret of the host")
    history = world.service._history

    async with history.of(_audience(state)).transaction(()) as transaction:
        for delta, told in (
            (elsewhere, digest(b"something else")),
            (world.ranges.directory, digest(b"")),
            (world.root / "nothing", digest(b"")),
        ):
            with refused("LOG_UNAVAILABLE"):
                await transaction.commit(delta, told)
    assert world.kept == []


def _audience(state):
    return Audience("patient_id", ANALYST.id, state.contract_id, ReleaseScope.PARTICIPANT)


# Scope


async def third_asks(world, state, units):
    user = user_credential(THIRD)
    request = ComputationRequest.from_payload(
        unverified_payload(world.ask(state, units, user_id=user.user_id))
    ).sign(key("west/ada", KeyUse.REQUEST))
    await world.submit(request, THIRD, user.sign(THIRD.events))
    await world.service.fetch(THIRD.id, unverified_payload(request)["id"])
    return world.log("release")[-1]["rows"]


@pytest.mark.parametrize(
    ("scope", "own", "others"),
    [
        (ReleaseScope.CONTRACT, 1, 1),
        (ReleaseScope.PARTICIPANT, 0, 1),
        (ReleaseScope.PRODUCT, 0, 0),
    ],
)
async def test_scope_says_whose_results_are_compared(world, scope, own, others):
    """`own`: a second contract of the same organisation; `others`: one of another."""
    await world.offer_with(scope=scope)
    first = await world.contract(scope=scope)
    await world.counted("1-20", first)
    assert await world.counted("1-21", first) == []
    second = await world.contract(scope=scope)
    assert len(await world.counted("1-21", second)) == own
    third = await world.contract(THIRD, scope=scope)
    assert await third_asks(world, third, "1-22") == others


async def test_wider_scope_is_compared_with_what_narrower_ones_released(world):
    """Otherwise a contract of scope `contract` would be a way around one of scope `product`."""
    await world.offer_with(scope=ReleaseScope.CONTRACT)
    narrow = await world.contract(scope=ReleaseScope.CONTRACT)
    wide = await world.contract(scope=ReleaseScope.PRODUCT)
    await world.counted("1-20", narrow)
    assert await world.counted("1-21", wide) == []


@pytest.mark.parametrize("ending", [ContractAction.END, ContractAction.REVOKE])
@pytest.mark.parametrize("scope", [ReleaseScope.PARTICIPANT, ReleaseScope.PRODUCT])
async def test_what_an_ended_contract_released_still_counts(world, ending, scope):
    """Whoever keeps the results can subtract them: whatever its scope was, no file may go."""
    await world.offer_with(scope=ReleaseScope.CONTRACT)
    narrow = await world.contract(scope=ReleaseScope.CONTRACT)
    await world.counted("1-20", narrow)
    await world.holder.contracts.act(narrow.contract_id, ending, reason="over")
    assert len(world.kept) == 1
    later = await world.contract(scope=scope)
    assert await world.counted("1-21", later) == []
    assert len(world.kept) == 1


# Debits


async def test_contract_is_suspended_when_its_debits_are_used_up(world):
    state = await world.contract(uses=50, debits=3)
    await world.counted("1-20", state)
    for number in range(3):
        assert await world.debits(state) == number
        assert await world.counted(f"1-{21 + number}", state) == []
    held = await world.holder.contracts.get(state.contract_id)
    assert held.state.agreement.value == "SUSPENDED"
    assert not any(character.isdigit() for character in held.state.reason)
    with refused("CONTRACT_NOT_ACTIVE"):
        await world.counted("1-60", state)
    # The holder has looked.
    await world.holder.contracts.act(state.contract_id, ContractAction.RESUME)
    assert await world.debits(state) == 0
    assert await world.counted("1-60", state) == [60]


async def test_failures_at_run_time_debit_as_well(world):
    state = await world.contract(uses=50, debits=2)
    world.ranges.fail = "compute"
    for _ in range(2):
        with refused("QUERY_FAILED"):
            await world.counted("1-20", state)
    held = await world.holder.contracts.get(state.contract_id)
    assert held.state.agreement.value == "SUSPENDED"
    assert held.debits == 2


async def test_refusals_and_cancellations_do_not_debit(world):
    state = await world.contract(debits=1)
    with refused("POLICY_DENIED"):
        await world.outcome(world.ask(state, purpose="marketing"))
    world.ranges.hold = True
    request = await world.submit(world.ask(state, "1-20"))
    await world.ranges.reached.wait()
    await world.service.cancel(ANALYST.id, request)
    assert await world.debits(state) == 0


async def test_replay_of_a_request_does_not_debit_twice(world):
    state = await world.contract(debits=2)
    await world.counted("1-20", state)
    request = world.ask(state, "1-21")
    first = await world.outcome(request)
    for _ in range(3):
        assert await world.outcome(request) == first
    await world.crash()
    await world.serve()
    assert await world.outcome(request) == first
    assert await world.debits(state) == 1
    assert len(world.log("history")) == 2


async def test_debits_survive_a_restart_and_lost_tables(world):
    state = await world.contract(debits=3)
    await world.counted("1-20", state)
    await world.counted("1-21", state)
    (world.root / HOLDER.name / "luoshu.db").unlink()
    await world.crash()
    await world.serve()
    assert await world.debits(state) == 1


async def test_interrupted_computation_is_not_the_analysts_doing(world):
    state = await world.contract(debits=1)
    world.ranges.hold = True
    await world.submit(world.ask(state, "1-20"))
    await world.ranges.reached.wait()
    abandoned = world.service
    await world.crash()
    await world.serve()
    assert world.log("failure")[0]["reason"] == "INTERRUPTED"
    assert await world.debits(state) == 0
    world.ranges.go.set()
    await abandoned.close()


async def test_revoked_contract_is_not_suspended(world):
    state = await world.contract(debits=1)
    await world.counted("1-20", state)
    world.ranges.hold = True
    request = await world.submit(world.ask(state, "1-21"))
    await world.ranges.reached.wait()
    await world.holder.contracts.act(state.contract_id, ContractAction.REVOKE, reason="why")
    world.ranges.go.set()
    assert (await world.fetched(request))[1] == []
    held = await world.holder.contracts.get(state.contract_id)
    assert held.state.agreement.value == "REVOKED"


async def test_product_that_became_stricter_binds_old_contracts(world):
    state = await world.contract(debits=16)
    await world.counted("1-20", state)
    world.floor(debits=1, scope="product", min_units=50)
    await world.serve()
    await world.counted("1-21", state)
    rules = world.ranges.rules
    assert (rules.debits, rules.scope, rules.min_units) == (1, "product", 50)
    held = await world.holder.contracts.get(state.contract_id)
    assert held.state.agreement.value == "SUSPENDED"


# What the analyst's side learns


async def test_consumer_sees_the_same_with_and_without_conflicts(world):
    """Entries, their number and their order: the shape is the same byte for byte."""
    state = await world.contract(uses=50)
    await world.counted("1-20", state)
    shapes, sizes = [], []
    for units in ("1-40", "1-41", "51-70", "51-71"):
        size = world.holder.ledger.size
        world.clock.advance(timedelta(seconds=1))
        await world.counted(units, state)
        entries = shared_entries(world, size)
        shapes.append([(body.kind, shape(body.data)) for body in entries if body.kind == "release"])
        sizes.append(world.holder.ledger.size - size)
        kinds = [body.kind for body in entries]
        assert kinds == ["decision", "contract", "release"]
    assert all(each == shapes[0] for each in shapes)
    assert len(set(sizes)) == 1, "the size of the public log tells nothing"


async def test_nothing_shared_with_the_consumer_tells_the_count(world):
    state = await world.contract(uses=50, debits=2)
    for units in ("1-20", "1-21", "1-22"):
        await world.counted(units, state)
    assert world.log("history")[-1]["conflicts"] == 1
    text = " ".join(str(body.to_payload()) for body in shared_entries(world))
    for word in ("conflict", "history", "debited", "withheld", ".hist"):
        assert word not in text
    for body in shared_entries(world):
        assert body.kind in {"decision", "contract", "release", "product"}
    seen = await world.analyst.contracts.get(state.contract_id)
    assert seen.debits is None


async def test_history_entry_is_for_the_holder_alone(world):
    state = await world.contract()
    await world.counted("1-20", state)
    ledger = world.holder.ledger
    (entry,) = [e for e in ledger.entries(0, ledger.size) if e.body.kind == "history"]
    assert entry.body.parties == (HOLDER.id,)
