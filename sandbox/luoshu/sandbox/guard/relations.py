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
from dataclasses import dataclass
from typing import TypeAlias

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.checked_groups import GroupRules, guarded_groups
from luoshu.sandbox.guard.columns import filtered, names_unit, projected
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.groups import per_unit
from luoshu.sandbox.guard.joins import meet
from luoshu.sandbox.guard.outer_values import Distinct, public_superset
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.guard.plan_reader import ROW_ID
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import (
    Atom,
    Boundary,
    CteUse,
    Names,
    Relation,
    Role,
    RowId,
    TableSource,
    Through,
    Union,
    arms_in,
    over,
)
from luoshu.sandbox.schema import BIGINT, TableSchema, ValueType

DEDUP = "__duckdb_delim_dedup_"
MAX_ARMS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Public:
    """An operator that reads public tables and constants only."""

    operator: Operator


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """An operator over cells; with `rows`, the aggregate itself and what it is over."""

    operator: Operator
    rows: Relation | Union | None = None


Found: TypeAlias = "Relation | Union | Public | Released | Distinct"


class Relations:
    """Visits the operators of one plan; remembers what each is."""

    def __init__(self, tables: Sequence[TableSchema], rules: GroupRules, fold: Constants) -> None:
        self._tables: dict[tuple[str, ...], TableSchema] = {
            (t.catalog, "main", t.table): t for t in tables
        }
        self.names = Names()
        """Of all sources of the statement."""
        self._rules = rules
        self._fold = fold
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
                self._shared_boundaries.pop(operator.index, None)
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
                return child if isinstance(child, Relation | Union) else _same(operator, child)
            case plan.Limit():
                return self._not_rows(operator, "LIMIT or OFFSET", operator.child)
            case plan.WindowStep():
                return self._not_rows(operator, "a window, or LIMIT in a subquery,", operator.child)
            case plan.SetOperation():
                if operator.kind == "UNION" and operator.is_all:
                    return self._union(operator)
                return self._not_rows(operator, operator.kind, *operator.children)

    def _not_rows(self, operator: Operator, what: str, *children: Operator) -> Found:
        found = [self.visit(child) for child in children]
        if any(isinstance(each, Relation) and each.unique is not None for each in found):
            raise one_units_groups()
        if any(isinstance(each, Relation | Union | Distinct) for each in found):
            raise refuse(
                Refusal.CLAUSE,
                f"{what} is not accepted over rows of protected tables; aggregate first, then "
                "apply it to the result.",
            )
        is_released = any(isinstance(each, Released) for each in found)
        return Released(operator) if is_released else Public(operator)

    def _union(self, operator: plan.SetOperation) -> Found:
        found = [self.visit(child) for child in operator.children]
        arms = [
            arm for each in found if isinstance(each, Relation | Union) for arm in arms_in(each)
        ]
        if not arms:
            return self._not_rows(operator, "UNION ALL", *operator.children)
        if not all(isinstance(each, Relation | Union) for each in found):
            raise refuse(
                Refusal.CLAUSE,
                "UNION ALL takes rows of protected tables on all sides, or results on all sides; "
                "aggregate the protected rows first.",
            )
        return _united(arms)

    def _table(self, operator: plan.Get) -> TableSchema:
        table = self._tables.get(operator.path)
        if table is None:
            raise refuse(
                Refusal.TABLE,
                f"FROM takes the tables of products; {shown(operator.path[-1])} is none.",
            )
        return table

    def _scan(self, operator: plan.Get, table: TableSchema) -> Relation:
        source = TableSource(operator.path, self.names.alias("t"))
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
            case Union():
                raise refuse(
                    Refusal.CLAUSE,
                    "Rows can't be chosen by UNION ALL of protected rows; write a condition for "
                    "each arm.",
                )

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
                return meet(
                    operator, self._public(operator.left), self._public(operator.right), self.names
                )
        if self.public_sql is None:
            raise TypeError("no renderer")
        text, types = self.public_sql(operator)
        boundary = self.names.boundary(None, text=text)
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
        if isinstance(child, Relation | Union):
            return _each(child, lambda arm: filtered(arm, operator.conditions))
        return _same(operator, child)

    def _project(self, operator: plan.Projection, child: Found) -> Found:
        if isinstance(child, Relation | Union):
            return _each(child, lambda arm: projected(arm, operator.expressions))
        return _same(operator, child)

    def _distinct(self, operator: plan.Distinct, child: Found) -> Found:
        if not isinstance(child, Relation | Union):
            return _same(operator, child)
        types = plan.output_types(operator)
        keys = tuple(plan.Reference(n, kind) for n, kind in enumerate(types))
        return self._group_by(
            plan.GroupBy(operator.child, keys, (), (tuple(range(len(keys))),)), child
        )

    def _group_by(self, operator: plan.GroupBy, child: Found) -> Found:
        if isinstance(child, Distinct):
            raise refuse(Refusal.CLAUSE, "This correlated subquery is not accepted.")
        if not isinstance(child, Relation | Union):
            return _same(operator, child)
        if not any(
            names_unit([over(group, arm) for group in operator.groups], arm)
            for arm in arms_in(child)
        ):
            return Released(operator, child)
        if isinstance(child, Union):
            raise refuse(
                Refusal.CLAUSE,
                "DISTINCT, or GROUP BY, with the privacy unit is not accepted over UNION ALL of "
                "protected rows; count units with COUNT(DISTINCT …), or group each arm by the "
                "unit and join the results by it.",
            )
        if len(operator.sets) != 1 or operator.groupings:
            raise refuse(
                Refusal.CLAUSE, "GROUPING SETS, ROLLUP and CUBE don't go with the privacy unit."
            )
        keys = tuple(over(group, child) for group in operator.groups)
        there = [key for key in keys if not (isinstance(key, Atom) and key.is_optional)]
        if not names_unit(there, child):
            raise refuse(
                Refusal.UNIT,
                "A key that may be missing, of the outer side of a LEFT JOIN, makes one group of "
                "the rows of several units that lack it. Group by the privacy unit of the other "
                "side as well, or JOIN.",
            )
        return per_unit(operator, child, keys, self.names, self._fold)

    # Joins.

    def _join(self, operator: plan.Join) -> Found:
        left, right = self.visit(operator.left), self.visit(operator.right)
        if isinstance(left, Union) or (isinstance(right, Union) and operator.kind == "INNER"):
            return self._join_arms(operator, left, right)
        return self._join_found(operator, left, right)

    def _join_arms(self, operator: plan.Join, left: Found, right: Found) -> Found:
        """What is joined with a union is joined with each arm."""
        pairs = [
            self._join_found(operator, one, other)
            for one in (left.arms if isinstance(left, Union) else (left,))
            for other in (right.arms if isinstance(right, Union) else (right,))
        ]
        return _united([arm for arm in pairs if isinstance(arm, Relation)])

    def _join_found(self, operator: plan.Join, left: Found, right: Found) -> Found:
        if isinstance(left, Relation):
            if isinstance(right, Distinct) and operator.kind == "SEMI":
                # It only keeps what the outer query can meet, and that meets nothing else.
                values = public_superset(right, self.names)
                return left if values is None else meet(operator, left, values, self.names)
            return meet(operator, left, self.rows(right), self.names)
        if isinstance(left, Distinct) and not isinstance(right, Relation):
            return meet(operator, self._public_values(left), self.rows(right), self.names)
        if isinstance(right, Relation):
            if operator.kind in {"INNER", "FULL"}:
                return meet(operator, self.rows(left), right, self.names)
            raise refuse(
                Refusal.TABLE,
                "Public rows, or results, can't be chosen by whether protected rows meet them; "
                "start FROM the protected table.",
            )
        if isinstance(right, Distinct):
            return meet(operator, self.rows(left), self._public_values(right), self.names)
        is_released = isinstance(left, Released) or isinstance(right, Released)
        return Released(operator) if is_released else Public(operator)

    # CTEs, and DuckDB's way to write correlated subqueries with them.

    def _cte_use(self, operator: plan.CteRef) -> Found:
        found = self.ctes[operator.index][1]
        if isinstance(found, Distinct):
            return found
        if isinstance(found, Union):
            return self._again(self.ctes[operator.index][0])
        if not isinstance(found, Relation):
            return _same(operator, found)
        boundary = self._shared(operator.index, found)
        alias = self.names.alias("r")
        out = Through(boundary, alias)
        return Relation(
            CteUse(boundary, alias),
            tuple(out.through(column) for column in found.columns),
            (),
            None if found.unit is None else out.atom(found.unit),
            None if found.unique is None else tuple(out.through(key) for key in found.unique),
        )

    def _again(self, operator: Operator) -> Found:
        """What an operator is, read anew under other names."""
        known, self._found = self._found, {}
        try:
            return self.visit(operator)
        finally:
            self._found = known

    def _shared(self, index: int, found: Relation) -> Boundary:
        boundary = self._shared_boundaries.get(index)
        if boundary is None:
            boundary = self._shared_boundaries[index] = self.names.boundary(found)
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
            case plan.GroupBy() if isinstance(released.rows, Relation):
                return guarded_groups(operator, released.rows, self.names.boundary, self._rules)
            case plan.Cte():
                return self._guarded_child(operator.child)
            case plan.CteRef():
                return self._guarded_child(self.ctes[operator.index][0])
            case plan.Join(kind="INNER" | "LEFT" | "SINGLE"):
                left = self.rows(self.visit(operator.left))
                return meet(operator, left, self.rows(self.visit(operator.right)), self.names)
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
                # It meets the outer query again by these values, so it may have more of them.
                rows = self.rows(self.visit(definition.child))
                keys = tuple(over(group, rows) for group in definition.groups)
                return per_unit(definition, rows, keys, self.names, self._fold)
        return self.visit(definition)

    def _public_values(self, distinct: Distinct) -> Relation:
        found = public_superset(distinct, self.names)
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


def _each(rows: Relation | Union, change: Callable[[Relation], Relation]) -> Relation | Union:
    """The same done to all rows, or to each arm."""
    return Union(tuple(map(change, rows.arms))) if isinstance(rows, Union) else change(rows)


def _united(arms: Sequence[Relation]) -> Union:
    if len(arms) > MAX_ARMS:
        raise refuse(
            Refusal.SIZE, f"More than {MAX_ARMS} arms of UNION ALL; ask in several queries."
        )
    domains = {arm.unit.table.domain for arm in arms if arm.unit and arm.unit.table}
    if len(domains) > 1:
        raise refuse(
            Refusal.TABLE,
            "UNION ALL takes tables of one privacy domain; these protect different units.",
        )
    return Union(tuple(arms))


def _same(operator: Operator, child: Found) -> Found:
    if isinstance(child, Distinct):
        raise refuse(Refusal.CLAUSE, "This correlated subquery is not accepted.")
    return Public(operator) if isinstance(child, Public) else Released(operator)
