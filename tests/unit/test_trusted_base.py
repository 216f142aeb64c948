"""What runs inside the isolation is small: the standard library, one engine, NumPy where columns
are computed on.

The import linter knows what is written in import statements; this looks at what is loaded.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from luoshu.sandbox.isolation.runtime import Runtime

WORKERS = ("stage1", "release", "release_dp", "stage2", "prepare")
ENGINE = "_duckdb"
ARRAYS = "numpy"
NOISE = {"opendp", "deprecated", "wrapt"}
COMPUTING = {"stage1", "release", "release_dp"}

PROBE = """
import importlib, json, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""


LATER = """
import importlib, pathlib, sys, tempfile
importlib.import_module("luoshu.sandbox.worker.release")
before = set(sys.modules)
sys.path.append(sys.argv[1])
from release_world import ROWS, AggregateRules, Holder, result, total
holder = Holder(pathlib.Path(tempfile.mkdtemp()), AggregateRules(3))
for first in range(3):
    for groups in (2, 12):
        cells = {
            (str(n),): {unit: (1, 2**70 * unit) for unit in range(first, n * 20 + 60)}
            for n in range(groups)
        }
        components = [ROWS, total("a", wide=True)]
        holder.release(result(cells, components), result({(): cells["1",]}, components))
shared = {
    (f"{n:02}",): {u: (1, u) for u in range(300) if pow(3, u, 307) * (n + 1) % 307 % 14 < 8}
    for n in range(14)
}
holder.release(result(shared, components))
holder.release(result({(): {u: (7, 8 * u) for u in range(1, 300)}}, components))
new = set(sys.modules) - before - {"release_world"}
print(sorted(name for name in new if name.split(".")[0] not in sys.stdlib_module_names))
"""


def loaded_by(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, module], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def foreign(modules: set[str]) -> set[str]:
    own = {"luoshu", ENGINE, ARRAYS} | sys.stdlib_module_names
    return {name for name in modules if name.split(".")[0] not in own}


@pytest.mark.parametrize("worker", WORKERS)
def test_worker_loads_the_sandbox_and_its_engine_only(worker: str) -> None:
    modules = loaded_by(f"luoshu.sandbox.worker.{worker}")
    assert "luoshu.sandbox.worker.stage" in modules
    assert {name.split(".")[0] for name in foreign(modules)} == (
        NOISE if worker == "release_dp" else set()
    )
    portions = {".".join(name.split(".")[:2]) for name in modules if name.startswith("luoshu.")}
    assert portions == {"luoshu.sandbox"}
    assert (ARRAYS in modules) == (worker in COMPUTING)


def test_releasing_loads_no_more_of_numpy_than_the_worker_sees() -> None:
    support = str(Path(__file__).parents[1] / "support")
    done = subprocess.run(
        [sys.executable, "-I", "-c", LATER, support], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("worker", ["release", "release_dp"])
def test_release_workers_have_no_engine(worker: str) -> None:
    assert ENGINE not in loaded_by(f"luoshu.sandbox.worker.{worker}")


def test_the_connector_plans_and_accounts_without_the_library_of_noise() -> None:
    for module in ("luoshu.sandbox.run", "luoshu.connector.compute.budget"):
        assert not NOISE & loaded_by(module)


def test_the_library_of_noise_is_seen_by_one_worker_and_in_parts() -> None:
    runtime = Runtime.find()
    for entry in WORKERS:
        targets = {mount.target for mount in runtime.mounts_of(entry)}
        assert ("/app/opendp/lib" in targets) == (entry == "release_dp")
        assert not {f"/app/opendp/{part}" for part in ("extras", "context.py", "prelude.py")} & (
            targets
        )


@pytest.mark.parametrize("forking", ["isolation.launcher", "worker.zygote"])
def test_what_forks_never_loads_grpc_nor_an_engine_itself(forking: str) -> None:
    modules = loaded_by(f"luoshu.sandbox.{forking}")
    assert not foreign(modules)
    assert not {ENGINE, ARRAYS} & modules


def test_numpy_is_seen_by_the_workers_that_compute_and_in_parts() -> None:
    runtime = Runtime.find()
    for entry in WORKERS:
        targets = {mount.target for mount in runtime.mounts_of(entry)}
        assert any(target.startswith("/app/numpy/") for target in targets) == (entry in COMPUTING)
        assert not {f"/app/numpy/{part}" for part in ("random", "f2py", "tests", "fft")} & targets
