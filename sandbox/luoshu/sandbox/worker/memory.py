"""Memory that a worker touches while there is nothing to do: the kernel is slow to give it.

A page that is touched for the first time costs 1 to 3 µs, which adds up to a sixth of a scan. What
is freed again stays with the allocator, and the job to come finds it there.
"""

from __future__ import annotations

_BLOCK = 16 << 20
_HEADER = 8 << 10


def touch_heap() -> None:
    """Has 28 MB ready for arrays.

    Freeing a large block that was mapped raises the size up to which blocks come from the heap,
    and twice that is what the heap keeps (mallopt(3), M_MMAP_THRESHOLD).
    """
    bytearray(_BLOCK)
    blocks = [b"x" * (_BLOCK - _HEADER), b"x" * (_BLOCK * 3 // 4)]
    blocks.clear()
