"""Unit ids: the same for the same unit across versions, names and products; telling nothing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from luoshu.sandbox import registry as registry_module
from luoshu.sandbox.errors import PreparationError
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import MANIFEST, PREPARED, PreparedProduct
from luoshu.sandbox.product_file import parse_product
from luoshu.sandbox.registry import DOMAIN, UNITS, UnitDomain
from luoshu.sandbox.run import Sandbox

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox.start()
    yield started
    started.close()


class Node:
    """A holder's directory: products are prepared into it, one unit registry for all."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.units = directory / "units"
        self.prepared: PreparedProduct | None = None

    def prepare(
        self, select: str, name: str = "visits", unit: str = "pid", domain: str = ""
    ) -> dict[str, int]:
        """Prepares rows of `unit` and `name_of_unit`; returns the ids by name."""
        duckdb.execute(f"COPY ({select}) TO '{self.directory / name}.parquet'")
        product = parse_product(
            f"id: {name}\nsource: {{parquet: {name}.parquet}}\nprivacy_unit: {unit}\n{domain}\n"
            "columns: {who: {use: [group]}}\nrelease: {mode: aggregate, min_units: 2}\n"
        )
        out = self.directory / f"out-{name}"
        self.prepared = prepare_product(
            product, self.directory, out, self.sandbox.isolation, self.units
        )
        with duckdb.connect(str(out / PREPARED), read_only=True) as connection:
            rows = connection.execute(f"SELECT DISTINCT who, {unit} FROM {name}").fetchall()
        assert len({who for who, _ in rows}) == len(rows)
        return dict(rows)


@pytest.fixture
def node(sandbox: Sandbox, tmp_path: Path) -> Node:
    return Node(sandbox, tmp_path)


def people(first: int, count: int, kind: str = "BIGINT", unit: str = "pid") -> str:
    return (
        f"SELECT i::{kind} AS {unit}, 'p' || i AS who "
        f"FROM range({first}, {first + count}) r(i), range(2)"
    )


def test_ids_are_dense_and_stay(node: Node) -> None:
    first = node.prepare(people(0, 50))
    assert sorted(first.values()) == list(range(50))
    assert node.prepare(people(0, 50)) == first


def test_new_units_extend_and_nothing_else_changes(node: Node) -> None:
    first = node.prepare(people(0, 50))
    later = node.prepare(people(30, 50))
    assert {who: later[who] for who in first.keys() & later.keys()} == {
        who: first[who] for who in first.keys() & later.keys()
    }
    assert sorted(later[who] for who in later.keys() - first.keys()) == list(range(50, 80))
    # Who was left out meanwhile is still known.
    assert node.prepare(people(0, 80)) == first | later


def test_renamed_product_has_the_same_ids(node: Node) -> None:
    assert node.prepare(people(0, 50)) == node.prepare(people(0, 50), "renamed")


def test_products_of_one_domain_share_ids(node: Node) -> None:
    first = node.prepare(people(0, 50))
    # Another type, another spelling of the same column name, and a declared domain.
    assert node.prepare(people(0, 50, "VARCHAR", "PID"), "texts", "PID") == first
    domain = "privacy_domain: Pid"
    assert node.prepare(people(0, 50, unit="other"), "declared", "other", domain) == first
    assert [path.name for path in node.units.iterdir() if path.is_dir()] == ["pid"]


def test_other_domains_have_ids_and_secrets_of_their_own(node: Node) -> None:
    first = node.prepare(people(0, 50))
    second = node.prepare(people(0, 50), domain="privacy_domain: firms")
    assert sorted(first.values()) == sorted(second.values())
    assert first != second
    one, two = UnitDomain.load(node.units, "pid"), UnitDomain.load(node.units, "firms")
    assert len({one.secret, one.salt, two.secret, two.salt}) == 4
    assert node.prepared is not None
    assert (node.prepared.domain, node.prepared.registry) == ("firms", two.id)


def test_ids_tell_nothing_about_names_and_order(node: Node, tmp_path: Path) -> None:
    first = node.prepare(people(0, 200))
    by_name = [first[f"p{number}"] for number in range(200)]
    # In a random order about half of all neighbours rise; sorted either way, all or none do.
    rises = sum(a < b for a, b in itertools.pairwise(by_name))
    assert 60 < rises < 140
    # Another holder with the same people numbers them otherwise.
    (tmp_path / "other").mkdir()
    assert Node(node.sandbox, tmp_path / "other").prepare(people(0, 200)) != first


def test_registry_holds_no_name_of_a_unit(node: Node) -> None:
    node.prepare(people(0, 50).replace("i::BIGINT", "'secret-' || i"))
    directory = node.units / "pid"
    assert {path.name for path in directory.iterdir()} == {UNITS, DOMAIN}
    for path in directory.iterdir():
        assert b"secret-" not in path.read_bytes()
    with duckdb.connect(str(directory / UNITS), read_only=True) as connection:
        assert connection.execute(
            "SELECT count(*), count(DISTINCT digest), min(octet_length(digest)), max(id) FROM units"
        ).fetchall() == [(50, 50, 32, 49)]


def test_manifest_names_the_registry_and_holds_no_secret(node: Node) -> None:
    node.prepare(people(0, 50))
    domain = UnitDomain.load(node.units, "pid")
    manifest = (node.directory / "out-visits" / MANIFEST).read_text()
    assert domain.id in manifest
    assert domain.secret.hex() not in manifest
    assert domain.salt.hex() not in manifest


def test_one_preparation_of_a_domain_at_a_time(node: Node) -> None:
    node.prepare(people(0, 5))
    with (
        registry_module.growing_registry(node.units, "pid"),
        pytest.raises(PreparationError, match="when that has ended"),
    ):
        node.prepare(people(0, 6))
    assert len(node.prepare(people(0, 6))) == 6


def test_failed_preparation_leaves_the_registry_alone(node: Node) -> None:
    first = node.prepare(people(0, 5))
    before = (node.units / "pid" / UNITS).read_bytes()
    with pytest.raises(PreparationError, match="has no column who"):
        node.prepare(people(5, 5).replace("AS who", "AS whom"))
    assert (node.units / "pid" / UNITS).read_bytes() == before
    assert node.prepare(people(0, 5)) == first


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_product_never_uses_ids_that_are_not_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    node.prepare(people(0, 5))
    earlier = node.prepared

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OSError, match="No space left"):
            node.prepare(people(0, 50))
    assert PreparedProduct.load(node.directory / "out-visits") == earlier
    assert sorted(node.prepare(people(0, 50)).values()) == list(range(50))


def test_lost_registry_is_not_replaced_in_silence(node: Node) -> None:
    node.prepare(people(0, 5))
    (node.units / "pid" / UNITS).unlink()
    with pytest.raises(PreparationError, match="Restore it from a backup"):
        node.prepare(people(0, 5))
