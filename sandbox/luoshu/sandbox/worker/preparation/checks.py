"""What is checked of a table's data before it is written: all in one pass over its source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luoshu.sandbox.engine import Connection, literal
from luoshu.sandbox.schema import DATE, TIMESTAMP
from luoshu.sandbox.worker.preparation.column import FLOATS, ZONED, Column, no_such_value
from luoshu.sandbox.worker.preparation.source import SourceError


@dataclass(frozen=True, slots=True)
class Check:
    """A condition whose rows are counted.

    Attributes:
        condition: SQL over the source.
        message: What to say if there are any; `{}` is how many.
        is_note: Whether that is only noted, and no fault.
    """

    condition: str
    message: str
    is_note: bool = False


def run_checks(connection: Connection, relation: str, checks: Sequence[Check]) -> list[str]:
    """Counts what each check looks for, and returns the notes.

    Raises:
        SourceError: The first fault.
    """
    counts = "".join(f", count(*) FILTER ({check.condition})" for check in checks)
    row = connection.execute(f"SELECT count(*){counts} FROM {relation}").fetchone()  # noqa: S608
    found = [
        (check, int(count)) for check, count in zip(checks, (row or (0,))[1:], strict=True) if count
    ]
    for check, count in found:
        if not check.is_note:
            raise SourceError(check.message.format(count))
    return [check.message.format(count) for check, count in found]


def column_checks(connection: Connection, column: Column, *, is_clamped: bool) -> Iterator[Check]:
    """What is checked of a column.

    Args:
        connection: To read constants with.
        column: As it will be stored.
        is_clamped: Whether values outside its bounds are moved to the nearer one.

    Raises:
        SourceError: A bound or value that isn't of the column's type.
    """
    name, source, kept = _shown(column.schema.name), column.source, column.kept
    kind = column.schema.type
    is_clamped = is_clamped and column.declared is not None
    if kind in {DATE, TIMESTAMP}:
        yield Check(
            f"NOT isfinite({source}) OR year({source}) NOT BETWEEN 1 AND 9999",
            f"column {name} has {{}} values outside the years 1 to 9999; correct them or make them "
            "NULL.",
        )
    if column.source_type in FLOATS:
        yield Check(
            f"isnan({source})" if is_clamped else f"NOT isfinite({source})",
            f"column {name} has {{}} values that are NaN or infinite; make them NULL.",
        )
    if column.may_not_fit and not (is_clamped and column.is_number):
        yield Check(
            f"{source} IS NOT NULL AND {kept} IS NULL",
            f"column {name} has {{}} values that do not fit {column.kept_type}, as which its "
            f"{column.source_type} is kept; scale it, or declare fewer `decimals`.",
        )
    yield from _domain_checks(connection, column, is_clamped=is_clamped)
    if column.may_round:
        exact = "DOUBLE" if column.source_type in FLOATS else column.source_type
        # TRY: 99.9 of a DECIMAL(3,1), kept without decimals, is 100: too large for its own type.
        back = f"TRY_CAST({kept} AS {exact})"
        yield Check(
            f"{kept} IS NOT NULL AND {back} IS DISTINCT FROM CAST({source} AS {exact})",
            f"column {name}: {{}} values were rounded to {kind.scale} decimals",
            is_note=True,
        )
    if column.source_type == "TIMESTAMP_NS":
        yield Check("true", f"column {name}: times are kept to the microsecond", is_note=True)
    if column.source_type == ZONED:
        yield Check("true", f"column {name}: times are kept in UTC, without zone", is_note=True)


def _domain_checks(connection: Connection, column: Column, *, is_clamped: bool) -> Iterator[Check]:
    name, kept = _shown(column.schema.name), column.kept
    if column.declared is not None:
        if column.schema.bounds is not None:
            low, high = (column.number(bound) for bound in column.schema.bounds)
            outside = f"{kept} NOT BETWEEN {low} AND {high}"
        elif column.schema.type in {DATE, TIMESTAMP}:
            # Bounds of times are dates, and the last day counts whole.
            low, high = (_constant(connection, column, text, "DATE") for text in column.declared)
            outside = f"CAST({kept} AS DATE) NOT BETWEEN {low} AND {high}"
        else:
            raise SourceError(
                f"column {column.schema.name} is {column.source_type}; `bounds` go with numbers "
                "and dates."
            )
        if is_clamped:
            lost = f"{column.source} IS NOT NULL AND {kept} IS NULL"
            yield Check(
                f"({outside}) OR ({lost})",
                f"column {name}: {{}} values were moved to its declared bounds",
                is_note=True,
            )
        else:
            yield Check(
                outside,
                f"column {name} has {{}} values outside its declared bounds; correct the data or "
                "the bounds.",
            )
    if column.schema.values is not None:
        # Numbers are compared as wide decimals, so that 0.5 is a value that integers never have.
        scale = max(15, column.kept_type.scale)
        wide = f"DECIMAL(38,{scale})" if column.is_number else str(column.schema.type)
        constants = ", ".join(_constant(connection, column, v, wide) for v in column.schema.values)
        yield Check(
            f"CAST({column.stored if is_clamped else kept} AS {wide}) NOT IN ({constants})",
            f"column {name} has {{}} values outside its declared `values`; correct the data or the "
            "list.",
        )


def _constant(connection: Connection, column: Column, text: str, kind: str) -> str:
    constant = f"TRY_CAST({literal(text)} AS {kind})"
    row = connection.execute(f"SELECT {constant}").fetchone()
    if row is None or row[0] is None:
        raise no_such_value(column.schema.name, column.source_type, text)
    return constant


def _shown(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")  # what `format` would take for its own
