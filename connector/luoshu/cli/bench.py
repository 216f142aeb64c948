"""`luoshu bench`: figures, each beside its baseline of the same run."""

from __future__ import annotations

from typing import Annotated

import typer

from luoshu.cli.exits import UsageError
from luoshu.cli.output import JsonOption, print_json, print_table, progress


def bench(
    name: Annotated[
        str, typer.Argument(help="query, publish, search, negotiate, guard or isolation.")
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer runs; for a first look.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine. Reports figures against targets and never fails by them."""
    from luoshu.bench import MissingProgramError, benchmarks

    if name not in benchmarks:
        raise UsageError(f"There is no benchmark {name!r}. There are: {', '.join(benchmarks)}.")
    try:
        with progress(f"bench {name}"):
            report = benchmarks[name](quick=quick)
    except MissingProgramError as error:
        raise UsageError(str(error)) from None
    if as_json:
        print_json(report)
        return
    figures = report["figures"]
    headers = ("name", "value", "unit", "baseline", "baseline_of", "target", "met")
    print_table(
        headers,
        [
            [_cell(figure.get(header)) for header in headers]
            for figure in (figures if isinstance(figures, list) else [])
            if isinstance(figure, dict)
        ],
        "No figures.",
    )


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value
