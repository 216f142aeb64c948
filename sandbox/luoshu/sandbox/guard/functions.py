"""The closed lists of functions, by full name, that the verifier accepts.

`TOTAL` are defined for every value of their types: they neither raise nor allocate by
value, whatever the row. They are what protected rows may be filtered and grouped by.
`PUBLIC` may raise, which tells nothing where only public rows are read; they depend on their
arguments alone.
"""

from __future__ import annotations


def _paths(names: str) -> frozenset[str]:
    return frozenset(f"system.main.{name}" for name in names.split())


TOTAL = _paths(
    """~~ !~~ ~~* !~~* lower upper trim ltrim rtrim substring substr left right starts_with prefix
    suffix contains length strlen strip_accents
    year month day quarter week dayofweek dayofyear isodow isoyear hour minute second decade century
    era millennium weekday last_day date_trunc date_part monthname dayname"""
)
"""Of strings and dates; further arguments than the first must be constants."""

PUBLIC = TOTAL | _paths(
    """+ - * / // % || abs round floor ceil ceiling trunc sign sqrt cbrt pow power exp ln log log10
    log2 pi greatest least concat replace reverse instr position strpos ascii chr
    to_years to_months to_weeks to_days to_hours to_minutes to_seconds date_add date_diff datediff
    date_sub make_date make_timestamp nullif ifnull isnan isinf isfinite like_escape
    not_like_escape ilike_escape not_ilike_escape regexp_matches split_part"""
)

PUBLIC_AGGREGATES = _paths(
    """count count_star sum avg mean min max count_if countif stddev stddev_samp stddev_pop variance
    var_samp var_pop covar_pop covar_samp corr regr_slope regr_intercept regr_count regr_r2
    regr_avgx regr_avgy regr_sxx regr_syy regr_sxy median quantile_cont quantile_disc mode
    any_value first last arg_min arg_max bool_and bool_or bit_and bit_or bit_xor string_agg
    sum_no_overflow"""
)

PUBLIC_WINDOWS = frozenset(
    [
        "WINDOW_AGGREGATE",
        "WINDOW_ROW_NUMBER",
        "WINDOW_RANK",
        "WINDOW_RANK_DENSE",
        "WINDOW_PERCENT_RANK",
        "WINDOW_CUME_DIST",
        "WINDOW_NTILE",
        "WINDOW_LAG",
        "WINDOW_LEAD",
        "WINDOW_FIRST_VALUE",
        "WINDOW_LAST_VALUE",
        "WINDOW_NTH_VALUE",
    ]
)

COMPARISONS = frozenset(
    {
        ("COMPARE_EQUAL", "="),
        ("COMPARE_NOTEQUAL", "!="),
        ("COMPARE_LESSTHAN", "<"),
        ("COMPARE_GREATERTHAN", ">"),
        ("COMPARE_LESSTHANOREQUALTO", "<="),
        ("COMPARE_GREATERTHANOREQUALTO", ">="),
        ("COMPARE_DISTINCT_FROM", "IS DISTINCT FROM"),
        ("COMPARE_NOT_DISTINCT_FROM", "IS NOT DISTINCT FROM"),
    }
)
EQUALITIES = frozenset({"COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"})
OPERATORS = frozenset(
    {
        "CONJUNCTION_AND",
        "CONJUNCTION_OR",
        "OPERATOR_NOT",
        "OPERATOR_IS_NULL",
        "OPERATOR_IS_NOT_NULL",
        "COMPARE_IN",
        "COMPARE_NOT_IN",
        "OPERATOR_COALESCE",
    }
)
