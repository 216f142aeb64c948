"""The command line as a whole: it reads like the story, and says what is wrong."""

import json
import re
import resource
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from luoshu.cli.exits import tell
from luoshu.cli.inputs import MemberRole, UserRoleName, moment
from luoshu.cli.main import app
from luoshu.connector.errors import CATALOGUE, NodeError
from luoshu.contracts.canonical import digest_of
from luoshu.contracts.log.errors import MerkleError
from luoshu.contracts.membership import Role, UserRole
from luoshu.sdk import errors as sdk_errors

STORY = [
    *("space", "node", "user", "product", "catalog", "contract", "query"),
    *("policy", "log", "evidence", "sandbox", "doctor", "bench", "demo"),
]
runner = CliRunner()


def commands(group=None, path=()):
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


def test_help_reads_like_the_story():
    result = runner.invoke(app, ["--help"], terminal_width=100)
    assert result.exit_code == 0
    parts = result.stdout[result.stdout.index("1. Set up") :]
    assert re.findall(r"^  ([a-z]+)  ", parts, re.MULTILINE) == STORY
    assert re.findall(r"^(\d)\. .*:$", parts, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert "Exit codes" in result.stdout


def test_help_loads_nothing_heavy():
    heavy = [
        *("grpc", "pyarrow", "duckdb", "sqlalchemy", "cryptography"),
        *("pydantic", "wasmtime", "yaml", "google", "rich"),
    ]
    program = (
        "import sys; from luoshu.cli.main import app\n"
        "try: app(['--help'])\n"
        f"except SystemExit: print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr.decode().strip() == "[]"


def test_help_is_quick():
    # Processor time, and the best of several runs: what the program needs, whatever
    # else the machine is busy with.
    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", "from luoshu.cli.main import main; main()", "--help"],
            capture_output=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(run() < 0.3 for _ in range(6))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(path):
    result = runner.invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[path].help
    assert all(p.help for p in COMMANDS[path].params if p.name not in {"help"})


NO_RESULT = {("node", "serve")}


@pytest.mark.parametrize("path", COMMANDS.keys() - NO_RESULT, ids=" ".join)
def test_every_command_that_prints_a_result_takes_json(path):
    assert "--json" in {option for p in COMMANDS[path].params for option in p.opts}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_unknown_flag_is_a_usage_error(path):
    result = runner.invoke(app, [*path, "--no-such-flag"])
    assert result.exit_code == 2
    assert "--no-such-flag" in result.stderr or "Missing" in result.stderr
    assert result.stdout == ""


def test_an_unknown_command_suggests():
    result = runner.invoke(app, ["catalogue"])
    assert result.exit_code == 2
    assert "catalog" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["catalog", "search", "x"],
        ["contract", "list"],
        ["query", "urn:luoshu:contract:0", "--sql", "SELECT 1"],
        ["log", "checkpoint"],
        ["node", "status"],
        ["space", "members"],
    ],
    ids=lambda a: " ".join(a[:2]),
)
def test_online_commands_ask_for_a_profile(arguments, monkeypatch):
    monkeypatch.delenv("LUOSHU_PROFILE", raising=False)
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert "LUOSHU_PROFILE" in result.stderr
    assert result.stdout == ""


SANDBOX = ["sandbox", "run", "--product", "p.yaml", "--sql"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["query", "c"], "--sql"),
        (["query", "c", "--sql", "SELECT 1", "--json", "--csv"], "--json and --csv"),
        (["query", "c", "--sql", "SELECT 1", "--sql-file", "x"], "--sql or by --sql-file"),
        (["catalog", "search", "x", "--filter", "theme"], "key=value"),
        (["contract", "counter", "c"], "which terms"),
        (["contract", "request", "p", "--until", "tomorrow"], "2026-12-31"),
        (["log", "verify", "nowhere"], "no directory"),
        (["log", "verify", ".", "--credential", "x"], "--trust"),
        (["log", "verify", ".", "--key", "x", "--trust", "y"], "not both"),
        (["log", "verify", "https://example.org/log", "--trust", "y"], "--credential"),
        (["sandbox", "run", "--product", "p.yaml"], "--sql"),
        ([*SANDBOX, "SELECT $y", "--set", "y"], "key=value"),
        ([*SANDBOX, "SELECT $yy", "--set", "y=1"], "no $y"),
        ([*SANDBOX, "SELECT $y", "--set", "y=1", "--set", "y=2"], "given twice"),
        ([*SANDBOX, "SELECT $y", "--set", "y:year=1"], "boolean, date, decimal, integer, text"),
        ([*SANDBOX, "SELECT $y", "--set", "y:date=2020"], "a date such as"),
        (["bench", "nothing"], "query, publish, search, negotiate, guard"),
        (["demo", "--keep", "."], "already"),
        (["node", "serve", ".", "--set", "x"], "key=value"),
        (["product", "publish", "p", "--offers", "nowhere.yaml"], "nowhere.yaml"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_wrong_usage_says_what_to_change(arguments, words, monkeypatch, tmp_path):
    monkeypatch.setenv("LUOSHU_PROFILE", str(tmp_path))
    result = runner.invoke(app, arguments)
    assert result.exit_code in {1, 2}
    assert words in result.stderr
    assert result.stderr.startswith("luoshu: ")
    assert "Traceback" not in result.stderr


def test_version():
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"luoshu \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (sdk_errors.PolicyDeniedError("no"), 3),
        (sdk_errors.GuardRefusedError("no"), 3),
        (sdk_errors.ExhaustedError("no"), 3),
        (sdk_errors.CredentialError("no"), 3),
        (sdk_errors.ContractStateError("no"), 3),
        (sdk_errors.FailedError("no"), 4),
        (sdk_errors.VerificationError("no"), 4),
        (sdk_errors.UnavailableError("no"), 4),
        (sdk_errors.InvalidRequestError("no"), 2),
        (sdk_errors.ProfileError("no"), 2),
        (sdk_errors.NotFoundError("no"), 1),
        (sdk_errors.StaleError("no"), 1),
        (NodeError("ROLE_REQUIRED"), 3),
        (NodeError("CONFIGURATION_INVALID"), 2),
        (NodeError("SANDBOX_UNAVAILABLE"), 4),
        (NodeError("MALFORMED_MESSAGE"), 2),
        (MerkleError("no"), 4),
        (FileNotFoundError(2, "No such file", "x"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_have_one_exit_code(error, code):
    told = tell(error)
    assert told is not None
    assert told.exit_code == code
    assert told.paragraph
    assert "\n" not in told.paragraph


def test_a_defect_keeps_its_traceback():
    assert tell(KeyError("x")) is None


@pytest.mark.parametrize("reason", CATALOGUE)
def test_every_catalogued_reason_has_an_exit_code(reason):
    told = tell(NodeError(reason))
    assert told is not None
    assert told.exit_code in {1, 2, 3, 4}


def test_commands_named_in_error_texts_exist():
    texts = [entry.next_step.en for entry in CATALOGUE.values()]
    texts += [NodeError("GUARD_RAW_ROWS").public, *sdk_errors.NEXT_STEPS.values()]
    known = {" ".join(path) for path in COMMANDS}
    named = {m for text in texts for m in re.findall(r"`luoshu ([a-z]+(?: [a-z]+)?)", text)}
    assert named
    assert {name for name in named if not (name in known or name.split()[0] in known)} == set()


def test_choices_are_those_of_the_documents():
    assert [role.value for role in MemberRole] == [role.value for role in Role]
    assert [role.value for role in UserRoleName] == [role.value for role in UserRole]


def test_a_bare_date_as_an_end_includes_its_day():
    begin, end = moment("--from", "2026-01-31"), moment("--until", "2026-01-31", end=True)
    assert begin is not None
    assert end is not None
    assert (begin.isoformat(), end.isoformat()) == (
        "2026-01-31T00:00:00+00:00",
        "2026-01-31T23:59:59+00:00",
    )
    assert moment("--until", "2026-01-31T08:00:00+08:00", end=True) == moment(
        "--from", "2026-01-31T00:00:00Z"
    )


# Policy, which needs no node


def test_policy_show():
    result = runner.invoke(app, ["policy", "show", "--json"])
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert set(facts) == {"policy", "policy_digest", "entry_point", "opa_version", "source"}
    assert "package luoshu.use" in facts["source"]


def test_policy_decides_and_replays(tmp_path):
    denied = runner.invoke(app, ["policy", "decide", "--input", "-", "--json"], input="{}")
    assert denied.exit_code == 3
    facts = json.loads(denied.stdout)
    assert facts["allow"] is False
    assert facts["reasons"]
    assert facts["replayed"] is None
    record = {
        "allow": False,
        "reasons": facts["reasons"],
        "input": {},
        "input_digest": digest_of({}),
        "policy_digest": facts["policy_digest"],
    }
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    assert runner.invoke(app, ["policy", "decide", "--input", str(path)]).exit_code == 0
    path.write_text(json.dumps({**record, "allow": True}))
    changed = runner.invoke(app, ["policy", "decide", "--input", str(path)])
    assert changed.exit_code == 4
    assert "DIFFERS" in changed.stdout


def test_policy_input_that_is_no_json():
    result = runner.invoke(app, ["policy", "decide", "--input", "-"], input="nonsense")
    assert result.exit_code == 2
    assert "not JSON" in result.stderr
