"""Cell queries: an aggregate over protected rows as stage-1 SQL, and what stage 2 makes of it.

    SELECT sex, avg(age) FROM lung WHERE inst = 3 GROUP BY sex

becomes as a cell query, to be verified and then run over the protected table,

    SELECT t1.sex AS k0, t1.patient AS u, sum(t1.age) FILTER (…) AS a0, count(*) FILTER (…) AS a1
    FROM lung AS t1 WHERE t1.inst = CAST('3' AS BIGINT) GROUP BY t1.sex, t1.patient

and in stage 2 an expression over the released cells: c0 / c1, rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from luoshu.sandbox.guard import moments, plan
from luoshu.sandbox.guard.folding import Constants
from luoshu.sandbox.guard.monomials import all_of, digits, monomial_sum
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.polynomials import Branch, expand, is_not_null, present
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.sets import branches_of, product
from luoshu.sandbox.guard.sources import Atom, Relation, Role, Scope, aggregate_sql
from luoshu.sandbox.guard.text import short_name, stored, unstored
from luoshu.sandbox.guard.uses import check_condition, check_factors, check_key
from luoshu.sandbox.schema import ComponentKind, ValueType

ACCEPTED = (
    "COUNT, SUM, AVG, variance, standard deviation, covariance, correlation, simple regression, "
    "and COUNT(DISTINCT …) of the privacy unit or of a column declared `group`"
)
MAX_CELL_QUERIES = 64
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
        items: The cell queries.
    """

    has_thresholds: bool = True
    items: list[CellRequest] = field(default_factory=list)

    def add(self, request: CellRequest) -> str:
        """Adds one; returns the name of its table in stage 2."""
        if request in self.items:
            return f"cells{self.items.index(request)}"
        self.items.append(request)
        return f"cells{len(self.items) - 1}"


@dataclass(slots=True)
class _Components:
    """Components of one cell query, each once."""

    calls: list[tuple[plan.Aggregate, ComponentKind, str]] = field(default_factory=list)

    def place(self, call: plan.Aggregate, kind: ComponentKind, text: str) -> int:
        for number, (_, known, words) in enumerate(self.calls):
            if (known, words) == (kind, text):
                return number
        self.calls.append((call, kind, text))
        return len(self.calls) - 1


class CellBuilder:
    """Builds the cell queries of one aggregate."""

    def __init__(
        self,
        operator: plan.GroupBy,
        rows: Relation,
        fold: Constants,
        requests: Requests,
    ) -> None:
        self._operator = operator
        self._rows = rows
        self._fold = fold
        self._requests = requests
        self._groups = [self._over(group) for group in operator.groups]
        for group in self._groups:
            check_key(group)

    def _over(self, expression: Expression) -> Expression:
        columns = self._rows.columns

        def column(leaf: plan.Reference | plan.Leaf) -> Expression:
            assert isinstance(leaf, plan.Reference)  # noqa: S101 - as plans have them
            return columns[leaf.index]

        return plan.rebuild(expression, column)

    def select(self) -> str:
        """The stage-2 query that puts out what the aggregate does: groups, aggregates, GROUPING().

        Raises:
            GuardRefusalError: An aggregate isn't accepted.
        """
        if len(self._operator.sets) > MAX_CELL_QUERIES:
            raise refuse(Refusal.SIZE, "The query has too many grouping sets; ask for fewer.")
        return " UNION ALL ".join(self._one_set(chosen) for chosen in self._operator.sets)

    def _one_set(self, chosen: tuple[int, ...]) -> str:
        keys = [self._groups[index] for index in chosen]
        query = _CellQuery(self._rows, keys, self._fold, self._requests)
        values = [query.value(call, self._over) for call in self._operator.aggregates]
        table = query.finish()
        values = [query.settle(value) for value in values]
        outputs = [
            unstored(f"c.k{chosen.index(index)}", group.type)
            if index in chosen
            else f"CAST(NULL AS {group.type})"
            for index, group in enumerate(self._groups)
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


class _CellQuery:
    """One grouping set: its components, and each aggregate as an expression over them."""

    def __init__(
        self,
        rows: Relation,
        keys: list[Expression],
        fold: Constants,
        requests: Requests,
    ) -> None:
        self._rows = rows
        self._keys = keys
        self._fold = fold
        self._requests = requests
        self._components = _Components()
        self._scope = Scope(fold.simplified)
        self._key_atoms = {id(key) for key in keys if isinstance(key, Atom)}

    def value(self, call: plan.Aggregate, over: Callable[[Expression], Expression]) -> str:
        """An aggregate as SQL over `c.c0`, `c.c1`, …."""
        name = short_name(call.name)
        where = () if call.filter is None else (over(call.filter),)
        for condition in where:
            check_condition(condition)
        arguments = [over(argument) for argument in call.children]
        if call.is_distinct and name not in {"min", "max"}:
            return self._distinct(name, arguments, where)
        if name == "count_star":
            return self._rows_of(where)
        if name in _FILTERS_ALL:
            return self._rows_of((*where, arguments[0]))
        if name == "count":
            return self._count(arguments[0], where)
        if name == "sum":
            return self._sum(expand(arguments[0], self._fold.value), where, call.type)
        if name in {"avg", "mean"}:
            branches = expand(arguments[0], self._fold.value)
            total = self._sum(branches, where, moments.DOUBLE)
            return moments.rounded(f"({total}) / CAST({self._counted(branches, where)} AS DOUBLE)")
        if name in moments.NAMES:
            return self._moments(name, arguments, where)
        raise refuse(
            Refusal.FUNCTION,
            f"The function {shown(name)} is not accepted over protected rows; there are "
            f"{ACCEPTED}.",
        )

    def _place(
        self, factors: Sequence[Atom], conditions: Sequence[Expression], kind: ComponentKind
    ) -> int:
        check_factors(factors)
        distinct = {self._scope.sql(condition): condition for condition in conditions}
        call = monomial_sum(factors, all_of(list(distinct.values())))
        text = aggregate_sql(call, self._scope)
        is_known = any(text == words and kind is k for _, k, words in self._components.calls)
        number = self._components.place(call, kind, text)
        if not is_known and kind.is_released:
            self._guard_sets(conditions)
            self._weigh(factors, conditions)
            column = factors[0].column if len(factors) == 1 else None
            if column is not None and column.bounds is not None:
                # The rows beside a sum with declared bounds: that all are at the bound must not
                # come out.
                self._rows_of(conditions)
        return number

    def _weigh(self, factors: Sequence[Atom], conditions: Sequence[Expression]) -> None:
        """Places beside a sum with weights what they are judged by."""
        weight = next((factor for factor in factors if factor.role is Role.PUBLIC), None)
        if weight is None or not self._requests.has_thresholds:
            return
        others = [factor for factor in factors if factor is not weight]
        self._place(others, conditions, ComponentKind.SUM)
        distinct = {self._scope.sql(condition): condition for condition in conditions}
        where = all_of(list(distinct.values()))
        for name, kind in _DIGITS.items():
            call = digits(name, weight, others, where)
            self._components.place(call, kind, aggregate_sql(call, self._scope))

    def _guard_sets(self, conditions: Sequence[Expression]) -> None:
        """Places a guard set for each branch of WHERE and a component's conditions together."""
        if not self._requests.has_thresholds:
            return
        everywhere = [branches_of(each, self._is_exempt) for each in self._rows.where]
        parts = [part for part in everywhere if len(part) > 1]
        parts += [branches_of(condition, self._is_exempt) for condition in conditions]
        if any(len(part) > 1 for part in parts):
            for branch in product(parts):
                self._place((), branch, ComponentKind.SET)

    def _is_exempt(self, condition: Expression) -> bool:
        return all(id(leaf) in self._key_atoms for leaf in plan.leaves_of(condition))

    def _rows_of(self, conditions: Sequence[Expression]) -> str:
        return f"c.c{{{self._place((), conditions, ComponentKind.SUM)}}}"

    def _count(self, argument: Expression, where: tuple[Expression, ...]) -> str:
        if isinstance(argument, Atom):
            if argument.role is Role.UNIT:
                return self._rows_of(where)
            return self._rows_of((*where, *present([argument])))
        if not any(True for _ in plan.leaves_of(argument)):
            is_null = self._fold.value(argument).value is None
            return "CAST(0 AS BIGINT)" if is_null else self._rows_of(where)
        return self._counted(expand(argument, self._fold.value), where)

    def _counted(self, branches: Sequence[Branch], where: tuple[Expression, ...]) -> str:
        counts = [
            self._rows_of((*where, *branch.conditions, *present(branch.atoms)))
            for branch in branches
        ]
        # A branch without rows is withheld like any other that is too small: NULL.
        return f"({' + '.join(counts)})" if counts else "CAST(0 AS BIGINT)"

    def _sum(
        self, branches: Sequence[Branch], where: tuple[Expression, ...], kind: ValueType
    ) -> str:
        parts = []
        for branch in branches:
            conditions = (*where, *branch.conditions, *present(branch.atoms))
            for term in branch.terms:
                number = self._place(term.factors, conditions, ComponentKind.SUM)
                parts.append((f"c.c{{{number}}}", term.coefficient))
        if not parts:
            return f"CAST(NULL AS {kind})"
        return moments.combined(parts, kind)

    def _distinct(
        self, name: str, arguments: Sequence[Expression], where: tuple[Expression, ...]
    ) -> str:
        argument = arguments[0]
        if name != "count" or len(arguments) != 1:
            raise refuse(
                Refusal.FUNCTION,
                f"{shown(name)} with DISTINCT is not accepted; there is COUNT(DISTINCT …).",
            )
        if isinstance(argument, Atom) and argument.role is Role.UNIT:
            return f"c.c{{{self._place((), where, ComponentKind.UNITS)}}}"
        check_key(argument)
        # Each value is a cell of its own, and all of a group are released, or none.
        conditions = (*self._rows.where, *where, is_not_null(argument))
        finer = _CellQuery(
            Relation(self._rows.source, (), conditions, self._rows.unit),
            [*self._keys, argument],
            self._fold,
            self._requests,
        )
        finer._place((), (), ComponentKind.UNITS)
        table = finer.finish(prefix=len(self._keys))
        self._place((), (), ComponentKind.UNITS)
        same = " AND ".join(f"d.k{n} IS NOT DISTINCT FROM c.k{n}" for n in range(len(self._keys)))
        return f"(SELECT nullif(count(*), 0) FROM {table} AS d WHERE {same or 'true'})"

    def _moments(
        self, name: str, arguments: Sequence[Expression], where: tuple[Expression, ...]
    ) -> str:
        atoms = []
        for argument in arguments:
            branches = expand(argument, self._fold.value)
            term = branches[0].terms[0] if branches and branches[0].terms else None
            is_plain = len(branches) == 1 and len(branches[0].terms) == 1 and term is not None
            if not is_plain or term is None or term.coefficient != Fraction(1):
                raise refuse(
                    Refusal.FUNCTION, f"{shown(name)} takes columns declared `aggregate` alone."
                )
            if branches[0].conditions or len(term.factors) != 1:
                raise refuse(
                    Refusal.FUNCTION, f"{shown(name)} takes columns declared `aggregate` alone."
                )
            atoms.append(term.factors[0])
        conditions = (*where, *present(list(dict.fromkeys(atoms))))

        def place(*factors: int) -> str:
            chosen = tuple(atoms[factor] for factor in factors)
            number = self._place(chosen, conditions, ComponentKind.SUM)
            return f"c.c{{{number}}}"

        return moments.expression(name, place, len(atoms))

    def finish(self, prefix: int | None = None) -> str:
        """Adds the cell query to the requests; returns its table's name in stage 2.

        The expressions that `value` gave name components as `c.c{n}`; components that are never
        released have no column in stage 2, so the places are settled once all are known.
        """
        if not any(kind.is_released for _, kind, _ in self._components.calls):
            self._place((), (), ComponentKind.UNITS)
        scope, unit = self._scope, self._rows.unit
        assert unit is not None  # noqa: S101 - cells are over protected rows
        keys = [stored(scope.sql(key), key.type) for key in self._keys]
        columns = [f"{key} AS k{n}" for n, key in enumerate(keys)]
        columns.append(f"{scope.sql(unit)} AS u")
        for number, (call, _, text) in enumerate(self._components.calls):
            is_count = call.name == "system.main.count_star"
            nothing = "-1" if call.name == "system.main.bit_and" else "0"
            columns.append(
                f"{text} AS a{number}"
                if is_count
                else f"coalesce({text}, CAST('{nothing}' AS {call.type})) AS a{number}"
            )
        groups = ", ".join([*keys, scope.sql(unit)])
        where = " AND ".join(scope.sql(condition) for condition in self._rows.where)
        source = self._rows.source.render(scope)
        query = f"SELECT {', '.join(columns)} FROM {source}"
        query += f" WHERE {where}" if where else ""
        sql = scope.statement(f"{query} GROUP BY {groups}")
        kinds = tuple(kind for _, kind, _ in self._components.calls)
        return self._requests.add(CellRequest(sql, kinds, prefix))

    def settle(self, expression: str) -> str:
        """Puts the final column numbers into an expression that `value` gave."""
        places: list[int] = []
        seen = 0
        for _, kind, _ in self._components.calls:
            places.append(seen)
            seen += kind.is_released
        return expression.format(*places)
