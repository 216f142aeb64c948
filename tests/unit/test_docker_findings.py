"""What `luoshu doctor` says where Docker can't isolate; and what a profile and a home are."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from luoshu.sandbox.isolation.container_profile import profile
from luoshu.sandbox.isolation.docker import DockerIsolation
from luoshu.sandbox.isolation.docker_findings import MissingError, blocked, connect
from luoshu.sandbox.isolation.homes import Home
from luoshu.sandbox.isolation.image import code_digest
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.isolation.runtime import CODE_PARTS
from luoshu.sandbox.worker.enclosure.seccomp import names

CONFIG = IsolationConfig("docker")


def found(path: Path) -> MissingError:
    with pytest.raises(MissingError) as raised:
        connect(path, CONFIG, code_digest())
    assert raised.value.finding.remedy
    return raised.value


def test_there_is_no_engine(tmp_path: Path) -> None:
    finding = found(tmp_path / "docker.sock").finding
    assert finding.code == "DOCKER_ABSENT"
    assert "apt-get install docker.io" in finding.remedy


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "docker.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path


def test_engine_that_ended_left_its_socket(listening: Path, tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as ended:
        ended.bind(str(tmp_path / "ended.sock"))
    finding = found(tmp_path / "ended.sock").finding
    assert finding.code == "DOCKER_NOT_RUNNING"
    assert "systemctl enable --now docker" in finding.remedy


def test_user_without_permission_is_told_of_the_group(listening: Path) -> None:
    listening.chmod(0)
    for parent in list(listening.parents)[:3]:
        parent.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        code = ""
        try:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            connect(listening, CONFIG, "")
        except MissingError as missing:
            code = missing.finding.code + missing.finding.remedy
        finally:
            os._exit(0 if "DOCKER_PERMISSION" in code and "usermod -aG docker" in code else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_engine_elsewhere_gets_no_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2376")
    with closing(DockerIsolation(CONFIG)) as wall:
        (finding,) = wall.check()
    assert finding.code == "DOCKER_REMOTE"
    assert "Unset DOCKER_HOST" in finding.remedy


def test_without_the_sdk_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["docker"] = None
from contextlib import closing
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.run import Sandbox
with closing(Sandbox.start(IsolationConfig("docker"))) as sandbox:
    (finding,) = sandbox.check()
    print(finding.code, finding.remedy)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "DOCKER_SDK pip install 'luoshu[docker]'\n"


def test_trial_that_fails_under_gvisor_names_its_flag() -> None:
    assert "--host-uds=open" in blocked("no such file", "runsc").remedy
    assert "--host-uds" not in blocked("no such file", None).remedy


def test_profile_lists_calls_and_no_way_to_make_processes_namespaces_or_sockets() -> None:
    document = json.loads(profile())
    assert document["defaultAction"] == "SCMP_ACT_ERRNO"
    freely = {
        name
        for rule in document["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }
    forbidden = {
        *("fork", "vfork", "clone", "clone3", "unshare", "setns", "mount", "umount2", "pivot_root"),
        *("chroot", "ptrace", "bpf", "perf_event_open", "io_uring_setup", "keyctl", "socket"),
        *("userfaultfd", "init_module", "kexec_load", "reboot", "mknod", "mknodat", "kill"),
        *("bind", "listen", "accept", "accept4", "sendto", "sendmsg", "process_vm_readv"),
        *("setuid", "setresuid", "setgid", "personality", "syslog", "chmod", "fchmod", "fchown"),
    }
    assert not freely & forbidden
    assert names() - {"clone"} <= freely


def test_digest_of_the_code_covers_each_file(tmp_path: Path) -> None:
    script = (
        "import sys; from luoshu.sandbox.isolation import image; from pathlib import Path; "
        "image.__file__ = sys.argv[1] + '/isolation/image.py'; print(image.code_digest())"
    )

    def digest() -> str:
        command = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    for part in CODE_PARTS:
        place = tmp_path / part
        if place.suffix:
            place.write_text("one = 1\n")
        else:
            place.mkdir()
            (place / "module.py").write_text("one = 1\n")
    first = digest()
    for part in CODE_PARTS:
        place = tmp_path / part
        file = place if place.suffix else place / "module.py"
        file.write_text("two = 2\n")
        assert digest() != first
        file.write_text("one = 1\n")
    assert digest() == first


def test_home_is_abandoned_when_its_process_has_died(tmp_path: Path) -> None:
    with closing(Home(tmp_path / "homes")) as own:
        assert list(own.abandoned()) == []
        with closing(Home(tmp_path / "homes")):
            assert list(own.abandoned()) == []
        assert list(own.abandoned()) == []
        code = f"""
import os
from pathlib import Path
from luoshu.sandbox.isolation.homes import Home
print(Home(Path({str(tmp_path / "homes")!r})).name, flush=True)
os.kill(os.getpid(), 9)
"""
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        assert [path.name for path in own.abandoned()] == [said.stdout.decode().strip()]


def test_home_is_not_made_where_others_see_into_it(tmp_path: Path) -> None:
    (tmp_path / "homes").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="remove it"):
        Home(tmp_path / "homes")
