"""Stage-2 expressions over released components.

Derived values are rounded to 12 significant digits: what differs beyond is how a double was
divided, not data. Variances and their kin are differences of large numbers, so they are
taken exactly where 38 digits hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from luoshu.sandbox.schema import DOUBLE, ValueType

__all__ = ["DOUBLE", "NAMES", "combined", "expression", "rounded"]

Place = Callable[..., str]

_ONE = frozenset({"var_samp", "variance", "var_pop", "stddev_samp", "stddev", "stddev_pop"})
_TWO = frozenset(
    [
        "covar_pop",
        "covar_samp",
        "corr",
        "regr_slope",
        "regr_intercept",
        "regr_count",
        "regr_r2",
        "regr_avgx",
        "regr_avgy",
        "regr_sxx",
        "regr_syy",
        "regr_sxy",
    ]
)
NAMES = _ONE | _TWO


def rounded(value: str) -> str:
    """A DOUBLE to 12 significant digits."""
    return f"CAST(format('{{{{:.11e}}}}', CAST({value} AS DOUBLE)) AS DOUBLE)"


def combined(parts: Sequence[tuple[str, Fraction]], kind: ValueType) -> str:
    """A sum of components times coefficients, exact unless the result is a DOUBLE."""
    if kind == DOUBLE:
        terms = [f"CAST({value} AS DOUBLE) * {float(factor)!r}::DOUBLE" for value, factor in parts]
        return terms[0] if parts[0][1] == 1 and len(parts) == 1 else rounded(" + ".join(terms))
    texts = []
    for value, factor in parts:
        if factor == 1:
            texts.append(value)
        elif (number := _decimal_text(factor)) is not None:
            texts.append(f"{value} * {number}")
        else:
            doubles = [f"CAST({v} AS DOUBLE) * {float(f)!r}::DOUBLE" for v, f in parts]
            return rounded(" + ".join(doubles))
    return " + ".join(texts)


def _decimal_text(number: Fraction) -> str | None:
    for scale in range(13):
        scaled = number * 10**scale
        if scaled.denominator == 1 and abs(scaled) < 10**18:
            digits = str(abs(int(scaled))).rjust(scale + 1, "0")
            whole, part = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
            sign = "-" if number < 0 else ""
            width = max(len(digits), scale)
            return f"CAST('{sign}{whole}{'.' + part if part else ''}' AS DECIMAL({width},{scale}))"
    return None


def expression(name: str, place: Place, count: int) -> str:
    """A statistic of one or two columns over its moments.

    Args:
        name: DuckDB's.
        place: Gives a component: of no column the rows, of columns their product.
        count: Number of columns; of two, DuckDB's order is y, x.
    """
    rows = place()
    n = f"CAST({rows} AS DOUBLE)"
    if name in _ONE:
        spread = _spread(place, rows, 0, 0)
        # n·Σx² − (Σx)² over n² or n(n−1), never below zero.
        below = f"{n} * {n}" if name.endswith("_pop") else f"({n} * ({n} - 1))"
        value = f"{_not_negative(spread)} / nullif({below}, 0)"
        return rounded(f"sqrt({value})" if name.startswith("stddev") else value)
    if count != 2:
        return "NULL"
    y, x = 0, 1
    if name == "regr_count":
        return rows
    if name in {"regr_avgx", "regr_avgy"}:
        return rounded(f"CAST({place(x if name == 'regr_avgx' else y)} AS DOUBLE) / {n}")
    syy, sxx, sxy = (_spread(place, rows, one, other) for one, other in ((y, y), (x, x), (y, x)))
    values = {
        "covar_pop": f"{sxy} / ({n} * {n})",
        "covar_samp": f"{sxy} / nullif({n} * ({n} - 1), 0)",
        "corr": (f"{sxy} / nullif(sqrt({_not_negative(sxx)}) * sqrt({_not_negative(syy)}), 0)"),
        "regr_slope": f"{sxy} / nullif({sxx}, 0)",
        "regr_intercept": (
            f"(CAST({place(y)} AS DOUBLE) - {sxy} / nullif({sxx}, 0) * "
            f"CAST({place(x)} AS DOUBLE)) / {n}"
        ),
        "regr_r2": f"pow({sxy}, 2) / nullif({sxx} * {syy}, 0)",
        "regr_sxx": f"{sxx} / {n}",
        "regr_syy": f"{syy} / {n}",
        "regr_sxy": f"{sxy} / {n}",
    }
    return rounded(values[name])


def _not_negative(value: str) -> str:
    """A difference of doubles that can come out just below zero; NULL stays NULL."""
    return f"CASE WHEN {value} < 0 THEN 0 ELSE {value} END"


def _spread(place: Place, rows: str, one: int, other: int) -> str:
    """n·Σxy − Σx·Σy as a DOUBLE: exact where it fits, else by doubles."""
    products, left, right = place(one, other), place(one), place(other)
    exact = f"CAST(CAST({rows} AS DECIMAL(38,0)) * {products} - {left} * {right} AS DOUBLE)"
    plain = (
        f"CAST({rows} AS DOUBLE) * CAST({products} AS DOUBLE) "
        f"- CAST({left} AS DOUBLE) * CAST({right} AS DOUBLE)"
    )
    return f"coalesce(TRY({exact}), {plain})"
