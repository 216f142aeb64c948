"""The real OPA on the Rego sources, and the shipped Wasm: the same decisions, byte for byte.

Needs the pinned OPA at ``.tools/bin/opa`` or on the path, or named by ``OPA``.
"""

import importlib.util
import json
import os
import random
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from luoshu.policies import load_default_engine
from luoshu.policies.bundle import load_bundle

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "policies" / "build.py"

JUNK: list[Any] = [None, True, 0, 1, -1, "", "x", [], {}, ["x", 1], [None]]
OPERATORS = [
    "eq", "neq", "gt", "gteq", "lt", "lteq", "isAnyOf", "isNoneOf", "isAllOf", "isPartOf",
    "hasPart", "isA", "like",
]  # fmt: skip
VALUES: dict[str, list[Any]] = {
    "purpose": ["research", "teaching", "医学研究"],
    "region": ["CN", "CN-HA", "CN-HA-01", "CNX", "DE", ""],
    "dateTime": [1_789_999_999_999, 1_790_000_000_000, 1_790_000_000_001],
    "count": [1, 2, 3],
    "payAmount": [1],
}


class Inputs:
    """Decision inputs, mostly sensible, with something odd at any place."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self) -> dict[str, Any]:
        return {
            "now_ms": self._mostly(self._pick(VALUES["dateTime"])),
            "request": self._mostly(
                {
                    "action": self._mostly("compute"),
                    "purpose": self._mostly(self._pick(VALUES["purpose"])),
                }
            ),
            "terms": self._mostly(
                {
                    "permission": self._mostly([self._rule() for _ in range(self._upto(2) + 1)]),
                    "prohibition": self._mostly([self._rule() for _ in range(self._upto(1))]),
                }
            ),
            "agreement": self._mostly({"state": self._mostly("ACTIVE")}),
            "meters": self._mostly({"uses": self._mostly(self._upto(2))}),
            "consumer": self._mostly({"jurisdiction": self._mostly(self._pick(VALUES["region"]))}),
        }

    def _rule(self) -> Any:
        constraints = [self._constraint() for _ in range(self._upto(3))]
        rule: Any = {"action": self._mostly("compute"), "constraint": self._mostly(constraints)}
        if self._random.random() < 0.05:
            del rule[self._pick(["action", "constraint"])]
        return self._mostly(rule)

    def _constraint(self) -> Any:
        operand = self._pick([*VALUES, *list(VALUES)[:4] * 9])
        values = VALUES[operand]
        right = self._pick([self._pick(values), self._random.choices(values, k=self._upto(3))])
        constraint = {
            "leftOperand": self._mostly(operand),
            "operator": self._pick(OPERATORS),
            "rightOperand": self._mostly(right),
        }
        if self._random.random() < 0.02:
            del constraint[self._pick(list(constraint))]
        return self._mostly(constraint)

    def _mostly(self, value: Any) -> Any:
        return self._pick(JUNK) if self._random.random() < 0.01 else value

    def _pick(self, values: list[Any]) -> Any:
        return self._random.choice(values)

    def _upto(self, highest: int) -> int:
        return self._random.randint(0, highest)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("policies_build", BUILD)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def opa(build: ModuleType) -> Path:
    named = os.environ.get("OPA")
    found: Path = build.find_opa(Path(named) if named else None)
    return found


def test_the_wasm_decides_as_opa_does(opa: Path, tmp_path: Path) -> None:
    inputs = [Inputs(seed).one() for seed in range(3000)]
    data = tmp_path / "inputs.json"
    data.write_text(json.dumps({"inputs": inputs}))
    query = "[d | some i in data.inputs; d := data.luoshu.use.decision with input as i]"
    with as_file(files("luoshu.policies").joinpath("rego/use.rego")) as rego:
        done = subprocess.run(
            [opa, "eval", "--format=json", "--strict", "-d", rego, "-d", data, query],
            capture_output=True,
            check=True,
        )
    expected = json.loads(done.stdout)["result"][0]["expressions"][0]["value"]
    assert len(expected) == len(inputs)

    engine = load_default_engine()
    decided: list[dict[str, Any]] = []
    for given in inputs:
        decision = engine.decide(given)
        reasons = [{"rule": r.rule, "message": r.message} for r in decision.reasons]
        decided.append({"allow": decision.allow, "reasons": reasons})
    differing = [
        n for n, pair in enumerate(zip(decided, expected, strict=True)) if pair[0] != pair[1]
    ]
    assert differing == []
    allowed = sum(answer["allow"] for answer in decided)
    assert 100 < allowed < 2900
    assert len({reason["rule"] for answer in decided for reason in answer["reasons"]}) == 8


def test_opa_builds_the_committed_wasm_byte_for_byte(opa: Path) -> None:
    done = subprocess.run(
        [sys.executable, BUILD, "--check", "--opa", opa],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_module_that_opa_didnt_build_is_noticed(opa: Path, build: ModuleType) -> None:
    built = build.build(opa)
    assert built["use.wasm"] == load_bundle("use").wasm
    with pytest.raises(build.BuildError, match=r"use\.wasm isn't what OPA"):
        build.compare({**built, "use.wasm": built["use.wasm"] + b"\0"})
