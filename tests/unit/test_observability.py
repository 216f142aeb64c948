"""The operational log and spans: names, listed fields, plain values, and never a row value."""

import errno
import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from opentelemetry import trace
from opentelemetry.util.types import Attributes

from luoshu.connector.errors import NodeError
from luoshu.connector.observability import (
    MAX_TEXT,
    LogFieldError,
    configure_logging,
    dropped_fields,
    get_logger,
    lost_lines,
    reset_logging,
    span,
)

SECRET = "Zhang San"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    reset_logging()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def write(log: Callable[[], object], **settings: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    configure_logging(stream=stream, **settings)
    log()
    return lines(stream)


def raise_and_log(error: Exception) -> None:
    try:
        raise error
    except type(error):
        get_logger().exception("computation_failed", request="urn:uuid:1")


def test_a_line_is_one_json_object() -> None:
    (line,) = write(lambda: get_logger().info("node_started", port=7400, roles=("holder",)))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "node_started", "level": "info", "port": 7400, "roles": "holder"}


def test_an_unlisted_field_raises_where_strict() -> None:
    with pytest.raises(LogFieldError, match="sql"):
        write(lambda: get_logger().info("query_checked", sql=f"name = '{SECRET}'"), strict=True)


def test_the_log_is_strict_until_it_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger().info("node_started", port=1)
    with pytest.raises(LogFieldError):
        get_logger().info("node_started", patient=SECRET)
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "node_started"
    assert captured.out == ""


def test_an_unlisted_field_is_dropped_and_counted_in_production() -> None:
    def log() -> None:
        get_logger().info("query_checked", sql=f"name = '{SECRET}'", patient=SECRET, count=1)
        get_logger().bind(row=[SECRET]).info("query_checked")

    first, second = write(log)
    assert SECRET not in json.dumps([first, second])
    assert (first["dropped_fields"], second["dropped_fields"]) == (2, 1)
    assert first["count"] == 1
    assert dropped_fields() == 3


@pytest.mark.parametrize(
    "event", [f"patient {SECRET} found", "Node_started", "", "node.started", "x" * 81, SECRET]
)
def test_an_event_is_a_name(event: str) -> None:
    (line,) = write(lambda: get_logger().warning(event))
    assert line["event"] == "unnamed_event"
    with pytest.raises(LogFieldError, match="must be a name"):
        write(lambda: get_logger().warning(event), strict=True)


def test_values_are_plain_and_short() -> None:
    row = {"name": SECRET}
    (line,) = write(
        lambda: get_logger().info("x", detail=row, path=b"Zhang", address="y" * 999, phase=None)
    )
    assert line["detail"] == "(dict of 1)"
    assert line["path"] == "(bytes of 5)"
    assert len(line["address"]) == MAX_TEXT
    assert line["phase"] is None


def test_an_exception_shows_its_type_and_place_only() -> None:
    (line,) = write(lambda: raise_and_log(ValueError(SECRET)))
    assert line["error"] == "ValueError"
    assert line["location"].startswith("test_observability.py:")
    assert line["location"].endswith(" raise_and_log")
    assert SECRET not in json.dumps(line)


def test_a_real_engine_error_that_quotes_a_value_stays_out() -> None:
    def compute() -> None:
        try:
            duckdb.connect().execute(f"SELECT CAST('{SECRET}' AS INTEGER)")
        except duckdb.Error as error:
            assert SECRET in str(error)
            get_logger().error("computation_failed", exc_info=error)

    (line,) = write(compute)
    assert line["error"] == "ConversionException"
    assert SECRET not in json.dumps(line)


def test_a_node_error_shows_its_reason() -> None:
    (line,) = write(lambda: raise_and_log(NodeError("QUERY_FAILED", SECRET)))
    assert line["error"] == "NodeError QUERY_FAILED"
    assert SECRET not in json.dumps(line)


def test_what_a_library_logs_shows_only_where() -> None:
    def log() -> None:
        logger = logging.getLogger("sqlalchemy.engine")
        logger.info("INSERT %s", SECRET)
        logger.warning("INSERT %s", SECRET)
        try:
            raise KeyError(SECRET)
        except KeyError:
            logger.exception(f"could not insert {SECRET}")

    warning, error = write(log)
    assert (warning["module"], warning["level"]) == ("sqlalchemy.engine", "warning")
    assert (error["level"], error["error"]) == ("error", "KeyError")
    assert SECRET not in json.dumps([warning, error])


def test_configuring_again_replaces() -> None:
    write(lambda: None)
    assert len(write(lambda: logging.getLogger("x").error("y"))) == 1


def test_levels_and_styles() -> None:
    def log() -> None:
        get_logger().info("quiet")
        get_logger().warning("loud")

    assert [line["event"] for line in write(log, level="warning")] == ["loud"]
    stream = io.StringIO()
    configure_logging(style="console", stream=stream)
    get_logger().info("node_started", port=1)
    assert "node_started" in stream.getvalue() and "port=1" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_file_is_appended_to_and_private(tmp_path: Path) -> None:
    file = tmp_path / "run" / "node.log"
    for _ in range(2):
        configure_logging(file=file)
        get_logger().info("node_started")
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text().splitlines()) == 2


# ---- spans


class RecordedSpan(trace.NonRecordingSpan):
    def __init__(self, name: str, attributes: Attributes) -> None:
        super().__init__(trace.SpanContext(0xABC, 0xDEF, is_remote=False))
        self.name = name
        self.attributes = dict(attributes or {})
        self.status: trace.Status | None = None
        self.exceptions: list[BaseException] = []

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status

    def record_exception(self, exception: BaseException, *_: Any, **__: Any) -> None:
        self.exceptions.append(exception)


class RecordingTracer(trace.NoOpTracer):
    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # the API's own is a decorator too
        self, name: str, *_: Any, attributes: Attributes = None, **options: Any
    ) -> Iterator[trace.Span]:
        made = RecordedSpan(name, attributes)
        self.spans.append(made)
        with trace.use_span(
            made,
            record_exception=options["record_exception"],
            set_status_on_exception=options["set_status_on_exception"],
        ):
            yield made


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> RecordingTracer:
    recording = RecordingTracer()

    class Provider(trace.NoOpTracerProvider):
        def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
            return recording

    monkeypatch.setattr(trace, "get_tracer_provider", Provider)
    return recording


def test_a_span_has_listed_attributes_and_its_trace_is_in_the_log(
    tracer: RecordingTracer,
) -> None:
    def log() -> None:
        with span("compute.verify", request="urn:uuid:1", count=3):
            get_logger().info("query_checked")
        get_logger().info("query_checked")

    inside, outside = write(log)
    (recorded,) = tracer.spans
    assert recorded.name == "compute.verify"
    assert recorded.attributes == {"luoshu.request": "urn:uuid:1", "luoshu.count": 3}
    assert inside["trace_id"] == f"{0xABC:032x}"
    assert "trace_id" not in outside


def test_a_span_with_another_attribute_is_refused() -> None:
    with pytest.raises(LogFieldError, match="sql"), span("compute.verify", sql=SECRET):
        pass


@pytest.mark.parametrize(
    ("error", "description"),
    [(ValueError(SECRET), "ValueError"), (NodeError("QUERY_FAILED", SECRET), "QUERY_FAILED")],
)
def test_a_failed_span_shows_no_text(
    tracer: RecordingTracer, error: Exception, description: str
) -> None:
    with pytest.raises(type(error)), span("compute.run"):
        raise error
    (recorded,) = tracer.spans
    assert recorded.status is not None
    assert recorded.status.status_code is trace.StatusCode.ERROR
    assert recorded.status.description == description
    assert recorded.exceptions == []


def test_without_an_exporter_spans_cost_nothing_and_work() -> None:
    with span("compute.run") as current:
        assert not current.is_recording()


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_costs_lines_only() -> None:
    """A full disk must not end the thread that had something to say about it."""
    configure_logging(stream=Full())
    get_logger().error("log_unavailable", reason="LOG_UNAVAILABLE")
    get_logger().error("log_unavailable", reason="LOG_UNAVAILABLE")
    assert lost_lines() == 2


@pytest.mark.parametrize("where", ["file", "stream"])
def test_full_disk_is_no_failure_of_whoever_logs(where: str) -> None:
    full = Path("/dev/full")
    with io.TextIOWrapper(io.FileIO(full, "w"), line_buffering=True) as stream:
        configure_logging(**{where: full if where == "file" else stream})  # type: ignore[arg-type]
        for level in ("info", "warning", "error"):
            getattr(get_logger(), level)("node_serves", participant="x")
        logging.getLogger("some.library").warning("anything")
        reset_logging()
