"""Operators as SQL, one subquery each: stage 2 over released cells, and public subqueries.

What is rendered here reads no protected row, so it needs no proof; it needs to mean what
the analyst's query means. Each operator puts out x0, x1, ….
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from luoshu.sandbox.engine import identifier
from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.plan import Expression, Operator
from luoshu.sandbox.guard.plan_reader import ROW_ID
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.refused import check_function
from luoshu.sandbox.guard.text import COMPARISONS, short_name, sql_of

_WINDOWS = {
    "WINDOW_ROW_NUMBER": "row_number",
    "WINDOW_RANK": "rank",
    "WINDOW_RANK_DENSE": "dense_rank",
    "WINDOW_PERCENT_RANK": "percent_rank",
    "WINDOW_CUME_DIST": "cume_dist",
    "WINDOW_NTILE": "ntile",
    "WINDOW_LAG": "lag",
    "WINDOW_LEAD": "lead",
    "WINDOW_FIRST_VALUE": "first_value",
    "WINDOW_LAST_VALUE": "last_value",
    "WINDOW_NTH_VALUE": "nth_value",
}
_BOUNDS = {
    "UNBOUNDED_PRECEDING": ("", "UNBOUNDED PRECEDING"),
    "UNBOUNDED_FOLLOWING": ("", "UNBOUNDED FOLLOWING"),
    "CURRENT_ROW_RANGE": ("RANGE", "CURRENT ROW"),
    "CURRENT_ROW_ROWS": ("ROWS", "CURRENT ROW"),
    "CURRENT_ROW_GROUPS": ("GROUPS", "CURRENT ROW"),
    "EXPR_PRECEDING_ROWS": ("ROWS", "PRECEDING"),
    "EXPR_FOLLOWING_ROWS": ("ROWS", "FOLLOWING"),
    "EXPR_PRECEDING_GROUPS": ("GROUPS", "PRECEDING"),
    "EXPR_FOLLOWING_GROUPS": ("GROUPS", "FOLLOWING"),
}
Render = Callable[[Operator], "str | None"]


@dataclass(slots=True)
class Shapes:
    """Renders one statement.

    Attributes:
        special: Renders an operator that isn't rendered by its parts; None: by its parts.
        definition: Finds what a CTE's number stands for.
        ctes: Bodies of the CTEs that were met, by number.
    """

    special: Render
    definition: Callable[[int], Operator]
    ctes: dict[int, str] = field(default_factory=dict)

    def statement(self, operator: Operator) -> str:
        """The whole query."""
        body = self.render(operator)
        if not self.ctes:
            return body
        named = ", ".join(f"w{number} AS ({text})" for number, text in self.ctes.items())
        return f"WITH {named} {body}"

    def render(self, operator: Operator) -> str:
        """A query that puts out x0, x1, ….

        Raises:
            GuardRefusalError: An operator or expression has no text here.
        """
        text = self.special(operator)
        return text if text is not None else self._render(operator)

    def _render(self, operator: Operator) -> str:
        match operator:
            case plan.Get():
                outputs = [
                    "rowid" if index == ROW_ID else identifier(operator.columns[index][0])
                    for index in operator.output
                ]
                return _select(outputs, ".".join(map(identifier, operator.path)))
            case plan.DummyScan():
                return "SELECT 1 AS x0"
            case plan.Empty():
                outputs = [f"CAST(NULL AS {kind})" for kind in operator.types]
                return _select(outputs, "(SELECT 1)") + " WHERE false"
            case plan.Values():
                rows = [[_sql(item) for item in row] for row in operator.rows]
                return " UNION ALL ".join(_select(row, "(SELECT 1)") for row in rows)
            case plan.Filter():
                where = " AND ".join(_sql(condition) for condition in operator.conditions)
                return f"SELECT * FROM {self._sub(operator.child)} WHERE {where}"
            case plan.Projection() if _changes_nothing(operator):
                return self.render(operator.child)
            case plan.Projection():
                outputs = [_sql(each) for each in operator.expressions]
                return _select(outputs, self._sub(operator.child))
            case plan.GroupBy():
                return self._group_by(operator)
            case plan.Join():
                return self._join(operator)
            case plan.Cte():
                return self.render(operator.child)
            case plan.CteRef():
                if operator.index not in self.ctes:
                    # Its own CTEs come first.
                    self.ctes[operator.index] = self.render(self.definition(operator.index))
                return f"SELECT * FROM w{operator.index}"
            case plan.Order():
                return f"SELECT * FROM {self._sub(operator.child)} ORDER BY {_keys(operator.keys)}"
            case plan.Limit():
                return self._limit(operator)
            case plan.Distinct():
                return f"SELECT DISTINCT * FROM {self._sub(operator.child)}"
            case plan.WindowStep():
                windows = ", ".join(
                    f"{_window(each)} AS w{n}" for n, each in enumerate(operator.windows)
                )
                width = _width(operator.child)
                columns = [f"x{n}" for n in range(width)]
                columns += [f"w{n}" for n in range(len(operator.windows))]
                return _select(columns, f"(SELECT *, {windows} FROM {self._sub(operator.child)})")
            case plan.SetOperation():
                word = f" {operator.kind} {'ALL ' if operator.is_all else ''}"
                return word.join(f"SELECT * FROM {self._sub(c)}" for c in operator.children)

    def _sub(self, operator: Operator) -> str:
        return f"({self.render(operator)})"

    def _limit(self, operator: plan.Limit) -> str:
        tail = "" if operator.limit is None else f" LIMIT {operator.limit}"
        tail += "" if operator.offset is None else f" OFFSET {operator.offset}"
        child = operator.child
        if isinstance(child, plan.Order):  # one query, so that the order is what is cut
            keys = _keys(child.keys)
            return f"SELECT * FROM {self._sub(child.child)} ORDER BY {keys}{tail}"
        return f"SELECT * FROM {self._sub(child)}{tail}"

    def _group_by(self, operator: plan.GroupBy) -> str:
        groups = [f"g{n}" for n in range(len(operator.groups))]
        keyed = ", ".join(f"{_sql(g)} AS g{n}" for n, g in enumerate(operator.groups))
        source = self._sub(operator.child)
        inner = f"(SELECT *{', ' + keyed if keyed else ''} FROM {source})"
        outputs = list(groups)
        outputs += [aggregate(call, _sql) for call in operator.aggregates]
        outputs += [
            f"grouping({', '.join(f'g{index}' for index in indexes)})"
            for indexes in operator.groupings
        ]
        query = _select(outputs or ["1"], inner)
        if not groups:
            return query
        if len(operator.sets) == 1 and len(operator.sets[0]) == len(groups):
            return f"{query} GROUP BY {', '.join(groups)}"
        sets = ", ".join(f"({', '.join(f'g{i}' for i in chosen)})" for chosen in operator.sets)
        return f"{query} GROUP BY GROUPING SETS ({sets})"

    def _join(self, operator: plan.Join) -> str:
        left, right = self._sub(operator.left), self._sub(operator.right)
        conditions = " AND ".join(
            f"{_sql(one, 'l')} {COMPARISONS[comparison]} {_sql(other, 'r')}"
            for one, comparison, other in operator.conditions
        )
        columns = _places("l", operator.left_map, _width(operator.left))
        if operator.kind == "MARK":
            columns.append(self._mark(operator, right))
            return _select(columns, f"{left} AS l")
        if operator.kind in {"SEMI", "ANTI"}:
            return _select(
                columns, f"{left} AS l {operator.kind} JOIN {right} AS r ON {conditions}"
            )
        columns += _places("r", operator.right_map, _width(operator.right))
        if operator.kind == "SINGLE":
            # More than one row would be an error of the query; here it means NULL or the first.
            raise refuse(
                Refusal.CLAUSE,
                "A correlated scalar subquery is not accepted here; write it as a join.",
            )
        word = operator.kind
        return _select(columns, f"{left} AS l {word} JOIN {right} AS r ON {conditions or 'true'}")

    def _mark(self, operator: plan.Join, right: str) -> str:
        equal = [pair for pair in operator.conditions if pair[1] == "COMPARE_EQUAL"]
        others = [pair for pair in operator.conditions if pair[1] != "COMPARE_EQUAL"]
        where = " AND ".join(
            f"{_sql(one, 'l')} {COMPARISONS[comparison]} {_sql(other, 'r')}"
            for one, comparison, other in others
        )
        tail = f" WHERE {where}" if where else ""
        if len(equal) == 1:
            one, _, other = equal[0]
            return f"({_sql(one, 'l')} IN (SELECT {_sql(other, 'r')} FROM {right} AS r{tail}))"
        if equal:
            raise refuse(Refusal.EXPRESSION, "IN with several columns is not accepted; use EXISTS.")
        return f"EXISTS (SELECT 1 FROM {right} AS r{tail})"


def _changes_nothing(projection: plan.Projection) -> bool:
    """Whether it puts out what comes in."""
    places = [
        each.index if isinstance(each, plan.Reference) else -1 for each in projection.expressions
    ]
    return places == list(range(_width(projection.child)))


def _width(operator: Operator) -> int:
    return max(1, len(plan.output_types(operator)))


def _select(outputs: Sequence[str], source: str) -> str:
    columns = ", ".join(f"{text} AS x{n}" for n, text in enumerate(outputs))
    return f"SELECT {columns or '1 AS x0'} FROM {source}"


def _places(side: str, places: tuple[int, ...] | None, width: int) -> list[str]:
    return [f"{side}.x{n}" for n in (range(width) if places is None else places)]


def _sql(expression: Expression, side: str = "") -> str:
    _check_functions(expression)

    def column(leaf: plan.Reference | plan.Leaf) -> str:
        assert isinstance(leaf, plan.Reference)  # noqa: S101 - nothing else is in plans
        return f"{side}.x{leaf.index}" if side else f"x{leaf.index}"

    return sql_of(expression, column)


def _check_functions(expression: Expression) -> None:
    if isinstance(expression, plan.Call):
        check_function(short_name(expression.name))
    for child in plan.children_of(expression):
        _check_functions(child)


def _keys(keys: Sequence[plan.SortKey], side: str = "") -> str:
    return ", ".join(f"{_sql(k.expression, side)} {k.direction} {k.nulls}" for k in keys)


def aggregate(call: plan.Aggregate, render: Callable[[Expression], str]) -> str:
    """An aggregate over columns x0, x1, …."""
    name = short_name(call.name)
    inner = ", ".join(render(child) for child in call.children)
    if name == "count_star":
        name, inner = "count", "*"
    if call.fraction is not None and name != "median":
        inner += f", CAST('{float(call.fraction)!r}' AS DOUBLE)"
    distinct = "DISTINCT " if call.is_distinct else ""
    where = f" FILTER (WHERE {render(call.filter)})" if call.filter is not None else ""
    return f"{identifier(name)}({distinct}{inner}){where}"


def _window(window: plan.Window) -> str:
    name = _WINDOWS.get(window.kind)
    if window.kind == "WINDOW_AGGREGATE":
        name = short_name(window.name)
    if name is None:
        raise refuse(Refusal.FUNCTION, f"The window function {shown(window.kind)} is not accepted.")
    arguments = [_sql(child) for child in window.children]
    if name == "count_star":
        name, arguments = "count", ["*"]
    if window.offset is not None and len(arguments) == 1:
        arguments.append(_sql(window.offset))
    if window.default is not None and len(arguments) == 2:
        arguments.append(_sql(window.default))
    distinct = "DISTINCT " if window.is_distinct else ""
    nulls = " IGNORE NULLS" if window.ignores_nulls else ""
    where = f" FILTER (WHERE {_sql(window.filter)})" if window.filter is not None else ""
    over = []
    if window.partitions:
        over.append(f"PARTITION BY {', '.join(_sql(each) for each in window.partitions)}")
    if window.orders:
        over.append(f"ORDER BY {_keys(window.orders)}")
    over.append(_frame(window))
    call = f"{identifier(name)}({distinct}{', '.join(arguments)}{nulls}){where}"
    return f"{call} OVER ({' '.join(over)})"


def _frame(window: plan.Window) -> str:
    modes, bounds = set(), []
    for name, offset in (
        (window.start, window.start_offset),
        (window.end, window.end_offset),
    ):
        if name not in _BOUNDS:
            raise refuse(
                Refusal.CLAUSE, "This window frame is not accepted; use ROWS with constants."
            )
        mode, text = _BOUNDS[name]
        modes |= {mode} - {""}
        bounds.append(text if offset is None else f"{_sql(offset)} {text}")
    if len(modes) > 1:
        raise refuse(Refusal.CLAUSE, "This window frame is not accepted; use ROWS.")
    return f"{modes.pop() if modes else 'ROWS'} BETWEEN {bounds[0]} AND {bounds[1]}"
