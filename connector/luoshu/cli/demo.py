"""`luoshu demo`: the whole story on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.exits import FAILED, UsageError
from luoshu.cli.output import JsonOption, print_json, progress


def demo(
    keep: Annotated[
        Path | None,
        typer.Option(help="Leave the nodes' directories in this new one, to go on by hand."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Five nodes, three products, real contracts and queries on loopback; ends with proofs.

    Exit code 0 only if every step, refusals included, went as told.
    """
    if keep is not None and keep.exists():
        raise UsageError(f"{keep} is there already; name a directory that the demo may make.")
    from rich.console import Console

    from luoshu.examples.lung.demo import run_demo

    if as_json:
        with progress("demo"):
            story = run_demo(keep=keep, console=Console(quiet=True))
        print_json(story.to_json())
    else:
        story = run_demo(keep=keep, console=Console())
    if not story.holds:
        raise typer.Exit(FAILED)
