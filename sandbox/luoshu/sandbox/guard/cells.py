"""Cell queries: an aggregate over protected rows as stage-1 SQL, and what stage 2 makes of it.

    SELECT sex, avg(age) FROM lung WHERE inst = 3 GROUP BY sex

becomes as a cell query, to be verified and then run over the protected table,

    SELECT t1.sex AS k0, t1.patient AS u, sum(t1.age) FILTER (…) AS a0, count(*) FILTER (…) AS a1
    FROM lung AS t1 WHERE t1.inst = CAST('3' AS BIGINT) GROUP BY t1.sex, t1.patient

and in stage 2 an expression over the released cells: c0 / c1, rounded.

Rows of several arms of UNION ALL are told apart by a number; a component is of one arm:

    SELECT s.k0, s.u, count(*) FILTER (WHERE s.arm = 0 AND s.f0) AS a0, … FROM (SELECT … AS k0,
    … AS u, 0 AS arm, … AS f0 FROM … UNION ALL …) AS s GROUP BY s.k0, s.u

Arms whose keys are different constants meet in no cell, so each is a cell query of its own.
"""

from __future__ import annotations

from dataclasses import replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.cell_select import CellSelect, Requests
from luoshu.sandbox.guard.cell_sql import Arm
from luoshu.sandbox.guard.columns import conjuncts
from luoshu.sandbox.guard.conditions import decided_by
from luoshu.sandbox.guard.folding import Constants, is_false, is_true
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.guard.sets import branches_of
from luoshu.sandbox.guard.sources import ExistsLeaf, Names, Relation, Through, Union, arms_in, over
from luoshu.sandbox.guard.text import unstored
from luoshu.sandbox.guard.uses import check_key

MAX_CELL_QUERIES = 64


class CellBuilder:
    """Builds the cell queries of one aggregate."""

    def __init__(
        self,
        operator: plan.GroupBy,
        rows: Relation | Union,
        fold: Constants,
        requests: Requests,
        names: Names,
    ) -> None:
        self._operator = operator
        self._fold = fold
        self._names = names
        self._requests = requests
        arms = [self._pruned(arm) for arm in arms_in(rows)]
        arms = [arm for arm in arms if not any(map(is_false, arm.where))] or arms[:1]
        self._arms = [(arm, [over(group, arm) for group in operator.groups]) for arm in arms]
        for _, groups in self._arms:
            for group in groups:
                check_key(group)

    def _pruned(self, arm: Relation) -> Relation:
        """Without what constants decide: a column of an arm often is one."""
        where = [
            part
            for each in arm.where
            for part in conjuncts(decided_by(each, self._fold))
            if not is_true(part)
        ]
        columns = tuple(map(self._fold.pruned, arm.columns))
        return self._with_exists_once(replace(arm, columns=columns, where=tuple(where)))

    def _with_exists_once(self, arm: Relation) -> Relation:
        """With EXISTS in a branch as a column: a branch and its guard set are then of one value."""
        branching = [each for each in arm.where if _has_exists(each) and _is_choice(each)]
        calls = self._operator.aggregates
        read = [each for call in calls for each in (*call.children, call.filter) if each]
        if not branching and not any(_has_exists(over(each, arm)) for each in read):
            return arm
        rest = tuple(each for each in arm.where if each not in branching)
        boundary = self._names.boundary(replace(arm, where=rest))
        out = Through(boundary)
        assert arm.unit is not None  # noqa: S101 - cells are over protected rows
        return Relation(
            boundary,
            tuple(map(out.through, arm.columns)),
            tuple(map(out.through, branching)),
            out.atom(arm.unit),
        )

    def select(self) -> str:
        """The stage-2 query that puts out what the aggregate does: groups, aggregates, GROUPING().

        Raises:
            GuardRefusalError: An aggregate isn't accepted.
        """
        if len(self._operator.sets) > MAX_CELL_QUERIES:
            raise refuse(Refusal.SIZE, "The query has too many grouping sets; ask for fewer.")
        return " UNION ALL ".join(
            self._one_set(chosen, arms)
            for chosen in self._operator.sets
            for arms in self._that_meet(chosen)
        )

    def _that_meet(self, chosen: tuple[int, ...]) -> list[list[Arm]]:
        """The arms, together where they can have cells in common."""
        found: list[list[Arm]] = []
        for rows, groups in self._arms:
            arm = Arm(rows, tuple(groups[index] for index in chosen))
            met = [each for each in found if any(self._may_meet(arm, other) for other in each)]
            found = [each for each in found if each not in met]
            found.append([*(other for each in met for other in each), arm])
        return found

    def _may_meet(self, one: Arm, other: Arm) -> bool:
        for mine, theirs in zip(one.keys, other.keys, strict=True):
            if not any(True for key in (mine, theirs) for _ in plan.leaves_of(key)):
                values = [self._fold.value(key).value for key in (mine, theirs)]
                if values[0] != values[1]:
                    return False
        return True

    def _one_set(self, chosen: tuple[int, ...], arms: list[Arm]) -> str:
        query = CellSelect(arms, self._fold, self._requests)
        values = [query.value(call) for call in self._operator.aggregates]
        table = query.finish()
        values = [query.settle(value) for value in values]
        outputs = [
            unstored(f"c.k{chosen.index(index)}", group.type)
            if index in chosen
            else f"CAST(NULL AS {group.type})"
            for index, group in enumerate(self._operator.groups)
        ]
        outputs += [
            f"CAST({value} AS {call.type})"
            for value, call in zip(values, self._operator.aggregates, strict=True)
        ]
        for grouping in self._operator.groupings:
            bits = "".join("0" if index in chosen else "1" for index in grouping)
            outputs.append(f"CAST({int(bits, 2)} AS BIGINT)")
        columns = ", ".join(f"{text} AS x{n}" for n, text in enumerate(outputs))
        return f"SELECT {columns} FROM {table} AS c"


def _has_exists(expression: Expression) -> bool:
    return any(isinstance(leaf, ExistsLeaf) for leaf in plan.leaves_of(expression))


def _is_choice(condition: Expression) -> bool:
    return len(branches_of(condition, lambda _: False)) > 1
