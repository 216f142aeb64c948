"""The verifier: proves from DuckDB's bound plan that a cell query yields contributions of units.

It knows nothing of who wrote the SQL: it gets the plan that the connection will run, and a
claim of which components are guard sets. What it proves, and from which facts of the plan
(read by `guard.plan_reader`, where unknown means refused):

1. **Sources.** Every scan is of a prepared table of this computation: full path, column names
   and types equal the product's schema. A protected table's unit id is never NULL.
2. **One unit.** Rows of protected tables meet only where their unit ids are equal, or all
   columns of a key that determines the unit (`UnitKey`). Every row that is aggregated belongs
   to one unit: the readings of tables in it fall into one class of equal units. Outer joins
   and EXISTS have that equality in their own condition, so nobody else's rows decide.
3. **Guarded values.** An aggregate that doesn't group by unit is accepted only over units'
   contributions, behind HAVING that enough units contribute and none dominates, and then only to
   compare rows with (`guard.guarded`).
4. **Conditions** read columns declared `filter` and can't raise (`guard.facts`). Each branch
   of an OR over protected rows is a component of kind SET with exactly that condition.
5. **Contributions.** The last aggregate groups by the unit id and the keys, each declared
   `group` or public, and by nothing else: a row is what one unit contributes to one cell. Each
   contribution is a number of rows, or the sum of one monomial of columns declared `aggregate`;
   beside a sum in which a public column is a factor stands what it is judged by (`guard.weights`).
6. **Arms.** A plan with UNION ALL of protected rows below its last aggregate is proven once for
   each arm (`guard.arms`). A sum is of one arm; what counts units of several arms has a component
   of kind SET for each.
7. **No overflow.** A sum adds up fewer than 2^40 values below 2^86, so HUGEINT and DECIMAL(38)
   hold it; products are of decimals whose digits fit together.
8. **Public rows.** What claims to be public scans public tables only. A row of a unit meets at
   most one row of each public reading and guarded group (`guard.fans`).

Rows of a query that are dropped before the last aggregate, or never used, are proven all the
same: every expression of the plan is checked where it stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from luoshu.sandbox.errors import GuardRefusalError
from luoshu.sandbox.guard import facts, plan
from luoshu.sandbox.guard.arms import arms_of
from luoshu.sandbox.guard.cell_schema import Contributions, cell_schema, check_stored
from luoshu.sandbox.guard.claims import Claim
from luoshu.sandbox.guard.facts import (
    Column,
    Inner,
    Meets,
    Missing,
    MissingUnit,
    PublicValue,
    Unit,
    UnprovenError,
    conjuncts,
)
from luoshu.sandbox.guard.fans import (
    FanOutError,
    Unique,
    check_no_fan,
    fan_out_refusal,
    unique_columns,
    unique_of,
)
from luoshu.sandbox.guard.guarded import (
    Groups,
    Owed,
    check_contributions,
    check_having,
    compared,
)
from luoshu.sandbox.guard.inner import inner_aggregate
from luoshu.sandbox.guard.meeting import is_meeting_of_public, merged
from luoshu.sandbox.guard.obligations import branches_owed, check_partition
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.guard.plan_fields import PlanError
from luoshu.sandbox.guard.plan_reader import ROW_ID, read_plan
from luoshu.sandbox.guard.public import check_beside, check_public, is_public
from luoshu.sandbox.guard.refusals import Refusal, refuse
from luoshu.sandbox.schema import (
    BIGINT,
    BOOLEAN,
    CellSchema,
    TableSchema,
    ValueType,
)


@dataclass(frozen=True, slots=True)
class Rows:
    """What an operator puts out.

    Attributes:
        columns: Over leaves.
        owners: Readings of protected tables, in classes of equal units.
        conditions: What every row fulfils, as far as it was a condition.
        grouped: After an aggregate by unit: what it grouped by; None otherwise.
        pending: After an aggregate of several units: what HAVING has to check of its values.
        nobodys: Readings of public rows and guarded groups that the rows are joined with.
    """

    columns: tuple[Expression, ...]
    owners: frozenset[frozenset[int]] = frozenset()
    conditions: tuple[Expression, ...] = ()
    grouped: frozenset[Expression] | None = None
    pending: frozenset[Owed] = frozenset()
    nobodys: frozenset[int] = frozenset()


def verify(
    document: object,
    tables: Sequence[TableSchema],
    claim: Claim,
    *,
    min_units: int,
    dominance_ppm: int,
    mode: str = "aggregate",
) -> CellSchema:
    """Proves that a bound plan yields contributions, and says of what form.

    Args:
        document: What `json_serialize_plan(sql, optimize := false)` returned.
        tables: The prepared tables that the computation may read.
        claim: Which components are guard sets, and so on: what is not in the plan.
        min_units: Fewest units behind a guarded value.
        dominance_ppm: Most that one of them may contribute to it, in parts per million.
        mode: `aggregate`, or `dp`, which has no guarded values.

    Raises:
        GuardRefusalError: `GUARD_UNPROVEN`, naming what has no proof.
    """
    root = None
    try:
        root = read_plan(document)
        if claim.is_public:
            return CellSchema((), _public_types(root, tables), (), None, ())
        verifier = _Verifier(tables, min_units, dominance_ppm, mode)
        arms = [
            Contributions(rows.columns, rows.grouped, rows.conditions)
            for rows in map(verifier.rows, arms_of(root, tables))
        ]
        return cell_schema(arms, sorted(verifier.scanned), claim, mode)
    except (PlanError, UnprovenError, RecursionError) as error:
        if isinstance(error, FanOutError) and root is not None:
            raise fan_out_refusal(root, tables) from None
        words = "a plan of this depth" if isinstance(error, RecursionError) else str(error)
        raise _unproven(words) from None


def _public_types(root: Operator, tables: Sequence[TableSchema]) -> tuple[ValueType, ...]:
    if not is_public(root, tables):
        raise UnprovenError("public rows that are not public")
    types = check_public(root)
    for kind in types:
        check_stored(kind)
    return types


def _unproven(what: str) -> GuardRefusalError:
    return refuse(
        Refusal.UNPROVEN,
        f"The guard has no proof for {what}. Ask with aggregates over columns declared for it, "
        "conditions on columns declared `filter`, and joins by the privacy unit.",
    )


@dataclass(slots=True)
class _Verifier:
    """Proves one plan, operator by operator."""

    tables: Sequence[TableSchema]
    min_units: int
    dominance_ppm: int
    mode: str
    fresh: Iterator[int] = field(default_factory=itertools.count)
    ctes: dict[int, Rows] = field(default_factory=dict)
    public_ctes: dict[int, Unique] = field(default_factory=dict)
    unique: dict[int, Unique] = field(default_factory=dict)
    """What is unique in each reading of rows that are nobody's."""
    scanned: set[str] = field(default_factory=set)
    """The protected tables that were met, as `catalog.table`."""

    def rows(self, operator: Operator) -> Rows:
        """Proves an operator and everything below it."""
        is_taken_apart = isinstance(operator, plan.Get) or (
            isinstance(operator, plan.Join) and operator.kind == "INNER"
        )
        if not is_taken_apart and is_public(operator, self.tables, self.public_ctes):
            types = check_beside(operator)
            scan = self._nobodys(unique_of(operator, self.tables, self.public_ctes))
            columns = (
                PublicValue(kind, scan, place, "", _largest(kind.name, kind.width))
                for place, kind in enumerate(types)
            )
            return Rows(tuple(columns), nobodys=frozenset({scan}))
        match operator:
            case plan.Get():
                return self._scan(operator)
            case plan.Filter():
                return self._filter(operator)
            case plan.Projection():
                return self._project(operator)
            case plan.GroupBy():
                return self._group_by(operator)
            case plan.Join():
                return self._join(operator)
            case plan.Cte():
                if is_public(operator.definition, self.tables, self.public_ctes):
                    check_beside(operator.definition)
                    found = unique_of(operator.definition, self.tables, self.public_ctes)
                    self.public_ctes[operator.index] = found
                else:
                    self.ctes[operator.index] = self.rows(operator.definition)
                return self.rows(operator.child)
            case plan.CteRef():
                return self._cte_use(operator)
        raise UnprovenError(f"{type(operator).__name__} over protected rows")

    def _nobodys(self, unique: Unique) -> int:
        scan = next(self.fresh)
        self.unique[scan] = unique
        return scan

    def _check_no_fan(self, scans: Collection[int], conditions: Sequence[Expression]) -> None:
        check_no_fan({scan: self.unique[scan] for scan in scans}, conditions)

    def _scan(self, operator: plan.Get) -> Rows:
        scan = next(self.fresh)
        for table in self.tables:
            own = () if table.unit is None else ((table.unit, BIGINT),)
            columns = (*own, *((column.name, column.type) for column in table.columns))
            if operator.path != (table.catalog, "main", table.table):
                continue
            if operator.columns != columns:
                break
            if table.unit is not None:
                self.scanned.add(f"{table.catalog}.{table.table}")
            columns_out = tuple(self._leaf(table, scan, i) for i in operator.output)
            if table.unit is None:
                self.unique[scan] = unique_columns(table)
                return Rows(columns_out, nobodys=frozenset({scan}))
            return Rows(columns_out, frozenset({frozenset({scan})}))
        raise UnprovenError("a scan of anything but a prepared table")

    @staticmethod
    def _leaf(table: TableSchema, scan: int, index: int) -> Expression:
        if index == ROW_ID:
            return Missing(BIGINT, scan, -1)
        if table.unit is None:
            column = table.columns[index]
            name = column.name.lower()
            source = f"{table.catalog}.{table.table}.{column.name}"
            return PublicValue(column.type, scan, index, name, column.magnitude, source)
        if index == 0:
            return Unit(BIGINT, scan, table.domain)
        column = table.columns[index - 1]
        return Column(column.type, scan, table, column)

    def _over(self, expression: Expression, rows: Rows) -> Expression:
        def leaf(found: plan.Reference | plan.Leaf) -> Expression:
            if not isinstance(found, plan.Reference) or found.index >= len(rows.columns):
                raise UnprovenError("a reference that its input doesn't have")
            column = rows.columns[found.index]
            if column.type != found.type:
                raise UnprovenError("a reference of another type than its input")
            return column

        return plan.rebuild(expression, leaf)

    def _used(self, expression: Expression, rows: Rows) -> Expression:
        """What decides on rows, or is aggregated: nothing in it may rest on a hidden OR."""
        found = self._over(expression, rows)
        for leaf in plan.leaves_of(found):
            if isinstance(leaf, Inner) and branches_owed(leaf.filter, ()):
                raise UnprovenError("OR in the FILTER of an aggregate inside one unit")
        return found

    def _filter(self, operator: plan.Filter) -> Rows:
        rows = self.rows(operator.child)
        found = [self._used(condition, rows) for condition in operator.conditions]
        parts = [part for condition in found for part in conjuncts(condition)]
        if rows.pending:
            return self._having(rows, parts)
        return self._meeting(rows, parts)

    def _having(self, rows: Rows, parts: Sequence[Expression]) -> Rows:
        """Groups of several units, of which only those that pass the checks are left."""
        check_having(rows.pending, parts, self.min_units, self.dominance_ppm)
        (below,) = rows.nobodys
        scan = self._nobodys(self.unique[below])
        return Rows(compared(rows.columns, scan), nobodys=frozenset({scan}))

    def _meeting(self, rows: Rows, parts: Sequence[Expression]) -> Rows:
        """Rows for which further conditions hold; equal units put readings into one class."""
        owners, proven = merged(rows.owners, parts, rows.conditions)
        for part in parts:
            if part not in proven:
                self._check_condition(part)
        return replace(rows, owners=owners, conditions=(*rows.conditions, *parts))

    def _check_condition(self, part: Expression) -> None:
        if is_meeting_of_public(part):
            facts.check_total(part)
            return
        facts.check_condition(part)

    def _project(self, operator: plan.Projection) -> Rows:
        rows = self.rows(operator.child)
        columns = tuple(self._over(each, rows) for each in operator.expressions)
        if rows.pending:
            raise UnprovenError("a group of several units, without a check that it has enough")
        for column in columns:
            facts.check_total(column)
        return replace(rows, columns=columns)

    def _join(self, operator: plan.Join) -> Rows:
        left, right = self.rows(operator.left), self.rows(operator.right)
        if left.pending or right.pending:
            raise UnprovenError("a group of several units, without a check that it has enough")
        parts = tuple(
            part
            for one, comparison, other in operator.conditions
            for part in conjuncts(
                plan.Call(
                    _NAMES.get(comparison, comparison),
                    comparison,
                    (self._used(one, left), self._used(other, right)),
                    BOOLEAN,
                )
            )
        )
        columns = _mapped(left.columns, operator.left_map)
        if operator.kind == "INNER":
            both = Rows(
                (*columns, *_mapped(right.columns, operator.right_map)),
                left.owners | right.owners,
                (*left.conditions, *right.conditions),
                nobodys=left.nobodys | right.nobodys,
            )
            return self._meeting(both, parts)
        return self._one_sided(operator, left, right, parts, columns)

    def _one_sided(
        self,
        operator: plan.Join,
        left: Rows,
        right: Rows,
        parts: Sequence[Expression],
        columns: tuple[Expression, ...],
    ) -> Rows:
        owners, proven = merged(
            left.owners | right.owners, parts, (*left.conditions, *right.conditions)
        )
        mine = {scan for owner in left.owners for scan in owner}
        if any(not owner & mine for owner in owners):
            raise UnprovenError("protected rows that meet others than those of their own unit")
        if len(owners) != len(left.owners):
            raise UnprovenError("protected rows of two units in one condition")
        for part in parts:
            if part not in proven:
                self._check_condition(part)
        if any(branches_owed([each], ()) for each in (*right.conditions, *parts)):
            raise UnprovenError("OR in a subquery over protected rows")
        kept = replace(left, owners=owners if operator.kind == "LEFT" else left.owners)
        if operator.kind == "LEFT":
            self._check_no_fan(right.nobodys, (*right.conditions, *parts))
            scan = next(self.fresh)
            others = tuple(
                MissingUnit(column.type, scan, place)
                if isinstance(column, Unit)
                else facts.maybe_missing(column)
                for place, column in enumerate(_mapped(right.columns, operator.right_map))
            )
            return replace(kept, columns=(*columns, *others), grouped=None)
        if operator.kind == "MARK":
            return replace(kept, columns=(*columns, Meets(BOOLEAN, next(self.fresh))))
        if operator.kind in {"SEMI", "ANTI"}:
            return replace(kept, columns=columns)
        raise UnprovenError(f"a join of kind {operator.kind}")

    def _cte_use(self, operator: plan.CteRef) -> Rows:
        found = self.ctes.get(operator.index)
        if found is None or found.pending:
            raise UnprovenError("a CTE that is not there")
        if operator.types != tuple(column.type for column in found.columns):
            raise UnprovenError("a CTE of other columns")
        scans: dict[int, int] = {}

        def again(expression: Expression) -> Expression:
            return facts.renumbered(expression, scans, self.fresh)

        columns = tuple(again(column) for column in found.columns)
        conditions = tuple(again(condition) for condition in found.conditions)
        grouped = None if found.grouped is None else frozenset(map(again, found.grouped))
        for owner in found.owners:
            for scan in owner - scans.keys():
                scans[scan] = next(self.fresh)
        owners = frozenset(frozenset(scans[scan] for scan in owner) for owner in found.owners)
        nobodys = set()
        for scan in found.nobodys:
            if scan not in scans:
                scans[scan] = next(self.fresh)
            self.unique[scans[scan]] = self.unique[scan]
            nobodys.add(scans[scan])
        return Rows(columns, owners, conditions, grouped, nobodys=frozenset(nobodys))

    def _group_by(self, operator: plan.GroupBy) -> Rows:
        rows = self.rows(operator.child)
        if rows.pending:
            raise UnprovenError("a group of several units, without a check that it has enough")
        if operator.groupings or operator.sets != (tuple(range(len(operator.groups))),):
            raise UnprovenError("several grouping sets")
        if len(rows.owners) != 1:
            raise UnprovenError("protected tables that are not joined by their privacy unit")
        (owner,) = rows.owners
        self._check_no_fan(rows.nobodys, rows.conditions)
        groups = tuple(self._used(group, rows) for group in operator.groups)
        for group in groups:
            facts.check_inner_key(group)
            check_partition(group)
        scan = next(self.fresh)
        if any(isinstance(group, Unit) and group.scan in owner for group in groups):
            inner = [
                inner_aggregate(call, lambda each: self._used(each, rows), scan, place)
                for place, call in enumerate(operator.aggregates)
            ]
            return Rows((*groups, *inner), rows.owners, rows.conditions, frozenset(groups))
        return self._several_units(operator, rows, groups, owner, scan)

    def _several_units(
        self,
        operator: plan.GroupBy,
        rows: Rows,
        groups: tuple[Expression, ...],
        owner: frozenset[int],
        scan: int,
    ) -> Rows:
        if self.mode == "dp":
            raise UnprovenError("a subquery over several units, which the mode `dp` excludes")
        if branches_owed(rows.conditions, ()):
            raise UnprovenError("OR in a subquery over protected rows")
        check_contributions(groups, rows.grouped, owner)
        found = Groups(scan, list(groups))
        for call in operator.aggregates:
            found.add(call, lambda expression: self._used(expression, rows))
        reading = self._nobodys((frozenset(range(len(groups))),))
        return Rows(tuple(found.columns), pending=found.owed(), nobodys=frozenset({reading}))


_NAMES = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "!=",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "IS DISTINCT FROM",
    "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}


def _largest(name: str, width: int) -> int:
    if name == "DECIMAL":
        return int(10**width) - 1
    return {"TINYINT": 2**7, "SMALLINT": 2**15, "INTEGER": 2**31, "BIGINT": 2**63}.get(name, 2**127)


def _mapped(
    columns: tuple[Expression, ...], places: tuple[int, ...] | None
) -> tuple[Expression, ...]:
    if places is None:
        return columns
    if any(place >= len(columns) for place in places):
        raise UnprovenError("a projection of columns that are not there")
    return tuple(columns[place] for place in places)
