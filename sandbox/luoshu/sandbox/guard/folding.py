"""Constants: an expression without columns becomes the literal of its value.

DuckDB computes it, from a closed list of functions whose results depend on their arguments
alone. An error in it is the analyst's own, and says nothing about data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from luoshu.sandbox import engine
from luoshu.sandbox.guard import plan
from luoshu.sandbox.guard.constants import cast_succeeds
from luoshu.sandbox.guard.plan import Expression
from luoshu.sandbox.guard.refusals import Refusal, refuse, shown
from luoshu.sandbox.guard.text import constant_text, short_name, sql_of
from luoshu.sandbox.schema import BOOLEAN, VARCHAR

_FUNCTIONS = frozenset(
    [
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "||",
        "abs",
        "round",
        "floor",
        "ceil",
        "ceiling",
        "trunc",
        "sign",
        "sqrt",
        "pow",
        "power",
        "exp",
        "ln",
        "log",
        "log10",
        "pi",
        "greatest",
        "least",
        "lower",
        "upper",
        "trim",
        "ltrim",
        "rtrim",
        "substring",
        "substr",
        "left",
        "right",
        "length",
        "concat",
        "to_years",
        "to_months",
        "to_weeks",
        "to_days",
        "to_hours",
        "to_minutes",
        "to_seconds",
        "to_milliseconds",
        "to_microseconds",
        "date_trunc",
        "date_part",
        "date_add",
        "year",
        "month",
        "day",
        "quarter",
        "make_date",
        "make_timestamp",
        "date_diff",
        "datediff",
    ]
)
_KINDS = frozenset(
    [
        "OPERATOR_CAST",
        "OPERATOR_NOT",
        "OPERATOR_IS_NULL",
        "OPERATOR_IS_NOT_NULL",
        "OPERATOR_COALESCE",
        "COMPARE_EQUAL",
        "COMPARE_NOTEQUAL",
        "COMPARE_LESSTHAN",
        "COMPARE_GREATERTHAN",
        "COMPARE_LESSTHANOREQUALTO",
        "COMPARE_GREATERTHANOREQUALTO",
        "COMPARE_IN",
        "CONJUNCTION_AND",
        "CONJUNCTION_OR",
    ]
)


def fold(connection: engine.Connection, expression: Expression) -> plan.Constant:
    """Evaluates an expression without columns.

    Raises:
        GuardRefusalError: It can't be evaluated, or isn't of the closed list.
    """
    if isinstance(expression, plan.Constant):
        return expression
    if (literal := _literal(expression)) is not None:
        return literal
    _check(expression)

    def no_leaf(_leaf: plan.Reference | plan.Leaf) -> str:
        raise refuse(Refusal.EXPRESSION, "A constant was expected where a column is.")

    try:
        text = sql_of(expression, no_leaf)
        kind = "VARCHAR" if expression.type.name == "NULL" else str(expression.type)
        row = connection.execute(f"SELECT CAST(CAST({text} AS {kind}) AS VARCHAR)").fetchone()
        value = None if row is None else row[0]
        if value is None:
            return plan.Constant(None, expression.type)
        if expression.type == VARCHAR:
            return plan.Constant(str(value), VARCHAR)
    except engine.EngineError:
        raise refuse(
            Refusal.EXPRESSION, "A constant in the query can't be computed; correct it."
        ) from None
    text = str(value)
    if expression.type.name == "TIMESTAMP" and "." in text:
        text = text.ljust(len("YYYY-MM-DD HH:MM:SS.000000"), "0")
    return plan.Constant(text, expression.type)


def _literal(expression: Expression) -> plan.Constant | None:
    """A literal that only has to be read as another type, without asking DuckDB."""
    if not isinstance(expression, plan.Call) or expression.kind != "OPERATOR_CAST":
        return None
    inner = expression.children[0]
    if isinstance(inner, plan.Call):
        inner = _literal(inner) or inner
    if not isinstance(inner, plan.Constant) or inner.value is None:
        return None
    text = constant_text(inner)
    is_plain = inner.type == VARCHAR or inner.type.name in _EXACT
    if is_plain and expression.type.name in {*_EXACT, "DATE", "VARCHAR", "BOOLEAN"}:
        if expression.type.name == "BOOLEAN" and inner.type != VARCHAR:
            return None
        if cast_succeeds(text, expression.type):
            return plan.Constant(text, expression.type)
    return None


_EXACT = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL"})


def _check(expression: Expression) -> None:
    match expression:
        case plan.Constant():
            return
        case plan.Call():
            if expression.kind not in _KINDS and not (
                expression.kind == "BOUND_FUNCTION" and short_name(expression.name) in _FUNCTIONS
            ):
                raise refuse(
                    Refusal.FUNCTION,
                    f"In a constant, {shown(short_name(expression.name))} is not accepted; write "
                    "the value itself.",
                )
            for child in expression.children:
                _check(child)
        case plan.Case():
            for child in plan.children_of(expression):
                _check(child)
        case _:
            raise refuse(Refusal.EXPRESSION, "A constant was expected where a column is.")


class Constants:
    """Evaluates what has no columns in one query; remembers what it computed."""

    def __init__(self, connection: engine.Connection) -> None:
        self._connection = connection
        self._known: dict[Expression, plan.Constant] = {}

    def value(self, expression: Expression) -> plan.Constant:
        """The literal for an expression without columns; see `fold`."""
        if expression not in self._known:
            self._known[expression] = fold(self._connection, expression)
        return self._known[expression]

    def simplified(self, expression: Expression) -> Expression:
        """The expression with literals in place of what has no columns, as it is written."""
        return _coalesced(self.pruned(expression, self.simplified))

    def pruned(
        self, expression: Expression, inner: Callable[[Expression], Expression] | None = None
    ) -> Expression:
        """The expression with literals in place of what has no columns.

        Without the parts of AND, OR and CASE that literals decide.

        Args:
            expression: Over atoms.
            inner: What is done to its parts; the same by default.
        """
        inner = inner or self.pruned
        if isinstance(expression, plan.Constant | plan.Leaf | plan.Reference):
            return expression
        if not any(True for _ in plan.leaves_of(expression)):
            return self.value(expression)
        if isinstance(expression, plan.Call):
            return _without_decided(
                replace(expression, children=tuple(map(inner, expression.children)))
            )
        checks = [(inner(when), inner(then)) for when, then in expression.checks]
        otherwise = inner(expression.otherwise)
        kept: list[tuple[Expression, Expression]] = []
        for when, then in checks:
            if is_true(when):
                otherwise = then
                break
            if not isinstance(when, plan.Constant):  # else it is false or NULL
                kept.append((when, then))
        return replace(expression, checks=tuple(kept), otherwise=otherwise) if kept else otherwise


def is_true(expression: Expression) -> bool:
    """Whether it is the literal true."""
    return isinstance(expression, plan.Constant) and str(expression.value).lower() == "true"


def is_false(expression: Expression) -> bool:
    """Whether it is the literal false, or NULL, which no row fulfils either."""
    return isinstance(expression, plan.Constant) and not is_true(expression)


def _without_decided(call: plan.Call) -> Expression:
    """An AND without true, and an OR without false: what is left decides."""
    if call.kind not in {"CONJUNCTION_AND", "CONJUNCTION_OR"}:
        return call
    is_and = call.kind == "CONJUNCTION_AND"
    open_parts = []
    for part in call.children:
        decides = isinstance(part, plan.Constant) and part.value is not None
        if decides and is_true(part) is not is_and:
            return part
        if not decides:
            open_parts.append(part)
    return open_parts[0] if len(open_parts) == 1 else replace(call, children=tuple(open_parts))


def _coalesced(case: Expression) -> Expression:
    """COALESCE, where a CASE is one: DuckDB writes the count of a correlated subquery like that."""
    if isinstance(case, plan.Case) and len(case.checks) == 1:
        when, then = case.checks[0]
        is_null = plan.Call("OPERATOR_IS_NULL", "OPERATOR_IS_NULL", (case.otherwise,), BOOLEAN)
        if when == is_null and isinstance(then, plan.Constant):
            children = (case.otherwise, then)
            return plan.Call("OPERATOR_COALESCE", "OPERATOR_COALESCE", children, case.type)
    return case
