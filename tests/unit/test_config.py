"""Settings: node.toml < environment < flags, nothing unknown, the generated pages up to date."""

import tomllib
from pathlib import Path

import pytest

from luoshu.connector.config import NodeSettings, load_settings, settings
from luoshu.connector.config_reference import example_toml, node_toml, reference_page
from luoshu.connector.errors import NodeError

ROOT = Path(__file__).parents[2]
MINIMAL = """
[node]
participant = "urn:luoshu:alliance:lab"
roles = ["analyst"]
"""


def load(
    directory: Path,
    text: str = MINIMAL,
    flags: dict[str, str] | None = None,
    **environment: str,
) -> NodeSettings:
    (directory / "node.toml").write_text(text)
    return load_settings(directory, flags, environment=environment)


def refusal(directory: Path, *arguments: object, **environment: str) -> str:
    with pytest.raises(NodeError) as caught:
        load(directory, *arguments, **environment)  # type: ignore[arg-type]
    assert caught.value.reason == "CONFIGURATION_INVALID"
    assert "docs/configuration.md" in caught.value.public
    return caught.value.public


def test_defaults(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.node.roles == ("analyst",)
    assert loaded.peer.listen is None
    assert loaded.sandbox.isolation == "bwrap"
    assert loaded.limits.max_sql_kib == 64
    assert loaded.membership.status_max_age_seconds == 600
    assert loaded.time.max_skew_seconds == 60


def test_the_later_source_wins(tmp_path: Path) -> None:
    text = MINIMAL + "[sandbox]\nthreads = 3\nconcurrency = 3\nmemory_mib = 600\n"
    loaded = load(
        tmp_path,
        text,
        {"sandbox.threads": "5"},
        LUOSHU_SANDBOX__THREADS="4",
        LUOSHU_SANDBOX__CONCURRENCY="4",
    )
    chosen = (loaded.sandbox.threads, loaded.sandbox.concurrency, loaded.sandbox.memory_mib)
    assert chosen == (5, 4, 600)


def test_lists_are_written_with_commas(tmp_path: Path) -> None:
    environment = {"LUOSHU_NODE__ROLES": "holder, auditor", "LUOSHU_PEER__LISTEN": "127.0.0.1:0"}
    assert load(tmp_path, MINIMAL, None, **environment).node.roles == ("holder", "auditor")
    assert load(tmp_path, MINIMAL, {"node.roles": "auditor"}).node.roles == ("auditor",)


def test_the_process_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUOSHU_SANDBOX__THREADS", "7")
    (tmp_path / "node.toml").write_text(MINIMAL)
    assert load_settings(tmp_path).sandbox.threads == 7


def test_settings_cant_be_changed(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        loaded.sandbox.threads = 8
    with pytest.raises(ValueError, match="frozen"):
        loaded.time = loaded.time


@pytest.mark.parametrize("setting", [*settings()], ids=lambda setting: setting.name)
def test_every_setting_can_come_from_the_environment_and_from_flags(
    tmp_path: Path, setting: object
) -> None:
    from luoshu.connector.config import Setting

    assert isinstance(setting, Setting)
    example = setting.example
    text = ",".join(example) if isinstance(example, list | tuple) else str(example)
    peer = {"peer.listen": "127.0.0.1:0"}
    by_environment = load(tmp_path, MINIMAL, peer, **{setting.environment_variable: text})
    by_flag = load(tmp_path, MINIMAL, {**peer, setting.name: text})
    for loaded in (by_environment, by_flag):
        if setting.name != "peer.listen":
            value = getattr(getattr(loaded, setting.section), setting.key)
            assert (list(value) if isinstance(value, tuple) else value) == (
                Path(text) if isinstance(value, Path) else example
            )


@pytest.mark.parametrize(
    ("text", "named", "nearest"),
    [
        ("[sandbox]\nmemory_mb = 1\n", "sandbox.memory_mb", "sandbox.memory_mib"),
        ("[sandbx]\nthreads = 1\n", "sandbx.threads", "sandbox.threads"),
        ("[limits]\nthreads = 1\n", "limits.threads", "sandbox.threads"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(
    tmp_path: Path, text: str, named: str, nearest: str
) -> None:
    public = refusal(tmp_path, MINIMAL + text)
    assert f"node.toml: {named} is no setting; did you mean {nearest}?" in public


@pytest.mark.parametrize("key", ["quux", "threads"])
def test_a_key_outside_of_any_section_is_refused(tmp_path: Path, key: str) -> None:
    assert f"{key} is no setting" in refusal(tmp_path, f"{key} = 1\n{MINIMAL}")


def test_an_unknown_flag_is_refused(tmp_path: Path) -> None:
    public = refusal(tmp_path, MINIMAL, {"sandbox.thread": "2"})
    assert "--set: sandbox.thread is no setting; did you mean sandbox.threads?" in public


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LUOSHU_SANDBOX__THREAD", "sandbox.threads"),
        ("LUOSHU_SANDBOX_THREADS", "LUOSHU_SANDBOX__THREADS"),
        ("LUOSHU__SANDBOX__THREADS", "LUOSHU_SANDBOX__THREADS"),
    ],
)
def test_a_mistyped_variable_is_refused(tmp_path: Path, variable: str, meant: str) -> None:
    assert meant in refusal(tmp_path, **{variable: "2"})


def test_other_programs_variables_are_left_alone(tmp_path: Path) -> None:
    load(tmp_path, LUOSHU_PROFILE="alice", luoshu_sandbox__threads="x", HOME="/")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "node is missing"),
        ("[node]\nroles = ['holder']\n", "node.participant is missing"),
        (MINIMAL + "[sandbox]\nthreads = 0\n", "sandbox.threads"),
        (MINIMAL + "[sandbox]\nthreads = 'many'\n", "sandbox.threads"),
        (MINIMAL + "[sandbox]\nisolation = 'none'\n", "sandbox.isolation"),
        (MINIMAL + "[user]\nlisten = 'localhost'\n", "user.listen"),
        (MINIMAL + "[user]\nlisten = 'localhost:70000'\n", "user.listen"),
        (MINIMAL + "[peer]\nlisten.port = 1\n", "peer.listen"),
        (MINIMAL + "[logging]\nlevel = 'loud'\n", "logging.level"),
        (MINIMAL.replace("analyst", "king"), "node.roles"),
        (MINIMAL.replace('["analyst"]', "[]"), "node.roles"),
        (MINIMAL.replace('["analyst"]', '["analyst", "analyst"]'), "node.roles"),
        (MINIMAL.replace("urn:luoshu:alliance:lab", "lab"), "node.participant"),
        (MINIMAL.replace("analyst", "holder"), "peer.listen is missing"),
        ("[node\n", "is no TOML"),
    ],
)
def test_a_value_that_isnt_allowed_is_named(tmp_path: Path, text: str, named: str) -> None:
    public = refusal(tmp_path, text)
    assert named in public
    assert "node.toml" in public


def test_the_source_of_a_bad_value_is_named(tmp_path: Path) -> None:
    assert "(the environment)" in refusal(tmp_path, LUOSHU_SANDBOX__THREADS="many")
    assert "(--set)" in refusal(tmp_path, MINIMAL, {"sandbox.threads": "0"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="luoshu node init"):
        load_settings(tmp_path, environment={})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(NodeError, match="is no TOML"):
        load_settings(tmp_path, environment={})


# ---- generated


def test_the_reference_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == reference_page()


def test_the_example_is_up_to_date_and_loads() -> None:
    assert (ROOT / "node.toml").read_text() == example_toml()
    assert load_settings(ROOT, environment={}).node.roles == ("holder",)


def test_the_reference_page_has_every_setting() -> None:
    page = reference_page()
    for setting in settings():
        assert setting.environment_variable in page
        assert setting.description.endswith(".")


def test_a_template_sets_what_is_given_and_shows_the_rest(tmp_path: Path) -> None:
    given = {
        "node.participant": "urn:luoshu:alliance:hospital-b",
        "node.roles": ["holder", "auditor"],
        "peer.listen": "127.0.0.1:0",
        "sandbox.threads": 1,
    }
    text = node_toml(given)
    loaded = load(tmp_path, text)
    assert loaded.node.participant == given["node.participant"]
    assert loaded.node.roles == ("holder", "auditor")
    assert loaded.sandbox.threads == 1
    # Uncommented, what was shown as a default or example loads as well.
    shown = "\n".join(
        line.removeprefix("# ") if " = " in line and not line.startswith("# (") else line
        for line in text.splitlines()
    )
    assert set(tomllib.loads(shown)) == {setting.section for setting in settings()}
    load(tmp_path, shown)


@pytest.mark.parametrize("values", [{}, {"node.participant": "x", "node.roles": [], "a.b": 1}])
def test_a_template_of_something_else_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(NodeError):
        node_toml(values)
