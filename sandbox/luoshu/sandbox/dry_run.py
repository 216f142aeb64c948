"""`luoshu sandbox run`: what a query would release, without a node.

The same preparation, guard, isolation and release rules as under a contract, at
the product's own floor.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Iterator, Sequence
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
from luoshu.sandbox.isolation.port import IsolationConfig
from luoshu.sandbox.prepare import prepare_product
from luoshu.sandbox.prepared import PreparedProduct
from luoshu.sandbox.product_file import load_product_file
from luoshu.sandbox.release_floor import AGGREGATE
from luoshu.sandbox.run import Outcome, ReleaseRules, Sandbox
from luoshu.sandbox.wire import Value

RELEASED = "released"
DENIED = "denied"
FAILED = "failed"
EXIT_CODES = {RELEASED: 0, DENIED: 3, FAILED: 4}
"""Exit code of `luoshu sandbox run` by status; a usage error is 2."""
USAGE_EXIT_CODE = 2

Answer: TypeAlias = "dict[str, object]"


class HistoryError(SandboxError):
    """`--history` was given, but there is no release history yet."""

    code = "HISTORY_NOT_THERE"


def dry_run(
    products: Sequence[Path | str],
    sqls: Iterable[str],
    *,
    as_analyst: bool = False,
    history: Path | None = None,
    config: IsolationConfig | None = None,
) -> Iterator[Answer]:
    """Prepares products once and runs statements over them, one after the other.

    Args:
        products: Product files; each is a table named by its id, `-` becoming `_`.
        sqls: Statements.
        as_analyst: Answer exactly as an analyst would be answered: without counts of what was
            withheld, causes and timings.
        history: Refused: the differencing guard that would use it is not there yet.
        config: Of the isolation.

    Yields:
        For each statement `{"status", "code", "message", "columns", "rows"}`. Unless `as_analyst`
        there is `"withheld_groups"` too, and `"withheld_values"`, `"timings_ms"` and `"notes"`
        where released, `"cause"` where failed; under mode `dp` also `"privacy"`, what it costs
        and how noisy it is. `columns` are `{"name", "type"}`, `rows` lists of
        JSON values (see `json_value`).

    Raises:
        HistoryError: `history` was given.
        ProductFileError: A product file that can't be used.
        PreparationError: Data that can't be prepared.
        SandboxUnavailableError: This machine can't isolate a worker.
    """
    if history is not None:
        raise HistoryError(
            "--history is not there yet: results of earlier runs are not compared. Leave it out."
        )
    loaded = [(load_product_file(path), Path(path).resolve().parent) for path in products]
    names = [product.table_name for product, _ in loaded]
    if len(set(names)) != len(names):
        raise ProductFileError("Two product files have the same id; give each product once.")
    sandbox = Sandbox.start(config)
    try:
        with tempfile.TemporaryDirectory(prefix="luoshu-dry-run-") as directory:
            units = (history or Path(directory)) / "units"
            prepared = [
                prepare_product(
                    product, base, Path(directory, product.id), sandbox.isolation, units
                )
                for product, base in loaded
            ]
            with asyncio.Runner() as runner:
                for sql in sqls:
                    yield runner.run(_run_one(sandbox, prepared, sql, as_analyst=as_analyst))
    finally:
        sandbox.close()


async def _run_one(
    sandbox: Sandbox, products: Sequence[PreparedProduct], sql: str, *, as_analyst: bool
) -> Answer:
    try:
        rules = ReleaseRules(mode=_mode(products))
        async with sandbox.computation(products, rules, sql) as computation:
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
            "timings_ms": {k: round(v * 1000, 1) for k, v in outcome.timings.items()},
            "notes": [note for product in products for note in product.notes],
        }
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
