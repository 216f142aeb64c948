"""What the fuzzer begins with is well-formed, so that it gets past the first check."""

from pathlib import Path

import pytest
from answer_readers import READERS, read

from luoshu.sandbox.errors import GuardRefusalError

SEEDS = sorted((Path(__file__).parents[1] / "fuzz" / "corpus").iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_seed_is_read(seed: Path) -> None:
    if seed.name == "refused":
        with pytest.raises(GuardRefusalError):
            read(seed.read_bytes())
    else:
        assert read(seed.read_bytes())


def test_each_reader_has_a_seed() -> None:
    assert {path.read_bytes()[0] for path in SEEDS} == set(range(len(READERS)))
