"""From terms and facts to the input a policy decides on."""

import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

import pytest

from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.constraint import Constraint, LeftOperand, Operator
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.terms import simple_terms
from luoshu.policies import (
    DecisionInputError,
    Meters,
    Party,
    PolicyEngine,
    Product,
    build_input,
    load_default_engine,
)

NOW = datetime(2026, 3, 1, 8, 0, 0, 250_999, tzinfo=UTC)
NOW_MS = 1_772_352_000_250


@dataclass(frozen=True)
class Request:
    id: str = "urn:uuid:7b0b5a8e-0000-4000-8000-000000000001"
    contract_id: str = "urn:luoshu:contract:1"
    action: str = "compute"
    purpose: str = "research"


@cache
def load_engine() -> PolicyEngine:
    return load_default_engine()


def terms(*constraints: dict[str, Any]) -> dict[str, Any]:
    return {
        "permission": [{"action": "compute", "constraint": list(constraints)}],
        "prohibition": [],
        "obligation": [],
        "release": {"mode": "aggregate", "min_units": 10},
    }


def until(moment: object, operator: str = "lteq") -> dict[str, Any]:
    return {"leftOperand": "dateTime", "operator": operator, "rightOperand": moment}


def build(given: dict[str, Any], now: datetime = NOW, uses: int = 0) -> dict[str, Any]:
    return build_input(
        now=now,
        request=Request(),
        terms=given,
        agreement_state="ACTIVE",
        meters=Meters(uses),
        consumer=Party("urn:luoshu:s:analyst", "CN-HA"),
        provider=Party("urn:luoshu:s:holder", "CN-HA"),
        product=Product("urn:luoshu:s:holder:product:p", 3, {"level": "general"}),
    )


def test_holds_time_meters_and_parties() -> None:
    built = build(terms(), uses=4)
    assert built["schema"] == "luoshu/decision-input/v1"
    assert built["now_ms"] == NOW_MS
    assert built["meters"] == {"uses": 4}
    assert built["request"] == {
        "id": Request.id,
        "contract": Request.contract_id,
        "action": "compute",
        "purpose": "research",
    }
    assert built["consumer"] == {"id": "urn:luoshu:s:analyst", "jurisdiction": "CN-HA"}
    assert built["product"]["version"] == 3
    canonicalize(built)


def test_times_become_milliseconds_and_the_terms_stay_as_they_were() -> None:
    given = terms(until("2026-03-01T08:00:00.250Z"), until(["2026-03-01T08:00:00Z"], "isAnyOf"))
    given["prohibition"] = [{"action": "compute", "constraint": [until("2026-01-01T00:00:00Z")]}]
    before = copy.deepcopy(given)
    built = build(given)
    first, second = built["terms"]["permission"][0]["constraint"]
    assert first["rightOperand"] == NOW_MS
    assert second["rightOperand"] == [NOW_MS - 250]
    assert built["terms"]["prohibition"][0]["constraint"][0]["rightOperand"] == 1_767_225_600_000
    assert built["terms"]["release"] == given["release"]
    assert given == before


def test_shares_nothing_with_the_terms() -> None:
    given = terms({"leftOperand": "purpose", "operator": "isAnyOf", "rightOperand": ["research"]})
    built = build(given)
    given["permission"][0]["constraint"][0]["rightOperand"].append("marketing")
    constraint = built["terms"]["permission"][0]["constraint"][0]
    assert constraint["rightOperand"] == ["research"]


def test_the_last_millisecond_counts() -> None:
    engine = load_engine()
    end = terms(until("2026-03-01T08:00:00.250Z"))
    assert engine.decide(build(end)).allow
    late = engine.decide(build(end, now=NOW + timedelta(milliseconds=1)))
    assert [reason.rule for reason in late.reasons] == ["validity"]


@pytest.mark.parametrize("moment", ["tomorrow", "2026-03-01T08:00:00+08:00", "", 2**50, None, {}])
@pytest.mark.parametrize("operator", ["lteq", "neq"])
def test_what_is_no_time_is_denied(moment: object, operator: str) -> None:
    decision = load_engine().decide(build(terms(until(moment, operator))))
    assert [reason.rule for reason in decision.reasons] == ["terms"]


def test_oversized_terms_are_refused() -> None:
    purposes = [f"purpose-{n}" for n in range(20_000)]
    constraint = {"leftOperand": "purpose", "operator": "isAnyOf", "rightOperand": purposes}
    with pytest.raises(DecisionInputError, match="shorter terms"):
        build(terms(constraint))


def test_terms_without_canonical_form_are_refused() -> None:
    constraint = {"leftOperand": "count", "operator": "lteq", "rightOperand": 0.5}
    with pytest.raises(DecisionInputError):
        build(terms(constraint))


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=8))])
def test_now_must_be_utc(zone: timezone | None) -> None:
    with pytest.raises(ValueError, match="UTC"):
        build(terms(), now=NOW.replace(tzinfo=zone))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        ({"uses": 4}, None),
        ({"uses": 5}, "count"),
        ({"now": NOW + timedelta(days=30)}, None),
        ({"now": NOW + timedelta(days=30, milliseconds=1)}, "validity"),
        ({"now": NOW - timedelta(milliseconds=1)}, "validity"),
    ],
)
def test_terms_as_contracts_have_them_are_decided(change: dict[str, Any], rule: str | None) -> None:
    signed = simple_terms(
        purposes=["research"],
        uses=5,
        not_before=NOW,
        not_after=NOW + timedelta(days=30),
        regions=["CN"],
        min_units=10,
    )
    decision = load_engine().decide(build(signed.to_payload(), **change))
    assert [reason.rule for reason in decision.reasons] == ([rule] if rule else [])


def test_every_operator_that_contracts_have_is_understood() -> None:
    engine = load_engine()
    values = {"purpose": "research", "region": "CN", "count": 2, "dateTime": "2030-01-01T00:00:00Z"}
    understood = 0
    for operand in LeftOperand:
        for operator in Operator:
            for right in (values[operand], (values[operand],)):
                try:
                    constraint = Constraint(operand, operator, right)  # type: ignore[arg-type]
                except DocumentError:
                    continue
                decision = engine.decide(build(terms(constraint.to_payload())))
                assert "terms" not in {reason.rule for reason in decision.reasons}, constraint
                understood += 1
    assert understood >= 15
