"""From operators of the analyst's plan to relations, up to where cells begin.

Each operator becomes one of three things:

- `Relation`: rows below the cells, of units or public, that further operators can work on;
- `Public`: an operator over public tables alone, taken as a whole;
- `Released`: an operator over cells, for stage 2.

An aggregate over protected rows that doesn't group by unit is where cells begin. If its
result then meets protected rows again, it becomes a *guarded* subquery instead
(`checked_groups`): groups of too few units, or of a dominant one, are dropped, and what is left
is used like a constant.

Whether any of this is safe is not decided here, but by the verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.checked_groups import GroupRules, guarded_groups
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.monomials import all_of, monomial_sum, times
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.guard.plan_reader import ROW_ID
from luoshu.sandbox.guard.polynomials import expand, present
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import (
    AggregateLeaf,
    Atom,
    Boundary,
    Cross,
    CteUse,
    ExistsLeaf,
    LeftJoin,
    Relation,
    Role,
    RowId,
    Source,
    TableSource,
    Through,
    over,
)
from luoshu.sandbox.guard.text import short_name
from luoshu.sandbox.guard.uses import check_condition
from luoshu.sandbox.schema import BIGINT, BOOLEAN, TableSchema, ValueType

DEDUP = "__duckdb_delim_dedup_"
_INNER_AGGREGATES = frozenset({"count", "count_star", "sum", "avg", "min", "max"})


@dataclass(frozen=True, slots=True, eq=False)
class Public:
    """An operator that reads public tables and constants only."""

    operator: Operator


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """An operator over cells; with `rows`, the aggregate itself and what it is over."""

    operator: Operator
    rows: Relation | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """DuckDB's list of the outer query's values that a correlated subquery depends on."""

    source: Relation
    keys: tuple[Expression, ...]


Found: TypeAlias = "Relation | Public | Released | Distinct"


class Relations:
    """Visits the operators of one plan; remembers what each is."""

    def __init__(self, tables: Sequence[TableSchema], rules: GroupRules, fold: Constants) -> None:
        self._tables: dict[tuple[str, ...], TableSchema] = {
            (t.catalog, "main", t.table): t for t in tables
        }
        self._rules = rules
        self._fold = fold
        self._count = 0
        self._shared_boundaries: dict[int, Boundary] = {}
        self._found: dict[int, Found] = {}
        self.ctes: dict[int, tuple[Operator, Found]] = {}
        """Definition of each CTE by its number, and what it is."""
        self.public_sql: Callable[[Operator], tuple[str, tuple[ValueType, ...]]] | None = None
        """Renders a whole public operator as a query that puts out x0, x1, …."""

    def visit(self, operator: Operator) -> Found:
        """What an operator is.

        Raises:
            GuardRefusalError: It isn't accepted where it stands.
        """
        known = self._found.get(id(operator))
        if known is None:
            known = self._found[id(operator)] = self._visit(operator)
        return known

    def _visit(self, operator: Operator) -> Found:
        match operator:
            case plan.Get():
                table = self._table(operator)
                return self._scan(operator, table) if table.unit else Public(operator)
            case plan.DummyScan() | plan.Values() | plan.Empty():
                return Public(operator)
            case plan.Filter():
                return self._filter(operator, self.visit(operator.child))
            case plan.Projection():
                return self._project(operator, self.visit(operator.child))
            case plan.GroupBy():
                return self._group_by(operator, self.visit(operator.child))
            case plan.Join():
                return self._join(operator)
            case plan.Cte():
                self.ctes[operator.index] = (operator.definition, self._definition(operator))
                child = self.visit(operator.child)
                return type(child)(operator) if isinstance(child, Public | Released) else child
            case plan.CteRef():
                return self._cte_use(operator)
            case plan.Distinct():
                return self._distinct(operator, self.visit(operator.child))
            case plan.Order():
                child = self.visit(operator.child)
                # Rows have no order that an aggregate could see.
                return child if isinstance(child, Relation) else _same(operator, child)
            case plan.Limit():
                return self._not_rows(operator, "LIMIT or OFFSET", operator.child)
            case plan.WindowStep():
                return self._not_rows(operator, "a window function", operator.child)
            case plan.SetOperation():
                return self._not_rows(operator, _SETS[operator.kind], *operator.children)

    def _not_rows(self, operator: Operator, what: str, *children: Operator) -> Found:
        found = [self.visit(child) for child in children]
        if any(isinstance(each, Relation) and each.unique is not None for each in found):
            raise one_units_groups()
        if any(isinstance(each, Relation | Distinct) for each in found):
            raise refuse(
                Refusal.CLAUSE,
                f"{what} is not accepted over rows of protected tables; aggregate first, then "
                "apply it to the result.",
            )
        is_released = any(isinstance(each, Released) for each in found)
        return Released(operator) if is_released else Public(operator)

    def _table(self, operator: plan.Get) -> TableSchema:
        table = self._tables.get(operator.path)
        if table is None:
            raise refuse(
                Refusal.TABLE,
                f"FROM takes the tables of products; {shown(operator.path[-1])} is none.",
            )
        return table

    def _scan(self, operator: plan.Get, table: TableSchema) -> Relation:
        source = TableSource(operator.path, self._alias("t"))
        role = Role.COLUMN if table.unit else Role.PUBLIC
        declared = {column.name: column for column in table.columns}
        atoms: dict[str, Atom] = {}
        columns: list[Expression] = []
        for index in operator.output:
            if index == ROW_ID:
                columns.append(RowId(BIGINT))
                continue
            name, kind = operator.columns[index]
            is_unit = name == table.unit
            atoms[name] = Atom(
                kind, source, name, Role.UNIT if is_unit else role, table, declared.get(name),
                source.alias,
            )  # fmt: skip
            columns.append(atoms[name])
        unit = None
        if table.unit:
            unit = atoms.get(table.unit) or Atom(
                BIGINT, source, table.unit, Role.UNIT, table, None, source.alias
            )
        return Relation(source, tuple(columns), (), unit)

    def _alias(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def rows(self, found: Found) -> Relation:
        """Anything as a relation: public operators as subqueries, cells as guarded ones."""
        match found:
            case Relation():
                return found
            case Public():
                return self._public(found.operator)
            case Released():
                return self._guarded(found)
            case Distinct():
                return self._public_values(found)

    # Public relations: simple ones are taken apart, so that DuckDB can join them freely.

    def _public(self, operator: Operator) -> Relation:
        match operator:
            case plan.Get():
                return self._scan(operator, self._table(operator))
            case plan.Filter():
                child = self._public(operator.child)
                return _filtered(child, operator.conditions)
            case plan.Projection():
                return _projected(self._public(operator.child), operator.expressions)
            case plan.Join(kind="INNER"):
                return self._inner(
                    operator, self._public(operator.left), self._public(operator.right)
                )
        if self.public_sql is None:
            raise TypeError("no renderer")
        text, types = self.public_sql(operator)
        self._count += 1
        boundary = Boundary(self._count, f"s{self._count}", None, text=text)
        boundary.exports += [plan.Reference(n, kind) for n, kind in enumerate(types)]
        return Relation(
            boundary,
            tuple(
                Atom(kind, boundary, f"x{n}", Role.PUBLIC, alias=boundary.alias)
                for n, kind in enumerate(types)
            ),
        )

    # Operators over relations.

    def _filter(self, operator: plan.Filter, child: Found) -> Found:
        if isinstance(child, Relation):
            return _filtered(child, operator.conditions)
        return _same(operator, child)

    def _project(self, operator: plan.Projection, child: Found) -> Found:
        if isinstance(child, Relation):
            return _projected(child, operator.expressions)
        return _same(operator, child)

    def _distinct(self, operator: plan.Distinct, child: Found) -> Found:
        if not isinstance(child, Relation):
            return _same(operator, child)
        types = [column.type for column in child.columns]
        keys = tuple(plan.Reference(n, kind) for n, kind in enumerate(types))
        return self._group_by(
            plan.GroupBy(operator.child, keys, (), (tuple(range(len(keys))),)), child
        )

    def _group_by(self, operator: plan.GroupBy, child: Found) -> Found:
        if isinstance(child, Distinct):
            raise refuse(Refusal.CLAUSE, "This correlated subquery is not accepted.")
        if not isinstance(child, Relation):
            return _same(operator, child)
        keys = tuple(over(group, child) for group in operator.groups)
        if not _names_unit(keys, child):
            return Released(operator, child)
        if len(operator.sets) != 1 or operator.groupings:
            raise refuse(
                Refusal.CLAUSE, "GROUPING SETS, ROLLUP and CUBE don't go with the privacy unit."
            )
        return self._per_unit(operator, child, keys)

    def _per_unit(
        self, operator: plan.GroupBy, child: Relation, keys: tuple[Expression, ...]
    ) -> Relation:
        unit = child.unit
        assert unit is not None  # noqa: S101 - `_names_unit` found one
        groups = keys if any(key is unit for key in keys) else (*keys, unit)
        boundary = self._boundary(child, groups)
        out = Through(boundary)
        columns: list[Expression] = [out.whole(key) for key in keys]
        for call in operator.aggregates:
            columns.append(self._inner_aggregate(call, child, out))
        return Relation(boundary, tuple(columns), (), out.whole(unit), tuple(columns[: len(keys)]))

    def _boundary(
        self,
        relation: Relation,
        groups: tuple[Expression, ...] | None = None,
        having: tuple[Expression, ...] = (),
    ) -> Boundary:
        self._count += 1
        return Boundary(self._count, f"s{self._count}", relation, groups, having)

    def _inner_aggregate(self, call: plan.Aggregate, child: Relation, out: Through) -> Expression:
        name = short_name(call.name)
        where = None if call.filter is None else over(call.filter, child)
        arguments = tuple(over(argument, child) for argument in call.children)
        if name not in _INNER_AGGREGATES:
            raise refuse(
                Refusal.FUNCTION,
                f"Inside one unit, {shown(name)} is not accepted; there are COUNT, SUM, AVG, MIN "
                "and MAX.",
            )
        if name != "sum" or call.is_distinct:
            leaf = AggregateLeaf(
                call.type,
                plan.Aggregate(call.name, arguments, where, call.is_distinct, call.type),
            )
            return out.whole(leaf)
        # A sum is the sum of its monomials' sums, so that what adds it up sees monomials.
        total: Expression | None = None
        for branch in expand(arguments[0], self._fold.value):
            conditions = [*branch.conditions, *present(branch.atoms)]
            conditions += [where] if where is not None else []
            for term in branch.terms:
                inner = monomial_sum(term.factors, all_of(conditions))
                part = times(out.whole(AggregateLeaf(inner.type, inner)), term.coefficient)
                total = part if total is None else plan.Call(
                    "system.main.+", "BOUND_FUNCTION", (total, part), call.type
                )  # fmt: skip
        return total if total is not None else plan.Constant(None, call.type)

    # Joins.

    def _join(self, operator: plan.Join) -> Found:
        left, right = self.visit(operator.left), self.visit(operator.right)
        if isinstance(left, Relation):
            if isinstance(right, Distinct) and operator.kind == "SEMI":
                # It only keeps what the outer query can meet, and that meets nothing else.
                values = self._public_superset(right)
                return left if values is None else self._meet(operator, left, values)
            return self._meet(operator, left, self.rows(right))
        if isinstance(left, Distinct) and not isinstance(right, Relation):
            return self._meet(operator, self._public_values(left), self.rows(right))
        if isinstance(right, Relation):
            if operator.kind == "INNER":
                return self._inner(operator, self.rows(left), right)
            raise refuse(
                Refusal.TABLE,
                "Public rows, or results, can't be chosen by whether protected rows meet them; "
                "start FROM the protected table.",
            )
        if isinstance(right, Distinct):
            return self._meet(operator, self.rows(left), self._public_values(right))
        is_released = isinstance(left, Released) or isinstance(right, Released)
        return Released(operator) if is_released else Public(operator)

    def _meet(self, operator: plan.Join, left: Relation, right: Relation) -> Relation:
        match operator.kind:
            case "INNER":
                return self._inner(operator, left, right)
            case "LEFT" | "SINGLE":
                return self._left(operator, left, right)
            case _:
                return self._exists(operator, left, right)

    def _inner(self, operator: plan.Join, left: Relation, right: Relation) -> Relation:
        conditions = _pairs(operator, left, right)
        return Relation(
            Cross(left.source, right.source),
            (*_mapped(left, operator.left_map), *_mapped(right, operator.right_map)),
            (*left.where, *right.where, *map(_compared, conditions)),
            left.unit or right.unit,
        )

    def _left(self, operator: plan.Join, left: Relation, right: Relation) -> Relation:
        conditions = _pairs(operator, left, right)
        if operator.kind == "SINGLE":
            compared = {id(pair[2]) for pair in conditions if pair[1] in _EQUALITIES}
            if right.unique is None or not {id(key) for key in right.unique} <= compared:
                raise refuse(
                    Refusal.CLAUSE,
                    "A scalar subquery must be an aggregate: whether it has several rows would "
                    "depend on data.",
                )
        is_plain = isinstance(right.source, TableSource | Boundary) and not right.where
        if not is_plain or not all(isinstance(column, Atom) for column in right.columns):
            boundary = self._boundary(right)
            out = Through(boundary)
            # Where no row meets, a column is NULL whatever it is computed from.
            columns = tuple(out.whole(column) for column in right.columns)
            places = {id(old): new for old, new in zip(right.columns, columns, strict=True)}
            right = Relation(boundary, columns, (), right.unit)
            conditions = tuple(
                (one, comparison, places.get(id(other)) or out.through(other))
                for one, comparison, other in conditions
            )
        source = right.source
        assert isinstance(source, TableSource | Boundary)  # noqa: S101 - made so above
        right = replace(right, columns=tuple(map(_maybe_missing, right.columns)))
        return Relation(
            LeftJoin(left.source, source, tuple(map(_compared, conditions))),
            (*_mapped(left, operator.left_map), *_mapped(right, operator.right_map)),
            left.where,
            left.unit,
            left.unique,
        )

    def _exists(self, operator: plan.Join, left: Relation, right: Relation) -> Relation:
        conditions = _pairs(operator, left, right)
        is_mark = operator.kind == "MARK"
        is_in = is_mark and any(pair[1] == "COMPARE_EQUAL" for pair in conditions)
        if is_in and sum(pair[1] == "COMPARE_EQUAL" for pair in conditions) > 1:
            raise refuse(Refusal.EXPRESSION, "IN with several columns is not accepted; use EXISTS.")
        # DuckDB compares so that NULL meets NULL, and filters NULLs out before. Plain comparisons
        # mean the same, and it knows how to join by them.
        plain = tuple((one, _PLAIN.get(how, how), other) for one, how, other in conditions)
        leaf: Expression = ExistsLeaf(BOOLEAN, right, conditions if is_in else plain, is_in)
        columns = _mapped(left, operator.left_map)
        if is_mark:
            return replace(left, columns=(*columns, leaf))
        if operator.kind == "ANTI":
            leaf = plan.Call("OPERATOR_NOT", "OPERATOR_NOT", (leaf,), BOOLEAN)
        return replace(left, columns=columns, where=(*left.where, leaf))

    # CTEs, and DuckDB's way to write correlated subqueries with them.

    def _cte_use(self, operator: plan.CteRef) -> Found:
        found = self.ctes[operator.index][1]
        if isinstance(found, Distinct):
            return found
        if not isinstance(found, Relation):
            return _same(operator, found)
        boundary = self._shared(operator.index, found)
        alias = self._alias("r")
        out = Through(boundary, alias)
        return Relation(
            CteUse(boundary, alias),
            tuple(out.through(column) for column in found.columns),
            (),
            None if found.unit is None else out.atom(found.unit),
            None if found.unique is None else tuple(out.through(key) for key in found.unique),
        )

    def _shared(self, index: int, found: Relation) -> Boundary:
        boundary = self._shared_boundaries.get(index)
        if boundary is None:
            boundary = self._shared_boundaries[index] = self._boundary(found)
            boundary.alias = f"w{boundary.number}"
        return boundary

    def _guarded(self, released: Released) -> Relation:
        operator = released.operator
        match operator:
            case plan.Projection():
                child = self._guarded_child(operator.child)
                return _projected(child, operator.expressions)
            case plan.Filter():
                return _filtered(self._guarded_child(operator.child), operator.conditions)
            case plan.GroupBy() if released.rows is not None:
                return guarded_groups(operator, released.rows, self._boundary, self._rules)
            case plan.Cte():
                return self._guarded_child(operator.child)
            case plan.CteRef():
                return self._guarded_child(self.ctes[operator.index][0])
            case plan.Join(kind="INNER" | "LEFT" | "SINGLE"):
                left = self.rows(self.visit(operator.left))
                return self._meet(operator, left, self.rows(self.visit(operator.right)))
        raise refuse(
            Refusal.CLAUSE,
            "A result that protected rows are compared with must be a plain aggregate with GROUP "
            "BY; simplify the subquery.",
        )

    def _guarded_child(self, operator: Operator) -> Relation:
        found = self.visit(operator)
        return self.rows(found)

    # What a correlated subquery depends on.

    def _definition(self, operator: plan.Cte) -> Found:
        definition = operator.definition
        if (
            operator.name.startswith(DEDUP)
            and isinstance(definition, plan.GroupBy)
            and isinstance(definition.child, plan.CteRef)
        ):
            outer = self.ctes[definition.child.index][1]
            if isinstance(outer, Relation) and not outer.is_public:
                keys = tuple(over(group, outer) for group in definition.groups)
                if not _names_unit(keys, outer):
                    return Distinct(outer, keys)
        return self.visit(definition)

    def _public_values(self, distinct: Distinct) -> Relation:
        found = self._public_superset(distinct)
        if found is None:
            raise refuse(
                Refusal.CLAUSE,
                "This correlated subquery depends on values of protected rows other than their "
                "privacy unit; write it as a join, or correlate it by the unit.",
            )
        return found

    def _public_superset(self, distinct: Distinct) -> Relation | None:
        """More values than the list has, from public tables alone; None if there are none.

        The result meets the outer query again, by equality of these values, so more of them
        change nothing; and which values protected rows have would be a secret.
        """
        keys = [key for key in distinct.keys if isinstance(key, Atom)]
        tables = {
            source.alias: TableSource(source.path, self._alias("t"))
            for source in distinct.source.source.parts()
            if isinstance(source, TableSource) and any(key.source is source for key in keys)
        }
        is_public = all(key.role is Role.PUBLIC and key.instance in tables for key in keys)
        if len(keys) < len(distinct.keys) or not is_public or not keys:
            return None
        copies: dict[int, Atom] = {}

        def copy(leaf: plan.Reference | plan.Leaf) -> Expression:
            assert isinstance(leaf, Atom)  # noqa: S101 - chosen so below
            if id(leaf) not in copies:
                source = tables[leaf.instance]
                copies[id(leaf)] = replace(leaf, source=source, instance=source.alias)
            return copies[id(leaf)]

        where = tuple(
            plan.rebuild(condition, copy)
            for condition in distinct.source.where
            if all(
                isinstance(leaf, Atom)
                and isinstance(leaf.source, TableSource)
                and leaf.instance in tables
                for leaf in plan.leaves_of(condition)
            )
        )
        source: Source | None = None
        for each in tables.values():
            source = each if source is None else Cross(source, each)
        assert source is not None  # noqa: S101 - there are keys
        copied = tuple(plan.rebuild(key, copy) for key in keys)
        boundary = self._boundary(Relation(source, copied, where), copied)
        out = Through(boundary)
        columns = tuple(out.whole(key) for key in copied)
        return Relation(boundary, columns, (), None, columns)


def one_units_groups() -> Exception:
    """The refusal of a result whose groups are one unit's each."""
    return refuse(
        Refusal.UNIT,
        "Each group of this result belongs to one privacy unit, because its keys name the unit, so "
        "no group could be released. Leave that key out, or aggregate the groups once more.",
    )


_EQUALITIES = frozenset({"COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"})
_PLAIN = {
    "COMPARE_NOT_DISTINCT_FROM": "COMPARE_EQUAL",
    "COMPARE_DISTINCT_FROM": "COMPARE_NOTEQUAL",
}
_SETS = {"UNION": "UNION", "INTERSECT": "INTERSECT", "EXCEPT": "EXCEPT"}


def _maybe_missing(column: Expression) -> Expression:
    """A column of a row that may not be there: it can be NULL, whatever its table says."""
    if isinstance(column, Atom) and column.column is not None:
        return replace(column, column=replace(column.column, is_nullable=True))
    return column


def _same(operator: Operator, child: Found) -> Found:
    if isinstance(child, Distinct):
        raise refuse(Refusal.CLAUSE, "This correlated subquery is not accepted.")
    return Public(operator) if isinstance(child, Public) else Released(operator)


def _filtered(relation: Relation, conditions: Sequence[Expression]) -> Relation:
    found = [part for condition in conditions for part in conjuncts(over(condition, relation))]
    if not relation.is_public:
        for part in found:
            check_condition(part)
    return replace(relation, where=(*relation.where, *found))


def conjuncts(condition: Expression) -> list[Expression]:
    """The conditions that a condition is the AND of."""
    if isinstance(condition, plan.Call) and condition.kind == "CONJUNCTION_AND":
        return [part for child in condition.children for part in conjuncts(child)]
    return [condition]


def _projected(relation: Relation, expressions: Sequence[Expression]) -> Relation:
    return replace(relation, columns=tuple(over(each, relation) for each in expressions))


def _pairs(
    operator: plan.Join, left: Relation, right: Relation
) -> tuple[tuple[Expression, str, Expression], ...]:
    return tuple(
        (over(one, left), comparison, over(other, right))
        for one, comparison, other in operator.conditions
    )


def _compared(pair: tuple[Expression, str, Expression]) -> Expression:
    return plan.Call(pair[1], pair[1], (pair[0], pair[2]), BOOLEAN)


def _mapped(relation: Relation, places: tuple[int, ...] | None) -> tuple[Expression, ...]:
    if places is None:
        return relation.columns
    return tuple(relation.columns[place] for place in places)


def _names_unit(keys: Sequence[Expression], relation: Relation) -> bool:
    """Whether group keys determine the unit: the unit itself, or all columns of a unit key."""
    if relation.unit is None:
        return False
    atoms = [key for key in keys if isinstance(key, Atom)]
    if any(atom.role is Role.UNIT for atom in atoms):
        return True
    for atom in atoms:
        names = {
            other.column.name for other in atoms if other.instance == atom.instance and other.column
        }
        if atom.table and any(set(key.columns) <= names for key in atom.table.keys):
            return True
    return False
