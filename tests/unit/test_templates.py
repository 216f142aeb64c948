"""Query templates: what a contract may list, and which values it then takes."""

from datetime import date
from decimal import Decimal

import pytest
from contract_world import NOW, REQUEST_KEY, offer, request, terms

from luoshu.cli.template_values import template_values
from luoshu.contracts.answer import Agree, Counter, Refuse, answer_request
from luoshu.contracts.canonical import canonicalize, parse_object
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.offer import Limits
from luoshu.contracts.request import ComputationRequest
from luoshu.contracts.templates import ParameterType, QueryTemplate, TemplateCall, find_template
from luoshu.contracts.terms import Terms
from luoshu.sandbox.templates import BoundParameter
from luoshu.sdk.errors import InvalidRequestError
from luoshu.sdk.offers import offers_document
from luoshu.sdk.templates import call_of

PAYLOAD = {
    "name": "by-sex",
    "sql": "SELECT sex, count(*) FROM lung\nWHERE inst = $inst AND d >= $since AND $all GROUP BY 1",
    "parameters": {
        "all": {"type": "boolean", "values": [True]},
        "inst": {"type": "integer", "values": [1, 2, 33]},
        "since": {"type": "date", "range": ["2020-01-01", "2024-12-31"]},
    },
}
VALUES = {"inst": 2, "since": "2020-02-29", "all": True}


def template(**changes):
    return QueryTemplate.from_payload({**PAYLOAD, **changes})


def one(kind, **rule):
    """A template of one parameter."""
    return template(sql="SELECT $p", parameters={"p": {"type": kind, **rule}})


def test_templates_read_back_and_terms_without_have_no_key():
    assert template().to_payload() == PAYLOAD
    assert "templates" not in terms().to_payload()
    with_one = terms(templates=(template(),))
    assert Terms.from_payload(parse_object(canonicalize(with_one.to_payload()))) == with_one


def test_allowed_values_are_bound_in_the_order_of_names():
    bound = template().bind(VALUES)
    assert [(parameter.name, value) for parameter, value in bound] == [
        *(("all", True), ("inst", 2), ("since", "2020-02-29")),
    ]


@pytest.mark.parametrize(
    ("kind", "rule", "good", "bad"),
    [
        ("integer", {"values": [1, 2]}, [1], [3, True, "1", 1.0, None, [1], 2**60]),
        ("integer", {"range": [-5, 5]}, [-5, 0, 5], [-6, 6, "0", False]),
        ("decimal", {"range": ["-0.5", "10"]}, ["-0.5", "3.25", "10.00"], ["10.001", "1e1", 3]),
        ("decimal", {"values": ["1.5"]}, ["1.5"], ["1.50", " 1.5", "+1.5", "１.5", "NaN"]),
        ("text", {"values": ["a", "", "b'; --"]}, ["a", "", "b'; --"], ["A", "a ", 1, "á"]),
        ("date", {"values": ["2024-02-29"]}, ["2024-02-29"], ["2024-02-28", "20240229"]),
        ("date", {"range": ["2024-01-01", "2024-12-31"]}, ["2024-06-30"], ["2025-01-01", "x"]),
        ("boolean", {"values": [True]}, [True], [False, 1, "yes"]),
    ],
)
def test_values_outside_are_refused_without_being_quoted(kind, rule, good, bad):
    made = one(kind, **rule)
    for value in good:
        ((_, bound),) = made.bind({"p": value})
        assert bound == value
    for value in bad:
        with pytest.raises(DocumentError) as caught:
            made.bind({"p": value})
        assert caught.value.message.startswith("parameter p ")
        if isinstance(value, str) and len(value) > 3:
            assert value not in caught.value.message


def test_values_are_given_once_each_and_all():
    with pytest.raises(DocumentError, match="needs a value for all"):
        template().bind({})
    with pytest.raises(DocumentError, match=r"1 parameter\(s\) less"):
        template().bind({**VALUES, "more": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"name": "By Sex"},
        {"sql": ""},
        {"sql": "SELECT $inst \u202e $since $all"},
        {"sql": "SELECT 1"},
        {"sql": "SELECT $inst2, $since, $all"},
        {"sql": "x" * (16 << 10) + "$inst $since $all"},
        {"parameters": []},
        {"parameters": {"P": {"type": "integer", "values": [1]}}},
        {"parameters": {"1": {"type": "integer", "values": [1]}}},
        {"parameters": {"inst": {"type": "integer"}}},
        {"parameters": {"inst": {"type": "integer", "values": [1], "range": [1, 2]}}},
        {"parameters": {"inst": {"type": "integer", "values": []}}},
        {"parameters": {"inst": {"type": "integer", "values": [1, 1]}}},
        {"parameters": {"inst": {"type": "integer", "values": list(range(1001))}}},
        {"parameters": {"inst": {"type": "integer", "range": [2, 1]}}},
        {"parameters": {"inst": {"type": "integer", "range": [1]}}},
        {"parameters": {"inst": {"type": "text", "range": ["a", "b"]}}},
        {"parameters": {"inst": {"type": "boolean", "range": [False, True]}}},
        {"parameters": {"inst": {"type": "float", "values": [1]}}},
        {"parameters": {"inst": {"type": "date", "values": ["2023-02-29"]}}},
        {"parameters": {"inst": {"type": "integer", "values": [1], "default": 1}}},
        {"guard": False},
    ],
)
def test_templates_that_nobody_could_check_are_refused(change):
    with pytest.raises(DocumentError):
        template(**change)


def test_terms_name_each_template_once():
    with pytest.raises(DocumentError, match="one name"):
        terms(templates=(template(), template(sql="SELECT 1", parameters={})))
    with pytest.raises(DocumentError):
        Terms.from_payload({**terms().to_payload(), "templates": []})
    with pytest.raises(DocumentError, match="it has: by-sex"):
        find_template([template()], "other")
    with pytest.raises(DocumentError, match="no templates; send SQL"):
        find_template([], "by-sex")


# Requests


def test_request_has_sql_or_a_template():
    call = TemplateCall.of("by-sex", VALUES)
    asked = request(sql=None, template=call)
    assert "sql" not in asked.to_payload()
    assert ComputationRequest.from_payload(asked.to_payload()) == asked
    assert asked.sign(REQUEST_KEY).payload == canonicalize(asked.to_payload())
    assert "template" not in request().to_payload()
    for wrong in ({"template": call}, {"sql": None}):
        with pytest.raises(DocumentError, match="either sql or template"):
            request(**wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"template": "by-sex"},
        {"template": {"name": "by-sex"}},
        {"template": {"name": "By Sex", "parameters": {}}},
        {"template": {"name": "by-sex", "parameters": []}},
        {"template": {"name": "by-sex", "parameters": {"p": None}}},
        {"template": {"name": "by-sex", "parameters": {"p": [1]}}},
        {"template": {"name": "by-sex", "parameters": {"P": 1}}},
        {"template": {"name": "by-sex", "parameters": {"p": "\u202e"}}},
        {"template": {"name": "by-sex", "parameters": {"p": "x" * 1001}}},
        {"template": {"name": "by-sex", "parameters": {}, "sql": "SELECT 1"}},
        {"template": None},
    ],
)
def test_ill_formed_calls_are_refused(change):
    payload = request(sql=None, template=TemplateCall.of("by-sex", {})).to_payload()
    ComputationRequest.from_payload(payload)
    with pytest.raises(DocumentError):
        ComputationRequest.from_payload({**payload, **change})


# Negotiation


def answer(asked, offered):
    made = offer(offered)
    return answer_request(made, Limits(), asked, NOW)


def test_templates_of_an_offer_can_not_be_negotiated_away():
    mine, other = template(), template(name="other")
    offered = terms(templates=(mine, other))
    assert answer(offered, offered) == Agree(offered)
    fewer = terms(templates=(other,))
    assert answer(fewer, offered) == Agree(fewer)
    assert answer(terms(), offered) == Counter(offered)
    widened = template(
        parameters={**PAYLOAD["parameters"], "inst": {"type": "integer", "range": [0, 99]}}
    )
    assert answer(terms(templates=(widened, other)), offered) == Counter(fewer)
    refused = answer(terms(templates=(widened,)), offered)
    assert isinstance(refused, Refuse)
    assert refused.rule == "templates"
    # Where any SQL is allowed, asking for less is.
    assert answer(fewer, terms()) == Agree(fewer)


# As people write them


def test_offer_lists_templates_in_short_form():
    plain = {"name": "all", "sql": "SELECT count(*) FROM lung"}
    document = offers_document([{"id": "o", "min_units": 10, "templates": [PAYLOAD, plain]}])
    (made,) = parse_object(document)["offers"]
    assert made["terms"]["templates"] == [PAYLOAD, {**plain, "parameters": {}}]
    with pytest.raises(InvalidRequestError, match="Offer 1"):
        offers_document([{"id": "o", "min_units": 10, "templates": [{"name": "x"}]}])


def test_values_come_as_python_values_or_as_a_person_types_them():
    allowed = terms(templates=(template(),))
    typed = call_of(allowed, "by-sex", {"inst": "2", "since": "2020-02-29", "all": "true"})
    native = call_of(allowed, "by-sex", {"inst": 2, "since": date(2020, 2, 29), "all": True})
    assert typed == native == TemplateCall.of("by-sex", VALUES)
    money = terms(templates=(one("decimal", range=["0", "100"]),))
    assert call_of(money, "by-sex", {"p": Decimal("12.50")}).parameters == (("p", "12.50"),)
    assert call_of(money, "by-sex", {"p": 12}).parameters == (("p", "12"),)
    for wrong in ({"p": 1.5}, {"p": None}, {"p": Decimal("NaN")}, {"q": 1}, {}, {"p": "101"}):
        with pytest.raises(DocumentError):
            call_of(money, "by-sex", wrong)


def test_every_type_says_how_it_is_spelt():
    for kind in ParameterType:
        with pytest.raises(DocumentError, match=r"^must be "):
            kind.check([])


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("v=5", ("v", "integer", "5")),
        ("v=-7", ("v", "integer", "-7")),
        ("v=5.50", ("v", "decimal", "5.50")),
        ("v=true", ("v", "boolean", "true")),
        ("v=2020-02-29", ("v", "date", "2020-02-29")),
        ("v=2020-02-30", ("v", "text", "2020-02-30")),
        ("v=it's = $v", ("v", "text", "it's = $v")),
        ("v:text=5", ("v", "text", "5")),
        ("v:decimal=5", ("v", "decimal", "5")),
    ],
)
def test_values_are_read_as_a_holder_types_them(item, expected):
    assert template_values([item], {"1": "SELECT $v"}) == (BoundParameter(*expected),)
