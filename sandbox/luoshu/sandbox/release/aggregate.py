"""Release mode `aggregate`: a value comes out only if enough distinct units are behind it.

The threshold holds for every component of every cell by itself, grouped or not.
A component below it is NULL; a group of which nothing comes out is absent, key
and all; without groups, the one cell stays as a row of NULLs. Withheld looks
alike whatever the reason, also like a sum of no values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from luoshu.sandbox.schema import CellSchema, SchemaError, exact_fields
from luoshu.sandbox.wire import Row, Value


@dataclass(frozen=True, slots=True)
class AggregateRules:
    """The rules in force for one computation.

    Attributes:
        min_units: Fewest distinct units behind a component.
    """

    min_units: int

    @classmethod
    def from_json(cls, value: object) -> AggregateRules:
        """Reads `{"mode": "aggregate", "min_units": n}`.

        Raises:
            SchemaError: Any other form: rules that aren't understood are never skipped.
        """
        fields = exact_fields(value, "mode", "min_units")
        minimum = fields["min_units"]
        if fields["mode"] != "aggregate":
            raise SchemaError("a release mode that is not there")
        if not isinstance(minimum, int) or isinstance(minimum, bool) or minimum < 1:
            raise SchemaError("min_units must be at least 1")
        return cls(minimum)


@dataclass(frozen=True, slots=True)
class Released:
    """What comes out.

    Attributes:
        rows: Keys and values, without unit counts, in the order of their keys: the order in
            which the engine happened to find groups tells about rows.
        withheld_groups: Cells of which nothing came out. For the holder's eyes.
        withheld_values: Components withheld in cells of which something came out. For the
            holder's eyes.
    """

    rows: list[Row]
    withheld_groups: int
    withheld_values: int


def release(cells: Sequence[Row], schema: CellSchema, rules: AggregateRules) -> Released:
    """Applies the rules.

    Args:
        cells: Rows of `schema.row_types`: keys, then value and number of units per component.
        schema: What the verifier proved them to be.
        rules: In force.
    """
    width = len(schema.keys)
    rows: list[Row] = []
    withheld_groups = withheld_values = 0
    for cell in cells:
        pairs = zip(cell[width::2], cell[width + 1 :: 2], strict=True)
        values = [value if _is_enough(units, rules) else None for value, units in pairs]
        withheld = sum(not _is_enough(units, rules) for units in cell[width + 1 :: 2])
        if withheld == len(values):
            withheld_groups += 1
            if width:
                continue
        else:
            withheld_values += withheld
        rows.append((*cell[:width], *values))
    # Keys of one place are of one type; a NULL key comes last.
    rows.sort(key=lambda row: [(key is None, 0 if key is None else key) for key in row[:width]])
    return Released(rows, withheld_groups, withheld_values)


def _is_enough(units: Value, rules: AggregateRules) -> bool:
    return isinstance(units, int) and not isinstance(units, bool) and units >= rules.min_units
