"""The operational log and spans: what an administrator sees, and never a row value.

The operational log is not the usage log. It may be shipped to other machines and read by
people who may not see the data, so it is closed by construction instead of by care:

* **Events are names**, such as ``computation_ended``: a sentence could quote anything.
* **Fields are on a list.** `FIELDS` has names that hold ids, counts, sizes and times. A field
  that isn't on it is dropped and counted in production (``dropped_fields``), and raises
  `LogFieldError` everywhere else, tests included.
* **Values are plain and short.**
* **Exceptions show their type and where they were raised**, not their text, which DuckDB, for
  one, fills with values. The same goes for what libraries log by themselves.

Until `configure_logging` is called, the log is strict and goes to standard error.
"""

import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from opentelemetry import trace

from luoshu.connector.errors import NodeError

FIELDS: Final = frozenset(
    {
        # who and what: ids and names of the space
        "action", "caller", "contract", "decision", "incident", "offer", "participant", "peer",
        "product", "request", "role", "roles", "rule", "serial", "space", "worker",
        # where
        "address", "index", "kind", "location", "method", "module", "path", "phase", "port",
        "service", "state",
        # how it went
        "attempt", "code", "detail", "dropped_fields", "error", "policy_digest", "reason",
        "signal", "status", "version",
        # how much, how long
        "bytes", "count", "duration_ms", "entries", "retry_after_seconds", "size",
    }
)  # fmt: skip
"""The fields a log line or span may have. None of them may be given a value of the data or SQL."""

MAX_TEXT: Final = 300
"""Characters of one value; more are cut off."""

_OWN: Final = frozenset({"event", "level", "timestamp", "trace_id", "logger"})
_EVENT: Final = re.compile(r"[a-z][a-z0-9_]{0,79}")
_TRACER: Final = "luoshu"

Logger = structlog.typing.FilteringBoundLogger
_EventDict = MutableMapping[str, Any]


class LogFieldError(Exception):
    """A log line or span has a field that is not on the list, or an event that is no name."""


class _Gate:
    """The processor that lets nothing through but names, listed fields and plain values."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._lock = threading.Lock()
        self.dropped = 0

    def __call__(self, logger: object, method: str, line: _EventDict) -> _EventDict:
        del logger, method
        event = line.get("event")
        if not isinstance(event, str) or not _EVENT.fullmatch(event):
            if self._strict:
                raise LogFieldError("an event of the operational log must be a name")
            line["event"] = "unnamed_event"
        error = _exception_of(line.pop("exc_info", None))
        line.pop("stack_info", None)
        if error is not None:
            line["error"], line["location"] = describe(error)
        unknown = [key for key in line if key not in FIELDS and key not in _OWN]
        if unknown:
            if self._strict:
                raise LogFieldError(f"not a field of the operational log: {sorted(unknown)}")
            for key in unknown:
                del line[key]
            with self._lock:
                self.dropped += len(unknown)
            line["dropped_fields"] = len(unknown)
        for key, value in line.items():
            line[key] = _plain(value)
        return line


class _LibraryHandler(logging.Handler):
    """Notes that a library had something to say: which, how bad, where; not what."""

    def emit(self, record: logging.LogRecord) -> None:
        line: dict[str, Any] = {
            "module": record.name,
            "location": f"{Path(record.pathname).name}:{record.lineno}",
        }
        error = _exception_of(record.exc_info)
        if error is not None:
            line["error"] = type(error).__qualname__
        level = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(get_logger(), level)("library_message", **line)


class _Sink:
    """Where lines go. A full disk or a closed pipe costs lines, never the work they are about."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost = 0

    def write(self, text: str) -> None:
        try:
            # Standard error is looked up each time: whoever redirects it gets the log.
            (self._stream or sys.stderr).write(text)
        except (OSError, ValueError):
            self.lost += 1

    def flush(self) -> None:
        try:
            (self._stream or sys.stderr).flush()
        except (OSError, ValueError):
            self.lost += 1


@dataclass(slots=True)
class _Installed:
    """What this process's log consists of now."""

    gate: _Gate
    sink: _Sink
    file: TextIO | None = None
    handler: _LibraryHandler | None = None


_installed = _Installed(_Gate(strict=True), _Sink(None))


def configure_logging(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    style: Literal["json", "console"] = "json",
    file: Path | None = None,
    stream: TextIO | None = None,
    strict: bool = False,
) -> None:
    """Sets up the operational log of this process.

    Args:
        level: Least severity that is written.
        style: ``json`` writes one object a line, ``console`` lines for reading.
        file: Appended to; made readable by its owner only.
        stream: Where to write without a file; standard error by default.
        strict: Raise on a field that isn't listed instead of dropping it.

    Raises:
        OSError: If the file can't be opened.
    """
    reset_logging()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        stream = _installed.file = file.open("a", encoding="utf-8", buffering=1)
    colors = (stream or sys.stderr).isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=colors)
    )
    _install(_Gate(strict=strict), renderer, level, stream)
    _installed.handler = _LibraryHandler(logging.WARNING)
    logging.getLogger().addHandler(_installed.handler)


def reset_logging() -> None:
    """Goes back to the strict log on standard error; closes the log file, if there is one."""
    if _installed.handler is not None:
        logging.getLogger().removeHandler(_installed.handler)
        _installed.handler = None
    _install(
        _Gate(strict=True), structlog.processors.JSONRenderer(ensure_ascii=False), "info", None
    )
    if _installed.file is not None:
        with suppress(OSError):  # what a full disk didn't take
            _installed.file.close()
        _installed.file = None


def _install(
    gate: _Gate, renderer: structlog.typing.Processor, level: str, stream: TextIO | None
) -> None:
    _installed.gate = gate
    _installed.sink = sink = _Sink(stream)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            gate,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace_id,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: structlog.WriteLogger(sink),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


def get_logger() -> Logger:
    """Returns a logger: ``get_logger().info("node_started", participant=…, port=…)``."""
    logger: Logger = structlog.get_logger()
    return logger


def dropped_fields() -> int:
    """Returns how many fields were dropped since the log was configured."""
    return _installed.gate.dropped


def lost_lines() -> int:
    """Returns how many lines couldn't be written since the log was configured."""
    return _installed.sink.lost


def describe(error: BaseException) -> tuple[str, str]:
    """Returns an exception's type and where it was raised, without its text.

    A `NodeError`'s type is followed by its reason.
    """
    name = type(error).__qualname__
    if isinstance(error, NodeError):
        name = f"{name} {error.reason}"
    return name, _location(error.__traceback__)


@contextmanager
def span(name: str, **fields: str | int | float | bool) -> Iterator[trace.Span]:
    """Runs a block as an OpenTelemetry span.

    Fields are as in the log and as strict. An exception marks the span as failed, with its
    reason or type; its text is not recorded.

    Args:
        name: Such as ``compute.verify``.
        **fields: Attributes; names of `FIELDS`.

    Raises:
        LogFieldError: If a field isn't listed.
    """
    unknown = sorted(set(fields) - FIELDS)
    if unknown:
        raise LogFieldError(f"not a field of a span: {unknown}")
    attributes = {f"luoshu.{key}": _plain(value) for key, value in fields.items()}
    tracer = trace.get_tracer(_TRACER)
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            text = error.reason if isinstance(error, NodeError) else type(error).__qualname__
            current.set_status(trace.Status(trace.StatusCode.ERROR, text))
            raise


def _exception_of(exc_info: object) -> BaseException | None:
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case None | False | (None, None, None):
            return None
        case _:
            return sys.exc_info()[1]


def _location(traceback: TracebackType | None) -> str:
    if traceback is None:
        return "unknown"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f"{Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_name}"


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(item) for item in value)
    if isinstance(value, Mapping | bytes):
        # A whole document is never a fact for the log.
        return f"({type(value).__name__} of {len(value)})"
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _add_trace_id(logger: object, method: str, line: _EventDict) -> _EventDict:
    del logger, method
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        line["trace_id"] = trace.format_trace_id(context.trace_id)
    return line


reset_logging()
