"""Computations at the holder: real ledger, real policy, real isolation, real signatures."""

import asyncio
import errno
import os
import re
import signal
import threading
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from compute_world import (
    BY_SEX,
    OFFERED,
    RAW_ROWS,
    RELEASED,
    HeldSandbox,
    Workshop,
    compute_world,
    refusal_of,
)
from contract_world import (
    ANALYST,
    HOLDER,
    NOW,
    THIRD,
    key,
    offer,
    user_credential,
)
from escape_world import workers_below
from log_world import FailingFiles
from trading_world import offers_json

from luoshu.connector.compute.outcome import Phase
from luoshu.connector.compute.service import MAX_RUNNING_PER_CONSUMER
from luoshu.connector.contract.service import ContractAction
from luoshu.connector.errors import NodeError
from luoshu.connector.journal.files import OsFiles
from luoshu.contracts.canonical import digest
from luoshu.contracts.envelope import unverified_payload
from luoshu.contracts.ids import contract_id, user_id
from luoshu.contracts.keys import KeyUse
from luoshu.contracts.membership import UserRole
from luoshu.contracts.request import ComputationRequest
from luoshu.contracts.templates import QueryTemplate, TemplateCall
from luoshu.policies import replay
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.run import Sandbox
from luoshu.sandbox.schema import Use

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


def refused(reason):
    return pytest.raises(NodeError, check=lambda error: error.reason == reason)


def kinds(world):
    return [entry["kind"] for entry in world.log()]


def request_of(envelope, signing_key):
    """The same request, signed by another key."""
    return ComputationRequest.from_payload(unverified_payload(envelope)).sign(signing_key)


# Released


async def test_result_is_released_and_its_receipt_verifies(world):
    state = await world.contract()
    request = world.ask(state)
    request_id = await world.submit(request)
    receipt, result = await world.service.fetch(ANALYST.id, request_id)
    (parsed, rows) = await world.fetched(request_id)
    assert rows == RELEASED
    body = world.verified(parsed)
    assert parsed.to_bytes() == receipt
    assert body.kind == "release"
    assert body.contract_id == state.contract_id
    assert set(body.parties) == {HOLDER.id, ANALYST.id}
    assert body.data["result_digest"] == digest(result)
    assert body.data["request_digest"] == request.digest
    decision, release = world.log()
    assert (decision["kind"], decision["allow"], release["kind"]) == ("decision", True, "release")
    assert decision["measurement"] == world.workshop.sandbox.measurement
    assert replay(world.workshop.policy, decision["policy"])
    assert await world.uses(state) == 1


async def test_neither_the_person_nor_what_was_withheld_is_in_the_entries(world):
    state = await world.contract()
    await world.outcome(world.ask(state))
    text = str(world.log("decision", "release"))
    assert ":user:ada" not in text
    assert "withheld" not in text
    (release,) = world.log("release")
    assert release["rows"] == len(RELEASED)


async def test_phases_come_in_order_and_end(world):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request_id = await world.submit(world.ask(state))
    held.go.set()
    async with aclosing(world.service.progress(ANALYST.id, request_id)) as phases:
        seen = [phase async for phase in phases]
    assert seen == sorted(seen)
    assert seen[-1] is Phase.ENDED
    async with aclosing(world.service.progress(ANALYST.id, request_id)) as phases:
        assert [phase async for phase in phases] == [Phase.ENDED]


# Once


async def test_retry_gets_the_stored_outcome_and_debits_once(world):
    state = await world.contract()
    request = world.ask(state)
    first = await world.outcome(request)
    assert await world.outcome(request) == first
    await world.crash()
    await world.serve()
    assert await world.outcome(request) == first
    assert kinds(world) == ["decision", "release"]
    assert await world.uses(state) == 1


async def test_twenty_submissions_of_one_request_are_one_computation(world):
    state = await world.contract()
    request = world.ask(state)
    outcomes = await asyncio.gather(*(world.outcome(request) for _ in range(20)))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert kinds(world) == ["decision", "release"]
    assert await world.uses(state) == 1


async def test_twenty_submissions_of_one_refused_request_all_get_the_refusal(world):
    state = await world.contract()
    request = world.ask(state, purpose="marketing")
    outcomes = await asyncio.gather(
        *(world.outcome(request) for _ in range(20)), return_exceptions=True
    )
    assert {refusal_of(outcome) for outcome in outcomes} == {"POLICY_DENIED"}
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert kinds(world) == ["decision"]


@pytest.mark.parametrize("ended", [False, True])
async def test_another_request_with_the_same_id_is_refused(world, ended):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request = world.ask(state)
    request_id = await world.submit(request)
    if ended:
        held.go.set()
        await world.fetched(request_id)
    other = world.ask(state, "SELECT count(*) FROM lung", id=request_id)
    with refused("ALREADY_EXISTS"):
        await world.submit(other)
    held.go.set()
    assert (await world.outcome(request))[1] == RELEASED
    assert await world.uses(state) == 1


async def test_uses_run_out_exactly_under_concurrency(world):
    state = await world.contract(uses=3)
    await world.serve(concurrency=4)
    requests = [world.ask(state) for _ in range(20)]
    outcomes = await asyncio.gather(
        *(world.outcome(request) for request in requests), return_exceptions=True
    )
    reasons = [refusal_of(outcome) for outcome in outcomes]
    assert sorted(reasons) == [""] * 3 + ["USES_EXHAUSTED"] * 17
    assert await world.uses(state) == 3
    decisions = world.log("decision")
    assert [entry["allow"] for entry in decisions].count(True) == 3
    assert len(decisions) == 20
    assert len(world.log("release")) == 3
    # A retry of a refused one is told the same, and isn't decided again.
    late = requests[reasons.index("USES_EXHAUSTED")]
    with refused("USES_EXHAUSTED"):
        await world.outcome(late)
    assert len(world.log("decision")) == 20


# Whose


async def test_what_another_organisation_asked_does_not_exist(world):
    state = await world.contract()
    request_id = await world.submit(world.ask(state))
    await world.fetched(request_id)
    for running in (False, True):
        if running:
            held = HeldSandbox(world.workshop.sandbox)
            await world.serve(held)
            request_id = await world.submit(world.ask(state))
        with refused("NOT_FOUND"):
            await world.service.fetch(THIRD.id, request_id)
        with refused("NOT_FOUND"):
            await world.service.cancel(THIRD.id, request_id)
        with refused("NOT_FOUND"):
            await anext(world.service.progress(THIRD.id, request_id))
    held.go.set()
    assert (await world.fetched(request_id))[1] == RELEASED


async def test_contract_of_another_organisation_does_not_exist(world):
    state = await world.contract()
    before = world.holder.ledger.size
    third = user_credential(THIRD)
    texts = set()
    for asked in (state.contract_id, contract_id(uuid4())):
        request = world.ask(state, user_id=third.user_id, contract_id=asked)
        envelope = request_of(request, key("west/ada", KeyUse.REQUEST))
        with refused("NOT_FOUND") as caught:
            await world.submit(envelope, THIRD, third.sign(THIRD.events))
        texts.add(str(caught.value))
    assert len(texts) == 1, "unknown and somebody else's must read alike"
    assert world.holder.ledger.size == before


async def test_an_id_that_another_organisation_took_is_free(world):
    """Otherwise one could tell, or block, what another organisation asked."""
    ours = await world.contract()
    theirs = await world.contract(THIRD)
    request = world.ask(ours)
    request_id = await world.submit(request)
    await world.fetched(request_id)
    third = user_credential(THIRD)
    same = request_of(
        world.ask(theirs, id=request_id, user_id=third.user_id), key("west/ada", KeyUse.REQUEST)
    )
    assert await world.submit(same, THIRD, third.sign(THIRD.events)) == request_id
    receipt, _ = await world.service.fetch(THIRD.id, request_id)
    assert receipt != (await world.fetched(request_id))[0].to_bytes()
    assert (await world.uses(ours), await world.uses(theirs)) == (1, 1)


# Who


@pytest.mark.parametrize(
    ("reason", "user"),
    [
        ("ROLE_REQUIRED", user_credential(roles=(UserRole.ADMIN, UserRole.AUDITOR))),
        ("CREDENTIAL_EXPIRED", user_credential(not_after=NOW)),
        ("CREDENTIAL_EXPIRED", user_credential(not_before=NOW + timedelta(seconds=1))),
        ("CREDENTIAL_INVALID", user_credential(THIRD)),
    ],
    ids=["no analyst", "expired", "not yet valid", "of another organisation"],
)
async def test_user_that_may_not_ask(world, reason, user):
    state = await world.contract()
    before = world.holder.ledger.size
    with refused(reason):
        await world.submit(world.ask(state), user=user.sign(ANALYST.events))
    assert world.holder.ledger.size == before


async def test_credential_that_the_organisation_did_not_sign(world):
    state = await world.contract()
    for forger in (THIRD.events, key("nobody", KeyUse.EVENTS)):
        with refused("CREDENTIAL_INVALID"):
            await world.submit(world.ask(state), user=user_credential().sign(forger))
    # Another organisation's user, rightly signed by that organisation.
    with refused("CREDENTIAL_INVALID"):
        await world.submit(world.ask(state), user=user_credential(THIRD).sign(THIRD.events))


async def test_request_that_the_user_did_not_sign(world):
    state = await world.contract()
    before = world.holder.ledger.size
    with refused("REQUEST_SIGNATURE_INVALID"):
        await world.submit(request_of(world.ask(state), key("west/ada", KeyUse.REQUEST)))
    with refused("REQUEST_SIGNATURE_INVALID"):
        await world.submit(world.ask(state, user_id=user_id(ANALYST.id, "eve")))
    with refused("MALFORMED_MESSAGE"):
        await world.service.submit(ANALYST.id, b"{}", b"{}")
    assert world.holder.ledger.size == before


@pytest.mark.parametrize("age", [timedelta(minutes=5, seconds=1), timedelta(seconds=-61)])
async def test_request_that_is_too_old_or_from_the_future(world, age):
    state = await world.contract()
    with refused("REQUEST_TIME_SKEW"):
        await world.submit(world.ask(state, issued_at=world.clock.now() - age))
    assert world.log() == []


# Refused by policy


@pytest.mark.parametrize(
    ("reason", "rule", "terms", "asked"),
    [
        ("POLICY_DENIED", "purpose", {}, {"purpose": "marketing"}),
        ("POLICY_DENIED", "region", {"regions": ("DE",)}, {}),
        ("POLICY_DENIED", "validity", {"not_before": NOW + timedelta(days=1)}, {}),
    ],
)
async def test_what_the_contract_does_not_allow(world, reason, rule, terms, asked):
    state = await world.contract(**terms)
    request = world.ask(state, **asked)
    with refused(reason) as caught:
        await world.outcome(request)
    assert caught.value.metadata["rule"] == rule
    (entry,) = world.log()
    assert (entry["allow"], entry["reason"], entry["rule"]) == (False, reason, rule)
    assert replay(world.workshop.policy, entry["policy"])
    with refused(reason) as again:
        await world.outcome(request)
    assert str(again.value) == str(caught.value)
    assert again.value.metadata == caught.value.metadata
    assert await world.uses(state) == 0


@pytest.mark.parametrize("action", ["SUSPEND", "REVOKE", "END"])
async def test_contract_that_is_not_active(world, action):
    state = await world.contract()
    await world.holder.contracts.act(state.contract_id, ContractAction[action], reason="why")
    with refused("CONTRACT_NOT_ACTIVE"):
        await world.outcome(world.ask(state))
    assert await world.uses(state) == 0
    assert kinds(world) == ["decision"]
    if action == "SUSPEND":
        await world.holder.contracts.act(state.contract_id, ContractAction.RESUME)
        assert (await world.outcome(world.ask(state)))[1] == RELEASED


async def test_expired_contract_is_not_active_from_the_first_moment(world):
    state = await world.contract(not_after=NOW + timedelta(minutes=1))
    world.clock.advance(timedelta(minutes=1, milliseconds=1))
    with refused("CONTRACT_NOT_ACTIVE"):
        await world.outcome(world.ask(state))
    held = await world.holder.contracts.get(state.contract_id)
    assert held.state.agreement is not None
    assert held.state.agreement.value == "EXPIRED"


async def test_contract_revoked_while_a_request_waits_its_turn(world):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox, before_decision=True)
    await world.serve(held)
    request_id = await world.submit(world.ask(state))
    await held.reached.wait()
    await world.holder.contracts.act(state.contract_id, ContractAction.REVOKE, reason="why")
    held.go.set()
    with refused("CONTRACT_NOT_ACTIVE"):
        await world.fetched(request_id)
    assert kinds(world) == ["decision"]


@pytest.mark.parametrize("late", ["revoked", "too old", "status list stale"])
async def test_who_asks_is_checked_again_at_the_decision(world, late):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox, before_decision=True)
    await world.serve(held)
    request_id = await world.submit(world.ask(state))
    await held.reached.wait()
    if late == "revoked":
        world.revoke(ANALYST)
        reason = "CREDENTIAL_REVOKED"
    elif late == "too old":
        world.clock.advance(timedelta(minutes=5, seconds=1))
        reason = "REQUEST_TIME_SKEW"
    else:
        world.clock.advance(timedelta(days=2))
        reason = "STATUS_LIST_STALE"
    held.go.set()
    with refused(reason):
        await world.fetched(request_id)
    assert world.log() == []
    assert await world.uses(state) == 0


async def test_stale_status_list_stops_decisions(world):
    """What a holder is left with when the operator is down for longer than the list's age."""
    state = await world.contract()
    world.clock.advance(timedelta(days=2))
    with refused("STATUS_LIST_STALE"):
        await world.submit(world.ask(state))
    assert world.log() == []


async def test_clock_set_back_stops_decisions(world):
    state = await world.contract()
    world.clock.advance(timedelta(seconds=30))
    assert (await world.outcome(world.ask(state)))[1] == RELEASED
    size = world.holder.ledger.size
    world.clock.advance(timedelta(seconds=-1))
    request = world.ask(state)
    with refused("CLOCK_BEHIND_LOG"):
        await world.outcome(request)
    assert world.holder.ledger.size == size
    assert await world.uses(state) == 1
    world.clock.advance(timedelta(seconds=1))
    assert (await world.outcome(request))[1] == RELEASED


# Refused by the guard


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (RAW_ROWS, "GUARD_"),
        ("SELECT sex, count(*) FROM lung GROUP BY", "QUERY_INVALID"),
        ("SELECT count(*) FROM nowhere", "QUERY_INVALID"),
    ],
)
async def test_guard_refusal_costs_no_use_and_is_in_the_log(world, sql, reason):
    state = await world.contract()
    request = world.ask(state, sql)
    with pytest.raises(NodeError, check=lambda e: e.reason.startswith(reason)) as caught:
        await world.outcome(request)
    (entry,) = world.log()
    assert (entry["allow"], entry["reason"]) == (False, caught.value.reason)
    assert caught.value.metadata["decision"]
    assert await world.uses(state) == 0
    with pytest.raises(NodeError) as again:
        await world.outcome(request)
    assert str(again.value) == str(caught.value)
    assert len(world.log()) == 1


# Templates


def template(name, sql, **parameters):
    return QueryTemplate.from_payload({"name": name, "sql": sql, "parameters": parameters})


BY_ONE_SEX = template(
    "by-sex",
    "SELECT count(*) AS n FROM lung WHERE sex = $sex",
    sex={"type": "integer", "values": [1, 3]},
)
ROWS = template(
    "rows", "SELECT sex, $what AS what FROM lung", what={"type": "text", "values": ["x"]}
)


async def test_template_is_bound_checked_and_released_by_the_same_rules(world):
    await publish(world, BY_ONE_SEX)
    state = await world.contract(templates=(BY_ONE_SEX,))

    async def call(name, **values):
        asked = world.ask(state, None, template=TemplateCall.of(name, values))
        receipt, rows = await world.outcome(asked)
        assert world.verified(receipt).data["request_digest"] == asked.digest
        return rows

    assert await call("by-sex", sex=1) == [{"n": 80}]
    assert await call("by-sex", sex=3) == [{"n": None}], "too few, template or not"
    with refused("TEMPLATE_DENIED"):
        await call("by-sex", sex=2)
    assert await world.uses(state) == 2


async def publish(world, *templates):
    offers = offers_json(offer(replace(OFFERED, templates=templates)))
    return await world.holder.products.publish("lung", offers)


@pytest.mark.parametrize(
    ("refusing", "said"),
    [
        (ROWS, "rows with what=x \\(GUARD_RAW_ROWS\\): "),
        (
            template("typo", "SELECT count(*) FROM lung WHERE sx = 1"),
            "typo .*no column sx",
        ),
        (template("two", "SELECT count(*) FROM lung; SELECT 1"), "GUARD_STATEMENT"),
        (
            template(
                "some",
                "SELECT count(*) FROM lung WHERE sex = $sex",
                sex={"type": "integer", "range": [1, 2**40]},
            ),
            "",
        ),
        (
            template(
                "last",
                "SELECT count(*) FROM lung WHERE sex = CAST($sex AS TINYINT)",
                sex={"type": "integer", "values": [1, 2, 1000]},
            ),
            "last with sex=1000",
        ),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
async def test_template_that_nobody_could_run_is_not_offered(world, refusing, said):
    before = (await world.holder.products.list_products())[0].version
    if not said:
        assert (await publish(world, BY_ONE_SEX, refusing)).version == before + 1
        return
    with refused("TEMPLATE_INVALID") as caught:
        await publish(world, BY_ONE_SEX, refusing)
    assert re.search(f"Offer [a-z-]+: nobody could run the template .*{said}", str(caught.value))
    assert (await world.holder.products.list_products())[0].version == before


async def test_template_that_was_offered_is_checked_again_when_it_is_used(world):
    await publish(world, BY_ONE_SEX)
    state = await world.contract(templates=(BY_ONE_SEX,))
    product = world.shelf.products["lung"]
    (table,) = product.prepared.tables
    columns = tuple(replace_uses(column) for column in table.columns)
    prepared = replace(product.prepared, tables=(replace(table, columns=columns),))
    world.shelf.products["lung"] = replace(product, prepared=prepared)
    asked = world.ask(state, None, template=TemplateCall.of("by-sex", {"sex": 1}))
    with refused("GUARD_COLUMN_USE"):
        await world.outcome(asked)


def replace_uses(column):
    return replace(column, schema=replace(column.schema, uses=frozenset({Use.AGGREGATE})))


# Failed


async def test_failure_at_run_time_is_one_text_and_the_use_stays_debited(world):
    state = await world.contract()
    narrow = world.workshop.narrow()
    try:
        await world.serve(narrow)
        request = world.ask(state)
        with refused("QUERY_FAILED") as caught:
            await world.outcome(request)
        assert str(caught.value) == str(NodeError("QUERY_FAILED"))
        assert "row" not in str(world.log("failure"))
        assert kinds(world) == ["decision", "failure"]
        assert world.log("failure")[0]["reason"] == "QUERY_FAILED"
        assert await world.uses(state) == 1
        with refused("QUERY_FAILED") as again:
            await world.outcome(request)
        assert str(again.value) == str(caught.value)
        assert again.value.metadata == caught.value.metadata
        assert list(world.results.iterdir()) == []
    finally:
        await world.service.close()
        narrow.close()


async def test_cancel_kills_busy_workers_and_writes_the_failure(world):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request_id = await world.submit(world.ask(state))
    await held.reached.wait()
    launcher = world.workshop.sandbox.isolation.launcher
    workers = workers_below(launcher)
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # busy for ever, and deaf to anything but SIGKILL
    held.go.set()
    async with asyncio.timeout(1):
        await world.service.cancel(ANALYST.id, request_id)
    assert not workers & workers_below(launcher)
    with refused("CANCELLED"):
        await world.fetched(request_id)
    assert kinds(world) == ["decision", "failure"]
    assert world.log("failure")[0]["reason"] == "CANCELLED"
    assert await world.uses(state) == 1
    await world.service.cancel(ANALYST.id, request_id)  # again is harmless


async def test_cancelled_before_its_turn_it_costs_nothing(world):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held, concurrency=1)
    first = await world.submit(world.ask(state))
    await held.reached.wait()
    second = await world.submit(world.ask(state))
    await world.service.cancel(ANALYST.id, second)
    with refused("CANCELLED"):
        await world.fetched(second)
    held.go.set()
    await world.fetched(first)
    assert await world.uses(state) == 1
    assert kinds(world) == ["decision", "release"]


class HoldingFiles(OsFiles):
    """The real disk, on which the next fsync of the journal can be made to wait."""

    def __init__(self):
        self.armed = False
        self.reached = threading.Event()
        self.go = threading.Event()
        self.journal = -1

    def open(self, path):
        descriptor = super().open(path)
        if path.name == "journal":
            self.journal = descriptor
        return descriptor

    def fsync(self, descriptor):
        if self.armed and descriptor == self.journal:
            self.armed = False
            self.reached.set()
            assert self.go.wait(30)
        super().fsync(descriptor)


@pytest.mark.parametrize("at", ["decision", "release"])
async def test_cancelled_while_its_entry_is_being_written(world, at):
    """The entry can't be taken back; what follows must fit to it."""
    files = HoldingFiles()
    state = await world.contract()
    await world.service.close()
    await world.crash(files=files)
    held = HeldSandbox(world.workshop.sandbox, before_decision=at == "decision")
    await world.serve(held)
    request_id = await world.submit(world.ask(state))
    await held.reached.wait()
    files.armed = True
    held.go.set()
    assert await asyncio.to_thread(files.reached.wait, 30)
    cancelling = asyncio.create_task(world.service.cancel(ANALYST.id, request_id))
    again = asyncio.create_task(world.service.cancel(ANALYST.id, request_id))
    await asyncio.sleep(0)
    files.go.set()
    await asyncio.gather(cancelling, again)
    if at == "decision":
        with refused("CANCELLED"):
            await world.fetched(request_id)
        assert kinds(world) == ["decision", "failure"]
    else:
        assert (await world.fetched(request_id))[1] == RELEASED
        assert kinds(world) == ["decision", "release"]
    assert await world.uses(state) == 1


async def test_node_that_stops_writes_the_failure_of_what_runs(world):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request_id = await world.submit(world.ask(state))
    await held.reached.wait()
    fetching = asyncio.create_task(world.fetched(request_id))
    await world.service.close()
    with refused("QUERY_FAILED"):
        await fetching
    assert world.log("failure")[0]["reason"] == "INTERRUPTED"
    with refused("SHUTTING_DOWN"):
        await world.submit(world.ask(state))


async def test_interrupted_computation_gets_its_failure_at_the_next_start(world):
    state = await world.contract()
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request = world.ask(state)
    await world.submit(request)
    await held.reached.wait()
    abandoned = world.service
    await world.crash()
    await world.serve()
    assert kinds(world) == ["decision", "failure"]
    assert world.log("failure")[0]["reason"] == "INTERRUPTED"
    with refused("QUERY_FAILED"):
        await world.outcome(request)
    assert await world.uses(state) == 1
    assert await world.service.recover() == 0
    assert kinds(world) == ["decision", "failure"]
    held.go.set()
    await abandoned.close()


async def test_no_release_entry_no_result(world):
    """The entry is durable before the first byte: a disk that fails at it keeps the result in."""
    files = FailingFiles("fsync", 1, times=0)
    files.armed = False
    state = await world.contract()
    await world.service.close()
    await world.crash(files=files)
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request = world.ask(state)
    request_id = await world.submit(request)
    await held.reached.wait()
    files.armed = True
    held.go.set()
    with refused("LOG_UNAVAILABLE"):
        await world.fetched(request_id)
    with refused("LOG_UNAVAILABLE"):
        await world.outcome(request)
    assert kinds(world) == ["decision"]
    assert await world.uses(state) == 1
    await world.service.close()
    await world.crash()
    await world.serve()
    with refused("QUERY_FAILED"):
        await world.outcome(request)
    assert kinds(world) == ["decision", "failure"]
    assert list(world.results.iterdir()) == []
    assert await world.uses(state) == 1


async def test_full_disk_that_has_room_again(world):
    """Without a restart: the retry finds the failure written, and new requests are computed."""
    files = FailingFiles("write", 1, errno.ENOSPC, times=0)
    files.armed = False
    state = await world.contract()
    await world.service.close()
    await world.crash(files=files)
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request = world.ask(state)
    request_id = await world.submit(request)
    await held.reached.wait()
    files.armed = True
    held.go.set()
    with refused("LOG_UNAVAILABLE"):
        await world.fetched(request_id)
    with refused("LOG_UNAVAILABLE"):
        await world.outcome(world.ask(state))
    files.armed = False
    with refused("QUERY_FAILED"):
        await world.outcome(request)
    assert kinds(world) == ["decision", "failure"]
    assert (await world.outcome(world.ask(state)))[1] == RELEASED
    assert await world.uses(state) == 2


async def test_no_decision_entry_no_computation(world):
    files = FailingFiles("fsync", 1, times=0)
    files.armed = False
    state = await world.contract()
    await world.service.close()
    await world.crash(files=files)
    held = HeldSandbox(world.workshop.sandbox, before_decision=True)
    await world.serve(held)
    request = world.ask(state)
    request_id = await world.submit(request)
    await held.reached.wait()
    files.armed = True
    held.go.set()
    with refused("LOG_UNAVAILABLE"):
        await world.fetched(request_id)
    await world.service.close()
    await world.crash()
    await world.serve()
    assert world.log() == []
    assert (await world.outcome(request))[1] == RELEASED
    assert await world.uses(state) == 1


async def test_disk_too_full_for_the_result(world):
    state = await world.contract()
    request = world.ask(state)
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held)
    request_id = await world.submit(request)
    await held.reached.wait()
    world.results.rmdir()
    world.results.write_bytes(b"")  # nothing can be stored under a file
    held.go.set()
    with refused("QUERY_FAILED"):
        await world.fetched(request_id)
    assert kinds(world) == ["decision", "failure"]
    assert world.log("failure")[0]["reason"] == "LOG_UNAVAILABLE"


@pytest.mark.parametrize("damage", ["removed", "changed", "cut", "unreadable"])
async def test_stored_result_that_is_not_what_was_released(world, damage):
    state = await world.contract()
    request = world.ask(state)
    await world.outcome(request)
    (path,) = world.results.iterdir()
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()
    with refused("RESULT_GONE"):
        await world.outcome(request)
    assert await world.uses(state) == 1
    path.rmdir() if damage == "unreadable" else path.unlink(missing_ok=True)


async def test_results_without_an_entry_are_removed_at_start(world):
    state = await world.contract()
    request = world.ask(state)
    first = await world.outcome(request)
    for stray in ("0" * 64 + ".arrow", "1" * 64 + ".part"):
        (world.results / stray).write_bytes(b"never released")
    await world.crash()
    await world.serve()
    assert len(list(world.results.iterdir())) == 1
    assert await world.outcome(request) == first


# Where nothing can be isolated


async def test_without_isolation_nothing_is_computed_or_debited(world, tmp_path):
    state = await world.contract()
    broken = Sandbox.start(IsolationConfig(bwrap=Path("/bin/false")))
    missing = Sandbox.start(IsolationConfig(bwrap=tmp_path / "no-bwrap"))
    request = world.ask(state)
    try:
        for sandbox in (broken, missing):
            await world.serve(sandbox)
            request_id = await world.submit(request)
            async with aclosing(world.service.progress(ANALYST.id, request_id)) as phases:
                assert [phase async for phase in phases][-1] is Phase.ENDED
            # Long after it ended, whoever comes to fetch is told why.
            with refused("SANDBOX_UNAVAILABLE") as caught:
                await world.fetched(request_id)
            assert "doctor" in str(caught.value)
            await world.service.cancel(ANALYST.id, request_id)
    finally:
        await world.service.close()
        broken.close()
        missing.close()
    assert world.log() == []
    assert await world.uses(state) == 0
    # Mended, the same signed request is computed.
    await world.serve()
    assert (await world.outcome(request))[1] == RELEASED


async def test_holders_product_file_is_not_told_to_the_analyst(world):
    class DamagedShelf:
        def prepared(self, product_id):
            raise NodeError("PRODUCT_FILE_INVALID", "column secret_diagnosis is not in the data")

    state = await world.contract()
    world.shelf = DamagedShelf()
    await world.serve()
    with refused("QUERY_FAILED") as caught:
        await world.outcome(world.ask(state))
    assert "secret" not in str(caught.value)
    assert await world.uses(state) == 0


async def test_one_organisation_can_not_take_all_the_room(world):
    state = await world.contract(uses=100)
    held = HeldSandbox(world.workshop.sandbox)
    await world.serve(held, concurrency=1)
    for _ in range(MAX_RUNNING_PER_CONSUMER):
        await world.submit(world.ask(state, BY_SEX))
    with refused("RATE_LIMITED"):
        await world.submit(world.ask(state))
    assert len(world.log()) <= 1
