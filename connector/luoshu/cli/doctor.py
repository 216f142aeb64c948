"""`luoshu doctor`: what is missing here, and the exact remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.exits import FAILED
from luoshu.cli.output import JsonOption, print_json


def doctor(
    node: Annotated[
        Path | None, typer.Option("--node", help="Also check this node directory.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a node or a sandbox lacks on this machine, with the remedy."""
    from luoshu.connector.doctor import examine

    findings = examine(node)
    healthy = all(finding.ok for finding in findings)
    if as_json:
        print_json(
            {
                "ok": healthy,
                "findings": [
                    {
                        "check": f.check,
                        "ok": f.ok,
                        "level": f.level,
                        "detail": f.detail,
                        "remedy": f.remedy,
                    }
                    for f in findings
                ],
            }
        )
    else:
        for finding in findings:
            typer.echo(f"{finding.level:<8}{finding.check}: {finding.detail}")
            if finding.remedy:
                typer.echo(f"        {finding.remedy}")
    if not healthy:
        raise typer.Exit(FAILED)
