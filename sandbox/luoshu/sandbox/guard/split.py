"""The rewriter: an analyst's plan becomes cell queries (stage 1) and a query over released cells.

The plan is DuckDB's own, so names, types, views, aliases and correlation are what DuckDB
resolved. `relations` says where cells begin, `cells` writes the cell queries, `shapes` the
rest. Nothing of the analyst's text is passed on but constants and column names of the
result. That stage 1 is safe doesn't rest on any of this: the verifier decides on what
DuckDB makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luoshu.sandbox.engine import identifier
from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.cell_select import ACCEPTED, CellRequest, Requests
from luoshu.sandbox.guard.cells import MAX_CELL_QUERIES, CellBuilder
from luoshu.sandbox.guard.checked_groups import GroupRules
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.plan import Operator
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.relations import Public, Relations, Released, one_units_groups
from luoshu.sandbox.guard.shapes import Shapes
from luoshu.sandbox.guard.sources import Relation, Union
from luoshu.sandbox.guard.text import stored, stored_type, unstored
from luoshu.sandbox.schema import DOUBLE, TableSchema, ValueType

MAX_OUTPUTS = 256
MAX_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Split:
    """Both stages.

    Attributes:
        cells: The cell queries.
        stage2: SQL over the tables cells0, cells1, ….
    """

    cells: tuple[CellRequest, ...]
    stage2: str


def split(
    operator: Operator,
    names: Sequence[str],
    tables: Sequence[TableSchema],
    rules: GroupRules,
    fold: Constants,
    *,
    mode: str = "aggregate",
) -> Split:
    """Splits a query.

    Args:
        operator: Its plan.
        names: Of the result's columns.
        tables: What it may read.
        rules: For each group of a subquery that protected rows are compared with.
        fold: Evaluates an expression without columns.
        mode: The release mode.

    Raises:
        GuardRefusalError: It isn't accepted; names the construct and the accepted way.
    """
    if len(names) > MAX_OUTPUTS:
        raise refuse(Refusal.SIZE, f"More than {MAX_OUTPUTS} columns; ask for fewer.")
    if any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        raise refuse(
            Refusal.SIZE, f"A column's name is longer than {MAX_NAME_BYTES} bytes; shorten it."
        )
    relations = Relations(tables, rules, fold)
    requests = Requests(mode == "aggregate", rules.min_units)

    def definition(index: int) -> Operator:
        return relations.ctes[index][0]

    def public_sql(part: Operator) -> tuple[str, tuple[ValueType, ...]]:
        return Shapes(lambda _: None, definition).statement(part), plan.output_types(part)

    relations.public_sql = public_sql
    found = relations.visit(operator)
    if isinstance(found, Relation) and found.unique is not None:
        raise one_units_groups()
    if not isinstance(found, Public | Released):
        raise refuse(
            Refusal.RAW_ROWS,
            "Rows of protected tables are not released: the result has columns that are neither "
            f"grouped nor aggregated. Ask with GROUP BY and {ACCEPTED}.",
        )

    def special(part: Operator) -> str | None:
        what = relations.visit(part)
        if isinstance(what, Public) and _reads_tables(part):
            return _public_request(public_sql(part), requests)
        if isinstance(what, Relation | Union):
            raise refuse(
                Refusal.RAW_ROWS,
                "Rows of protected tables are not released; aggregate them before they meet "
                "other results.",
            )
        if isinstance(what, Released) and what.rows is not None:
            # DISTINCT is an aggregate of its own.
            assert isinstance(what.operator, plan.GroupBy)  # noqa: S101 - nothing else has rows
            return CellBuilder(what.operator, what.rows, fold, requests, relations.names).select()
        return None

    body = Shapes(special, definition).statement(operator)
    if len(requests.items) > MAX_CELL_QUERIES:
        raise refuse(Refusal.SIZE, "The query has too many parts; ask in several queries.")
    types = plan.output_types(operator)
    columns = ", ".join(
        f"{_output(f'x{n}', kind)} AS {identifier(name)}"
        for n, (name, kind) in enumerate(zip(names, types, strict=True))
    )
    return Split(tuple(requests.items), _named(body, columns))


def _output(value: str, kind: ValueType) -> str:
    """A column of the result: of a type that results have, and finite."""
    value = stored(value, kind)
    if stored_type(kind) == DOUBLE:
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    return value


def _named(body: str, columns: str) -> str:
    return f"SELECT {columns} FROM ({body})"


def _public_request(found: tuple[str, tuple[ValueType, ...]], requests: Requests) -> str:
    text, types = found
    keys = ", ".join(f"{stored(f'x{n}', kind)} AS k{n}" for n, kind in enumerate(types))
    table = requests.add(CellRequest(f"SELECT {keys} FROM ({text})", (), None, is_public=True))
    columns = ", ".join(f"{unstored(f'k{n}', kind)} AS x{n}" for n, kind in enumerate(types))
    return f"SELECT {columns} FROM {table}"


def _reads_tables(operator: Operator) -> bool:
    if isinstance(operator, plan.Get | plan.CteRef):
        return True
    return any(_reads_tables(child) for child in plan.inputs_of(operator))
