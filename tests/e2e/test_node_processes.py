"""Real nodes under bad luck: killed, full disk, no isolation, started twice, revoked.

Three processes serve for all tests here; each test leaves them serving again. The last ones
revoke members, so they stay last.
"""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from escape_world import workers_below
from processes import Watched, environment, lines_until, luoshu, wait_until

from luoshu.connector.errors import NodeError
from luoshu.connector.node import DATABASE, serve
from luoshu.connector.store.engine import Store
from luoshu.contracts.log.verify import verify_log_directory
from luoshu.contracts.membership import Role, UserRole
from luoshu.examples import local_space
from luoshu.examples.local_space import PROGRAM, LocalSpace, NodePlan, free_address
from luoshu.examples.lung.demo import BY_SEX, PRODUCT
from luoshu.examples.lung.offers import PURPOSE, offers_of
from luoshu.sdk import connect
from luoshu.sdk.computation import Computation
from luoshu.sdk.errors import FailedError, LuoshuError, UnavailableError

pytestmark = pytest.mark.system

SUPPORT = Path(__file__).parent.parent / "support"
PLANS = [
    NodePlan.of("operator", Role.OPERATOR),
    NodePlan.of("north", Role.HOLDER),
    NodePlan.of("registry", Role.ANALYST, users={"analyst": (UserRole.ANALYST,)}),
]


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    root = tmp_path_factory.mktemp("space")
    with LocalSpace(root, "alliance") as made:
        made.create([*PLANS, NodePlan.of("spare", Role.HOLDER)])
        for name in made.nodes:
            made.enrol(name)
        with (
            local_space.preparation() as sandbox,
            resources.as_file(resources.files("luoshu.examples.lung")) as lung,
        ):
            local_space.prepare(made.nodes["north"], lung / "north.yaml", sandbox)
        made.start("operator", "north", "registry")
        with connect(made.nodes["north"].profile()) as holder:
            holder.publish(PRODUCT, offers_of("north"))
        yield made


@pytest.fixture(scope="module")
def analyst(space):
    with connect(space.nodes["registry"].profile("analyst")) as connected:
        yield connected


@pytest.fixture(scope="module")
def contract(space, analyst):
    (product,) = analyst.search("肺癌")
    made = analyst.negotiate(product, purpose=PURPOSE, uses=20)
    assert made.state == "ACTIVE"
    return made


@pytest.fixture
def north(space):
    """The holder; whatever became of it, it serves again afterwards."""
    node = space.nodes["north"]
    yield node
    if node.pid is None or tuple(node.program) != PROGRAM:
        node.kill()
        node.program = PROGRAM
        node.spawn()
        node.wait_ready()


def restart(node, program=PROGRAM):
    node.kill()
    node.program = program
    node.spawn()
    node.wait_ready()


def entries(node, *kinds):
    """What a node's journal holds."""
    found = []
    for line in (node.directory / "log" / "journal").read_bytes().splitlines():
        found += [json.loads(line)["entries"]]
    bodies = [entry["body"] for group in found for entry in group]
    return [body for body in bodies if not kinds or body["kind"] in kinds]


def decisions(node):
    return [b["data"]["request_id"] for b in entries(node, "decision") if b["data"]["allow"]]


def released(node):
    return [b["data"]["request_id"] for b in entries(node, "release")]


def signed(contract, sql=BY_SEX):
    """A request that is signed and not yet sent."""
    sent = []

    class Client:
        def submit(self, request):
            sent.append(request)

    client, contract._client = contract._client, Client()
    try:
        computation = contract.submit(sql)
    finally:
        contract._client = client
    return Computation(client, computation.id, computation.request, computation._parties)


def send(contract, computation):
    contract._client.submit(computation.request.to_bytes())


# Doesn't start, and says why


def refusal(node, **overrides):
    with pytest.raises(NodeError) as caught:
        serve(node.directory, {"peer.listen": free_address(), **overrides})
    return caught.value


def test_second_process_on_one_directory(space, contract):
    north = space.nodes["north"]
    run = luoshu(
        *("node", "serve", north.directory),
        *("--set", "user.listen=127.0.0.1:0", "--set", "peer.listen=127.0.0.1:0"),
    )
    assert run.returncode == 4
    assert "Another process has the log" in run.stderr
    assert "Traceback" not in run.stderr
    assert contract.query(BY_SEX)  # the first one goes on


def test_busy_port(space):
    busy = space.nodes["north"].peer_address
    told = refusal(space.nodes["spare"], **{"peer.listen": busy, "user.listen": "127.0.0.1:0"})
    assert told.reason == "CONFIGURATION_INVALID"
    assert busy in str(told)


def test_unknown_setting(space):
    spare = space.nodes["spare"]
    file = spare.directory / "node.toml"
    before = file.read_text()
    file.write_text(before + "\n[sandbok]\nmemory_mib = 512\n")
    try:
        told = refusal(spare)
    finally:
        file.write_text(before)
    assert told.reason == "CONFIGURATION_INVALID"
    assert "sandbok.memory_mib" in str(told)
    assert "sandbox.memory_mib" in str(told)


def test_newer_schema(space):
    spare = space.nodes["spare"]
    path = spare.directory / DATABASE
    Store.open(path).close()
    kept = path.read_bytes()
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE alembic_version SET version_num = 'compute_9999'"
            " WHERE version_num LIKE 'compute%'"
        )
    connection.close()
    try:
        told = refusal(spare)
        assert told.reason == "SCHEMA_TOO_NEW"
    finally:
        path.write_bytes(kept)


def test_expired_credential(tmp_path, monkeypatch):
    long_ago = local_space._now() - 20 * (
        local_space._now() - local_space._now().replace(year=2025)
    )
    monkeypatch.setattr(local_space, "_now", lambda: long_ago)
    old = LocalSpace(tmp_path, "alliance")
    old.create([NodePlan.of("operator", Role.OPERATOR)])
    old.enrol("operator")
    told = refusal(old.nodes["operator"])
    assert told.reason == "CREDENTIAL_EXPIRED"
    assert "expired" in str(told) or "valid" in str(told)


@pytest.mark.parametrize("stolen", ["tls", "everything"])
def test_certificate_of_another_space(space, tmp_path, stolen):
    other = LocalSpace(tmp_path, "elsewhere")
    other.create([NodePlan.of("spare", Role.OPERATOR, Role.HOLDER)])
    other.enrol("spare")
    spare, theirs = space.nodes["spare"].directory, other.nodes["spare"].directory
    names = ["credentials/tls.crt", "keys/tls.pem"]
    if stolen == "everything":
        names.append("credentials/membership.json")
    before = {name: (spare / name).read_bytes() for name in names}
    try:
        for name in names:
            (spare / name).write_bytes((theirs / name).read_bytes())
        told = refusal(space.nodes["spare"])
    finally:
        for name, data in before.items():
            (spare / name).write_bytes(data)
    assert told.reason in {"WRONG_SPACE", "CREDENTIAL_INVALID"}
    assert told.status == "UNAUTHENTICATED"


# Ends


def test_sigterm_ends_it_within_the_grace_time(space, north, contract):
    size = len(entries(north))
    family = Watched([north.pid])
    process = north._process
    os.kill(north.pid, signal.SIGTERM)
    assert family.wait_gone(10) == []
    assert process.wait(1) == 0
    north._forget()
    report = verify_log_directory(north.directory)
    assert report.ok, report.problems
    assert report.size >= size


def test_killed_parent_takes_its_node_along(space):
    spare = space.nodes["spare"]
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\n"
            "from luoshu.examples.local_space import LocalNode, NodePlan\n"
            "node = LocalNode(NodePlan.of('spare'), Path(sys.argv[1]), '', '')\n"
            "node.spawn()\nnode.wait_ready()\nprint(node.pid, flush=True)\nsys.stdin.read()",
            str(spare.directory),
        ],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        node = Watched([int(parent.stdout.readline())])
        assert len(node) == 1
        parent.kill()
    assert node.wait_gone(20) == []


def test_holder_that_is_back_is_reached_at_once(space, north, contract):
    """Failed attempts to connect don't keep later calls from trying."""
    north.kill()
    for _ in range(2):
        with pytest.raises(UnavailableError) as caught:
            contract.query(BY_SEX)
        assert caught.value.reason == "PEER_UNREACHABLE"
    north.spawn()
    north.wait_ready()
    assert contract.query(BY_SEX)


# Killed in the middle


def crash_and_come_back(tmp_path, north, contract, point):
    """Kills the holder at a point of a computation, starts it again, and asks again.

    Returns:
        Whether the point was reached.
    """
    restart(north, (sys.executable, str(SUPPORT / "doomed_node.py"), str(tmp_path)))
    before = entries(north)
    uses = contract.refresh().uses
    computation = signed(contract)
    process = Watched([north.pid])
    (tmp_path / "armed").write_text(point)
    acknowledged = None
    try:
        send(contract, computation)
        acknowledged = computation.result(30)
    except LuoshuError:
        assert process.wait_gone() == []
    reached = north.pid is None
    restart(north)
    report = verify_log_directory(north.directory)
    assert report.ok, report.problems
    assert entries(north)[: len(before)] == before

    def asked_again():
        send(contract, computation)
        try:
            return computation.result(60)
        except FailedError as failure:
            assert failure.reason == "QUERY_FAILED"
            return None

    outcome = asked_again()
    times = decisions(north).count(computation.id)
    assert times == 1
    assert contract.refresh().uses == uses + 1
    assert released(north).count(computation.id) == (outcome is not None)
    if acknowledged is not None:
        assert outcome is not None
        assert outcome.receipt.index == acknowledged.receipt.index
        assert outcome.rows() == acknowledged.rows()
    again = asked_again()
    assert (again is None) == (outcome is None)
    assert contract.refresh().uses == uses + 1
    ended = [
        b["kind"]
        for b in entries(north, "release", "failure")
        if b["data"]["request_id"] == computation.id
    ]
    assert ended == ["failure" if outcome is None else "release"]
    return reached


def test_holder_killed_when_the_decision_is_durable(tmp_path, north, contract):
    assert crash_and_come_back(tmp_path, north, contract, "after journal fsync 1")


POINTS = [
    f"{what} {n}"
    for n in (1, 2)
    for what in (
        "before journal write",
        "half journal write",
        "after journal write",
        "after journal fsync",
        "before SQL commit",
        "before checkpoint rename",
    )
] + ["before result 1", "after result 1"]


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_every_point_is_one_that_a_computation_passes(tmp_path, north, contract):
    assert not crash_and_come_back(tmp_path, north, contract, "")
    passed = (tmp_path / "steps").read_text().splitlines()
    assert set(POINTS) - {"before checkpoint rename 2"} <= set(passed)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_holder_killed_at(tmp_path, north, contract, point):
    reached = crash_and_come_back(tmp_path, north, contract, point)
    # Two publications may have been one.
    assert reached or point == "before checkpoint rename 2"


def answers(connected):
    try:
        connected.node()
    except UnavailableError:
        return False
    return True


def test_analysts_node_killed_while_its_request_runs(space, analyst, contract):
    """Its own half: the request is in its log before the holder gets it."""
    registry = space.nodes["registry"]
    computation = signed(contract)
    send(contract, computation)
    registry.kill()
    assert computation.id in [body["data"]["request_id"] for body in entries(registry, "request")]
    registry.spawn()
    registry.wait_ready()
    report = verify_log_directory(registry.directory)
    assert report.ok, report.problems
    wait_until(lambda: answers(analyst), "the SDK has connected again")
    send(contract, computation)
    assert computation.result(60)
    assert decisions(space.nodes["north"]).count(computation.id) == 1


# Nobody waits any more

ASKING = """
import sys
from functools import partial
from luoshu.sdk import connect
with connect(sys.argv[1]) as space:
    space.contract(sys.argv[2]).query(sys.argv[3], on_phase=partial(print, flush=True))
"""


def release_workers(node):
    """Those that are ready to release; each is a process of its own."""
    found = set()
    for pid in workers_below(node.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if b"main('release')" in command:
            found.add(pid)
    return found


@pytest.mark.parametrize("gone", ["user", "node"])
def test_computation_ends_within_a_second_of_who_waits_for_it(space, north, analyst, gone):
    """The workers that would release are stopped, so that it would take for ever."""
    (product,) = analyst.search("肺癌")
    contract = analyst.negotiate(product, purpose=PURPOSE, uses=1)
    registry = space.nodes["registry"]
    wait_until(lambda: release_workers(north), "workers are ready")
    stopped = release_workers(north)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    before = len(decisions(north))
    asking = subprocess.Popen(
        [sys.executable, "-c", ASKING, registry.profile("analyst"), contract.id, BY_SEX],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines_until(asking, lambda line: "computing" in line)
        wait_until(lambda: len(decisions(north)) > before, "it was decided")
        asked = decisions(north)[-1]
        if gone == "user":
            asking.kill()
        else:
            registry.kill()
        wait_until(lambda: stopped - release_workers(north), "its workers are gone", 1)
        ends = lambda: [b["data"] for b in entries(north, "failure")]  # noqa: E731
        wait_until(
            lambda: any((e["request_id"], e["reason"]) == (asked, "CANCELLED") for e in ends()),
            "its end is in the log",
        )
    finally:
        asking.kill()
        asking.communicate()
        for pid in stopped & release_workers(north):
            os.kill(pid, signal.SIGCONT)
        if registry.pid is None:
            registry.spawn()
            registry.wait_ready()


# Full disk


def test_full_disk_loses_nothing(space, north, contract):
    """RLIMIT_FSIZE makes every file of the running node as full as it is now."""
    before = entries(north)
    uses = contract.refresh().uses
    computation = signed(contract)
    soft, hard = resource.prlimit(north.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(north.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(UnavailableError) as caught:
            send(contract, computation)
            computation.result(60)
        assert caught.value.reason == "LOG_UNAVAILABLE"
        assert "disk" in str(caught.value)
        assert entries(north) == before
    finally:
        resource.prlimit(north.pid, resource.RLIMIT_FSIZE, (soft, hard))
    # There is room again: nothing was lost, and nothing has to be restarted.
    send(contract, computation)
    assert computation.result(60)
    assert contract.refresh().uses == uses + 1
    report = verify_log_directory(north.directory)
    assert report.ok, report.problems


# Nothing can be isolated


def test_without_isolation_it_serves_contracts_and_logs_but_computes_nothing(
    space, north, analyst, contract
):
    restart(north, (sys.executable, str(SUPPORT / "wall_less_node.py")))
    uses = contract.refresh().uses
    with pytest.raises(UnavailableError) as caught:
        contract.query(BY_SEX)
    assert caught.value.reason == "SANDBOX_UNAVAILABLE"
    assert "luoshu doctor" in str(caught.value)
    assert contract.refresh().uses == uses
    (product,) = analyst.search("肺癌")
    assert analyst.negotiate(product, purpose=PURPOSE, uses=1).state == "ACTIVE"
    with connect(north.profile()) as holder:
        assert holder.contract(contract.id).uses == uses
        assert holder.log.checkpoint()
    said = (north.directory / "node.log").read_text()
    (told, *_) = [line for line in said.splitlines() if "sandbox_unavailable" in line]
    assert json.loads(told)["code"]
    assert len(json.loads(told)["detail"]) > 40, "the remedy"


# Revoked: these come last


def test_revoked_holder_is_asked_nothing_more(space, analyst, contract):
    with connect(space.nodes["operator"].profile()) as operator:
        operator.revoke_member(space.participant_id("north"), "expelled")

    def refused():
        try:
            contract.query(BY_SEX)
        except LuoshuError as error:
            return error.reason == "CREDENTIAL_REVOKED"
        return False

    wait_until(refused, "the revocation reaches the analyst's node", 20)


def test_revoked_analyst_is_refused_everywhere(space, analyst):
    with connect(space.nodes["operator"].profile()) as operator:
        operator.revoke_member(space.participant_id("registry"), "expelled")
    with pytest.raises(LuoshuError) as caught:
        list(analyst.search("肺癌"))
    assert caught.value.reason == "CREDENTIAL_REVOKED"
