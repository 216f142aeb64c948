"""Files: a taken-over worker finds its own code, and changes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from escape_world import DockerPrison, Prison

from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.worker.enclosure import landlock

pytestmark = pytest.mark.system

CLOSED = {"EACCES", "EPERM"}  # by Landlock, or where the kernel has none by the filter of calls


@pytest.fixture
def lent(prison: Prison, visits: PreparedProduct) -> Iterator[int]:
    descriptor = prison.wall.lend(visits.path)
    yield descriptor
    os.close(descriptor)


def test_this_machine_has_landlock() -> None:
    # Else the tests here would see the first fence only.
    assert landlock.version() > 0


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/shadow",
        "/etc/hostname",
        "/proc/self/environ",
        "/proc/self/maps",
        "/proc/1/cmdline",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/kmsg",
        "/sys/kernel",
        "/sys/fs/cgroup",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/null",
        "/dev/shm",
        "/dev/tty",
        "/home",
        "/run/docker.sock",
        "/var/log",
        "/bin/sh",
        "/app/../etc/passwd",
        "/python/lib/../../root",
        str(Path(__file__)),
        sys.prefix,
        str(Path.home()),
    ],
)
async def test_place_of_the_host_is_absent_or_closed(prison: Prison, path: str) -> None:
    said = await prison.run(f"tell([attempt(lambda: f({path!r})) for f in (os.stat, open)])")
    found, opened = said
    assert opened[0] == "failed"
    # A container has a /proc, a /dev and an /etc, its own, all closed to a worker.
    assert found == ["failed", "ENOENT"] or (
        isinstance(prison, DockerPrison) and opened[1] in CLOSED
    )


async def test_what_can_be_listed_is_the_runtime(prison: Prison) -> None:
    payload = """
        places = ["/", "/app", "/python", "/lib", "/in", "/tmp", "/proc"]
        tell({place: attempt(lambda: sorted(os.listdir(place))) for place in places})
    """
    said = await prison.run(payload)
    listed = {"/app", "/python", "/lib"} if prison.has_landlock else set()
    assert {place for place, (result, _) in said.items() if result == "did"} == listed
    closed = {result for _, result in said.values() if result.startswith("E")}
    assert closed == {"EACCES" if prison.has_landlock else "EPERM"}


async def test_product_can_not_be_opened_to_write(prison: Prison, lent: int) -> None:
    payload = """
        path = f"/in/{files[0]}"
        tell([
            attempt(lambda: os.open(path, os.O_RDONLY) > 0),
            attempt(lambda: os.open(path, os.O_RDWR)),
            attempt(lambda: os.open(path, os.O_WRONLY | os.O_TRUNC)),
            attempt(lambda: os.write(files[0], b"x")),
            attempt(lambda: os.pwrite(files[0], b"x", 0)),
            attempt(lambda: os.ftruncate(files[0], 0)),
            attempt(lambda: os.fchmod(files[0], 0o777)),
            attempt(lambda: mmap.mmap(files[0], 4096, mmap.MAP_SHARED, mmap.PROT_WRITE)),
            attempt(lambda: fcntl.ioctl(files[0], 0x40086602, b"12345678")),
        ])
    """
    before = os.fstat(lent)
    said = await prison.run(payload, files=[lent])
    assert said[0] == (["did", "True"] if prison.has_landlock else ["failed", "EPERM"])
    assert [result for result, _ in said[1:]] == ["failed"] * 8
    assert os.fstat(lent) == before


async def test_path_of_the_product_is_not_told(prison: Prison, lent: int) -> None:
    payload = """
        tell([
            attempt(lambda: os.readlink(f"/in/{files[0]}")),
            attempt(lambda: os.readlink(f"/proc/self/fd/{files[0]}")),
            attempt(lambda: os.listdir(f"/in/{files[0]}/..")),
            attempt(lambda: os.stat(f"/in/{files[0]}/../manifest.json")),
        ])
    """
    said = await prison.run(payload, files=[lent])
    assert [result for result, _ in said] == ["failed"] * 4


async def test_other_descriptors_are_not_handed_over(prison: Prison, lent: int) -> None:
    payload = """
        found = {}
        for number in range(1024):
            try:
                found[number] = os.fstat(number).st_mode >> 12
            except OSError:
                pass
        tell([files, found])
    """
    files, found = await prison.run(payload, files=[lent])
    kinds = {int(number): kind for number, kind in found.items()}
    sockets = {number for number, kind in kinds.items() if kind == 0o14}
    regular = {number for number, kind in kinds.items() if kind == 0o10}
    assert sockets <= {0, 3, 4, 5}  # standard input, twice
    assert regular == set(files)


@pytest.mark.parametrize(
    "place", ["/", "/app", "/app/luoshu/sandbox", "/lib", "/python/bin", "/in", "/tmp", "/proc"]
)
async def test_nothing_can_be_written(prison: Prison, place: str) -> None:
    said = await prison.run(f"tell(attempt(lambda: open({place + '/x'!r}, 'w')))")
    assert said == ["failed", "EPERM"]


@pytest.mark.host_kernel  # else nothing can be listed
async def test_code_of_the_node_is_absent(prison: Prison) -> None:
    payload = "tell([sorted(os.listdir('/app/luoshu')), sorted(os.listdir('/app/luoshu/sandbox'))])"
    portions, modules = await prison.run(payload)
    assert portions == ["sandbox"]
    assert not {"isolation", "prepare.py", "dry_run.py", "product_file.py"} & set(modules)


@pytest.mark.host_kernel  # else nothing can be listed
async def test_host_packages_are_hidden(prison: Prison) -> None:
    payload = """
        import sysconfig
        stdlib = sysconfig.get_path("stdlib")
        found = [p for p in ("site-packages", "dist-packages") if os.path.isdir(f"{stdlib}/{p}")]
        tell([name for place in found for name in os.listdir(f"{stdlib}/{place}")])
    """
    assert await prison.run(payload) == []


async def test_environment_is_empty(prison: Prison) -> None:
    said = set(await prison.run("tell(sorted(os.environ))"))
    assert said <= prison.environment
