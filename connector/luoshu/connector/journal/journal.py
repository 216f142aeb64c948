"""The append-only journal file: one line a commit, and the rules for opening it again.

* A commit is acknowledged only after its line is written and fsynced.
* A failed write is cut off again. After a failed fsync nobody knows what the disk holds, so the
  journal is *poisoned*: it takes nothing more until it is opened, and so read, anew.
* On opening every line is read and verified. A torn tail is cut off if it lies beyond everything
  that was ever acknowledged: a line without its newline, or one with zero bytes where a crash left
  pages unwritten, and what follows it. Anything else that is wrong is ``LOG_CORRUPT``, with entry
  index and byte offset.
* A lock file admits one process.
"""

from __future__ import annotations

import errno
import fcntl
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from luoshu.connector.errors import NodeError
from luoshu.connector.journal.files import Files, OsFiles, write_fully
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.log.journal_line import (
    JOURNAL_NAME,
    MAX_LINE_BYTES,
    JournalEntry,
    decode_line,
    encode_line,
)

LOCK_NAME = "lock"

_CHUNK = 1 << 20


def corrupt(what: str, index: int, offset: int) -> NodeError:
    """Makes the error for a log that doesn't verify.

    Args:
        what: What is wrong, without any value.
        index: The first entry concerned.
        offset: Where in the journal, in bytes.
    """
    return NodeError(
        "LOG_CORRUPT",
        f"The usage log doesn't verify: {what} (entry {index}, journal byte {offset}).",
        metadata={"entry": str(index), "offset": str(offset)},
    )


@dataclass(frozen=True, slots=True)
class Commit:
    """What one command adds to the journal.

    Attributes:
        first: Index of its first entry.
        count: Number of entries.
        line: Its line, with the newline.
    """

    first: int
    count: int
    line: bytes

    @classmethod
    def of(cls, entries: Sequence[JournalEntry]) -> Commit:
        """Writes the line of a command's entries.

        Raises:
            LogFormatError: No entries, a gap between them, or more than 16 MiB.
        """
        return cls(entries[0].entry.index, len(entries), encode_line(entries))


class Journal:
    """One node's journal, open and locked. Appending is for one thread; reading for any."""

    def __init__(self, directory: Path, files: Files, lock: int) -> None:
        self.directory = directory
        self.path = directory / JOURNAL_NAME
        self._files = files
        self._lock = lock
        self._descriptor = -1
        self._end = 0
        self._size = 0
        # First entry and byte offset of every line.
        self._line_first = array("Q")
        self._line_offset = array("Q")
        self._poisoned = ""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        acknowledged: int = 0,
        visit: Callable[[JournalEntry, int], None] = lambda _entry, _offset: None,
        files: Files | None = None,
    ) -> Journal:
        """Opens or creates the journal of a log directory.

        Args:
            directory: The log directory; its parent exists.
            acknowledged: Entries that must be here: what the published checkpoint and the
                database say.
            visit: Called for each entry in order, with the byte offset of its line.
            files: The port to the disk.

        Raises:
            NodeError: ``LOG_CORRUPT``; ``LOG_UNAVAILABLE`` when another process has it open or
                the disk fails.
        """
        files = files if files is not None else OsFiles()
        try:
            files.make_directory(directory)
            lock = _take_lock(directory)
        except OSError as error:
            raise _unavailable("opened", error) from error
        journal = cls(directory, files, lock)
        try:
            journal._load(acknowledged, visit)
        except OSError as error:
            journal.close()
            raise _unavailable("opened", error) from error
        except BaseException:
            journal.close()
            raise
        return journal

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._size

    @property
    def end(self) -> int:
        """Length of the acknowledged part, in bytes."""
        return self._end

    @property
    def poisoned(self) -> str:
        """Why nothing more can be appended; empty if it can."""
        return self._poisoned

    def append(self, commits: Sequence[Commit]) -> None:
        """Makes commits durable: one line each, one fsync for all.

        Raises:
            NodeError: ``LOG_UNAVAILABLE``: nothing was appended.
            ValueError: The entries don't follow the last one: a programming error.
        """
        if self._poisoned:
            raise NodeError("LOG_UNAVAILABLE", private=f"poisoned: {self._poisoned}")
        expected = self._size
        for commit in commits:
            if commit.first != expected:
                raise ValueError("entries must follow the last one")
            expected += commit.count
        try:
            data = b"".join(commit.line for commit in commits)
            write_fully(self._files, self._descriptor, data, self._end)
        except OSError as error:
            self._cut_back(error)
            raise _unavailable("written", error) from error
        try:
            self._files.fsync(self._descriptor)
        except OSError as error:
            # The kernel may have dropped the pages and forgotten the error: what is on the disk
            # is unknown, and a second fsync that succeeds would prove nothing.
            self._poisoned = f"fsync failed: {errno.errorcode.get(error.errno or 0, '?')}"
            with suppress(OSError):
                self._files.truncate(self._descriptor, self._end)
            raise _unavailable("made durable", error) from error
        for commit in commits:
            self._line_first.append(commit.first)
            self._line_offset.append(self._end)
            self._end += len(commit.line)
            self._size += commit.count

    def line_of(self, index: int) -> tuple[int, int, int]:
        """Returns first entry, byte offset and end of the line that holds an entry.

        Raises:
            IndexError: There is no such entry.
        """
        if not 0 <= index < self._size:
            raise IndexError(index)
        # Read before looking for a following line: another thread may be appending one.
        end = self._end
        at = bisect_right(self._line_first, index) - 1
        if at + 1 < len(self._line_offset):
            end = self._line_offset[at + 1]
        return self._line_first[at], self._line_offset[at], end

    def read(self, first: int, count: int) -> Iterator[JournalEntry]:
        """Reads entries from the file, verified again.

        Args:
            first: Index of the first entry.
            count: How many; fewer come if the journal ends.

        Raises:
            NodeError: ``LOG_CORRUPT``: the file was changed under the running node.
        """
        index, stop = first, min(first + count, self._size)
        while index < stop:
            line_first, offset, end = self.line_of(index)
            entries = self._decode(self._read_bytes(offset, end - offset), line_first, offset)
            yield from entries[index - line_first : stop - line_first]
            index = line_first + len(entries)

    def close(self) -> None:
        """Closes the file and gives up the lock."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1
        self._poisoned = self._poisoned or "closed"

    def _load(self, acknowledged: int, visit: Callable[[JournalEntry, int], None]) -> None:
        created = not self.path.exists()
        self._descriptor = self._files.open(self.path)
        if created:
            # The name must be as durable as what will be written under it.
            self._files.fsync_directory(self.directory)
            self._files.fsync_directory(self.directory.parent)
        for line in self._lines():
            if self._size >= acknowledged and (b"\0" in line or not line.endswith(b"\n")):
                break
            entries = self._decode(line, self._size, self._end)
            for each in entries:
                visit(each, self._end)
            self._line_first.append(self._size)
            self._line_offset.append(self._end)
            self._end += len(line)
            self._size += len(entries)
        if self._size < acknowledged:
            raise corrupt(
                f"{acknowledged} entries were acknowledged, the journal ends before",
                self._size,
                self._end,
            )
        if os.fstat(self._descriptor).st_size > self._end:
            self._files.truncate(self._descriptor, self._end)
        # What was read may be in memory only: written before a crash, or before an fsync that
        # failed. From here on it counts, so it must be on the disk.
        self._files.fsync(self._descriptor)

    def _lines(self) -> Iterator[bytes]:
        pending, position = b"", 0
        while chunk := self._files.read(self._descriptor, _CHUNK, position):
            position += len(chunk)
            head, *rest = chunk.split(b"\n")
            pending += head
            for part in rest:
                yield pending + b"\n"
                pending = part
            if len(pending) > MAX_LINE_BYTES:
                raise corrupt("a line is too long", self._size, self._end)
        if pending:
            yield pending

    def _decode(self, line: bytes, first: int, offset: int) -> list[JournalEntry]:
        try:
            entries = decode_line(line)
        except ContractsError as error:
            raise corrupt(error.message, first, offset) from error
        if entries[0].entry.index != first:
            raise corrupt("a line is not where it belongs", first, offset)
        return entries

    def _read_bytes(self, offset: int, length: int) -> bytes:
        parts = []
        while length:
            part = self._files.read(self._descriptor, length, offset)
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def _cut_back(self, cause: OSError) -> None:
        try:
            self._files.truncate(self._descriptor, self._end)
        except OSError:
            self._poisoned = f"write failed: {errno.errorcode.get(cause.errno or 0, '?')}"


def _take_lock(directory: Path) -> int:
    lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise NodeError(
            "LOG_UNAVAILABLE",
            f"Another process has the log {directory.name} of node {directory.parent.name} open. "
            "Stop that node first.",
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _unavailable(verb: str, error: OSError) -> NodeError:
    name = errno.errorcode.get(error.errno or 0, "?")
    reason = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else name
    return NodeError(
        "LOG_UNAVAILABLE",
        f"The usage log can't be {verb} ({reason}), so nothing was done.",
        private=str(error),
    )
