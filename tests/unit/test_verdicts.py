"""`luoshu sandbox run --verdicts`: reading many queries, and one line for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luoshu.cli.exits import UsageError
from luoshu.cli.verdicts import print_verdicts, read_statements, verdicts

RELEASED = {
    "status": "released",
    "code": "RELEASED",
    "message": "Results cover released groups only.",
    "rows": [["a", 1], ["b", None]],
    "withheld_groups": 2,
    "withheld_values": 1,
    "timings_ms": {"start": 100.04, "compute": 10.0},
}
NOTHING = {**RELEASED, "rows": [[None]]}
DENIED = {"status": "denied", "code": "GUARD_UNIT", "message": "No.", "rows": []}
FAILED = {"status": "failed", "code": "QUERY_FAILED", "message": "It failed.", "rows": []}


def test_statements_of_a_folder_are_named_by_file(tmp_path: Path) -> None:
    (tmp_path / "b.sql").write_text("SELECT 2\n  AS two", encoding="utf-8")
    (tmp_path / "a.sql").write_text("SELECT 1;", encoding="utf-8")
    (tmp_path / "notes.md").write_text("no", encoding="utf-8")
    assert list(read_statements(tmp_path).items()) == [
        ("a", "SELECT 1;"),
        ("b", "SELECT 2\n  AS two"),
    ]


def test_statements_of_a_file_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "all.sql"
    path.write_text("SELECT 1\n\nSELECT '\u2028'\n", encoding="utf-8")
    assert read_statements(path) == {"1": "SELECT 1", "3": "SELECT '\u2028'"}


def test_what_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "latin.sql").write_bytes(b"SELECT '\xe9'")
    for path in (tmp_path, tmp_path / "latin.sql", tmp_path / "none.sql"):
        with pytest.raises(UsageError, match="can't be read"):
            read_statements(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no file whose name ends in \.sql"):
        read_statements(tmp_path / "empty")


def test_table_tells_released_from_nothing_released(capsys: pytest.CaptureFixture[str]) -> None:
    found = verdicts("wxyz", [RELEASED, NOTHING, DENIED, FAILED])
    assert print_verdicts(found, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["w", "released", "2", "2", "110.0"]
    assert lines[2][:5] == ["x", "nothing", "released", "1", "2"]
    assert lines[3] == ["y", "denied", "GUARD_UNIT:", "No."]
    assert lines[4] == ["z", "failed", "QUERY_FAILED:", "It", "failed."]


def test_json_lines_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert not print_verdicts(verdicts("wy", [RELEASED, DENIED]), as_json=True)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["name"], first["rows"], first["values"], first["ms"]) == ("w", 2, 3, 110.0)
    assert (second["status"], second["withheld_groups"], second["ms"]) == ("denied", None, None)
