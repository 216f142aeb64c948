"""Verifies a whole log: signature, every tile, every entry, every body of the journal.

The checkpoint's root decides what is right. The tree is computed twice, from the entry bundles
and from the lowest hash tiles; whichever leads to the signed root is the *truth*, and whatever
differs from it is named: file, entry index, byte offset. Where neither does, both are named.

A report holds only as far as its keys: keys that were found in the verified directory itself show
that it is consistent, not whose it is. The report says where they came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from luoshu.contracts.envelope import Envelope
from luoshu.contracts.errors import ContractsError
from luoshu.contracts.log.checkpoint import Checkpoint, open_checkpoint, unverified_checkpoint
from luoshu.contracts.log.errors import LogError, LogFormatError
from luoshu.contracts.log.journal_line import JOURNAL_NAME, decode_line
from luoshu.contracts.log.merkle import HASH_SIZE, CompactTree, hash_leaf, root_of
from luoshu.contracts.log.note import MAX_NOTE_BYTES, NoteVerifier
from luoshu.contracts.log.reader import (
    DirectoryReader,
    LogFileMissingError,
    LogReader,
    UrlReader,
)
from luoshu.contracts.log.report import LogKeys, LogProblem, LogReport
from luoshu.contracts.log.tiles import (
    ENTRIES,
    MAX_BUNDLE_BYTES,
    MAX_TILE_BYTES,
    TILE_WIDTH,
    Tile,
    decode_hashes,
    iterate_bundle,
    tiles_of_level,
)
from luoshu.contracts.membership.space import SpaceTrust

__all__ = [
    "LogKeys",
    "LogProblem",
    "LogReport",
    "verify_log",
    "verify_log_directory",
    "verify_log_url",
]

CHECKPOINT = "checkpoint"
MAX_ENTRIES = 100_000_000
"""A larger log is not verified: a liar's checkpoint could keep a verifier busy for ever."""


def verify_log_directory(path: Path, keys: LogKeys | None = None) -> LogReport:
    """Verifies a log directory, or a node directory with its log in ``log/``.

    Args:
        path: The directory.
        keys: The log's keys; by default those of the membership credential in ``credentials/`` of
            the node directory.
    """
    directory = path / "log" if (path / "log").is_dir() else path
    report_on_keys: list[LogProblem] = []
    if keys is None:
        keys = _keys_beside(directory.parent / "credentials", report_on_keys)
    report = verify_log(DirectoryReader(directory), keys)
    report.problems[:0] = report_on_keys
    return report


def verify_log_url(url: str, keys: LogKeys | None) -> LogReport:
    """Verifies a published log on a web server; what its entries say isn't published.

    Raises:
        LogFormatError: The address isn't ``http`` or ``https``.
    """
    return verify_log(UrlReader(url), keys)


def verify_log(reader: LogReader, keys: LogKeys | None) -> LogReport:
    """Verifies a log.

    Args:
        reader: Where it is.
        keys: The log's keys. Without them everything else is checked and the report says that the
            signature is not, which is a problem.
    """
    report = LogReport(reader.location, key_source=keys.source if keys else None)
    checkpoint = _read_checkpoint(reader, keys, report)
    if checkpoint is None:
        return report
    trees = _Trees(reader, checkpoint, report)
    truth = trees.verify()
    _verify_journal(reader, checkpoint, truth, report)
    return report


def _keys_beside(credentials: Path, problems: list[LogProblem]) -> LogKeys | None:
    trust, member = credentials / "space.json", credentials / "membership.json"
    if not trust.is_file() or not member.is_file():
        return None
    try:
        return LogKeys.of_credential(
            SpaceTrust.from_bytes(trust.read_bytes()),
            Envelope.from_bytes(member.read_bytes()),
            f"the membership credential in {credentials}, by the space in space.json beside it",
        )
    except (ContractsError, OSError) as error:
        message = error.message if isinstance(error, ContractsError) else type(error).__name__
        problems.append(LogProblem("credentials/membership.json", message))
        return None


def _read_checkpoint(
    reader: LogReader, keys: LogKeys | None, report: LogReport
) -> Checkpoint | None:
    try:
        note = reader.read(CHECKPOINT, MAX_NOTE_BYTES).decode()
        checkpoint = unverified_checkpoint(note)
    except UnicodeDecodeError as error:
        report.add(LogProblem(CHECKPOINT, "it is not text", offset=error.start))
        return None
    except LogError as error:
        report.add(LogProblem(CHECKPOINT, error.message, offset=_offset(error)))
        return None
    report.origin, report.size = checkpoint.origin, checkpoint.size
    report.root = checkpoint.root.hex()
    if keys is None:
        message = (
            "its signature is not checked, for lack of a key: "
            "give the log's verifier key or its membership credential"
        )
        report.add(LogProblem(CHECKPOINT, message))
    else:
        try:
            verifiers = [NoteVerifier(keys.origin, key) for key in keys.keys]
            open_checkpoint(note, verifiers, keys.origin)
            report.count("signatures")
        except LogError as error:
            report.add(LogProblem(CHECKPOINT, error.message))
    if checkpoint.size > MAX_ENTRIES:
        report.add(LogProblem(CHECKPOINT, f"more than {MAX_ENTRIES} entries are not verified"))
        return None
    return checkpoint


def _offset(error: LogError) -> int | None:
    return error.offset if isinstance(error, LogFormatError) else None


class _Hashes:
    """A tree computed leaf by leaf: all leaf hashes, and the tiles above as they fill."""

    def __init__(self) -> None:
        self.leaves = bytearray()
        self.tree = CompactTree()
        self.complete = True

    def add(self, leaf_hash: bytes | None) -> None:
        """Adds a leaf; None for one that can't be read, which spoils the tree."""
        self.complete = self.complete and leaf_hash is not None
        leaf_hash = leaf_hash if leaf_hash is not None else bytes(HASH_SIZE)
        self.leaves += leaf_hash
        self.tree.append(leaf_hash)

    def leaf(self, index: int) -> bytes:
        """Returns a leaf hash."""
        return bytes(self.leaves[index * HASH_SIZE : (index + 1) * HASH_SIZE])

    def leads_to(self, checkpoint: Checkpoint) -> bool:
        """Whether these are the checkpoint's leaves."""
        return self.complete and self.tree.root() == checkpoint.root


class _Trees:
    """The published tree, computed from its bundles and from its lowest tiles."""

    def __init__(self, reader: LogReader, checkpoint: Checkpoint, report: LogReport) -> None:
        self._reader = reader
        self._checkpoint = checkpoint
        self._report = report
        self._bundles = _Hashes()
        self._tiles = _Hashes()
        # Byte offset of each differing entry in its bundle.
        self._differing: dict[int, int] = {}

    def verify(self) -> _Hashes | None:
        """Checks bundles and tiles and returns the leaves that are right, if any are."""
        size = self._checkpoint.size
        for bundle in tiles_of_level(ENTRIES, size):
            self._read_pair(bundle)
        from_bundles = self._bundles.leads_to(self._checkpoint)
        from_tiles = self._tiles.leads_to(self._checkpoint)
        if from_bundles:
            self._blame_tiles()
        elif from_tiles:
            self._blame_bundles()
        else:
            self._blame_both()
        truth = self._bundles if from_bundles else self._tiles if from_tiles else None
        self._verify_upper(truth or self._tiles, certain=truth is not None)
        if truth is not None:
            self._report.count("entries", size)
        return truth

    def _read_pair(self, bundle: Tile) -> None:
        hashes = self._read_tile(Tile(0, bundle.index, bundle.width))
        entries = self._read_bundle(bundle, hashes)
        for i in range(bundle.width):
            from_bundle = hash_leaf(entries[i][1]) if entries else None
            from_tile = hashes[i] if hashes else None
            self._bundles.add(from_bundle)
            self._tiles.add(from_tile)
            if entries and hashes and from_bundle != from_tile:
                self._differing.setdefault(bundle.first + i, entries[i][0])

    def _read(self, tile: Tile, max_bytes: int) -> tuple[Tile, bytes]:
        """Reads a tile; a partial one that is gone from the full one that took its place."""
        try:
            return tile, self._reader.read(tile.path, max_bytes)
        except LogFileMissingError:
            full = Tile(tile.level, tile.index)
            if full == tile:
                raise
            with suppress(LogFileMissingError):
                return full, self._reader.read(full.path, max_bytes)
            raise

    def _read_tile(self, tile: Tile) -> Sequence[bytes]:
        try:
            found, data = self._read(tile, MAX_TILE_BYTES)
            hashes = decode_hashes(data, found.width)
        except LogError as error:
            self._report.add(LogProblem(tile.path, error.message, tile.first, _offset(error)))
            return ()
        self._report.count("tiles")
        return hashes[: tile.width]

    def _read_bundle(self, bundle: Tile, hashes: Sequence[bytes]) -> Sequence[tuple[int, bytes]]:
        entries: list[tuple[int, bytes]] = []
        try:
            found, data = self._read(bundle, MAX_BUNDLE_BYTES)
            for each in iterate_bundle(data, found.width):
                entries.append(each)
        except LogError as error:
            index, offset = bundle.first + len(entries), _offset(error)
            # A wrong length shows only later, so the first entry that isn't the tile's is named.
            for i, (expected, (start, entry)) in enumerate(zip(hashes, entries, strict=False)):
                if hash_leaf(entry) != expected:
                    index, offset = bundle.first + i, start
                    break
            self._report.add(LogProblem(bundle.path, error.message, index, offset))
            return ()
        self._report.count("bundles")
        return entries[: bundle.width]

    def _blame_tiles(self) -> None:
        for index in self._differing:
            tile, offset = self._tile_of(index)
            self._report.add(LogProblem(tile, "not the entry's leaf hash", index, offset))

    def _blame_bundles(self) -> None:
        for index, offset in self._differing.items():
            message = "not the entry that the tree holds"
            self._report.add(LogProblem(self._bundle_of(index), message, index, offset))

    def _blame_both(self) -> None:
        for index, offset in self._differing.items():
            tile, tile_offset = self._tile_of(index)
            message = f"differs from {tile} at byte {tile_offset}, and neither leads to the root"
            self._report.add(LogProblem(self._bundle_of(index), message, index, offset))
        if self._bundles.complete or self._tiles.complete:
            message = "its root is not that of the published entries"
            self._report.add(LogProblem(CHECKPOINT, message))

    def _tile_of(self, index: int) -> tuple[str, int]:
        path = self._path(0, index // TILE_WIDTH)
        return path, index % TILE_WIDTH * HASH_SIZE

    def _bundle_of(self, index: int) -> str:
        return self._path(ENTRIES, index // TILE_WIDTH)

    def _path(self, level: int, index: int) -> str:
        width = min(TILE_WIDTH, self._checkpoint.size - index * TILE_WIDTH)
        return Tile(level, index, width).path

    def _verify_upper(self, leaves: _Hashes, *, certain: bool) -> None:
        """Compares every tile above the lowest with what is computed from the leaves."""
        below = leaves.leaves
        level = 1
        while len(below) // HASH_SIZE >= TILE_WIDTH:
            above = bytearray()
            for start in range(0, len(below) - MAX_TILE_BYTES + 1, MAX_TILE_BYTES):
                part = bytes(below[start : start + MAX_TILE_BYTES])
                above += root_of(decode_hashes(part, TILE_WIDTH))
            for tile in tiles_of_level(level, self._checkpoint.size):
                start = tile.index * MAX_TILE_BYTES
                self._compare(tile, bytes(above[start : start + tile.width * HASH_SIZE]), certain)
            below, level = above, level + 1

    def _compare(self, tile: Tile, expected: bytes, certain: bool) -> None:
        for i, found in enumerate(self._read_tile(tile)):
            offset = i * HASH_SIZE
            if found != expected[offset : offset + HASH_SIZE]:
                index = tile.first + i * TILE_WIDTH**tile.level
                message = "not the hash of what is below it"
                if not certain:
                    message += ", which doesn't lead to the root either"
                self._report.add(LogProblem(tile.path, message, index, offset))


def _verify_journal(
    reader: LogReader, checkpoint: Checkpoint, truth: _Hashes | None, report: LogReport
) -> None:
    lines = reader.journal()
    if lines is None:
        report.notes.append("no journal here: what the entries say was not checked")
        return
    if truth is None:
        report.notes.append(
            "the published tree doesn't lead to the checkpoint's root, "
            "so the journal was compared with the root alone"
        )
    size, offset = _compare_journal(lines, checkpoint, truth, report)
    if size < checkpoint.size and not any(p.file == JOURNAL_NAME for p in report.problems):
        message = f"it ends here; the checkpoint covers {checkpoint.size} entries"
        report.add(LogProblem(JOURNAL_NAME, message, size, offset))
    if size > checkpoint.size:
        report.notes.append(
            f"the journal has {size - checkpoint.size} entries after the checkpoint: "
            "well-formed, but no signature covers them yet"
        )


def _compare_journal(
    lines: Iterator[bytes], checkpoint: Checkpoint, truth: _Hashes | None, report: LogReport
) -> tuple[int, int]:
    """Compares the journal's entries; returns how many it has and where they end, in bytes."""
    tree, size, offset = CompactTree(), 0, 0
    for line in lines:
        if not line.endswith(b"\n") and size >= checkpoint.size:
            report.notes.append(
                f"the journal's last line, byte {offset}, is not complete: "
                "a commit that is being written, or was never acknowledged"
            )
            break
        try:
            entries = decode_line(line)
        except ContractsError as error:
            report.add(LogProblem(JOURNAL_NAME, error.message, size, offset))
            return size, offset
        found = entries[0].entry.index
        if found != size:
            message = f"the line begins with entry {found}: lines were dropped, swapped or added"
            report.add(LogProblem(JOURNAL_NAME, message, size, offset))
            return size, offset
        for each in entries:
            leaf_hash = hash_leaf(each.leaf)
            if size < checkpoint.size:
                tree.append(leaf_hash)
                report.count("bodies")
                if truth is not None and leaf_hash != truth.leaf(size):
                    message = "body and salt are not those that the tree's leaf commits to"
                    report.add(LogProblem(JOURNAL_NAME, message, size, offset))
            size += 1
        offset += len(line)
    if truth is None and tree.size == checkpoint.size:
        if tree.root() != checkpoint.root:
            message = "its entries don't lead to the checkpoint's root"
            report.add(LogProblem(JOURNAL_NAME, message, offset=0))
        else:
            report.notes.append(
                "the journal does lead to the checkpoint's root: "
                "the node writes the published files again when it starts"
            )
    return size, offset
