"""Where a verifier reads a log from: the one place of the ground floor that reads anything.

Two adapters: a directory, and a web server's copy over HTTP. Both bound what they read; neither
follows a redirect.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from luoshu.contracts.log.errors import LogError, LogFormatError
from luoshu.contracts.log.journal_line import JOURNAL_NAME, MAX_LINE_BYTES

PUBLISHED_NAME = "public"
"""Directory of what a node publishes of its log, beside the journal: safe to serve as it is."""

TIMEOUT_SECONDS = 20.0


class LogFileMissingError(LogError):
    """A file of the log isn't there or can't be read."""


class LogReader(Protocol):
    """Reads a log's published files, and its journal where that is at hand."""

    @property
    def location(self) -> str:
        """Where the log is, for people."""

    def read(self, path: str, max_bytes: int) -> bytes:
        """Reads a whole file.

        Args:
            path: Under the log's prefix, such as ``tile/0/000``.
            max_bytes: More than this is refused.

        Raises:
            LogFileMissingError: It isn't there or can't be read.
            LogFormatError: It is larger.
        """

    def journal(self) -> Iterator[bytes] | None:
        """Reads the journal's lines, the last one maybe without newline; None if there is none."""


class DirectoryReader:
    """A log in a directory: a node's, with journal and published part, or a published one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        published = directory / PUBLISHED_NAME
        self._published = published if published.is_dir() else directory

    @property
    def location(self) -> str:
        """See `LogReader.location`."""
        return str(self._directory)

    def read(self, path: str, max_bytes: int) -> bytes:
        """See `LogReader.read`."""
        try:
            with (self._published / path).open("rb") as file:
                data = file.read(max_bytes + 1)
        except OSError as error:
            raise LogFileMissingError(f"{path}: {error.strerror}") from error
        return _demand_size(data, path, max_bytes)

    def journal(self) -> Iterator[bytes] | None:
        """See `LogReader.journal`."""
        path = self._directory / JOURNAL_NAME
        return _lines(path) if path.is_file() else None


class UrlReader:
    """A published log on a web server; it never has the journal.

    Args:
        url: The log's prefix, ``http`` or ``https``.
        timeout: Seconds that the server may stay silent.

    Raises:
        LogFormatError: Another scheme, or no host.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT_SECONDS) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
            raise LogFormatError("a log's address is http:// or https:// with a host")
        self._prefix = url.rstrip("/")
        self._timeout = timeout
        # Built by hand: the default opener also knows ftp, file and data, and follows redirects.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
        ):
            self._opener.add_handler(handler)

    @property
    def location(self) -> str:
        """See `LogReader.location`."""
        return self._prefix

    def read(self, path: str, max_bytes: int) -> bytes:
        """See `LogReader.read`."""
        try:
            with self._opener.open(f"{self._prefix}/{path}", timeout=self._timeout) as response:
                data = bytes(response.read(max_bytes + 1))
        except urllib.error.HTTPError as error:
            with error:
                raise LogFileMissingError(f"{path}: HTTP {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise LogFileMissingError(f"{path}: {type(error).__name__}") from error
        return _demand_size(data, path, max_bytes)

    def journal(self) -> Iterator[bytes] | None:
        """See `LogReader.journal`."""
        return None


def _demand_size(data: bytes, path: str, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise LogFormatError(f"{path} has more than {max_bytes} bytes", max_bytes)
    return data


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        # A longer line comes in two pieces, neither of which is one.
        while line := file.readline(MAX_LINE_BYTES + 1):
            yield line
