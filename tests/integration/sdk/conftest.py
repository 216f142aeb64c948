"""Fixtures over the simulated space."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sdk_world import Member, SpaceSimulator

from luoshu.contracts.contract import OfferBody
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import Role


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SpaceSimulator]:
    space = SpaceSimulator(tmp_path)
    yield space
    space.close()


@pytest.fixture
def make_member() -> Callable[..., Member]:
    """A member of a space of its own authority, or of the given one."""

    def make(name: str, role: Role = Role.HOLDER, authority: SigningKey | None = None) -> Member:
        return Member(name, role, authority or SigningKey.generate(KeyUse.AUTHORITY))

    return make


@pytest.fixture
def offer_body() -> type[OfferBody]:
    return OfferBody
