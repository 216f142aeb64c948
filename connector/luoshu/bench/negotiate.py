"""How long a complete signed negotiation takes between real nodes on loopback."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Final

from luoshu.bench.figures import Figures, Report, percentile
from luoshu.contracts.canonical import canonicalize
from luoshu.contracts.keys import KeyUse, SigningKey
from luoshu.contracts.membership import Role, UserRole
from luoshu.examples.local_space import LocalSpace, NodePlan, preparation, prepare
from luoshu.examples.lung.offers import PURPOSE, offers_of
from luoshu.sdk import DataSpace, connect

CLIENTS: Final = 4
EVENTS: Final = 4
"""Signed events of a negotiation that is accepted at once: request, agree, verify, finalize."""


def run(*, quick: bool) -> Report:
    """Measures request to ACTIVE, one after the other and by four clients at once."""
    runs = 10 if quick else 100
    figures = Figures("negotiate")
    with (
        tempfile.TemporaryDirectory(prefix="luoshu-bench-") as directory,
        LocalSpace(Path(directory), "bench") as space,
    ):
        space.create(
            [
                NodePlan.of("operator", Role.OPERATOR),
                NodePlan.of("north", Role.HOLDER, settings=_FAST),
                NodePlan.of(
                    "analyst",
                    Role.ANALYST,
                    users={"analyst": (UserRole.ANALYST,)},
                    settings=_FAST,
                ),
            ]
        )
        for name in space.nodes:
            space.enrol(name)
        with (
            preparation() as sandbox,
            resources.as_file(resources.files("luoshu.examples.lung")) as here,
        ):
            prepare(space.nodes["north"], here / "north.yaml", sandbox)
        space.start()
        with connect(space.nodes["north"].profile()) as holder:
            product = holder.publish("lung-survival", offers_of("north")).product_id
        profile = space.nodes["analyst"].profile("analyst")
        with ExitStack() as stack:
            spaces = [stack.enter_context(connect(profile)) for _ in range(CLIENTS)]
            _negotiate(spaces[0], product)
            alone = [_negotiate(spaces[0], product) for _ in range(runs)]
            started = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda i: _negotiate(spaces[i % CLIENTS], product), range(runs)))
            rate = runs / (time.perf_counter() - started)
    signing = _signing(EVENTS * 2)
    figures.add(
        "negotiation p50",
        percentile(alone, 0.5),
        "ms",
        baseline=signing,
        baseline_of="its eight signatures made and verified once",
        at_most=100,
    )
    figures.add("negotiation p99", percentile(alone, 0.99), "ms")
    figures.add(f"negotiations, {CLIENTS} clients", rate, "1/s")
    return figures.report()


_FAST: Final = {"limits.requests_per_second": 5000.0, "limits.burst": 5000}


def _negotiate(space: DataSpace, product: str) -> float:
    started = time.perf_counter()
    contract = space.negotiate(product, purpose=PURPOSE, uses=1)
    elapsed = (time.perf_counter() - started) * 1000
    if contract.state != "ACTIVE":
        raise RuntimeError(f"a negotiation ended in {contract.state}")
    return elapsed


def _signing(count: int) -> float:
    key = SigningKey.generate(KeyUse.EVENTS)
    data = canonicalize({"schema": "bench", "text": "x" * 400})
    started = time.perf_counter()
    for _ in range(count):
        key.public.verify(key.sign(data), data)
    return (time.perf_counter() - started) * 1000
