"""Merkle trees as RFC 6962 hashes them: roots, proofs and their strict verification.

Hashing is RFC 6962 §2.1 (SHA-256, leaves prefixed 0x00, nodes 0x01), proofs are those of
RFC 9162 §2.1.3 and §2.1.4, subtrees those of draft-ietf-plants-merkle-tree-certs §4. A tree of
n leaves is a chain of perfect subtrees; node ``(level, index)`` is the perfect subtree over the
leaves ``[index << level, (index + 1) << level)``, which never changes once it is full. Whoever can
read those nodes (a file of tiles, a list in memory) can compute every root and every proof.

Verification raises `MerkleError` for anything but a proof that holds: wrong length, a hash that
isn't 32 bytes, an index outside the tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from luoshu.contracts.log.errors import MerkleError

HASH_SIZE = 32
"""Bytes of one hash."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""


NodeReader = Callable[[int, int], bytes]
"""Reads the hash of the full subtree ``(level, index)``."""


def hash_leaf(data: bytes) -> bytes:
    """Hash one leaf: SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Hash an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Compute the root over adjacent subtrees of equal size, given by their hashes in order."""
    if not hashes:
        return EMPTY_ROOT
    level = list(hashes)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [hash_children(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)] + odd
    return level[0]


class CompactTree:
    """The roots of a growing tree in O(log n) memory: only the perfect subtrees' hashes."""

    __slots__ = ("_peaks", "_size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self._size = size
        self._peaks = list(peaks)
        if size < 0 or len(self._peaks) != size.bit_count():
            raise MerkleError(f"a tree of {size} leaves does not have {len(self._peaks)} peaks")

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """Hashes of the perfect subtrees, largest first."""
        return tuple(self._peaks)

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf by its hash."""
        if len(leaf_hash) != HASH_SIZE:
            raise MerkleError("a leaf hash is 32 bytes")
        node, size = leaf_hash, self._size
        while size & 1:
            node = hash_children(self._peaks.pop(), node)
            size >>= 1
        self._peaks.append(node)
        self._size += 1

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        return _fold_peaks(self._peaks)

    def copy(self) -> CompactTree:
        """Return an independent tree in the same state."""
        return CompactTree(self._size, self._peaks)


def _fold_peaks(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = hash_children(peak, root)
    return root


def range_root(start: int, end: int, read: NodeReader) -> bytes:
    """Compute the root over the leaves ``[start, end)`` of a valid subtree from stored nodes.

    Args:
        start: First leaf; a multiple of the smallest power of two that is at least the length.
        end: One past the last leaf.
        read: Reads stored nodes; asked only for full subtrees below ``end``.

    Raises:
        MerkleError: The range is no valid subtree.
    """
    _demand_subtree(start, end)
    peaks = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(read(level, start >> level))
        start += 1 << level
    return _fold_peaks(peaks)


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """Make the proof that leaf ``index`` is in the tree of ``size`` leaves (RFC 9162 §2.1.3.1).

    Raises:
        MerkleError: ``index`` is not in a tree of that size.
    """
    if not 0 <= index < size:
        raise MerkleError(f"index {index} is not in a tree of {size} entries")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(start, middle, read))
            start = middle
    path.reverse()
    return path


def consistency_proof(size1: int, size2: int, read: NodeReader) -> list[bytes]:
    """Make the proof that the tree of ``size1`` is a prefix of that of ``size2``.

    RFC 9162 §2.1.4.1.

    Raises:
        MerkleError: Not ``0 < size1 <= size2``.
    """
    if not 0 < size1 <= size2:
        raise MerkleError(f"no consistency proof from {size1} to {size2} entries")
    start, end, path, whole = 0, size2, [], True
    while size1 != end:
        middle = start + _split(end - start)
        if size1 <= middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(start, middle, read))
            start, whole = middle, False
    if not whole:
        path.append(range_root(start, end, read))
    path.reverse()
    return path


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that ``leaf_hash`` is leaf ``index`` of the tree of ``size`` leaves under ``root``.

    RFC 9162 §2.1.3.2.

    Raises:
        MerkleError: The proof does not hold.
    """
    verify_subtree_inclusion(leaf_hash, index, (0, size), proof, root)


def verify_subtree_inclusion(
    leaf_hash: bytes, index: int, subtree: tuple[int, int], proof: Sequence[bytes], root: bytes
) -> None:
    """Check that ``leaf_hash`` is leaf ``index`` under ``root`` of a subtree.

    Args:
        leaf_hash: The leaf's hash.
        index: Its index in the whole tree.
        subtree: First leaf of the subtree and one past its last.
        proof: The inclusion proof within the subtree.
        root: The subtree's root.

    Raises:
        MerkleError: The proof does not hold or the range is no valid subtree.
    """
    start, end = subtree
    _demand_subtree(start, end)
    if not start <= index < end:
        raise MerkleError(f"index {index} is outside [{start}, {end})")
    _demand_hashes(leaf_hash, *proof)
    node, last, result = index - start, end - start - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise MerkleError("the inclusion proof is too long")
        if node & 1 or node == last:
            result = hash_children(sibling, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = hash_children(result, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise MerkleError("the inclusion proof is too short")
    if result != root:
        raise MerkleError("the inclusion proof leads to another root")


def verify_consistency(
    size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes
) -> None:
    """Check that the tree ``(size1, root1)`` is a prefix of ``(size2, root2)``.

    RFC 9162 §2.1.4.2. From an empty tree nothing can be proved, so ``size1 == 0`` is refused.

    Raises:
        MerkleError: The proof does not hold.
    """
    if size1 <= 0:
        raise MerkleError("consistency with an empty tree says nothing")
    verify_subtree_consistency((0, size1), size2, proof, root1, root2)


def verify_subtree_consistency(
    subtree: tuple[int, int], size: int, proof: Sequence[bytes], subtree_root: bytes, root: bytes
) -> None:
    """Check that ``subtree_root`` is a subtree of the tree ``(size, root)``.

    An empty subtree holds in every tree; that says nothing about ``root``.

    Args:
        subtree: First leaf of the subtree and one past its last.
        size: Leaves of the tree.
        proof: The consistency proof.
        subtree_root: The subtree's root.
        root: The tree's root.

    Raises:
        MerkleError: The proof does not hold or the range is no valid subtree.
    """
    start, end = subtree
    _demand_subtree(start, end)
    if end > size:
        raise MerkleError(f"[{start}, {end}) is not in a tree of {size} entries")
    _demand_hashes(*proof)
    if start == end:
        if proof or subtree_root != EMPTY_ROOT:
            raise MerkleError("an empty subtree has the empty root and an empty proof")
        return
    first, second, last = start, end - 1, size - 1
    # Climb to where the subtree's right edge leaves its perfect subtree: below, nothing is proved.
    while first != second and (second == last or second & 1):
        first, second, last = first >> 1, second >> 1, last >> 1
    rest = list(proof)
    if first != second and not rest:
        raise MerkleError("the consistency proof is too short")
    seed = subtree_root if first == second else rest.pop(0)
    old, new = _chain(seed, rest, first, second, last)
    if old != subtree_root:
        raise MerkleError("the consistency proof leads to another first root")
    if new != root:
        raise MerkleError("the consistency proof leads to another second root")


def _chain(
    seed: bytes, path: list[bytes], first: int, second: int, last: int
) -> tuple[bytes, bytes]:
    """Follow a consistency path from ``seed`` up to both roots."""
    old = new = seed
    for sibling in path:
        if last == 0:
            raise MerkleError("the consistency proof is too long")
        if second & 1 or second == last:
            if first < second:
                old = hash_children(sibling, old)
            new = hash_children(sibling, new)
            while not second & 1 and second:
                first, second, last = first >> 1, second >> 1, last >> 1
        else:
            new = hash_children(new, sibling)
        first, second, last = first >> 1, second >> 1, last >> 1
    if last != 0:
        raise MerkleError("the consistency proof is too short")
    return old, new


def _split(length: int) -> int:
    """Largest power of two below ``length`` (at least 2)."""
    return 1 << ((length - 1).bit_length() - 1)


def _demand_subtree(start: int, end: int) -> None:
    length = end - start
    width = 1 << (length - 1).bit_length() if length > 0 else 1
    if start < 0 or length < 0 or start % width:
        raise MerkleError(f"[{start}, {end}) is no valid subtree")


def _demand_hashes(*hashes: bytes) -> None:
    if any(len(each) != HASH_SIZE for each in hashes):
        raise MerkleError("every hash is 32 bytes")
