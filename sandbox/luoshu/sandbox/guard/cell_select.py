"""One grouping set: its components, and each aggregate as an expression over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from luoshu.sandbox.guard import moments, percentiles, plan
from luoshu.sandbox.guard.cell_sql import Arm, CellSql, filtered_by
from luoshu.sandbox.guard.conditions import decided_by
from luoshu.sandbox.guard.folding import Constants, is_false, is_true
from luoshu.sandbox.guard.monomials import digits, monomial_sum
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.polynomials import Branch, expand, is_not_null, present
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sets import branches_of, product
from luoshu.sandbox.guard.sources import Atom, Role, over
from luoshu.sandbox.guard.text import short_name
from luoshu.sandbox.guard.uses import check_condition, check_factors, check_key
from luoshu.sandbox.schema import ComponentKind

ACCEPTED = (
    "COUNT, SUM, AVG, variance, standard deviation, covariance, correlation, simple regression, "
    "percentiles, and COUNT(DISTINCT …) of the privacy unit or of a column declared `group`"
)
_DIGITS = {"bit_or": ComponentKind.ANY_DIGITS, "bit_and": ComponentKind.ALL_DIGITS}
_FILTERS_ALL = ("count_if", "countif")


@dataclass(frozen=True, slots=True)
class CellRequest:
    """One cell query, before it is verified.

    Attributes:
        sql: Stage 1; puts out k0…, u, a0….
        kinds: Of each component.
        prefix: See `CellSchema.prefix`.
        is_public: Rows of public tables: every column is a key, and there are no components.
    """

    sql: str
    kinds: tuple[ComponentKind, ...]
    prefix: int | None = None
    is_public: bool = False


@dataclass(slots=True)
class Requests:
    """The cell queries of one statement, in order: table `cells{n}` of stage 2.

    Attributes:
        has_thresholds: Whether the release mode has them, and so guard sets.
        min_units: Fewest units behind what comes out.
        items: The cell queries.
    """

    has_thresholds: bool = True
    min_units: int = 1
    items: list[CellRequest] = field(default_factory=list)

    def add(self, request: CellRequest) -> str:
        """Adds one; returns the name of its table in stage 2."""
        if request in self.items:
            return f"cells{self.items.index(request)}"
        self.items.append(request)
        return f"cells{len(self.items) - 1}"


@dataclass(frozen=True, slots=True)
class _Read:
    """An aggregate's arguments and FILTER over the rows of one arm."""

    arm: int
    arguments: tuple[Expression, ...]
    where: tuple[Expression, ...]


_Terms = list[tuple[str, Fraction]]


class CellSelect:
    """Builds one cell query, and expressions over its cells: `c.c{0}`, `c.c{1}`, …."""

    def __init__(self, arms: Sequence[Arm], fold: Constants, requests: Requests) -> None:
        self._arms = arms
        self._fold = fold
        self._requests = requests
        self._sql = CellSql(arms, fold.simplified)
        self._key_atoms = [{id(key) for key in arm.keys if isinstance(key, Atom)} for arm in arms]

    def value(self, call: plan.Aggregate) -> str:
        """An aggregate as SQL over the cells; see `settle`.

        Raises:
            GuardRefusalError: It isn't accepted.
        """
        name = short_name(call.name)
        reads = list(self._reads(call))
        if call.is_distinct and name not in {"min", "max"}:
            return self._distinct(name, reads)
        if name == "count_star":
            return _added(self._rows_of(read.arm, read.where) for read in reads)
        if name in _FILTERS_ALL:
            return _added(
                self._rows_of(read.arm, (*read.where, read.arguments[0])) for read in reads
            )
        if name == "count":
            return _added(text for read in reads for text in self._count(read))
        if name == "sum":
            terms = [term for read in reads for term in self._terms(read)]
            return moments.combined(terms, call.type) if terms else f"CAST(NULL AS {call.type})"
        if name in {"avg", "mean"}:
            terms = [term for read in reads for term in self._terms(read)]
            total = moments.combined(terms, moments.DOUBLE) if terms else "CAST(NULL AS DOUBLE)"
            rows = _added(text for read in reads for text in self._counted(read))
            return moments.rounded(f"({total}) / CAST({rows} AS DOUBLE)")
        if name in percentiles.NAMES:
            return self._percentile(name, call, reads)
        if name in moments.NAMES:
            return self._moments(name, reads) if reads else "CAST(NULL AS DOUBLE)"
        raise refuse(
            Refusal.FUNCTION,
            f"The function {shown(name)} is not accepted over protected rows; there are "
            f"{ACCEPTED}.",
        )

    def _reads(self, call: plan.Aggregate) -> Iterator[_Read]:
        for number, arm in enumerate(self._arms):
            where = (
                ()
                if call.filter is None
                else (decided_by(over(call.filter, arm.rows), self._fold),)
            )
            for condition in where:
                check_condition(condition)
            if not any(map(is_false, where)):
                arguments = tuple(self._over(argument, arm) for argument in call.children)
                yield _Read(number, arguments, tuple(w for w in where if not is_true(w)))

    def _over(self, expression: Expression, arm: Arm) -> Expression:
        return self._fold.pruned(over(expression, arm.rows))

    def _place(
        self,
        arm: int,
        factors: Sequence[Atom],
        conditions: Sequence[Expression],
        kind: ComponentKind,
    ) -> str:
        """The component of one arm's rows."""
        check_factors(factors)
        calls = {arm: monomial_sum(factors, filtered_by(conditions, self._sql.scope))}
        number, is_new = self._sql.place(calls, kind)
        if is_new and kind.is_released:
            self._guard_sets(arm, conditions)
            self._weigh(arm, factors, conditions)
            column = factors[0].column if len(factors) == 1 else None
            if column is not None and column.bounds is not None:
                # The rows beside a sum with declared bounds: that all are at the bound must not
                # come out.
                self._rows_of(arm, conditions)
        return f"c.c{{{number}}}"

    def _weigh(self, arm: int, factors: Sequence[Atom], conditions: Sequence[Expression]) -> None:
        """Places beside a sum with weights what they are judged by."""
        weight = next((factor for factor in factors if factor.role is Role.PUBLIC), None)
        if weight is None or not self._requests.has_thresholds:
            return
        if len(self._arms) > 1:
            raise refuse(
                Refusal.WEIGHT,
                "Over UNION ALL nothing is multiplied by columns of public tables; aggregate each "
                "arm by itself, and add up the results.",
            )
        others = [factor for factor in factors if factor is not weight]
        self._place(arm, others, conditions, ComponentKind.SUM)
        where = filtered_by(conditions, self._sql.scope)
        for name, kind in _DIGITS.items():
            self._sql.place({arm: digits(name, weight, others, where)}, kind)

    def _units(self, wheres: Mapping[int, Sequence[Expression]]) -> str:
        """The component of the units of some arms, by the conditions of each."""
        if not wheres:
            return _added(())
        calls = {
            arm: monomial_sum((), filtered_by(where, self._sql.scope))
            for arm, where in wheres.items()
        }
        number, is_new = self._sql.place(calls, ComponentKind.UNITS)
        for arm, where in wheres.items() if is_new else ():
            self._guard_sets(arm, where, is_choice=len(wheres) > 1)
        return f"c.c{{{number}}}"

    def _all_units(self) -> str:
        """The component of the units of all rows."""
        return self._units(dict.fromkeys(range(len(self._arms)), ()))

    def _guard_sets(
        self, arm: int, conditions: Sequence[Expression], *, is_choice: bool = False
    ) -> None:
        """Places a guard set for each branch of WHERE and a component's conditions together.

        Args:
            arm: Of which rows.
            conditions: Of the component.
            is_choice: Whether the arm is a branch by itself.
        """
        if not self._requests.has_thresholds:
            return
        keys = self._key_atoms[arm]

        def is_exempt(condition: Expression) -> bool:
            return all(id(leaf) in keys for leaf in plan.leaves_of(condition))

        everywhere = [branches_of(each, is_exempt) for each in self._arms[arm].rows.where]
        parts = [part for part in everywhere if len(part) > 1]
        parts += [branches_of(condition, is_exempt) for condition in conditions]
        if is_choice or any(len(part) > 1 for part in parts):
            for branch in product(parts):
                self._place(arm, (), branch, ComponentKind.SET)

    def _rows_of(self, arm: int, conditions: Sequence[Expression]) -> str:
        return self._place(arm, (), conditions, ComponentKind.SUM)

    def _count(self, read: _Read) -> list[str]:
        (argument,) = read.arguments
        if isinstance(argument, Atom):
            return [self._rows_of(read.arm, (*read.where, *present([argument])))]
        if not any(True for _ in plan.leaves_of(argument)):
            is_null = self._fold.value(argument).value is None
            return [] if is_null else [self._rows_of(read.arm, read.where)]
        return self._counted(read)

    def _counted(self, read: _Read) -> list[str]:
        # A branch without rows is withheld like any other that is too small: NULL.
        return [
            self._rows_of(read.arm, (*read.where, *branch.conditions, *present(branch.atoms)))
            for branch in self._branches(read)
        ]

    def _branches(self, read: _Read) -> list[Branch]:
        return expand(read.arguments[0], self._fold.value)

    def _terms(self, read: _Read) -> _Terms:
        found: _Terms = []
        for branch in self._branches(read):
            for term in branch.terms:
                atoms = list(dict.fromkeys((*branch.atoms, *term.factors)))
                conditions = (*read.where, *branch.conditions, *present(atoms))
                place = self._place(read.arm, term.factors, conditions, ComponentKind.SUM)
                found.append((place, term.coefficient))
        return found

    def _distinct(self, name: str, reads: Sequence[_Read]) -> str:
        if name != "count" or any(len(read.arguments) != 1 for read in reads):
            raise refuse(
                Refusal.FUNCTION,
                f"{shown(name)} with DISTINCT is not accepted; there is COUNT(DISTINCT …).",
            )
        arguments = [read.arguments[0] for read in reads]
        units = [each for each in arguments if isinstance(each, Atom) and each.role is Role.UNIT]
        if len(units) == len(arguments):
            found = zip(reads, units, strict=True)
            return self._units({read.arm: (*read.where, *present([unit])) for read, unit in found})
        for argument in arguments:
            check_key(argument)
        # Each value is a cell of its own, and all of a group are released, or none.
        finer = CellSelect(
            [
                self._finer(self._arms[read.arm], (*read.where, is_not_null(argument)), argument)
                for read, argument in zip(reads, arguments, strict=True)
            ],
            self._fold,
            self._requests,
        )
        finer._all_units()
        width = len(self._arms[0].keys)
        table = finer.finish(prefix=width)
        self._all_units()
        same = " AND ".join(f"d.k{n} IS NOT DISTINCT FROM c.k{n}" for n in range(width))
        return f"(SELECT nullif(count(*), 0) FROM {table} AS d WHERE {same or 'true'})"

    @staticmethod
    def _finer(arm: Arm, where: Sequence[Expression], key: Expression) -> Arm:
        rows = replace(arm.rows, columns=(), where=(*arm.rows.where, *where))
        return Arm(rows, (*arm.keys, key))

    def _percentile(self, name: str, call: plan.Aggregate, reads: Sequence[_Read]) -> str:
        if len(reads) != 1 or not self._requests.has_thresholds:
            raise refuse(
                Refusal.FUNCTION,
                f"{shown(name)} is not accepted over UNION ALL, or with differential privacy; "
                "count rows by conditions such as x <= 10 instead.",
            )
        (read,) = reads
        conditions = (*self._arms[read.arm].rows.where, *read.where)
        if any(len(branches_of(each, lambda _: False)) > 1 for each in conditions):
            raise refuse(
                Refusal.FUNCTION,
                f"{shown(name)} is not accepted beside OR: each branch would have to reach the "
                "threshold in each step. Ask for one branch at a time.",
            )

        def count(condition: Expression | None) -> str:
            if condition is None:
                atoms = [e for e in plan.leaves_of(read.arguments[0]) if isinstance(e, Atom)]
                return self._rows_of(read.arm, (*read.where, *present(atoms)))
            return self._rows_of(read.arm, (*read.where, condition))

        return percentiles.percentile(
            name, read.arguments[0], call.fraction, count, self._requests.min_units
        )

    def _moments(self, name: str, reads: Sequence[_Read]) -> str:
        found = [
            (read, [self._column(name, read, argument) for argument in read.arguments])
            for read in reads
        ]

        def place(*factors: int) -> str:
            return _added(
                self._place(
                    read.arm,
                    tuple(atoms[factor] for factor in factors),
                    (*read.where, *present(list(dict.fromkeys(atoms)))),
                    ComponentKind.SUM,
                )
                for read, atoms in found
            )

        return moments.expression(name, place, len(reads[0].arguments))

    def _column(self, name: str, read: _Read, argument: Expression) -> Atom:
        """The one column that an argument is."""
        branches = expand(argument, self._fold.value)
        if len(branches) == 1 and not branches[0].conditions and len(branches[0].terms) == 1:
            (term,) = branches[0].terms
            if term.coefficient == Fraction(1) and len(term.factors) == 1:
                return term.factors[0]
        raise refuse(Refusal.FUNCTION, f"{shown(name)} takes columns declared `aggregate` alone.")

    def finish(self, prefix: int | None = None) -> str:
        """Adds the cell query to the requests; returns its table's name in stage 2.

        The expressions that `value` gave name components as `c.c{n}`; components that are never
        released have no column in stage 2, so the places are settled once all are known.
        """
        if not any(kind.is_released for kind in self._sql.kinds):
            self._all_units()
        return self._requests.add(CellRequest(self._sql.statement(), self._sql.kinds, prefix))

    def settle(self, expression: str) -> str:
        """Puts the final column numbers into an expression that `value` gave."""
        places: list[int] = []
        seen = 0
        for kind in self._sql.kinds:
            places.append(seen)
            seen += kind.is_released
        return expression.format(*places)


def _added(values: Iterable[str]) -> str:
    """A sum of counts; if there is none, 0."""
    found = list(values)
    return f"({' + '.join(found)})" if len(found) > 1 else (found or ["CAST(0 AS BIGINT)"])[0]
