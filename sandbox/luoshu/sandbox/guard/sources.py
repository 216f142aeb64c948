"""FROM, as the rewriter builds it: sources of rows whose columns are known one by one.

A plan's operators become few SQL subqueries: filters go to WHERE, projections disappear
because every column is kept as an expression over *atoms*. An atom is a column of a table,
or something that a subquery computes. A subquery (`Boundary`) puts out what is asked of it
and nothing else, so it is rendered after everything that asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeAlias

from luoshu.sandbox.engine import identifier
from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.text import COMPARISONS, sql_of
from luoshu.sandbox.schema import ColumnSchema, TableSchema


class Role(Enum):
    """What an atom is to the rewriter."""

    UNIT = auto()
    COLUMN = auto()
    """A declared column of a protected table."""
    PUBLIC = auto()
    INNER = auto()
    """Computed below: an aggregate of one unit's rows, a whole expression, a guarded value."""


@dataclass(frozen=True, slots=True, eq=False)
class Atom(plan.Leaf):
    """A column of a source.

    Attributes:
        source: Where it comes from.
        inside: What a boundary computes for it; of a table the column's name.
        role: What it is.
        table, column: The declared column that it is, through whatever boundaries.
        instance: Which reading of the table it comes from, to tell a table from itself.
        alias: What the boundary is called where the atom is used.
        is_optional: Whether it is of a row that may be missing.
    """

    source: TableSource | Boundary
    inside: Expression | str
    role: Role
    table: TableSchema | None = None
    column: ColumnSchema | None = None
    instance: str = ""
    alias: str = ""
    is_optional: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RowId(plan.Leaf):
    """What DuckDB reads where no column of a table is asked for; a row id, if it is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class AggregateLeaf(plan.Leaf):
    """An aggregate inside a grouped boundary, over the atoms of its source."""

    call: plan.Aggregate


@dataclass(frozen=True, slots=True, eq=False)
class ExistsLeaf(plan.Leaf):
    """Whether a row of `relation` meets a row of the query that it stands in.

    Attributes:
        conditions: Outer expression, comparison, inner expression.
        is_in: Whether it is `x IN (SELECT …)`, which is NULL where the inner has a NULL.
    """

    relation: Relation
    conditions: tuple[tuple[Expression, str, Expression], ...]
    is_in: bool

    @property
    def is_of_several(self) -> bool:
        """Whether several columns are looked for."""
        return sum(comparison == "COMPARE_EQUAL" for _, comparison, _ in self.conditions) > 1


@dataclass(slots=True, eq=False)
class TableSource:
    """A prepared table."""

    path: tuple[str, ...]
    alias: str

    def render(self, _scope: Scope) -> str:
        """SQL for FROM."""
        return f"{'.'.join(map(identifier, self.path))} AS {self.alias}"

    def parts(self) -> Iterator[Source]:
        """Itself."""
        yield self


@dataclass(slots=True, eq=False)
class Cross:
    """All pairs of rows."""

    left: Source
    right: Source

    def render(self, scope: Scope) -> str:
        """SQL for FROM."""
        return f"{self.left.render(scope)} CROSS JOIN {self.right.render(scope)}"

    def parts(self) -> Iterator[Source]:
        """The sources below."""
        yield from self.left.parts()
        yield from self.right.parts()


@dataclass(slots=True, eq=False)
class LeftJoin:
    """LEFT JOIN; `right` is a table or a boundary."""

    left: Source
    right: TableSource | Boundary
    conditions: tuple[Expression, ...]

    def render(self, scope: Scope) -> str:
        """SQL for FROM."""
        on = " AND ".join(scope.sql(condition) for condition in self.conditions)
        left = self.left.render(scope)
        return f"{left} LEFT JOIN {self.right.render(scope)} ON {on or 'true'}"

    def parts(self) -> Iterator[Source]:
        """The sources below on the left: on the right a row may be missing."""
        yield from self.left.parts()


@dataclass(slots=True, eq=False)
class Boundary:
    """A subquery in FROM, or a CTE if it is referred to more than once.

    Attributes:
        number: In order of making: a CTE refers to earlier ones only.
        alias: Its name in FROM, or as a CTE.
        relation: What it selects from.
        groups: GROUP BY; None without.
        having: HAVING, over aggregates.
        text: A finished query instead, which puts out x0, x1, ….
        exports: What was asked of it, in order.
    """

    number: int
    alias: str
    relation: Relation | None
    groups: tuple[Expression, ...] | None = None
    having: tuple[Expression, ...] = ()
    text: str = ""
    exports: list[Expression] = field(default_factory=list)

    def export(self, inside: Expression | str) -> str:
        """The name under which an inner expression comes out."""
        if isinstance(inside, str):
            return inside
        for number, known in enumerate(self.exports):
            if known is inside or (not isinstance(inside, plan.Leaf) and known == inside):
                return f"x{number}"
        self.exports.append(inside)
        return f"x{len(self.exports) - 1}"

    def body(self, scope: Scope) -> str:
        """The query inside; call it once everything was asked."""
        if self.text or self.relation is None:
            return self.text
        sql = scope.sql
        done = 0
        columns: list[str] = []
        tail = ""
        if self.groups:
            tail = f" GROUP BY {', '.join(sql(group) for group in self.groups)}"
        if self.having:
            tail += f" HAVING {' AND '.join(sql(condition) for condition in self.having)}"
        where = [sql(condition) for condition in self.relation.where]
        while done < len(self.exports):
            columns.append(f"{sql(self.exports[done])} AS x{done}")
            done += 1
        source = self.relation.source.render(scope)
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return f"SELECT {', '.join(columns) or '1 AS x0'} FROM {source}{condition}{tail}"

    def render(self, scope: Scope) -> str:
        """SQL for FROM."""
        return f"({self.body(scope)}) AS {self.alias}"

    def parts(self) -> Iterator[Source]:
        """Itself."""
        yield self


@dataclass(slots=True, eq=False)
class CteUse:
    """One reference to a CTE."""

    boundary: Boundary
    alias: str

    def render(self, scope: Scope) -> str:
        """SQL for FROM."""
        scope.ctes[self.boundary.number] = self.boundary
        return f"{self.boundary.alias} AS {self.alias}"

    def parts(self) -> Iterator[Source]:
        """Itself."""
        yield self


@dataclass(slots=True, eq=False)
class OneRow:
    """SELECT without FROM."""

    alias: str

    def render(self, _scope: Scope) -> str:
        """SQL for FROM."""
        return f"(SELECT 1) AS {self.alias}"

    def parts(self) -> Iterator[Source]:
        """Itself."""
        yield self


Source: TypeAlias = "TableSource | Cross | LeftJoin | Boundary | CteUse | OneRow"


@dataclass(slots=True, eq=False)
class Relation:
    """Rows that a query below the cells works on.

    Attributes:
        columns: What the plan's operator puts out, over the atoms of `source`.
        where: Conditions; all hold.
        unit: The privacy unit of each row; None if every row is public.
        unique: Expressions that have one row per combination of values; None if unknown.
    """

    source: Source
    columns: tuple[Expression, ...]
    where: tuple[Expression, ...] = ()
    unit: Atom | None = None
    unique: tuple[Expression, ...] | None = None

    @property
    def is_public(self) -> bool:
        """Whether nothing protected is in it."""
        return self.unit is None


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    """UNION ALL of rows below the cells; what is done to it is done to each arm."""

    arms: tuple[Relation, ...]


def arms_in(rows: Relation | Union) -> tuple[Relation, ...]:
    """The arms; rows without a union are one."""
    return rows.arms if isinstance(rows, Union) else (rows,)


@dataclass(slots=True)
class Names:
    """Gives every source of one statement a name of its own."""

    _count: int = 0

    def alias(self, letter: str) -> str:
        """A name that begins with a letter."""
        self._count += 1
        return f"{letter}{self._count}"

    def boundary(
        self,
        relation: Relation | None,
        groups: tuple[Expression, ...] | None = None,
        having: tuple[Expression, ...] = (),
        *,
        text: str = "",
    ) -> Boundary:
        """A subquery; see `Boundary`."""
        alias = self.alias("s")
        return Boundary(self._count, alias, relation, groups, having, text)


class Through:
    """Atoms of a boundary for what is inside it, each once."""

    def __init__(self, boundary: Boundary, alias: str = "") -> None:
        self._boundary = boundary
        self._alias = alias or boundary.alias
        self._known: list[tuple[Expression, Atom]] = []

    def whole(self, inside: Expression) -> Atom:
        """One atom for a whole expression."""
        for known, atom in self._known:
            if known is inside or (not isinstance(inside, plan.Leaf) and known == inside):
                return atom
        if isinstance(inside, Atom):
            atom = replace(
                inside,
                source=self._boundary,
                inside=inside,
                instance=f"{self._alias}.{inside.instance}",
                alias=self._alias,
            )
        else:
            found = list(plan.leaves_of(inside))
            is_public = all(isinstance(e, Atom) and e.role is Role.PUBLIC for e in found)
            atom = Atom(
                inside.type,
                self._boundary,
                inside,
                Role.PUBLIC if is_public else Role.INNER,
                alias=self._alias,
            )
        self._known.append((inside, atom))
        return atom

    def atom(self, inside: Atom) -> Atom:
        """The atom for an atom."""
        return self.whole(inside)

    def through(self, inside: Expression) -> Expression:
        """The same expression over this boundary's atoms."""
        return plan.rebuild(inside, self.whole)


def over(expression: Expression, relation: Relation) -> Expression:
    """An expression of an operator above a relation, over its atoms."""

    def column(leaf: plan.Reference | plan.Leaf) -> Expression:
        if isinstance(leaf, plan.Reference) and leaf.index < len(relation.columns):
            return relation.columns[leaf.index]
        raise refuse(Refusal.EXPRESSION, "The query refers to a column that is not there.")

    return plan.rebuild(expression, column)


@dataclass(slots=True)
class Scope:
    """One statement while it is rendered: collects the CTEs that it needs.

    Attributes:
        simplified: Replaces what has no columns by literals.
        ctes: By the number of their boundary.
    """

    simplified: Callable[[Expression], Expression]
    ctes: dict[int, Boundary] = field(default_factory=dict)

    def sql(self, expression: Expression) -> str:
        """Renders an expression over atoms."""
        return sql_of(self.simplified(expression), self._leaf)

    def _leaf(self, leaf: plan.Reference | plan.Leaf) -> str:
        match leaf:
            case Atom(source=TableSource() as table, inside=str() as name):
                return f"{table.alias}.{identifier(name)}"
            case Atom(source=Boundary() as boundary):
                return f"{leaf.alias}.{boundary.export(leaf.inside)}"
            case AggregateLeaf(call=call):
                return aggregate_sql(call, self)
            case ExistsLeaf():
                return self._exists(leaf)
            case RowId():
                raise refuse(Refusal.RAW_ROWS, "Row ids are not accepted: they name rows.")
        raise TypeError("a reference that was not resolved")

    def _exists(self, leaf: ExistsLeaf) -> str:
        if leaf.is_in and leaf.is_of_several:
            raise refuse(
                Refusal.EXPRESSION,
                "NOT IN with several columns, or IN with several inside another expression, is "
                "not accepted; use NOT EXISTS or EXISTS.",
            )
        value, compared = "1", []
        outer = ""
        for left, comparison, right in leaf.conditions:
            if leaf.is_in and comparison == "COMPARE_EQUAL":
                outer, value = self.sql(left), self.sql(right)
            else:
                compared.append(f"{self.sql(left)} {COMPARISONS[comparison]} {self.sql(right)}")
        compared += [self.sql(condition) for condition in leaf.relation.where]
        source = leaf.relation.source.render(self)
        where = f" WHERE {' AND '.join(compared)}" if compared else ""
        query = f"(SELECT {value} FROM {source}{where})"
        return f"({outer} IN {query})" if leaf.is_in else f"EXISTS {query}"

    def statement(self, query: str) -> str:
        """The query behind the CTEs that it needs."""
        bodies: dict[int, str] = {}
        # The latest first: only later ones ask anything of it.
        while waiting := self.ctes.keys() - bodies.keys():
            number = max(waiting)
            bodies[number] = self.ctes[number].body(self)
        if not bodies:
            return query
        ctes = (f"{self.ctes[n].alias} AS ({bodies[n]})" for n in sorted(bodies))
        return f"WITH {', '.join(ctes)} {query}"


def aggregate_sql(call: plan.Aggregate, scope: Scope) -> str:
    """Renders an aggregate over atoms."""
    name = call.name.removeprefix("system.main.")
    inner = ", ".join(scope.sql(child) for child in call.children)
    if name == "count_star":
        name, inner = "count", "*"
    distinct = "DISTINCT " if call.is_distinct else ""
    where = f" FILTER (WHERE {scope.sql(call.filter)})" if call.filter is not None else ""
    return f"{identifier(name)}({distinct}{inner}){where}"


def atoms_of(expressions: Sequence[Expression]) -> list[Atom]:
    """Every atom in some expressions, in order; those inside EXISTS are left out."""
    found = [leaf for each in expressions for leaf in plan.leaves_of(each)]
    return [leaf for leaf in found if isinstance(leaf, Atom)]
