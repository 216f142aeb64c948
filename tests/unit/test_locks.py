"""The locks: complete, hashed, wheels for every declared dependency, no address inside."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def pinned(lock: str) -> set[Requirement]:
    """The pins of a lock, each of which must carry at least one SHA-256."""
    pins = set()
    for block in re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text()):
        line, *hashes = block.replace("\\\n", "\n").splitlines()
        assert hashes, f"{lock}: {line} has no hash"
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64} *", text) for text in hashes)
        pins.add(Requirement(line))
    return pins


def declared(lock: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = project["project"]["dependencies"] + groups["build"]
    if lock == "requirements-dev.lock":
        wanted += [text for text in groups["dev"] if isinstance(text, str)]
        for extra in project["project"]["optional-dependencies"].values():
            wanted += extra
    assert set(project["build-system"]["requires"]) <= set(wanted)
    return [Requirement(text) for text in wanted]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_what_the_project_declares(lock: str) -> None:
    pins = pinned(lock)
    for requirement in declared(lock):
        matching = [
            pin
            for pin in pins
            if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
        ]
        assert matching, f"{requirement} is not in {lock}: make lock"
        for pin in matching:
            (version,) = (specifier.version for specifier in pin.specifier)
            assert requirement.specifier.contains(version), f"{pin} is not {requirement}: make lock"


def test_development_lock_contains_the_running_lock() -> None:
    assert pinned("requirements.lock") < pinned("requirements-dev.lock")


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-fuzz.lock"])
def test_lock_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^ *-", text.replace("    --hash=", ""), re.MULTILINE)
