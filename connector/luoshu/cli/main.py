"""The `luoshu` command and its story: set up, offer, agree, compute, prove, try.

Only typer and the modules of this package are imported here.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from luoshu.cli import (
    bench,
    catalog,
    contract,
    demo,
    doctor,
    evidence,
    log,
    node,
    policy,
    product,
    query,
    sandbox,
    space,
    user,
)
from luoshu.cli.exits import INTERRUPTED, StoryGroup

_SET_UP = "1. Set up a space, its nodes, their users"
_OFFER = "2. Holders publish, analysts find"
_AGREE = "3. Both sides agree; queries run under the contract"
_PROVE = "4. Prove what happened"
_TRY = "5. Try it on this machine"


class _Story(StoryGroup):
    story = (
        "space",
        "node",
        "user",
        "product",
        "catalog",
        "contract",
        "query",
        "policy",
        "log",
        "evidence",
        "sandbox",
        "doctor",
        "bench",
        "demo",
    )


app = typer.Typer(
    name="luoshu",
    cls=_Story,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    # Plain help: drawing boxes costs twice the time of everything else `--help` does.
    rich_markup_mode=None,
    help="Luoshu (洛书): data stays with its holder, signed contracts govern each use, only "
    "results leave.",
    epilog="Exit codes: 0 done, 2 wrong usage, 3 denied, 4 tried and failed, 130 interrupted, "
    "1 anything else. Every command that prints a result takes --json.",
)
app.add_typer(space.app, name="space", rich_help_panel=_SET_UP)
app.add_typer(node.app, name="node", rich_help_panel=_SET_UP)
app.add_typer(user.app, name="user", rich_help_panel=_SET_UP)
app.add_typer(product.app, name="product", rich_help_panel=_OFFER)
app.add_typer(catalog.app, name="catalog", rich_help_panel=_OFFER)
app.add_typer(contract.app, name="contract", rich_help_panel=_AGREE)
app.command("query", rich_help_panel=_AGREE)(query.query)
app.add_typer(policy.app, name="policy", rich_help_panel=_PROVE)
app.add_typer(log.app, name="log", rich_help_panel=_PROVE)
app.add_typer(evidence.app, name="evidence", rich_help_panel=_PROVE)
app.add_typer(sandbox.app, name="sandbox", rich_help_panel=_TRY)
app.command("doctor", rich_help_panel=_TRY)(doctor.doctor)
app.command("bench", rich_help_panel=_TRY)(bench.bench)
app.command("demo", rich_help_panel=_TRY)(demo.demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"luoshu {version('luoshu')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Holds the options that come before a command."""


def main() -> None:
    """Entry point of the console script."""
    try:
        app(prog_name="luoshu")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
