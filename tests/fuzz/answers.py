"""A coverage-guided fuzzer for what reads workers' answers: `make fuzz`.

Each input is one byte that says whose answer it is, then the frame's body as it comes out of the
pipe. Anything but the errors that mean "dropped" is a find; libFuzzer writes the input down.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["luoshu"]):
    from luoshu.sandbox import answers, wire
    from luoshu.sandbox.errors import SandboxError
    from luoshu.sandbox.schema import CellSchema, SchemaError

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
            }
        ],
        "prefix": None,
        "key_columns": [f"p.p.k{number}" for number in range(7)],
    }
)
READERS = (
    lambda message: answers.read_verified(message, {}),
    lambda message: answers.read_cells(message, [SCHEMA], LIMIT),
    lambda message: answers.read_released(message, [SCHEMA], LIMIT),
    lambda message: answers.read_result(message, LIMIT),
)


def read(data: bytes) -> None:
    """Reads one answer; returns if it is dropped, or well-formed."""
    if not data:
        return
    try:
        READERS[data[0] % len(READERS)](wire.decode(data[1:]))
    except (wire.WireError, SchemaError, SandboxError):
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
