"""Fingerprints of contributions: equal if and only if the contributions are, and additive.

A contribution becomes its value times a secret key in the field of integers modulo the prime
p = 2^61 - 1. So the fingerprints of a unit's contributions to several cells add up to the
fingerprint of the sum of its contributions, which is what comparing a cell with a union of cells
needs; 0 means none. Two values have one fingerprint only if p divides their difference: never
below 2^61, and beyond that p, being prime, divides no product of smaller factors. (Modulo 2^64,
which would be cheaper, products of even numbers vanish: six factors that are multiples of 1024 in
a column of two decimals leave no trace.)

The key depends on the monomial and absorbs the scale, so that a column that was prepared with
other decimals keeps its fingerprints. It keeps values out of plain sight in the history; being
linear it is no encryption: who has the key, or one known value, has all.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from luoshu.sandbox.arrays import np
from luoshu.sandbox.contributions import Contributed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Prints: TypeAlias = NDArray[np.uint64]

BITS = 61
PRIME = (1 << BITS) - 1
SECRET_BYTES = 32
_P = np.uint64(PRIME)
_CHUNK = 1 << 14
_FEW = 8
_HALF = 31
_LOW = np.uint64((1 << _HALF) - 1)
_HIGH_LOW = np.uint64((1 << (BITS - _HALF)) - 1)
_WORD = np.uint64((1 << 32) - 1)


def derived(secret: bytes, purpose: str, *parts: str) -> bytes:
    """A key for one purpose, 32 bytes, from a domain's secret."""
    message = "\0".join((f"luoshu/{purpose}/v1", *parts)).encode()
    return hmac.digest(secret, message, hashlib.sha256)


def component_key(secret: bytes, monomial: Sequence[str], scale: int) -> int:
    """The factor, 1 to p - 1, of contributions to a component."""
    number = int.from_bytes(derived(secret, "fingerprint", *monomial), "big")
    return (number % (PRIME - 1) + 1) * pow(pow(10, scale, PRIME), -1, PRIME) % PRIME


def fingerprints(value: Contributed, key: int) -> Prints:
    """The fingerprint of each contribution, below p; `key` is from 1 to p - 1."""
    result = np.empty(len(value.hi), np.uint64)
    for start in range(0, len(result), _CHUNK):  # what a processor's cache holds
        rows = slice(start, start + _CHUNK)
        part = Contributed(value.hi[rows], None if value.lo is None else value.lo[rows])
        result[rows] = multiply(residues(part), key)
    return result


def residues(value: Contributed) -> Prints:
    """Each integer modulo p."""
    high = _residue(value.hi)
    if value.lo is None:
        return high
    # 2^62 is 2 modulo p.
    high <<= np.uint64(1)
    high += fold(value.lo.astype(np.uint64))
    return fold(high)


def _residue(numbers: NDArray[np.int64]) -> Prints:
    result = fold(numbers.astype(np.uint64))
    negative = np.less(numbers, 0)
    if negative.any():
        # A negative number is 2^64 less than its bits say, and 2^64 is 8 modulo p.
        result[negative] += _P - np.uint64(8)
        result = fold(result)
    return result


def fold(numbers: Prints) -> Prints:
    """Any 64-bit numbers modulo p; reuses the array."""
    carry = numbers >> np.uint64(BITS)
    numbers &= _P
    numbers += carry
    np.greater_equal(numbers, _P, out=carry, casting="unsafe")
    carry *= _P
    numbers -= carry
    return numbers


def multiply(numbers: Prints, factor: int | Prints) -> Prints:
    """Residues times a residue, or times as many residues, modulo p."""
    wide = np.asarray(factor, np.uint64)
    upper, lower = wide >> np.uint64(_HALF), wide & _LOW
    # (a1·2^31 + a0)·(b1·2^31 + b0): 2^62 is 2, and m·2^31 is (m >> 30) + (m & (2^30 - 1))·2^31.
    low = numbers & _LOW
    middle = low * upper
    low *= lower
    high = numbers >> np.uint64(_HALF)
    if high.any():
        middle += high * lower
        high *= upper
        high <<= np.uint64(1)
        low += high
    np.right_shift(middle, np.uint64(BITS - _HALF), out=high)
    low += high
    middle &= _HIGH_LOW
    middle <<= np.uint64(_HALF)
    low += middle
    return fold(low)


def inverses(numbers: Prints) -> Prints:
    """The residues that give 1 when multiplied with these, none of which is 0.

    Halves the numbers by multiplying two and two, so there are three multiplications for each.
    """
    if len(numbers) <= _FEW:
        return np.array([pow(number, -1, PRIME) for number in numbers.tolist()], np.uint64)
    if len(numbers) % 2:
        return inverses(np.append(numbers, np.uint64(1)))[:-1]
    even, odd = numbers[0::2], numbers[1::2]
    both = inverses(multiply(even, odd))
    result = np.empty_like(numbers)
    result[0::2], result[1::2] = multiply(both, odd), multiply(both, even)
    return result


def add_up(numbers: Prints, starts: NDArray[Any], axis: int = 0) -> Prints:
    """Sums of runs of residues, modulo p; no run is empty.

    Args:
        numbers: Residues.
        starts: Where each run begins; it ends where the next begins.
        axis: Along which they run.
    """
    low = np.add.reduceat(numbers & _WORD, starts, axis=axis)
    high = np.add.reduceat(numbers >> np.uint64(32), starts, axis=axis)
    # high·2^32 is (high >> 29)·2^61 + (high & (2^29 - 1))·2^32.
    result = low + (high >> np.uint64(29))
    return fold(result + ((high & np.uint64((1 << 29) - 1)) << np.uint64(32)))


def subtract(minuend: Prints, subtrahend: Prints) -> Prints:
    """Differences of residues, modulo p."""
    return fold(minuend + (_P - subtrahend))


def unit_weights(units: NDArray[np.int32], secret: bytes) -> Prints:
    """A secret pseudo-random odd number for each unit, to hash sets of fingerprints with.

    The sum of fingerprint times weight, modulo 2^64, over a cell tells unequal cells apart but for
    a chance of about 2^-60.
    """
    key = derived(secret, "units")
    first, second = (np.uint64(int.from_bytes(key[at : at + 8], "big")) for at in (0, 8))
    mixed = units.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + first
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= second
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed | np.uint64(1)
