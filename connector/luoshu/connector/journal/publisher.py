"""Publishes the tree as static files: tiles, entry bundles, checkpoint (C2SP tlog-tiles).

A background thread writes them after the commit, so a commit never waits for them, and several
commits share one publication. Every file is put in place at once, the checkpoint last: whoever
reads a checkpoint finds its tiles. All of it is derived from the journal; what is missing or
different when the node starts is written again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from luoshu.connector.errors import NodeError
from luoshu.connector.journal.files import Files, write_fully
from luoshu.connector.journal.tree import LogTree
from luoshu.contracts.log.errors import LogFormatError
from luoshu.contracts.log.merkle import hash_leaf
from luoshu.contracts.log.tiles import (
    ENTRIES,
    TILE_WIDTH,
    Tile,
    decode_bundle,
    decode_hashes,
    tiles_of,
)

CHECKPOINT_NAME = "checkpoint"
RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class Publisher:
    """Keeps the published files of one log up to its newest checkpoint.

    Args:
        directory: Where to publish; made if missing. Nothing secret lies there.
        tree: The tree over them.
        files: The port to the disk.
        interval: Seconds from a commit to its publication.
    """

    def __init__(self, directory: Path, tree: LogTree, files: Files, interval: float) -> None:
        self._directory = directory
        self._tree = tree
        self._files = files
        self._interval = interval
        self._changed = threading.Condition()
        self._wanted: tuple[int, str] | None = None
        self._stopping = threading.Event()
        self._published = -1
        self._checked = False
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="log-publisher", daemon=True)

    @property
    def published_size(self) -> int:
        """Size of the published tree; -1 before the first publication."""
        return self._published

    @property
    def failure(self) -> str:
        """Why the last attempt failed; empty if it didn't."""
        return self._failure

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def request(self, size: int, note: str) -> None:
        """Asks for a checkpoint to be published; returns at once."""
        with self._changed:
            self._wanted = (size, note)
            self._changed.notify_all()

    def wait(self, size: int, timeout: float) -> bool:
        """Waits until a tree of ``size`` entries is published.

        Returns:
            Whether it is, within ``timeout`` seconds.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._published >= size, timeout)

    def stop(self) -> None:
        """Publishes what was asked for, once more if it fails, and ends the thread."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def publish(self, size: int, note: str) -> None:
        """Publishes a checkpoint and its tiles now.

        Raises:
            OSError: The disk failed; nothing that was published before is harmed.
            NodeError: ``LOG_CORRUPT``: the journal was changed under the running node.
        """
        since = self._published if self._checked else 0
        tiles = list(tiles_of(size, since=max(since, 0)))
        changed: set[Path] = set()
        for tile in tiles:
            if self._checked or not self._is_right(tile):
                self._write(self._directory / tile.path, self._expected(tile), changed)
        self._fsync_directories(changed)
        target = self._directory / CHECKPOINT_NAME
        if not target.exists() or target.read_bytes() != note.encode():
            changed = set()
            self._write(target, note.encode(), changed)
            self._fsync_directories(changed)
        for tile in tiles:
            self._remove_partials(tile)
        self._checked = True
        with self._changed:
            self._published = size
            self._changed.notify_all()

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._stopping.is_set())
            # Before, not after: the commits of a burst share one publication and don't compete
            # with it for the disk. The first one, at the start, needs not wait.
            self._stopping.wait(pause)
            with self._changed:
                wanted, self._wanted = self._wanted, None
            if wanted is None:
                return
            try:
                self.publish(*wanted)
                self._failure = ""
                pause = self._interval
            except (OSError, NodeError) as error:
                self._failure = type(error).__name__
                _log.warning("log_not_published", size=wanted[0], error=type(error).__name__)
                if self._stopping.is_set():
                    return
                with self._changed:
                    self._wanted = self._wanted or wanted
                pause = RETRY_SECONDS

    def _is_right(self, tile: Tile) -> bool:
        """Whether the published file is what the journal says, without reading the journal."""
        try:
            data = (self._directory / tile.path).read_bytes()
        except FileNotFoundError:
            return False
        hashes = self._tree.tile(Tile(max(tile.level, 0), tile.index, tile.width))
        if tile.level != ENTRIES:
            return data == hashes
        try:
            leaves = [hash_leaf(entry) for _, entry in decode_bundle(data, tile.width)]
        except LogFormatError:
            return False
        return leaves == decode_hashes(hashes, tile.width)

    def _expected(self, tile: Tile) -> bytes:
        return self._tree.bundle(tile) if tile.level == ENTRIES else self._tree.tile(tile)

    def _write(self, path: Path, data: bytes, changed: set[Path]) -> None:
        self._make_directories(path.parent, changed)
        temporary = path.with_name(path.name + ".tmp")
        descriptor = self._files.open(temporary)
        try:
            self._files.truncate(descriptor, 0)
            write_fully(self._files, descriptor, data, 0)
            self._files.fsync(descriptor)
        finally:
            self._files.close(descriptor)
        self._files.rename(temporary, path)
        changed.add(path.parent)

    def _make_directories(self, directory: Path, changed: set[Path]) -> None:
        if directory.is_dir():
            return
        self._make_directories(directory.parent, changed)
        self._files.make_directory(directory)
        changed.add(directory.parent)

    def _fsync_directories(self, directories: Iterable[Path]) -> None:
        for directory in sorted(directories):
            self._files.fsync_directory(directory)

    def _remove_partials(self, tile: Tile) -> None:
        """Removes the partial tiles that a full one took the place of; readers fall back to it."""
        directory = (self._directory / tile.path).with_name(f"{tile.index % 1000:03d}.p")
        if tile.width == TILE_WIDTH and directory.is_dir():
            for path in directory.iterdir():
                self._files.unlink(path)
            self._files.remove_directory(directory)


def tile_reader(directory: Path) -> Callable[[Tile], bytes | None]:
    """Returns a function that reads a published tile, or gives None where there is none."""

    def read(tile: Tile) -> bytes | None:
        try:
            return (directory / tile.path).read_bytes()
        except FileNotFoundError:
            return None

    return read
