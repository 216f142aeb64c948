"""From a verified cell query to its file of contributions, inside the stage-1 worker.

The query runs once. Everything after it is SQL over its result and whole-column
arithmetic; no Python loop looks at rows: TPC-H's Q1 at scale factor 1 has
350,000 of them.
"""

# ruff: noqa: S608 - names and numbers made here; the query itself was verified

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luoshu.sandbox.arrays import np
from luoshu.sandbox.contributions import LOW_BITS, LOW_MASK, ContributionsError, write
from luoshu.sandbox.schema import CellSchema, Component, ValueType

if TYPE_CHECKING:
    from typing import Any

    from luoshu.sandbox.contributions import Ids, Ints, Place
    from luoshu.sandbox.engine import Connection
    from luoshu.sandbox.wire import Row

# A decimal read as a double is its integer over a power of ten, rounded once; times that power it
# is rounded once more. Below 2^50 both errors together stay under a quarter.
_EXACT_BELOW = float(1 << 50)


@dataclass(frozen=True, slots=True)
class Exported:
    """What stage 1 says about a file.

    Attributes:
        keys: Key row of each cell, in the order of their numbers.
        rows: Rows of the file.
        dropped: Cells left out because they have too few units, whatever their components.
    """

    keys: list[Row]
    rows: int
    dropped: int


def export(
    connection: Connection,
    sql: str,
    schema: CellSchema,
    target: Place,
    *,
    min_units: int,
    drop: bool,
    max_cells: int,
    number: int = 0,
) -> Exported:
    """Runs a verified cell query once and writes its contributions; of public rows there are none.

    Args:
        connection: The one that the query was verified on.
        sql: Yields keys k0…, unit u and components a0…, at most one row per keys and unit.
        schema: What the verifier proved of it.
        target: File to write.
        min_units: Fewest units of a cell that is kept, if `drop`.
        drop: Whether to leave out cells of fewer. Cells without keys and those of a prefix are
            kept all the same: a prefix is released as a whole or not at all.
        max_cells: Most cells to export.
        number: Distinguishes several cell queries on one connection.

    Raises:
        ContributionsError: The relation isn't as the schema says.
        MemoryError: There are more cells than `max_cells`.
    """
    rows, cells = _names(number)
    connection.execute(f"CREATE TEMP TABLE {rows} AS {sql}")
    found = connection.execute(f"SELECT * FROM {rows} LIMIT 0").description or []
    types = [ValueType.parse(str(column[1])) for column in found]
    width = len(schema.keys)
    if not schema.components:
        return _export_public(connection, rows, schema, max_cells)
    if len(types) != width + 1 + len(schema.components):
        raise ContributionsError("a relation of another width")
    least = min_units if drop and schema.prefix is None else 0
    keys, dropped = _number_cells(connection, number, width, least=least, most=max_cells)
    source = f"FROM {rows}"
    if width:
        same = " AND ".join(f"r.k{n} IS NOT DISTINCT FROM c.k{n}" for n in range(width))
        source = f"FROM {rows} r JOIN {cells} c ON {same}"
    place = "cell::INTEGER" if width else "0::INTEGER"
    columns = _fetch(connection, source, place, schema.components, types[width + 1 :])
    with open(target, "wb") as file:  # noqa: PTH123 - it may be a descriptor
        count = write(file, columns, len(keys))
    return Exported(keys, count, dropped)


def _export_public(connection: Connection, rows: str, schema: CellSchema, most: int) -> Exported:
    keys = connection.execute(f"SELECT * FROM {rows}").fetchmany(most + 1)
    if any(len(key) != len(schema.keys) for key in keys[:1]):
        raise ContributionsError("a relation of another width")
    if len(keys) > most:
        raise MemoryError
    return Exported(keys, 0, 0)


def _names(number: int) -> tuple[str, str]:
    # No table of a product is called so: a name that a cell query uses keeps its meaning.
    return f"__luoshu_contributions{number}", f"__luoshu_cells{number}"


def _number_cells(
    connection: Connection, number: int, width: int, *, least: int, most: int
) -> tuple[list[Row], int]:
    if not width:
        return [()], 0
    rows, cells = _names(number)
    names = ", ".join(f"k{n}" for n in range(width))
    connection.execute(
        f"CREATE TEMP TABLE {cells}_all AS SELECT {names}, count(*) n FROM {rows} GROUP BY {names}"
    )
    connection.execute(
        f"CREATE TEMP TABLE {cells} AS SELECT {names}, row_number() OVER () - 1 AS cell "
        f"FROM {cells}_all WHERE n >= {least:d}"
    )
    keys = connection.execute(f"SELECT {names} FROM {cells} ORDER BY cell").fetchmany(most + 1)
    if len(keys) > most:
        raise MemoryError
    (total,) = connection.execute(f"SELECT count(*) FROM {cells}_all").fetchone() or (0,)
    return keys, int(total) - len(keys)


def _fetch(
    connection: Connection,
    source: str,
    place: str,
    components: Sequence[Component],
    types: Sequence[ValueType],
) -> list[Ints | Ids]:
    """Fetches cell, unit and the components' integers; hi and lo of those that are wide."""
    for component, kind in zip(components, types, strict=True):
        if kind.name not in {"BIGINT", "HUGEINT", "DECIMAL"} or kind.scale != component.scale:
            raise ContributionsError("a component of another type")
    careful: set[int] = set()
    while True:
        wanted = [place, "u::INTEGER"]
        for number, (component, kind) in enumerate(zip(components, types, strict=True)):
            wanted += _expressions(f"a{number}", component, kind, careful=number in careful)
        listed = ", ".join(f"{text} AS x{n}" for n, text in enumerate(wanted))
        fetched = connection.execute(f"SELECT {listed} {source}").fetchnumpy()
        columns = [fetched[f"x{n}"] for n in range(len(wanted))]
        if any(type(column) is not np.ndarray for column in columns):  # a masked one
            raise ContributionsError("a NULL among contributions")
        result, inexact = _integers(columns, components, types, careful)
        if not inexact:
            return result
        careful |= inexact  # numbers too large for a double: once more, by slow exact arithmetic


def _expressions(
    name: str, component: Component, kind: ValueType, *, careful: bool
) -> Iterator[str]:
    if kind.name == "BIGINT":
        yield name
    elif not careful:
        # DuckDB hands out decimals and huge integers as doubles anyway, and this way in parallel.
        yield f"{name}::DOUBLE"
    else:
        whole = name
        if kind.scale:
            power, digits = 10**kind.scale, min(38, kind.scale + 1)
            whole = (
                f"(floor({name})::HUGEINT * {power}::HUGEINT "
                f"+ ({name} - floor({name}))::DECIMAL({digits},{kind.scale})::VARCHAR"
                f".replace('.', '')::HUGEINT)"
            )
        if component.is_wide:
            low = f"({whole} & {LOW_MASK}::HUGEINT)"
            yield f"(({whole} - {low}) // {LOW_MASK + 1}::HUGEINT)::BIGINT"
            yield f"{low}::BIGINT"
        else:
            yield f"{whole}::BIGINT"


def _integers(
    columns: list[Any],
    components: Sequence[Component],
    types: Sequence[ValueType],
    careful: set[int],
) -> tuple[list[Ints | Ids], set[int]]:
    """Turns fetched columns into those of the file; also which need more care."""
    result, rest = columns[:2], iter(columns[2:])
    inexact = set()
    for number, (component, kind) in enumerate(zip(components, types, strict=True)):
        column = next(rest)
        if number in careful and kind.name != "BIGINT":
            result.append(column)
            if component.is_wide:
                result.append(next(rest))
            continue
        if kind.name == "BIGINT":
            whole = column.astype(np.int64, copy=False)
        else:
            scaled = column * float(10**kind.scale)
            if len(scaled) and max(scaled.max(), -scaled.min()) >= _EXACT_BELOW:
                inexact.add(number)
                continue
            whole = np.rint(scaled).astype(np.int64)
        if component.is_wide:
            result += [whole >> LOW_BITS, whole & LOW_MASK]
        else:
            result.append(whole)
    return result, inexact
