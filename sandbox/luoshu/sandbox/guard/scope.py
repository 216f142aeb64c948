"""Names in a query: which table and columns of the products they mean.

Identifiers compare as in DuckDB, without regard to the case of ASCII letters.
A mistake here can give a wrong answer, never an unsafe one: the verifier looks
at what DuckDB itself resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luoshu.sandbox.errors import QueryError
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.tree import Node, UnknownFormError, read
from luoshu.sandbox.schema import ColumnSchema, TableSchema, Use

_CASE = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_FROM = {
    "JOIN": "a join",
    "SUBQUERY": "a subquery in FROM",
    "TABLE_FUNCTION": "a table function",
    "EXPRESSION_LIST": "VALUES",
    "SHOW_REF": "DESCRIBE, SHOW or SUMMARIZE",
    "PIVOT": "PIVOT or UNPIVOT",
    "EMPTY": "a SELECT without FROM",
}


def folded(name: str) -> str:
    """A name as it compares."""
    return name.translate(_CASE)


@dataclass(frozen=True, slots=True)
class Scope:
    """The one table of a query.

    Attributes:
        table: Of a product.
        alias: What columns may be qualified with.
    """

    table: TableSchema
    alias: str

    @classmethod
    def of(cls, source: Node, tables: Sequence[TableSchema]) -> Scope:
        """Resolves FROM.

        Raises:
            GuardRefusalError: `GUARD_TABLE`, anything but one table.
            QueryError: There is no such table.
        """
        kind = source.get("type")
        if kind != "BASE_TABLE":
            raise refuse(
                Refusal.TABLE,
                f"FROM takes one table; {_FROM.get(str(kind), shown(kind))} is not accepted. Ask "
                f"with FROM {_or(tables)}.",
            )
        neutral: Node = {"sample": None, "column_name_alias": [], "at_clause": None}
        try:
            catalog, schema, name, path = read(
                source,
                "catalog_name",
                "schema_name",
                "table_name",
                "qualified_name",
                neutral=neutral,
            )
        except UnknownFormError as error:
            what = _TABLE_EXTRAS.get(error.field, error.field)
            raise refuse(Refusal.TABLE, f"FROM takes a table without {what}.") from None
        if catalog or schema or path != {"path": [name]}:
            raise refuse(Refusal.TABLE, f"Name the table alone, as in FROM {_or(tables)}.")
        for table in tables:
            if folded(table.table) == folded(name):
                return cls(table, str(source.get("alias") or name))
        raise QueryError(f"There is no table {shown(name)}; there is {_or(tables)}.")

    def is_unit(self, names: Sequence[str]) -> bool:
        """Whether a column reference means the privacy unit."""
        return folded(self._unqualified(names)) == folded(self.table.unit)

    def column(self, names: Sequence[str]) -> ColumnSchema:
        """The declared column that a reference means.

        Raises:
            GuardRefusalError: `GUARD_UNIT`, it means the privacy unit.
            QueryError: There is no such column.
        """
        column = self.find(names)
        if column is None:
            raise QueryError(
                f"There is no column {shown('.'.join(names))}; the catalog entry of "
                f"{self.table.table} lists its columns."
            )
        return column

    def find(self, names: Sequence[str]) -> ColumnSchema | None:
        """Like `column`, but None if there is no such column."""
        name = self._unqualified(names)
        if folded(name) == folded(self.table.unit):
            raise unit_refusal(self.table.unit)
        return next((c for c in self.table.columns if folded(c.name) == folded(name)), None)

    def _unqualified(self, names: Sequence[str]) -> str:
        if len(names) == 2 and folded(names[0]) == folded(self.alias):
            return names[1]
        if len(names) == 1:
            return names[0]
        raise QueryError(
            f"There is no column {shown('.'.join(names))}; qualify columns with "
            f"{shown(self.alias)} or not at all."
        )


_TABLE_EXTRAS = {
    "sample": "TABLESAMPLE",
    "column_name_alias": "new names for its columns",
    "at_clause": "AT (time travel)",
}


def unit_refusal(unit: str) -> Exception:
    """The refusal of the privacy unit anywhere but in its one place."""
    return refuse(
        Refusal.UNIT,
        f"{unit} is the privacy unit; it is accepted in COUNT(DISTINCT {unit}) only.",
    )


def require(column: ColumnSchema, use: Use, how: str) -> ColumnSchema:
    """Returns a column that is declared for a use.

    Raises:
        GuardRefusalError: `GUARD_COLUMN_USE`, it is not.
    """
    if use in column.uses:
        return column
    declared = ", ".join(sorted(column.uses))
    raise refuse(
        Refusal.COLUMN_USE,
        f"The column {column.name} is not declared `{use}`, which {how} needs; it is declared "
        f"for: {declared}.",
    )


def _or(tables: Sequence[TableSchema]) -> str:
    return " or ".join(table.table for table in tables)
