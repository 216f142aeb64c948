"""Faults that an attack on `luoshu sandbox run` found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_world import write_product

pytestmark = pytest.mark.system

RUN = [sys.executable, "-c", "from luoshu.cli.main import main; main()", "sandbox", "run"]


def test_terminated_run_leaves_no_prepared_data(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    product = write_product(tmp_path)
    statements = tmp_path / "many.sql"
    statements.write_text("SELECT count(*) FROM visits\n" * 100)
    process = subprocess.Popen(
        [*RUN, "--product", str(product), "--sql-file", str(statements)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()  # the first answer: the data is prepared, more is to come
        assert list(temporary.glob("luoshu-dry-run-*/*/prepared.duckdb"))
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        assert process.wait(30) == 128 + signal.SIGTERM
        assert list(temporary.iterdir()) == []
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("content", [b"SELECT \xff\n", None], ids=["not UTF-8", "missing"])
def test_statements_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "statements.sql"
    if content is not None:
        path.write_bytes(content)
    run = subprocess.run(
        [*RUN, "--product", "none.yaml", "--sql-file", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "can't be read" in run.stderr
    assert "Traceback" not in run.stderr
