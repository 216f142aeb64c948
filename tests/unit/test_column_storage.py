"""How columns are stored: types, widths, bounds and magnitudes, from declarations alone."""

from __future__ import annotations

import pytest

from luoshu.sandbox.worker.preparation.column import Declaration, describe_column
from luoshu.sandbox.worker.preparation.source import SourceError

WIDE = 10**18 - 1


def described(source_type: str, *bounds: str, decimals: int | None = None) -> tuple:
    declared = Declaration(
        "a", frozenset(), (bounds[0], bounds[1]) if bounds else None, None, decimals
    )
    schema = describe_column(declared, source_type, is_collated=False).schema
    return str(schema.type), schema.bounds, schema.magnitude


@pytest.mark.parametrize(
    ("source_type", "bounds", "expected"),
    [
        ("INTEGER", (), ("BIGINT", None, 2**31)),
        ("TINYINT", (), ("BIGINT", None, 128)),
        ("UTINYINT", (), ("BIGINT", None, 255)),
        ("UINTEGER", (), ("BIGINT", None, 2**32 - 1)),
        ("BIGINT", (), ("BIGINT", None, 2**63)),
        ("UBIGINT", (), ("BIGINT", None, 2**63)),
        ("HUGEINT", (), ("BIGINT", None, 2**63)),
        ("INTEGER", ("-5", "120"), ("BIGINT", (-5, 120), 120)),
        ("INTEGER", ("0.5", "3.5"), ("BIGINT", (1, 3), 3)),
        ("BIGINT", ("-1E+19", "7"), ("BIGINT", (-(2**63), 7), 2**63)),
        ("DECIMAL(15,2)", (), ("DECIMAL(15,2)", None, 10**15 - 1)),
        ("DECIMAL(38,2)", (), ("DECIMAL(18,2)", None, WIDE)),
        ("DECIMAL(15,2)", ("0", "105000"), ("DECIMAL(8,2)", (0, 10_500_000), 10_500_000)),
        ("DECIMAL(15,2)", ("0", "0.1"), ("DECIMAL(2,2)", (0, 10), 10)),
        ("DECIMAL(15,2)", ("-1000", "10"), ("DECIMAL(6,2)", (-100_000, 1000), 100_000)),
        ("DECIMAL(4,2)", ("0", "100000"), ("DECIMAL(8,2)", (0, 10_000_000), 10_000_000)),
        ("DOUBLE", (), ("DECIMAL(18,6)", None, WIDE)),
        ("DOUBLE", ("0", "1"), ("DECIMAL(7,6)", (0, 10**6), 10**6)),
        ("DOUBLE", ("0.0000001", "1"), ("DECIMAL(7,6)", (1, 10**6), 10**6)),
        ("DOUBLE", ("0", "1E+19"), ("DECIMAL(18,6)", (0, WIDE), WIDE)),
        ("DATE", ("2020-01-01", "2021-01-01"), ("DATE", None, 0)),
        ("BOOLEAN", (), ("BOOLEAN", None, 0)),
        ("UUID", (), ("VARCHAR", None, 0)),
    ],
)
def test_storage(source_type: str, bounds: tuple[str, ...], expected: tuple) -> None:
    assert described(source_type, *bounds) == expected


@pytest.mark.parametrize(
    ("decimals", "kind"), [(0, "DECIMAL(3,0)"), (1, "DECIMAL(4,1)"), (4, "DECIMAL(6,4)")]
)
def test_declared_decimals_leave_room_to_round_up(decimals: int, kind: str) -> None:
    assert described("DECIMAL(4,2)", decimals=decimals)[0] == kind


@pytest.mark.parametrize(
    ("source_type", "bounds"),
    [("INTEGER", ("0.2", "0.8")), ("DECIMAL(9,1)", ("0.01", "0.02")), ("BIGINT", ("1E19", "2E19"))],
)
def test_bounds_without_a_value_between_are_refused(source_type: str, bounds: tuple) -> None:
    with pytest.raises(SourceError, match="no value of it lies within"):
        described(source_type, *bounds)
