"""`luoshu evidence`: check what was kept as proof, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.output import JsonOption, print_fields, print_result

app = typer.Typer(no_args_is_help=True, help="Check saved receipts offline.")


@app.callback()
def group() -> None:
    """Check saved receipts offline."""


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="File that `luoshu query --receipt` saved.")],
    trust: Annotated[
        Path, typer.Option(help="The space's trust anchor: space.json, or a profile directory.")
    ],
    result: Annotated[
        Path | None,
        typer.Option(help="The result as Arrow IPC; checked against the receipt's digest."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a saved receipt. Exit code 0 only if all of it holds.

    Bundles of a whole contract's evidence are not there yet: this takes one receipt file.
    """
    from luoshu.sdk import verify_receipt_file

    verified = verify_receipt_file(receipt, trust, result=result)
    print_result(verified.summary(), as_json, lambda: print_fields(verified.summary()))
