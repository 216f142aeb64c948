"""What workers answer, checked field by field: hostile until then."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from luoshu.sandbox import wire
from luoshu.sandbox.errors import GuardRefusalError, QueryError, SandboxFailureError, legible
from luoshu.sandbox.guard.refusals import Refusal
from luoshu.sandbox.schema import (
    CellSchema,
    Component,
    ComponentKind,
    SchemaError,
    TableSchema,
    ValueType,
    checked_count,
    checked_name,
    exact_fields,
)

_MAX_MESSAGE = 4096
_MAX_COLUMNS = 4096
_MAX_CELL_QUERIES = 256
_MAX_PUBLIC = 10_000
_MAX_ROWS = 2**31 - 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RULE = re.compile(r"[a-z][a-z-]{0,63}")

_Message: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True, slots=True)
class Stage1Result:
    """What stage 1 says about one cell query.

    Attributes:
        keys: Of each cell.
        rows: Number of contributions in its file.
        dropped: Cells left out because of too few units.
        query: Digest of the verified SQL.
    """

    keys: list[wire.Row]
    rows: int
    dropped: int
    query: str


@dataclass(frozen=True, slots=True)
class Withholding:
    """Something that was withheld, and why; for the holder's eyes alone.

    Attributes:
        cells: Number of the cell query.
        keys: Of the group.
        component: The quantity, such as `sum(cost)`; None if the whole cell was withheld.
        units: Distinct units behind it; of a whole cell those of a branch that is too small, or
            None.
        rule: The rule that withheld it.
        needed: Fewest units that the rule asks for, if it is about that.
        beside: Keys and quantity of what it differs too little from in the same result.
        earlier: Numbers of the earlier results that it differs too little from; the oldest is 1.
    """

    cells: int
    keys: wire.Row
    component: str | None
    units: int | None
    rule: str
    needed: int | None = None
    beside: tuple[tuple[wire.Row, str], ...] = ()
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleasedAnswer:
    """What the release worker decided.

    Attributes:
        rows: Released rows of each cell query.
        withheld_groups, withheld_values, conflicts, withheld: See `Outcome`.
        delta_digest: `sha256:<hex>` of the file to add to the history; empty if nothing new was
            released.
    """

    rows: tuple[list[wire.Row], ...]
    withheld_groups: int
    withheld_values: int
    conflicts: int
    delta_digest: str
    withheld: tuple[Withholding, ...]


def released_as_they_are(results: Sequence[Stage1Result]) -> ReleasedAnswer:
    """Rows of public tables: there is nothing to decide."""
    return ReleasedAnswer(tuple(list(r.keys) for r in results), 0, 0, 0, "", ())


@dataclass(frozen=True, slots=True)
class VerifiedAnswer:
    """The guard's verdict.

    Attributes:
        cells: Schemas of the cell queries.
        stage2: SQL over released cells.
        public: Values of key columns of public tables in wire form, by `catalog.table.column`.
    """

    cells: tuple[CellSchema, ...]
    stage2: str
    public: Mapping[str, tuple[str | bool | None, ...]]


def read_verified(answer: _Message, tables: Mapping[str, TableSchema]) -> VerifiedAnswer:
    """Reads the guard's verdict.

    Args:
        answer: Of stage 1.
        tables: What the query may read, by `catalog.table`.

    Raises:
        QueryError: The SQL isn't valid.
        GuardRefusalError: It was refused.
        SandboxFailureError: A refusal in no known words.
        SchemaError: It isn't a verdict.
    """
    if answer.get("type") == "refused":
        raise _refusal(answer)
    fields = exact_fields(answer, "type", "cells", "stage2", "public")
    cells, stage2 = fields["cells"], fields["stage2"]
    if fields["type"] != "verified" or not isinstance(stage2, str):
        raise SchemaError("not a verified plan")
    if not isinstance(cells, list) or len(cells) > _MAX_CELL_QUERIES:
        raise SchemaError("cell queries must be a list")
    schemas = tuple(CellSchema.from_json(cell) for cell in cells)
    for schema in schemas:
        for name in schema.tables:
            if name not in tables or tables[name].unit is None:
                raise SchemaError("cells of unknown tables")
    return VerifiedAnswer(schemas, stage2, _public_keys(fields["public"], schemas, tables))


def _public_keys(
    value: object, schemas: Sequence[CellSchema], tables: Mapping[str, TableSchema]
) -> dict[str, tuple[str | bool | None, ...]]:
    """Checks that they are different values of columns of public tables, of the keys' types.

    Raises:
        SchemaError: They aren't.
    """
    kinds = {
        name: kind
        for schema in schemas
        for name, kind in zip(schema.key_columns, schema.keys, strict=False)
    }
    if not isinstance(value, dict):
        raise SchemaError("public keys must be an object")
    found = {}
    for name, values in value.items():
        table = tables.get(str(name).rpartition(".")[0])
        if name not in kinds or table is None or table.unit is not None:
            raise SchemaError("values of what is no public key")
        if not isinstance(values, list):
            raise SchemaError("values must be a list")
        try:
            rows = wire.decode_rows([[item] for item in values], [kinds[name]], _MAX_PUBLIC)
        except wire.WireError:
            raise SchemaError("values of another type") from None
        if len(set(rows)) < len(rows):
            raise SchemaError("a value of a public key twice")
        found[name] = tuple(values)
    return found


def _refusal(answer: _Message) -> Exception:
    code, message = answer.get("code"), answer.get("message")
    if not isinstance(code, str) or not isinstance(message, str):
        return SandboxFailureError("stage1 answered wrongly: a refusal without words")
    if code == QueryError.code:
        return QueryError(legible(message, _MAX_MESSAGE))
    if code in set(Refusal):
        return GuardRefusalError(code, legible(message, _MAX_MESSAGE))
    return SandboxFailureError("stage1 answered wrongly: an unknown refusal")


def read_cells(answer: _Message, schemas: Sequence[CellSchema], limit: int) -> list[Stage1Result]:
    """Reads the keys of all cells, at most `limit` a cell query.

    Raises:
        SchemaError: Anything else was answered.
        WireError: Keys that aren't of their types.
    """
    fields = exact_fields(answer, "type", "results")
    values = fields["results"]
    if fields["type"] != "cells" or not isinstance(values, list) or len(values) != len(schemas):
        raise SchemaError("not the cells of each query")
    return [
        _stage1_result(value, schema, limit) for value, schema in zip(values, schemas, strict=True)
    ]


def _stage1_result(value: object, schema: CellSchema, limit: int) -> Stage1Result:
    fields = exact_fields(value, "keys", "rows", "dropped", "query")
    keys = wire.decode_rows(fields["keys"], schema.keys, limit)
    rows, query = checked_count(fields["rows"]), fields["query"]
    if schema.components and not schema.keys and len(keys) != 1:
        raise SchemaError("not one cell")
    if rows > _MAX_ROWS or not isinstance(query, str) or not _DIGEST.fullmatch(query):
        raise SchemaError("too many rows, or no digest")
    return Stage1Result(keys, rows, checked_count(fields["dropped"]), query)


def read_released(answer: _Message, schemas: Sequence[CellSchema], limit: int) -> ReleasedAnswer:
    """Reads what the release worker decided.

    Raises:
        SchemaError: Anything else was answered.
        WireError: Values that aren't of their types.
    """
    fields = exact_fields(
        answer,
        *("type", "results", "withheld_groups", "withheld_values", "conflicts"),
        *("delta_digest", "explain"),
    )
    results, digest = fields["results"], fields["delta_digest"]
    if fields["type"] != "released" or not isinstance(results, list):
        raise SchemaError("nothing released")
    if len(results) != len(schemas):
        raise SchemaError("not the rows of each cell query")
    if digest is not None and not (isinstance(digest, str) and _FILE_DIGEST.fullmatch(digest)):
        raise SchemaError("not the digest of a delta")
    return ReleasedAnswer(
        tuple(
            wire.decode_rows(exact_fields(value, "rows")["rows"], schema.released_types, limit)
            for value, schema in zip(results, schemas, strict=True)
        ),
        checked_count(fields["withheld_groups"]),
        checked_count(fields["withheld_values"]),
        checked_count(fields["conflicts"]),
        digest or "",
        _withheld(fields["explain"], schemas),
    )


def _withheld(value: object, schemas: Sequence[CellSchema]) -> tuple[Withholding, ...]:
    if not isinstance(value, list):
        raise SchemaError("explanations must be a list")
    return tuple(_withholding(item, schemas) for item in value)


def _withholding(value: object, schemas: Sequence[CellSchema]) -> Withholding:
    fields = exact_fields(
        value, *("result", "keys", "component", "units", "rule", "needed", "beside", "earlier")
    )
    rule, beside, earlier = fields["rule"], fields["beside"], fields["earlier"]
    if not isinstance(rule, str) or not _RULE.fullmatch(rule):
        raise SchemaError("an unknown rule")
    if not isinstance(beside, list) or not isinstance(earlier, list):
        raise SchemaError("an unknown explanation")
    keys, name = _cell(fields, schemas)
    others = [
        _cell(exact_fields(other, "result", "keys", "component"), schemas) for other in beside
    ]
    return Withholding(
        checked_count(fields["result"]),
        keys,
        name,
        _optional(fields["units"]),
        rule,
        _optional(fields["needed"]),
        tuple((other_keys, other_name or "") for other_keys, other_name in others),
        tuple(checked_count(place) + 1 for place in earlier),
    )


def _cell(fields: dict[str, object], schemas: Sequence[CellSchema]) -> tuple[wire.Row, str | None]:
    number, component = checked_count(fields["result"]), fields["component"]
    if number >= len(schemas):
        raise SchemaError("an unknown cell query")
    schema = schemas[number]
    (keys,) = wire.decode_rows([fields["keys"]], schema.keys, 1)
    if component is None:
        return keys, None
    if checked_count(component) >= len(schema.components):
        raise SchemaError("an unknown component")
    return keys, quantity(schema.components[checked_count(component)])


def _optional(value: object) -> int | None:
    return None if value is None else checked_count(value)


def quantity(component: Component) -> str:
    """A component in the words of an analyst: `count(*)`, `sum(a*b)`, `count(distinct unit)`."""
    if component.kind is ComponentKind.SUM:
        return f"sum({'*'.join(component.monomial)})" if component.monomial else "count(*)"
    return "count(distinct unit)" if component.kind is ComponentKind.UNITS else str(component.kind)


def read_result(
    answer: _Message, limit: int
) -> tuple[tuple[tuple[str, str], ...], tuple[wire.Row, ...]]:
    """Reads the columns and rows of the result.

    Raises:
        SchemaError: Anything else was answered.
        WireError: Values that aren't of their types.
    """
    fields = exact_fields(answer, "type", "columns", "rows")
    columns = fields["columns"]
    if fields["type"] != "result" or not isinstance(columns, list) or len(columns) > _MAX_COLUMNS:
        raise SchemaError("not a result")
    pairs = [exact_fields(column, "name", "type") for column in columns]
    names = [checked_name(pair["name"]) for pair in pairs]
    kinds = [ValueType.parse(pair["type"]) for pair in pairs]
    rows = wire.decode_rows(fields["rows"], kinds, limit)
    return tuple(zip(names, map(str, kinds), strict=True)), tuple(rows)
