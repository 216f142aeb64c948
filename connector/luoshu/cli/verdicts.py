"""A table of verdicts: what the sandbox says to each of many queries.

For a holder who wants to know which of the queries that analysts ask would be
answered: TPC-H, ClickBench, or an own folder of `.sql` files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from luoshu.cli.exits import UsageError
from luoshu.cli.output import print_json, print_table

Verdict: TypeAlias = "dict[str, str | int | float | None]"
_SHOWN = 90


def read_statements(path: Path) -> dict[str, str]:
    """Reads named statements.

    Args:
        path: A folder of `.sql` files with one statement each, named by the file; or a file with
            one statement a line, named by the line's number.

    Raises:
        UsageError: It can't be read, isn't UTF-8, or has no statement.
    """
    try:
        if path.is_dir():
            files = sorted(path.glob("*.sql"))
            found = {file.stem: file.read_text(encoding="utf-8") for file in files}
        else:
            # Lines end where other programs end them, not at any separator that Unicode has.
            lines = path.read_text(encoding="utf-8").split("\n")
            found = {str(n): line for n, line in enumerate(lines, 1) if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{path} can't be read: {why}.") from None
    if path.is_dir() and not found:
        raise UsageError(f"{path} has no file whose name ends in .sql.")
    return found


def verdicts(names: Iterable[str], answers: Iterable[Mapping[str, object]]) -> Iterator[Verdict]:
    """One verdict for each answer of a dry run, as it comes."""
    for name, answer in zip(names, answers, strict=False):
        yield _verdict(name, answer)


def _verdict(name: str, answer: Mapping[str, object]) -> Verdict:
    rows = answer.get("rows")
    cells = [cell for row in rows for cell in row] if isinstance(rows, list) else []
    timings = answer.get("timings_ms")
    spent = timings.values() if isinstance(timings, dict) else ()
    return {
        "name": name,
        "status": str(answer["status"]),
        "code": str(answer["code"]),
        "rows": len(rows) if isinstance(rows, list) else 0,
        "values": sum(cell is not None for cell in cells),
        "withheld_groups": _count(answer.get("withheld_groups")),
        "withheld_values": _count(answer.get("withheld_values")),
        "ms": round(sum(spent), 1) if timings else None,
        "message": str(answer["message"]),
    }


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def print_verdicts(found: Iterable[Verdict], *, as_json: bool) -> bool:
    """Prints verdicts, as JSON lines as they come or as one table; returns whether any failed."""
    failed = False
    shown: list[list[object]] = []
    for verdict in found:
        failed = failed or verdict["status"] == "failed"
        if as_json:
            print_json(verdict)
            continue
        is_released = verdict["status"] == "released"
        says = "" if is_released else f"{verdict['code']}: {verdict['message']}"
        shown.append(
            [
                verdict["name"],
                _word(verdict),
                verdict["rows"] if is_released else None,
                verdict["withheld_groups"] if is_released else None,
                verdict["ms"],
                says if len(says) <= _SHOWN else f"{says[: _SHOWN - 1]}…",
            ]
        )
    if not as_json:
        headers = ("query", "verdict", "rows", "withheld", "ms", "why")
        print_table(headers, shown, "No queries.")
    return failed


def _word(verdict: Verdict) -> str:
    if verdict["status"] != "released":
        return str(verdict["status"])
    return "released" if verdict["values"] else "nothing released"
