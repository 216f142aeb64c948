"""Release floors: what a product file declares, with its defaults, and the manifest's form."""

from __future__ import annotations

import pytest
from sandbox_world import PRODUCT

from luoshu.sandbox.errors import ProductFileError
from luoshu.sandbox.product_file import RowsRelease, parse_product
from luoshu.sandbox.release_floor import ReleaseFloor
from luoshu.sandbox.schema import SchemaError

MODE = "{mode: aggregate, min_units: 10}"


def floor(release: str) -> ReleaseFloor:
    declared = parse_product(PRODUCT.replace(MODE, release)).release
    assert not isinstance(declared, RowsRelease)
    return ReleaseFloor.of(declared)


def test_defaults_of_aggregate() -> None:
    assert floor(MODE) == ReleaseFloor("aggregate", 10, 4, 850_000, "participant", 16)


def test_all_keys_of_aggregate() -> None:
    declared = floor(
        "{mode: aggregate, min_units: 5, jitter: 0, dominance: 0.6, scope: product, debits: 3}"
    )
    assert declared == ReleaseFloor("aggregate", 5, 0, 600_000, "product", 3)
    assert ReleaseFloor.from_json(declared.to_json()) == declared


def test_keys_of_dp() -> None:
    declared = floor("{mode: dp, epsilon: 0.5, delta: 1.0e-6, cells_per_unit: 3, rows_per_cell: 2}")
    assert (declared.epsilon, declared.delta) == ("0.5", "0.000001")
    assert (declared.cells_per_unit, declared.rows_per_cell) == (3, 2)
    assert ReleaseFloor.from_json(declared.to_json()) == declared


@pytest.mark.parametrize("key", ["dominance: 0", "dominance: 0.8500001", "debits: 0", "scope: all"])
def test_rules_that_mean_nothing_are_refused(key: str) -> None:
    with pytest.raises(ProductFileError):
        floor(f"{{mode: aggregate, min_units: 10, {key}}}")


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "rows"},
        {"scope": "all"},
        {"jitter": -1},
        {"jitter": True},
        {"dominance_ppm": "850000"},
        {"epsilon": "1"},
    ],
)
def test_other_manifests_are_refused(change: dict) -> None:
    with pytest.raises(SchemaError):
        ReleaseFloor.from_json({**floor(MODE).to_json(), **change})
