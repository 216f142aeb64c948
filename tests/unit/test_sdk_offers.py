"""Release rules as people write them: in offers and in wishes."""

import json

import pytest
from contract_world import terms

from luoshu.contracts.errors import DocumentError
from luoshu.contracts.release_terms import ReleaseScope
from luoshu.sdk.errors import InvalidRequestError
from luoshu.sdk.offers import offers_document, read_offer
from luoshu.sdk.terms import Wish, with_rules

SHORT = {"id": "research", "min_units": 10}


def release_of(offer):
    (document,) = json.loads(offers_document([offer]))["offers"]
    return document["terms"]["release"]


def test_short_offer_says_release_rules_beside_min_units():
    rules = {"jitter": 6, "dominance": 0.8, "scope": "product", "debits": 8}
    assert release_of({**SHORT, **rules}) == {
        **{"mode": "aggregate", "min_units": 10, "jitter": 6, "dominance_ppm": 800_000},
        **{"scope": "product", "debits": 8},
    }


def test_short_offer_without_them_leaves_them_to_the_product():
    assert release_of(SHORT) == {"mode": "aggregate", "min_units": 10}


@pytest.mark.parametrize(
    "rule",
    [
        {"jitter": 1.5},
        {"jitter": True},
        {"debits": 0},
        {"dominance": 85},
        {"dominance": "most"},
        {"scope": "world"},
        {"dominance_ppm": 5},
    ],
)
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(InvalidRequestError):
        offers_document([{**SHORT, **rule}])


def test_wish_changes_only_the_rules_it_names():
    base = Wish(release={"scope": "product"}).over(terms())
    wished = Wish(min_units=20, release={"dominance": "0.5", "debits": "8"}).over(base)
    assert wished.release.scope is ReleaseScope.PRODUCT
    assert (wished.release.dominance_ppm, wished.release.debits) == (500_000, 8)
    assert (wished.release.min_units, wished.release.jitter) == (20, None)
    assert not Wish(release={"debits": 8}).is_empty
    with pytest.raises(InvalidRequestError, match="scope"):
        Wish(release={"noise": 1}).over(terms())


NOISY = {"id": "noisy", "mode": "dp", "epsilon": 0.5, "delta": 1e-6, "rows_per_cell": 3}


def test_an_offer_of_mode_dp_says_what_a_computation_costs() -> None:
    release = read_offer({**NOISY, "quota_epsilon": 5}).terms.release  # type: ignore[dict-item]
    assert release.to_payload() == {
        "mode": "dp",
        "min_units": 1,
        "dp": {
            "epsilon": "0.5",
            "delta": "0.000001",
            "cells_per_unit": 1,
            "rows_per_cell": 3,
            "quota": {"epsilon": "5", "delta": "0"},
        },
    }
    bare = read_offer({"id": "noisy", "mode": "dp"}).terms.release
    assert bare.dp is None, "left to the product"


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "aggregate", "min_units": 10},
        {"epsilon": True},
        {"epsilon": "much"},
        {"epsilon": 0},
        {"delta": 1},
        {"rows_per_cell": 1.5},
        {"rows_per_cell": True},
        {"quota_delta": 1e-6},
        {"jitter": 4},
        {"mode": "noise"},
    ],
)
def test_rules_of_mode_dp_that_make_no_sense_are_refused(change: dict) -> None:
    with pytest.raises(DocumentError):
        read_offer({**NOISY, **change})


def test_rules_of_mode_dp_are_changed_one_by_one() -> None:
    base = read_offer({**NOISY, "quota_epsilon": 5}).terms.release  # type: ignore[dict-item]
    changed = with_rules(base, {"epsilon": "0.1", "quota_delta": "1e-6"})
    assert changed.dp is not None
    assert changed.dp.to_payload() == {
        **base.to_payload()["dp"],  # type: ignore[dict-item]
        "epsilon": "0.1",
        "quota": {"epsilon": "5", "delta": "0.000001"},
    }
