"""One guard in this process and one sandbox behind its wall, for all attacks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attack_world import Answers, Attack
from escape_world import BwrapPrison, DockerPrison
from sandbox_world import Guard, open_guard, write_product

from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.run import Sandbox


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    opened = open_guard(tmp_path_factory.mktemp("guard"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    started = Sandbox.start()
    yield started
    started.close()


@pytest.fixture(scope="session")
def visits(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> PreparedProduct:
    path = write_product(tmp_path_factory.mktemp("visits"))
    product = load_product_file(path)
    return prepare_product(
        product, path.parent, path.parent / "prepared", sandbox.isolation, path.parent / "units"
    )


@pytest.fixture(scope="session")
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What the selected attacks are answered: all of them asked in a few long dry runs."""
    selected = [
        item.callspec.params.get("attack")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    asked = Answers(tmp_path_factory.mktemp("town"))
    asked.ask_all(attack for attack in selected if isinstance(attack, Attack))
    return asked


@pytest.fixture(scope="session")
def bwrap_prison() -> Iterator[BwrapPrison]:
    held = BwrapPrison()
    yield held
    held.close()


@pytest.fixture(scope="session")
def docker_prison() -> Iterator[DockerPrison]:
    held = DockerPrison()
    yield held
    held.close()


@pytest.fixture(scope="session")
def gvisor_prison() -> Iterator[DockerPrison]:
    held = DockerPrison("runsc")
    yield held
    held.close()
