"""The shipped policies are what their manifest names, or nothing is decided."""

import json
import shutil
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from luoshu.contracts.canonical import digest
from luoshu.policies import PolicyUnavailableError
from luoshu.policies.bundle import load_bundle


@pytest.fixture
def rego(tmp_path: Path) -> Path:
    with as_file(files("luoshu.policies").joinpath("rego")) as shipped:
        return Path(shutil.copytree(shipped, tmp_path / "rego"))


def test_the_shipped_policy_loads(rego: Path) -> None:
    bundle = load_bundle("use")
    assert bundle == load_bundle("use", rego)
    assert bundle.digest == digest((rego / "use.wasm").read_bytes())
    assert bundle.entry_point == "luoshu/use/decision"


@pytest.mark.parametrize("name", ["use.rego", "use_test.rego", "use.wasm"])
def test_a_changed_file_is_refused(rego: Path, name: str) -> None:
    content = bytearray((rego / name).read_bytes())
    content[len(content) // 2] ^= 1
    (rego / name).write_bytes(content)
    with pytest.raises(PolicyUnavailableError) as caught:
        load_bundle("use", rego)
    assert name in caught.value.private
    assert "Install luoshu again" in caught.value.public


@pytest.mark.parametrize("name", ["use.rego", "use.wasm", "manifest.json"])
def test_a_missing_file_is_refused(rego: Path, name: str) -> None:
    (rego / name).unlink()
    with pytest.raises(PolicyUnavailableError):
        load_bundle("use", rego)


@pytest.mark.parametrize(
    "manifest",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"schema":"luoshu/policy-manifest/v2","opa_version":"1","policies":{"use":{}}}',
        b'{"schema":"luoshu/policy-manifest/v1","opa_version":"1","policies":{"use":{}}}',
        b'{"schema":"luoshu/policy-manifest/v1","opa_version":"1","policies":{"use":'
        b'{"entry_point":"x","wasm":"use.wasm","files":{}}}}',
    ],
)
def test_a_manifest_that_says_too_little_is_refused(rego: Path, manifest: bytes) -> None:
    (rego / "manifest.json").write_bytes(manifest)
    with pytest.raises(PolicyUnavailableError):
        load_bundle("use", rego)


def test_an_unknown_policy_is_refused(rego: Path) -> None:
    with pytest.raises(PolicyUnavailableError):
        load_bundle("other", rego)


def test_no_path_of_the_build_machine_is_in_the_module() -> None:
    manifest = json.loads(files("luoshu.policies").joinpath("rego/manifest.json").read_text())
    assert set(manifest["policies"]["use"]["files"]) == {"use.rego", "use_test.rego", "use.wasm"}
    wasm = load_bundle("use").wasm
    assert b"/rego/" not in wasm
    assert b"luoshu/policies" not in wasm
