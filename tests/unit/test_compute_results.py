"""Where released results wait: durable, whole or not at all, never found without an entry."""

import errno
import os
import stat

import pytest

from luoshu.connector.compute.results import ResultStore
from luoshu.connector.errors import NodeError
from luoshu.contracts.canonical import digest

REQUEST = digest(b"request")
RESULT = b"arrow"


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "state" / "results"


@pytest.fixture
def store(directory):
    return ResultStore(directory)


def gone():
    return pytest.raises(NodeError, check=lambda error: error.reason == "RESULT_GONE")


def test_what_is_saved_is_loaded(store, directory):
    store.save(REQUEST, RESULT)
    assert store.load(REQUEST, digest(RESULT)) == RESULT
    assert [path.suffix for path in directory.iterdir()] == [".arrow"]


def test_directory_is_the_owners_alone(store, directory):
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_saved_again_the_newer_counts(store):
    store.save(REQUEST, b"older")
    store.save(REQUEST, RESULT)
    assert store.load(REQUEST, digest(RESULT)) == RESULT


def test_missing_or_changed_result_is_gone(store, directory):
    with gone():
        store.load(REQUEST, digest(RESULT))
    store.save(REQUEST, b"other")
    with gone():
        store.load(REQUEST, digest(RESULT))


def test_discard_is_harmless_without_a_file(store, directory):
    store.discard(REQUEST)
    store.save(REQUEST, RESULT)
    store.discard(REQUEST)
    assert list(directory.iterdir()) == []


def test_sweep_keeps_released_results_only(store, directory):
    store.save(REQUEST, RESULT)
    store.save(digest(b"unreleased"), b"never")
    (directory / "left.part").write_bytes(b"half")
    assert store.sweep({REQUEST, digest(b"gone already")}) == 2
    assert store.load(REQUEST, digest(RESULT)) == RESULT


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_that_fails_leaves_no_result(store, directory, monkeypatch, call):
    def fail(*_arguments, **_more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(NodeError) as caught:
        store.save(REQUEST, RESULT)
    assert caught.value.reason == "LOG_UNAVAILABLE"
    assert "space" in caught.value.private
    assert str(directory) not in str(caught.value)
    assert list(directory.iterdir()) == []
    with gone():
        store.load(REQUEST, digest(RESULT))
