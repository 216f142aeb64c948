"""A contract whose past was changed, and which went on: the SDK compares all that it saw."""

import pytest
from sdk_world import SimulatedContract, SpaceSimulator

from luoshu.sdk import connect
from luoshu.sdk.errors import VerificationError


@pytest.fixture
def simulator(tmp_path):
    space = SpaceSimulator(tmp_path)
    yield space
    space.close()


def test_a_longer_history_that_is_another_one(simulator):
    """Rewound, then continued past where the analyst was: each link verifies by itself."""
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        told = simulator.contracts[contract.id]
        contract.suspend("look into it")
        suspended = contract.state_hash
        other = SimulatedContract(simulator, contract.id)
        other.add(told.first_type, told.events_body(), simulator.analyst)
        other.agree()
        simulator.contracts[contract.id] = other
        contract_as_told_anew = space.contract(contract.id)
        for reason in ("one", "two", "three"):
            contract_as_told_anew.suspend(reason)
            contract_as_told_anew.resume(reason)
        with pytest.raises(VerificationError, match="another history"):
            contract.refresh()
    assert contract.state_hash == suspended


def test_a_history_that_goes_on_is_taken(simulator):
    with connect(simulator.profile) as space:
        contract = space.negotiate(simulator.entry.id)
        space.contract(contract.id).suspend("look into it")
        assert contract.refresh().state == "SUSPENDED"
