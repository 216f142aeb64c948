"""`luoshu demo`: what it tells is what happened; nothing of it stays; it can fail."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from processes import LUOSHU, Watched, descendants, environment, lines_until, luoshu
from rich.console import Console
from typer.testing import CliRunner

from luoshu.cli.main import app
from luoshu.examples.lung import demo
from luoshu.examples.story import Story
from luoshu.sdk.errors import DeniedError, FailedError

pytestmark = pytest.mark.system

STEPS = [
    "A space is created and four nodes join it",
    "Three products are published and found",
    "Contracts are negotiated and signed by both sides",
    "Statistics are computed at each holder; only results leave",
    "What the contract doesn't allow is refused",
    "Every log verifies; a changed byte is found",
]
NODES = ("operator", "north", "east", "south", "registry")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """One whole demo; several tests look at it."""
    kept = tmp_path_factory.mktemp("demo") / "kept nodes"
    run = luoshu("demo", "--json", "--keep", kept, seconds=110)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout), kept


def facts(told, step):
    return {fact["name"]: fact for fact in told["steps"][step - 1]["facts"]}


def observed(told, step, name):
    return facts(told, step)[name]["observed"]


def test_story_as_data(played):
    told, _ = played
    assert set(told) == {"holds", "seconds", "steps"}
    assert told["holds"] is True
    assert [step["title"] for step in told["steps"]] == STEPS
    assert [step["step"] for step in told["steps"]] == [1, 2, 3, 4, 5, 6]
    for step in told["steps"]:
        assert set(step) == {"step", "title", "holds", "seconds", "facts", "results"}
        assert step["holds"] is True
        assert step["facts"]
        for fact in step["facts"]:
            assert set(fact) == {"name", "holds", "observed", "milliseconds"}
            assert fact["holds"] is True
            assert fact["observed"]
    assert sum(step["seconds"] for step in told["steps"]) <= told["seconds"]


def test_step_1_five_processes_and_a_stranger_turned_away(played):
    told, kept = played
    pids = re.findall(r"[0-9]+", observed(told, 1, "five processes serve"))
    assert len(set(pids)) == 5
    assert observed(told, 1, "a certificate of the space “elsewhere”").startswith("turned away")
    assert observed(told, 1, "a member's certificate") == "served"
    for name in NODES:
        assert (kept / name / "credentials" / "membership.json").is_file()
        assert (kept / name / "log" / "journal").stat().st_size > 0


def test_step_2_three_products_found_in_two_languages(played):
    told, _ = played
    for text in ("肺癌", "survival"):
        assert observed(told, 2, f"search “{text}”").startswith("3 products")


def test_step_3_accepted_countered_refused(played):
    told, _ = played
    assert observed(told, 3, "north accepts") == "ACTIVE, 10 uses"
    assert observed(told, 3, "the analyst takes it") == "ACTIVE, 3 uses"
    assert observed(told, 3, "south refuses the purpose “marketing”").startswith("TERMINATED")
    assert sum(name.startswith("both sides of") for name in facts(told, 3)) == 3


def test_step_4_values_are_those_of_the_data(played):
    """Computed a second way: from the CSV files, by hand."""
    told, _ = played
    (by_sex, _by_ecog) = told["steps"][3]["results"].values()
    data = Path(demo.__file__).parent / "data"
    expected = {}
    for holder in ("north", "east", "south"):
        header, *lines = (data / f"{holder}.csv").read_text().split()
        rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
        for sex in {row["sex"] for row in rows}:
            days = [int(row["time"]) for row in rows if row["sex"] == sex]
            expected[holder, sex] = (len(days), round(sum(days) / len(days), 1))
    found = {(row["holder"], row["sex"]): (row["patients"], row["mean_days"]) for row in by_sex}
    assert found == expected


def test_step_5_refusals_have_their_reasons(played):
    told, _ = played
    for name, text in {
        "raw rows": "refused",
        "a group of 4 patients": "withheld",
        "a purpose outside the contract": "purpose",
        "a fourth use of east, where three were agreed": "refused",
        "a use of north after revocation": "revoked",
    }.items():
        assert text in observed(told, 5, name)


def test_step_6_every_log_verifies_and_the_changed_byte_is_found(played):
    told, _ = played
    for name in NODES:
        assert "all hold" in observed(told, 6, f"log of {name}")
    assert re.search(r"[0-9]", observed(told, 6, "one byte of a copy of south's log is changed"))


def test_no_process_stays_after_it(played):
    _, kept = played
    assert processes_of(kept) == []


def processes_of(directory):
    """Command lines that name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            if str(directory) in command:
                found.append(command)
    return found


def test_kept_logs_verify_by_the_command_and_kept_nodes_serve_again(played):
    _, kept = played
    for name in ("operator", "south"):
        run = luoshu("log", "verify", kept / name)
        assert run.returncode == 0, run.stdout + run.stderr
    assert luoshu("log", "verify", kept / "copy-of-south").returncode == 4
    node = subprocess.Popen(
        [*LUOSHU, "node", "serve", str(kept / "operator"), "--lifeline"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with node:
        ready = json.loads(node.stdout.readline())
        assert ready["ready"] == "urn:luoshu:alliance:operator"
        node.stdin.close()
        assert node.wait(20) == 0
    assert luoshu("log", "verify", kept / "operator").returncode == 0


def test_keep_on_a_directory_that_is_there_is_refused_and_changes_nothing(tmp_path):
    (tmp_path / "mine").write_text("precious")
    run = luoshu("demo", "--keep", tmp_path)
    assert run.returncode == 2
    assert str(tmp_path) in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_interrupt_ends_every_process_and_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [*LUOSHU, "demo"],
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        lines_until(process, lambda line: line.startswith("2. "))
        family = Watched(descendants(process.pid))
        assert len(family) >= 5
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        process.communicate(timeout=60)
        assert process.returncode == 130
    assert family.wait_gone() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_it_takes_its_nodes_along(tmp_path):
    process = subprocess.Popen(
        [*LUOSHU, "demo"],
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        lines_until(process, lambda line: line.startswith("4. "))
        family = Watched(descendants(process.pid))
        assert len(family) >= 5
        process.kill()
    assert family.wait_gone() == []
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_runs_side_by_side_do_not_meet():
    runs = [
        subprocess.Popen(
            [*LUOSHU, "demo", "--json"], env=environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for run in runs:
        out, _ = run.communicate(timeout=240)
        assert run.returncode == 0
        assert json.loads(out)["holds"] is True


# It can fail


@pytest.mark.slow
def test_lower_floor_makes_the_story_fail(monkeypatch, tmp_path):
    """Four patients are a group now: what the demo tells of them doesn't hold."""
    here = Path(demo.__file__).parent
    products = tmp_path / "products"
    shutil.copytree(here, products)
    for file in products.glob("*.yaml"):
        file.write_text(file.read_text().replace("min_units: 10", "min_units: 2"))
    original_prepare, original_offers = demo.prepare, demo.offers_of

    def prepare(node, product_file, sandbox):
        return original_prepare(node, products / product_file.name, sandbox)

    def offers_of(holder):
        return json.loads(
            json.dumps(original_offers(holder)).replace('"min_units": 10', '"min_units": 2')
        )

    monkeypatch.setattr(demo, "prepare", prepare)
    monkeypatch.setattr(demo, "offers_of", offers_of)
    told = demo.run_demo(console=Console(quiet=True))
    assert not told.holds
    failed = {fact.name for step in told.steps for fact in step.facts if not fact.holds}
    assert "a group of 4 patients" in failed


def test_node_that_does_not_start_makes_the_story_fail(monkeypatch, tmp_path):
    """The story ends there, is told as such, and what was started is ended."""

    def broken(self, *names):
        for node in self.nodes.values():
            node.program = ("/bin/false",)
        original(self, *names)

    original = demo.LocalSpace.start
    monkeypatch.setattr(demo.LocalSpace, "start", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = demo.run_demo(console=Console(quiet=True))
    assert not told.holds
    assert told.steps[-1].facts[-1].holds is False
    assert "operator" in told.steps[-1].facts[-1].observed
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("holds", [True, False])
def test_exit_code_says_whether_the_story_holds(monkeypatch, holds):
    def run_demo(*, keep, console):
        told = Story(console)
        with told.step("one"):
            told.fact("a fact", holds, "seen")
        return told

    monkeypatch.setattr(demo, "run_demo", run_demo)
    for arguments in (["demo"], ["demo", "--json"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == (0 if holds else 4), result.output


@pytest.fixture
def story():
    return Story(Console(quiet=True))


def test_story_without_steps_or_facts_does_not_hold(story):
    assert not story.holds
    with story.step("nothing"):
        pass
    assert not story.holds


def test_refusal_must_come_and_be_the_expected_one(story):
    def refuse(reason):
        raise DeniedError("no", reason=reason)

    with story.step("refusals"):
        story.refused("expected", lambda: refuse("A"), DeniedError, lambda e: e.reason == "A")
        assert story.steps[0].facts[-1].holds
        story.refused("another", lambda: refuse("B"), DeniedError, lambda e: e.reason == "A")
        assert not story.steps[0].facts[-1].holds
        story.refused("none", lambda: None, DeniedError, lambda e: True)
        assert not story.steps[0].facts[-1].holds
        with pytest.raises(DeniedError):
            story.refused("other", lambda: refuse("A"), FailedError, lambda e: True)
    assert not story.holds
