"""How a column is stored: its exact type, the least width that holds what is declared.

Narrow decimals make sums cheap and let the guard prove that none can overflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from luoshu.sandbox.engine import identifier, literal
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    DATE,
    TIMESTAMP,
    VARCHAR,
    ColumnSchema,
    Use,
    ValueType,
)
from luoshu.sandbox.worker.preparation.source import SourceError

DEFAULT_DECIMALS = 6
MAX_WIDTH = 18
SUPPORTED = (
    "integers, floating-point and decimal numbers, BOOLEAN, VARCHAR, ENUM, UUID, DATE and TIMESTAMP"
)
ZONED = "TIMESTAMP WITH TIME ZONE"
FLOATS = frozenset({"FLOAT", "DOUBLE"})
_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
# Largest absolute value of each integer type, as far as a BIGINT keeps it.
INTEGERS = {
    **{name: min(2 ** (bits - 1), 2**63) for name, bits in _BITS.items()},
    **{f"U{name}": min(2**bits - 1, 2**63) for name, bits in _BITS.items()},
}
_TIMESTAMPS = frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"})
_TEXTS = frozenset({"VARCHAR", "UUID", "ENUM"})


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a prepared table and how it comes from its source.

    Attributes:
        schema: What workers will know of it.
        source_type: Its type in the source.
        declared: Its bounds as the holder wrote them, or None.
        kept: SQL over the source column: the value as exactly as it can be kept, NULL where it
            can't.
        stored: SQL of what is stored: `kept` in the type of `schema`.
        kept_type: Type of `kept`: that of `schema`, or a wider decimal.
        may_not_fit: Whether `kept` can be NULL where the source has a value.
        may_round: Whether `kept` can be another number than the source's.
    """

    schema: ColumnSchema
    source_type: str
    declared: tuple[str, str] | None
    kept: str
    stored: str
    kept_type: ValueType
    may_not_fit: bool
    may_round: bool

    @property
    def source(self) -> str:
        """The source column, quoted."""
        return identifier(self.schema.name)

    @property
    def is_number(self) -> bool:
        """Whether it is kept as a number."""
        return self.schema.type.is_summable

    def number(self, scaled: int) -> str:
        """A number at the column's scale as a constant of its kept type."""
        value = format(Decimal(scaled).scaleb(-self.kept_type.scale), "f")
        return f"CAST('{value}' AS {self.kept_type})"

    def to_json(self) -> dict[str, object]:
        """The form in the worker's answer, and in the manifest."""
        return {
            **self.schema.to_json(),
            "source_type": self.source_type,
            "declared": list(self.declared) if self.declared else None,
        }


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the product file says of a column.

    Attributes:
        bounds: Least and greatest value as text, or None.
        values: The domain as text, or None.
        decimals: Digits after the point, or None.
    """

    name: str
    uses: frozenset[Use]
    bounds: tuple[str, str] | None = None
    values: tuple[str, ...] | None = None
    decimals: int | None = None


def describe_column(declared: Declaration, source_type: str, *, is_collated: bool) -> Column:
    """Decides how a column is stored; its data isn't looked at.

    Raises:
        SourceError: A type that isn't supported, or a declaration that doesn't go with it.
    """
    name, column = declared.name, identifier(declared.name)
    is_decimal = source_type.startswith("DECIMAL(")
    if declared.decimals is not None and not (is_decimal or source_type in FLOATS):
        raise SourceError(f"column {name} is {source_type}; `decimals` goes with decimal numbers.")
    schema = ColumnSchema(name, BIGINT, declared.uses, values=declared.values)
    if source_type in INTEGERS:
        schema = replace(schema, magnitude=INTEGERS[source_type])
        fits = source_type not in {"UBIGINT", "HUGEINT", "UHUGEINT"}
        kept, may = f"TRY_CAST({column} AS BIGINT)", (not fits, False)
    elif source_type in FLOATS or is_decimal:
        return _decimal(declared, source_type)
    elif source_type == "BOOLEAN":
        schema, kept, may = replace(schema, type=BOOLEAN), column, (False, False)
    elif source_type in _TEXTS:
        kept = f"CAST({column} AS VARCHAR)"
        # A collation would decide which values are equal; what is stored compares by its bytes.
        kept = f"decode(encode({kept}))" if is_collated else kept
        schema, may = replace(schema, type=VARCHAR), (False, False)
    elif source_type == "DATE":
        schema, kept, may = replace(schema, type=DATE), column, (False, False)
    elif source_type in _TIMESTAMPS:
        kept, may = f"TRY_CAST({column} AS TIMESTAMP)", (True, False)
        schema = replace(schema, type=TIMESTAMP)
    elif source_type == ZONED:
        kept, may = f"make_timestamp(epoch_us({column}))", (True, False)
        schema = replace(schema, type=TIMESTAMP)
    else:
        raise SourceError(
            f"column {name} is {source_type}, which is not supported; supported are {SUPPORTED}. "
            "Convert it, or leave it out of `columns`."
        )
    if schema.type == BIGINT and declared.bounds is not None:
        bounds = _scaled(declared, source_type, 0, (-(2**63), 2**63 - 1))
        schema = replace(schema, bounds=bounds, magnitude=max(abs(bound) for bound in bounds))
    return Column(schema, source_type, declared.bounds, kept, kept, schema.type, *may)


def _decimal(declared: Declaration, source_type: str) -> Column:
    name, column = declared.name, identifier(declared.name)
    width, scale = MAX_WIDTH, DEFAULT_DECIMALS
    may_not_fit = may_round = True
    own = scale
    if source_type.startswith("DECIMAL("):
        own_width, own = (int(n) for n in source_type[len("DECIMAL(") : -1].split(","))
        scale = own if declared.decimals is None else declared.decimals
        # Rounding can add a digit: 99.9 becomes 100.
        width = own_width - own + scale + (scale < own)
        may_not_fit, may_round = width > MAX_WIDTH, scale < own
        width = min(width, MAX_WIDTH)
    elif declared.decimals is not None:
        scale = declared.decimals
    if scale > MAX_WIDTH:
        raise SourceError(f"column {name} has {scale} decimals; declare `decimals`, at most 12.")
    kept_type = ValueType("DECIMAL", MAX_WIDTH, scale)
    kept = f"TRY_CAST({column} AS {kept_type})"
    largest = 10**MAX_WIDTH - 1
    bounds, magnitude = None, 10**width - 1
    if declared.bounds is not None:
        bounds = _scaled(declared, source_type, scale, (-largest, largest))
        magnitude = max(abs(bound) for bound in bounds)
        width = max(len(str(magnitude)), scale)
    kind = ValueType("DECIMAL", width, scale)
    schema = ColumnSchema(name, kind, declared.uses, bounds, magnitude, declared.values)
    stored = kept if kind == kept_type else f"CAST({kept} AS {kind})"
    return Column(
        schema, source_type, declared.bounds, kept, stored, kept_type, may_not_fit, may_round
    )


def _scaled(
    declared: Declaration, source_type: str, scale: int, limits: tuple[int, int]
) -> tuple[int, int]:
    """The bounds as integers at a scale, as far as the type holds them."""
    texts = declared.bounds or ("", "")
    try:
        low, high = (Fraction(text) * 10**scale for text in texts)
    except ValueError:
        raise no_such_value(declared.name, source_type, texts[0]) from None
    least, greatest = max(math.ceil(low), limits[0]), min(math.floor(high), limits[1])
    if least > greatest:
        raise SourceError(
            f"column {declared.name} is {source_type}; no value of it lies within its `bounds`."
        )
    return least, greatest


def no_such_value(name: str, source_type: str, text: str) -> SourceError:
    """The fault of a bound or value that isn't of the column's type."""
    return SourceError(
        f"column {name} is {source_type}; {text} in its `bounds` or `values` is no such value."
    )


def clamped(column: Column) -> Column:
    """The same column, with values outside its declared bounds moved to the nearer one."""
    if column.declared is None:
        return column
    source, kept = column.source, column.kept
    if column.schema.bounds is not None:
        low, high = (column.number(bound) for bound in column.schema.bounds)
        inside = f"greatest({low}, least({high}, {kept}))"
        # What is too large to be kept lies outside as well; its sign says on which side.
        beyond = f"CASE WHEN CAST({source} AS DOUBLE) > 0 THEN {high} ELSE {low} END"
        moved = f"CASE WHEN {kept} IS NULL THEN {beyond} ELSE {inside} END"
    else:
        low, high = (literal(text) for text in column.declared)
        kind = column.schema.type
        first, last = f"CAST({low} AS {kind})", f"CAST({high} AS {kind})"
        if kind == TIMESTAMP:  # the last day counts whole
            last = f"({last} + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)"
        moved = f"greatest({first}, least({last}, {kept}))"
    stored = f"CASE WHEN {source} IS NULL THEN NULL ELSE CAST({moved} AS {column.schema.type}) END"
    return replace(column, stored=stored)
