"""`luoshu sandbox`: a holder's dry run, without a node."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luoshu.cli.exits import DENIED, FAILED, OK, UsageError
from luoshu.cli.output import JsonOption, note, print_json, print_table, progress

if TYPE_CHECKING:
    from luoshu.contracts.canonical import JsonObject, JsonValue

app = typer.Typer(no_args_is_help=True, help="Try a product and a query locally, without a node.")

_EXIT = {"released": OK, "denied": DENIED, "failed": FAILED}


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
        typer.Option("--sql-file", help="One statement a line; prints one JSON object a line."),
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="Keep the release history between runs here.")
    ] = None,
    viewer: Annotated[
        Viewer,
        typer.Option(
            "--as", help="Print what the holder sees, or exactly what an analyst would get."
        ),
    ] = Viewer.HOLDER,
    as_json: JsonOption = False,
) -> None:
    """Run a query as a contract would: guard, isolation, release. Exit code 3 if denied."""
    statements = _statements(sql, sql_file)
    from luoshu.sandbox.dry_run import dry_run

    as_lines = sql_file is not None
    with progress("sandbox") as show:
        show("computing")
        answers: Iterator[JsonObject] = dry_run(
            product, statements, as_analyst=viewer is Viewer.ANALYST, history=history
        )
        code = OK
        for answer in answers:
            code = max(code, _EXIT.get(str(answer["status"]), FAILED))
            if as_json or as_lines:
                print_json(answer)
            else:
                _print(answer)
    if code:
        raise typer.Exit(code)


def _statements(sql: str | None, sql_file: Path | None) -> Sequence[str]:
    if (sql is None) == (sql_file is None):
        raise UsageError("Give the statement by --sql or a file of statements by --sql-file.")
    if sql_file is not None:
        lines = sql_file.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.strip()]
    return [sys.stdin.read() if sql == "-" else str(sql)]


def _print(answer: JsonObject) -> None:
    if answer["status"] != "released":
        note(f"{answer['status']}: {answer['code']}: {answer['message']}")
        return
    columns, rows = answer.get("columns"), answer.get("rows")
    print_table(
        [str(c["name"] if isinstance(c, dict) else c) for c in _list(columns)],
        [_list(row) for row in _list(rows)],
        "No group reached the release threshold.",
    )
    if answer.get("withheld_groups"):
        note(f"{answer['withheld_groups']} groups withheld (only the holder sees this).")


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
