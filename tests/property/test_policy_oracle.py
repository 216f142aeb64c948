"""The use policy against an oracle written from its rules, in Python, for generated inputs.

The oracle shares no code with the policy: it is what the documentation of the rules says,
in another language and another shape (three-valued logic instead of undefined expressions).
"""

from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from luoshu.policies import PolicyEngine, load_default_engine

# ---- oracle

UNKNOWN = None
RULES = {"purpose": "purpose", "dateTime": "validity", "count": "count", "region": "region"}


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def fact(operand: object, given: dict[str, Any]) -> Any:
    try:
        match operand:
            case "purpose":
                value = given["request"]["purpose"]
                return value if is_text(value) else UNKNOWN
            case "region":
                value = given["consumer"]["jurisdiction"]
                return value if is_text(value) else UNKNOWN
            case "dateTime":
                return given["now_ms"] if is_number(given["now_ms"]) else UNKNOWN
            case "count":
                uses = given["meters"]["uses"]
                return uses + 1 if is_number(uses) and uses >= 0 else UNKNOWN
    except KeyError:
        pass
    return UNKNOWN


def within(part: str, whole: str) -> bool:
    if part == whole:
        return True
    return whole != "" and part.split("-")[: whole.count("-") + 1] == whole.split("-")


def constraint_holds(constraint: object, given: dict[str, Any]) -> bool | None:
    if not isinstance(constraint, dict) or "rightOperand" not in constraint:
        return UNKNOWN
    operator, right = constraint.get("operator"), constraint["rightOperand"]
    left = fact(constraint.get("leftOperand"), given)
    if left is UNKNOWN or not isinstance(operator, str):
        return UNKNOWN
    same = is_number if is_number(left) else is_text
    if isinstance(right, list):
        if not all(same(item) for item in right):
            return UNKNOWN
        listed: dict[Any, Any] = {
            "isAnyOf": lambda: any(left == item for item in right),
            "isNoneOf": lambda: all(left != item for item in right),
            "isAllOf": lambda: bool(right) and all(left == item for item in right),
        }
        if same is is_text:
            listed["isPartOf"] = lambda: any(within(left, item) for item in right)
            listed["hasPart"] = lambda: bool(right) and all(within(item, left) for item in right)
        return listed[operator]() if operator in listed else UNKNOWN
    if not same(right):
        return UNKNOWN
    single: dict[Any, Any] = {
        "eq": lambda: left == right,
        "isA": lambda: left == right,
        "neq": lambda: left != right,
    }
    if same is is_number:
        single |= {
            "gt": lambda: left > right,
            "gteq": lambda: left >= right,
            "lt": lambda: left < right,
            "lteq": lambda: left <= right,
        }
    else:
        single |= {"isPartOf": lambda: within(left, right), "hasPart": lambda: within(right, left)}
    return single[operator]() if operator in single else UNKNOWN


def prohibition_applies(prohibition: object, given: dict[str, Any]) -> bool:
    if not isinstance(prohibition, dict) or prohibition.get("action") != "compute":
        return True
    if given["request"].get("action", "compute") != "compute":
        return False  # of another action than the one asked for; one that isn't named may be any
    constraints = prohibition.get("constraint", [])
    if not isinstance(constraints, list):
        return True
    outcomes = [constraint_holds(constraint, given) for constraint in constraints]
    return UNKNOWN in outcomes or False not in outcomes


def oracle(given: dict[str, Any]) -> tuple[bool, list[str]]:
    """Whether the use is allowed, and the rules that deny it."""
    broken: set[str] = set()
    if given.get("agreement", {}).get("state") != "ACTIVE":
        broken.add("agreement_state")
    terms = given.get("terms", {})
    permissions = terms.get("permission")
    covering = [
        permission
        for permission in (permissions if isinstance(permissions, list) else [])
        if isinstance(permission, dict)
        and permission.get("action") == "compute" == given.get("request", {}).get("action")
    ]
    permitted = False
    found: set[str] = set()
    for permission in covering:
        constraints = permission.get("constraint", [])
        if not isinstance(constraints, list):
            found.add("terms")
            continue
        outcomes = [(constraint_holds(item, given), item) for item in constraints]
        permitted = permitted or all(outcome is True for outcome, _ in outcomes)
        found |= {RULES[item["leftOperand"]] for outcome, item in outcomes if outcome is False}
        found |= {"terms" for outcome, _ in outcomes if outcome is UNKNOWN}
    if not permitted:
        broken |= found if covering else {"action"}
    prohibitions = terms.get("prohibition", [])
    if not isinstance(prohibitions, list) or any(
        prohibition_applies(prohibition, given) for prohibition in prohibitions
    ):
        broken.add("prohibition")
    return not broken, sorted(broken)


# ---- inputs: mostly sensible, so that both answers are common, with anything at any place

PURPOSES = ["research", "teaching", "marketing"]
REGIONS = ["CN", "CN-HA", "CN-HA-01", "CNX", "DE", ""]
junk = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x"]), st.just([]),
    st.just({}), st.just([1, "x"]), st.just([None]),
)  # fmt: skip


@st.composite
def mostly(draw: st.DrawFn, usually: st.SearchStrategy[Any], otherwise: Any = junk) -> Any:
    # one_of drops doubles, so weights need a die of their own.
    return draw(otherwise if draw(st.integers(0, 19)) == 19 else usually)


OPERATORS = [
    "eq", "neq", "gt", "gteq", "lt", "lteq", "isAnyOf", "isNoneOf", "isAllOf", "isPartOf",
    "hasPart", "isA",
]  # fmt: skip
text_of = {"purpose": st.sampled_from(PURPOSES), "region": st.sampled_from(REGIONS)}
number_of = {"dateTime": st.integers(0, 6), "count": st.integers(0, 6)}


def right_of(operand: str) -> st.SearchStrategy[Any]:
    one: st.SearchStrategy[Any] = (text_of | number_of)[operand]
    return st.one_of(one, st.lists(one, max_size=3))


@st.composite
def sensible(draw: st.DrawFn) -> dict[str, Any]:
    operand = draw(st.sampled_from(sorted(RULES)))
    operator = draw(st.sampled_from(OPERATORS))
    return {"leftOperand": operand, "operator": operator, "rightOperand": draw(right_of(operand))}


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    constraint = draw(sensible())
    key = draw(st.sampled_from(sorted(constraint)))
    if draw(st.booleans()):
        del constraint[key]
    else:
        constraint[key] = draw(junk)
    return draw(st.one_of(st.just(constraint), junk))


usual = st.sampled_from(
    [
        {"leftOperand": "purpose", "operator": "isAnyOf", "rightOperand": ["research", "teaching"]},
        {"leftOperand": "count", "operator": "lteq", "rightOperand": 4},
        {"leftOperand": "dateTime", "operator": "lteq", "rightOperand": 5},
        {"leftOperand": "dateTime", "operator": "gteq", "rightOperand": 1},
        {"leftOperand": "region", "operator": "isPartOf", "rightOperand": ["CN"]},
    ]
)
constraints = st.lists(mostly(st.one_of(usual, usual, sensible()), spoilt()), max_size=4)


def rule(action: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    sound = st.fixed_dictionaries({"action": action, "constraint": mostly(constraints)})
    bare = st.fixed_dictionaries({}, optional={"action": junk, "constraint": junk})
    return mostly(sound, st.one_of(bare, st.fixed_dictionaries({"action": action}), junk))


def holding(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with these keys; seldom with junk in them, or without them."""
    whole = {key: mostly(value) for key, value in keys.items()}
    return mostly(st.fixed_dictionaries(whole), st.fixed_dictionaries({}, optional=whole))


inputs = st.fixed_dictionaries(
    {
        "request": holding(
            action=mostly(st.just("compute"), st.just("download")), purpose=text_of["purpose"]
        ),
        "agreement": holding(state=mostly(st.just("ACTIVE"), st.just("REVOKED"))),
        "terms": holding(
            permission=st.lists(rule(st.just("compute")), min_size=1, max_size=2),
            prohibition=st.one_of(
                st.just([]), st.lists(rule(st.sampled_from(["compute", "download"])), max_size=2)
            ),
        ),
        "meters": holding(uses=number_of["count"]),
        "consumer": holding(jurisdiction=text_of["region"]),
        "now_ms": mostly(number_of["dateTime"]),
    }
)


@pytest.fixture(scope="module")
def engine() -> PolicyEngine:
    return load_default_engine()


@settings(max_examples=1000, deadline=None)
@given(decision_input=inputs)
def test_policy_and_oracle_agree(engine: PolicyEngine, decision_input: dict[str, Any]) -> None:
    decision = engine.decide(decision_input)
    allow, rules = oracle(decision_input)
    event(f"allow={allow}")
    assert decision.allow is allow
    assert [reason.rule for reason in decision.reasons] == rules


@settings(max_examples=300, deadline=None)
@given(decision_input=inputs, constraint=st.one_of(sensible(), spoilt()))
def test_another_constraint_never_opens(
    engine: PolicyEngine, decision_input: dict[str, Any], constraint: Any
) -> None:
    permissions = decision_input["terms"].get("permission")
    if engine.decide(decision_input).allow or not isinstance(permissions, list):
        return
    stricter = [
        {**one, "constraint": [*one.get("constraint", []), constraint]}
        if isinstance(one, dict) and isinstance(one.get("constraint", []), list)
        else one
        for one in permissions
    ]
    changed = {**decision_input, "terms": {**decision_input["terms"], "permission": stricter}}
    assert not engine.decide(changed).allow


@settings(max_examples=300, deadline=None)
@given(decision_input=inputs, prohibition=rule(st.sampled_from(["compute", "download", "use"])))
def test_a_prohibition_never_opens(
    engine: PolicyEngine, decision_input: dict[str, Any], prohibition: Any
) -> None:
    prohibitions = decision_input["terms"].get("prohibition", [])
    if engine.decide(decision_input).allow or not isinstance(prohibitions, list):
        return
    terms = {**decision_input["terms"], "prohibition": [*prohibitions, prohibition]}
    assert not engine.decide({**decision_input, "terms": terms}).allow


def test_the_inputs_reach_both_answers_and_every_rule(engine: PolicyEngine) -> None:
    seen: set[str] = set()
    answers: set[bool] = set()

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(decision_input=inputs)
    def collect(decision_input: dict[str, Any]) -> None:
        decision = engine.decide(decision_input)
        answers.add(decision.allow)
        seen.update(reason.rule for reason in decision.reasons)

    collect()
    assert answers == {True, False}
    assert seen == {*RULES.values(), "action", "agreement_state", "prohibition", "terms"}
