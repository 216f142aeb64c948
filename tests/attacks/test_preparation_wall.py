"""The wall around preparation, whose worker reads the holder's files and sees some of the host's.

Each payload is Python that runs as this worker would be; it reports what it could do. Workers that
run queries have another wall, in `tests/attacks/escape`.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import Limits, Mount, WorkerError, WorkerSpec
from luoshu.sandbox.isolation.worker_process import WorkerProcess
from luoshu.sandbox.leftovers import remove_left
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.run import Sandbox

pytestmark = pytest.mark.system

PRELUDE = """
import json, os, sys
def tell(said):
    data = json.dumps({"said": said}).encode()
    os.write(1, len(data).to_bytes(4, "big") + data)
def attempt(action):
    try:
        return ["DID", repr(action())]
    except BaseException as error:
        return ["failed", type(error).__name__]
"""

Run = Callable[..., Any]


@pytest.fixture
def wall(sandbox: Sandbox) -> BwrapIsolation:
    assert isinstance(sandbox.isolation, BwrapIsolation)
    return sandbox.isolation


async def start(
    wall: BwrapIsolation,
    payload: str,
    limits: Limits | None = None,
    mounts: tuple[Mount, ...] = (),
    entry: str = "prepare",
) -> WorkerProcess:
    spec = WorkerSpec(entry, mounts, limits or wall.config.limits)
    code = PRELUDE + textwrap.dedent(payload)
    return await wall.start_command(spec, [wall.interpreter, "-I", "-S", "-c", code])


async def run(wall: BwrapIsolation, payload: str, **options: Any) -> Any:
    worker = await start(wall, payload, **options)
    try:
        return (await worker.receive())["said"]
    finally:
        await worker.stop()


async def test_environment_is_empty(wall: BwrapIsolation) -> None:
    said = await run(wall, "tell(sorted(os.environ))")
    assert set(said) <= {"PWD", "LC_CTYPE"}  # set by bubblewrap's chdir and Python's locale


async def test_root_holds_the_runtime_only(wall: BwrapIsolation) -> None:
    said = await run(wall, "tell([sorted(os.listdir('/')), sorted(os.listdir('/usr'))])")
    assert said == [["app", "lib", "lib64", "python", "tmp", "usr"], ["lib", "lib64"]]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/hostname",
        "/proc/self/environ",
        "/proc/1/cmdline",
        "/sys/kernel",
        "/dev/mem",
        "/dev/null",
        "/home",
        "/run",
        "/var",
        "/bin/sh",
        "/usr/bin/env",
        str(Path(__file__).parents[2]),
        str(Path(sys.prefix)),
        str(Path.home()),
    ],
)
async def test_host_path_is_absent(wall: BwrapIsolation, path: str) -> None:
    assert await run(wall, f"tell(os.path.lexists({path!r}))") is False


@pytest.mark.parametrize(
    "place", ["/", "/app", "/lib", "/python", "/python/bin", "/usr", "/product"]
)
async def test_root_is_read_only(wall: BwrapIsolation, visits: PreparedProduct, place: str) -> None:
    mounts = (Mount(visits.path, "/product/0.duckdb"),)
    payload = f"tell(attempt(lambda: open({place!r} + '/x', 'w')))"
    assert await run(wall, payload, mounts=mounts) == ["failed", "OSError"]


@pytest.mark.parametrize(
    "action",
    [
        "open('/product/0.duckdb', 'r+b')",
        "os.truncate('/product/0.duckdb', 0)",
        "os.unlink('/product/0.duckdb')",
        "os.chmod('/product/0.duckdb', 0o777)",
        "os.link('/product/0.duckdb', '/tmp/x')",
        "os.rename('/product/0.duckdb', '/product/1.duckdb')",
    ],
)
async def test_product_is_read_only(
    wall: BwrapIsolation, visits: PreparedProduct, action: str
) -> None:
    before = visits.path.stat()
    mounts = (Mount(visits.path, "/product/0.duckdb"),)
    result, _ = await run(wall, f"tell(attempt(lambda: {action}))", mounts=mounts)
    assert result == "failed"
    assert visits.path.stat() == before


async def test_other_products_are_absent(wall: BwrapIsolation, visits: PreparedProduct) -> None:
    mounts = (Mount(visits.path, "/product/0.duckdb"),)
    payload = "tell([os.listdir('/product'), os.path.exists('/product/manifest.json')])"
    assert await run(wall, payload, mounts=mounts) == [["0.duckdb"], False]


async def test_tmp_is_private_and_limited(wall: BwrapIsolation) -> None:
    limits = replace(wall.config.limits, tmp_bytes=1 << 20, file_bytes=1 << 30)
    payload = """
        empty = os.listdir("/tmp")
        def fill():
            with open("/tmp/x", "wb", 0) as file:
                for _ in range(64):
                    file.write(bytes(1 << 20))
        tell([empty, attempt(fill), os.path.getsize("/tmp/x")])
    """
    empty, filled, size = await run(wall, payload, limits=limits)
    assert empty == []
    assert filled == ["failed", "OSError"] or size <= 1 << 20
    assert size <= 1 << 20


async def test_file_size_is_limited(wall: BwrapIsolation) -> None:
    limits = replace(wall.config.limits, file_bytes=4096)
    payload = """
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        def fill():
            with open("/tmp/x", "wb", 0) as file:
                for _ in range(4):
                    file.write(bytes(4096))
            return os.path.getsize("/tmp/x")
        tell(attempt(fill))
    """
    assert await run(wall, payload, limits=limits) == ["failed", "OSError"]


@pytest.mark.parametrize(
    "action",
    [
        "socket.create_connection(('127.0.0.1', 9), 1)",
        "socket.create_connection(('192.0.2.1', 80), 1)",
        "socket.create_connection(('::1', 9), 1)",
        "socket.getaddrinfo('localhost.localdomain', 80)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')",
    ],
)
async def test_no_network(wall: BwrapIsolation, action: str) -> None:
    result, _ = await run(wall, f"import socket; tell(attempt(lambda: {action}))")
    assert result == "failed"


async def test_abstract_sockets_of_the_host_are_out_of_reach(wall: BwrapIsolation) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        name = f"\0luoshu-test-{os.getpid()}"
        listener.bind(name)
        listener.listen()
        payload = f"""
            import socket
            tell(attempt(lambda: socket.socket(socket.AF_UNIX).connect({name!r})))
        """
        assert await run(wall, payload) == ["failed", "ConnectionRefusedError"]


async def test_only_the_three_standard_descriptors(wall: BwrapIsolation) -> None:
    payload = """
        def is_open(number):
            try:
                os.fstat(number)
            except OSError:
                return False
            return True
        tell([number for number in range(256) if is_open(number)])
    """
    assert await run(wall, payload) == [0, 1, 2]


async def test_own_process_namespace(wall: BwrapIsolation) -> None:
    payload = f"""
        host = attempt(lambda: os.kill({os.getpid()}, 0))
        tell([os.getpid() < 10, os.getppid() in (0, 1), host])
    """
    assert await run(wall, payload) == [True, True, ["failed", "ProcessLookupError"]]


async def test_nobody_without_capabilities(wall: BwrapIsolation) -> None:
    payload = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        class Header(ctypes.Structure):
            _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
        data = (ctypes.c_uint32 * 6)()
        libc.capget(ctypes.byref(Header(0x20080522, 0)), ctypes.byref(data))
        tell([os.getuid(), os.getgid(), list(data), libc.prctl(39, 0, 0, 0, 0)])
    """
    uid, gid, capabilities, no_new_privileges = await run(wall, payload)
    assert (uid, gid) == (65534, 65534)
    assert capabilities == [0] * 6
    assert no_new_privileges == 1


@pytest.mark.parametrize(
    "action",
    [
        "os.setuid(0)",
        "os.chroot('/tmp')",
        "__import__('socket').sethostname('x')",
        "os.mknod('/tmp/disk', 0o600 | 0o060000, os.makedev(8, 0))",
        "os.nice(-5)",
        "os.setresuid(0, 0, 0)",
        "__import__('time').clock_settime(0, 0)",
        "__import__('resource').setrlimit(7, (1 << 20, 1 << 20))",
    ],
)
async def test_privileged_action_fails(wall: BwrapIsolation, action: str) -> None:
    result, _ = await run(wall, f"tell(attempt(lambda: {action}))")
    assert result == "failed"


async def test_no_controlling_terminal(wall: BwrapIsolation) -> None:
    payload = "tell([os.getsid(0) != 0 or None, attempt(lambda: open('/dev/tty'))])"
    _, terminal = await run(wall, payload)
    assert terminal == ["failed", "FileNotFoundError"]


async def test_memory_limit(wall: BwrapIsolation) -> None:
    limits = replace(wall.config.limits, memory_bytes=512 << 20)
    assert await run(wall, "tell(attempt(lambda: len(bytearray(1 << 30))))", limits=limits) == [
        "failed",
        "MemoryError",
    ]


async def test_cpu_limit(wall: BwrapIsolation) -> None:
    worker = await start(wall, "while True: pass", replace(wall.config.limits, cpu_seconds=1))
    with pytest.raises(WorkerError):
        await worker.receive()
    end = await worker.stop()
    assert end.status in {"signal SIGXCPU", "signal SIGKILL", "exit 152", "exit 137"}


async def test_descriptor_limit(wall: BwrapIsolation) -> None:
    payload = "tell(attempt(lambda: [os.pipe() for _ in range(1000)]))"
    assert await run(wall, payload) == ["failed", "OSError"]


async def test_stop_kills_at_once(wall: BwrapIsolation) -> None:
    payload = """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        tell("ready")
        while True:
            signal.pause()
    """
    worker = await start(wall, payload)
    await worker.receive()
    began = time.monotonic()
    end = await worker.stop()
    assert time.monotonic() - began < 1
    assert end.status == "signal SIGKILL"


async def test_daemon_does_not_survive(wall: BwrapIsolation, tmp_path: Path) -> None:
    # A child that left the session writes into a directory of the host for as long as it lives.
    payload = """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                import time
                while True:
                    open("/out/alive", "w").write(str(time.monotonic()))
                    time.sleep(0.01)
            os._exit(0)
        while not os.path.exists("/out/alive"):
            pass
        tell("ready")
        import time
        time.sleep(60)
    """
    worker = await start(wall, payload, mounts=(Mount(tmp_path, "/out", writable=True),))
    await worker.receive()
    await worker.stop()
    (tmp_path / "alive").unlink()
    # What still lives would write again; a worker started since proves that time has passed.
    assert await run(wall, "import time; time.sleep(0.1); tell(1)") == 1
    assert not (tmp_path / "alive").exists()


SEALED = """
    import ctypes, errno, socket
    sys.path.append("/app")
    from luoshu.sandbox.worker.enclosure.seal import seal_for_writing
    seal_for_writing()
    libc = ctypes.CDLL(None, use_errno=True)
    def call(*numbers):
        if libc.syscall(*map(ctypes.c_long, numbers)) < 0:
            raise OSError(ctypes.get_errno(), "")
    tell(attempt(lambda: {action}))
"""


@pytest.mark.parametrize(
    "action",
    [
        "socket.socket(socket.AF_INET)",
        "socket.socket(socket.AF_UNIX)",
        "os.fork()",
        "os.execv('/python/bin/python3', ['x'])",
        "os.kill(1, 9)",
        "os.chmod('/tmp', 0o777)",
        "os.link('/tmp/x', '/tmp/y')",
        "os.symlink('/', '/out/y')",
        "call(101, 16, 1, 0, 0)",  # ptrace
        "call(165, 0, 0, 0, 0, 0)",  # mount
        "call(272, 0x10000000)",  # unshare
        "call(321, 0, 0, 0)",  # bpf
        "call(425, 1, 0)",  # io_uring_setup
    ],
)
async def test_sealed_worker_is_refused(wall: BwrapIsolation, action: str) -> None:
    assert await run(wall, SEALED.format(action=action)) == ["failed", "PermissionError"]


async def test_sealed_worker_writes_where_it_should(wall: BwrapIsolation, tmp_path: Path) -> None:
    mounts = (Mount(tmp_path, "/out", writable=True),)
    action = "[os.mkdir('/out/d'), open('/out/d/x', 'w').write('made'), os.unlink('/out/d/x')]"
    result, _ = await run(wall, SEALED.format(action=action), mounts=mounts)
    assert result == "DID"
    assert list((tmp_path / "d").iterdir()) == []


async def test_directories_without_end_are_removed(wall: BwrapIsolation, tmp_path: Path) -> None:
    # Deeper than paths and recursion reach, with one for nobody, and a link that leads out.
    (tmp_path / "kept").write_bytes(b"of the host")
    left = tmp_path / "left"
    left.mkdir()
    payload = """
        at = os.open("/out", os.O_RDONLY)
        os.mkdir("closed", dir_fd=at)
        os.symlink("../kept", "out", dir_fd=at)
        open("/out/closed/file", "w")
        os.chmod("/out/closed", 0)
        for number in range(5000):
            os.mkdir("d", dir_fd=at)
            below = os.open("d", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        tell(1)
    """
    assert await run(wall, payload, mounts=(Mount(left, "/out", writable=True),)) == 1
    remove_left(left)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]  # noqa: ASYNC240
    assert (tmp_path / "kept").read_bytes() == b"of the host"


async def test_thread_bomb_does_not_start(wall: BwrapIsolation) -> None:
    # As root no other limit would hold: thousands of small stacks fit into any memory.
    payload = """
        import threading, time
        sys.path.append("/app")
        from luoshu.sandbox.worker.enclosure.seal import seal_for_writing, seal_threads
        def start():
            try:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            except RuntimeError:
                return "refused"
        seal_for_writing()
        before = start()
        seal_threads()
        tell([before, [start() for _ in range(100)].count("refused")])
        os._exit(0)
    """
    assert await run(wall, payload) == [None, 100]
