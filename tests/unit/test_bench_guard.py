"""The parts of `luoshu bench guard` that decide what its figures mean."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from luoshu.bench import MissingProgramError, guard, tpch_data
from luoshu.bench.figures import Figures
from luoshu.cli.main import app


def _measured(plain: float, verify: float, compute: float, values: int) -> guard._Measured:
    run = {"start": 1000.0, "verify": verify, "compute": compute}
    return guard._Measured(plain, 2048, [run] * 3, 3072, values)


def _figures(measured: dict[str, guard._Measured]) -> dict[str, dict[str, object]]:
    figures = Figures("guard")
    guard._report(figures, measured)
    report = cast("list[dict[str, object]]", figures.figures)
    return {str(figure["name"]): figure for figure in report}


def test_start_of_workers_is_no_work() -> None:
    assert _measured(10, 5, 15, 1).work == 20


def test_means_are_over_queries_that_release() -> None:
    found = _figures(
        {
            "q01": _measured(10, 5, 35, 4),
            "q02": _measured(10, 5, 5, 1),
            "q03": _measured(10, 15, 985, 0),
            "q04": guard._Measured(10, 2048),  # denied
        }
    )
    mean = found["guarded over plain, geometric mean"]
    assert (mean["value"], mean["met"]) == (2.0, True)  # of 4 and 1
    assert found["guarded over plain, single scan q01"]["met"] is True
    assert found["queries that release values"]["value"] == 2
    assert found["q03, releases nothing"]["value"] == 1000
    assert "q04" not in " ".join(found)
    # But a slow check is one, whatever is released.
    assert found["phase verify, slowest query (q03)"]["value"] == 15
    assert found["peak memory, largest query"]["baseline"] == 2
    assert found["phase start, median"]["value"] == 1000


def test_memory_of_workers_only() -> None:
    with guard._PeakMemory() as memory:
        memory.reset()
    assert memory.peak() == 0  # this process is no worker


def test_missing_generator_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingProgramError, match="pip install tpchgen-cli"):
        tpch_data.write_tpch(tmp_path / "data", 0.01)
    result = CliRunner().invoke(app, ["bench", "guard", "--quick"])
    assert result.exit_code == 2
    assert "tpchgen-cli" in result.output


def test_data_is_made_once(tmp_path: Path) -> None:
    product = tpch_data.write_tpch(tmp_path, 0.001)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert len(before) == len(tpch_data.TABLES)
    assert tpch_data.write_tpch(tmp_path, 0.001) == product
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
