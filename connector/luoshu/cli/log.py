"""`luoshu log`: the usage log, online and offline."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.exits import FAILED
from luoshu.cli.output import JsonOption, print_fields, print_json, print_result, print_table

app = typer.Typer(no_args_is_help=True, help="Read the usage log; verify it offline.")


@app.command()
def checkpoint(as_json: JsonOption = False, profile: ProfileOption = None) -> None:
    """Show the newest checkpoint of the node's log; its signature is verified."""
    with open_space(profile) as space:
        note = space.log.signed_checkpoint()
    origin, size, root = note.split("\n")[:3]
    facts = {
        "origin": origin,
        "size": int(size),
        "root": base64.b64decode(root).hex(),
        "checkpoint": note,
    }
    # The text is the signed note itself, so that it can be kept as it is.
    print_result(facts, as_json, lambda: typer.echo(note, nl=False))


@app.command()
def entries(
    contract: Annotated[str, typer.Option(help="Only entries of this contract.")] = "",
    kind: Annotated[str, typer.Option(help="Only this kind, e.g. decision, release.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """List entries of the node's log, newest first. Needs the role admin or auditor."""
    with open_space(profile) as space:
        found = list(space.log.entries(contract_id=contract, kind=kind, limit=limit))
    print_result(
        [
            {"index": e.index, "kind": e.kind, "time": e.time, "contract_id": e.contract_id}
            for e in found
        ],
        as_json,
        lambda: print_table(
            ("index", "time", "kind", "contract"),
            [(e.index, e.time, e.kind, e.contract_id) for e in found],
            "No entries.",
        ),
    )


@app.command()
def show(
    index: Annotated[int, typer.Argument(min=0, help="As `luoshu log entries` lists it.")],
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Show one entry, after its inclusion in the log has been verified."""
    with open_space(profile) as space:
        receipt = space.log.receipt(index)
    if as_json:
        print_json(receipt.to_payload())
        return
    body = receipt.body.to_payload()
    data = body.pop("data")
    print_fields({"index": receipt.index, **body})
    typer.echo("data:")
    print_json(data)


@app.command()
def verify(
    log: Annotated[str, typer.Argument(help="Log directory, node directory, or URL of a log.")],
    trust: Annotated[
        Path | None, typer.Option(help="The space's trust anchor; default: the node's own.")
    ] = None,
    credential: Annotated[
        Path | None,
        typer.Option(help="The log's membership credential; default: the node's own."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a whole log offline: tiles, entries, signatures. Exit code 0 only if all holds."""
    from luoshu.cli.log_sources import open_log

    report = open_log(log, trust, credential)
    if as_json:
        print_json(report)
    raise typer.Exit(FAILED)
