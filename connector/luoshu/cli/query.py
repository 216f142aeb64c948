"""`luoshu query`: ask a question under a contract."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luoshu.cli.connection import ProfileOption, open_space
from luoshu.cli.exits import UsageError
from luoshu.cli.inputs import assignments
from luoshu.cli.output import JsonOption, note, print_json, print_table, progress
from luoshu.contracts.release_notes import NOTES, ReleaseNote

if TYPE_CHECKING:
    from luoshu.sdk.explanation import Explanation
    from luoshu.sdk.result import Result


def query(
    contract: Annotated[str, typer.Argument(help="Contract id, see `luoshu contract list`.")],
    sql: Annotated[
        str | None, typer.Option("--sql", help="One SELECT statement; `-` reads standard input.")
    ] = None,
    sql_file: Annotated[
        Path | None, typer.Option("--sql-file", help="File that holds the statement.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="Instead of SQL: a template of the contract, see `luoshu contract show`."
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="A template's value, as name=value; repeatable."),
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="What it is for; may be left out if the contract has one.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    arrow: Annotated[
        Path | None, typer.Option(help="Write the result as an Arrow IPC stream to this file.")
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(help="Save the receipt; `luoshu evidence verify` checks it offline."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Don't compute: say what it would cost, and how noisy."),
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the result.")] = 300,
    as_json: JsonOption = False,
    profile: ProfileOption = None,
) -> None:
    """Compute under a contract; the result is shown only after its receipt has been verified."""
    if as_json and as_csv:
        raise UsageError("Choose one of --json and --csv.")
    text = None if template else _statement(sql, sql_file)
    parameters = _parameters(template, values, sql or sql_file)
    if explain:
        with open_space(profile) as space:
            told = space.contract(contract).explain(
                text, template=template, parameters=parameters, purpose=purpose
            )
        if as_json:
            print_json(told.document)
        else:
            _print_explanation(told)
        return
    with open_space(profile) as space, progress("query") as show:
        result = space.contract(contract).query(
            text,
            template=template,
            parameters=parameters,
            purpose=purpose,
            timeout=timeout,
            on_phase=show,
        )
    if receipt:
        result.receipt.save(receipt)
    if arrow:
        arrow.write_bytes(result.arrow_ipc)
    if as_json:
        _print_json(result)
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(result.columns)
        writer.writerows(result.rows())
    elif not arrow:
        print_table(result.columns, result.rows(), "No group reached the release threshold.")
    if not as_json:
        _print_notes(result.notes)
        note(
            f"Receipt verified: entry {result.receipt.index} of {result.receipt.origin}"
            + (f", saved to {receipt}." if receipt else ".")
        )


def _statement(sql: str | None, sql_file: Path | None) -> str:
    if (sql is None) == (sql_file is None):
        raise UsageError("Give the statement by --sql or by --sql-file, or a --template.")
    if sql_file is not None:
        return sql_file.read_text(encoding="utf-8")
    return sys.stdin.read() if sql == "-" else str(sql)


def _parameters(
    template: str | None, values: list[str] | None, statement: object
) -> dict[str, str] | None:
    if template is None:
        if values:
            raise UsageError("--set goes with --template.")
        return None
    if statement:
        raise UsageError("Give SQL or a --template, not both.")
    given = assignments("--set", values or ())
    for name, several in given.items():
        if len(several) > 1:
            raise UsageError(f"--set {name} is given twice.")
    return {name: several[0] for name, several in given.items()}


def _print_notes(names: Sequence[str]) -> None:
    """Says what a holder says with a result, in English; what a later version says, by name."""
    for name in names:
        note(NOTES[name].en if name in NOTES else name)


def _print_explanation(told: Explanation) -> None:
    _print_notes(told.notes)
    uses = "not limited" if told.uses_left is None else f"{told.uses_left} left"
    if told.cost is None:
        note(f"Released by {told.mode}, without noise and privacy budget. Uses: {uses}.")
        return
    note(f"It costs {told.cost}; {told.affords} like it can be paid for. Uses: {uses}.")
    pots = [("budget", pot) for pot in told.budgets]
    if told.quota is not None:
        pots.append(("quota", told.quota))
    for name, pot in pots:
        note(
            f"The {name} of epsilon {pot.epsilon:f}, delta {pot.delta:f} has {pot.remaining} left."
        )
    print_table(
        ("result", "standard deviation of its noise", "groups need about"),
        [
            (
                one.what,
                f"{one.deviation:.4g}",
                f"{one.threshold:.0f}" if one.threshold else "nothing: all come out",
            )
            for one in told.noise
        ],
        "Nothing noisy is released.",
    )


def _print_json(result: Result) -> None:
    print_json(
        {
            "status": "released",
            "code": "RELEASED",
            "message": NOTES[ReleaseNote.RELEASED_GROUPS].en,
            "notes": list(result.notes),
            "columns": [{"name": name, "type": kind} for name, kind in result.schema],
            "rows": result.rows(),
            "request_id": result.request_id,
            "receipt": result.receipt.summary(),
        }
    )
