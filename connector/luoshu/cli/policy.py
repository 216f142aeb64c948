"""`luoshu policy`: the rules that decide each use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from luoshu.cli.exits import DENIED, FAILED
from luoshu.cli.output import JsonOption, print_fields, print_result

app = typer.Typer(no_args_is_help=True, help="Show the policy; run a decision again.")


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the shipped policy: its digest, which decisions name, and its Rego source."""
    from importlib.resources import files

    from luoshu.policies.bundle import load_bundle

    bundle = load_bundle("use")
    source = files("luoshu.policies").joinpath("rego", "use.rego").read_text(encoding="utf-8")
    facts = {
        "policy": bundle.name,
        "policy_digest": bundle.digest,
        "entry_point": bundle.entry_point,
        "opa_version": bundle.opa_version,
    }

    def text() -> None:
        print_fields(facts)
        typer.echo(f"\n{source}", nl=False)

    print_result({**facts, "source": source}, as_json, text)


@app.command()
def decide(
    input_file: Annotated[
        str,
        typer.Option(
            "--input",
            help="Decision input, or a logged decision that holds one, JSON; `-` reads standard "
            "input.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Decide on an input, or replay a logged decision.

    Exit code 3 if the policy denies the input; for a logged decision, 0 if deciding again gives
    the same and 4 if it doesn't.
    """
    from luoshu.contracts.canonical import parse_object
    from luoshu.policies import load_default_engine, replay

    data = sys.stdin.buffer.read() if input_file == "-" else Path(input_file).read_bytes()
    document = parse_object(data)
    engine = load_default_engine()
    record = document if "input_digest" in document else None
    replayed = replay(engine, record) if record is not None else None
    decision_input = document if record is None else record.get("input")
    decision = engine.decide(decision_input if isinstance(decision_input, dict) else {})
    facts = {
        "allow": decision.allow,
        "reasons": [{"rule": r.rule, "message": r.message} for r in decision.reasons],
        "policy_digest": decision.policy_digest,
        "input_digest": decision.input_digest,
        "replayed": replayed,
    }

    def text() -> None:
        typer.echo("allowed" if decision.allow else "denied")
        for reason in decision.reasons:
            typer.echo(f"  {reason.rule}: {reason.message}")
        typer.echo(f"policy {decision.policy_digest}\ninput  {decision.input_digest}")
        if replayed is not None:
            typer.echo(
                "The logged decision is the same." if replayed else "The logged decision DIFFERS."
            )

    print_result(facts, as_json, text)
    if replayed is None and not decision.allow:
        raise typer.Exit(DENIED)
    if replayed is False:
        raise typer.Exit(FAILED)
