"""A change that breaks the wire format is found, wherever in the history it happened."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTO = Path("proto/luoshu/api/peer/log/v1/log.proto")

pytestmark = pytest.mark.system


class Repository:
    """A small repository with this one's proto files and its check."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(ROOT / "proto" / "luoshu", path / "proto" / "luoshu")
        shutil.copytree(ROOT / ".ci", path / ".ci")
        for name in ("proto/buf.yaml", "proto/breaks.md"):
            shutil.copy(ROOT / name, path / name)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit("first")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=self.path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "--short=10", "HEAD")

    def rename_first_field(self) -> None:
        text = (self.path / PROTO).read_text()
        assert " = 1;" in text
        (self.path / PROTO).write_text(text.replace(" = 1;", "_renamed = 1;", 1))

    def add_message(self, name: str) -> None:
        with (self.path / PROTO).open("a") as file:
            file.write(f"\nmessage {name} {{}}\n")

    def record(self, line: str) -> None:
        with (self.path / "proto" / "breaks.md").open("a") as file:
            file.write(line + "\n")

    def check(self, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        return subprocess.run(
            [".ci/proto", "breaking"],
            cwd=directory or self.path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_additions_pass_and_are_compared(repository: Repository) -> None:
    repository.add_message("Extra")
    assert repository.check().returncode == 0
    repository.commit("add a message")
    done = repository.check()
    assert done.returncode == 0
    assert "2 comparisons" in done.stdout


def test_break_in_the_working_tree_is_found(repository: Repository) -> None:
    repository.rename_first_field()
    done = repository.check()
    assert done.returncode == 1
    assert "The working tree breaks the wire format" in done.stderr


def test_break_is_found_in_a_clone_below_later_commits(
    repository: Repository, tmp_path: Path
) -> None:
    repository.rename_first_field()
    broken = repository.commit("rename a field")
    repository.add_message("Later")
    repository.commit("add a message")
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", ".", str(clone))
    done = repository.check(clone)
    assert done.returncode == 1
    assert f"Commit {broken} breaks the wire format" in done.stderr


def test_recorded_break_passes_and_covers_nothing_else(repository: Repository) -> None:
    repository.rename_first_field()
    repository.record("| today | a field | to test |  |")
    assert repository.check().returncode == 0
    repository.commit("rename a field, recorded")
    assert repository.check().returncode == 0
    repository.rename_first_field()
    second = repository.commit("rename it again, not recorded")
    assert repository.check().returncode == 1
    repository.record(f"| today | the same field | forgotten | {second} |")
    repository.commit("record it late")
    assert repository.check().returncode == 0


def test_shallow_history_is_no_pass(repository: Repository, tmp_path: Path) -> None:
    repository.add_message("Extra")
    repository.commit("add a message")
    clone = tmp_path / "clone"
    repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.path}", str(clone))
    done = repository.check(clone)
    assert done.returncode == 1
    assert "git fetch --unshallow" in done.stderr
