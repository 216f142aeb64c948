"""Terms: what nobody could decide or enforce is refused when read."""

from datetime import timedelta

import pytest
from contract_world import NOW, YEAR, terms

from luoshu.contracts.constraint import bounds_of
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.release_terms import parts_per_million
from luoshu.contracts.terms import (
    Action,
    Constraint,
    LeftOperand,
    Operator,
    ReleaseMode,
    ReleaseTerms,
    Rule,
    Terms,
    simple_terms,
)

MS = timedelta(milliseconds=1)
RELEASE = {"mode": "aggregate", "min_units": 10}


def constraint(left: str, operator: str, right: object) -> dict:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}


def permission(*constraints: dict) -> dict:
    rule: dict = {"action": "compute"}
    return {**rule, "constraint": list(constraints)} if constraints else rule


def read(*constraints: dict) -> Terms:
    return Terms.from_payload({"permission": [permission(*constraints)], "release": RELEASE})


def test_the_json_is_odrl() -> None:
    assert terms().to_payload() == {
        "permission": [
            {
                "action": "compute",
                "constraint": [
                    constraint("purpose", "isAnyOf", ["research"]),
                    constraint("dateTime", "gteq", "2026-02-28T08:00:00Z"),
                    constraint("dateTime", "lteq", "2027-03-01T08:00:00Z"),
                    constraint("count", "lteq", 3),
                    constraint("region", "isPartOf", ["CN"]),
                ],
            }
        ],
        "release": RELEASE,
    }
    assert Terms.from_payload(terms().to_payload()) == terms()
    bare = simple_terms(min_units=1)
    assert bare.to_payload()["permission"] == [{"action": "compute"}]
    assert Terms.from_payload(bare.to_payload()) == bare


def test_accessors_tell_the_widest_bound() -> None:
    both = Terms.from_payload(
        {
            "permission": [
                permission(constraint("purpose", "eq", "a"), constraint("count", "lt", 4)),
                permission(
                    constraint("purpose", "isAnyOf", ["b", "c"]),
                    constraint("count", "lteq", 7),
                    constraint("count", "lteq", 9),
                ),
            ],
            "release": RELEASE,
        }
    )
    assert both.purposes == {"a", "b", "c"}
    assert both.uses == 7
    assert both.not_after is None
    assert both.regions is None
    assert (terms().not_before, terms().not_after) == (NOW - timedelta(days=1), NOW + YEAR)
    assert terms().regions == {"CN"}
    assert read(constraint("purpose", "neq", "a")).purposes is None


def test_strict_bounds_are_a_millisecond_inside() -> None:
    bounds = bounds_of(
        [
            Constraint(LeftOperand.DATE_TIME, Operator.GT, "2026-03-01T08:00:00Z"),
            Constraint(LeftOperand.DATE_TIME, Operator.LT, "2026-03-02T08:00:00Z"),
            Constraint(LeftOperand.DATE_TIME, Operator.LTEQ, "2026-03-02T08:00:00Z"),
        ]
    )
    assert bounds.not_before == NOW + MS
    assert bounds.not_after == NOW + timedelta(days=1) - MS


@pytest.mark.parametrize(
    "item",
    [
        constraint("payAmount", "eq", "1"),
        constraint("Purpose", "eq", "a"),
        constraint("purpose", "EQ", "a"),
        constraint("purpose", "term-lteq", "a"),
        constraint("purpose", "isA", "a"),
        constraint("purpose", "isAllOf", ["a"]),
        constraint("purpose", "gt", "a"),
        constraint("purpose", "eq", ["a"]),
        constraint("purpose", "eq", 1),
        constraint("purpose", "eq", True),
        constraint("purpose", "eq", ""),
        constraint("purpose", "eq", "two words"),
        constraint("purpose", "eq", "rеsearch"),  # Cyrillic е
        constraint("purpose", "isAnyOf", "a"),
        constraint("purpose", "isAnyOf", []),
        constraint("purpose", "isAnyOf", ["a", "a"]),
        constraint("purpose", "isAnyOf", ["a", 1]),
        constraint("purpose", "isAnyOf", ["a", ["b"]]),
        constraint("purpose", "isAnyOf", [str(n) for n in range(65)]),
        constraint("count", "eq", 1),
        constraint("count", "gteq", 1),
        constraint("count", "lteq", 0),
        constraint("count", "lteq", -1),
        constraint("count", "lt", 1),
        constraint("count", "lteq", True),
        constraint("count", "lteq", "5"),
        constraint("count", "lteq", 2**53),
        constraint("count", "lteq", [5]),
        constraint("dateTime", "eq", "2026-03-01T08:00:00Z"),
        constraint("dateTime", "lteq", "2026-03-01"),
        constraint("dateTime", "lteq", "2026-03-01T08:00:00+08:00"),
        constraint("dateTime", "lteq", 1_772_352_000),
        constraint("dateTime", "lteq", ["2026-03-01T08:00:00Z"]),
        constraint("region", "eq", "cn"),
        constraint("region", "eq", "CHN"),
        constraint("region", "eq", "CN-"),
        constraint("region", "hasPart", "CN"),
        constraint("region", "lteq", "CN"),
        {"leftOperand": "purpose", "operator": "eq"},
        {**constraint("purpose", "eq", "a"), "unit": "x"},
        {"and": [constraint("purpose", "eq", "a")]},
        {"or": [constraint("purpose", "eq", "a")]},
        "purpose eq a",
        None,
    ],
)
def test_constraints_nobody_could_decide_are_refused(item: object) -> None:
    with pytest.raises(DocumentError):
        read(item)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"permission": []},
        {"permission": [{"action": "use"}]},
        {"permission": [{"action": "download"}]},
        {"permission": [{"action": ["compute"]}]},
        {"permission": [{"action": "compute", "constraint": []}]},
        {"permission": [{"action": "compute", "duty": []}]},
        {"permission": [{"action": "compute", "target": "urn:x"}]},
        {"permission": [permission(*[constraint("purpose", "eq", "a")] * 2)]},
        {"permission": [permission()] * 17},
        {"permission": permission()},
        {"prohibition": []},
        {"prohibition": [{"action": "sell"}]},
        {"obligation": []},
        {"obligation": [{"action": "delete"}]},
        {"profile": "x"},
        {"@context": "http://www.w3.org/ns/odrl.jsonld"},
        {"release": {}},
        {"release": {"mode": "raw", "min_units": 10}},
        {"release": {"mode": "aggregate", "min_units": 0}},
        {"release": {"mode": "aggregate", "min_units": True}},
        {"release": {"mode": "aggregate", "min_units": 10**6 + 1}},
        {"release": {"mode": "aggregate"}},
        {"release": {**RELEASE, "jitter": -1}},
        {"release": {**RELEASE, "jitter": 4.0}},
        {"release": {**RELEASE, "jitter": None}},
        {"release": {**RELEASE, "dominance_ppm": 0}},
        {"release": {**RELEASE, "dominance_ppm": 10**6 + 1}},
        {"release": {**RELEASE, "dominance": 0.85}},
        {"release": {**RELEASE, "scope": "world"}},
        {"release": {**RELEASE, "scope": ["product"]}},
        {"release": {**RELEASE, "debits": 0}},
        {"release": {**RELEASE, "debits": True}},
        {"release": {**RELEASE, "noise": 1}},
        {"release": {"mode": "rows", "min_units": 0, "scope": "product"}},
    ],
)
def test_terms_nobody_could_enforce_are_refused(change: dict) -> None:
    good: dict = {"permission": [permission()], "release": RELEASE}
    Terms.from_payload(good)
    with pytest.raises(DocumentError):
        Terms.from_payload({**good, **change})


@pytest.mark.parametrize("field", ["permission", "release"])
def test_no_part_may_be_missing(field: str) -> None:
    payload = terms().to_payload()
    del payload[field]
    with pytest.raises(DocumentError):
        Terms.from_payload(payload)


@pytest.mark.parametrize(
    ("mode", "min_units", "floor_mode", "floor_units", "holds"),
    [
        ("aggregate", 10, "aggregate", 10, True),
        ("aggregate", 11, "aggregate", 10, True),
        ("aggregate", 9, "aggregate", 10, False),
        ("rows", 10, "aggregate", 10, False),
        ("dp", 10, "aggregate", 10, False),
        ("aggregate", 10, "dp", 10, False),
        ("aggregate", 10, "rows", 0, True),
        ("dp", 1, "rows", 0, True),
        ("rows", 0, "rows", 0, True),
        ("rows", 0, "rows", 5, False),
    ],
)
def test_release_terms_compare(
    mode: str, min_units: int, floor_mode: str, floor_units: int, holds: bool
) -> None:
    asked = ReleaseTerms(ReleaseMode(mode), min_units)
    floor = ReleaseTerms(ReleaseMode(floor_mode), floor_units)
    assert asked.stricter_or_equal(floor) is holds


STRICT = {"jitter": 4, "dominance_ppm": 850_000, "scope": "participant", "debits": 16}


def release(**rules: object) -> ReleaseTerms:
    return ReleaseTerms.from_payload({**RELEASE, **rules})  # type: ignore[dict-item]


def test_release_rules_left_open_have_their_defaults_and_no_bytes() -> None:
    assert release().aggregate == release(**STRICT).aggregate
    assert release().to_payload() == RELEASE
    assert release(**STRICT).to_payload() == {**RELEASE, **STRICT}
    assert release(scope="product").to_payload() == {**RELEASE, "scope": "product"}


@pytest.mark.parametrize(
    ("stricter", "weaker"),
    [
        ({"jitter": 5}, {}),
        ({}, {"jitter": 3}),
        ({"dominance_ppm": 849_999}, {}),
        ({}, {"dominance_ppm": 10**6}),
        ({"scope": "product"}, {"scope": "participant"}),
        ({"scope": "participant"}, {"scope": "contract"}),
        ({}, {"scope": "contract"}),
        ({"debits": 15}, {}),
        ({}, {"debits": 17}),
    ],
)
def test_every_release_rule_is_compared(stricter: dict, weaker: dict) -> None:
    assert release(**stricter).stricter_or_equal(release(**weaker))
    assert not release(**weaker).stricter_or_equal(release(**stricter))
    # One part that is weaker can't be made up for by another.
    both = release(**{**weaker, "min_units": 500})
    assert not both.stricter_or_equal(release(**stricter))


def test_release_rules_of_aggregate_do_not_bind_data_released_as_rows() -> None:
    assert release(scope="contract").stricter_or_equal(ReleaseTerms(ReleaseMode.ROWS, 0))


def test_what_terms_leave_open_is_taken_from_the_floor() -> None:
    floor = release(scope="product", jitter=2)
    filled = release(jitter=7).completed_by(floor)
    assert filled == release(jitter=7, scope="product")
    assert release().completed_by(ReleaseTerms(ReleaseMode.ROWS, 0)) == release()


def test_release_rules_read_as_a_sentence() -> None:
    assert str(release(dominance_ppm=500_000)) == (
        "aggregate with at least 10 units, jitter 4, dominance 0.5, scope participant, 16 debits"
    )
    assert str(ReleaseTerms(ReleaseMode.ROWS, 0)) == "rows with at least 0 units"


def test_shares_are_exact() -> None:
    assert [parts_per_million(share) for share in (0.85, "0.85", 1, "0.000001")] == [
        *(850_000, 850_000, 1_000_000, 1),
    ]
    for wrong in (0, 1.1, "", "x", True, None, float("nan"), "Infinity", "0.0000001", "-1"):
        with pytest.raises(DocumentError):
            parts_per_million(wrong)


def test_values_built_in_code_are_checked_too() -> None:
    with pytest.raises(DocumentError):
        ReleaseTerms(ReleaseMode.AGGREGATE, True)
    with pytest.raises(DocumentError):
        Constraint(LeftOperand.COUNT, Operator.LTEQ, True)
    with pytest.raises(DocumentError):
        Terms((), ReleaseTerms(ReleaseMode.AGGREGATE, 1))
    with pytest.raises(DocumentError):
        simple_terms(purposes=("a", "a"), min_units=1)
    same = Constraint(LeftOperand.COUNT, Operator.LTEQ, 1)
    with pytest.raises(DocumentError):
        Rule(Action.COMPUTE, (same, same))
