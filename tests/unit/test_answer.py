"""Automatic answers: narrowed where possible, refused where not, never beyond the offer."""

from dataclasses import replace
from datetime import timedelta

import pytest
from contract_world import NOW, YEAR, offer, terms
from hypothesis import given
from hypothesis import strategies as st

from luoshu.contracts.answer import Agree, Counter, Manual, Refuse, answer_request
from luoshu.contracts.offer import AnswerMode, Limits
from luoshu.contracts.terms import (
    Action,
    Constraint,
    LeftOperand,
    Operator,
    ReleaseMode,
    Rule,
    Terms,
)

DAY = timedelta(days=1)


def answer(asked: Terms, limits: Limits | None = None, **changes: object) -> object:
    made = offer(**changes)  # type: ignore[arg-type]
    return answer_request(made, limits or made.limits, asked, NOW)


def rule(*constraints: Constraint) -> Rule:
    return Rule(Action.COMPUTE, constraints)


def purpose(*names: str, operator: Operator = Operator.IS_ANY_OF) -> Constraint:
    return Constraint(LeftOperand.PURPOSE, operator, names)


def region(*names: str, operator: Operator = Operator.IS_PART_OF) -> Constraint:
    return Constraint(LeftOperand.REGION, operator, names)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"uses": 1},
        {"min_units": 50},
        {"not_after": NOW + DAY},
        {"not_before": NOW},
        {"regions": ("CN-HA",)},
    ],
)
def test_what_the_offer_allows_is_agreed_unchanged(changes: dict) -> None:
    asked = terms(**changes)
    assert answer(asked) == Agree(asked)


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"uses": 9}, {"uses": 3}),
        ({"uses": None}, {"uses": 3}),
        ({"not_after": NOW + 2 * YEAR}, {"not_after": NOW + YEAR}),
        ({"not_after": None}, {"not_after": NOW + YEAR}),
        ({"not_before": None}, {"not_before": NOW - DAY}),
        ({"not_before": NOW - 2 * DAY}, {"not_before": NOW - DAY}),
        ({"regions": ("CN", "US")}, {"regions": ("CN",)}),
        ({"regions": ()}, {"regions": ("CN",)}),
        ({"uses": 9, "not_after": None, "min_units": 20}, {"min_units": 20}),
    ],
)
def test_what_goes_beyond_is_countered(changes: dict, given: dict) -> None:
    got = answer(terms(**changes))
    assert isinstance(got, Counter)
    want = terms(**given)
    assert (got.terms.uses, got.terms.not_before) == (want.uses, want.not_before)
    assert (got.terms.not_after, got.terms.regions) == (want.not_after, want.regions)
    assert got.terms.release == want.release
    assert answer(got.terms) == Agree(got.terms)


def test_limits_widen_the_offer() -> None:
    limits = Limits(10, ("research", "teaching"), NOW + 2 * YEAR, ("CN", "DE"))
    asked = terms(
        uses=10, purposes=("teaching",), not_after=NOW + 2 * YEAR, regions=("DE", "CN-HA")
    )
    assert answer(asked, limits) == Agree(asked)
    got = answer(terms(uses=11), limits)
    assert isinstance(got, Counter)
    assert got.terms.uses == 10


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"purposes": ("insurance",)}, "purpose"),
        ({"purposes": ("research", "insurance")}, "purpose"),
        ({"purposes": ()}, "purpose"),
        ({"regions": ("US",)}, "region"),
        ({"min_units": 9}, "release"),
        ({"mode": ReleaseMode.ROWS}, "release"),
        ({"mode": ReleaseMode.DP}, "release"),
        ({"not_after": NOW}, "validity"),
        ({"not_after": NOW - DAY}, "validity"),
        ({"not_before": NOW + 2 * YEAR, "not_after": None}, "validity"),
    ],
)
def test_what_cannot_be_given_is_refused(changes: dict, refused: str) -> None:
    got = answer(terms(**changes))
    assert isinstance(got, Refuse)
    assert got.rule == refused
    assert got.reason


def test_a_person_answers_unless_the_release_forbids_it() -> None:
    manual = {"answer": AnswerMode.MANUAL}
    assert answer(terms(purposes=("insurance",)), **manual) == Manual()
    assert isinstance(answer(terms(min_units=1), **manual), Refuse)


def test_each_permission_must_fit_one_of_the_offers() -> None:
    # The widest bounds together would allow five uses for b; no single permission does.
    offered = Terms(
        (
            rule(purpose("a"), Constraint(LeftOperand.COUNT, Operator.LTEQ, 5)),
            rule(purpose("b"), Constraint(LeftOperand.COUNT, Operator.LTEQ, 1)),
        ),
        terms().release,
    )
    asked = terms(purposes=("b",), uses=5, not_before=None, not_after=None, regions=())
    got = answer(asked, offered=offered)
    assert isinstance(got, Counter)
    assert got.terms.uses == 1
    both = Terms((rule(purpose("a", "b")),), terms().release)
    assert isinstance(answer(both, offered=offered), Refuse)


def test_what_the_offer_excludes_stays_excluded() -> None:
    exclusion = purpose("weapons", operator=Operator.IS_NONE_OF)
    abroad = Constraint(LeftOperand.REGION, Operator.NEQ, "CN-HK")
    forbidden = rule(purpose("insurance"))
    offered = Terms((rule(exclusion, abroad),), terms().release, (forbidden,))
    asked = Terms((rule(),), terms().release)
    got = answer(asked, offered=offered)
    assert got == Counter(offered)
    assert answer(offered, offered=offered) == Agree(offered)


@pytest.mark.parametrize(
    ("offered", "asked", "agreed"),
    [
        (Constraint(LeftOperand.REGION, Operator.EQ, "CN"), region("CN"), False),
        (region("CN"), Constraint(LeftOperand.REGION, Operator.EQ, "CN"), True),
        (region("CN", operator=Operator.IS_ANY_OF), region("CN-HA"), False),
        (region("CN"), region("CN-HA", operator=Operator.IS_ANY_OF), True),
        (region("CN-HA"), region("CN"), False),
        (region("CN"), region("CN-X"), True),
    ],
)
def test_regions_nest_only_where_the_operator_says_so(
    offered: Constraint, asked: Constraint, agreed: bool
) -> None:
    release = terms().release
    got = answer(Terms((rule(asked),), release), offered=Terms((rule(offered),), release))
    assert isinstance(got, Agree) is agreed
    assert isinstance(got, Agree | Refuse)


TIMES = st.none() | st.integers(-400, 800).map(lambda days: NOW + timedelta(days=days))
NAMES = st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3)
CODES = st.lists(st.sampled_from(["CN", "CN-HA", "DE", "US"]), unique=True, max_size=3)
TERMS = st.builds(
    lambda p, u, b, e, r, m: terms(
        purposes=tuple(p), uses=u, not_before=b, not_after=e, regions=tuple(r), min_units=m
    ),
    NAMES,
    st.none() | st.integers(1, 12),
    TIMES,
    TIMES,
    CODES,
    st.integers(8, 12),
)
LIMITS = st.builds(
    lambda u, p, e, r: Limits(u, tuple(p), e, tuple(r)),
    st.none() | st.integers(1, 12),
    NAMES,
    TIMES,
    CODES,
)


@given(TERMS, LIMITS, TERMS)
def test_no_answer_goes_beyond_offer_and_limits(
    offered: Terms, limits: Limits, asked: Terms
) -> None:
    made = offer(offered)
    got = answer_request(made, limits, asked, NOW)
    assert got == answer_request(made, limits, asked, NOW)
    if isinstance(got, Refuse | Manual):
        return
    given = got.terms
    assert given.stricter_or_equal(offered.release)
    for most, have in (
        (limits.max_uses or offered.uses, given.uses),
        (limits.latest_end or offered.not_after, given.not_after),
    ):
        assert most is None or (have is not None and have <= most)  # type: ignore[operator]
    allowed = frozenset(limits.purposes) or offered.purposes
    assert allowed is None or (given.purposes is not None and given.purposes <= allowed)
    regions = frozenset(limits.regions) or offered.regions
    if regions is not None:
        assert given.regions is not None
        assert all(any(f"{r}-".startswith(f"{a}-") for a in regions) for r in given.regions)
    assert given.not_after is None or given.not_after > NOW
    # A counter-offer that is asked for is agreed: negotiation ends.
    assert answer_request(made, limits, given, NOW) == Agree(given)
    if isinstance(got, Agree):
        assert given == asked


OURS, THEIRS = ("sha256:" + digit * 64 for digit in "ab")


@pytest.mark.parametrize(
    ("asked", "offered", "given"),
    [
        ((), (), ()),
        ((OURS,), (), (OURS,)),
        ((), (OURS,), (OURS,)),
        ((OURS, THEIRS), (OURS,), (OURS,)),
        ((OURS,), (THEIRS, OURS), (OURS,)),
    ],
)
def test_measurements_are_narrowed(
    asked: tuple[str, ...], offered: tuple[str, ...], given: tuple[str, ...]
) -> None:
    wanted = replace(terms(), measurements=asked)
    made = offer()
    made = replace(made, terms=replace(made.terms, measurements=offered))
    expected = replace(terms(), measurements=given)
    answered = answer_request(made, made.limits, wanted, NOW)
    assert answered == (Agree(wanted) if given == asked else Counter(expected))


def test_measurements_of_other_code_are_refused() -> None:
    made = offer()
    made = replace(made, terms=replace(made.terms, measurements=(THEIRS,)))
    answered = answer_request(made, made.limits, replace(terms(), measurements=(OURS,)), NOW)
    assert isinstance(answered, Refuse)
    assert answered.rule == "measurements"
