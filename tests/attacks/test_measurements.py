"""Contracts that name the code under which alone may be computed."""

import pytest
from history_world import RangeSandbox, history_world

from luoshu.connector.compute.measured import measurement_refusal
from luoshu.connector.errors import NodeError
from luoshu.contracts.attestation import Evidence, EvidenceKind, SoftwareMeasurement
from luoshu.contracts.errors import DocumentError
from luoshu.contracts.terms import simple_terms

OTHER = "sha256:" + "a" * 64
OURS = RangeSandbox.measurement


@pytest.fixture
async def world(tmp_path):
    async with history_world(tmp_path) as world:
        yield world


async def contract_of(world, *measurements):
    await world.offer_with(measurements=measurements)
    return await world.contract(measurements=measurements)


async def test_other_code_is_refused_and_costs_nothing(world):
    state = await contract_of(world, OTHER)
    with pytest.raises(NodeError) as caught:
        await world.counted("1-40", state)
    assert caught.value.reason == "MEASUREMENT_DENIED"
    assert OURS in str(caught.value)
    (entry,) = world.log()
    assert (entry["allow"], entry["reason"]) == (False, "MEASUREMENT_DENIED")
    assert await world.uses(state) == 0


async def test_the_code_that_runs_is_allowed_and_in_the_entry(world):
    state = await contract_of(world, OTHER, OURS)
    assert await world.counted("1-40", state) == [40]
    decision, *_ = world.log()
    assert decision["measurement"] == OURS


@pytest.mark.parametrize("measurement", ["", "sha256:", OTHER.upper(), OTHER[:-1], f"{OTHER}\n"])
def test_a_measurement_that_is_none_is_in_no_terms_and_proves_nothing(measurement):
    with pytest.raises(DocumentError):
        simple_terms(min_units=2, measurements=[measurement])
    evidence = Evidence(EvidenceKind.SOFTWARE_MEASUREMENT, measurement.encode())
    assert SoftwareMeasurement().judge(evidence).measurement is None
    assert measurement_refusal(simple_terms(min_units=2, measurements=[OTHER]), measurement)


def test_too_many_and_twice():
    many = [f"sha256:{number:064x}" for number in range(17)]
    for measurements in (many, [OTHER, OTHER]):
        with pytest.raises(DocumentError):
            simple_terms(min_units=2, measurements=measurements)
