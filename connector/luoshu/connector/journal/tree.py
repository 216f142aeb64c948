"""The Merkle tree over the journal: the right edge in memory, full tiles read back from disk.

Memory is O(log n) hashes plus a small cache. A full tile is read from the published files and
believed only if its root is the hash that the tile above holds; otherwise it is computed again
from the journal.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from luoshu.connector.errors import NodeError
from luoshu.contracts.log.errors import MerkleError
from luoshu.contracts.log.merkle import (
    HASH_SIZE,
    CompactTree,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    range_root,
    root_of,
)
from luoshu.contracts.log.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, encode_bundle

CACHED_TILES = 64
RECENT_BUNDLES = 16


class LogTree:
    """The tree of one log; safe to read while one thread appends.

    Args:
        read_leaves: Makes leaves from the journal: first index, count.
        read_tile: Reads a published full tile's bytes, or None where there is none.
    """

    def __init__(
        self,
        read_leaves: Callable[[int, int], Sequence[bytes]],
        read_tile: Callable[[Tile], bytes | None],
    ) -> None:
        self._read_leaves = read_leaves
        self._read_tile = read_tile
        self._compact = CompactTree()
        # Per tile level the hashes of its last, partial tile.
        self._edges: list[list[bytes]] = []
        self._cache: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        # The newest leaves themselves, for their bundles: a list of up to 256 each.
        self._bundles: OrderedDict[int, list[bytes]] = OrderedDict()
        self._mutex = threading.RLock()

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._compact.size

    def append(self, leaves: Sequence[bytes]) -> None:
        """Adds leaves."""
        with self._mutex:
            for leaf in leaves:
                self._bundles.setdefault(self.size // TILE_WIDTH, []).append(leaf)
                if len(self._bundles) > RECENT_BUNDLES:
                    self._bundles.popitem(last=False)
                leaf_hash = hash_leaf(leaf)
                self._compact.append(leaf_hash)
                self._push(0, leaf_hash)

    def bundle(self, tile: Tile) -> bytes:
        """Returns an entry bundle's bytes, full or partial.

        Args:
            tile: An entry bundle that a tree of the present or an earlier size has.
        """
        with self._mutex:
            leaves = self._bundles.get(tile.index, [])[: tile.width]
        # The journal is read without holding up the writer.
        return encode_bundle(leaves or self._read_leaves(tile.first, tile.width))

    def root(self) -> bytes:
        """Returns the root over all leaves."""
        with self._mutex:
            return self._compact.root()

    def root_at(self, size: int) -> bytes:
        """Returns the root that the tree had at an earlier size."""
        with self._mutex:
            self._demand(size)
            return range_root(0, size, self._node)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Makes an inclusion proof; see `merkle.inclusion_proof`."""
        with self._mutex:
            self._demand(size)
            return inclusion_proof(index, size, self._node)

    def consistency_proof(self, size1: int, size2: int) -> list[bytes]:
        """Makes a consistency proof; see `merkle.consistency_proof`."""
        with self._mutex:
            self._demand(size2)
            return consistency_proof(size1, size2, self._node)

    def tile(self, tile: Tile) -> bytes:
        """Returns a hash tile's bytes, full or partial.

        Args:
            tile: A hash tile that a tree of the present or an earlier size has.
        """
        with self._mutex:
            hashes = self._hashes(tile.level, tile.index)
            return b"".join(hashes[: tile.width])

    def _demand(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise MerkleError(f"the log has {self.size} entries")

    def _push(self, level: int, node: bytes) -> None:
        if level == len(self._edges):
            self._edges.append([])
        edge = self._edges[level]
        edge.append(node)
        if len(edge) == TILE_WIDTH:
            index = (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH - 1
            self._keep((level, index), edge)
            self._edges[level] = []
            self._push(level + 1, root_of(edge))

    def _node(self, level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        first = index << height
        hashes = self._hashes(tile_level, first // TILE_WIDTH)
        at = first % TILE_WIDTH
        return root_of(hashes[at : at + (1 << height)])

    def _hashes(self, level: int, index: int) -> list[bytes]:
        full = (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH
        if index == full:
            return self._edges[level]
        if index > full:
            raise IndexError(f"no tile {level}/{index} in a tree of {self.size} leaves")
        cached = self._cache.get((level, index))
        if cached is not None:
            self._cache.move_to_end((level, index))
            return cached
        expected = self._hashes(level + 1, index // TILE_WIDTH)[index % TILE_WIDTH]
        hashes = self._published(level, index)
        if hashes is None or root_of(hashes) != expected:
            hashes = self._computed(level, index)
            if root_of(hashes) != expected:
                raise NodeError(
                    "LOG_CORRUPT",
                    f"The journal was changed under the running node (tile {level}/{index}).",
                )
        self._keep((level, index), hashes)
        return hashes

    def _published(self, level: int, index: int) -> list[bytes] | None:
        data = self._read_tile(Tile(level, index))
        if data is None or len(data) != TILE_WIDTH * HASH_SIZE:
            return None
        return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]

    def _computed(self, level: int, index: int) -> list[bytes]:
        first = index * TILE_WIDTH
        if level == 0:
            return [hash_leaf(leaf) for leaf in self._read_leaves(first, TILE_WIDTH)]
        return [root_of(self._computed(level - 1, first + i)) for i in range(TILE_WIDTH)]

    def _keep(self, key: tuple[int, int], hashes: list[bytes]) -> None:
        self._cache[key] = hashes
        if len(self._cache) > CACHED_TILES:
            self._cache.popitem(last=False)
