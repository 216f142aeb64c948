"""Printing: results on standard output, everything else on standard error.

With `--json`, standard output holds one JSON value and nothing else.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]


def print_json(value: object) -> None:
    """Prints one JSON value on one line of standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def print_result(value: object, as_json: bool, text: Callable[[], None]) -> None:
    """Prints `value` as JSON, or calls `text` to print it for people."""
    if as_json:
        print_json(value)
    else:
        text()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Prints an aligned table, nothing wrapped or cut; `empty` if there are no rows."""
    from rich.cells import cell_len

    lines = [tuple(_one_line(cell) for cell in row) for row in rows]
    if not lines:
        typer.echo(empty)
        return
    lines.insert(0, tuple(headers))
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)
        )
        typer.echo("  ".join(padded).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """Prints `name: value` lines, aligned; empty values are left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", (), [])}
    width = max(map(len, shown), default=0) + 1
    for name, value in shown.items():
        typer.echo(f"{name + ':':<{width}} {value}")


def note(message: str) -> None:
    """Says something beside the result, on standard error."""
    typer.echo(message, err=True)


@contextmanager
def progress(label: str) -> Iterator[Callable[[str], None]]:
    """Shows a spinner on a terminal, and nothing elsewhere.

    Yields:
        A function that takes what is being done now.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(label)) as status:
        yield lambda phase: status.update(f"{escape(label)}: {escape(phase)}")


def _one_line(cell: object) -> str:
    return "" if cell is None else " ".join(str(cell).split("\n"))


def _plain(value: object) -> object:
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        # A number if a double shows all its digits, else text; as `luoshu sandbox run` does.
        number = float(value)
        return number if Decimal(repr(number)) == value else str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
