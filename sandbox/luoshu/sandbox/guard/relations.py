"""From operators of the analyst's plan to relations, up to where cells begin.

Each operator becomes one of three things:

- `Relation`: rows below the cells, of units or public, that further operators can work on;
- `Public`: an operator over public tables alone, taken as a whole;
- `Released`: an operator over cells, for stage 2.

An aggregate over protected rows that doesn't group by unit is where cells begin. If its
result then meets protected rows again, it becomes a *guarded* subquery instead: every group
with fewer than `min_units` units is dropped, and what is left is used like a constant.

Whether any of this is safe is not decided here, but by the verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.columns import (
    Through,
    compared,
    filtered,
    mapped,
    maybe_missing,
    names_unit,
    over,
    pairs,
    projected,
)
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.groups import Groups
from luoshu.sandbox.guard.outer_values import Distinct, public_superset
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.guard.plan_reader import ROW_ID
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import (
    Atom,
    Boundary,
    Cross,
    CteUse,
    ExistsLeaf,
    LeftJoin,
    Names,
    Relation,
    Role,
    RowId,
    TableSource,
)
from luoshu.sandbox.schema import BIGINT, BOOLEAN, TableSchema, ValueType

DEDUP = "__duckdb_delim_dedup_"


@dataclass(frozen=True, slots=True, eq=False)
class Public:
    """An operator that reads public tables and constants only."""

    operator: Operator


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """An operator over cells; with `rows`, the aggregate itself and what it is over."""

    operator: Operator
    rows: Relation | None = None


Found: TypeAlias = "Relation | Public | Released | Distinct"


class Relations:
    """Visits the operators of one plan; remembers what each is."""

    def __init__(self, tables: Sequence[TableSchema], min_units: int, fold: Constants) -> None:
        self._tables: dict[tuple[str, ...], TableSchema] = {
            (t.catalog, "main", t.table): t for t in tables
        }
        self._names = Names()
        self._groups = Groups(self._names, min_units, fold)
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
        source = TableSource(operator.path, self._names.alias("t"))
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
                return filtered(child, operator.conditions)
            case plan.Projection():
                return projected(self._public(operator.child), operator.expressions)
            case plan.Join(kind="INNER"):
                return self._inner(
                    operator, self._public(operator.left), self._public(operator.right)
                )
        if self.public_sql is None:
            raise TypeError("no renderer")
        text, types = self.public_sql(operator)
        boundary = self._names.boundary(None, text=text)
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
            return filtered(child, operator.conditions)
        return _same(operator, child)

    def _project(self, operator: plan.Projection, child: Found) -> Found:
        if isinstance(child, Relation):
            return projected(child, operator.expressions)
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
        if not names_unit(keys, child):
            return Released(operator, child)
        if len(operator.sets) != 1 or operator.groupings:
            raise refuse(
                Refusal.CLAUSE, "GROUPING SETS, ROLLUP and CUBE don't go with the privacy unit."
            )
        return self._groups.per_unit(operator, child, keys)

    # Joins.

    def _join(self, operator: plan.Join) -> Found:
        left, right = self.visit(operator.left), self.visit(operator.right)
        if isinstance(left, Relation):
            if isinstance(right, Distinct) and operator.kind == "SEMI":
                # It only keeps what the outer query can meet, and that meets nothing else.
                values = public_superset(right, self._names)
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
        conditions = pairs(operator, left, right)
        return Relation(
            Cross(left.source, right.source),
            (*mapped(left, operator.left_map), *mapped(right, operator.right_map)),
            (*left.where, *right.where, *map(compared, conditions)),
            left.unit or right.unit,
        )

    def _left(self, operator: plan.Join, left: Relation, right: Relation) -> Relation:
        conditions = pairs(operator, left, right)
        if operator.kind == "SINGLE":
            equated = {id(pair[2]) for pair in conditions if pair[1] in _EQUALITIES}
            if right.unique is None or not {id(key) for key in right.unique} <= equated:
                raise refuse(
                    Refusal.CLAUSE,
                    "A scalar subquery must be an aggregate: whether it has several rows would "
                    "depend on data.",
                )
        is_plain = isinstance(right.source, TableSource | Boundary) and not right.where
        if not is_plain or not all(isinstance(column, Atom) for column in right.columns):
            boundary = self._names.boundary(right)
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
        right = replace(right, columns=tuple(map(maybe_missing, right.columns)))
        return Relation(
            LeftJoin(left.source, source, tuple(map(compared, conditions))),
            (*mapped(left, operator.left_map), *mapped(right, operator.right_map)),
            left.where,
            left.unit,
            left.unique,
        )

    def _exists(self, operator: plan.Join, left: Relation, right: Relation) -> Relation:
        conditions = pairs(operator, left, right)
        is_mark = operator.kind == "MARK"
        is_in = is_mark and any(pair[1] == "COMPARE_EQUAL" for pair in conditions)
        if is_in and sum(pair[1] == "COMPARE_EQUAL" for pair in conditions) > 1:
            raise refuse(Refusal.EXPRESSION, "IN with several columns is not accepted; use EXISTS.")
        # DuckDB compares so that NULL meets NULL, and filters NULLs out before. Plain comparisons
        # mean the same, and it knows how to join by them.
        plain = tuple((one, _PLAIN.get(how, how), other) for one, how, other in conditions)
        leaf: Expression = ExistsLeaf(BOOLEAN, right, conditions if is_in else plain, is_in)
        columns = mapped(left, operator.left_map)
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
        alias = self._names.alias("r")
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
            boundary = self._shared_boundaries[index] = self._names.boundary(found)
            boundary.alias = f"w{boundary.number}"
        return boundary

    def _guarded(self, released: Released) -> Relation:
        operator = released.operator
        match operator:
            case plan.Projection():
                child = self._guarded_child(operator.child)
                return projected(child, operator.expressions)
            case plan.Filter():
                return filtered(self._guarded_child(operator.child), operator.conditions)
            case plan.GroupBy() if released.rows is not None:
                return self._groups.guarded(operator, released.rows)
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
                if not names_unit(keys, outer):
                    return Distinct(outer, keys)
        return self.visit(definition)

    def _public_values(self, distinct: Distinct) -> Relation:
        found = public_superset(distinct, self._names)
        if found is None:
            raise refuse(
                Refusal.CLAUSE,
                "This correlated subquery depends on values of protected rows other than their "
                "privacy unit; write it as a join, or correlate it by the unit.",
            )
        return found


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


def _same(operator: Operator, child: Found) -> Found:
    if isinstance(child, Distinct):
        raise refuse(Refusal.CLAUSE, "This correlated subquery is not accepted.")
    return Public(operator) if isinstance(child, Public) else Released(operator)
