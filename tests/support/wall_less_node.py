"""The command `luoshu` on a machine whose bubblewrap can't isolate: it is there, and fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from luoshu.cli.main import main
from luoshu.sandbox import run
from luoshu.sandbox.isolation.bwrap import BwrapIsolation
from luoshu.sandbox.isolation.port import IsolationConfig


def without_wall(config: IsolationConfig) -> BwrapIsolation:
    """The adapter with a bubblewrap that always fails."""
    return BwrapIsolation(replace(config, bwrap=Path("/bin/false")))


if __name__ == "__main__":
    run.BwrapIsolation = without_wall  # type: ignore[attr-defined,assignment]
    main()
