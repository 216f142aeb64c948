"""Tiles of a log: paths, coordinates and file formats of C2SP tlog-tiles.

A hash tile at level L holds up to 256 consecutive hashes of tree level 8·L; an entry bundle holds
the same 256 entries, each with a big-endian 16-bit length before it. Full tiles never change;
the last tile of a level is partial and its width is part of its name.
Source: https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luoshu.contracts.log.errors import LogFormatError
from luoshu.contracts.log.merkle import HASH_SIZE

TILE_WIDTH = 256
"""Hashes of a full tile and entries of a full bundle."""

TILE_HEIGHT = 8
"""Tree levels that one tile level spans."""

MAX_ENTRY_BYTES = 65_535
"""Longest entry that a bundle can hold (its length is 16 bits)."""

MAX_TILE_BYTES = TILE_WIDTH * HASH_SIZE
MAX_BUNDLE_BYTES = TILE_WIDTH * (MAX_ENTRY_BYTES + 2)

ENTRIES = -1
"""The `Tile.level` of an entry bundle."""

_GROUP = re.compile(r"x\d{3}")
_LAST = re.compile(r"\d{3}")
_NUMBER = re.compile(r"0|[1-9]\d{0,2}")


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One tile of a log.

    Attributes:
        level: Tile level from 0, or `ENTRIES` for an entry bundle.
        index: Position within the level.
        width: Hashes or entries in it, 1 to 256.
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not (ENTRIES <= self.level <= 7 and self.index >= 0 and 1 <= self.width <= TILE_WIDTH):
            raise LogFormatError(f"no such tile: {self.level}/{self.index}.p/{self.width}")

    @property
    def path(self) -> str:
        """Path under the log's prefix, such as ``tile/0/x001/234.p/5``."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_index_path(self.index)}{partial}"

    @property
    def first(self) -> int:
        """Index of the first leaf under this tile."""
        return self.index << (TILE_HEIGHT * (max(self.level, 0) + 1))


def parse_tile_path(path: str) -> Tile:
    """Read a path such as `Tile.path` writes it.

    Raises:
        LogFormatError: The path is not exactly what `Tile.path` writes for some tile.
    """
    parts = path.split("/")
    width = TILE_WIDTH
    if len(parts) >= 4 and parts[-2].endswith(".p") and _NUMBER.fullmatch(parts[-1]):
        width = int(parts[-1])
        parts = [*parts[:-2], parts[-2][:-2]]
    if (
        len(parts) < 3
        or len(parts) > 9
        or parts[0] != "tile"
        or not (parts[1] == "entries" or _NUMBER.fullmatch(parts[1]))
        or not all(_GROUP.fullmatch(part) for part in parts[2:-1])
        or not _LAST.fullmatch(parts[-1])
    ):
        raise LogFormatError(f"not a tile path: {path[:100]!r}")
    level = ENTRIES if parts[1] == "entries" else int(parts[1])
    index = int("".join(part.removeprefix("x") for part in parts[2:]))
    tile = Tile(level, index, width)
    if tile.path != path:
        raise LogFormatError(f"not a tile path: {path[:100]!r}")
    return tile


def tiles_of_level(level: int, size: int, *, since: int = 0) -> Iterator[Tile]:
    """List the tiles of one level in a tree of ``size`` entries.

    Args:
        level: Tile level, or `ENTRIES`.
        size: Entries of the tree.
        since: Only tiles that a tree of ``since`` entries doesn't have, or has narrower.
    """
    shift = TILE_HEIGHT * max(level, 0)
    hashes, before = size >> shift, since >> shift
    for index in range(before // TILE_WIDTH, -(-hashes // TILE_WIDTH)):
        width = min(TILE_WIDTH, hashes - index * TILE_WIDTH)
        if min(TILE_WIDTH, before - index * TILE_WIDTH) < width:
            yield Tile(level, index, width)


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """List all tiles of a tree of ``size`` entries, bundles first, then upwards.

    Args:
        size: Entries of the tree.
        since: Only what a tree of ``since`` entries doesn't have, or has narrower.
    """
    yield from tiles_of_level(ENTRIES, size, since=since)
    level = 0
    while size >> (TILE_HEIGHT * level):
        yield from tiles_of_level(level, size, since=since)
        level += 1


def encode_hashes(hashes: Sequence[bytes]) -> bytes:
    """Write a hash tile."""
    if not 1 <= len(hashes) <= TILE_WIDTH or any(len(each) != HASH_SIZE for each in hashes):
        raise LogFormatError("a hash tile holds 1 to 256 hashes of 32 bytes")
    return b"".join(hashes)


def decode_hashes(data: bytes, width: int) -> list[bytes]:
    """Read a hash tile of ``width`` hashes.

    Raises:
        LogFormatError: The file has another length.
    """
    if len(data) != width * HASH_SIZE:
        raise LogFormatError(f"a tile of {width} hashes has {width * HASH_SIZE} bytes", len(data))
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Write an entry bundle."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise LogFormatError("an entry bundle holds 1 to 256 entries")
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise LogFormatError(f"an entry has at most {MAX_ENTRY_BYTES} bytes")
        parts += (struct.pack(">H", len(entry)), entry)
    return b"".join(parts)


def decode_bundle(data: bytes, width: int) -> list[tuple[int, bytes]]:
    """Read an entry bundle of ``width`` entries.

    Returns:
        For each entry its byte offset in the file (that of its length) and its bytes.

    Raises:
        LogFormatError: The file is cut or has bytes left over; it carries the byte offset.
    """
    return list(iterate_bundle(data, width))


def iterate_bundle(data: bytes, width: int) -> Iterator[tuple[int, bytes]]:
    """Read an entry bundle entry by entry, as far as that is possible; see `decode_bundle`."""
    position = 0
    for _ in range(width):
        start = position
        if start + 2 > len(data):
            raise LogFormatError("the entry bundle is cut short", start)
        (length,) = struct.unpack_from(">H", data, start)
        position = start + 2 + length
        if position > len(data):
            raise LogFormatError("the entry bundle is cut short", start)
        yield start, data[start + 2 : position]
    if position != len(data):
        raise LogFormatError("the entry bundle has bytes left over", position)


def _index_path(index: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))
