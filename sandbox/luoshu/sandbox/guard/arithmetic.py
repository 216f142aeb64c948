"""Why sums are exact and can't overflow.

A DuckDB table has fewer than 2^62 rows (row ids are 62-bit). Then:

- a sum of BIGINT is within ±2^63 · 2^62 = ±2^125, and HUGEINT holds ±(2^127 - 1);
- a sum of DECIMAL(18, s) has an unscaled value within ±10^18 · 2^62 < ±10^37, and
  DECIMAL(38, s) holds ±(10^38 - 1);
- a cell's total of such sums over its units is a sum of the same rows' values,
  so the same bounds hold; a total of counts is at most the number of rows.

Nothing is rounded: integers and fixed-point numbers add up exactly, in any order.
"""

from __future__ import annotations

from luoshu.sandbox.schema import BIGINT, HUGEINT, ValueType

_MAX_WIDTH = 18


def sum_of_values(kind: ValueType) -> ValueType | None:
    """DuckDB's type of SUM over a column's values; None if there is no proof for it."""
    if kind == BIGINT:
        return HUGEINT
    if kind.name == "DECIMAL" and kind.width <= _MAX_WIDTH:
        return ValueType("DECIMAL", 38, kind.scale)
    return None


def sum_of_contributions(kind: ValueType) -> ValueType | None:
    """DuckDB's type of SUM over units' contributions; None if there is no proof for it."""
    if kind in {BIGINT, HUGEINT}:
        return HUGEINT
    if kind.name == "DECIMAL" and kind.width == 38:
        return kind
    return None
