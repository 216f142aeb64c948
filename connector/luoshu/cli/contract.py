"""`luoshu contract`: negotiate, agree, govern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.exits import DENIED, UsageError
from luoshu.cli.inputs import assignments, moment
from luoshu.cli.output import (
    JsonOption,
    note,
    print_fields,
    print_result,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from luoshu.sdk.contract import Contract

app = typer.Typer(no_args_is_help=True, help="Negotiate contracts; suspend, resume or revoke them.")

_Id = Annotated[str, typer.Argument(help="Contract id, see `luoshu contract list`.")]
_Reason = Annotated[str, typer.Option(help="Why; the other party reads it.")]
_Purposes = Annotated[list[str] | None, typer.Option("--purpose", help="What for; repeatable.")]
_Uses = Annotated[int | None, typer.Option(min=1, help="How many computations.")]
_From = Annotated[str | None, typer.Option("--from", help="Not before, e.g. 2026-01-31.")]
_Until = Annotated[str | None, typer.Option("--until", help="Not after, e.g. 2026-12-31.")]
_Regions = Annotated[
    list[str] | None, typer.Option("--region", help="Where it may be used; repeatable.")
]
_MinUnits = Annotated[
    int | None, typer.Option("--min-units", min=1, help="Distinct units a group needs.")
]
_Release = Annotated[
    list[str] | None,
    typer.Option(
        "--release",
        help="A stricter release rule, as jitter=4, dominance=0.8, scope=product or debits=8; "
        "repeatable.",
    ),
]


@app.command()
def request(
    product: Annotated[str, typer.Argument(help="Product id, see `luoshu catalog search`.")],
    offer: Annotated[
        str | None, typer.Option(help="Offer id; needed if there are several.")
    ] = None,
    purpose: _Purposes = None,
    uses: _Uses = None,
    not_before: _From = None,
    until: _Until = None,
    region: _Regions = None,
    min_units: _MinUnits = None,
    release: _Release = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the answer.")] = 30,
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Ask a holder for a contract. What isn't given is taken from the offer.

    The holder agrees, makes a counter-offer (`luoshu contract accept` takes it), refuses (exit
    code 3), or answers by hand later.
    """
    begin, end = moment("--from", not_before), moment("--until", until, end=True)
    with open_space(profile) as space, progress("negotiating"):
        contract = space.negotiate(
            product,
            offer,
            purpose=purpose,
            uses=uses,
            not_before=begin,
            not_after=end,
            regions=region,
            min_units=min_units,
            release=_rules(release),
            wait=wait,
        )
    _show(contract, as_json)
    if contract.state == "TERMINATED":
        note("The holder refused. Ask again with terms that its offer allows.")
        raise typer.Exit(DENIED)


@app.command("list")
def list_contracts(
    state: Annotated[
        str, typer.Option(help="Keep only contracts in this state, e.g. ACTIVE, OFFERED.")
    ] = "",
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """List this node's contracts, newest first."""
    with open_space(profile) as space:
        contracts = space.contracts(state=state.upper())
    rows = [
        {
            "id": c.contract_id,
            "state": c.agreement_state or c.negotiation_state,
            "product": c.product_id,
            "provider": c.provider,
            "consumer": c.consumer,
            "uses": c.uses,
            "reason": c.reason,
        }
        for c in contracts
    ]
    print_result(
        rows,
        as_json,
        lambda: print_table(
            ("contract", "state", "product", "consumer", "uses"),
            [(r["id"], r["state"], r["product"], r["consumer"], r["uses"]) for r in rows],
            "No contracts. `luoshu contract request` asks for one.",
        ),
    )


@app.command()
def show(contract: _Id, as_json: JsonOption = False, profile: ProfileOption = None) -> None:
    """Show a contract, folded here from its signed events."""
    with open_space(profile) as space:
        _show(space.contract(contract), as_json)


@app.command()
def accept(contract: _Id, as_json: JsonOption = False, profile: ProfileOption = None) -> None:
    """Consumer: take the holder's counter-offer."""
    _act(contract, lambda c: c.accept(), as_json, profile)


@app.command()
def approve(contract: _Id, as_json: JsonOption = False, profile: ProfileOption = None) -> None:
    """Holder: agree to what is asked.

    For offers that are answered by hand.
    """
    _act(contract, lambda c: c.approve(), as_json, profile)


@app.command()
def counter(
    contract: _Id,
    purpose: _Purposes = None,
    uses: _Uses = None,
    not_before: _From = None,
    until: _Until = None,
    region: _Regions = None,
    min_units: _MinUnits = None,
    release: _Release = None,
    reason: _Reason = "",
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Either: propose other terms. What isn't given stays as it is on the table."""
    if all(v is None for v in (purpose, uses, not_before, until, region, min_units, release)):
        raise UsageError("Say which terms to change, for instance --uses 5.")
    begin, end = moment("--from", not_before), moment("--until", until, end=True)
    _act(
        contract,
        lambda c: c.counter(
            purpose=purpose,
            uses=uses,
            not_before=begin,
            not_after=end,
            regions=region,
            min_units=min_units,
            release=_rules(release),
            reason=reason,
        ),
        as_json,
        profile,
    )


@app.command()
def refuse(
    contract: _Id, reason: _Reason, as_json: JsonOption = False, profile: ProfileOption = None
) -> None:
    """Either: end the negotiation."""
    _act(contract, lambda c: c.refuse(reason), as_json, profile)


@app.command()
def suspend(
    contract: _Id, reason: _Reason, as_json: JsonOption = False, profile: ProfileOption = None
) -> None:
    """Holder: stop uses for now."""
    _act(contract, lambda c: c.suspend(reason), as_json, profile)


@app.command()
def resume(
    contract: _Id, reason: _Reason = "", as_json: JsonOption = False, profile: ProfileOption = None
) -> None:
    """Holder: allow uses again."""
    _act(contract, lambda c: c.resume(reason), as_json, profile)


@app.command()
def revoke(
    contract: _Id, reason: _Reason, as_json: JsonOption = False, profile: ProfileOption = None
) -> None:
    """Holder: end the agreement for good."""
    _act(contract, lambda c: c.revoke(reason), as_json, profile)


@app.command()
def end(
    contract: _Id, reason: _Reason = "", as_json: JsonOption = False, profile: ProfileOption = None
) -> None:
    """Either: end the agreement before its time."""
    _act(contract, lambda c: c.end(reason), as_json, profile)


def _rules(items: list[str] | None) -> dict[str, str] | None:
    """Release rules that were given; the last one of a name counts."""
    return {name: values[-1] for name, values in assignments("--release", items or ()).items()} or (
        None
    )


def _act(
    contract_id: str,
    step: Callable[[Contract], Contract],
    as_json: bool,
    profile: ProfileOption,
) -> None:
    with open_space(profile) as space:
        _show(step(space.contract(contract_id)), as_json)


def _show(contract: Contract, as_json: bool) -> None:
    print_result(contract.summary(), as_json, lambda: _print(contract))


def _print(contract: Contract) -> None:
    summary = contract.summary()
    terms = summary.pop("terms")
    print_fields(summary)
    typer.echo("\nTerms")
    print_fields(terms if isinstance(terms, dict) else {})
