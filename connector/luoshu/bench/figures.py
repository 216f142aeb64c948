"""What a benchmark reports."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Report: TypeAlias = dict[str, Json]


@dataclass(slots=True)
class Figures:
    """Collects the figures of one benchmark."""

    name: str
    figures: list[Json] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        baseline: float | None = None,
        baseline_of: str | None = None,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Adds a figure.

        Args:
            name: What was measured.
            value: As measured.
            unit: Of `value`, of the baseline and of the target.
            baseline: The same without this program, in the same run.
            baseline_of: What the baseline is.
            at_most: Target, where less is better.
            at_least: Target, where more is better.
        """
        figure: dict[str, Json] = {"name": name, "value": _short(value), "unit": unit}
        if baseline is not None:
            figure |= {"baseline": _short(baseline), "baseline_of": baseline_of}
        if at_most is not None:
            figure |= {"target": at_most, "met": value <= at_most}
        if at_least is not None:
            figure |= {"target": at_least, "met": value >= at_least}
        self.figures.append(figure)

    def report(self) -> Report:
        """The report."""
        return {"bench": self.name, "machine": machine(), "figures": self.figures}


def machine() -> dict[str, Json]:
    """What the figures were measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "processor": _processor(),
        "python": platform.python_version(),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values don't exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
