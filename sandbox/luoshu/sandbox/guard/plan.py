"""DuckDB's bound plan as typed values.

Made by `guard.plan_reader`. The rewriter reads an analyst's plan in this form, the
verifier that of the stage-1 SQL. References are positional: `Reference.index` is a
place in the output of the operator's child (of a join: left columns, then right).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

from luoshu.sandbox.schema import BIGINT, BOOLEAN, ValueType


@dataclass(frozen=True, slots=True)
class Reference:
    """Column `index` of the input's output."""

    index: int
    type: ValueType


@dataclass(frozen=True, slots=True)
class Interval:
    """The value of an INTERVAL constant."""

    months: int
    days: int
    micros: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; `value` is None for NULL. Dates are days, timestamps microseconds since 1970."""

    value: bool | int | float | str | Interval | None
    type: ValueType


@dataclass(frozen=True, slots=True)
class Call:
    """A scalar function, operator, comparison, conjunction or cast.

    Attributes:
        name: Its full path, joined by dots (`=`, `__cast`, `system.main.lower`); for an operator
            without a name its kind.
        kind: DuckDB's expression type (`COMPARE_EQUAL`, `OPERATOR_CAST`, `COMPARE_IN`,
            `CONJUNCTION_AND`, `BOUND_FUNCTION`, …).
        is_try: Of a cast: whether it is TRY_CAST.
        may_overflow: Of arithmetic on decimals: whether DuckDB checks at run time, because the
            types alone don't exclude it.
    """

    name: str
    kind: str
    children: tuple[Expression, ...]
    type: ValueType
    is_try: bool = False
    may_overflow: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """CASE WHEN … THEN … ELSE … END."""

    checks: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression
    type: ValueType


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """Anything that stands in place of a reference once it is known what it refers to."""

    type: ValueType


Expression: TypeAlias = "Reference | Constant | Call | Case | Leaf"


def rebuild(expression: Expression, leaf: Callable[[Reference | Leaf], Expression]) -> Expression:
    """The expression with each reference and leaf replaced."""
    match expression:
        case Reference() | Leaf():
            return leaf(expression)
        case Call():
            children = tuple(rebuild(child, leaf) for child in expression.children)
            return replace(expression, children=children)
        case Case():
            checks = tuple((rebuild(w, leaf), rebuild(t, leaf)) for w, t in expression.checks)
            return replace(expression, checks=checks, otherwise=rebuild(expression.otherwise, leaf))
        case Constant():
            return expression


def children_of(expression: Expression) -> tuple[Expression, ...]:
    """The direct operands."""
    if isinstance(expression, Call):
        return expression.children
    if isinstance(expression, Case):
        pairs = [part for check in expression.checks for part in check]
        return (*pairs, expression.otherwise)
    return ()


def leaves_of(expression: Expression) -> Iterator[Reference | Leaf]:
    """Every reference and leaf, in order."""
    if isinstance(expression, Reference | Leaf):
        yield expression
    for child in children_of(expression):
        yield from leaves_of(child)


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of ORDER BY; `direction` and `nulls` as SQL writes them."""

    expression: Expression
    direction: str
    nulls: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate function without ORDER BY.

    Attributes:
        name: Its full path, joined by dots (`system.main.sum`).
        filter: Of its FILTER clause.
        is_distinct: Whether over distinct arguments.
        fraction: Of a percentile: which.
    """

    name: str
    children: tuple[Expression, ...]
    filter: Expression | None
    is_distinct: bool
    type: ValueType
    fraction: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A window function.

    Attributes:
        name: Full path of an aggregate, else "".
        kind: DuckDB's expression type (`WINDOW_AGGREGATE`, `WINDOW_ROW_NUMBER`, …).
        start, end: Frame bounds as DuckDB names them; with an offset the expression beside them.
    """

    name: str
    kind: str
    children: tuple[Expression, ...]
    partitions: tuple[Expression, ...]
    orders: tuple[SortKey, ...]
    start: str
    end: str
    start_offset: Expression | None
    end_offset: Expression | None
    offset: Expression | None
    default: Expression | None
    filter: Expression | None
    is_distinct: bool
    ignores_nulls: bool
    type: ValueType


@dataclass(frozen=True, slots=True)
class Get:
    """A sequential scan of a native table.

    Attributes:
        path: Catalog, schema, table.
        columns: Name and type of every column of the table.
        output: Which of them come out, in order.
    """

    path: tuple[str, ...]
    columns: tuple[tuple[str, ValueType], ...]
    output: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DummyScan:
    """One row without columns: SELECT without FROM."""


@dataclass(frozen=True, slots=True)
class Values:
    """Rows of expressions over the child's one row."""

    types: tuple[ValueType, ...]
    rows: tuple[tuple[Expression, ...], ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows for which all conditions hold."""

    child: Operator
    conditions: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Projection:
    """One output column per expression; `names` as the analyst sees them."""

    child: Operator
    expressions: tuple[Expression, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupBy:
    """Output is groups, then aggregates, then one number per GROUPING().

    Attributes:
        sets: Grouping sets over `groups`; one of all groups for a plain GROUP BY.
        groupings: For each GROUPING() the groups it is about.
    """

    child: Operator
    groups: tuple[Expression, ...]
    aggregates: tuple[Aggregate, ...]
    sets: tuple[tuple[int, ...], ...]
    groupings: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Join:
    """A join.

    Attributes:
        kind: INNER (also a cross product, without conditions), LEFT, FULL, SEMI, ANTI, MARK or
            SINGLE.
        conditions: Left expression, comparison, right expression; all hold.
        left_map, right_map: Which columns of a side come out; None for all.

    SEMI and ANTI put out the left side only, MARK the left side and one BOOLEAN.
    """

    kind: str
    left: Operator
    right: Operator
    conditions: tuple[tuple[Expression, str, Expression], ...]
    left_map: tuple[int, ...] | None
    right_map: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Cte:
    """`definition` under a number and name, to be referred to in `child`."""

    index: int
    name: str
    definition: Operator
    child: Operator


@dataclass(frozen=True, slots=True)
class CteRef:
    """The rows of a CTE."""

    index: int
    types: tuple[ValueType, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """ORDER BY."""

    child: Operator
    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """LIMIT and OFFSET by constants; None where not given."""

    child: Operator
    limit: int | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class Distinct:
    """SELECT DISTINCT."""

    child: Operator


@dataclass(frozen=True, slots=True)
class WindowStep:
    """The child's columns, then one per window function."""

    child: Operator
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class SetOperation:
    """UNION, INTERSECT or EXCEPT; each with ALL or without."""

    kind: str
    is_all: bool
    children: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Empty:
    """No rows, of these types."""

    types: tuple[ValueType, ...]


Operator: TypeAlias = (
    "Get | DummyScan | Values | Filter | Projection | GroupBy | Join | Cte | CteRef | Order | "
    "Limit | Distinct | WindowStep | SetOperation | Empty"
)


def output_types(operator: Operator) -> tuple[ValueType, ...]:
    """The type of each column that an operator puts out."""
    match operator:
        case Get():
            return tuple(BIGINT if n < 0 else operator.columns[n][1] for n in operator.output)
        case DummyScan():
            return ()
        case Values() | Empty() | CteRef():
            return operator.types
        case Projection():
            return tuple(each.type for each in operator.expressions)
        case GroupBy():
            found = [each.type for each in (*operator.groups, *operator.aggregates)]
            return (*found, *(BIGINT for _ in operator.groupings))
        case Join():
            left = _mapped(output_types(operator.left), operator.left_map)
            if operator.kind in {"SEMI", "ANTI"}:
                return left
            if operator.kind == "MARK":
                return (*left, BOOLEAN)
            return (*left, *_mapped(output_types(operator.right), operator.right_map))
        case WindowStep():
            return (*output_types(operator.child), *(each.type for each in operator.windows))
        case SetOperation():
            return output_types(operator.children[0])
        case _:
            return output_types(operator.child)


def _mapped(types: tuple[ValueType, ...], places: tuple[int, ...] | None) -> tuple[ValueType, ...]:
    return types if places is None else tuple(types[place] for place in places)


def output_names(operator: Operator) -> tuple[str, ...]:
    """What the analyst calls the columns of a result; none where the plan doesn't say."""
    match operator:
        case Projection():
            return operator.names
        case Filter() | Order() | Limit() | Distinct() | Cte() | WindowStep():
            return output_names(operator.child)
        case _:
            return ()


def inputs_of(operator: Operator) -> tuple[Operator, ...]:
    """The operators that an operator reads."""
    match operator:
        case Get() | DummyScan() | Values() | Empty() | CteRef():
            return ()
        case Join():
            return (operator.left, operator.right)
        case Cte():
            return (operator.definition, operator.child)
        case SetOperation():
            return operator.children
        case _:
            return (operator.child,)
