"""The unit registry's files: made whole, grown whole, locked, and never made anew in silence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.registry import DOMAIN, UNITS, UnitDomain, domain_directory, growing_registry


def grow(root: Path, content: bytes = b"first", name: str = "patients", new: int = 1) -> UnitDomain:
    with growing_registry(root, name) as growing:
        (growing.work_dir / UNITS).write_bytes(content)
        growing.commit(new)
        return growing.domain


def test_domain_is_there_with_both_files_or_not_at_all(tmp_path: Path) -> None:
    root = tmp_path / "units"
    made = grow(root)
    assert UnitDomain.load(root, "patients") == made
    assert (len(made.secret), len(made.salt)) == (32, 32)
    assert made.secret != made.salt
    assert sorted(path.name for path in root.iterdir()) == [".patients.lock", "patients"]
    assert root.stat().st_mode & 0o777 == 0o700
    assert made.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.directory.iterdir()} == {0o600}


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    made = grow(tmp_path)
    assert made.secret.hex() not in repr(made)
    assert str(made.secret) not in repr(made)


def test_growth_starts_from_what_is_there_and_keeps_secrets(tmp_path: Path) -> None:
    made = grow(tmp_path)
    with growing_registry(tmp_path, "patients") as growing:
        assert (growing.work_dir / UNITS).read_bytes() == b"first"
        assert growing.domain == made
        (growing.work_dir / UNITS).write_bytes(b"second")
        growing.commit(1)
    assert (made.directory / UNITS).read_bytes() == b"second"
    assert UnitDomain.load(tmp_path, "patients") == made


def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), growing_registry(tmp_path, "patients") as growing:
        (growing.work_dir / UNITS).write_bytes(b"first")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == [".patients.lock"]
    made = grow(tmp_path)
    with pytest.raises(RuntimeError), growing_registry(tmp_path, "patients") as growing:
        (growing.work_dir / UNITS).write_bytes(b"second")
        raise RuntimeError
    assert (made.directory / UNITS).read_bytes() == b"first"


def test_without_new_units_nothing_is_written(tmp_path: Path) -> None:
    made = grow(tmp_path)
    before = (made.directory / UNITS).stat().st_ino
    grow(tmp_path, b"second", new=0)
    assert (made.directory / UNITS).stat().st_ino == before


def test_one_preparation_of_a_domain_at_a_time(tmp_path: Path) -> None:
    with growing_registry(tmp_path, "patients"):
        with pytest.raises(PreparationError, match="when that has ended"):
            grow(tmp_path)
        grow(tmp_path, name="firms")
    grow(tmp_path)


def test_registry_that_lost_a_file_is_not_made_anew(tmp_path: Path) -> None:
    made = grow(tmp_path)
    for name in (UNITS, DOMAIN):
        path = made.directory / name
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(PreparationError, match="Restore it from a backup"):
            grow(tmp_path)
        with pytest.raises(PreparationError, match="Restore it from a backup"):
            UnitDomain.load(tmp_path, "patients")
        path.write_bytes(kept)
    assert UnitDomain.load(tmp_path, "patients") == made


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "luoshu/unit-registry/v2"},
        {"domain": "others"},
        {"secret": "00"},
        {"salt": "g" * 64},
        {"salt": 7},
        {"registry": ""},
        {"more": "1"},
    ],
)
def test_damaged_document_is_refused(tmp_path: Path, change: dict) -> None:
    made = grow(tmp_path)
    path = made.directory / DOMAIN
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises(PreparationError, match="can't be used") as refused:
        UnitDomain.load(tmp_path, "patients")
    assert made.secret.hex() not in refused.value.message


@pytest.mark.parametrize("name", ["../x", "患者", "a b", ".", "x" * 200, "sha256-x", "A", "a/b"])
def test_any_name_lies_within_the_root(tmp_path: Path, name: str) -> None:
    directory = domain_directory(tmp_path, name)
    assert directory.parent == tmp_path
    assert directory.name.startswith("sha256-")
    assert len(os.fsencode(directory.name)) < 100
    assert grow(tmp_path, name=name).name == name
