"""Writing one prepared table, each of its rows with the id of its unit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from luoshu.sandbox.engine import Connection, identifier, names
from luoshu.sandbox.schema import MAX_COLUMNS, Use
from luoshu.sandbox.worker.preparation.checks import Check, column_checks, run_checks
from luoshu.sandbox.worker.preparation.column import (
    FLOATS,
    Column,
    Declaration,
    clamped,
    describe_column,
)
from luoshu.sandbox.worker.preparation.job import TableJob
from luoshu.sandbox.worker.preparation.source import Relation, SourceError
from luoshu.sandbox.worker.preparation.units import UNIT_IDS, unit_text
from luoshu.sandbox.worker.stage import Message

MAX_NAME_BYTES = 256


@dataclass(slots=True)
class Table:
    """A table being prepared.

    Attributes:
        job: What is asked.
        relation: Its source.
        columns: How its columns are stored.
        unit: Name of the column of unit ids, or None.
        notes: What the holder should know.
        rows: How many were written.
        unique: Of a public table: sets of columns of which no two rows have all values in common.
    """

    job: TableJob
    relation: Relation
    columns: list[Column]
    unit: str | None
    notes: list[str]
    rows: int = 0
    unique: tuple[tuple[str, ...], ...] = ()

    @property
    def target(self) -> str:
        """Its SQL name in the prepared file."""
        return f"prepared.main.{identifier(self.job.name)}"

    def column(self, name: str) -> Column:
        """The column of a name that is known to be there."""
        return next(column for column in self.columns if column.schema.name == name)

    def to_json(self) -> Message:
        """The form in the worker's answer, and in the manifest."""
        return {
            "name": self.job.name,
            "public": self.job.is_public,
            "unit": self.unit,
            "keys": [{"domain": key.domain, "columns": list(key.columns)} for key in self.job.keys],
            "unique": [list(names) for names in self.unique],
            "columns": [column.to_json() for column in self.columns],
            "rows": self.rows,
        }


def describe_table(job: TableJob, relation: Relation, *, is_clamped: bool) -> Table:
    """Decides how a table is stored; its data isn't looked at.

    Raises:
        SourceError: A column that isn't there, or can't be what is declared.
    """
    notes: list[str] = []
    declared = _everything(relation, notes) if job.columns is None else list(job.columns)
    known = {column.name for column in declared}
    joins = dict.fromkeys(name for key in job.keys for name in key.columns)
    missing = set(job.unique) - {column.name for column in declared}
    if missing:
        raise SourceError(f"`key` names {', '.join(sorted(missing))}, which it has no column of.")
    declared += [Declaration(name, frozenset()) for name in joins if name not in known]
    unit = [] if job.unit is None else [job.unit]
    _check_names([*unit, *(column.name for column in declared)], relation.kinds)
    if len(declared) > MAX_COLUMNS:
        raise SourceError(f"more than {MAX_COLUMNS} columns; declare those that are needed.")
    columns = [
        describe_column(column, relation.kinds[column.name], is_collated=relation.is_collated)
        for column in declared
    ]
    for name in joins:
        if relation.kinds[name] in FLOATS:
            raise SourceError(
                f"column {name} is {relation.kinds[name]} and joins tables; keys must be exact: "
                "convert it to integers or text."
            )
    if job.unit is not None:
        unit_text(job.unit, relation)  # refuses what can't name units
    if is_clamped:
        # A key that were moved would lead to another's row.
        columns = [c if c.schema.name in joins else clamped(c) for c in columns]
    return Table(job, relation, columns, _unit_name(job, columns), notes)


def _everything(relation: Relation, notes: list[str]) -> list[Declaration]:
    declared = []
    for name, kind in relation.kinds.items():
        column = Declaration(name, frozenset(Use))
        try:
            describe_column(column, kind, is_collated=relation.is_collated)
        except SourceError:
            notes.append(f"column {name} is left out: {kind} is not supported")
            continue
        if name.isprintable() and name.strip() and len(name.encode()) <= MAX_NAME_BYTES:
            declared.append(column)
        else:
            notes.append("a column is left out: its name isn't printable, or is too long")
    if not declared:
        raise SourceError("no column has a type that is supported.")
    return declared


def _check_names(wanted: list[str], kinds: dict[str, str]) -> None:
    missing = [name for name in wanted if name not in kinds]
    if missing:
        raise SourceError(
            f"the data has no column {', '.join(missing)}; its columns: {', '.join(kinds)}."
        )


def _unit_name(job: TableJob, columns: list[Column]) -> str | None:
    if job.via is None:
        return job.unit
    # Never shown; only no column may be called the same.
    taken = {column.schema.name.lower() for column in columns}
    name = f"unit_of_{job.name}"
    while name.lower() in taken:
        name += "_"
    return name


def check_table(connection: Connection, table: Table, *, is_clamped: bool) -> None:
    """Checks the data against what is declared, in one pass.

    Raises:
        SourceError: It isn't as declared.
    """
    checks = []
    unit = table.job.unit
    if unit is not None:
        checks.append(
            Check(
                f"{identifier(unit)} IS NULL",
                f"the privacy unit {unit.replace('{', '{{').replace('}', '}}')} is NULL in {{}} "
                "rows; every row must belong to a unit: drop these rows or fill them.",
            )
        )
    joins = {name for key in table.job.keys for name in key.columns}
    for column in table.columns:
        moves = is_clamped and column.schema.name not in joins
        checks += column_checks(connection, column, is_clamped=moves)
    table.notes += run_checks(connection, table.relation.name, checks)


def write_table(connection: Connection, table: Table, others: dict[str, Table]) -> None:
    """Writes a table into the prepared file, the rows of each unit together.

    Args:
        connection: With the prepared file attached as `prepared`, and `UNIT_IDS`.
        table: Described and checked.
        others: The tables it may refer to, written already.

    Raises:
        SourceError: A row reaches no unit, or one by a key that several units share.
    """
    first = [] if table.unit is None else [f"{identifier(table.unit)} BIGINT NOT NULL"]
    types = [f"{column.source} {column.schema.type}" for column in table.columns]
    connection.execute(f"CREATE TABLE {table.target} ({', '.join(first + types)})")
    # Whatever the source's columns are called, the join sees names of ours only.
    stored = [f"{column.stored} AS c{n}" for n, column in enumerate(table.columns)]
    places = [f"kept.c{n}" for n in range(len(table.columns))]
    job, relation = table.job, table.relation
    join = order = ""
    if job.unit is not None:
        stored.append(f"{unit_text(job.unit, relation)} AS u")
        join, order = f"JOIN {UNIT_IDS} AS units ON kept.u = units.text", " ORDER BY units.id"
    elif job.via is not None:
        theirs = [their for _, their in job.on]
        _reach(connection, others[job.via], theirs)
        _check_types(table, others[job.via])
        own = [places[table.columns.index(table.column(name))] for name, _ in job.on]
        equal = " AND ".join(f"{place} = units.k{n}" for n, place in enumerate(own))
        join, order = f"JOIN temp.main.reached AS units ON {equal}", " ORDER BY units.id"
    selected = [*(["units.id"] if join else []), *places]
    connection.execute(
        f"INSERT INTO {table.target} SELECT {', '.join(selected)} "  # noqa: S608 - quoted
        # A unit's rows lie together: grouping by unit takes half the time.
        f"FROM (SELECT {', '.join(stored)} FROM {relation.name}) AS kept {join}{order}"
    )
    connection.execute("DROP TABLE IF EXISTS temp.main.reached")
    table.rows = _count(connection, f"SELECT count(*) FROM {table.target}")  # noqa: S608 - quoted
    _check_reached(connection, table, others)
    _find_complete(connection, table)
    if job.is_public:
        _find_unique(connection, table)


def _find_complete(connection: Connection, table: Table) -> None:
    """Notes which columns have a value in every row: those need no check for NULL later."""
    if not table.columns:
        return
    counts = ", ".join(f"count({column.source})" for column in table.columns)
    row = connection.execute(f"SELECT {counts} FROM {table.target}").fetchone() or ()  # noqa: S608
    table.columns = [
        replace(column, schema=replace(column.schema, is_nullable=count < table.rows))
        for column, count in zip(table.columns, row, strict=True)
    ]


def _find_unique(connection: Connection, table: Table) -> None:
    """Notes which columns tell a public table's rows apart: each by itself, and the declared key.

    Raises:
        SourceError: The declared key doesn't.
    """
    declared = table.job.unique
    sets: list[tuple[str, ...]] = [(column.schema.name,) for column in table.columns]
    sets += [declared] if len(declared) > 1 else []
    found = []
    for columns in sets:
        distinct = f"SELECT DISTINCT {names(columns)} FROM {table.target}"  # noqa: S608 - quoted
        if _count(connection, f"SELECT count(*) FROM ({distinct})") == table.rows:  # noqa: S608
            found.append(columns)
        elif columns == declared:
            raise SourceError(
                f"several rows have the same {', '.join(declared)}, which `key` declares to be "
                "unique; correct the data or the key."
            )
    table.unique = tuple(found)


def _reach(connection: Connection, target: Table, key: list[str]) -> None:
    """Makes `reached`: the unit of each value of a key."""
    unit = identifier(str(target.unit))
    keys = ", ".join(f"{identifier(name)} AS k{n}" for n, name in enumerate(key))
    known = " AND ".join(f"{identifier(name)} IS NOT NULL" for name in key)
    connection.execute(
        f"CREATE TEMP TABLE reached AS SELECT {keys}, min({unit}) AS id, max({unit}) AS other "  # noqa: S608
        f"FROM {target.target} WHERE {known} GROUP BY {names(key)}"
    )
    shared = _count(connection, "SELECT count(*) FROM reached WHERE id <> other")
    if shared:
        raise SourceError(
            f"{target.job.name}({', '.join(key)}) has {shared} values that belong to several "
            "units each; a key must tell the unit: name more columns in `on`, or correct the data."
        )


def _check_types(table: Table, target: Table) -> None:
    for own, their in table.job.on:
        mine, there = table.column(own), target.column(their)
        if mine.schema.type != there.schema.type:
            raise SourceError(
                f"column {own} is {mine.source_type}, and {target.job.name}.{their}, which it "
                f"refers to, is {there.source_type}; give both the same type."
            )


def _check_reached(connection: Connection, table: Table, others: dict[str, Table]) -> None:
    job = table.job
    if job.via is not None:
        rows = _count(connection, f"SELECT count(*) FROM {table.relation.name}")  # noqa: S608
        lost, through = rows - table.rows, job.via
    elif job.within is not None:
        target = others[job.within]
        lost = _count(
            connection,
            f"SELECT count(*) FROM {table.target} AS t ANTI JOIN {target.target} AS o "  # noqa: S608
            f"ON t.{identifier(str(table.unit))} = o.{identifier(str(target.unit))}",
        )
        through = job.within
    else:
        return
    if lost:
        raise SourceError(
            f"{lost} rows reach no unit through {through}; every row must belong to a unit: drop "
            "these rows or complete that table."
        )


def _count(connection: Connection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0
