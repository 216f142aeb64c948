"""Benchmarks: `luoshu bench NAME`. Each figure stands beside a baseline of the same run.

They report and never gate: a target that isn't met is said, in the report and
in docs/benchmarks.md, and the exit code stays 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast

from luoshu.bench.figures import Report


class MissingProgramError(Exception):
    """A benchmark needs a program that isn't installed; says which, and how to get it."""


class Benchmark(Protocol):
    """Measures, and returns the report."""

    def __call__(self, *, quick: bool) -> Report:
        """Runs the benchmark; `quick` makes fewer runs, for a first look."""
        ...


class _Lazy:
    """A benchmark whose module is imported when it runs."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *, quick: bool) -> Report:
        module = import_module(f"luoshu.bench.{self._name}")
        return cast("Benchmark", module.run)(quick=quick)


_NAMES = ("query", "publish", "search", "negotiate", "guard", "isolation")
benchmarks: Mapping[str, Benchmark] = MappingProxyType({name: _Lazy(name) for name in _NAMES})
"""Name to benchmark."""
