"""Names and shapes against the Dataspace Protocol 2025-1's own schemas and examples."""

import json
import os
import re
from pathlib import Path

import pytest
from contract_world import Dealings, terms

from luoshu.contracts.contract import NegotiationState
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.terms import Operator, Terms

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("LUOSHU_VECTORS", ROOT / ".." / "shared" / "vectors")) / "dsp-schemas"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="Dataspace Protocol schemas are absent: set LUOSHU_VECTORS to their parent folder",
)


def definitions(path: str) -> dict:
    return json.loads((FOLDER / path).read_text("utf-8"))["definitions"]


def policy_class() -> dict:
    return definitions("negotiation/contract-schema.json")


def test_negotiation_states_are_dsps() -> None:
    schema = definitions("negotiation/contract-negotiation-schema.json")
    states = schema["ContractNegotiation"]["properties"]["state"]["enum"]
    assert [state.value for state in NegotiationState] == states


def test_event_names_that_dsp_has_are_states_here() -> None:
    schema = definitions("negotiation/contract-negotiation-event-message-schema.json")
    names = schema["ContractNegotiationEventMessage"]["properties"]["eventType"]["enum"]
    dealings = Dealings()
    dealings.request()
    dealings.counter(terms(uses=1))
    reached = [dealings.accept().negotiation]
    dealings.agree()
    dealings.verify()
    reached.append(dealings.finalize().negotiation)
    assert [state.value for state in reached] == names


def test_operators_are_dsps() -> None:
    # DSP adds `term-lteq`; ODRL and TC609-6-2025-14 don't have it.
    assert {o.value for o in Operator} == set(policy_class()["Operator"]["enum"]) - {"term-lteq"}


def test_terms_have_the_shape_of_a_dsp_offer() -> None:
    schema = policy_class()
    payload = terms().to_payload()
    properties = schema["PolicyClass"]["properties"]
    assert set(payload) - {"release"} <= set(properties)
    for name in set(payload) - {"release"}:
        rules = payload[name]
        assert isinstance(rules, list)
        assert len(rules) >= properties[name]["minItems"]
        for rule in rules:
            assert isinstance(rule, dict)
            assert set(rule) <= set(schema["Rule"]["properties"])
            assert set(schema["Rule"]["required"]) <= set(rule)
            for constraint in rule["constraint"]:  # type: ignore[union-attr]
                assert set(constraint) == set(schema["AtomicConstraint"]["required"])  # type: ignore[arg-type]


def test_dsps_example_constraints_are_refused_for_their_operands_alone() -> None:
    # They use operands that nothing here can decide; the shape around them is understood.
    path = FOLDER / "negotiation" / "example" / "contract-agreement-message-full.json"
    agreement = json.loads(path.read_text("utf-8"))["agreement"]
    release = {"mode": "aggregate", "min_units": 10}
    for permission in agreement["permission"]:
        known = {**permission, "action": "compute"}
        with pytest.raises(DocumentError, match=r"leftOperand|rightOperand|constraint|time"):
            Terms.from_payload({"permission": [known], "release": release})
        with pytest.raises(DocumentError, match=r"must be one of compute|constraint|time"):
            Terms.from_payload({"permission": [permission], "release": release})


def test_an_agreements_time_matches_dsps_pattern() -> None:
    properties: dict = {}
    for part in policy_class()["Agreement"]["allOf"]:
        properties |= part.get("properties", {})
    pattern = properties["timestamp"]["pattern"]
    dealings = Dealings()
    dealings.request()
    agreed = dealings.agree().agreed
    assert agreed is not None
    assert re.fullmatch(pattern, str(agreed.to_payload()["signed_at"]))
