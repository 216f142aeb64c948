"""One rate limit per caller: token buckets, checked before a call costs anything.

A caller is a participant on the peer port, a user on the user port; both are known from their
certificates, so nobody can spend another's tokens. Memory is bounded: a bucket that is full
again is as good as none and is dropped, and callers beyond the bound share one bucket, so that
coming under ever new names gains nothing.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from luoshu.connector.errors import NodeError

MAX_CALLERS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimiter:
    """Token buckets by caller. For one thread: the event loop's."""

    def __init__(
        self,
        requests_per_second: float,
        burst: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        max_callers: int = MAX_CALLERS,
    ) -> None:
        """Starts with every bucket full.

        Args:
            requests_per_second: Tokens that a bucket gains each second; above 0.
            burst: Tokens that a bucket holds; at least 1.
            monotonic: Seconds, never going back.
            max_callers: Buckets kept at most, besides the shared one.

        Raises:
            ValueError: If a number is out of range.
        """
        if not (requests_per_second > 0 and burst >= 1 and max_callers >= 1):
            raise ValueError("a rate above 0, a burst and a number of callers of at least 1")
        self._rate = requests_per_second
        self._burst = float(burst)
        self._monotonic = monotonic
        self._max_callers = max_callers
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()  # longest unused first
        self._shared = _Bucket(self._burst, monotonic())

    def __len__(self) -> int:
        """Returns how many callers have a bucket now."""
        return len(self._buckets)

    def take(self, caller: str) -> None:
        """Takes one token of ``caller``'s.

        Raises:
            NodeError: RATE_LIMITED, with ``retry_after_seconds``: whole seconds until a token
                is there.
        """
        now = self._monotonic()
        bucket = self._bucket_of(caller, now)
        gained = max(0.0, now - bucket.filled_at) * self._rate
        bucket.tokens = min(self._burst, bucket.tokens + gained)
        bucket.filled_at = max(now, bucket.filled_at)
        if bucket.tokens < 1.0:
            wait = math.ceil((1.0 - bucket.tokens) / self._rate)
            raise NodeError("RATE_LIMITED", metadata={"retry_after_seconds": str(wait)})
        bucket.tokens -= 1.0

    def _bucket_of(self, caller: str, now: float) -> _Bucket:
        bucket = self._buckets.get(caller)
        if bucket is None:
            self._drop_full(now)
            if len(self._buckets) >= self._max_callers:
                return self._shared
            bucket = self._buckets[caller] = _Bucket(self._burst, now)
        self._buckets.move_to_end(caller)
        return bucket

    def _drop_full(self, now: float) -> None:
        # Longest unused first, so after this many seconds of rest any bucket is full.
        full_after = self._burst / self._rate
        while self._buckets:
            oldest = next(iter(self._buckets.values()))
            if now - oldest.filled_at < full_after:
                return
            self._buckets.popitem(last=False)
