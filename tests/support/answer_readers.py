"""Readers of workers' answers, chosen by a byte: for the fuzzer, and for what it begins with."""

from __future__ import annotations

from collections.abc import Callable

from luoshu.sandbox import answers, wire
from luoshu.sandbox.schema import CellSchema

LIMIT = 1000
SCHEMA = CellSchema.from_json(
    {
        "tables": ["p.p"],
        "keys": ["VARCHAR", "BIGINT", "DATE", "TIMESTAMP", "BOOLEAN", "DOUBLE", "DECIMAL(18,2)"],
        "components": [
            {
                "kind": "sum",
                "monomial": [],
                "scale": 0,
                "bounds": None,
                "is_wide": False,
                "rows": None,
                "digits": None,
            }
        ],
        "prefix": None,
        "key_columns": [f"p.p.k{number}" for number in range(7)],
    }
)
READERS: tuple[Callable[[dict[str, object]], object], ...] = (
    lambda message: answers.read_verified(message, {}),
    lambda message: answers.read_cells(message, [SCHEMA], LIMIT),
    lambda message: answers.read_released(message, [SCHEMA], LIMIT),
    lambda message: answers.read_result(message, LIMIT),
)


def read(data: bytes) -> object:
    """Reads one answer.

    Args:
        data: A byte that says whose answer it is, then the frame's body.

    Raises:
        WireError, SchemaError, SandboxError: It is dropped.
    """
    return READERS[data[0] % len(READERS)](wire.decode(data[1:]))
