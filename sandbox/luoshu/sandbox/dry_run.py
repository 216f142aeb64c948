"""`luoshu sandbox run`: what a query would release, without a node.

The same preparation, guard, isolation and release rules as under a contract, at
the product's own floor.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

from luoshu.sandbox.errors import (
    RELEASE_NOTE,
    GuardRefusalError,
    ProductFileError,
    QueryError,
    SandboxError,
    SandboxFailureError,
)
from luoshu.sandbox.explanations import why
from luoshu.sandbox.history_port import (
    SECRET_BYTES,
    DirectoryHistory,
    HistoryPort,
    HistoryUnavailableError,
    NoHistory,
    Scope,
)
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.registry import UnitDomain, domain_directory
from luoshu.sandbox.release_floor import AGGREGATE
from luoshu.sandbox.run import Outcome, ReleaseRules, Sandbox
from luoshu.sandbox.templates import BoundParameter, Query
from luoshu.sandbox.wire import Value

RELEASED = "released"
DENIED = "denied"
FAILED = "failed"
EXIT_CODES = {RELEASED: 0, DENIED: 3, FAILED: 4}
"""Exit code of `luoshu sandbox run` by status; a usage error is 2."""
USAGE_EXIT_CODE = 2
_UNITS = "units"
_RELEASED = "released"
_LOCK = ".lock"

Answer: TypeAlias = "dict[str, object]"


class HistoryError(SandboxError):
    """The directory given as `--history` can't be used."""

    code = "HISTORY_UNUSABLE"


def dry_run(
    products: Sequence[Path | str],
    sqls: Iterable[str],
    *,
    parameters: Sequence[BoundParameter] = (),
    as_analyst: bool = False,
    explain: bool = False,
    history: Path | None = None,
    config: IsolationConfig | None = None,
) -> Iterator[Answer]:
    """Prepares products once and runs statements over them, one after the other.

    Args:
        products: Product files; each is a table named by its id, `-` becoming `_`.
        sqls: Statements.
        parameters: Values for each `$name` in them.
        as_analyst: Answer exactly as an analyst would be answered: without counts of what was
            withheld, causes and timings.
        explain: Say what was withheld, and by which rule; not with `as_analyst`.
        history: Directory that keeps what is released, and the ids of units, between runs: each
            result is compared with it. Without, each statement is decided on alone.
        config: Of the isolation.

    Yields:
        For each statement `{"status", "code", "message", "columns", "rows"}`. Unless `as_analyst`
        there is `"withheld_groups"` too, and `"withheld_values"`, `"conflicts"`, `"timings_ms"`
        and `"notes"` where released, `"cause"` where failed; with `explain` also `"withheld"`, a
        list of `{"cells", "keys", "component", "units", "rule", "why"}`. Under mode `dp` there is
        also `"privacy"`, what it costs and how noisy it is. `columns` are `{"name", "type"}`,
        `rows` lists of JSON values (see `json_value`).

    Raises:
        HistoryError: `history` can't be used.
        ProductFileError: A product file that can't be used.
        PreparationError: Data that can't be prepared.
        SandboxUnavailableError: This machine can't isolate a worker.
    """
    loaded = [(load_product_file(path), Path(path).resolve().parent) for path in products]
    names = [product.table_name for product, _ in loaded]
    if len(set(names)) != len(names):
        raise ProductFileError("Two product files have the same id; give each product once.")
    sandbox = Sandbox.start(config)
    try:
        sandbox.warm_up()  # while the data is prepared
        with tempfile.TemporaryDirectory(prefix="luoshu-dry-run-") as directory:
            units = Path(directory) / _UNITS if history is None else history / _UNITS
            with _preparing(history):
                prepared = [
                    prepare_product(
                        product, base, Path(directory, product.id), sandbox.isolation, units
                    )
                    for product, base in loaded
                ]
            port = _history(prepared, history, units)
            with asyncio.Runner() as runner:
                for sql in sqls:
                    query = Query(sql, tuple(parameters))
                    answer = _run_one(
                        sandbox, prepared, query, port, as_analyst=as_analyst, explain=explain
                    )
                    yield runner.run(answer)
    finally:
        sandbox.close()


@contextmanager
def _preparing(directory: Path | None) -> Iterator[None]:
    """Waits until no other dry run prepares with the same registry of units."""
    if directory is None:
        yield
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HistoryError(
            f"The history directory {directory} can't be used: {error.strerror}."
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _history(
    products: Sequence[PreparedProduct], directory: Path | None, units: Path
) -> HistoryPort:
    if directory is None:
        # Without a history there is nothing to keep apart; so that a query has one answer, the
        # jitter of a cell is always the same.
        return NoHistory(hashlib.sha256(b"luoshu dry run").digest())
    domains = {
        product.table_name: UnitDomain.load(units, product.domain)
        for product in products
        if product.domain
    }

    def scope_of(tables: Sequence[str]) -> Scope:
        for table in tables:
            domain = domains[table.partition(".")[0]]
            return Scope(domain_directory(units, domain.name).name, domain.secret)
        return Scope("public", bytes(SECRET_BYTES))

    try:
        return DirectoryHistory(directory / _RELEASED, scope_of)
    except HistoryUnavailableError as error:
        raise HistoryError(str(error)) from None


async def _run_one(
    sandbox: Sandbox,
    products: Sequence[PreparedProduct],
    query: Query,
    history: HistoryPort,
    *,
    as_analyst: bool,
    explain: bool,
) -> Answer:
    try:
        rules = ReleaseRules(mode=_mode(products))
        async with sandbox.computation(
            products, rules, query.sql, history, query.parameters, explains=explain
        ) as computation:
            plan = await computation.verify()
            outcome = await computation.compute()
    except (GuardRefusalError, QueryError) as error:
        answer = _answer(DENIED, error.code, error.message)
        return answer if as_analyst else {**answer, "withheld_groups": 0}
    except SandboxFailureError as error:
        answer = _answer(FAILED, error.code, error.message)
        return answer if as_analyst else {**answer, "withheld_groups": 0, "cause": error.detail}
    answer = _released(outcome)
    if not as_analyst:
        answer |= {
            "withheld_groups": outcome.withheld_groups,
            "withheld_values": outcome.withheld_values,
            "conflicts": outcome.conflicts,
            "timings_ms": {k: round(v * 1000, 1) for k, v in outcome.timings.items()},
            "notes": [note for product in products for note in product.notes],
        }
        if explain:
            answer["withheld"] = [
                {
                    "cells": each.cells,
                    "keys": [json_value(key) for key in each.keys],
                    "component": each.component,
                    "units": each.units,
                    "rule": each.rule,
                    "why": why(each, plan.rules),
                }
                for each in outcome.withheld
            ]
    if plan.privacy is not None:
        # What it would be debited: there is no budget here, and an analyst may know it as well.
        answer["privacy"] = {
            "cost": plan.privacy.cost.to_json(),
            "noise": [noise.to_json() for noise in plan.privacy.noise],
        }
    return answer


def _mode(products: Sequence[PreparedProduct]) -> str:
    """The products' mode; where they differ, the computation says so."""
    return next((product.release.mode for product in products if product.domain), AGGREGATE)


def _released(outcome: Outcome) -> Answer:
    answer = _answer(RELEASED, "RELEASED", RELEASE_NOTE)
    answer["columns"] = [{"name": name, "type": kind} for name, kind in outcome.columns]
    answer["rows"] = [[json_value(value) for value in row] for row in outcome.rows]
    return answer


def _answer(status: str, code: str, message: str) -> Answer:
    return {"status": status, "code": code, "message": message, "columns": [], "rows": []}


def json_value(value: Value) -> bool | int | float | str | None:
    """A value in JSON: numbers as numbers, dates and timestamps as ISO 8601 text.

    A DECIMAL is a number too if a double shows all its digits, else text.
    """
    if isinstance(value, Decimal):
        number = float(value)
        return number if Decimal(repr(number)) == value else str(value)
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return value
