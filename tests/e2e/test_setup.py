"""Runs the commands of docs/setup.md, in their order, as a person would."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
LUNG = ROOT / "examples" / "luoshu" / "examples" / "lung"
LUOSHU = Path(sys.executable).parent / "luoshu"


def commands() -> list[list[str]]:
    """Every command of the page's `sh` blocks."""
    page = (ROOT / "docs" / "setup.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def offers() -> str:
    page = (ROOT / "docs" / "setup.md").read_text("utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.S | re.M)
    return block


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def nodes():
    running: list[subprocess.Popen[str]] = []
    yield running
    for node in running:
        node.stdin.close()
    for node in running:
        assert node.wait(20) == 0
        node.stdout.close()


def test_every_command_of_the_page_works_in_order(tmp_path, nodes):
    shutil.copytree(LUNG / "data", tmp_path / "data")
    shutil.copy(LUNG / "north.yaml", tmp_path)
    (tmp_path / "offers.yaml").write_text(offers(), "utf-8")
    ports: dict[str, str] = {}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LUOSHU_")}
    contract = ""
    verbs = []
    for command in commands():
        assert command[0] == "luoshu"
        words = [
            re.sub(
                r"127\.0\.0\.1:\d+",
                lambda m: ports.setdefault(m[0], f"127.0.0.1:{free_port()}"),
                contract if word == "CONTRACT" else word,
            )
            for word in command[1:]
        ]
        verbs.append(" ".join(words[:2]))
        if words[:2] == ["node", "serve"]:
            node = subprocess.Popen(
                [LUOSHU, *words, "--lifeline"],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            nodes.append(node)
            assert "ready" in json.loads(node.stdout.readline())
            continue
        done = subprocess.run(
            [LUOSHU, *words],
            check=False,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        if words[:2] == ["contract", "list"]:
            (contract,) = re.findall(r"urn:luoshu:contract:[0-9a-f-]{36}", done.stdout)
    assert len(nodes) == 3
    assert {"query " + contract, "evidence verify", "log verify", "contract revoke"} <= set(verbs)
