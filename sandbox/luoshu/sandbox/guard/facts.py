"""What the verifier knows of values, and which expressions over them it accepts for what.

An expression is kept over leaves that say where a value comes from; two are the same value
if they are equal. Every check is default-deny. Nothing accepted here can raise or allocate
by value, whatever the data: no narrowing cast but TRY_CAST, no arithmetic on protected values
but products that provably fit, no function that isn't listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.constants import INTEGERS, constant_value, is_constant, widens
from luoshu.sandbox.guard.functions import COMPARISONS, EQUALITIES, OPERATORS, TOTAL
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.schema import BOOLEAN, DOUBLE, ColumnSchema, TableSchema, Use, ValueType

_CAST = ("OPERATOR_CAST", "__cast")
_DATE_PARTS = frozenset(
    [
        "year",
        "quarter",
        "month",
        "week",
        "day",
        "hour",
        "minute",
        "second",
        "decade",
        "century",
        "millennium",
    ]
)
_MAX_LENGTH = 2**31


class UnprovenError(Exception):
    """Something for which there is no proof; says what."""


@dataclass(frozen=True, slots=True)
class Column(plan.Leaf):
    """A declared column of a protected table, in one reading (`scan`) of the table."""

    scan: int
    table: TableSchema
    column: ColumnSchema


@dataclass(frozen=True, slots=True)
class Unit(plan.Leaf):
    """The unit id of the rows of one reading; never NULL."""

    scan: int
    domain: str


@dataclass(frozen=True, slots=True)
class PublicValue(plan.Leaf):
    """A value from public tables and constants alone.

    Attributes:
        source: If it is a column of a public table, `catalog.table.column`.
    """

    scan: int
    place: int
    name: str
    magnitude: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class Inner(plan.Leaf):
    """An aggregate of one unit's rows.

    Attributes:
        scan: Which aggregate operator, `place` which of its aggregates.
        names: Columns it is computed from; none for a count.
        columns: The same as leaves.
        function: Short name.
        argument: What it aggregates; None for COUNT(*).
        filter: Conditions of its FILTER; all hold.
        magnitude: Largest absolute value, as an integer at its type's scale.
    """

    scan: int
    place: int
    names: tuple[str, ...]
    columns: frozenset[Column]
    function: str
    argument: Expression | None
    filter: tuple[Expression, ...]
    magnitude: int


@dataclass(frozen=True, slots=True)
class Guarded(plan.Leaf):
    """A value of a group of at least `min_units` units; to compare with, and nothing else."""

    scan: int
    place: int
    is_key: bool = False


@dataclass(frozen=True, slots=True)
class Meets(plan.Leaf):
    """Whether a row meets another of its own unit, or of public or guarded rows."""

    scan: int


@dataclass(frozen=True, slots=True)
class Missing(plan.Leaf):
    """A place that nothing may refer to, such as a row id."""

    scan: int
    place: int


@dataclass(frozen=True, slots=True)
class MissingUnit(plan.Leaf):
    """The unit of a row that may be missing: whether it is there may be asked, and nothing else."""

    scan: int
    place: int


@dataclass(frozen=True, slots=True)
class Never(plan.Leaf):
    """An aggregate that no row is in: its FILTER compares two different literals."""

    scan: int
    place: int


def renumbered(expression: Expression, scans: dict[int, int], fresh: Iterator[int]) -> Expression:
    """The expression as another reading of a CTE has it."""

    def leaf(found: plan.Reference | plan.Leaf) -> Expression:
        scan = getattr(found, "scan", None)
        if not isinstance(scan, int):
            raise UnprovenError("a reference that was not resolved")
        if scan not in scans:
            scans[scan] = next(fresh)
        changed = replace(found, scan=scans[scan])  # type: ignore[call-arg]
        if isinstance(changed, Inner):
            argument = changed.argument
            changed = replace(
                changed,
                columns=frozenset(_column(c, scans, fresh) for c in changed.columns),
                argument=None if argument is None else renumbered(argument, scans, fresh),
                filter=tuple(renumbered(each, scans, fresh) for each in changed.filter),
            )
        return changed

    return plan.rebuild(expression, leaf)


def _column(column: Column, scans: dict[int, int], fresh: Iterator[int]) -> Column:
    found = renumbered(column, scans, fresh)
    assert isinstance(found, Column)  # noqa: S101 - a leaf stays what it is
    return found


def maybe_missing(expression: Expression) -> Expression:
    """A value of a row that may not be there: it can be NULL, whatever its table says."""

    def leaf(found: plan.Reference | plan.Leaf) -> Expression:
        if isinstance(found, Column):
            return replace(found, column=replace(found.column, is_nullable=True))
        if isinstance(found, PublicValue):
            return replace(found, source="")  # NULL may be no value of that column
        return found

    return plan.rebuild(expression, leaf)


def conjuncts(condition: Expression) -> list[Expression]:
    """The conditions that a condition is the AND of."""
    if isinstance(condition, plan.Call) and condition.kind == "CONJUNCTION_AND":
        return [part for child in condition.children for part in conjuncts(child)]
    return [condition]


def is_zero(expression: Expression) -> bool:
    """Whether it is a literal zero, in one spelling."""
    return is_constant(expression) and str(constant_value(expression)) == "0"


def decided(condition: Expression) -> bool | None:
    """Whether a truth value that is written out is true, or two whole numbers are equal.

    None for anything else.
    """
    if condition.type == BOOLEAN and is_constant(condition):
        return str(constant_value(condition)).lower() == "true"
    if (
        not isinstance(condition, plan.Call)
        or (condition.kind, condition.name) != ("COMPARE_EQUAL", "=")
        or len(condition.children) != 2
    ):
        return None
    one, other = condition.children
    if one.type != other.type or one.type.name not in INTEGERS:
        return None
    values = [constant_value(side) for side in (one, other) if is_constant(side)]
    numbers = [int(value) for value in values if value is not None]
    return numbers[0] == numbers[1] if len(numbers) == 2 else None


def fits(leaf: Expression, target: ValueType) -> bool:
    """Whether a leaf's known magnitude fits a DECIMAL without decimals."""
    magnitude = magnitude_of(leaf)
    is_whole = leaf.type.name in INTEGERS and target.name == "DECIMAL" and target.scale == 0
    return is_whole and magnitude is not None and magnitude < 10**target.width


def magnitude_of(leaf: Expression) -> int | None:
    """Largest absolute value of a numeric leaf, at its type's scale; None if unknown."""
    match leaf:
        case Column(column=column):
            return column.magnitude
        case PublicValue(magnitude=magnitude) | Inner(magnitude=magnitude):
            return magnitude
    return None


def check_total(expression: Expression) -> None:
    """Requires that an expression can be computed for every row without an error.

    Raises:
        UnprovenError: It may fail, or it isn't known.
    """
    if isinstance(expression, plan.Constant | plan.Leaf) or is_constant(expression):
        return
    match expression:
        case plan.Case():
            for child in plan.children_of(expression):
                check_total(child)
            return
        case plan.Call():
            for child in expression.children:
                check_total(child)
            if _is_total(expression):
                return
    raise UnprovenError(f"the expression {name_of(expression)}")


def _is_total(call: plan.Call) -> bool:
    form, children = (call.kind, call.name), call.children
    if form in COMPARISONS:
        return len(children) == 2 and children[0].type == children[1].type and call.type == BOOLEAN
    if call.kind in OPERATORS and call.name == call.kind:
        if call.kind in {"COMPARE_IN", "COMPARE_NOT_IN"}:
            same = all(child.type == children[0].type for child in children)
            return same and all(is_constant(child) for child in children[1:])
        return True
    if form == _CAST and len(children) == 1:
        if call.is_try:
            # A text that becomes a date may become one that no TIMESTAMP holds.
            return call.type == DOUBLE or call.type.name in {*INTEGERS, "DECIMAL"}
        return widens(children[0].type, call.type) or fits(children[0], call.type)
    if call.kind == "BOUND_FUNCTION" and call.name in TOTAL:
        return _is_total_function(call)
    if call.kind == "BOUND_FUNCTION" and call.name in _ARITHMETIC and len(children) == 2:
        if call.type.name == "DECIMAL":
            return not call.may_overflow
        return call.type == DOUBLE
    if form == ("BOUND_FUNCTION", "system.main./"):
        # An average over other units. Division of doubles doesn't fail, whatever by.
        leaves = list(plan.leaves_of(call))
        return call.type == DOUBLE and all(isinstance(leaf, Guarded) for leaf in leaves)
    return False


_ARITHMETIC = frozenset({"system.main.+", "system.main.-", "system.main.*"})


def _is_total_function(call: plan.Call) -> bool:
    name, children = call.name.removeprefix("system.main."), call.children
    if name in {"date_trunc", "date_part"}:
        part = constant_value(children[0]) if len(children) == 2 else None
        return part in _DATE_PARTS
    if name in {"substring", "substr", "left", "right"}:
        return all(_is_length(child) for child in children[1:])
    return all(is_constant(child) for child in children[1:])


def _is_length(expression: Expression) -> bool:
    # DuckDB takes places in a text up to 2^32 and raises beyond.
    text = str(constant_value(expression))
    return text.removeprefix("-").isdecimal() and abs(int(text)) < _MAX_LENGTH


def check_condition(expression: Expression) -> None:
    """Requires that protected rows may be chosen by a condition.

    Raises:
        UnprovenError: It reads what isn't declared `filter`, or computes in a way not known.
    """
    _check_filter_use(expression)
    _check_guarded(expression)
    check_total(expression)
    if expression.type != BOOLEAN:
        raise UnprovenError("a condition that is not true or false")


def _check_guarded(expression: Expression) -> None:
    """Requires that a guarded value is compared with a column of the row, and nothing else.

    Compared with a constant it would be a switch: the same answer for all rows, which tells the
    value, digit by digit, and no result that is told differs by few units.
    """
    if isinstance(expression, plan.Call) and (expression.kind, expression.name) in COMPARISONS:
        for side, other in (expression.children, expression.children[::-1]):
            values = [leaf for leaf in plan.leaves_of(side) if isinstance(leaf, Guarded)]
            if not values or isinstance(_uncast(other), Column | Inner):
                continue
            is_key = isinstance(side, Guarded) and side.is_key
            if not (is_key and expression.kind in EQUALITIES and isinstance(other, PublicValue)):
                raise UnprovenError(
                    "a subquery over other units whose value is compared with anything but a "
                    "column of the row"
                )
        return
    if isinstance(expression, Guarded):
        raise UnprovenError("a subquery over other units that is not compared with a column")
    for child in plan.children_of(expression):
        _check_guarded(child)


def _uncast(expression: Expression) -> Expression:
    while (
        isinstance(expression, plan.Call)
        and (expression.kind, expression.name) == _CAST
        and not expression.is_try
    ):
        (expression,) = expression.children
    return expression


def _check_filter_use(expression: Expression) -> None:
    if is_constant(expression):
        return
    match expression:
        case Column(column=column):
            if Use.FILTER not in column.uses:
                raise UnprovenError(
                    f"a condition on the column {column.name}, which is not declared `filter`"
                )
        case Inner(columns=columns):
            for each in columns:
                _check_filter_use(each)
        case PublicValue() | Guarded() | Meets():
            return
        case Unit():
            raise UnprovenError("a condition on the privacy unit")
        case plan.Case():
            raise UnprovenError("CASE in a condition")
        case plan.Call():
            if expression.kind in {"OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"}:
                (asked,) = expression.children
                if names_unit(asked) or isinstance(asked, MissingUnit):
                    return  # it has a value where there is a row
            if expression.name in _ARITHMETIC and any(
                isinstance(leaf, Column | Inner) for leaf in plan.leaves_of(expression)
            ):
                raise UnprovenError("arithmetic on protected values in a condition")
            for child in expression.children:
                _check_filter_use(child)
        case _:
            raise UnprovenError("a condition on what may be missing")


def names_unit(leaf: Expression) -> bool:
    """Whether it is the privacy unit, or a column of a key that determines it."""
    if isinstance(leaf, Column):
        return any(leaf.column.name in key.columns for key in leaf.table.keys)
    return isinstance(leaf, Unit)


def columns_of(leaves: Iterable[plan.Reference | plan.Leaf]) -> frozenset[Column]:
    """The declared columns that leaves are, or are computed from."""
    found: set[Column] = set()
    for leaf in leaves:
        if isinstance(leaf, Column):
            found.add(leaf)
        elif isinstance(leaf, Inner):
            found |= leaf.columns
    return frozenset(found)


def check_inner_key(expression: Expression) -> None:
    """Requires that rows below the cells may be told apart by an expression.

    Raises:
        UnprovenError: It is neither the unit, nor determines it, nor may it be shown or be a
            condition.
    """
    if names_unit(expression):
        return
    try:
        _check_group_use(expression)
    except UnprovenError:
        _check_filter_use(expression)
    check_total(expression)


def check_key(expression: Expression) -> None:
    """Requires that an expression may be shown as a group key.

    Raises:
        UnprovenError: It reads what isn't declared `group`, or computes in a way not known.
    """
    _check_group_use(expression)
    check_total(expression)


def _check_group_use(expression: Expression) -> None:
    if is_constant(expression):
        return
    match expression:
        case Column(column=column):
            if Use.GROUP not in column.uses:
                raise UnprovenError(f"the group key {column.name}, which is not declared `group`")
        case Inner(columns=columns):
            for each in columns:
                _check_group_use(each)
        case PublicValue():
            return
        case plan.Case():
            for when, then in expression.checks:
                _check_filter_use(when)
                _check_group_use(then)
            _check_group_use(expression.otherwise)
        case plan.Call():
            if expression.name in _ARITHMETIC:
                raise UnprovenError("arithmetic in a group key")
            for child in expression.children:
                _check_group_use(child)
        case _:
            raise UnprovenError("a group key that is neither declared `group` nor public")


def name_of(expression: Expression) -> str:
    """What an expression is called in a refusal."""
    if isinstance(expression, plan.Call):
        return expression.name.removeprefix("system.main.")
    return {plan.Case: "CASE", plan.Constant: "a constant"}.get(type(expression), "this value")
