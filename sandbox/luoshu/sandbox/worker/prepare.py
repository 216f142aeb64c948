"""The preparation worker: reads the holder's source, writes the prepared file.

It runs isolated because file readers are large parsers. Its messages are for
the holder: they name columns, types and counts, never a value.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from luoshu.sandbox import engine
from luoshu.sandbox.engine import Connection, identifier
from luoshu.sandbox.schema import BIGINT, BOOLEAN, DATE, TIMESTAMP, VARCHAR, ValueType
from luoshu.sandbox.wire import WireError
from luoshu.sandbox.worker.stage import Channel, Message, run

DEFAULT_DECIMALS = 6
_WIDTH = 18
_INTEGERS = frozenset(
    f"{sign}{name}"
    for sign in ("", "U")
    for name in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
)
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_TIMESTAMPS = frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"})
_ZONED = "TIMESTAMP WITH TIME ZONE"
_SUPPORTED = (
    "integers, floating-point and decimal numbers, BOOLEAN, VARCHAR, ENUM, UUID, DATE and TIMESTAMP"
)


class SourceError(Exception):
    """The data isn't as declared; the message is for the holder."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A declared column and how it is stored.

    Attributes:
        stored: SQL over the source column; NULL where a value doesn't fit `type`.
    """

    name: str
    uses: list[str]
    bounds: tuple[str, str] | None
    values: list[str] | None
    source_type: str
    type: ValueType
    stored: str


def work(channel: Channel) -> None:
    """Serves one preparation."""
    channel.send({"type": "ready"})
    job = channel.receive()
    try:
        channel.send(_prepare(job))
    except SourceError as error:
        channel.send({"type": "failed", "message": str(error)})
    except engine.EngineError as error:
        # DuckDB's words may quote values.
        channel.send(
            {
                "type": "failed",
                "message": f"DuckDB can't read the source as {job.get('kind')} "
                f"({type(error).__name__}); check the file, its format and its encoding.",
            }
        )


def _prepare(job: Message) -> Message:
    memory, threads = job["memory_bytes"], job["threads"]
    if not isinstance(memory, int) or not isinstance(threads, int):
        raise WireError("not a preparation")
    connection = engine.open_engine(memory, threads, temp_directory="/out/spill")
    kinds = _open_source(connection, str(job["kind"]), str(job["source_table"]))
    unit = str(job["unit"])
    declared = job["columns"]
    if not isinstance(declared, list):
        raise WireError("not a preparation")
    _check_names([unit, *(str(column["name"]) for column in declared)], kinds)
    columns = [_column(column, kinds[str(column["name"])]) for column in declared]
    notes: list[str] = []
    for column in columns:
        _check_column(connection, column, notes)
    _check_unit(connection, unit, kinds[unit])
    _write(connection, str(job["table"]), unit, columns)
    rows, units = _count(
        connection,
        f"SELECT count(*), count(DISTINCT {identifier(unit)}) "  # noqa: S608 - quoted
        f"FROM prepared.main.{identifier(str(job['table']))}",
    )
    connection.execute("DETACH prepared")
    return {
        "type": "prepared",
        "engine": engine.VERSION,
        "rows": rows,
        "units": units,
        "notes": notes,
        "columns": [
            {
                "name": column.name,
                "type": str(column.type),
                "use": column.uses,
                "source_type": column.source_type,
                "bounds": list(column.bounds) if column.bounds else None,
                "values": column.values,
            }
            for column in columns
        ],
    }


def _open_source(connection: Connection, kind: str, table: str) -> dict[str, str]:
    if kind == "duckdb":
        connection.execute("ATTACH '/source/data' AS source (READ_ONLY)")
        found = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'source'"
        ).fetchall()
        schema, _, name = table.rpartition(".")
        if (schema or "main", name) not in found:
            names = ", ".join(sorted(f"{s}.{t}" for s, t in found)) or "none"
            raise SourceError(f"the DuckDB file has no table {table}; its tables: {names}.")
        source = f"source.{identifier(schema or 'main')}.{identifier(name)}"
    elif kind == "csv":
        # The whole file decides on the types: a sample could decide otherwise next time. Columns
        # are declared by name, so there is a header; and no row is ever taken for a comment.
        source = "read_csv('/source/data', sample_size := -1, header := true, comment := '')"
    elif kind == "parquet":
        source = "read_parquet('/source/data')"
    else:
        raise WireError("an unknown source")
    if kind == "csv":
        connection.execute(f"CREATE TEMP TABLE source_rows AS SELECT * FROM {source}")  # noqa: S608
    else:
        connection.execute(f"CREATE TEMP VIEW source_rows AS SELECT * FROM {source}")  # noqa: S608
    described = connection.execute("DESCRIBE source_rows").fetchall()
    return {str(row[0]): _type_name(str(row[1])) for row in described}


def _type_name(described: str) -> str:
    # An ENUM is described by all its values, which have no place in messages and manifests.
    return "ENUM" if described.startswith("ENUM(") else described


def _check_names(names: list[str], kinds: dict[str, str]) -> None:
    missing = [name for name in names if name not in kinds]
    if missing:
        raise SourceError(
            f"the data has no column {', '.join(missing)}; its columns: {', '.join(kinds)}."
        )


def _column(declared: dict[str, object], source_type: str) -> _Column:
    name, uses, decimals = str(declared["name"]), declared["use"], declared["decimals"]
    bounds, values = declared["bounds"], declared["values"]
    assert isinstance(uses, list)  # noqa: S101 - the connector wrote the job
    kind, stored = _storage(name, source_type, decimals)
    return _Column(
        name=name,
        uses=uses,
        bounds=(str(bounds[0]), str(bounds[1])) if isinstance(bounds, list) else None,
        values=[str(value) for value in values] if isinstance(values, list) else None,
        source_type=source_type,
        type=kind,
        stored=stored,
    )


def _storage(name: str, source_type: str, decimals: object) -> tuple[ValueType, str]:
    column = identifier(name)
    is_number = source_type in _FLOATS or source_type.startswith("DECIMAL(")
    if decimals is not None and not is_number:
        raise SourceError(f"column {name} is {source_type}; `decimals` goes with decimal numbers.")
    if source_type in _INTEGERS:
        return BIGINT, f"TRY_CAST({column} AS BIGINT)"
    if is_number:
        own = source_type.removeprefix("DECIMAL(").rstrip(")").rpartition(",")[2]
        default = int(own) if source_type.startswith("DECIMAL(") else DEFAULT_DECIMALS
        scale = decimals if isinstance(decimals, int) else default
        if scale > _WIDTH:
            raise SourceError(
                f"column {name} has {scale} decimals; declare `decimals`, at most 12."
            )
        kind = ValueType("DECIMAL", _WIDTH, scale)
        return kind, f"TRY_CAST({column} AS {kind})"
    if source_type == "BOOLEAN":
        return BOOLEAN, column
    if source_type in {"VARCHAR", "UUID", "ENUM"}:
        return VARCHAR, f"CAST({column} AS VARCHAR)"
    if source_type == "DATE":
        return DATE, column
    if source_type in _TIMESTAMPS:
        return TIMESTAMP, f"TRY_CAST({column} AS TIMESTAMP)"
    if source_type == _ZONED:
        return TIMESTAMP, f"make_timestamp(epoch_us({column}))"
    raise SourceError(
        f"column {name} is {source_type}, which is not supported; supported are {_SUPPORTED}. "
        "Convert it, or leave it out of `columns`."
    )


def _check_column(connection: Connection, column: _Column, notes: list[str]) -> None:
    source, stored = identifier(column.name), column.stored
    if column.type in {DATE, TIMESTAMP}:
        _none(
            connection,
            f"NOT isfinite({source}) OR year({source}) NOT BETWEEN 1 AND 9999",
            f"column {column.name} has {{}} values outside the years 1 to 9999; correct them or "
            "make them NULL.",
        )
    if column.source_type in _FLOATS:
        _none(
            connection,
            f"NOT isfinite({source})",
            f"column {column.name} has {{}} values that are NaN or infinite; make them NULL.",
        )
    _none(
        connection,
        f"{source} IS NOT NULL AND {stored} IS NULL",
        f"column {column.name} has {{}} values that do not fit {column.type}, as which its "
        f"{column.source_type} is kept; scale it, or declare fewer `decimals`.",
    )
    if column.type.name == "DECIMAL":
        exact = "DOUBLE" if column.source_type in _FLOATS else column.source_type
        # TRY: 99.9 of a DECIMAL(3,1), kept without decimals, is 100: too large for its own type.
        kept = f"TRY_CAST({stored} AS {exact})"
        (rounded,) = _count(
            connection,
            f"SELECT count(*) FILTER ({kept} IS DISTINCT FROM CAST({source} AS {exact})) "  # noqa: S608
            "FROM source_rows",
        )
        if rounded:
            notes.append(
                f"column {column.name}: {rounded} values were rounded to {column.type.scale} "
                "decimals"
            )
    if column.source_type == "TIMESTAMP_NS":
        notes.append(f"column {column.name}: times are kept to the microsecond")
    if column.source_type == _ZONED:
        notes.append(f"column {column.name}: times are kept in UTC, without zone")
    _check_domain(connection, column)


def _check_domain(connection: Connection, column: _Column) -> None:
    # Numbers are compared as wide decimals, so that a bound of 0.5 holds for integers too.
    is_number = column.type.name in {"BIGINT", "DECIMAL"}
    wide = "DECIMAL(38,15)" if is_number else str(column.type)
    value = f"CAST({column.stored} AS {wide})"
    if column.bounds is not None:
        if not is_number and column.type not in {DATE, TIMESTAMP}:
            raise SourceError(
                f"column {column.name} is {column.source_type}; `bounds` go with numbers and dates."
            )
        # Bounds of times are dates, and the last day counts whole.
        kind = wide if is_number else "DATE"
        low, high = (_constant(connection, column, text, kind) for text in column.bounds)
        _none(
            connection,
            f"CAST({value} AS {kind}) NOT BETWEEN {low} AND {high}",
            f"column {column.name} has {{}} values outside its declared bounds; correct the data "
            "or the bounds.",
        )
    if column.values is not None:
        constants = ", ".join(_constant(connection, column, v, wide) for v in column.values)
        _none(
            connection,
            f"{value} NOT IN ({constants})",
            f"column {column.name} has {{}} values outside its declared `values`; correct the data "
            "or the list.",
        )


def _constant(connection: Connection, column: _Column, text: str, kind: str) -> str:
    constant = f"TRY_CAST({engine.literal(text)} AS {kind})"
    row = connection.execute(f"SELECT {constant}").fetchone()
    if row is None or row[0] is None:
        raise SourceError(
            f"column {column.name} is {column.source_type}; {text} in its `bounds` or `values` is "
            "no such value."
        )
    return constant


def _check_unit(connection: Connection, unit: str, kind: str) -> None:
    name = identifier(unit)
    _none(
        connection,
        f"{name} IS NULL",
        f"the privacy unit {unit} is NULL in {{}} rows; every row must belong to a unit: drop "
        "these rows or fill them.",
    )
    if kind in _FLOATS:
        raise SourceError(
            f"the privacy unit {unit} is {kind}; ids must be exact: convert it to integers or text."
        )
    _storage(unit, kind, None)


def _none(connection: Connection, condition: str, message: str) -> None:
    (count,) = _count(
        connection,
        f"SELECT count(*) FILTER ({condition}) FROM source_rows",  # noqa: S608 - quoted
    )
    if count:
        raise SourceError(message.format(count))


def _count(connection: Connection, sql: str) -> tuple[int, ...]:
    row = connection.execute(sql).fetchone()
    return tuple(int(item) for item in row or ())


def _write(connection: Connection, table: str, unit: str, columns: list[_Column]) -> None:
    name = identifier(unit)
    # Ids in the order of a salted hash, whose salt is forgotten: they tell nothing about the
    # units' names or their order in the source.
    salt = engine.literal(secrets.token_hex(32))
    connection.execute(
        f"CREATE TEMP TABLE hashed AS SELECT u, sha256({salt} || CAST(u AS VARCHAR)) AS h "  # noqa: S608
        f"FROM (SELECT DISTINCT {name} AS u FROM source_rows)"
    )
    connection.execute(
        "CREATE TEMP TABLE units AS SELECT u, row_number() OVER (ORDER BY h) - 1 AS id FROM hashed"
    )
    types = "".join(f", {identifier(column.name)} {column.type}" for column in columns)
    # Whatever the source's columns are called, the join sees names of ours only.
    places = "".join(f", c{n}" for n in range(len(columns)))
    stored = "".join(f", {column.stored} AS c{n}" for n, column in enumerate(columns))
    target = f"prepared.main.{identifier(table)}"
    connection.execute("ATTACH '/out/prepared.duckdb' AS prepared")
    connection.execute(f"CREATE TABLE {target} ({name} BIGINT NOT NULL{types})")
    connection.execute(
        f"INSERT INTO {target} SELECT units.id{places} "  # noqa: S608 - quoted
        f"FROM (SELECT {name} AS u{stored} FROM source_rows) AS kept "
        # A unit's rows lie together: grouping by unit takes half the time.
        "JOIN units ON kept.u = units.u ORDER BY units.id"
    )
    connection.execute("CHECKPOINT prepared")


def main() -> None:
    """Entry point."""
    run(work)
