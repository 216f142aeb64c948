"""Docker's own: what a container may before it seals itself, who cleans up, what is measured."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from escape_world import DockerPrison, containers_of
from sandbox_world import write_product

from luoshu.sandbox.history_port import DirectoryHistory, Scope
from luoshu.sandbox.isolation.containers import Container
from luoshu.sandbox.isolation.docker import FIND_CODE, DockerIsolation
from luoshu.sandbox.isolation.docker_engine import CODE_LABEL
from luoshu.sandbox.isolation.docker_findings import socket_path
from luoshu.sandbox.isolation.homes import Home
from luoshu.sandbox.isolation.port import MIB, IsolationConfig, Limits, WorkerError, WorkerSpec
from luoshu.sandbox.prepare import prepare
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.run import Outcome, ReleaseRules, Sandbox

pytestmark = pytest.mark.system

# The wall that Docker makes, without the one that the worker closes around itself.
OPEN = (
    FIND_CODE
    + """
import ctypes, errno, json, os, socket
from luoshu.sandbox.worker import contained
from luoshu.sandbox.worker.stage import Channel
LIBC = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = LIBC.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result
def attempt(action):
    try:
        return ["did", repr(action())]
    except OSError as error:
        return ["failed", errno.errorcode.get(error.errno, type(error).__name__)]
contained.take_streams()
channel = Channel()
exec(channel.receive()["code"])
"""
)


@pytest.fixture
def client(docker_prison: DockerPrison) -> Iterator[APIClient]:
    with closing(APIClient(base_url=f"unix://{socket_path()}")) as made:
        yield made


async def before_sealing(prison: DockerPrison, code: str, limits: Limits | None = None) -> Any:
    """What code tells that runs in a container from its first moment on."""
    pool = prison.wall.pool_of(OPEN, limits or prison.wall.config.limits)
    worker = await prison.wall.take(pool, limits or prison.wall.config.limits)
    try:
        await worker.send({"code": code})
        return (await worker.receive())["said"]
    finally:
        await worker.stop()


@pytest.mark.parametrize(
    ("action", "refusal"),
    [
        ("socket.socket(socket.AF_INET)", "EPERM"),
        ("socket.socket(socket.AF_INET6)", "EPERM"),
        ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "EPERM"),
        ("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EPERM"),
        ("os.fork()", "EPERM"),
        ("call(272, 0x10000000)", "EPERM"),  # unshare
        ("call(56, 0x10000011, 0, 0, 0, 0)", "EPERM"),  # clone into a user namespace
        ("call(435, 0, 0)", "ENOSYS"),  # clone3
        ("call(165, 0, 0, 0, 0, 0)", "EPERM"),  # mount
        ("call(101, 16, 1, 0, 0)", "EPERM"),  # ptrace
        ("call(321, 0, 0, 0)", "EPERM"),  # bpf
        ("call(425, 1, 0)", "EPERM"),  # io_uring_setup
        ("call(250, 0, 0, 0, 0, 0)", "EPERM"),  # keyctl
        ("os.kill(1, 9)", "EPERM"),
        ("open('/x', 'w')", "EROFS"),
        ("open('/app/x', 'w')", "EROFS"),
        ("open('/door/x', 'w')", "EROFS"),
        ("open('/proc/sys/kernel/core_pattern', 'w')", "EROFS"),
        ("open('/proc/sys/vm/drop_caches', 'w')", "EROFS"),
        ("open('/sys/kernel/uevent_helper', 'w')", "EROFS"),
        ("os.listdir('/dev/shm')", "ENOENT"),
        ("os.setuid(0)", "EPERM"),
        ("os.stat('/bin/sh')", "ENOENT"),
        ("os.stat('/var/run/docker.sock')", "ENOENT"),
    ],
)
async def test_container_refuses_before_it_is_sealed(
    docker_prison: DockerPrison, action: str, refusal: str
) -> None:
    code = f'channel.send({{"said": attempt(lambda: {action})}})'
    assert await before_sealing(docker_prison, code) == ["failed", refusal]


async def test_container_has_no_network_but_loopback(docker_prison: DockerPrison) -> None:
    worker = await docker_prison.hold("tell(1)\ntime.sleep(60)")
    await worker.receive()
    try:
        (pid,) = docker_prison.workers()
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]  # noqa: ASYNC240
        assert [line.split(":")[0].strip() for line in lines] == ["lo"]
    finally:
        await worker.stop()


async def test_tmp_of_a_container_is_limited(docker_prison: DockerPrison) -> None:
    code = """
file = open("/tmp/x", "wb", 0)
def fill():
    while True:
        file.write(bytes(1 << 16))
channel.send({"said": [attempt(fill), os.fstat(file.fileno()).st_size]})
"""
    limits = Limits(tmp_bytes=MIB)
    said, size = await before_sealing(docker_prison, code, limits)
    assert said == ["failed", "ENOSPC"]
    assert size <= MIB


async def test_processes_of_a_container_are_limited_by_the_engine(
    docker_prison: DockerPrison,
) -> None:
    payload = """
        def bomb():
            for count in range(1000):
                try:
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                except RuntimeError:
                    return count
        tell(bomb())
    """
    assert await docker_prison.run(payload) < 64


async def test_container_is_made_with_every_limit(
    docker_prison: DockerPrison, client: APIClient
) -> None:
    worker = await docker_prison.hold("tell(1)\ntime.sleep(60)")
    await worker.receive()
    try:
        (found,) = docker_prison.containers()
    finally:
        await worker.stop()
    limits = docker_prison.wall.config.limits_of("stage1")
    host, config = found["HostConfig"], found["Config"]
    memory = limits.memory_bytes + limits.tmp_bytes + limits.export_bytes
    assert {
        "network": host["NetworkMode"],
        "ipc": host["IpcMode"],
        "cgroups": host["CgroupnsMode"],
        "pid": host["PidMode"],
        "privileged": host["Privileged"],
        "read-only": host["ReadonlyRootfs"],
        "dropped": host["CapDrop"],
        "added": host["CapAdd"],
        "memory": host["Memory"],
        "swap": host["MemorySwap"] - host["Memory"],
        "devices": host["Devices"] or [],
        "log": host["LogConfig"]["Type"],
        "user": config["User"],
        "hostname": config["Hostname"],
        "mounts": [(mount["Target"], mount["ReadOnly"]) for mount in host["Mounts"]],
        "ulimits": {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]},
        "runtime": host["Runtime"],
        "image": config["Image"],
    } == {
        "network": "none",
        "ipc": "none",
        "cgroups": "private",
        "pid": "",
        "privileged": False,
        "read-only": True,
        "dropped": ["ALL"],
        "added": None,
        "memory": memory,
        "swap": 0,
        "devices": [],
        "log": "none",
        "user": "65534:65534" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}",
        "hostname": "worker",
        "mounts": [("/door", True)],
        "ulimits": {
            "core": 0,
            "cpu": limits.cpu_seconds,
            "fsize": limits.file_bytes,
            "nofile": limits.open_files,
        },
        "runtime": client.info()["DefaultRuntime"],
        "image": docker_prison.wall._connect().image,
    }
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] == 64
    assert host["SecurityOpt"][0] == "no-new-privileges"
    assert json.loads(host["SecurityOpt"][1].removeprefix("seccomp="))["defaultAction"] == (
        "SCMP_ACT_ERRNO"
    )
    assert {entry.partition("=")[0] for entry in config["Env"] or ()} <= {"PATH"}


async def test_image_holds_python_and_the_workers_alone(
    docker_prison: DockerPrison, client: APIClient, tmp_path: Path
) -> None:
    image = docker_prison.wall._connect().image
    container = client.create_container(image, ["none"])["Id"]
    try:
        archive = tmp_path / "image.tar"
        with archive.open("wb") as file:
            for chunk in client.export(container):
                file.write(chunk)
    finally:
        client.remove_container(container)
    with tarfile.open(archive) as members:
        files = [member for member in members if member.isfile()]
        links = {member.name for member in members if member.issym()}
    assert not [member.name for member in files if member.mode & 0o6000]
    made_by_docker = {".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "dev/console"}
    places = {member.name.split("/")[0] for member in files if member.name not in made_by_docker}
    assert places == {"app", "lib", "python"}
    programs = {m.name for m in files if m.mode & 0o111 and m.name.startswith(("app", "python"))}
    assert len(programs) == 1
    assert re.fullmatch(r"python/bin/python3\.\d+", programs.pop())
    assert links <= {"lib64", "usr/lib", "usr/lib64", "in", "python/python", "etc/mtab"}
    packages = {m.name.split("/")[1] for m in files if m.name.startswith("app/")}
    assert {name.split(".")[0].split("-")[0] for name in packages} == {
        *("luoshu", "_duckdb", "numpy", "opendp", "deprecated", "wrapt"),
    }
    modules = {m.name.split("/")[3] for m in files if m.name.startswith("app/luoshu/")}
    assert not {"isolation", "prepare.py", "dry_run.py", "product_file.py"} & modules


def test_measurement_is_of_the_image_that_runs(
    docker_prison: DockerPrison, client: APIClient
) -> None:
    wall = docker_prison.wall
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", wall.measurement)
    name = wall.config.image
    found = client.inspect_image(name)
    changed = client.import_image_from_data(b"", repository="luoshu-test", tag="other")
    other = json.loads(changed.splitlines()[-1])["status"]
    try:
        # Another image under the name: this node goes on with the one that it measured …
        assert wall._connect().image == found["Id"] != other
        # … and one that starts now takes none that isn't built of its own code.
        with closing(DockerIsolation(IsolationConfig("docker", image="luoshu-test:other"))) as new:
            (finding,) = new.check()
            assert finding.code == "DOCKER_IMAGE_STALE"
    finally:
        client.remove_image(other, force=True)
    assert found["Config"]["Labels"][CODE_LABEL].startswith("sha256:")


@pytest.mark.parametrize(
    ("config", "code", "remedy"),
    [
        (
            IsolationConfig("docker", image="luoshu-none"),
            "DOCKER_IMAGE",
            "make sandbox-image BASE=debootstrap",
        ),
        (
            IsolationConfig("docker", runtime="luoshu-none"),
            "DOCKER_RUNTIME",
            "apt-get install runsc",
        ),
    ],
)
async def test_what_the_engine_lacks_is_named_and_nothing_is_computed(
    docker_prison: DockerPrison,
    visits: PreparedProduct,
    config: IsolationConfig,
    code: str,
    remedy: str,
) -> None:
    with closing(Sandbox.start(config)) as sandbox:
        (finding,) = await asyncio.to_thread(sandbox.check)
        assert finding.code == code
        assert remedy in finding.remedy
        with pytest.raises(Exception, match=finding.message[:30]):
            async with sandbox.computation([visits], ReleaseRules(), "SELECT 1"):
                pass


async def test_container_that_ends_early_says_so_soon(docker_prison: DockerPrison) -> None:
    limits = docker_prison.wall.config.limits
    pool = docker_prison.wall.pool_of("raise SystemExit(3)", limits)
    began = time.monotonic()
    worker = await docker_prison.wall.take(pool, limits)
    with pytest.raises(WorkerError):
        await worker.receive()
    assert time.monotonic() - began < 5
    assert "ended before it took its streams" in (await worker.stop()).log


async def test_stopping_while_it_starts_leaves_nothing(docker_prison: DockerPrison) -> None:
    wall = docker_prison.wall
    for turn in range(12):
        worker = await wall.start(WorkerSpec("stage2", (), wall.config.limits))
        await asyncio.sleep(turn * 0.03)
        assert (await worker.stop()).status in {"not started", "signal SIGKILL"}
    assert await gone(lambda: not docker_prison.containers())
    assert [path.name for path in wall._connect().home.path.iterdir()] == ["lock"]


async def gone(is_gone: Any) -> bool:
    for _ in range(500):
        if await asyncio.to_thread(is_gone):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_pool_passes_over_containers_that_died_while_they_waited(
    docker_prison: DockerPrison,
) -> None:
    with closing(DockerIsolation(IsolationConfig("docker", ready=1, ready_most=1))) as wall:
        pool = wall._pool("stage2", wall.config.limits)
        pool.fill()
        (waiting,) = pool._ready
        await asyncio.to_thread(has_connected, waiting)
        waiting.stop()
        waiting.join()
        worker = await wall.start(WorkerSpec("stage2", (), wall.config.limits))
        await ready(worker)
        await worker.stop()


def has_connected(container: Container) -> None:
    while container._streams:
        time.sleep(0.01)


async def ready(worker: Any) -> None:
    setup = {"type": "setup", "catalogs": [], "memory_bytes": 1 << 28, "threads": 1, "max_rows": 9}
    await worker.send(setup)
    assert await worker.receive() == {"type": "ready"}


NODE = """
import asyncio
from luoshu.sandbox.isolation.docker import DockerIsolation
from luoshu.sandbox.isolation.port import IsolationConfig, WorkerSpec
async def main():
    wall = DockerIsolation(IsolationConfig("docker", ready=2))
    wall.warm_up()
    worker = await wall.start(WorkerSpec("release", (), wall.config.limits_of("release")))
    await worker.receive()
    connected = wall._connect()
    print(connected.home.path, connected.cleaner._process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
async def node() -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    home, cleaner = (await process.stdout.readline()).split()
    yield process, Path(os.fsdecode(home)), int(cleaner)
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_containers_go_with_the_node(
    docker_prison: DockerPrison, client: APIClient, node: Any
) -> None:
    process, home, _ = node
    assert containers_of(client, home.name)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await gone(lambda: not containers_of(client, home.name) and not home.exists())


async def test_next_node_removes_what_nobody_cleaned_up(
    docker_prison: DockerPrison, client: APIClient, node: Any
) -> None:
    process, home, cleaner = node
    with closing(Home()) as other:  # beside the killed one there is one that lives
        os.kill(cleaner, signal.SIGKILL)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert containers_of(client, home.name)
        await asyncio.to_thread(DockerIsolation(IsolationConfig("docker")).close)
        assert not containers_of(client, home.name)
        assert not home.exists()
        assert other.path.exists()
    assert docker_prison.wall._connect().home.path.exists()


QUERIES = (
    "SELECT ward, count(*) AS n, sum(cost) AS s, avg(age) AS a FROM visits "
    "WHERE day >= DATE '2024-01-01' GROUP BY ward ORDER BY ward",
    "SELECT count(*) FROM visits WHERE ward <> 'lone' AND ward <> 'rare'",
    # Differs from the last by one patient: withheld, for the history says so.
    "SELECT count(*) FROM visits WHERE ward <> 'lone' AND ward <> 'rare' AND note <> 'secret-12'",
)


async def answers(sandbox: Sandbox, product: PreparedProduct, directory: Path) -> list[Outcome]:
    """What is answered with a history that begins here."""
    history = DirectoryHistory(directory, lambda _: Scope("one", bytes(32)))
    outcomes = []
    for sql in QUERIES:
        one = sandbox.computation([product], ReleaseRules(), sql, history)
        async with one as computation:
            await computation.verify()
            outcomes.append(replace(await computation.compute(), timings={}))
    return outcomes


@pytest.mark.parametrize("prison", ["docker_prison", "gvisor_prison"])
async def test_data_history_and_answers_are_those_of_bubblewrap(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path, prison: str
) -> None:
    config = request.getfixturevalue(prison).wall.config
    product = load_product_file(write_product(tmp_path))
    with closing(Sandbox.start(replace(config, ready=1))) as contained:
        prepared = await prepare(
            product, tmp_path, tmp_path / "out", contained.isolation, tmp_path / "units"
        )
        found = await answers(contained, prepared, tmp_path / "docker")
    assert found == await answers(sandbox, prepared, tmp_path / "bwrap")
    assert [len(outcome.rows) for outcome in found] == [5, 1, 1]
    assert [outcome.conflicts for outcome in found] == [0, 0, 1]


async def test_every_kind_of_worker_starts(docker_prison: DockerPrison) -> None:
    wall = docker_prison.wall
    for entry in ("release", "release_dp", "prepare"):
        worker = await wall.start(WorkerSpec(entry, (), wall.config.limits_of(entry)))
        try:
            assert await worker.receive() == {"type": "ready"}
        finally:
            await worker.stop()


@pytest.mark.parametrize(("entry", "job"), [("release", "Release"), ("release_dp", "NoisyRelease")])
async def test_release_worker_opens_nothing_but_its_code(
    docker_prison: DockerPrison, entry: str, job: str
) -> None:
    code = (
        OPEN.partition("contained.take_streams()")[0]
        + f"""
from luoshu.sandbox.worker import {entry} as worker
def taken_over(channel):
    places = ("/etc/hostname", "/proc/self/environ", "/dev/zero", "/door", "/", "/app")
    said = [attempt(lambda: os.open(place, os.O_RDONLY) > 0) for place in places]
    channel.send({{"said": said}})
    os._exit(0)
worker.{job} = taken_over
contained.take_streams()
worker.main()
"""
    )
    limits = docker_prison.wall.config.limits
    worker = await docker_prison.wall.take(docker_prison.wall.pool_of(code, limits), limits)
    assert await worker.receive() == {"type": "ready"}
    said = (await worker.receive())["said"]
    assert said == [["failed", "EACCES"]] * 5 + [["did", "True"]]
    await worker.stop()
