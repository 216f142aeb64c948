"""What can go wrong in a sandbox, by who may hear about it.

Every error carries a `code` (UPPER_SNAKE, stable) and a `message` that an
analyst may read. Only `ProductFileError` and `PreparationError` are for the
holder alone; their messages may name columns and counts, never a value.
"""

from __future__ import annotations

FAILURE_TEXT = (
    "The query failed while it ran. Simplify it or narrow its filters; the data holder can look "
    "up the cause."
)
"""The one text for every run-time failure: the cause could tell about the data."""

RELEASE_NOTE = "Results cover released groups only."
"""Said with every released result, whether or not anything was withheld."""


def legible(text: str, most: int) -> str:
    """What a process behind the wall said, fit for a terminal: it may move or hide nothing there.

    Args:
        text: Of which lines remain.
        most: Characters that are kept.
    """
    kept = (char if char.isprintable() or char == "\n" else " " for char in text[:most])
    return "".join(kept)


class SandboxError(Exception):
    """Base of all errors raised here.

    Attributes:
        code: Stable, UPPER_SNAKE.
        message: Says what happened and what to do next; safe for its audience.
    """

    code = "SANDBOX_ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ProductFileError(SandboxError):
    """A product file that can't be read or doesn't say what it must. For the holder."""

    code = "PRODUCT_FILE_INVALID"


class PreparationError(SandboxError):
    """Data that can't be prepared as the product file says. For the holder."""

    code = "PREPARATION_FAILED"


class QueryError(SandboxError):
    """SQL that doesn't parse, or names what doesn't exist. Never depends on data."""

    code = "QUERY_INVALID"


class GuardRefusalError(SandboxError):
    """SQL that the guard refuses. Never depends on data.

    Attributes:
        code: One of `luoshu.sandbox.guard.refusals.Refusal`, `GUARD_…`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SandboxFailureError(SandboxError):
    """A computation failed while it ran: one code and one text, whatever the cause.

    Attributes:
        detail: For the holder's operational log only: what ended the worker.
    """

    code = "QUERY_FAILED"

    def __init__(self, detail: str) -> None:
        super().__init__(FAILURE_TEXT)
        self.detail = detail


class SandboxUnavailableError(SandboxError):
    """This machine can't isolate a worker, so nothing is computed.

    Attributes:
        detail: For the holder's operational log only: what the worker said.
    """

    code = "SANDBOX_UNAVAILABLE"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail
