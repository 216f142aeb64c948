"""Aggregates below the cells: of each unit's own rows, or of enough units to compare with."""

from __future__ import annotations

from dataclasses import dataclass

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.columns import Through, conjuncts, over
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.monomials import all_of, monomial_sum, times
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.polynomials import expand, is_not_null, present
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sources import AggregateLeaf, Atom, Names, Relation, Role
from luoshu.sandbox.guard.text import short_name
from luoshu.sandbox.schema import BIGINT, BOOLEAN

_INNER_AGGREGATES = frozenset({"count", "count_star", "sum", "avg", "min", "max"})
_NOT_OF_NULL = frozenset(
    [
        "OPERATOR_IS_NOT_NULL",
        "COMPARE_EQUAL",
        "COMPARE_LESSTHAN",
        "COMPARE_GREATERTHAN",
        "COMPARE_LESSTHANOREQUALTO",
        "COMPARE_GREATERTHANOREQUALTO",
        "COMPARE_IN",
    ]
)


@dataclass(frozen=True, slots=True)
class Groups:
    """Writes them for one statement.

    Attributes:
        names: Of the statement's sources.
        min_units: Fewest units behind a value of several units.
        fold: Evaluates an expression without columns.
    """

    names: Names
    min_units: int
    fold: Constants

    def per_unit(
        self, operator: plan.GroupBy, child: Relation, keys: tuple[Expression, ...]
    ) -> Relation:
        """An aggregate whose keys determine the unit."""
        unit = child.unit
        assert unit is not None  # noqa: S101 - `names_unit` found one
        groups = keys if any(key is unit for key in keys) else (*keys, unit)
        boundary = self.names.boundary(child, groups)
        out = Through(boundary)
        columns: list[Expression] = [out.whole(key) for key in keys]
        for call in operator.aggregates:
            columns.append(self._inner_aggregate(call, child, out))
        return Relation(boundary, tuple(columns), (), out.whole(unit), tuple(columns[: len(keys)]))

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
        for branch in expand(arguments[0], self.fold.value):
            conditions = [*branch.conditions, *present(branch.atoms)]
            conditions += [where] if where is not None else []
            for term in branch.terms:
                inner = monomial_sum(term.factors, all_of(conditions))
                part = times(out.whole(AggregateLeaf(inner.type, inner)), term.coefficient)
                total = part if total is None else plan.Call(
                    "system.main.+", "BOUND_FUNCTION", (total, part), call.type
                )  # fmt: skip
        return total if total is not None else plan.Constant(None, call.type)

    def guarded(self, operator: plan.GroupBy, child: Relation) -> Relation:
        """An aggregate of several units, without the groups that have too few."""
        if len(operator.sets) != 1 or operator.groupings or child.unit is None:
            raise refuse(
                Refusal.CLAUSE, "GROUPING SETS, ROLLUP and CUBE are not accepted in a subquery."
            )
        keys = tuple(over(group, child) for group in operator.groups)
        boundary = self.names.boundary(child, keys)
        out = Through(boundary)
        columns: list[Expression] = [out.whole(key) for key in keys]
        behind: list[tuple[Expression, ...]] = []
        for call in operator.aggregates:
            name = short_name(call.name)
            if name not in {"count", "count_star", "sum", "avg"} or (
                call.is_distinct and name != "count"
            ):
                raise refuse(
                    Refusal.FUNCTION,
                    f"In a subquery that protected rows are compared with, {shown(name)} is not "
                    "accepted; there are COUNT, SUM and AVG.",
                )
            inner = plan.Aggregate(
                call.name,
                tuple(over(argument, child) for argument in call.children),
                None if call.filter is None else over(call.filter, child),
                call.is_distinct,
                call.type,
            )
            columns.append(out.whole(AggregateLeaf(call.type, inner)))
            if not inner.is_distinct:
                behind.append(self._rows_behind(inner, child))
        boundary.having = tuple(self._enough(child.unit, where) for where in dict.fromkeys(behind))
        boundary.having = boundary.having or (self._enough(child.unit, ()),)
        return Relation(boundary, tuple(columns), (), None, tuple(columns[: len(keys)]))

    @staticmethod
    def _rows_behind(call: plan.Aggregate, child: Relation) -> tuple[Expression, ...]:
        """Conditions of the rows that a value rests on: its FILTER, and no NULLs."""
        known = [each for each in child.where if isinstance(each, plan.Call)]
        has_value = {id(p) for each in known if each.kind in _NOT_OF_NULL for p in each.children}
        atoms = {id(leaf): leaf for each in call.children for leaf in plan.leaves_of(each)}
        return (
            *(conjuncts(call.filter) if call.filter is not None else ()),
            *(
                is_not_null(atom)
                for atom in atoms.values()
                if id(atom) not in has_value
                and not (isinstance(atom, Atom) and atom.role is Role.UNIT)
            ),
        )

    def _enough(self, unit: Atom, where: tuple[Expression, ...]) -> Expression:
        units = plan.Aggregate("system.main.count", (unit,), all_of(where), True, BIGINT)
        return plan.Call(
            ">=",
            "COMPARE_GREATERTHANOREQUALTO",
            (AggregateLeaf(BIGINT, units), plan.Constant(self.min_units, BIGINT)),
            BOOLEAN,
        )
