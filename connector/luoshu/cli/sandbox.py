"""`luoshu sandbox`: a holder's dry run, without a node."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.exits import UsageError
from luoshu.cli.output import JsonOption, note, print_json, print_table, progress
from luoshu.cli.verdicts import print_verdicts, read_statements, verdicts

app = typer.Typer(no_args_is_help=True, help="Try a product and a query locally, without a node.")


class Viewer(StrEnum):
    """Whose answer is printed."""

    HOLDER = "holder"
    ANALYST = "analyst"


@app.callback()
def group() -> None:
    """Try a product and a query locally, without a node."""


@app.command()
def run(
    product: Annotated[
        list[Path],
        typer.Option("--product", help="Product file; repeatable, each a table named by its id."),
    ],
    sql: Annotated[
        str | None, typer.Option("--sql", help="One SELECT statement; `-` reads standard input.")
    ] = None,
    sql_file: Annotated[
        Path | None,
        typer.Option(
            "--sql-file",
            help="One statement a line, or a folder of .sql files; prints one JSON object a line.",
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A value for $name in the SQL, as name=value or name:type=value; repeatable.",
        ),
    ] = None,
    as_verdicts: Annotated[
        bool, typer.Option("--verdicts", help="Only a table: what was released, what denied, why.")
    ] = False,
    history: Annotated[
        Path | None, typer.Option(help="Keep the release history between runs here.")
    ] = None,
    viewer: Annotated[
        Viewer,
        typer.Option(
            "--as", help="Print what the holder sees, or exactly what an analyst would get."
        ),
    ] = Viewer.HOLDER,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what was withheld and why, for the holder.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a query as a contract would: guard, isolation, release. Exit code 3 if denied."""
    statements = _statements(sql, sql_file)
    if explain and viewer is Viewer.ANALYST:
        raise UsageError("--explain is for the holder's eyes; leave it out with --as analyst.")
    if as_verdicts and viewer is Viewer.ANALYST:
        raise UsageError("--verdicts is for the holder; leave out `--as analyst`.")
    # Stopped like this, a program leaves its files behind: here, copies of protected data.
    signal.signal(signal.SIGTERM, _terminated)
    from luoshu.cli.template_values import template_values
    from luoshu.sandbox.dry_run import EXIT_CODES, FAILED, HistoryError, dry_run
    from luoshu.sandbox.errors import ProductFileError, SandboxError

    parameters = template_values(values or [], statements)
    wants_json = as_json
    as_json = as_json or sql_file is not None
    worst = 0
    try:
        answers = dry_run(
            product,
            statements.values(),
            parameters=parameters,
            as_analyst=viewer is Viewer.ANALYST,
            explain=explain,
            history=history,
        )
        if as_verdicts:
            with progress("sandbox"):
                failed = print_verdicts(verdicts(statements, answers), as_json=wants_json)
            raise typer.Exit(EXIT_CODES[FAILED] if failed else 0)
        while True:
            # The spinner ends before an answer is printed: both may be on one terminal.
            with progress("sandbox"):
                answer = next(answers, None)
            if answer is None:
                break
            worst = max(worst, EXIT_CODES[str(answer["status"])])
            if as_json:
                print_json(answer)
            else:
                _print(answer)
    except (ProductFileError, HistoryError) as error:
        raise UsageError(error.message) from error
    except SandboxError as error:
        if not as_json:
            raise
        # Nothing ran, and a program that reads JSON is still told why.
        worst = EXIT_CODES[FAILED]
        told = {"status": FAILED, "code": error.code, "message": error.message}
        print_json({**told, "columns": [], "rows": []})
    if worst:
        raise typer.Exit(worst)


def _terminated(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _statements(sql: str | None, sql_file: Path | None) -> Mapping[str, str]:
    if (sql is None) == (sql_file is None):
        raise UsageError("Give the statement by --sql or a file of statements by --sql-file.")
    if sql_file is not None:
        return read_statements(sql_file)
    return {"1": sys.stdin.read() if sql == "-" else str(sql)}


def _print(answer: Mapping[str, object]) -> None:
    if answer["status"] != "released":
        note(f"{answer['status']} ({answer['code']}): {answer['message']}")
        if answer.get("cause"):
            note(f"Cause, for the holder only: {answer['cause']}")
        return
    print_table(
        [str(column["name"]) for column in _list(answer["columns"]) if isinstance(column, dict)],
        [_list(row) for row in _list(answer["rows"])],
        "No group reached the release threshold.",
    )
    for what in ("group", "value"):
        if count := answer.get(f"withheld_{what}s"):
            some = f"{count} {what}{'' if count == 1 else 's'}"
            note(f"{some} withheld; only the holder sees this.")
    if withheld := [each for each in _list(answer.get("withheld")) if isinstance(each, dict)]:
        note("")
        print_table(
            ["withheld group", "value", "why"],
            [
                [_group(each["keys"]), each["component"] or "everything", each["why"]]
                for each in sorted(withheld, key=lambda each: _group(each["keys"]))
            ],
            "",
        )
    elif "withheld" in answer:
        note("Nothing was withheld.")
    elif answer.get("withheld_groups") or answer.get("withheld_values"):
        note("--explain says which, and why.")
    for each in _list(answer.get("notes")):
        note(f"note: {each}")


def _group(keys: object) -> str:
    return ", ".join("NULL" if key is None else str(key) for key in _list(keys)) or "all rows"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
