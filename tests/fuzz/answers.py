"""A coverage-guided fuzzer for what reads workers' answers: `make fuzz`.

Each input is one byte that says whose answer it is, then the frame's body as it comes out of the
pipe. Anything but the errors that mean "dropped" is a find; libFuzzer writes the input down.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["luoshu"]):
    from answer_readers import read

    from luoshu.sandbox.errors import SandboxError
    from luoshu.sandbox.schema import SchemaError
    from luoshu.sandbox.wire import WireError


def try_one(data: bytes) -> None:
    """Reads one answer; returns if it is dropped, or well-formed."""
    if not data:
        return
    try:
        read(data)
    except (WireError, SchemaError, SandboxError):
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
