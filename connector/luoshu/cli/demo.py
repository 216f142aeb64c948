"""`luoshu demo`: the whole story on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.exits import FAILED
from luoshu.cli.output import JsonOption, print_json


def demo(
    keep: Annotated[
        Path | None,
        typer.Option(help="Leave the nodes' directories here, to go on by hand."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Five nodes, three products, real contracts and queries on loopback; ends with proofs.

    Exit code 0 only if every step, refusals included, went as told.
    """
    from rich.console import Console

    from luoshu.examples.lung.demo import run_demo

    story = run_demo(keep=keep, console=Console(quiet=as_json))
    if as_json:
        print_json(story.to_json())
    if not story.holds:
        raise typer.Exit(FAILED)
