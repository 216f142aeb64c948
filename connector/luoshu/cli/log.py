"""`luoshu log`: the usage log, online and offline."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.exits import FAILED, UsageError
from luoshu.cli.output import (
    JsonOption,
    print_fields,
    print_json,
    print_result,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from luoshu.contracts.log.verify import LogKeys, LogReport

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
    log: Annotated[str, typer.Argument(help="Node directory, log directory, or URL of a log.")],
    key: Annotated[
        str | None, typer.Option(help="The log's verifier key, `name+hash+base64`.")
    ] = None,
    credential: Annotated[
        Path | None, typer.Option(help="Or the membership credential of the log's node.")
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(help="Trust anchor for the credential: space.json, or a profile directory."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a whole log offline: tiles, entries, bodies. Exit code 0 only if all holds.

    Of a node directory the node's own credential is used; that shows that the log is
    consistent. To know whose it is, give a key or a trust anchor that you got elsewhere.
    """
    from luoshu.contracts.log.verify import verify_log_directory, verify_log_url

    is_url = "://" in log
    if not is_url and not Path(log).is_dir():
        raise UsageError(f"{log} is no directory; name a log, a node directory, or a URL.")
    keys = _keys(key, credential, trust, None if is_url else Path(log))
    with progress("verifying"):
        report = verify_log_url(log, keys) if is_url else verify_log_directory(Path(log), keys)
    print_result(report.to_payload(), as_json, lambda: _print_report(report))
    if not report.ok:
        raise typer.Exit(FAILED)


def _keys(
    key: str | None, credential: Path | None, trust: Path | None, directory: Path | None
) -> LogKeys | None:
    from luoshu.contracts.envelope import Envelope
    from luoshu.contracts.log.verify import LogKeys
    from luoshu.sdk.receipts import load_trust

    if key is not None:
        if credential is not None or trust is not None:
            raise UsageError("Give --key, or --trust with --credential, not both.")
        return LogKeys.of_verifier_key(key)
    if credential is None and trust is None:
        return None
    if trust is None:
        raise UsageError("A credential proves nothing without --trust.")
    if credential is None:
        if directory is None:
            raise UsageError("Give the --credential of the log's node, too.")
        home = directory if (directory / "log").is_dir() else directory.parent
        credential = home / "credentials" / "membership.json"
    envelope = Envelope.from_bytes(credential.read_bytes())
    return LogKeys.of_credential(load_trust(trust), envelope, f"{credential}, by {trust}")


def _print_report(report: LogReport) -> None:
    checks = ", ".join(f"{count} {what}" for what, count in report.checks.items())
    print_fields(
        {
            "log": report.location,
            "origin": report.origin,
            "size": report.size,
            "root": report.root,
            "keys": report.key_source,
            "checked": checks,
        }
    )
    for each in report.notes:
        typer.echo(f"note: {each}")
    for problem in report.problems:
        typer.echo(f"FAILS {problem}")
    typer.echo("All holds." if report.ok else "The log does not verify.")
