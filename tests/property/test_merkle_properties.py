"""Merkle trees against a definition as plain as RFC 6962 writes it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luoshu.contracts.log.errors import MerkleError
from luoshu.contracts.log.merkle import (
    CompactTree,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    range_root,
    root_of,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)

LEAVES = [b"leaf %d" % i for i in range(70)]


def mth(leaves):
    """RFC 6962 §2.1, word for word."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < n:
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """RFC 6962 §2.1.1, word for word."""
    n = len(leaves)
    if n == 1:
        return []
    k = 1
    while 2 * k < n:
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    """RFC 6962 §2.1.2, word for word."""
    n = len(leaves)
    if m == n:
        return [] if whole else [mth(leaves)]
    k = 1
    while 2 * k < n:
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def read(level, index):
    return mth(LEAVES[index << level : (index + 1) << level])


sizes = st.integers(0, len(LEAVES))


def test_roots_at_every_size():
    tree = CompactTree()
    for size in range(len(LEAVES) + 1):
        expected = mth(LEAVES[:size])
        assert tree.root() == range_root(0, size, read) == expected
        assert root_of([hash_leaf(leaf) for leaf in LEAVES[:size]]) == expected
        assert CompactTree(tree.size, tree.peaks).root() == expected
        if size < len(LEAVES):
            tree.append(hash_leaf(LEAVES[size]))


@given(sizes, st.data())
def test_inclusion(size, data):
    if size == 0:
        with pytest.raises(MerkleError):
            inclusion_proof(0, 0, read)
        return
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, read)
    assert proof == path(index, LEAVES[:size])
    root = mth(LEAVES[:size])
    verify_inclusion(hash_leaf(LEAVES[index]), index, size, proof, root)
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index) | st.just(size))
    with pytest.raises(MerkleError):
        verify_inclusion(hash_leaf(LEAVES[index]), other, size, proof, root)


@given(sizes, sizes, st.data())
def test_consistency(first, second, data):
    first, second = sorted((first, second))
    if first == 0:
        with pytest.raises(MerkleError):
            consistency_proof(first, second, read)
        return
    proof = consistency_proof(first, second, read)
    assert proof == subproof(first, LEAVES[:second], True)
    roots = mth(LEAVES[:first]), mth(LEAVES[:second])
    verify_consistency(first, second, proof, *roots)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bad = [*proof[:at], bytes(32), *proof[at + 1 :]]
        for wrong in (bad, proof[:-1], [*proof, bytes(32)]):
            with pytest.raises(MerkleError):
                verify_consistency(first, second, wrong, *roots)


@given(st.integers(0, 6), st.integers(0, 8), st.integers(1, 64), sizes)
def test_subtrees(level, position, length, size):
    start = position << level
    end = start + min(length, 1 << level)
    if not end <= size:
        return
    leaves = LEAVES[start:end]
    for index in range(start, end):
        proof = path(index - start, leaves)
        verify_subtree_inclusion(hash_leaf(LEAVES[index]), index, (start, end), proof, mth(leaves))
    # A full subtree is consistent by the inclusion path of its root.
    if end - start == 1 << level:
        full, proof, at, width = size, [], position, LEAVES[:size]
        low, high = 0, full
        while (low, high) != (start, end):
            k = 1
            while 2 * k < high - low:
                k *= 2
            if start < low + k:
                proof.append(mth(width[low + k : high]))
                high = low + k
            else:
                proof.append(mth(width[low : low + k]))
                low += k
        assert at == start >> level
        proof.reverse()
        verify_subtree_consistency((start, end), size, proof, mth(leaves), mth(width))


@given(st.integers(-3, 80), st.integers(-3, 80), st.lists(st.binary(max_size=33), max_size=5))
def test_nonsense_is_refused(index, size, proof):
    with pytest.raises(MerkleError):
        verify_inclusion(bytes(32), index, size, proof, hashlib.sha256(b"x").digest())


def test_peaks_must_fit_the_size():
    with pytest.raises(MerkleError):
        CompactTree(3, [bytes(32)])
    with pytest.raises(MerkleError):
        CompactTree().append(b"short")
